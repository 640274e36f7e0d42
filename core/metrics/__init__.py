"""Metrics of all processes, brought together: what is counted, how it is merged, and what the head keeps of it."""

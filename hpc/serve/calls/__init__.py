"""Calls of replicas: which replica takes a request, and how its answer comes back."""

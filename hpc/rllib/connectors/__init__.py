"""Connectors: what lies between environment and module, and between experience and learner."""

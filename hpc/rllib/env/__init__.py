"""Environments, runners that step them, and the episodes they make."""

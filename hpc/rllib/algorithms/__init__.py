"""Algorithms: their configurations, what they share, and each of them in its folder."""

"""Asking how a session is: its nodes, tasks, logs and times, and what its workers print, as rows and lines."""

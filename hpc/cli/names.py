"""The names of the commands: each is a file of this folder."""

from __future__ import annotations

COMMANDS = (
    "attach", "cancel", "dashboard", "debug", "doctor", "events", "explain", "get", "job", "launch", "list", "logs",
    "memory", "metrics", "microbenchmark", "profile", "ps", "report", "serve", "site", "stack", "start", "status",
    "stop", "summary", "template", "timeline", "top", "tune", "why",
)  # fmt: skip

"""The end of a log file, for error messages."""

from __future__ import annotations

import os

TAIL_BYTES = 8192
TAIL_LINES = 20


def last_lines(path: str) -> list[str]:
    """The last lines of a file; none where it cannot be read."""
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            data = file.read()
    except OSError:
        return []
    return data.decode("utf-8", "replace").splitlines()[-TAIL_LINES:]

"""Files of the kernel and of the system, which may not be there."""

from __future__ import annotations


def text_of(path: str) -> str:
    """What a file holds; an empty string where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""

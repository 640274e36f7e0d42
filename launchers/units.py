"""Times and sizes as schedulers write them, and as they want them written: `1-02:03:04`, `16G`."""

from __future__ import annotations

import re


def parse_clock(text: str) -> float | None:
    """`1-02:03:04`, `02:03:04`, `3:04` as seconds; None for what is no time (UNLIMITED, NOT_SET, n/a)."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip())
    if match is None:
        return None
    days, hours, minutes, seconds = (int(g or 0) for g in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def clock_text(seconds: float) -> str:
    """HH:MM:SS or D-HH:MM:SS, rounded up to whole seconds."""
    whole = int(seconds) + (seconds % 1 > 0)
    minutes, secs = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    clock = f"{hours:02d}:{minutes:02d}:{secs:02d}"
    return f"{days}-{clock}" if days else clock


def memory_bytes(text: str) -> int:
    """`16G`, `500M`, `2000` (MiB) as bytes."""
    match = re.fullmatch(r"(\d+)([KMGT]?)", text)
    if match is None:
        raise ValueError(f"not a size: {text!r}")
    return int(int(match.group(1)) * 1024 ** (" KMGT".index(match.group(2)) if match.group(2) else 2))

"""The one status line: it rewrites itself on a terminal; elsewhere it is a plain line, on change or once a minute.

Progress bars wreck log files, and a line that rewrites itself wrecks the script's own output. So `clear()` comes before
anything else is written to the terminal, and nothing is rewritten while the script owns it.
Rejected: rich (60 ms of imports before the first node starts).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from hpc.settings.durations import short

REPEAT_S = 60.0
REDRAW_S = 0.1


def line(phase: str, *parts: str) -> str:
    """`starting  6/8 nodes 3.1 s   missing nid0042`: the phase in a column, then what there is to say."""
    return f"{phase:<9} " + "  ".join(part for part in parts if part)


def shown(status: Mapping[str, Any], age_s: float) -> str:
    """What status.json says of a job, with the time that is left now: it was written `age_s` ago."""
    text, left_s = str(status.get("text", "")), status.get("left_s")
    if status.get("state") != "running" or left_s is None:
        return text
    left_s = max(0.0, left_s - age_s)
    return f"{text}  left {short(left_s) if left_s >= 60 else f'{int(left_s)} s'}"  # it changes once a second


class StatusLine:
    """Where the state of a job is shown."""

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None, terminal: bool | None = None) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.terminal = self.stream.isatty() if terminal is None else terminal
        self.quiet = quiet
        self._drawn = False
        self._text = ""
        self._key = ""
        self._shown_at = float("-inf")

    def show(self, text: str, key: str | None = None) -> None:
        """Show `text`. Without a terminal, only when `key` (by default the text) has changed, or after a minute."""
        if self.quiet:
            return
        key = text if key is None else key
        now = time.monotonic()
        if self.terminal:
            if (text == self._text and self._drawn) or (
                key == self._key and now - self._shown_at < REDRAW_S and self._drawn
            ):
                return
            width = self._columns()
            shown = text if len(text) < width else text[: width - 2] + "…"
            self._write(f"\r\x1b[K{shown}")
            self._drawn = True
        elif key != self._key or now - self._shown_at >= REPEAT_S:
            self._write(text + "\n")
        else:
            return
        self._text, self._key, self._shown_at = text, key, now

    def note(self, text: str) -> None:
        """A line that stays, also when quiet."""
        self.clear()
        self._write(text + "\n")

    def final(self, text: str) -> None:
        """The last line: it stays."""
        if not self.quiet:
            self.note(text)

    def clear(self) -> None:
        """Take the line away, before something else is written to the terminal."""
        if self._drawn:
            self._write("\r\x1b[K")
            self._drawn = False

    def _write(self, text: str) -> None:
        try:
            self.stream.write(text)
            self.stream.flush()
        except (OSError, ValueError):  # the terminal is gone: the job goes on
            self.quiet = True

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self.stream.fileno()).columns or 80
        except (OSError, ValueError):
            return 80

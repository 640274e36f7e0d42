"""Marks in the log files of workers: in whose name the text that follows was written.

A worker writes one in front of the first text of a task or an actor, with it and by the same system call. A task that
prints nothing writes none. The mark is a control string that terminals skip (ECMA-48's APC), so that other tools show
the file as if it were not there. What reads files for people takes it out.
Rejected: messages, which do not come in step with the file. Rejected too: a line for each task as Ray has, which is a
write also for tasks that print nothing. And a second file: its positions are wrong as soon as C code writes at the same
time.
"""

from __future__ import annotations

import re

BEGIN, END = b"\x1b_hpc:", b"\x1b\\"
#: Bytes of a name in a mark.
MAX_NAME = 200
#: No mark is longer.
MAX_MARK = len(BEGIN) + MAX_NAME + len(END)
#: A mark, with the name as its group.
MARK = re.compile(rb"\x1b_hpc:([^\x1b\n]{0,%d})\x1b\\" % MAX_NAME)
_BEGUN = re.compile(rb"\x1b(?:_(?:h(?:p(?:c(?::[^\x1b\n]{0,%d}\x1b?)?)?)?)?)?\Z" % MAX_NAME)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]+")


def shown(name: str, size: int = MAX_NAME) -> bytes:
    """A name as people see it, in at most ``size`` bytes: one line, and of an inner function its own part."""
    data = _CONTROL.sub(" ", name.rpartition("<locals>.")[2]).strip().encode("utf-8", "replace")
    return data[:size].decode("utf-8", "ignore").encode()


def mark(name: str) -> bytes:
    """The mark of a name; with an empty one it says that nobody is known to write."""
    return BEGIN + shown(name) + END


def without(data: bytes) -> bytes:
    """The text alone."""
    return MARK.sub(b"", data) if BEGIN in data else data


def begun(data: bytes) -> int:
    """How many bytes at the end may be the beginning of a mark."""
    found = _BEGUN.search(data, max(0, len(data) - MAX_MARK))
    return len(data) - found.start() if found else 0


class Unmarked:
    """Takes the marks out of text that comes in pieces, which may end in the middle of one."""

    def __init__(self) -> None:
        self._held = b""

    def take(self, piece: bytes) -> bytes:
        """The text of the next piece, and what was held back of the last."""
        data = without(self._held + piece)
        held = begun(data)
        self._held = data[len(data) - held :]
        return data[: len(data) - held]

    def rest(self) -> bytes:
        """What was held back, where nothing follows."""
        held, self._held = self._held, b""
        return held

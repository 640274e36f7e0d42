"""The lines by which a launcher and its supervisors talk while a session comes up, and until it ends.

Pure: bytes in, messages out; no descriptors, no clock. Launcher to supervisors is one JSON object a line, read by every
rank of a group. Supervisor to launcher goes through whatever the scheduler has. It may merge the output of all tasks,
let banners through and cut lines above 1 KiB. So a report is JSON in pure ASCII, split into chunks, one a line::

    @hpc <rank> <number of the message> <k>/<n> <chunk of at most 800 bytes>

Everything else is noise: it is handed on as text, to be shown with -v.

Rejected: a socket back to the launcher, for a login node often cannot be reached, and that is what is being set up.
Rejected too: base64 (a third longer, unreadable in a log), and a length prefix (one banner in the middle breaks it).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from msgspec import Struct, field

PREFIX = "@hpc"
CHUNK_BYTES = 800
MAX_CHUNKS = 8192  # 6.5 MB: more is not one of our messages
MAX_LINE_BYTES = 1 << 16  # a longer line without an end is handed on as noise
MAX_COMMAND_BYTES = 1 << 23

Message = dict[str, Any]

_HEADER = re.compile(r"@hpc (\d{1,7}) (\d{1,12}) (\d{1,5})/(\d{1,5}) (.*)", re.DOTALL)


class Report(NamedTuple):
    """A whole message of one supervisor; `message` has at least the text field "op"."""

    rank: int
    message: Message


class Noise(NamedTuple):
    """A line that is none of ours."""

    text: str


def encode_report(rank: int, number: int, message: Mapping[str, Any]) -> bytes:
    """The lines that carry `message`, each ended by a newline."""
    text = json.dumps(message, ensure_ascii=True, separators=(",", ":"))
    chunks = [text[i : i + CHUNK_BYTES] for i in range(0, len(text), CHUNK_BYTES)]
    if len(chunks) > MAX_CHUNKS:
        raise ValueError(f"a report of {len(text)} bytes is longer than {MAX_CHUNKS * CHUNK_BYTES}")
    total = len(chunks)
    lines = [f"{PREFIX} {rank} {number} {k}/{total} {chunk}\n" for k, chunk in enumerate(chunks, 1)]
    return "".join(lines).encode("ascii")


class _Partial(Struct):
    number: int
    total: int
    chunks: list[str]


class ReportDecoder(Struct):
    """Puts the reports of one stream together again.

    Ranks may alternate line by line. A rank writes its messages one after the other, so at most one per rank is
    unfinished. What does not fit is dropped and counted in `broken`.
    """

    broken: int = 0
    _rest: bytes = b""
    _partial: dict[int, _Partial] = field(default_factory=dict)

    def feed(self, data: bytes) -> list[Report | Noise]:
        """Take what was read and return the reports and noise that it completes."""
        *lines, rest = (self._rest + data).split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            lines.append(rest)
            rest = b""
        self._rest = rest
        found: list[Report | Noise] = []
        for line in lines:
            self._line(line.decode("utf-8", "replace"), found)
        return found

    def finish(self) -> list[Report | Noise]:
        """The stream has ended: what is left of it."""
        rest, self._rest = self._rest, b""
        found: list[Report | Noise] = []
        self._line(rest.decode("utf-8", "replace"), found)
        self.broken += len(self._partial)
        self._partial.clear()
        return found

    def _line(self, line: str, found: list[Report | Noise]) -> None:
        match = _HEADER.search(line)
        if match is None:
            if line.strip():
                found.append(Noise(line))
            return
        if match.start() and line[: match.start()].strip():
            found.append(Noise(line[: match.start()]))  # a banner without a newline before us
        rank, number, k, total = (int(match[i]) for i in range(1, 5))
        message = self._chunk(rank, number, k, total, match[5])
        if message is not None:
            found.append(Report(rank, message))

    def _chunk(self, rank: int, number: int, k: int, total: int, chunk: str) -> Message | None:
        partial = self._partial.pop(rank, None)
        if partial is not None and (partial.number != number or partial.total != total):
            self.broken += 1
            partial = None
        if not 1 <= k <= total <= MAX_CHUNKS or k != (len(partial.chunks) + 1 if partial else 1):
            self.broken += 1
            return None
        if partial is None:
            partial = _Partial(number, total, [])
        partial.chunks.append(chunk)
        if k < total:
            self._partial[rank] = partial
            return None
        message = _parse("".join(partial.chunks))
        self.broken += message is None
        return message


def encode_command(message: Mapping[str, Any]) -> bytes:
    """The one line that carries a message of the launcher."""
    return json.dumps(message, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n"


class CommandDecoder(Struct):
    """Cuts what a supervisor reads into the launcher's messages; a bad line is dropped and counted."""

    broken: int = 0
    _rest: bytes = b""

    def feed(self, data: bytes) -> list[Message]:
        """Take what was read and return the messages that it completes."""
        *lines, rest = (self._rest + data).split(b"\n")
        if len(rest) > MAX_COMMAND_BYTES:
            self.broken += 1
            rest = b""
        self._rest = rest
        found: list[Message] = []
        for line in lines:
            if not line.strip():
                continue
            message = _parse(line.decode("utf-8", "replace"))
            if message is None:
                self.broken += 1
            else:
                found.append(message)
        return found


def _parse(text: str) -> Message | None:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(message, dict) and isinstance(message.get("op"), str):
        return message
    return None

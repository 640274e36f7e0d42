"""The manifest of a checkpoint: which files it has, their sizes and sums, and what its report said.

It is a file beside the checkpoint's directory. What has no manifest is no checkpoint, and neither is one whose files
are not what the manifest says. A sum is over the whole of a file of up to 4 MiB, and over 16 pieces of a larger one.
The pieces are the first, the last, and others evenly between. So what a crash or a full disk leaves behind is seen at
little cost.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import IO, Any, Literal, get_args
from urllib.parse import quote, unquote

from hpc.runs.files import Files, join

PREFIX, SUFFIX = "manifest.", ".json"
#: A marker beside a directory that is no checkpoint yet, or not any more: what is in it can be deleted.
BEGUN_PREFIX = "begun."
PIECE_BYTES = 256 * 1024
PIECES = 16
THREADS = 8
FORMAT = 1


#: See `hpc.runs.validation.ReportedCheckpointStatus`.
Status = Literal["COMMITTED", "PENDING_VALIDATION", "VALIDATED", "VALIDATION_TIMEOUT", "VALIDATION_FAILED"]
STATUSES: tuple[Status, ...] = get_args(Status)


class Damaged(Exception):
    """A checkpoint or its manifest is not what it was when it was stored; the text says how."""


@dataclass(frozen=True)
class Entry:
    """A file of a checkpoint: its path in the directory, its size in bytes, and its sum."""

    path: str
    size: int
    sum: int


@dataclass
class Manifest:
    """name: the checkpoint's directory, from the run's. number: orders the checkpoints of a run. reports: how many
    reports of the run there were with this one. validation: what was asked for (`hpc.runs.validation`), and status.
    stored_s: when, in wall time; 0 where that was not written down."""

    name: str
    number: int
    reports: int
    metrics: dict[str, Any]
    files: list[Entry] = field(default_factory=list)
    status: Status = "COMMITTED"
    validation: dict[str, Any] | None = None
    stored_s: float = 0.0

    def encode(self) -> bytes:
        """As it is stored."""
        data = {
            "format": FORMAT,
            "name": self.name,
            "number": self.number,
            "reports": self.reports,
            "metrics": self.metrics,
            "status": self.status,
            "validation": self.validation,
            "stored_s": self.stored_s,
            "files": [[one.path, one.size, one.sum] for one in self.files],
        }
        return json.dumps(data, default=plain).encode()


def decode(data: bytes) -> Manifest:
    """The manifest that was stored. Raises Damaged."""
    try:
        row = json.loads(data)
        form = row["format"]
        files = [Entry(str(path), int(size), int(total)) for path, size, total in row["files"]]
        found = Manifest(
            str(row["name"]), int(row["number"]), int(row["reports"]), dict(row["metrics"]), files,
            STATUSES[STATUSES.index(row["status"])],
            row["validation"], float(row.get("stored_s", 0.0)),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"its manifest cannot be read: {error}") from None
    if form != FORMAT:
        raise Damaged(f"its manifest is of format {form}, and this version reads format {FORMAT}")
    return found


def manifest_file(name: str) -> str:
    """The name of the file that has the manifest of a checkpoint of this name."""
    return f"{PREFIX}{_quoted(name)}{SUFFIX}"


def begun_file(name: str) -> str:
    """The name of the marker of a directory of this name."""
    return f"{BEGUN_PREFIX}{_quoted(name)}"


def name_of(file: str) -> str | None:
    """The name of the checkpoint that a manifest's file is of; None for another file."""
    if not file.startswith(PREFIX) or not file.endswith(SUFFIX):
        return None
    return unquote(file[len(PREFIX) : -len(SUFFIX)])


def _quoted(name: str) -> str:
    return quote(name, safe=" +=,@")


def entry(files: Files, path: str, relative: str, size: int) -> Entry:
    """The entry of a file that is there."""
    with files.open(path) as file:
        return Entry(relative, size, sum_of(file, size))


def entries_of(files: Files, path: str) -> list[Entry]:
    """The entries of all files in a directory."""
    found = sorted(files.walk(path))
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda one: entry(files, join(path, one[0]), one[0], one[1]), found))


def check(files: Files, path: str, entries: Sequence[Entry]) -> None:
    """Raises Damaged unless the directory has these files, of these sizes and sums. Other files do not matter."""
    sizes = dict(files.walk(path)) if files.is_dir(path) else None
    if sizes is None:
        raise Damaged("its directory is gone")
    for one in entries:
        if one.path not in sizes:
            raise Damaged(f"{one.path} is missing")
        if sizes[one.path] != one.size:
            raise Damaged(f"{one.path} has {sizes[one.path]} bytes instead of {one.size}")
    with ThreadPoolExecutor(THREADS) as pool:
        for one, found in zip(entries, pool.map(lambda e: entry(files, join(path, e.path), e.path, e.size), entries)):
            if found.sum != one.sum:
                raise Damaged(f"the content of {one.path} has changed")


def sum_of(file: IO[bytes], size: int) -> int:
    """The sum of a file of this size: of all of it, or of pieces."""
    total = 0
    for start, length in pieces(size):
        file.seek(start)
        total = zlib.crc32(file.read(length), total)
    return total


def pieces(size: int) -> Iterator[tuple[int, int]]:
    """Start and length of the parts of a file that its sum is made of."""
    if size <= PIECE_BYTES * PIECES:
        yield 0, size
        return
    for index in range(PIECES):
        yield index * (size - PIECE_BYTES) // (PIECES - 1), PIECE_BYTES


def plain(value: Any) -> Any:
    """Numbers of numpy as numbers; anything else as its text. Never fails, whatever the value's class does."""
    try:
        number = value.item()
        if isinstance(number, (bool, int, str)):
            return number
        return number if math.isfinite(number) else float(number)
    except Exception:  # no number, or complex, a time, bytes
        try:
            return str(value)
        except Exception:
            return f"<{type(value).__name__}>"

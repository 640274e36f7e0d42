"""The members of tar archives, by their headers alone in one sequential read: no seek, one header for each member."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

BLOCK = 512
#: Archives are read in parts of so many bytes.
BUFFER = 1 << 20
REGULAR = (b"0", b"\0", b"7")


class TarError(ValueError):
    """The bytes are no tar archive, or its end is missing."""


def members(stream: Any) -> Iterator[tuple[str, bytes]]:
    """The names and contents of all files of an archive, in order. Raises TarError."""
    file = io.BufferedReader(stream, BUFFER)
    at = 0
    name: str | None = None
    size: int | None = None
    while True:
        header = file.read(BLOCK)
        if not header or not header.strip(b"\0"):
            return
        if len(header) < BLOCK:
            raise TarError(f"the archive ends within a header, at byte {at}")
        check(header, at)
        kind = header[156:157]
        length = number(header[124:136]) if size is None or kind not in REGULAR else size
        at += BLOCK
        padded = -(-length // BLOCK) * BLOCK
        if kind in (b"x", b"L", b"g", b"K") or kind in REGULAR:
            data = file.read(length)
            file.read(padded - length)
            if len(data) < length:
                raise TarError(f"the archive ends within the member at byte {at}")
        at += padded
        if kind == b"L":
            name = data.rstrip(b"\0").decode("utf-8", "surrogateescape")
        elif kind == b"x":
            for key, value in pax(data):
                if key == "path":
                    name = value
                elif key == "size":
                    size = int(value)
        elif kind in REGULAR:
            yield name if name is not None else plain_name(header), data
            name, size = None, None
        elif kind not in (b"g", b"K"):  # Folders, links and the like have no content.
            name, size = None, None


def check(header: bytes, at: int) -> None:
    """Raise TarError for a header whose sum is not what it says."""
    try:
        said = int(header[148:156].strip(b" \0") or b"0", 8)
    except ValueError:
        said = -1
    if said != sum(header[:148]) + 256 + sum(header[156:]):
        raise TarError(f"there is no tar header at byte {at}")


def number(field: bytes) -> int:
    """A number of a header: octal digits, or binary for large ones."""
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")
    return int(field.strip(b" \0") or b"0", 8)


def plain_name(header: bytes) -> str:
    name = header[:100].split(b"\0", 1)[0]
    if header[257:262] == b"ustar" and header[257:265] != b"ustar  \0":
        prefix = header[345:500].split(b"\0", 1)[0]
        name = prefix + b"/" + name if prefix else name
    return name.decode("utf-8", "surrogateescape")


def pax(data: bytes) -> Iterator[tuple[str, str]]:
    """The records of an extended header: "length key=value"."""
    at = 0
    while at < len(data):
        space = data.find(b" ", at)
        if space < 0:
            return
        length = int(data[at:space])
        key, _, value = data[space + 1 : at + length - 1].partition(b"=")
        yield key.decode(), value.decode("utf-8", "surrogateescape")
        at += length

"""The members of tar archives, by their headers alone: with their contents in one sequential read, or without them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

BLOCK = 512
#: Archives are read in parts of so many bytes.
BUFFER = 1 << 20
REGULAR = (b"0", b"\0", b"7")
#: Headers of their own kind, which tell of the next member or of all, have no more bytes than this.
TELLING, MOST_TOLD = (b"x", b"L", b"g", b"K"), 1 << 26


class TarError(ValueError):
    """The bytes are no tar archive, or its end is missing."""


def members(stream: Any, at: int = 0, end: int | None = None) -> Iterator[tuple[str, bytes]]:
    """The names and contents of all files of an archive, in order. Raises TarError.

    at: where the stream stands in the archive. end: where the first member begins that is not wanted (None: all)."""
    file = io.BufferedReader(stream, BUFFER)
    for _, name, data in _walk(file.read, file.read, at, end):
        yield name, data


def starts(read: Callable[[int, int], bytes], at: int = 0) -> Iterator[tuple[int, str, int]]:
    """Where each file of an archive begins, with all that is before its header, its name, and where it ends. Headers
    alone are read, by ``read(place, bytes)``. Raises TarError. at: where the first of them begins."""
    place = at

    def skip(count: int) -> None:
        nonlocal place
        place += count

    def some(count: int) -> bytes:
        skip(count)
        return read(place - count, count)

    for begin, name, _ in _walk(some, skip, at, None, contents=False):
        yield begin, name, place


def looks_like_header(block: bytes) -> bool:
    """Whether a block is a header by its sum and its magic word. Bytes of a file may look like one, too."""
    if block[257:262] != b"ustar" or len(block) < BLOCK:
        return False
    try:
        check(block, 0)
    except TarError:
        return False
    return True


def _walk(
    read: Callable[[int], bytes], skip: Callable[[int], Any], at: int, end: int | None, contents: bool = True
) -> Iterator[tuple[int, str, bytes]]:
    """The files of an archive, from a place on: where each begins, its name, and what is in it."""
    begin = at
    name: str | None = None
    size: int | None = None
    while end is None or at < end:
        header = read(BLOCK)
        if not header or not header.strip(b"\0"):
            return
        if len(header) < BLOCK:
            raise TarError(f"the archive ends within a header, at byte {at}")
        check(header, at)
        kind = header[156:157]
        length = number(header[124:136]) if size is None or kind not in REGULAR else size
        at += BLOCK
        if length < 0 or (kind in TELLING and length > MOST_TOLD):
            raise TarError(f"the member at byte {at} cannot have {length} bytes")
        # Folders, links and the like have no content, whatever size they tell.
        padded = -(-length // BLOCK) * BLOCK if kind in TELLING or kind in REGULAR else 0
        data = b""
        if kind in TELLING or (contents and kind in REGULAR):
            data = read(length)
            skip(padded - length)
            if len(data) < length:
                raise TarError(f"the archive ends within the member at byte {at}")
        elif kind in REGULAR:
            skip(padded)
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
            yield begin, name if name is not None else plain_name(header), data
            name, size, begin = None, None, at
        elif kind not in TELLING:
            name, size, begin = None, None, at


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
        if length <= space - at:
            raise TarError(f"a record of a header cannot have {length} bytes")
        key, _, value = data[space + 1 : at + length - 1].partition(b"=")
        yield key.decode(), value.decode("utf-8", "surrogateescape")
        at += length

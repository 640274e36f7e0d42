"""Whole lines of a file, or of a range of its bytes, in large pieces: each line is in the range where it begins."""

from __future__ import annotations

from collections.abc import Iterator

from hpc.data.io.grouping import Piece
from hpc.data.io.opened import OpenFile

#: The bytes that are read at a time.
BLOCK = 4 << 20


def blocks(file: OpenFile, piece: Piece) -> Iterator[bytes]:
    """The bytes of the lines of a piece; each block but the last ends with a line's end."""
    if piece.end is None and piece.first == 0:
        with file.stream() as stream:
            yield from whole_lines(iter(lambda: stream.read(BLOCK), b""))
        return
    with file.random() as opened:
        size = opened.size()
        yield from whole_lines(ranged(opened, piece.first, size if piece.end is None else piece.end, size))


def ranged(opened: object, first: int, end: int, size: int) -> Iterator[bytes]:
    """The bytes from the first line that begins in a range to the end of the last line that begins there."""
    read_at = opened.read_at  # type: ignore[attr-defined]
    at = first
    if first > 0:
        at = next_line(read_at, first - 1, size)
    if at >= end:
        return
    stop = end if end >= size else next_line(read_at, end - 1, size)
    while at < stop:
        data = read_at(min(BLOCK, stop - at), at)
        if not data:
            return
        at += len(data)
        yield data


def next_line(read_at: object, at: int, size: int) -> int:
    """Where the line after the one at ``at`` begins."""
    while at < size:
        data = read_at(1 << 16, at)  # type: ignore[operator]
        if not data:
            return size
        found = data.find(b"\n")
        if found >= 0:
            return at + found + 1
        at += len(data)
    return size


def whole_lines(parts: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes, cut after ends of lines."""
    kept: list[bytes] = []
    for part in parts:
        cut = part.rfind(b"\n") + 1
        if cut:
            yield b"".join([*kept, part[:cut]])
            kept = [part[cut:]] if cut < len(part) else []
        else:
            kept.append(part)
    if kept:
        yield b"".join(kept)

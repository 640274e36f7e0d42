"""JSON: one value on each line, read in pieces with flat memory; or one array, or one object, as a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.json as pajson

from hpc.data.block import build
from hpc.data.io import lines
from hpc.data.io.formats import Format
from hpc.data.io.grouping import PIECE, Piece
from hpc.data.io.opened import OpenFile

#: The elements of an array that become a table.
ROWS = 16_384


@dataclass(frozen=True)
class JsonFormat(Format):
    """``by_line``: files have one object on each line, whatever their names. ``options`` are those of pyarrow.json."""

    by_line: bool = False
    options: tuple[tuple[str, Any], ...] = ()

    name = "JSON"

    def __post_init__(self) -> None:
        known = {"read_options", "parse_options"}
        if unknown := [name for name, _ in self.options if name not in known]:
            raise TypeError(f"read_json knows no {unknown}: pyarrow.json.read_json takes {sorted(known)}")

    def piece_bytes(self, path: str, compressed: bool) -> int | None:
        lined = self.by_line or path.lower().endswith((".jsonl", ".ndjson"))
        return None if compressed or not lined else PIECE // 4

    def tables(self, file: OpenFile, piece: Piece, columns: list[str] | None) -> Iterator[pa.Table]:
        blocks = lines.blocks(file, piece)
        first = next(blocks, b"")
        if not first.strip():
            first += b"".join(blocks)
            if not first.strip():
                return
        if self.by_line or (piece.first, piece.end) != (0, None) or is_lines(first):
            yield from self.of_lines(file, first, blocks)
        else:
            yield from of_document(file, first, blocks)

    def of_lines(self, file: OpenFile, first: bytes, rest: Iterator[bytes]) -> Iterator[pa.Table]:
        known: pa.Schema | None = None
        rows = 0
        for block in chained(first, rest):
            table = self.parse(file, block, known, rows)
            if table is None:
                continue
            rows += table.num_rows
            known = pa.schema([field for field in table.schema if not pa.types.is_null(field.type)])
            yield table

    def parse(self, file: OpenFile, block: bytes, known: pa.Schema | None, rows: int) -> pa.Table | None:
        """A table of lines. Types are those of the lines before, where the values are such."""
        if not block.strip():
            return None
        given = dict(self.options)
        options = given.get("parse_options")
        if known is not None and options is None:
            try:
                return parsed(block, pajson.ParseOptions(explicit_schema=known), given.get("read_options"))
            except pa.ArrowInvalid:
                pass  # Another type than before: blocks of a dataset are brought to one type where they meet.
        try:
            return parsed(block, options, given.get("read_options"))
        except pa.ArrowInvalid as error:
            for index, line in enumerate(block.splitlines()):
                if line.strip():
                    try:
                        json.loads(line)
                    except ValueError as why:
                        raise file.error(f"a line is no JSON: {why}", (rows + index, rows + index + 1)) from error
            raise file.error(error, (rows, None)) from error


def parsed(block: bytes, options: pajson.ParseOptions | None, read: pajson.ReadOptions | None) -> pa.Table:
    del read  # Its block size would cut lines; the block is one piece here.
    whole = pajson.ReadOptions(use_threads=False, block_size=len(block) + 1)
    return pajson.read_json(pa.BufferReader(block), read_options=whole, parse_options=options)


def is_lines(first: bytes) -> bool:
    """Whether a file has a value on each line: its first line is an object."""
    line = first.lstrip().split(b"\n", 1)[0]
    if not line.startswith(b"{"):
        return False
    try:
        json.loads(line)
    except ValueError:
        return b"}" in line and line.rstrip().endswith(b"}")
    return True


def of_document(file: OpenFile, first: bytes, rest: Iterator[bytes]) -> Iterator[pa.Table]:
    """The objects of an array, some at a time, or the one object of a file."""
    waiting: list[dict[str, Any]] = []
    for rows, value in enumerate(elements(file, first, rest)):
        if not isinstance(value, dict):
            raise file.error(f"a row is an object, and this is {type(value).__name__}", (rows, rows + 1))
        waiting.append(value)
        if len(waiting) == ROWS:
            yield build.from_rows(waiting)
            waiting = []
    if waiting:
        yield build.from_rows(waiting)


def elements(file: OpenFile, first: bytes, rest: Iterator[bytes]) -> Iterator[Any]:
    """The elements of an array, read as they come; any other document as one element."""
    text = first.decode("utf-8-sig")
    if not text.lstrip().startswith("["):
        for block in rest:
            text += block.decode()
        yield json.loads(text)
        return
    decoder, blank = json.JSONDecoder(), " \t\r\n"
    at = text.index("[") + 1
    while True:
        while at < len(text) and text[at] in blank + ",":
            at += 1
        if at < len(text) and text[at] == "]":
            return
        try:
            value, end = decoder.raw_decode(text, at)
            if end == len(text):  # A number may go on in the next block.
                raise json.JSONDecodeError("the array does not end", text, end)
        except json.JSONDecodeError:
            more = next(rest, None)
            if more is None:
                raise
            text, at = text[at:] + more.decode(), 0
            continue
        yield value
        at = end
        if at > 1 << 22:
            text, at = text[at:], 0


def chained(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest

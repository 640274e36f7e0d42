"""Text files: a row for each line."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from hpc.data.io import lines
from hpc.data.io.formats import Format
from hpc.data.io.grouping import PIECE, Piece
from hpc.data.io.opened import OpenFile

#: Encodings in which the byte of a line's end is nothing else: their files are read in blocks.
PLAIN = ("utf-8", "ascii", "iso8859-", "cp125", "koi8-")


@dataclass(frozen=True)
class TextFormat(Format):
    """``drop_empty``: lines without a character that is no blank are left out."""

    encoding: str = "utf-8"
    drop_empty: bool = True

    name = "Text"
    factor = 1.2

    def __post_init__(self) -> None:
        codecs.lookup(self.encoding)

    @property
    def plain(self) -> bool:
        return codecs.lookup(self.encoding).name.startswith(PLAIN)

    def schema(self, file: OpenFile) -> pa.Schema:
        return pa.schema([("text", pa.string())])

    def piece_bytes(self, path: str, compressed: bool) -> int | None:
        return None if compressed or not self.plain else PIECE // 4

    def tables(self, file: OpenFile, piece: Piece, columns: list[str] | None) -> Iterator[pa.Table]:
        rows = 0
        for block in lines.blocks(file, piece) if self.plain else iter([file.content()]):
            try:
                array = pa.array(block.decode(self.encoding).splitlines(), pa.string())
            except UnicodeDecodeError as error:
                rows += block.count(b"\n", 0, error.start)
                raise file.error(f"{error}. Another encoding is given with encoding=", (rows, rows + 1)) from error
            rows += len(array)
            if self.drop_empty:
                array = array.filter(pc.not_equal(pc.utf8_trim_whitespace(array), ""))
            if len(array):
                yield pa.table({"text": array})

"""CSV files, read as a stream of blocks: memory does not grow with the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv

from hpc.data.io.formats import Format
from hpc.data.io.grouping import Piece
from hpc.data.io.opened import OpenFile


@dataclass(frozen=True)
class CsvFormat(Format):
    """``options`` go to ``pyarrow.csv.open_csv``: read_options, parse_options, convert_options."""

    options: tuple[tuple[str, Any], ...] = ()

    name = "CSV"
    factor = 1.5

    def __post_init__(self) -> None:
        known = {"read_options", "parse_options", "convert_options"}
        if unknown := [name for name, _ in self.options if name not in known]:
            raise TypeError(f"read_csv knows no {unknown}: pyarrow.csv.open_csv takes {sorted(known)}")

    def tables(self, file: OpenFile, piece: Piece, columns: list[str] | None) -> Iterator[pa.Table]:
        given = dict(self.options)
        read = given.get("read_options") or pacsv.ReadOptions(use_threads=False)
        convert = given.get("convert_options")
        if columns is not None and not (convert is not None and convert.include_columns):
            convert = copied(convert)
            convert.include_columns = columns
            convert.include_missing_columns = True
        stream = file.stream()
        try:
            reader = pacsv.open_csv(
                stream, read_options=read, parse_options=given.get("parse_options"), convert_options=convert
            )
            rows = 0
            while True:
                try:
                    batch = reader.read_next_batch()
                except StopIteration:
                    return
                except pa.ArrowInvalid as error:
                    raise file.error(
                        f"{error}. Types are those of the first rows: others are given with "
                        "convert_options=pyarrow.csv.ConvertOptions(column_types={...})"
                        if rows
                        else error,
                        (rows, None),
                    ) from error
                rows += batch.num_rows
                if columns == []:
                    yield pa.table({"": pa.nulls(batch.num_rows)}).select([])
                elif batch.num_rows:
                    yield pa.Table.from_batches([batch])
        finally:
            stream.close()

    def schema(self, file: OpenFile) -> pa.Schema | None:
        given = dict(self.options)
        with file.stream() as stream:
            return pacsv.open_csv(
                stream,
                read_options=given.get("read_options") or pacsv.ReadOptions(use_threads=False),
                parse_options=given.get("parse_options"),
                convert_options=given.get("convert_options"),
            ).schema


def copied(options: pacsv.ConvertOptions | None) -> pacsv.ConvertOptions:
    """The same options as another object."""
    import pickle

    return pacsv.ConvertOptions() if options is None else pickle.loads(pickle.dumps(options))

"""Avro and ORC files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from hpc.data.block import build
from hpc.data.io.formats import Format
from hpc.data.io.grouping import Piece
from hpc.data.io.opened import OpenFile
from hpc.data.packages import needs

#: Records that become one table.
ROWS = 4096


@dataclass(frozen=True)
class AvroFormat(Format):
    """Avro files, whose schema is in them."""

    name = "Avro"
    factor = 2.0

    def __post_init__(self) -> None:
        needs("fastavro", "read_avro", "fastavro")

    def tables(self, file: OpenFile, piece: Piece, columns: list[str] | None) -> Iterator[pa.Table]:
        import fastavro

        with file.stream() as stream:
            records = iter(fastavro.reader(stream))
            while rows := list(islice(records, ROWS)):
                yield build.from_rows([row if isinstance(row, dict) else {"item": row} for row in rows])


@dataclass(frozen=True)
class OrcFormat(Format):
    """ORC files, a stripe at a time."""

    name = "ORC"
    factor = 2.0

    def schema(self, file: OpenFile) -> pa.Schema:
        from pyarrow import orc

        with file.random() as opened:
            return orc.ORCFile(opened).schema

    def tables(self, file: OpenFile, piece: Piece, columns: list[str] | None) -> Iterator[pa.Table]:
        from pyarrow import orc

        with file.random() as opened:
            found = orc.ORCFile(opened)
            names = None if columns is None else [name for name in columns if name in found.schema.names]
            for stripe in range(found.nstripes):
                batch = found.read_stripe(stripe, names or (found.schema.names[:1] if names == [] else None))
                if names == []:
                    yield pa.table({"": pa.nulls(batch.num_rows)}).select([])
                    continue
                table = pa.Table.from_batches([batch])
                for name in columns or ():
                    if name not in table.column_names:
                        table = table.append_column(name, pa.nulls(table.num_rows))
                yield table

"""Small tables on their way: a fifth of what pickling a table costs, where that is most of the work of its task."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pyarrow as pa

from hpc import spi
from hpc.data.block.cells import Cells

spi.pickles_plainly(Cells)
#: Tables of up to so many bytes go this way.
SMALL_BYTES = 16 << 10


@spi.pickles_plainly
class SmallTable:
    """A table of one chunk, in the form in which it is sent. It is a table again where it arrives."""

    __slots__ = ("_schema", "_table")

    def __init__(self, table: pa.Table, schema: bytes) -> None:
        self._table = table
        self._schema = schema

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[bytes, bytes]]:
        (batch,) = self._table.to_batches()
        return table_of, (self._schema, batch.serialize().to_pybytes())


@lru_cache(64)
def schema_of(data: bytes) -> pa.Schema:
    """A serialized schema."""
    return pa.ipc.read_schema(pa.py_buffer(data))


def table_of(schema: bytes, batch: bytes) -> pa.Table:
    """The table that was sent."""
    kinds = schema_of(schema)
    return pa.Table.from_batches([pa.ipc.read_record_batch(pa.py_buffer(batch), kinds)], kinds)


def sent(table: pa.Table, nbytes: int, schema: bytes) -> Any:
    """A table as a task gives it. ``schema``: that of the table, serialized."""
    return SmallTable(table, schema) if table.num_rows and nbytes <= SMALL_BYTES and _is_plain(schema) else table


@lru_cache(64)
def _is_plain(schema: bytes) -> bool:
    """Whether a batch is all that there is to send: dictionaries travel beside their batches."""
    return "dictionary<" not in str(schema_of(schema))

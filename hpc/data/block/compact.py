"""Blocks that own just their bytes.

A slice of a table keeps all bytes of the table, and its pickle sends them. So a block is made compact before it leaves
its task.
"""

from __future__ import annotations

import pyarrow as pa

from hpc.data.block.promote import wide


def nbytes(table: pa.Table) -> int:
    """The bytes that the rows of a table take up; of a slice only its own."""
    return table.nbytes


def compact(table: pa.Table) -> pa.Table:
    """The same rows, with one chunk for each column, in memory that holds nothing else; copied only if needed."""
    table = in_one(table)
    # A few bytes more are padding and validity bits; a copy would not be smaller.
    if table.get_total_buffer_size() <= table.nbytes + 64 * (table.num_columns + 1):
        return table
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    copied = pa.ipc.open_stream(sink.getvalue()).read_all()
    return copied if table.num_rows else table.schema.empty_table()


def in_one(table: pa.Table) -> pa.Table:
    """The same rows, with one chunk for each column. A table that is stored at once needs no more: its own
    rows alone go along."""
    return _combined(table) if any(column.num_chunks != 1 for column in table.columns) else table


def _combined(table: pa.Table) -> pa.Table:
    try:
        return table.combine_chunks()
    except pa.ArrowInvalid:
        # The dictionaries of the chunks have more values together than narrow indices can count.
        columns = [wide(column) for column in table.columns]
        return pa.Table.from_arrays(columns, names=table.column_names).combine_chunks()

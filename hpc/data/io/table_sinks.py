"""What writes to tables of other systems share: tasks write data files, and one commit of the driver shows them.

A task that runs twice writes files twice, and the commit names those of one attempt only: each row counts once. Files
that no commit names are not part of the table. Those of a task that fails are removed by the task, those of a write
that fails by the driver. What a killed process leaves is removed by the table's own means (vacuum, orphan files).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa

from hpc.data.block import promote
from hpc.data.io.datasink import Datasink
from hpc.data.options import SaveMode

#: Tables of a task are gathered to so many bytes before they are written.
GATHERED = 128 << 20


class TableDatasink(Datasink[Any]):
    """A table of another system. ``ask`` gives the columns of the dataset where its plan does not tell them."""

    def __init__(self, modes: tuple[SaveMode, ...], mode: SaveMode | str, ask: Callable[[], Any] | None) -> None:
        self.mode = one_of(modes, mode, f"a write to {self.get_name()}")
        self.ask = ask
        #: From the commit on nothing is removed: its answer may have been lost, and the files be part of the table.
        self.committing = False

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "ask": None}

    def columns(self, schema: pa.Schema | None) -> pa.Schema | None:
        """The columns of the data: those that the plan tells, or the first blocks. None for no rows at all."""
        if schema is None and self.ask is not None:
            found = self.ask()
            schema = getattr(found, "base_schema", found)
        return schema


def one_of(modes: tuple[SaveMode, ...], mode: SaveMode | str, what: str) -> SaveMode:
    """The mode by its name. Raises ValueError for one that this target has not."""
    try:
        found = SaveMode(mode)
    except ValueError:
        found = None
    if found is None or found not in modes:
        raise ValueError(f"the mode of {what} is one of {[one.value for one in modes]}, and not {mode!r}")
    return found


def gathered(blocks: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows of the blocks in larger tables, none of them empty."""
    waiting: list[pa.Table] = []
    size = 0
    for block in blocks:
        if not block.num_rows:
            continue
        waiting.append(block)
        size += block.nbytes
        if size >= GATHERED:
            yield promote.concat(waiting)
            waiting, size = [], 0
    if waiting:
        yield promote.concat(waiting)


def conformed(table: pa.Table, schema: pa.Schema, name: str) -> pa.Table:
    """The table with the columns and types of a table of another system; columns that it has not are null.

    Raises ValueError for columns that the schema has not, for values that do not fit, and for nulls where none may be.
    """
    if more := [
        field.name for field in table.schema if field.name not in schema.names and not pa.types.is_null(field.type)
    ]:
        raise ValueError(
            f"{name} has no columns {more}: add them to the table before, or give the schema; it has {schema.names}"
        )
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            column = pa.chunked_array([promote.nulls(table.num_rows, field.type)], field.type)
        else:
            column = table[field.name]
            try:
                column = promote.convert(column, field.type)
            except (pa.ArrowException, TypeError, ValueError) as error:
                raise ValueError(
                    f"the column {field.name!r} of the data is {column.type}, and {field.type} in {name}: {error}"
                ) from error
        if not field.nullable and column.null_count:
            raise ValueError(
                f"the column {field.name!r} of {name} takes no nulls, and the data has {column.null_count}"
            )
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)

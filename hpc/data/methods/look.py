"""Methods that look at a dataset: rows, their number, columns, files, statistics, the plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from hpc.data import facts, shown
from hpc.data.block import batch
from hpc.data.block.schema import Schema
from hpc.data.methods import staging
from hpc.data.plan import nodes
from hpc.data.plan.explain import logical, operators
from hpc.data.plan.optimize import optimized
from hpc.data.plan.physical import physical
from hpc.data.planned import Planned
from hpc.data.transform.tally import RowCount


def _first(self: Planned, limit: int) -> Iterator[pa.Table]:
    """The tables of the first rows. What comes behind them is not made."""
    if limit > 0:
        yield from self.tables(nodes.Limit(self.plan, limit))


def take(self: Planned, limit: int = 20) -> list[dict[str, Any]]:
    """The first rows, as dicts. It runs."""
    _check_number("take", limit)
    return [row for table in _first(self, limit) for row in batch.rows(table)]


def take_all(self: Planned, limit: int | None = None) -> list[dict[str, Any]]:
    """All rows, as dicts. It runs. Raises ValueError where there are more than ``limit``."""
    if limit is None:
        return [row for table in self.tables() for row in batch.rows(table)]
    rows = take(self, limit + 1)
    if len(rows) > limit:
        raise ValueError(f"The dataset has more than the given limit of {limit} records.")
    return rows


def take_batch(self: Planned, batch_size: int = 20, *, batch_format: str | None = "default") -> Any:
    """The first rows as a batch. It runs. Raises ValueError where there are none."""
    staging.check_format(batch_format)
    _check_number("take_batch", batch_size)
    found = [table for table in _first(self, batch_size) if table.num_rows]
    if not found:
        raise ValueError("The dataset is empty.")
    return batch.to_batch(staging.together(found), batch_format)


def show(self: Planned, limit: int = 20) -> None:
    """The first rows are printed. It runs."""
    for row in take(self, limit):
        print(row)


def _check_number(method: str, number: Any) -> None:
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"{method} takes a number of rows, not {number!r}")


def count(self: Planned) -> int:
    """The number of rows: from the metadata of files where that tells it, else it runs."""
    known = facts.rows_of(self.plan)
    if known is not None:
        return known
    counted = nodes.Apply(self.plan, RowCount())
    return sum(int(rows) for table in self.tables(counted) for rows in table.column("rows").to_pylist())


def schema(self: Planned, fetch_if_missing: bool = True) -> Schema | None:
    """The columns. Where they are not known before a run, it runs for one row, unless ``fetch_if_missing`` is False."""
    if self._schema is None:
        self._schema = facts.schema_of(self.plan)
    if self._schema is None and fetch_if_missing:
        run = self.begin(nodes.Limit(self.plan, 1))
        try:
            for handle in run:
                self._schema = facts.read_schema(handle.meta.schema)
            self._schema = self._schema or facts.read_schema(run.schema())
        finally:
            run.close()
        self._schema = self._schema or facts.schema_of(facts.without_filters(self.plan))
    return None if self._schema is None else Schema(self._schema)


def columns(self: Planned, fetch_if_missing: bool = True) -> list[str] | None:
    """The names of the columns; as `schema` it may run for them."""
    found = schema(self, fetch_if_missing)
    return None if found is None else list(found.names)


def num_blocks(self: Planned) -> int:
    """The number of blocks of a materialized dataset. Raises NotImplementedError for others."""
    if not isinstance(self.plan, nodes.Blocks):
        raise NotImplementedError(
            "Number of blocks is only available for `MaterializedDataset`: it is known when the dataset has run. "
            "Call `ds.materialize()` to get a `MaterializedDataset`."
        )
    return len(self.plan.blocks)


def size_bytes(self: Planned) -> int:
    """Bytes of the rows as Arrow tables: estimated from the metadata of files where that can be, else it runs."""
    known = facts.bytes_of(self.plan)
    return sum(handle.meta.nbytes for handle in self.handles()) if known is None else known


def input_files(self: Planned) -> list[str]:
    """The files that it reads."""
    return facts.files_of(self.plan)


def get_dataset_id(self: Planned) -> str:
    """A name of this dataset that no other dataset of this process has."""
    return f"{self._name or 'dataset'}_{id(self):x}"


def get_stats_summary(self: Planned, detail: bool = False) -> Any:
    """What the last run says of itself: its operators with their rows, bytes and times; None before the first. Of a
    run that goes on it is what is known until now."""
    return self.last_stats()


def stats(self: Planned) -> str:
    """Where the time of its last run went, or goes; an empty text before the first."""
    return shown.stats_text(self.last_stats())


def explain(self: Planned) -> None:
    """The plan is printed, as it was made and as it would run: its steps, and the operators with what their tasks want.
    It does not run."""
    best = optimized(self.plan)
    for title, text in (
        ("Logical Plan", logical(self.plan)),
        ("Logical Plan (Optimized)", logical(best)),
        ("Physical Plan", operators(physical(self.plan, fuses=False))),
        ("Physical Plan (Optimized)", operators(physical(best))),
    ):
        print(f"\n-------- {title} --------\n{text}")
    print()

"""Functions of users on rows and on batches: map, flat_map, filter and map_batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import GeneratorType
from typing import Any

import pyarrow as pa

from hpc.data.block import build
from hpc.data.block.batch import Batcher, rows, to_batch
from hpc.data.block.cells import Cells, of_arrays, of_rows
from hpc.data.block.cut import slice_rows
from hpc.data.block.views import filtered
from hpc.data.transform.base import TaskContext
from hpc.data.transform.udf import MOST_ROWS, Pieces, Udf

#: How many coroutines of a task run at a time: on rows, and on batches.
ASYNC_ROWS, ASYNC_BATCHES = 16, 4
#: batch_size="auto" makes batches of about so many bytes.
AUTO_BYTES = 32 << 20
BATCH_FORMATS = ("default", "numpy", "pandas", "pyarrow", "polars", None)


class UdfTransform:
    """Common to all transforms that call a function of a user."""

    verb = ""
    keeps_rows = False

    def __init__(self, fn: Any, **arguments: Any) -> None:
        self.udf = Udf(self.verb, fn, **arguments)

    @property
    def name(self) -> str:
        """As Ray names it: MapBatches(normalize)."""
        return f"{type(self).__name__.replace('Rows', '')}({self.udf.name})"

    def begin(self) -> None:
        """Make the object of a class. Raises what its constructor raises."""
        self.udf.begin()

    def bind(self, instance: Any) -> None:
        """Call this object, of the class that was given."""
        self.udf.bind(instance)


class MapRows(UdfTransform):
    """One row, a dict, gives one row."""

    verb = "map"

    def __init__(self, fn: Any, **arguments: Any) -> None:
        super().__init__(fn, **arguments)
        self.keeps_rows = self.udf.kind != "asyncgen"

    @property
    def name(self) -> str:
        return f"Map({self.udf.name})"

    def __call__(self, tables: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table]:
        return _row_tables(self.udf, tables, task, self._one)

    @staticmethod
    def _one(call: Callable[[Any], Any], items: Iterable[dict[str, Any]]) -> Iterator[Any]:
        return (call(item) for item in items)

    def few(self, given: Cells | pa.Table, task: TaskContext) -> Cells | pa.Table | None:
        """What becomes of few rows, without a table where their cells are plain. None where it must get tables."""
        udf = self.udf
        if udf.kind != "plain":
            return None
        call, made = udf.caller(), []
        try:
            for row in given.rows() if isinstance(given, Cells) else rows(given):
                made.append(call(row))
        except Exception as error:
            raise udf.failed(error, f"a row of {given.num_rows}, after {len(made)} results", task) from error
        return of_rows(made) or build.from_rows(made, udf.where)


class FlatMap(UdfTransform):
    """One row gives any number of rows: the function returns a list, or another iterable, of dicts."""

    verb = "flat_map"

    def __call__(self, tables: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table]:
        return _row_tables(self.udf, tables, task, self._many)

    def _many(self, call: Callable[[Any], Any], items: Iterable[dict[str, Any]]) -> Iterator[Any]:
        for item in items:
            yield from self._iterable(call(item))

    def _iterable(self, result: Any) -> Iterable[Any]:
        if not isinstance(result, Iterable):
            raise NotRows(f"{self.udf.where} returned {result!r}: it must return a list of rows, or another iterable")
        return result


class NotRows(TypeError):
    """A function has returned what holds no rows. This is no error inside of the function."""


def _row_tables(
    udf: Udf, tables: Iterator[pa.Table], task: TaskContext, results: Callable[..., Iterator[Any]]
) -> Iterator[pa.Table]:
    pieces = Pieces(udf.where)
    if udf.kind != "plain":
        flat = udf.verb == "flat_map" and udf.kind == "coroutine"
        yield from _async_rows(udf, tables, task, pieces, flat)
        return
    call = udf.caller()
    for table in tables:
        for part in slice_rows(table, MOST_ROWS):
            count = part.num_rows

            def failed(error: Exception, done: int, count: int = count) -> Exception:
                if isinstance(error, NotRows):
                    return error
                return udf.failed(error, f"a row of {count}, after {done} results", task)

            yield from pieces.tables(results(call, rows(part)), failed)


def _async_rows(
    udf: Udf, tables: Iterator[pa.Table], task: TaskContext, pieces: Pieces, flat: bool
) -> Iterator[pa.Table]:
    def items() -> Iterator[dict[str, Any]]:
        for table in tables:
            for part in slice_rows(table, MOST_ROWS):
                yield from rows(part)

    source = Upstream(items())
    yield from pieces.tables(
        (row for found in udf.results(source, ASYNC_ROWS, task) for row in (found[0] if flat else found)),
        lambda error, done: source.error or udf.failed(error, f"a row, after {done} results", task),
    )


class Upstream:
    """An iterator that keeps what it raised: so an error of the input is told from one of the function."""

    def __init__(self, source: Iterator[Any]) -> None:
        self.source = source
        self.error: Exception | None = None

    def __iter__(self) -> Upstream:
        return self

    def __next__(self) -> Any:
        try:
            return next(self.source)
        except StopIteration:
            raise
        except Exception as error:
            self.error = error
            raise


class FilterRows(UdfTransform):
    """The rows for which the function is true. They stay as they are."""

    verb = "filter"

    @property
    def name(self) -> str:
        return f"Filter({self.udf.name})"

    def __call__(self, tables: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table]:
        udf, call = self.udf, self.udf.caller()
        for table in tables:
            for part in slice_rows(table, MOST_ROWS):
                kept: list[bool] = []
                try:
                    if udf.kind == "plain":
                        for row in rows(part):
                            kept.append(bool(call(row)))
                    else:
                        kept = [bool(found[-1]) for found in udf.results(rows(part), ASYNC_ROWS, task) if found]
                except Exception as error:
                    raise udf.failed(error, f"row {len(kept)} of {part.num_rows}", task) from error
                yield part if all(kept) else filtered(part, pa.array(kept, pa.bool_()))


class MapBatches(UdfTransform):
    """A batch of rows gives any number of batches.

    batch_size: rows of a batch; None takes blocks as they come, "auto" as many as make a good size.
    udf_modifying_row_count: False says that a batch gives as many rows as it had; others are an error.
    Raises ValueError for a size below 1 and for an unknown format.
    """

    verb = "map_batches"

    def __init__(
        self,
        fn: Any,
        *,
        batch_size: int | str | None = None,
        batch_format: str | None = "default",
        zero_copy_batch: bool = True,
        udf_modifying_row_count: bool = True,
        **arguments: Any,
    ) -> None:
        super().__init__(fn, **arguments)
        if isinstance(batch_size, str):
            if batch_size != "auto":
                raise ValueError(f"batch_size is a number of rows, None or 'auto', not {batch_size!r}")
        elif batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
            raise ValueError(f"batch_size must be a positive number of rows, not {batch_size!r}")
        if batch_format not in BATCH_FORMATS:
            raise ValueError(f"batch_format is one of {BATCH_FORMATS}, not {batch_format!r}")
        self.batch_size = batch_size
        self.batch_format = batch_format
        self.zero_copy_batch = zero_copy_batch
        self.keeps_rows = not udf_modifying_row_count

    def __call__(self, tables: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table]:
        if self.udf.kind != "plain":
            return self._async(tables, task)
        return self._plain(tables, task)

    def few(self, given: Cells | pa.Table, task: TaskContext) -> Cells | pa.Table | Iterator[pa.Table] | None:
        """What becomes of few rows, which are one batch, without a table where the arrays are plain. None where it must
        get tables; the tables themselves where a generator gives them."""
        count, size = given.num_rows, self.batch_size
        is_one = size is None or (isinstance(size, int) and size >= count)
        if self.udf.kind != "plain" or not is_one or self.batch_format not in ("default", "numpy"):
            return None
        is_table = isinstance(given, pa.Table)
        batch = to_batch(given, "numpy", self.zero_copy_batch) if is_table else given.arrays(self.zero_copy_batch)
        try:
            result = self.udf.caller()(batch)
        except Exception as error:
            raise self._failed(error, count, task) from error
        if isinstance(result, GeneratorType):
            return self._several(result, given if is_table else given.table(), task)
        del batch  # else the arrays that it gives back seem to be held by somebody else
        made = of_arrays(result)
        if made is None:
            made = self.made(given if is_table else given.table(), result)
        self._check(count, made.num_rows)
        return made

    def _several(self, results: Iterator[Any], table: pa.Table, task: TaskContext) -> Iterator[pa.Table]:
        """The blocks of what a generator gives for a table."""
        given = 0
        for one in self._each(results, table.num_rows, task):
            made = self.made(table, one)
            given += made.num_rows
            yield made
            del made, one
        self._check(table.num_rows, given)

    def _plain(self, tables: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table]:
        call = self.udf.caller()
        for table in self._batches(tables):
            count, given = table.num_rows, 0
            batch = to_batch(table, self.batch_format, self.zero_copy_batch)
            try:
                result = call(batch)
            except Exception as error:
                raise self._failed(error, count, task) from error
            del batch
            for one in self._each(result, count, task) if isinstance(result, GeneratorType) else [result]:
                made = self.made(table, one)
                given += made.num_rows
                yield made
                del made, one
            del result, table
            self._check(count, given)

    def made(self, table: pa.Table, result: Any) -> pa.Table:
        """The block of what the function returned for a table. Raises ValueError for nonsense."""
        return build.table(result, self.udf.where)

    def _each(self, results: Iterator[Any], count: int, task: TaskContext) -> Iterator[Any]:
        """What a generator gives, with its errors told as those of the function."""
        while True:
            try:
                one = next(results)
            except StopIteration:
                return
            except Exception as error:
                raise self._failed(error, count, task) from error
            yield one
            del one

    def _async(self, tables: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table]:
        waiting: list[pa.Table] = []

        def batches() -> Iterator[Any]:
            for table in self._batches(tables):
                waiting.append(table)
                yield to_batch(table, self.batch_format, self.zero_copy_batch)

        source = Upstream(batches())
        results = self.udf.results(source, ASYNC_BATCHES, task)
        while True:
            try:
                found = next(results)
            except StopIteration:
                return
            except Exception as error:
                if source.error is not None:
                    raise source.error from None
                raise self._failed(error, waiting[0].num_rows if waiting else 0, task) from error
            table = waiting.pop(0)
            made = [self.made(table, one) for one in found]
            self._check(table.num_rows, sum(one.num_rows for one in made))
            del found, table
            yield from made

    def _batches(self, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        if self.batch_size is None:
            return (table for table in tables if table.num_rows)
        if isinstance(self.batch_size, int):
            return Batcher(self.batch_size).batches(tables)
        return self._auto(tables)

    @staticmethod
    def _auto(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """Batches of a size that follows from the first rows."""
        first = next((table for table in tables if table.num_rows), None)
        if first is None:
            return
        size = max(1, AUTO_BYTES * first.num_rows // max(1, first.nbytes))
        batcher = Batcher(size)
        yield from batcher.add(first)
        del first
        yield from batcher.batches(tables)

    def _check(self, count: int, given: int) -> None:
        if self.keeps_rows and count != given:
            raise ValueError(
                f"{self.udf.where} returned {given} rows for a batch of {count}, "
                "and udf_modifying_row_count=False says that it returns as many"
            )

    def _failed(self, error: Exception, count: int, task: TaskContext) -> Exception:
        views = self.zero_copy_batch and self.batch_format in ("default", "numpy") and isinstance(error, ValueError)
        hint = " (arrays of a batch are read-only views; zero_copy_batch=False gives copies)" if views else ""
        return self.udf.failed(error, f"a batch of {count} rows", task, hint)

"""Streams of tables as blocks of a size that is good to store and to send.

Where a block ends depends on the rows and the settings alone, not on the tables in which the rows come. So a task that
runs again, and reads or computes in other pieces, makes the same blocks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpc.data.block import promote

#: A block may grow to this much of the target before it is cut: two blocks of half the size are worse than one.
SLACK = 1.5


class Cutter:
    """Tables in, blocks of about `target_bytes` out, each of at least `min_rows` rows.

    target_bytes: None makes one block of all rows. step: blocks have a multiple of so many rows, where that many have
    no more bytes than a block may grow to. Batches of this size are blocks without a copy then, and blocks are batches.
    The blocks share memory with the tables: see `compact`. sizes: what other cutters have learned of the same rows.
    """

    def __init__(
        self, target_bytes: int | None, min_rows: int = 1, step: int = 1, sizes: RowSizes | None = None
    ) -> None:
        if target_bytes is not None and target_bytes < 1:
            raise ValueError(f"target_bytes must be positive or None, not {target_bytes}")
        self.target = target_bytes
        self.min_rows = max(1, min_rows)
        self.step = max(1, step)
        self.held: deque[tuple[pa.Table, int]] = deque()
        self.bytes = 0
        self.rows = 0
        self.sizes = sizes or RowSizes()

    def add(self, table: pa.Table) -> list[pa.Table]:
        """The blocks that are complete with this table."""
        if not table.num_rows:
            return []
        size = self.sizes.total(table)
        self.held.append((table, size))
        self.bytes += size
        self.rows += table.num_rows
        if self.target is None:
            return []
        blocks = []
        while self.bytes > self.target * SLACK and self.rows > self.min_rows:
            blocks.append(self._cut())
        return blocks

    def flush(self) -> list[pa.Table]:
        """The rows that are left, as a block, or none."""
        rest = [table for table, _ in self.held]
        self.held.clear()
        self.bytes = self.rows = 0
        return [promote.concat(rest)] if rest else []

    def _cut(self) -> pa.Table:
        """Take the longest run of rows from the front that has at most `target` bytes, but `min_rows` at least. It is a
        multiple of `step` if that can be."""
        assert self.target is not None
        rows = max(self._within(self.target), self.min_rows)
        if rows >= self.step:
            rows -= rows % self.step if rows - rows % self.step >= self.min_rows else 0
        elif self._within(int(self.target * SLACK)) >= self.step:
            rows = self.step
        return self._take(rows)

    def _within(self, room: int) -> int:
        """How many rows from the front have at most `room` bytes. There are more."""
        rows = 0
        for table, size in self.held:
            if size > room:
                return rows + self._fitting(table, size, room)
            rows += table.num_rows
            room -= size
        return rows

    def _take(self, rows: int) -> pa.Table:
        """A number of rows from the front."""
        parts: list[pa.Table] = []
        self.rows -= rows
        while rows:
            table, size = self.held.popleft()
            if rows < table.num_rows:
                table, rest = table.slice(0, rows), table.slice(rows)
                size = self.sizes.total(table)
                self.held.appendleft((rest, self.sizes.total(rest)))
            parts.append(table)
            self.bytes -= size
            rows -= table.num_rows
        return promote.concat(parts)

    def _fitting(self, table: pa.Table, size: int, room: int) -> int:
        """How many rows from the front of a table, which has more, have at most `room` bytes."""
        if room <= 0:
            return 0
        each = self.sizes.fixed(table.schema)
        if each is not None:
            return room // each
        # The front alone is looked at, as far as rows of the mean size would reach, and further if they are smaller.
        guess = int(room / size * table.num_rows * 1.25) + 16
        while (front := table.slice(0, guess)).num_rows < table.num_rows and self.sizes.total(front) <= room:
            guess *= 2
        return int(np.searchsorted(np.cumsum(self.sizes.rows(front)), room, side="right"))


class Cuts(Protocol):
    """Tables in, blocks out: by bytes, as `Cutter` does, or by rows."""

    def add(self, table: pa.Table) -> Iterable[pa.Table]:
        """The blocks that are complete with this table."""

    def flush(self) -> Iterable[pa.Table]:
        """What is left."""


def blocks_of(tables: Iterable[pa.Table], cutter: Cuts, columns: bool = True) -> Iterator[pa.Table]:
    """The blocks that a cutter makes of all tables. ``columns``: where no table has a row, the first one tells them."""
    empty, given = None, False
    for table in tables:
        if not table.num_rows:
            empty = table if empty is None else empty
        for block in cutter.add(table):
            given = True
            yield block
    for block in cutter.flush():
        given = True
        yield block
    if columns and not given and empty is not None:
        yield empty


def bounds_of_blocks(
    count: int, total: int, each: int | None, sizes: Callable[[], np.ndarray], target_bytes: int | None
) -> list[int]:
    """Where a `Cutter` would cut so many rows of so many bytes, with 0 and their number at the ends.

    each: the bytes of every row; None: ``sizes`` tells those of each row."""
    if target_bytes is None or total <= target_bytes * SLACK:
        return [0, count]
    ends = np.cumsum(sizes()) if each is None else np.zeros(0, np.int64)
    bounds, before = [0], 0
    while total - before > target_bytes * SLACK and count - bounds[-1] > 1:
        at = bounds[-1]
        if each is not None:
            end = at + max(1, target_bytes // each)
            before = end * each
        else:
            end = max(at + 1, int(np.searchsorted(ends, before + target_bytes, side="right")))
            before = int(ends[end - 1])
        bounds.append(end)
    return [*bounds, count]


class RowSizes:
    """The bytes of rows: widths of numbers, and lengths of texts and lists; validity bits do not count.

    A row has the same size in whatever table it lies, and the sizes of a table's rows sum up to that of the table.
    """

    def __init__(self) -> None:
        self.known: tuple[pa.Schema, int | None] | None = None

    def fixed(self, schema: pa.Schema) -> int | None:
        """The size of every row, if all rows of the schema have the same."""
        known = self.known
        if known is None or not (known[0] is schema or known[0].equals(schema)):
            widths = [width(kind) for kind in schema.types]
            known = self.known = (schema, None if None in widths else sum(w for w in widths if w is not None))
        return known[1]

    def total(self, table: pa.Table) -> int:
        """The size of all rows, in a time that does not grow with their number."""
        each = self.fixed(table.schema)
        if each is not None:
            return each * table.num_rows
        return sum(array_total(chunk) for column in table.columns for chunk in column.chunks)

    def rows(self, table: pa.Table) -> np.ndarray:
        """The size of each row."""
        sizes = np.zeros(table.num_rows, dtype=np.int64)
        for column in table.columns:
            at = 0
            for chunk in column.chunks:
                sizes[at : at + len(chunk)] += array_rows(chunk)
                at += len(chunk)
        return sizes


def width(kind: pa.DataType) -> int | None:
    """The bytes of a cell of this type, None if cells differ."""
    if isinstance(kind, pa.BaseExtensionType):
        return width(kind.storage_type)
    if pa.types.is_null(kind):
        return 0
    if pa.types.is_dictionary(kind):
        return width(kind.index_type)
    if pa.types.is_fixed_size_list(kind):
        inner = width(kind.value_type)
        return None if inner is None else inner * kind.list_size
    if pa.types.is_struct(kind):
        widths = [width(field.type) for field in kind]
        return None if None in widths else sum(w for w in widths if w is not None)
    if pa.types.is_boolean(kind):
        return 1
    if pa.types.is_primitive(kind) or pa.types.is_fixed_size_binary(kind) or pa.types.is_decimal(kind):
        return int(kind.byte_width)
    return None


#: What an end of a text or a list costs, as Arrow's 32-bit ends do.
END = 4


def array_total(array: pa.Array) -> int:
    """The size of all cells, in a time that does not grow with their number."""
    each = width(array.type)
    if each is not None:
        return each * len(array)
    inner, ends = _inside(array)
    if ends is None:
        return sum(array_total(part) for part in inner)
    first, last = int(ends[0]), int(ends[-1])
    if not inner:
        return END * len(array) + last - first
    return END * len(array) + sum(array_total(part.slice(first, last - first)) for part in inner)


def array_rows(array: pa.Array) -> np.ndarray:
    """The size of each cell."""
    each = width(array.type)
    if each is not None:
        return np.full(len(array), each, dtype=np.int64)
    inner, ends = _inside(array)
    if ends is None:
        return sum((array_rows(part) for part in inner), np.zeros(len(array), dtype=np.int64))
    lengths = np.diff(ends).astype(np.int64)
    if not inner:
        return END + lengths
    first, last = int(ends[0]), int(ends[-1])
    sizes = np.zeros(last - first + 1, dtype=np.int64)
    for part in inner:
        each = width(part.type)
        if each is not None:
            sizes[1:] += each
        else:
            sizes[1:] += array_rows(part.slice(first, last - first))
    reach = np.cumsum(sizes)
    return END + reach[ends[1:] - first] - reach[ends[:-1] - first]


def _inside(array: pa.Array) -> tuple[list[pa.Array], np.ndarray | None]:
    """The arrays that hold the cells' contents, and where each cell ends in them. Without ends, cell by cell."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _inside(array.storage)
    if pa.types.is_struct(kind):
        return [array.field(place) for place in range(kind.num_fields)], None
    if pa.types.is_fixed_size_list(kind):
        size = kind.list_size
        ends = (np.arange(len(array) + 1, dtype=np.int64) + array.offset) * size
        return [array.values], ends
    if pa.types.is_map(kind):
        return [array.keys, array.items], array.offsets.to_numpy()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [array.values], array.offsets.to_numpy()
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return [], _offsets(array, np.int32)
    if pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
        return [], _offsets(array, np.int64)
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        lengths = pc.fill_null(pc.binary_length(array.cast(pa.large_binary())), 0).to_numpy()
        return [], np.concatenate([[0], np.cumsum(lengths)])
    raise NotImplementedError(f"a column of the type {kind} cannot be cut: cast it to another type")


def _offsets(array: pa.Array, kind: type) -> np.ndarray:
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return np.zeros(len(array) + 1, dtype=kind)
    return np.frombuffer(buffer, dtype=kind)[array.offset : array.offset + len(array) + 1]


def slice_rows(table: pa.Table, rows: int) -> list[pa.Table]:
    """The table as views of at most so many rows each."""
    if table.num_rows <= rows:
        return [table]
    return [table.slice(at, rows) for at in range(0, table.num_rows, rows)]

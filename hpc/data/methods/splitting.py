"""Methods that divide a dataset: into others that are materialized, or into iterators that share one run."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

import hpc
from hpc.data import running
from hpc.data.block import compact
from hpc.data.block.meta import BlockMeta
from hpc.data.block.nanoseconds import python_values
from hpc.data.consume.sharing import Equal, check_equal
from hpc.data.expr.special import Draws
from hpc.data.iterator import DataIterator
from hpc.data.methods import consume, look, rows, staging
from hpc.data.plan import nodes
from hpc.data.plan.nodes import BlockHandle
from hpc.data.planned import D, Planned
from hpc.data.split import Passes, SplitIterator, coordinate
from hpc.data.transform.base import TaskContext

#: The column that says of each row to which part it goes, until it is dropped.
_PART = "__hpc_is_test"


def split(self: Planned, n: int, *, equal: bool = False, locality_hints: list[Any] | None = None) -> list[Any]:
    """``n`` materialized datasets of neighbouring blocks. It runs.

    ``equal``: all have the same number of rows, up to n - 1 rows are left out. Raises ValueError for wrong numbers."""
    if n <= 0:
        raise ValueError(f"The number of splits {n} is not positive.")
    if locality_hints is not None and len(locality_hints) != n:
        raise ValueError(f"The length of locality_hints {len(locality_hints)} doesn't equal the number of splits {n}.")
    blocks = _blocks(self)
    if equal:
        each = sum(block.meta.rows for block in blocks) // n
        return [self.kept(part) for part in _cut(blocks, [each * place for place in range(1, n + 1)])[:n]]
    ends = [0, *itertools.accumulate(len(part) for part in np.array_split(np.arange(len(blocks)), n))]
    return [self.kept(blocks[start:end]) for start, end in itertools.pairwise(ends)]


def split_at_indices(self: Planned, indices: list[int]) -> list[Any]:
    """Materialized datasets of the rows up to each index, and of those behind the last. It runs.

    Raises ValueError for indices that are not in order, or below 0."""
    if len(indices) < 1:
        raise ValueError("indices must be at least of length 1")
    if sorted(indices) != list(indices):
        raise ValueError("indices must be sorted")
    if indices[0] < 0:
        raise ValueError("indices must be positive")
    return [self.kept(part) for part in _cut(_blocks(self), indices)]


def split_proportionately(self: Planned, proportions: list[float]) -> list[Any]:
    """Materialized datasets of these parts of the rows, and of the rest. It runs.

    Raises ValueError for proportions that are not above 0, or whose sum is not below 1."""
    if len(proportions) < 1:
        raise ValueError("proportions must be at least of length 1")
    if sum(proportions) >= 1:
        raise ValueError("proportions must sum to less than 1")
    if any(part <= 0 for part in proportions):
        raise ValueError("proportions must be bigger than 0")
    whole = self.kept(_blocks(self))
    rows = look.count(whole)
    ends = [int(rows * end) for end in itertools.accumulate(proportions)]
    # No part may be empty: those in front give rows to those behind.
    for place in range(len(ends) - 1, -1, -1):
        ends[place] = min(ends[place], rows - len(ends) + place)
    if any(end <= before for before, end in itertools.pairwise([0, *ends])):
        raise ValueError("Couldn't create non-empty splits with the given proportions.")
    return split_at_indices(whole, ends)


def train_test_split(
    self: D, test_size: int | float, *, shuffle: bool = False, seed: int | None = None, stratify: str | None = None
) -> tuple[Any, Any]:
    """A dataset to train on, and one of the last ``test_size`` rows (a number, or a part of all). It runs.

    ``shuffle``: in a random order. ``stratify``: the same part of the rows with each value of a column.
    Raises ValueError for sizes of which nothing is left, TypeError for what is no number."""
    if not isinstance(test_size, (int, float)) or isinstance(test_size, bool):
        raise TypeError(f"`test_size` must be int or float got {type(test_size)}.")
    if isinstance(test_size, float) and not 0 < test_size < 1:
        raise ValueError(f"If `test_size` is a float, it must be bigger than 0 and smaller than 1. Got {test_size}.")
    if stratify is not None:
        if shuffle:
            raise ValueError("train_test_split takes rows of each group in their order: give stratify or shuffle")
        return _stratified(self, test_size, stratify)
    whole: Any = self
    data = whole.random_shuffle(seed=seed) if shuffle else self
    if isinstance(test_size, float):
        train, test = split_proportionately(data, [1 - test_size])
        return train, test
    there = look.count(data)
    if not 0 < test_size < there:
        raise ValueError(
            "If `test_size` is an int, it must be bigger than 0 and smaller than the size of the dataset "
            f"({there}). Got {test_size}."
        )
    train, test = split_at_indices(data, [there - test_size])
    return train, test


def streaming_train_test_split(
    self: D,
    test_size: float,
    *,
    split_type: Literal["hash", "random"] = "random",
    hash_column: str | None = None,
    seed: int | None = None,
    **ray_remote_kwargs: Any,
) -> tuple[D, D]:
    """Two datasets whose rows are told apart as they stream: at random, or by a hash of a column's values.

    Raises ValueError for a size that is not between 0 and 1, and for arguments that do not go together."""
    if not 0 < test_size < 1:
        raise ValueError("test_size must be between 0 and 1.")
    if split_type not in ("hash", "random"):
        raise ValueError(f"Invalid split type: {split_type}")
    if split_type == "hash" and hash_column is None:
        raise ValueError("hash_column is required for hash split")
    if split_type == "hash" and seed is not None:
        raise ValueError("seed is not supported for hash split")
    if split_type == "random" and hash_column is not None:
        raise ValueError("hash_column is not supported for random split")
    drawn = int(np.random.default_rng(seed).integers(2**31))  # both parts have the same, also without a seed
    options = staging.options(**ray_remote_kwargs)
    train, test = (
        self.derived(nodes.Apply(self.plan, TestRows(wanted, test_size, hash_column, drawn), None, options))
        for wanted in (False, True)
    )
    return train, test


class TestRows:
    """The rows that are for tests, or the others: the same in each run."""

    keeps_rows = False
    __test__ = False

    def __init__(self, wanted: bool, size: float, column: str | None, seed: int) -> None:
        self.draws = column is None
        self.wanted, self.size, self.column, self.seed = wanted, size, column, seed
        self.name = "TestRows" if wanted else "TrainRows"

    def __call__(self, tables: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table]:
        numbers = Draws(task, self.seed, reseed=False)
        for table in tables:
            if self.column is None:
                drawn = numbers.next(table.num_rows)
            else:
                drawn = fractions(table.column(self.column))
            yield table.filter(pa.array((drawn < self.size) == self.wanted))


def _stratified(self: D, test_size: int | float, column: str) -> tuple[Any, Any]:
    part = test_size / look.count(self) if isinstance(test_size, int) else test_size
    whole: Any = self
    marked = whole.groupby(column).map_groups(Marks(part), batch_format="pyarrow")
    both = consume.materialize(marked)
    return (
        rows.map_batches(both, Part(False), batch_format="pyarrow"),
        rows.map_batches(both, Part(True), batch_format="pyarrow"),
    )


class Marks:
    """Of a group the last rows are marked: they are for tests."""

    def __init__(self, part: float) -> None:
        self.part = part

    def __call__(self, table: pa.Table) -> pa.Table:
        first = int(table.num_rows * (1 - self.part))
        return table.append_column(_PART, pa.array(np.arange(table.num_rows) >= first))


class Part:
    """The rows with a mark, or those without, and no mark any more."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted

    def __call__(self, table: pa.Table) -> pa.Table:
        marks = table.column(_PART).to_numpy()
        return table.filter(pa.array(marks == self.wanted)).drop_columns([_PART])


def streaming_split(
    self: Planned, n: int, *, equal: Equal = False, locality_hints: list[str] | None = None
) -> list[DataIterator]:
    """``n`` iterators that share each run of the dataset: a block goes to whoever asks next.

    An actor on this node runs it. A pass begins when all have begun their loop; one that leaves its loop early stops
    nobody. Raises ValueError for wrong numbers.

    * ``equal``: all get the same number of rows. True and "drop" leave up to n - 1 rows out, "pad" gives as many twice.
    * ``locality_hints``: the ids of the nodes of the iterators. Each gets a block of its node first, if one waits."""
    check_equal(equal)
    if n <= 0:
        raise ValueError(f"The number of splits {n} is not positive.")
    if locality_hints is not None and len(locality_hints) != n:
        raise ValueError(f"The length of locality_hints {len(locality_hints)} doesn't equal the number of splits {n}.")
    actor = coordinate(Passes, n, self, n, equal, None if locality_hints is None else [*map(str, locality_hints)])
    return [SplitIterator(actor, rank, n, self._context) for rank in range(n)]


# ---------------------------------------------------------------- blocks, cut


def _blocks(self: Planned) -> list[BlockHandle]:
    """The blocks of a run that have rows; of a materialized dataset those that it has."""
    held = self.plan.blocks if isinstance(self.plan, nodes.Blocks) else self.handles()
    return [block for block in held if block.meta.rows]


def _cut(blocks: Sequence[BlockHandle], ends: Sequence[int]) -> list[list[BlockHandle]]:
    """The blocks up to each row, and those behind the last; blocks across an end are cut where they are."""
    parts: list[list[Any]] = [[] for _ in range(len(ends) + 1)]
    cuts: list[tuple[int, int, Any]] = []
    before, place = 0, 0
    for block in blocks:
        start, stop = before, before + block.meta.rows
        while place < len(ends) and ends[place] <= start:
            place += 1
        inside = [end for end in ends[place:] if end < stop]
        if not inside:
            parts[place].append(block)
        else:
            edges = [0, *(end - start for end in inside), block.meta.rows]
            pieces = hpc.remote(_pieces).options(num_returns=len(edges)).remote(block.ref, edges)
            for number, (ref, width) in enumerate(zip(pieces, np.diff(edges))):
                if width:
                    cuts.append((place + number, len(parts[place + number]), pieces[-1]))
                    parts[place + number].append((ref, number))
        before = stop
    for part, at, metas in cuts:
        ref, number = parts[part][at]
        parts[part][at] = BlockHandle(ref, hpc.get(metas)[number])
    return parts


def _pieces(table: pa.Table, edges: list[int]) -> list[Any]:
    """The pieces of a block, and at the end what is known of them."""
    cut = [compact.compact(table.slice(start, stop - start)) for start, stop in itertools.pairwise(edges)]
    metas: list[BlockMeta] = [running.meta_of(piece) for piece in cut]
    return [*cut, metas]


def fractions(column: pa.ChunkedArray) -> np.ndarray:
    """A number between 0 and 1 for each value: the same for equal values, in each run."""
    encoded = column.combine_chunks().dictionary_encode()
    numbers = [
        int.from_bytes(hashlib.blake2b(repr(value).encode(), digest_size=7).digest(), "big") / 2**56
        for value in python_values(encoded.dictionary)
    ]
    return np.append(np.array(numbers, dtype=float), 0.0)[encoded.indices.fill_null(-1).to_numpy()]

"""The order of rows in training: of seed and epoch alone, the same with each number of ranks, from any row on."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from hpc.data.aggregate import Count
from hpc.data.behind import without_first
from hpc.data.block.build import array_column
from hpc.data.block.flat import to_numpy
from hpc.data.consume.order import Order, RankRows
from hpc.data.consume.position import Position, fingerprint, position_of
from hpc.data.context import DataContext
from hpc.data.expressions import col, monotonically_increasing_id, random
from hpc.data.io.memory import RangeSource
from hpc.data.ordered import OrderedIterator, ordered_plan, with_own_seeds
from hpc.data.plan.interpret import interpret
from hpc.data.plan.nodes import (
    Apply,
    Exchanged,
    Limit,
    Mix,
    RandomizeBlocks,
    Read,
    Select,
    Skip,
    Union,
    WithColumns,
    Zip,
    walk,
)  # fmt: skip
from hpc.data.plan.steady import steady
from hpc.data.shuffle.aggregate import Aggregated
from hpc.data.shuffle.random import RandomShuffle
from hpc.data.transform.maps import FilterRows
from hpc.data.transform.sample import RandomSample

ROWS = 1000


def stream(order, at=0):
    """All rows in pieces of unequal size, in the order of an epoch, from a row on."""
    edges = [0, 7, 130, 131, 500, 777, ROWS]
    pieces = [np.arange(start, stop) for start, stop in itertools.pairwise(edges)]
    rows = np.concatenate([pieces[piece] for piece in order.pieces(len(pieces))])
    for start in range(at, ROWS, 111):
        yield pa.table({"id": rows[start : min(start + 111, ROWS)]})


def of_rank(order, rank, ranks, batch, start=0):
    cut = RankRows(order, rank, ranks, batch, start)
    tables = [part for table in stream(order, order.window_of(start)[1]) for part in cut.add(table)]
    return np.concatenate([table["id"].to_numpy() for table in [*tables, *cut.end()]] or [np.empty(0, int)])


def of_all(order, ranks, batch, start=0):
    """The rows of all ranks, batch after batch."""
    parts = [of_rank(order, rank, ranks, batch, start) for rank in range(ranks)]
    assert len({len(part) for part in parts}) == 1, "all ranks have as many rows"
    each = batch // ranks
    return np.concatenate([part[first : first + each] for first in range(0, len(parts[0]), each) for part in parts])


@pytest.mark.parametrize("seed", [None, 5])
def test_all_ranks_together_have_one_order_with_each_number_of_ranks(seed):
    order = Order(seed, 3, 64)
    whole = of_all(order, 1, 8)
    assert sorted(whole) == [*range(ROWS)] and (list(whole) == sorted(whole)) == (seed is None)
    for ranks, batch in ((2, 8), (4, 8), (8, 8), (3, 12), (4, 400)):
        assert list(of_all(order, ranks, batch)) == list(whole[: ROWS // ranks * ranks])


@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize("start", [8, 64, 440, 980])
def test_an_epoch_goes_on_from_any_row_with_another_number_of_ranks(seed, start):
    order = Order(seed, 0, 64)
    whole = of_all(order, 4, 8)
    for ranks in (2, 8):
        left = of_all(order, ranks, 8, start)
        assert list(left) == list(whole[start : start + len(left)]) and len(left) > ROWS - start - ranks


@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize("equal", ["drop", "pad", False])
def test_the_last_batch_leaves_rows_out_or_gives_them_twice_or_is_not_equal(seed, equal):
    order = Order(seed, 0, 64)
    for ranks in (1, 3, 7, 16):
        cuts = [RankRows(order, rank, ranks, 4 * ranks, 0, equal) for rank in range(ranks)]
        parts = [[row for one in (*map(cut.add, stream(order)), cut.end()) for table in one for row in
                  table["id"].to_pylist()] for cut in cuts]  # fmt: skip
        rows, counts = [row for part in parts for row in part], {len(part) for part in parts}
        each, more = divmod(ROWS, ranks)
        if equal == "drop":
            assert len({*rows}) == len(rows) and counts == {each}
        elif equal == "pad":
            assert {*rows} == {*range(ROWS)} and counts == {each + bool(more)}
        else:
            assert sorted(rows) == [*range(ROWS)] and counts == {each, each + bool(more)}


class OneRank(OrderedIterator):
    """The iterator of the second of two ranks, without a session."""

    def _flow(self):
        cut = RankRows(Order(None, 0, 64), 1, 2, 4, 0, False)
        rows = iter([*cut.add(pa.table({"id": range(7)})), *cut.end()])
        return SimpleNamespace(tables=rows, stop=lambda: None, close=lambda: None, count=lambda times: None)


def test_a_rank_whose_last_batch_is_shorter_is_at_the_end_of_all_rows():
    rank = OneRank(None, 1, 2, DataContext(), None, 64, False)
    seen = [(batch["id"].tolist(), rank.state_dict()["rows"]) for batch in rank.iter_batches(batch_size=2)]
    assert seen == [([2, 3], 4), ([6], 8)]


def test_epochs_and_seeds_have_different_orders():
    orders = [tuple(of_all(Order(seed, epoch, 64), 2, 8)) for seed, epoch in ((1, 0), (1, 1), (2, 0))]
    assert len({*orders}) == 3 and orders[0] == tuple(of_all(Order(1, 0, 64), 4, 8))


def test_rows_without_a_seed_are_views():
    table = pa.table({"id": np.arange(100)})
    (mine,) = RankRows(Order(None, 0, 8), 1, 2, 100).add(table)
    data = mine["id"].chunk(0).buffers()[1]
    assert mine["id"].to_pylist() == [*range(50, 100)] and data.address == table["id"].chunk(0).buffers()[1].address


def test_a_position_is_small_and_says_what_it_is_of():
    position = Position(fingerprint(["a", "b"]), 3, 1, 10**12)
    text = json.dumps(position.state())
    assert len(text) < 200 and position_of(json.loads(text)) == position
    assert len({fingerprint(words) for words in (["a", "b"], ["ab"], ["b", "a"])}) == 3
    for wrong in ({}, {"version": 9}, {"version": 1, "epoch": 0}):
        with pytest.raises(ValueError, match="position"):
            position_of(wrong)


RANGES = 10


def numbers(first=0, count=100):
    read = Read(RangeSource(count), parallelism=RANGES)
    return WithColumns(read, (("id", col("id") + first),)) if first else read


def evens():
    return Apply(numbers(), FilterRows(lambda row: row["id"] % 2 == 0))


#: Plans, and whether the metadata of their sources tells how many of their rows are before a row.
PLANS = {
    "source": (numbers, True),
    "filter": (evens, False),
    "sample": (lambda: Apply(numbers(), RandomSample(0.5, 1)), False),
    "union": (lambda: Union((numbers(), Select(numbers(100), ("id",)))), True),
    "zip": (lambda: Zip((numbers(), numbers(100))), True),
    "mix": (lambda: Mix((numbers(0, 1999), numbers(2000, 2900)), (0.3, 0.7)), True),
    "mix of unknown": (lambda: Mix((numbers(), evens()), (0.3, 0.7), "shortest"), False),
    "limit": (lambda: Limit(Union((numbers(), numbers(100))), 150), True),
    "shuffle": (lambda: Exchanged((numbers(),), RandomShuffle(3)), False),
    "blocks": (lambda: RandomizeBlocks(numbers(), 4), False),
    "sums": (lambda: Exchanged((numbers(),), Aggregated(("id",), (Count(),))), False),
    "above": (lambda: Select(Exchanged((numbers(),), RandomShuffle(3)), ("id",)), False),
    "drawn": (lambda: WithColumns(numbers(), (("id", col("id") + random(seed=3)),)), False),
    "counted": (lambda: Select(WithColumns(numbers(), (("id", monotonically_increasing_id()),)), ("id",)), False),
}


def ids_of(plan):
    return [row["id"] for table in interpret(plan) for row in table.to_pylist()]


@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize("name", PLANS)
def test_any_plan_goes_on_from_any_row_and_reads_as_little_as_can_be(name, seed):
    make, told = PLANS[name]
    found = ordered_plan(make(), Order(seed, 2, 64))
    whole = ids_of(found.rows)
    again = ordered_plan(make(), Order(seed, 2, 64))
    assert sorted(whole) == sorted(ids_of(steady(make())))
    assert ids_of(again.rows) == whole and again.fingerprint == found.fingerprint
    for start in (0, 1, 37, 60, 99, 145, 2345, len(whole), 5000):
        rest = without_first(found.rows, start)
        assert ids_of(rest) == whole[start:]
        skipped = [node.rows for node in walk(rest) if isinstance(node, Skip)]
        if told and 0 < start < len(whole):
            assert sum(skipped) < (512 if name == "mix" else 20), "parts before are read"
        elif 0 < start < len(whole):
            assert sum(skipped) == start


def test_epochs_shuffle_the_pieces_where_only_the_order_changes():
    for name in PLANS:
        one, two = (ids_of(ordered_plan(PLANS[name][0](), Order(5, epoch, 64)).rows) for epoch in (0, 1))
        moved = name in ("source", "filter", "union", "mix")
        assert (one != two) == moved and sorted(one) == sorted(two), name


def test_the_parts_of_a_union_come_in_turns():
    rows = ids_of(ordered_plan(PLANS["union"][0](), Order(5, 0, 64)).rows)
    halves = [row < 100 for row in rows]
    assert sum(one != other for one, other in itertools.pairwise(halves)) > 5


def test_orders_without_a_seed_follow_from_that_of_the_epoch_or_from_a_number():
    plan = Apply(Exchanged((RandomizeBlocks(numbers()),), RandomShuffle()), RandomSample(0.5))

    def order(seed, epoch, drawn):
        plans = with_own_seeds(plan, Order(seed, epoch, 8), drawn)
        return tuple(ids_of(ordered_plan(plans, Order(seed, epoch, 8)).rows))

    assert order(1, 0, 7) == order(1, 0, 8) and order(None, 0, 7) == order(None, 1, 7)
    assert len({order(1, 0, 7), order(1, 1, 7), order(2, 0, 7), order(None, 0, 7), order(None, 0, 8)}) == 5


def test_a_plan_has_a_fingerprint_of_its_nodes_seeds_and_data():
    order = Order(5, 0, 64)
    plans = [make() for make, _ in PLANS.values()]
    plans += [Exchanged((numbers(),), RandomShuffle(4)), numbers(0, 90), Limit(numbers(), 5)]
    assert len({ordered_plan(plan, order).fingerprint for plan in plans}) == len(plans)


def test_a_rank_takes_its_rows_without_pandas():
    """pyarrow imports it with the first array of numpy that it gets or gives: 0.2 s of CPU time in each rank."""
    program = """
import sys
import numpy as np, pyarrow as pa
from hpc.data.block.flat import row_numbers
from hpc.data.consume.order import Order, RankRows
from hpc.data.consume.views import numpy_batches
rows = RankRows(Order(3, 0, 64), 1, 2, 8)
table = pa.Table.from_arrays([row_numbers(np.arange(200))], ["id"])
batches = numpy_batches(iter([*rows.add(table), *rows.end()]), 4, False)
taken = [row for batch in batches for row in batch["id"].tolist()]
assert len(taken) == 100 and taken != sorted(taken) and len(set(taken)) == 100
print("pandas" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout.strip() == "False", ran.stderr


@pytest.mark.parametrize("name", ["i1", "u2", "i8", "f4", "f8"])
def test_numbers_are_viewed_as_arrow_does_it(name):
    for array in (pa.array(np.arange(9, dtype=name)).slice(2, 5), pa.array(np.arange(0, dtype=name))):
        ours, theirs = to_numpy(array), array.to_numpy(zero_copy_only=False)
        assert ours.dtype == theirs.dtype and ours.tolist() == theirs.tolist()
        assert not len(array) or not (ours.flags.writeable or theirs.flags.writeable)
        assert array_column(theirs.copy()).equals(pa.array(theirs)) and array_column(theirs[::2]).equals(
            pa.array(theirs[::2])
        )
    assert str(to_numpy(pa.array([1, None]))) == "[ 1. nan]" and to_numpy(pa.array([True])).tolist() == [True]

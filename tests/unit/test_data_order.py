"""The order of rows in training: of seed and epoch alone, the same with each number of ranks, from any row on."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pyarrow as pa
import pytest

from hpc.data.consume.order import Order, RankRows
from hpc.data.consume.position import Position, fingerprint, position_of
from hpc.data.ordered import ordered_plan

ROWS = 1000


def stream(order, at=0):
    """All rows in pieces of unequal size, in the order of an epoch, from the piece on that begins at a row."""
    edges = [0, 7, 130, 131, 500, 777, ROWS]
    pieces = [np.arange(start, stop) for start, stop in itertools.pairwise(edges)]
    rows = np.concatenate([pieces[piece] for piece in order.pieces(len(pieces))])
    for start in range(at, ROWS, 111):
        yield pa.table({"id": rows[start : min(start + 111, ROWS)]})


def of_rank(order, rank, ranks, batch, start=0, at=0):
    cut = RankRows(order, rank, ranks, batch, start, at)
    tables = [part for table in stream(order, at) for part in cut.add(table)]
    return np.concatenate([table["id"].to_numpy() for table in [*tables, *cut.end()]] or [np.empty(0, int)])


def of_all(order, ranks, batch, start=0, at=0):
    """The rows of all ranks, batch after batch."""
    parts = [of_rank(order, rank, ranks, batch, start, at) for rank in range(ranks)]
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
    at = order.window_of(start)[1] // 111 * 111  # only pieces behind are read again
    for ranks in (2, 8):
        left = of_all(order, ranks, 8, start, at)
        assert list(left) == list(whole[start : start + len(left)]) and len(left) > ROWS - start - ranks


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


def test_a_dataset_that_is_limited_keeps_its_rows_in_each_epoch():
    """In another order of the pieces other rows would be the first ones."""
    import hpc.data

    numbers = hpc.data.range(100, override_num_blocks=10)
    assert ordered_plan(numbers.plan, Order(5, 0, 64), 0).fingerprint
    for drawn in (numbers.limit(30), numbers.limit(30).select_columns(["id"]), numbers.random_sample(0.5, seed=1)):
        found = ordered_plan(drawn.plan, Order(5, 0, 64), 0)
        assert found.fingerprint == "" and found.plan is drawn.plan

"""Ranks that share a dataset: one run for all, equal parts, early leavers, an order that goes on with other ranks."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import hpc
from hpc import spi
from hpc.data import DataContext, range, read_parquet
from hpc.data.exec.runs import RUNS, RUNS_KEYS, SPACE, SWEEP_S
from hpc.data.ordered import ordered_split
from runtime.running import eventually, one_node


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    with one_node(num_cpus=2):
        DataContext.get_current().enable_progress_bars = False
        yield


def together(*loops):
    """Run functions at a time, and give what they return."""
    found = [None] * len(loops)

    def run(place):
        found[place] = loops[place]()

    threads = [threading.Thread(target=run, args=(place,), daemon=True) for place, _ in enumerate(loops)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a rank waits for ever"
    return found


def ids(iterator, batch=7):
    return [int(number) for one in iterator.iter_batches(batch_size=batch) for number in one["id"]]


def test_each_row_goes_to_one_rank_and_each_pass_is_for_all_of_them():
    for equal in (False, True):
        ranks = range(101).streaming_split(2, equal=equal)
        for _ in (1, 2):
            one, two = together(lambda: ids(ranks[0]), lambda: ids(ranks[1]))  # noqa: B023
            taken = sorted(one + two)
            assert len(taken) == len({*taken}) and set(taken) <= {*itertools.islice(itertools.count(), 101)}
            assert (len(one), len(two)) == (50, 50) if equal else len(taken) == 101
    assert ranks[0].schema().names == ["id"] and ranks[1].world_size() == 2


def test_the_stats_of_a_rank_have_what_all_ranks_did_with_their_batches():
    for ranks in (range(101).streaming_split(2, equal=True), ordered_split(range(101), 2, 7, 16)):
        together(lambda: ids(ranks[0], 10), lambda: ids(ranks[1], 10))  # noqa: B023
        for one in ranks:
            eventually(lambda: one.stats().count("* Rank ") == 2)  # noqa: B023
            lines = [line for line in one.stats().splitlines() if line.startswith("* Rank ")]
            assert [line.partition(",")[0] for line in lines] == ["* Rank 0: 5 batches", "* Rank 1: 5 batches"]
            assert all("own time" in line and "made ahead: waiting for blocks" in line for line in lines)


@pytest.mark.parametrize("split", [
    lambda rows, equal: rows.streaming_split(3, equal=equal),
    lambda rows, equal: ordered_split(rows, 3, 5, 64, equal),
])  # fmt: skip
def test_rows_are_left_out_or_come_twice_or_ranks_have_not_as_many(split):
    for equal, counts, kinds in (("drop", [33] * 3, 99), ("pad", [34] * 3, 100), (False, None, 100)):
        ranks = split(range(100), equal)
        parts = together(*(lambda one=one: ids(one) for one in ranks))
        assert counts is None or [len(part) for part in parts] == counts
        assert len({row for part in parts for row in part}) == kinds
    with pytest.raises(ValueError, match="'drop' or 'pad'"):
        split(range(3), "more")


def test_all_ranks_have_as_many_batches_of_odd_rows_with_a_local_shuffle():
    blocks = range(331, override_num_blocks=7).map_batches(lambda batch: batch, batch_size=None)
    for ranks in (blocks.streaming_split(3, equal=True), ordered_split(blocks, 3, 7, 64, "drop")):

        def sizes(rank):
            batches = rank.iter_batches(batch_size=10, local_shuffle_buffer_size=25, local_shuffle_seed=1)
            return [len(batch["id"]) for batch in batches]

        found = together(*(lambda rank=rank: sizes(rank) for rank in ranks))
        assert found == [[10] * 11] * 3


def test_a_rank_that_wants_no_pass_any_more_holds_no_other():
    ranks = range(60).streaming_split(3, equal=True)
    parts = together(*(lambda one=one: ids(one) for one in ranks))
    assert [len(part) for part in parts] == [20] * 3
    ranks[1].end()
    parts = together(lambda: ids(ranks[0]), lambda: ids(ranks[2]))
    assert [len(part) for part in parts] == [30] * 2

    def with_all(one):
        """A pass that begins before the rank has come back is still one of two ranks."""
        while len(found := ids(one)) == 30:
            pass
        return found

    parts = together(lambda: with_all(ranks[0]), lambda: ids(ranks[1]), lambda: with_all(ranks[2]))
    assert [len(part) for part in parts] == [20] * 3


def test_a_rank_that_leaves_its_loop_stops_nobody_and_comes_back_in_the_next():
    ranks = range(4000, override_num_blocks=40).streaming_split(2, equal=True)

    def leaves():
        for _ in ranks[0].iter_batches(batch_size=10, prefetch_batches=0):
            break
        return ids(ranks[0], 100)

    first, second = together(leaves, lambda: [ids(ranks[1], 100), ids(ranks[1], 100)])
    assert len(second[0]) > 3000 and len(first) == len(second[1]) == 2000


def test_iterators_go_to_ranks_in_other_processes():
    @hpc.remote
    def rank(iterator):
        return ids(iterator)

    parts = hpc.get([rank.remote(one) for one in range(50).streaming_split(2, equal=True)], timeout=60)
    assert sorted(parts[0] + parts[1]) == [*itertools.islice(itertools.count(), 50)]


def test_what_the_run_raises_is_raised_in_each_rank():
    def broken(row):
        raise KeyError("no such field")

    def fails(iterator):
        with pytest.raises(Exception, match="no such field"):
            ids(iterator)
        return True

    ranks = range(10).map(broken).streaming_split(2)
    assert together(*(lambda one=one: fails(one) for one in ranks)) == [True, True]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for number in (0, 1, 2, 3, 4):
        rows = list(itertools.islice(itertools.count(number * 200), 200))
        pq.write_table(pa.table({"id": rows}), folder / f"{number}.parquet", row_group_size=50)
    return str(folder)


def some(iterators, batches, states=None):
    """The global order of so many batches of each rank, and the positions behind them."""

    def loop(one, place):
        if states is not None:
            one.load_state_dict(json.loads(json.dumps(states[0])))
        found = []
        for batch in itertools.islice(one.iter_batches(batch_size=8 // len(iterators)), batches):
            found.append([int(number) for number in batch["id"]])
        return found, one.state_dict()

    ended = together(*(lambda one=one, place=place: loop(one, place) for place, one in enumerate(iterators)))
    order = [number for step in zip(*(found for found, _ in ended)) for part in step for number in part]
    return order, [state for _, state in ended]


def test_an_epoch_goes_on_with_other_ranks_in_the_order_of_one_run(files):
    """4 ranks stop in the middle; 2 and 8 go on: the order of all rows is that of one run."""
    whole, _ = some(ordered_split(read_parquet(files), 4, 3, 64), None)
    assert sorted(whole) == [*itertools.islice(itertools.count(), 1000)] != whole
    first, states = some(ordered_split(read_parquet(files), 4, 3, 64), 40)
    assert all(state == states[0] for state in states) and len(json.dumps(states[0])) < 1000
    for ranks in (2, 8):
        rest, after = some(ordered_split(read_parquet(files), ranks, 3, 64), None, states)
        assert first + rest == whole and (after[0]["epoch"], after[0]["rows"]) == (1, 0)
    mapped = read_parquet(files).map_batches(lambda batch: batch, udf_modifying_row_count=False)
    (one,) = ordered_split(mapped, 1, 3, 64)
    one.load_state_dict(states[0])
    with pytest.raises(ValueError, match="other data"):
        next(iter(one.iter_batches(batch_size=8)))


def pairs(rows):
    return rows.map_batches(lambda batch: {"id": batch["id"], "k": batch["id"] % 7}, udf_modifying_row_count=False)


COMPOSED = {
    "shuffle": lambda rows: rows.random_shuffle(),
    "seeded": lambda rows: rows.random_shuffle(seed=4).filter(lambda row: row["id"] % 3 > 0),
    "blocks": lambda rows: rows.randomize_block_order(),
    "union": lambda rows: rows.union(range(500).filter(lambda row: row["id"] % 2 > 0), rows.random_shuffle(seed=1)),
    "zip": lambda rows: rows.zip(range(1000).rename_columns({"id": "other"})),
    "mix": lambda rows: rows.mix(range(3000), weights=[0.4, 0.6]),
    "join": lambda rows: pairs(rows).join(range(700).rename_columns({"id": "k"}), "inner", 3, on=("k",)),
    "groups": lambda rows: pairs(rows).groupby("k").map_groups(lambda batch: {"id": batch["id"]}),
    "sample": lambda rows: rows.random_sample(0.5),
    "split": lambda rows: rows.streaming_train_test_split(0.3)[0],
    "limit": lambda rows: rows.limit(777),
}


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("name", COMPOSED)
def test_an_epoch_of_a_dataset_that_is_put_together_goes_on_with_other_ranks(files, name, seed):
    dataset = COMPOSED[name](read_parquet(files))
    first, (state, other) = some(ordered_split(dataset, 2, seed, 64), 25)
    assert state == other and len(json.dumps(state)) < 1000 and len(first) == state["rows"] == 200
    for ranks in (1, 4):
        rest, after = some(ordered_split(dataset, ranks, seed, 64), None, [state])
        whole, _ = some(ordered_split(dataset, ranks, seed, 64), None, [{**state, "rows": 0}])
        assert first + rest == whole and after[0]["epoch"] == 1 and after[0]["drawn"] is None


def test_an_order_without_a_seed_is_another_one_in_each_epoch_and_follows_a_seed_where_there_is_one():
    def epochs(seed):
        (one,) = ordered_split(range(200).random_shuffle(), 1, seed, 64)
        return [ids(one), ids(one)]

    free, bound = epochs(None) + epochs(None), epochs(3)
    assert len({tuple(order) for order in free + bound}) == 6 and bound == epochs(3)


def test_runs_of_all_processes_share_the_store_and_those_of_dead_ones_are_forgotten():
    def share():
        RUNS.look()
        return RUNS.begin(over)()

    class Over:
        ended = True

    over = Over()
    mine = RUNS.announce()
    try:
        for number in (1, 2, 3):
            spi.kv_put(SPACE, f"{RUNS_KEYS}7.77/{number}", b"1")
        eventually(lambda: share() <= 1 / 3)
        RUNS.sweep(SWEEP_S * 1e6)
        eventually(lambda: not spi.kv_keys(SPACE, f"{RUNS_KEYS}7.77"))
        eventually(lambda: share() > 1 / 3)
    finally:
        RUNS.withdraw(mine)
    assert mine not in spi.kv_keys(SPACE, RUNS_KEYS)

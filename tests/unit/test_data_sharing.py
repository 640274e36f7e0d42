"""How ranks share the blocks of a run: each row once, equal numbers where wanted, no waiting for one that left."""

from __future__ import annotations

import random
import threading
from types import SimpleNamespace

import pytest

from hpc.data import split
from hpc.data.consume.sharing import Copies, Sharing


def play(sizes, ranks, equal, chance, leaves=None):
    """Blocks come while there is room, and ranks ask at random. Returns the rows of each rank, and the sharing."""
    sharing, coming, rows = Sharing(ranks, equal), [*sizes], {rank: [] for rank in range(ranks)}
    base = dict(enumerate([sum(sizes[:at]) for at in range(len(sizes))]))
    number, idle = 0, 0
    while not all(sharing.has_all(rank) for rank in range(ranks)):
        while coming and not sharing.is_full():
            sharing.put(number, coming.pop(0))
            number += 1
        if not coming and not sharing.is_over:
            sharing.end()
        rank = chance.randrange(ranks)
        if leaves == rank and len(rows[rank]) > 20:
            sharing.leave(rank)
        piece = sharing.take(rank)
        idle = idle + 1 if piece is None else 0
        assert idle < 2000, "somebody waits for ever"
        if piece is not None:
            rows[rank] += range(base[piece.block] + piece.start, base[piece.block] + piece.stop)
    return rows, sharing


@pytest.mark.parametrize("equal", [False, True])
def test_each_row_goes_to_one_rank(equal):
    for seed in range(40):
        chance = random.Random(seed)
        sizes = [chance.choice([0, 1, 5, 40, 200]) for _ in range(chance.randrange(30))]
        ranks = chance.randrange(1, 6)
        rows, _ = play(sizes, ranks, equal, chance)
        taken = [row for mine in rows.values() for row in mine]
        assert len(taken) == len({*taken})
        if equal:
            assert {len(mine) for mine in rows.values()} == {sum(sizes) // ranks}
        else:
            assert len(taken) == sum(sizes)


def test_rows_come_twice_so_that_none_is_left_out_and_all_have_as_many():
    for seed in range(60):
        chance = random.Random(seed)
        sizes = [chance.choice([0, 1, 2, 40, 200]) for _ in range(chance.randrange(30))]
        ranks = chance.randrange(1, 6)
        rows, _ = play(sizes, ranks, "pad", chance)
        taken = [row for mine in rows.values() for row in mine]
        assert {*taken} == {*range(sum(sizes))} and len(taken) < sum(sizes) + ranks
        assert {len(mine) for mine in rows.values()} == {-(-sum(sizes) // ranks)}


def test_a_rank_gets_a_block_of_its_node_and_else_one_of_nobodys_node():
    sharing = Sharing(2, False, ["1", "2"])
    for number, node in enumerate(["2", "1", "3", "2", "2"]):
        sharing.put(number, 10, node)
    assert [sharing.take(0).block for _ in range(2)] == [1, 2]  # type: ignore[union-attr]
    assert [sharing.take(1).block, sharing.take(0).block] == [0, 3]  # type: ignore[union-attr]
    assert Sharing(2, False, ["1", "2"]).take(0) is None


def test_one_that_leaves_stops_nobody_and_the_others_have_equal_parts():
    for seed in range(20):
        rows, sharing = play([10] * 50, 3, True, random.Random(seed), leaves=1)
        assert len(rows[0]) == len(rows[2]) > 200 and 1 not in sharing.given


def test_one_that_stops_asking_holds_the_others_before_memory_fills():
    sharing = Sharing(2, True)
    taken = 0
    for block in range(100):
        if sharing.is_full():
            break
        sharing.put(block, 10)
        while sharing.take(0):
            taken += 10
    assert block < 10 and taken < 100
    sharing.leave(1)
    assert sharing.take(0) is not None


class Run:
    """A run of so many blocks."""

    def __init__(self, blocks):
        meta = SimpleNamespace(rows=10)
        self.blocks = iter([SimpleNamespace(ref=number, meta=meta, node="") for number in range(blocks)])

    def __iter__(self):
        return self.blocks

    def close(self):
        pass


@pytest.mark.parametrize(
    "sharing", [lambda ranks, equal, nodes=None: Sharing(ranks, equal), lambda ranks, equal, nodes=None: Copies(ranks)]
)
def test_ranks_that_wait_for_one_that_has_ended_in_its_loop_are_told_which(monkeypatch, sharing):
    monkeypatch.setattr(split, "SAY_S", 0.05)
    monkeypatch.setattr(split, "Sharing", sharing)
    monkeypatch.setattr(split, "speak_here", lambda: None)
    said = threading.Event()
    monkeypatch.setattr(split.logger, "warning", lambda text, *args: (told.append(text % args), said.set()))
    told: list[str] = []
    passes = split.Passes(SimpleNamespace(begin=lambda: Run(100), _ended=lambda run: None), 2, True)
    other = threading.Thread(target=passes.begin, args=(1,))
    other.start()
    number, _ = passes.begin(0)
    other.join()
    told.clear()  # one of them may have waited for the other
    said.clear()

    def take_all() -> None:
        while passes.take(0, number):
            pass

    rank = threading.Thread(target=take_all, daemon=True)
    rank.start()
    assert said.wait(10.0), "rank 0 waits without a word"
    assert "ranks [0] of a pass" in told[0] and "wait for ranks [1], which take no more rows" in told[0]
    passes.leave(1, number)
    rank.join(10.0)
    assert not rank.is_alive()

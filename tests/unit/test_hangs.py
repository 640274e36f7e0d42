"""For whom ranks wait, found from what each knows of its groups."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.core.policy.hangs import GroupRow, Sighting, find_hang, report, waits_of

LIMIT_S = 10.0


def test_a_circle_is_one_hang_whichever_of_its_waits_seems_the_longest_now():
    """Ranks are asked one after the other, so that of waits that began together each is the longest by turns."""

    def seen(first_s: float, second_s: float, number: int = 3):
        return find_hang(
            {
                0: [row("a", 0, 2, number, number, first_s), row("b", 0, 2, 0)],
                1: [row("a", 1, 2, number - 1), row("b", 1, 2, 1, 1, second_s)],
            },
            LIMIT_S,
        )

    told = seen(20.0, 20.1)
    assert told.kind == "circle"
    assert told.longest.row.group != seen(22.1, 22.0).longest.row.group
    assert seen(22.1, 22.0).is_still(told)
    assert seen(22.0, 22.1).is_still(told)
    assert not seen(22.1, 0.0, 4).is_still(seen(20.1, 20.0))


def row(
    group: str, me: int, size: int, number: int, first: int = 0, waits_s: float = 0.0, operation="allreduce", **more
):
    return GroupRow(group, me, size, number, first, operation if first else "", waits_s, title=f"group {group}", **more)


def run(
    programs: Sequence[Sequence[str]], stuck: dict[int, int], groups: dict[str, list[int]]
) -> dict[int, list[GroupRow]]:
    """Ranks do their operations, each with its group, until nobody can go on. ``stuck``: the operation before which a
    rank hangs. What each knows then."""
    at = [0] * len(programs)
    begun = {name: dict.fromkeys(members, 0) for name, members in groups.items()}
    inside: dict[int, str] = {}
    moved = True
    while moved:
        moved = False
        for rank, program in enumerate(programs):
            if rank not in inside and at[rank] < len(program) and stuck.get(rank) != at[rank]:
                inside[rank] = program[at[rank]]
                begun[program[at[rank]]][rank] += 1
                moved = True
        for name, members in groups.items():
            numbers = [begun[name][member] for member in members if inside.get(member) == name]
            if len(numbers) == len(members) and len(set(numbers)) == 1:
                for member in members:
                    del inside[member]
                    at[member] += 1
                moved = True
    return {
        rank: [
            row(
                name, members.index(rank), len(members), begun[name][rank],
                begun[name][rank] if inside.get(rank) == name else 0, 2 * LIMIT_S, ranks=tuple(members),
            )
            for name, members in groups.items()
            if rank in members
        ]
        for rank in range(len(programs))
    }  # fmt: skip


@given(st.data())
def test_the_ranks_that_are_named_are_those_that_hang_however_the_waits_lead_to_them(data):
    world = data.draw(st.integers(2, 6))
    subsets = st.lists(st.integers(0, world - 1), min_size=2, max_size=world, unique=True).map(sorted)
    groups = {"all": list(range(world))} | {
        f"g{i}": members for i, members in enumerate(data.draw(st.lists(subsets, max_size=3)))
    }
    order = data.draw(st.lists(st.sampled_from(sorted(groups)), min_size=1, max_size=8))
    programs = [[name for name in order if rank in groups[name]] for rank in range(world)]
    rank = data.draw(st.integers(0, world - 1))
    stuck = {rank: data.draw(st.integers(0, len(programs[rank])))}
    rows = run(programs, stuck, groups)
    hang = find_hang(rows, LIMIT_S)
    if any(one.waits for its in rows.values() for one in its):
        assert hang is not None and hang.kind == "missing" and hang.culprits == (rank,)
        assert all(wait.rank != rank for wait in hang.waits)
    else:
        assert hang is None


@given(st.lists(st.floats(0, LIMIT_S, exclude_max=True), min_size=1, max_size=5))
def test_nobody_is_named_before_others_have_waited_for_the_limit(waits):
    world = len(waits) + 1
    rows = {r: [row("all", r, world, 3, 3, waits_s)] for r, waits_s in enumerate(waits)} | {len(waits): []}
    assert find_hang(rows, LIMIT_S) is None


def test_a_rank_that_does_not_answer_at_all_is_named_where_the_group_knows_its_ranks():
    rows = {0: [row("all", 0, 3, 7, 7, 11.0, ranks=(0, 1, 2))], 2: [row("all", 2, 3, 7, 7, 12.0, ranks=(0, 1, 2))]}
    hang = find_hang(rows, LIMIT_S)
    assert hang is not None and (hang.kind, hang.culprits, hang.begun) == ("missing", (1,), (-1,))


def test_ranks_that_wait_for_each_other_are_a_circle():
    rows = {
        0: [row("a", 0, 2, 2, 2, 20.0), row("b", 0, 2, 1)],
        1: [row("a", 1, 2, 1), row("b", 1, 2, 2, 2, 20.0)],
        2: [row("c", 0, 2, 1)],
    }
    hang = find_hang(rows, LIMIT_S)
    assert hang is not None and (hang.kind, hang.culprits) == ("circle", (0, 1))
    assert "rank 0 in allreduce number 2 of group a for rank 1" in report(hang, {})


def test_ranks_that_all_came_and_call_different_operations_are_told_what_each_calls():
    rows = {
        r: [row("a", r, 2, 4, 4, 20.0, op)] for r, op in enumerate(("allreduce of 3 float", "broadcast of 3 float"))
    }
    hang = find_hang(rows, LIMIT_S)
    assert hang is not None and (hang.kind, hang.culprits) == ("differ", (0, 1))
    assert "rank 0 calls allreduce of 3 float; rank 1 calls broadcast of 3 float" in report(hang, {})


def test_an_operation_that_does_not_end_though_all_have_come_accuses_nobody():
    rows = {r: [row("a", r, 2, 4, 4, 20.0)] for r in range(2)}
    hang = find_hang(rows, LIMIT_S)
    assert hang is not None and (hang.kind, hang.culprits) == ("together", ())
    assert "all have come" in report(hang, {})


def test_a_rank_waits_for_the_one_that_is_to_send_and_for_no_other():
    rows = {
        0: [row("a", 0, 3, 1, waits_s=20.0, peer=2, ranks=(0, 1, 2))],
        1: [row("a", 1, 3, 0)],
        2: [row("a", 2, 3, 0)],
    }
    assert [wait.missing for wait in waits_of(rows)] == [(2,)]
    hang = find_hang(rows, LIMIT_S)
    assert hang is not None and hang.culprits == (2,)


def test_the_report_says_who_waits_in_what_and_where_the_missing_rank_is():
    rows = {r: [row("all", r, 4, 8, 8, 20.0 + r)] for r in (0, 1, 3)} | {2: [row("all", 2, 4, 7)]}
    hang = find_hang(rows, LIMIT_S)
    assert hang is not None
    known = {2: Sighting("node 2 (nid0042)", "it uses 0 % of a core", 'File "x.py", line 3, in f\n  lock.acquire()')}
    assert report(hang, known).splitlines() == [
        "rank 2 on node 2 (nid0042) has not come for 23 s: ranks 0, 1, 3 wait in allreduce number 8 of group all",
        "  rank 2 on node 2 (nid0042): it has begun 7 of the 8 operations there; it uses 0 % of a core",
        '    File "x.py", line 3, in f',
        "      lock.acquire()",
    ]


@pytest.mark.parametrize("ranks", [range(1), range(8), range(20)])
def test_many_ranks_are_not_listed_in_full(ranks):
    from hpc.core.policy.hangs import numbers

    assert len(numbers(list(ranks)).split(",")) <= 8

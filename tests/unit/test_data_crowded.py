"""Runs of datasets where others hold all CPUs, and runs that need not keep the order of rows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from unit.test_data_exec import begin, machine, meta, read

from hpc.data.exec import shell
from hpc.data.exec.actions import Cancel, Emit, Report, StartActor, StopActor, Submit
from hpc.data.exec.crowded import DOUBT_S, PATIENCE_S
from hpc.data.exec.loosen import loosen
from hpc.data.exec.operators import Operator
from hpc.data.exec.operators.combine import MixOperator, RandomizeOperator, UnionOperator
from hpc.data.exec.operators.exchange import ExchangeOperator
from hpc.data.exec.operators.maps import LimitOperator, MapOperator, ResizeOperator
from hpc.data.plan.nodes import Options, Pool
from hpc.data.shuffle.random import RandomShuffle
from hpc.data.shuffle.sort import Sort

FULL = [({"CPU": 0.0}, {"CPU": 2.0})]
LATE = 2 * PATIENCE_S


def decided(made: Any, now: float, kind: type) -> list[Any]:
    return [action for action in made.decide(now) if isinstance(action, kind)]


def test_a_task_that_waits_for_a_cpu_that_others_keep_takes_none_after_a_while():
    op = read()
    made = machine(op, cpus=4.0, store=1 << 40)
    works = [submit.work for submit in begin(made, op, 4)]
    made.free = FULL
    assert not made.crowded.is_due(PATIENCE_S / 2, 0.0) and made.crowded.is_due(LATE, 0.0)
    made.crowded.looked()
    actions = made.decide(LATE)
    (gone,) = [action.work for action in actions if isinstance(action, Cancel)]
    submitted = [action.work for action in actions if isinstance(action, Submit)]
    assert gone is works[0] and [work.shares for work in submitted] == [True]
    assert submitted[0].part is gone.part and made.crowded.is_on
    (said,) = [action.text for action in actions if isinstance(action, Report)]
    assert "others hold the CPUs (it wants 1 CPU, and no node has more than 0 CPU free)" in said
    # The next one goes the same way at once, and without words.
    (shared,) = submitted
    made.begun(shared, "1")
    assert not made.crowded.is_due(LATE, LATE)  # one at a time
    made.part_over(shared)
    made.over(shared, 0.1, 0, {})
    assert made.crowded.is_due(LATE, LATE)
    made.crowded.looked()
    actions = made.decide(LATE)
    assert [a.work.shares for a in actions if isinstance(a, Submit)].count(True) == 1
    assert not any(isinstance(action, Report) for action in actions)
    # Others have let go of a CPU.
    made.begun(works[2], "1")
    assert not made.crowded.is_on


@pytest.mark.parametrize(
    ("options", "free", "placed", "shares"),
    [
        (None, FULL, False, True),
        (None, FULL, True, False),  # its worker imports what it needs
        (Options(num_cpus=3), FULL, False, False),  # no node has ever room
        (Options(num_gpus=1), FULL, False, False),
        (Options(remote={"resources": {"disk": 1}}), FULL, False, False),
        (Options(remote={"resources": {"disk": 1}}), [({"CPU": 0.0, "disk": 1.0}, {"CPU": 2.0})], False, True),
        (Options(remote={"max_retries": 0}), FULL, False, False),
        (None, [({"CPU": 1.0}, {"CPU": 2.0})], False, False),  # in a moment it begins
        (None, [], False, False),
    ],
)
def test_only_what_lacks_nothing_but_a_cpu_takes_none(options, free, placed, shares):
    op = read(options)
    made = machine(op, cpus=4.0)
    for submit in begin(made, op, 1):
        submit.work.placed = placed
    made.free = free
    made.crowded.looked()
    assert [action.work.shares for action in made.decide(LATE) if isinstance(action, Submit)] == [True] * shares


def test_a_task_that_does_not_begin_although_there_seems_to_be_room_takes_no_cpu_later():
    op = read()
    made = machine(op)
    begin(made, op, 1)
    made.free = [({"CPU": 2.0}, {"CPU": 2.0})]
    for now, count in ((LATE, 0), (DOUBT_S + 1, 1)):
        made.crowded.looked()
        assert len(decided(made, now, Cancel)) == count


def test_it_is_not_said_that_others_hold_cpus_which_are_free():
    op = read()
    made = machine(op)
    begin(made, op, 1)
    made.free = [({"CPU": 2.0}, {"CPU": 2.0})]
    made.crowded.looked()
    (said,) = decided(made, DOUBT_S + 1, Report)
    assert "others hold" not in said.text and "although a node has 2 CPU free" in said.text


def test_what_a_run_has_cancelled_is_forgotten_when_it_has_ended(monkeypatch):
    class Generator:
        def __init__(self, name: str) -> None:
            self.name = name

        def completed(self) -> str:
            return f"end of {self.name}"

    over = {"end of a", "end of c"}
    waits: list[Any] = []
    monkeypatch.setattr(
        shell.hpc, "wait", lambda refs, **more: (waits.append(refs), ([r for r in refs if r in over], []))[1]
    )
    items = {"a": [("a's error", True)], "c": [], "b": [("b's error", True)]}
    made = object.__new__(shell.Shell)
    made._arrivals = SimpleNamespace(take=lambda one: items[one.name].pop() if items[one.name] else None)
    made._dropped, made._finished = [Generator(name) for name in "abc"], False
    made._see_errors(0.0)
    assert [one.name for one in made._dropped] == ["b"] and waits == [
        ["end of a", "end of b", "end of c"],
        ["a's error"],
    ]
    made._finished = True
    made._see_errors(0.0)
    assert made._dropped == [] and waits[-1] == ["b's error"], "at the end of a run it is looked at in any case"


@pytest.mark.parametrize(
    ("still_s", "is_made", "looks"), [(2.0, False, False), (11.0, True, False), (11.0, False, True)]
)
def test_a_run_waits_for_the_environment_of_its_workers(monkeypatch, still_s, is_made, looks):
    """It said that others held the CPUs, and had its tasks take none, after ten seconds of that."""
    made = object.__new__(shell.Shell)
    op = read()
    made.machine = machine(op)
    begin(made.machine, op, 1)
    made._starting, made._streams = {}, {}
    monkeypatch.setattr(shell, "workers_start", lambda: True)
    monkeypatch.setattr(shell, "environment_is_made", lambda: is_made)
    monkeypatch.setattr(shell.spi, "rooms", list)
    made._look_for_workers(still_s)
    assert made.machine.crowded._looked == looks


def test_tasks_that_wait_for_others_of_their_run_take_no_cpu_of_them():
    op = read()
    made = machine(op, cpus=4.0, store=1 << 40)
    works = [submit.work for submit in begin(made, op, 4)]
    made.free = FULL
    works[0].placed = works[1].placed = True  # their workers import what they need, for long
    made.crowded.looked()
    assert made.decide(LATE) == [] and not made.crowded.is_on
    works[0].placed = works[1].placed = False  # others have the CPUs now
    made.crowded.looked()
    assert len(decided(made, LATE, Cancel)) == 1


def test_one_actor_of_a_pool_takes_no_cpu_where_none_has_a_place():
    source, op = read(), MapOperator("Map(infer)", None, Options(num_cpus=1), Pool(2, 2))
    made = machine(source, op)
    made.units(source, [], False)
    assert len(decided(made, 0.0, StartActor)) == 2
    made.free = FULL
    made.crowded.looked()
    actions = made.decide(LATE)
    (stopped,) = [action.actor for action in actions if isinstance(action, StopActor)]
    (started,) = [action.actor for action in actions if isinstance(action, StartActor)]
    assert started.shares and not stopped.shares and made.pools[op.index].count == 2
    made.crowded.looked()
    assert not decided(made, 2 * LATE, StartActor)


def chain(*ops: Operator) -> None:
    machine(*ops)
    loosen([*ops, ops[-1].down], True)


def test_blocks_pass_as_they_are_made_where_no_order_is_wanted():
    for asked in (False, True):
        op = read()
        made = machine(op, store=1 << 40)
        loosen(made.ops, asked)
        first, second = (submit.work for submit in begin(made, op, 2))
        for work in (first, second):
            made.begun(work, "1")
        made.block(second, "second", meta(1))
        assert [one.block.ref for one in decided(made, 1.0, Emit)] == ["second"] * asked
        made.block(first, "first", meta(1))
        made.part_over(first)
        assert [one.block.ref for one in decided(made, 1.0, Emit)] == ["first", "second"][: 2 - asked]


def test_what_can_tell_the_order_of_its_input_gets_it():
    def exchange(of: Any) -> ExchangeOperator:
        return ExchangeOperator("Exchange", of, 1, partitions=None, options=None, target_bytes=None, nodes=["1"])

    numbered = MapOperator("Draw", None)
    numbered.numbered = 0
    kept = [LimitOperator("Limit", 5), MixOperator("Mix", (1.0,), False), numbered, exchange(Sort(()))]
    kept += [exchange(RandomShuffle(seed=3)), RandomizeOperator("Blocks", 3)]
    for below in kept:
        op = read()
        chain(op, MapOperator("Map", None), below)
        assert op.order.keeps and op.down.order.keeps
    for below in (UnionOperator("Union", 1), ResizeOperator("Resize", 5, True), exchange(RandomShuffle())):
        op = read()
        chain(op, MapOperator("Map", None), below)
        assert not op.order.keeps and not op.down.order.keeps
    for drawn in (exchange(RandomShuffle()), RandomizeOperator("Blocks", 3, True)):
        op = read()
        made = machine(op, drawn)
        loosen(made.ops, False)  # a random order without a seed needs none, whatever the user says
        assert not op.order.keeps and drawn.order.keeps


def test_what_is_sorted_or_drawn_by_a_seed_stays_so_where_no_order_is_wanted():
    def exchange(of: Any) -> ExchangeOperator:
        return ExchangeOperator("Exchange", of, 1, partitions=None, options=None, target_bytes=None, nodes=["1"])

    for above in (exchange(Sort(())), exchange(RandomShuffle(seed=3)), RandomizeOperator("Blocks", 3)):
        below = MapOperator("Map", None)
        chain(read(), above, below)
        assert above.order.keeps and below.order.keeps
    sort, drawn, below = exchange(Sort(())), exchange(RandomShuffle()), MapOperator("Map", None)
    chain(read(), sort, drawn, below)  # nothing is left of the sort's
    assert not (sort.order.keeps or drawn.order.keeps or below.order.keeps)

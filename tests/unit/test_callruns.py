"""Many calls of one method as one record: what joins a run, what it is answered with, and what makes it calls again."""

from __future__ import annotations

from typing import Any

import pytest

from hpc.core.callruns import add_result, calls_of, place_in
from hpc.core.ids import Address, ids_from, make_id
from hpc.core.owner.leases import BATCH
from hpc.core.owner.machine import OwnerMachine
from hpc.core.owner.tables import CallKind, Shape, Waiter
from hpc.core.resources import UNIT
from hpc.core.wire import (
    ERROR,
    INLINE,
    NO_ARGUMENTS,
    STORED,
    ActorState,
    Call,
    Calls,
    CallsDone,
    Cancel,
    CreateActor,
    Done,
    EndActor,
    LeaseGrant,
    Message,
    Result,
    Skip,
)
from hpc.core.worker.executor import Executor

DRIVER, OTHER, WORKER = Address(1, 1), Address(1, 2), Address(2, 5)
CPU = {"CPU": UNIT}
VALUE = Result(INLINE, b"v")


class Caller:
    """An owner with an actor that is there, and what it has sent to the actor's worker."""

    def __init__(self, restarts: int = 0, retries: int = 0) -> None:
        self.owner = owner = OwnerMachine(DRIVER)
        owner.state.functions[b"fn"] = b"code"
        self.actor = owner.new_ids()
        shape = owner.leases.add_shape(Shape({}, CPU, "DEFAULT", {}, True))
        owner.actors.create(CreateActor(self.actor, 0, b"fn", "A", b"", {}), shape, restarts, [])
        owner.handle(owner.raylet, [LeaseGrant(shape.req, 1, WORKER, "", {})])
        owner.handle(WORKER, [Done(self.actor, 0, [VALUE])])
        self.kind = CallKind("m", retries, False)
        self.sent()

    def sent(self) -> list[Message]:
        return dict(self.owner.take_outbox(everything=True)).get(WORKER, [])

    def call(self, count: int = 1) -> list[bytes]:
        """Calls that must have joined runs."""
        made = [self.owner.calls.runs.add(self.kind, self.actor, b"%d" % k, b"") for k in range(count)]
        assert None not in made
        return [one for one in made if one is not None]

    def alone(self) -> bytes:
        task = self.owner.new_ids()
        self.owner.calls.submit(Call(task, 0, self.actor, 0, 0, "m", b"", 1), self.kind.retries, [])
        return task

    def values(self, idents: list[bytes]) -> list[Result | None]:
        return [self.owner.state.entries[ident].result for ident in idents]


def in_flight(caller: Caller) -> bytes:
    """The first call goes at once, alone: those that follow wait for one another."""
    assert caller.owner.calls.runs.add(caller.kind, caller.actor, b"", b"") is None
    first = caller.alone()
    [msg] = caller.sent()
    assert isinstance(msg, Call) and msg.task == first
    return first


def test_calls_that_follow_each_other_are_one_message_and_one_answer_gives_their_values():
    caller = Caller()
    first = in_flight(caller)
    made = caller.call(3)
    [run] = caller.sent()
    assert isinstance(run, Calls)
    assert (run.task, run.seq, run.args) == (made[0], 1, [b"0", b"1", b"2"])
    results = [Result(INLINE, b"%d" % k) for k in range(3)]
    caller.owner.handle(WORKER, [Done(first, 0, [VALUE]), CallsDone(run.task, 0, results)])
    assert caller.values(made) == results
    assert (
        not caller.owner.calls.runs.unfinished and not caller.owner.state.calls and not caller.owner.state.pending_bytes
    )


def test_values_come_in_parts_and_wake_whoever_waits_for_them():
    caller = Caller()
    in_flight(caller)
    made = caller.call(3)
    caller.sent()
    waiter = Waiter(2)
    for ident in made[:2]:
        caller.owner.objects.await_value(caller.owner.state.entries[ident], waiter)
    caller.owner.handle(WORKER, [CallsDone(made[0], 0, [VALUE])])
    assert not caller.owner.woken
    caller.owner.handle(WORKER, [CallsDone(made[0], 1, [VALUE, Result(ERROR, b"e")])])
    assert caller.owner.woken == [waiter]
    assert caller.values(made)[2] == Result(ERROR, b"e")


def test_a_full_run_is_sent_at_once():
    caller = Caller()
    in_flight(caller)
    caller.call(BATCH - 1)
    assert not caller.owner.urgent
    caller.call()
    assert list(caller.owner.urgent) == [WORKER]
    caller.call()
    assert [len(run.args) for run in caller.sent() if isinstance(run, Calls)] == [BATCH, 1]


def test_what_lies_between_two_calls_ends_a_run():
    caller = Caller()
    in_flight(caller)
    caller.call(2)
    caller.owner.new_ids()  # a put
    caller.call()
    caller.owner.send(WORKER, Skip(caller.actor, 0, 99))
    caller.call()
    caller.sent()
    caller.call()
    caller.owner.calls.runs.add(caller.kind, caller.actor, b"", b"another task")
    caller.owner.calls.runs.add(CallKind("n", 0, False), caller.actor, b"", b"another task")
    runs = list(caller.owner.calls.runs.unfinished.values())
    assert [len(run.entries) for run in runs] == [2, 1, 1, 1, 1, 1]
    assert [run.msg.seq for run in runs] == [1, 3, 4, 5, 6, 7]


def test_calls_to_an_actor_that_is_not_there_are_no_run():
    owner = OwnerMachine(DRIVER)
    assert owner.calls.runs.add(CallKind("m", 0, False), make_id(DRIVER, 7), b"", b"") is None


def test_a_call_on_its_own_keeps_its_place_behind_those_of_runs():
    caller = Caller()
    in_flight(caller)
    made = caller.call(2)
    alone = caller.alone()
    assert [*caller.owner.state.calls][1:] == [*made, alone]
    run, call = caller.sent()
    assert isinstance(run, Calls) and isinstance(call, Call)
    assert (run.seq, call.seq) == (1, 3)
    caller.owner.handle(WORKER, [CallsDone(made[0], 0, [VALUE, VALUE]), Done(alone, 0, [VALUE])])
    assert caller.values([*made, alone]) == [VALUE] * 3


def test_a_large_value_is_answered_alone_and_calls_like_it_rest_for_a_while():
    caller = Caller()
    in_flight(caller)
    made = caller.call(3)
    caller.sent()
    stored = Result(STORED, b"", 1 << 20, (2,))
    caller.owner.handle(WORKER, [CallsDone(made[0], 0, [VALUE]), Done(made[1], 0, [stored])])
    caller.owner.handle(WORKER, [CallsDone(made[0], 2, [VALUE])])
    assert caller.values(made) == [VALUE, stored, VALUE]
    assert caller.owner.calls.runs.add(caller.kind, caller.actor, b"", b"") is None
    caller.kind.rest = 0
    caller.call()


@pytest.mark.parametrize("retries", [0, 2])
def test_calls_of_an_actor_that_is_lost_are_made_again_in_their_order_or_fail(retries):
    caller = Caller(restarts=-1, retries=retries)
    owner = caller.owner
    first = in_flight(caller)
    made = [first, *caller.call(3)]
    caller.sent()
    owner.handle(WORKER, [Done(first, 0, [VALUE]), CallsDone(made[1], 0, [VALUE])])
    for state, incarnation in (("restarting", 0), ("alive", 1)):
        owner.handle(owner.addr, [ActorState(caller.actor, state, incarnation, WORKER)])
    again = [msg for msg in caller.sent() if isinstance(msg, Call)]
    assert caller.values(made[:2]) == [VALUE, VALUE]
    if retries:
        assert [(msg.task, msg.attempt, msg.seq) for msg in again] == [(made[2], 1, 0), (made[3], 1, 1)]
        owner.handle(WORKER, [CallsDone(made[1], 1, [VALUE])])  # of the one before: it is not believed
        assert caller.values(made[2:]) == [None, None]
    else:
        assert not again
        assert None not in caller.values(made[2:])
        assert not owner.state.calls


def test_the_actor_ends_after_the_last_call_when_its_handle_is_gone():
    caller = Caller()
    made = [in_flight(caller), *caller.call(2)]
    caller.alone()
    caller.owner.objects.let_go(caller.actor)
    task = [*caller.owner.state.calls][-1]
    caller.sent()
    caller.owner.handle(WORKER, [Done(made[0], 0, [VALUE]), CallsDone(made[1], 0, [VALUE, VALUE])])
    assert not any(isinstance(msg, EndActor) for msg in caller.sent())
    caller.owner.handle(WORKER, [Done(task, 0, [VALUE])])
    assert any(isinstance(msg, EndActor) for msg in caller.sent())


def test_a_run_that_outlives_the_calls_before_it_holds_the_actor():
    caller = Caller()
    task = caller.alone()
    made = caller.call(2)
    caller.owner.objects.let_go(caller.actor)
    caller.sent()
    caller.owner.handle(WORKER, [Done(task, 0, [VALUE])])
    assert not any(isinstance(msg, EndActor) for msg in caller.sent())
    caller.owner.handle(WORKER, [CallsDone(made[0], 0, [VALUE, VALUE])])
    assert any(isinstance(msg, EndActor) for msg in caller.sent())


def test_calls_of_runs_count_as_pending():
    caller = Caller()
    in_flight(caller)
    made = caller.call(4)
    assert caller.owner.calls.pending(caller.actor) == 5
    caller.sent()
    caller.owner.handle(WORKER, [CallsDone(made[0], 0, [VALUE, VALUE])])
    assert caller.owner.calls.pending(caller.actor) == 3
    assert caller.owner.is_needed()


def test_calls_without_arguments_count_for_what_is_pending_as_they_are_taken_off():
    caller = Caller()
    first = in_flight(caller)
    before = caller.owner.state.pending_bytes
    add = caller.owner.calls.runs.add
    made = [add(caller.kind, caller.actor, NO_ARGUMENTS, b"") for _ in range(3)]
    assert made[0] is not None
    caller.sent()
    caller.owner.handle(WORKER, [CallsDone(made[0], 0, [VALUE] * 3)])
    assert caller.owner.state.pending_bytes == before
    caller.owner.handle(WORKER, [Done(first, 0, [VALUE])])
    assert not caller.owner.state.pending_bytes


class Interrupted(list[Any]):
    """A list: the signal that ends the program's remote() comes when something has just been added to it."""

    def append(self, what: Any) -> None:
        super().append(what)
        raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["args", "entries"])
def test_each_call_has_its_own_value_though_the_making_of_one_was_interrupted(where):
    caller = Caller()
    owner = caller.owner
    in_flight(caller)
    made = caller.call(2)
    run = caller.kind.open
    assert run is not None
    plain = getattr(run, where)
    broken = Interrupted(plain)
    setattr(run, where, broken)
    if where == "args":
        run.msg.args = broken
    with pytest.raises(KeyboardInterrupt):
        owner.calls.runs.add(caller.kind, caller.actor, b"interrupted", b"")
    if where == "args":
        run.args = run.msg.args = [*broken]
    else:
        run.entries = [*broken]
    made += caller.call(2)
    runs = [msg for msg in caller.sent() if isinstance(msg, Calls)]
    assert [(msg.seq, msg.args) for msg in runs] == [(1, [b"0", b"1", b"interrupted"]), (4, [b"0", b"1"])]
    for msg in runs:
        results = [Result(INLINE, ident) for ident in ids_from(msg.task, len(msg.args))]
        owner.handle(WORKER, [CallsDone(msg.task, 0, results)])
    assert caller.values(made) == [Result(INLINE, ident) for ident in made]
    assert not owner.calls.runs.unfinished


def test_a_run_whose_begin_was_interrupted_is_there_with_its_message_or_not_at_all():
    caller = Caller()
    owner = caller.owner
    in_flight(caller)
    owner.outbox[WORKER] = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        owner.calls.runs.add(caller.kind, caller.actor, b"interrupted", b"")
    made = caller.call(2)
    [msg] = [msg for msg in caller.sent() if isinstance(msg, Calls)]
    assert msg.seq == 1 and msg.args == [b"interrupted", b"0", b"1"]
    assert [run.msg for run in owner.calls.runs.unfinished.values()] == [msg]
    assert made == ids_from(msg.task, 3)[1:]


# ---------------------------------------------------------------- the worker's side


def hosting() -> Executor:
    executor = Executor()
    executor.handle(DRIVER, CreateActor(b"actor", 0, b"fn", "A", b"", {}))
    executor.ready.clear()
    return executor


def a_run(number: int, seq: int, count: int) -> Calls:
    return Calls(make_id(DRIVER, number), b"actor", 0, seq, "m", [b""] * count)


def test_a_run_that_has_its_turn_stays_one_and_moves_the_order_on():
    executor = hosting()
    executor.handle(DRIVER, a_run(1, 0, 3))
    executor.handle(DRIVER, a_run(4, 3, 2))
    assert [type(msg) for _, msg in executor.ready] == [Calls, Calls]


def test_a_run_that_overtook_a_call_waits_for_it():
    executor = hosting()
    executor.handle(DRIVER, a_run(2, 1, 2))
    assert not executor.ready
    executor.handle(DRIVER, Call(make_id(DRIVER, 1), 0, b"actor", 0, 0, "m", b"", 1))
    assert [msg.seq for _, msg in executor.ready] == [0, 1, 2]


def test_a_run_for_another_incarnation_is_refused():
    executor = hosting()
    run = a_run(1, 0, 2)
    run.incarnation = 1
    executor.handle(DRIVER, run)
    assert [msg.task for _, msg in executor.replies] == ids_from(run.task, 2)


def test_only_a_call_that_has_not_begun_is_taken_out_of_its_run():
    executor = hosting()
    run = a_run(1, 0, 4)
    idents = ids_from(run.task, 4)
    executor.handle(DRIVER, run)
    executor.handle(DRIVER, Cancel(idents[3], 0))
    executor.run, executor.run_at = executor.ready.popleft(), 1
    for ident in idents[:3]:
        executor.handle(DRIVER, Cancel(ident, 0))
    assert executor.skipped == {idents[2], idents[3]}
    assert [type(msg) for _, msg in executor.cancelled] == [Call, Cancel, Cancel, Call]


def test_values_that_follow_each_other_travel_together():
    box: list[Message] = []
    for at in (0, 1):
        add_result(box, b"run", at, VALUE)
    add_result(box, b"run", 3, VALUE)
    box.append(Skip(b"actor", 0, 1))
    add_result(box, b"run", 4, VALUE)
    assert [(m.at, len(m.results)) for m in box if isinstance(m, CallsDone)] == [(0, 2), (3, 1), (4, 1)]


def test_a_run_knows_its_calls():
    run = a_run(250, 7, 10)
    assert [(call.task, call.seq) for call in calls_of(run, 8)] == [
        (make_id(DRIVER, 258), 15),
        (make_id(DRIVER, 259), 16),
    ]
    assert [place_in(run, make_id(DRIVER, n)) for n in (249, 250, 259, 260)] == [-1, 0, 9, -1]
    assert place_in(run, make_id(OTHER, 255)) == -1

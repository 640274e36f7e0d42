"""Actors that share a fate: the first that ends takes the others along, and all calls are told which it was."""

from __future__ import annotations

import pytest

from hpc.core.exceptions import GangError
from hpc.core.failures import error_of
from hpc.core.ids import Address
from hpc.core.owner.machine import OwnerMachine
from hpc.core.owner.tables import Shape
from hpc.core.resources import UNIT
from hpc.core.wire import (
    INLINE,
    ActorState,
    Call,
    CreateActor,
    Done,
    EndActor,
    KillWorker,
    LeaseGrant,
    LeaseLost,
    Result,
    WatchActor,
    system_error,
)

DRIVER, OTHER, RAYLET = Address(1, 1), Address(1, 2), Address(2, 0)
CPU = {"CPU": UNIT}
VALUE = Result(INLINE, b"")
NAMES = ["rank 0", "rank 1", "rank 2"]


def worker(number):
    return Address(2, 10 + number)


class Three:
    """Three actors that share a fate, each at a worker of node 2, all alive but those of ``pending``."""

    def __init__(self, pending=()):
        self.owner = owner = OwnerMachine(DRIVER)
        owner.state.functions[b"fn"] = b"code"
        self.shape = owner.leases.add_shape(Shape(CPU, CPU, "DEFAULT", {}, True))
        self.actors = [owner.new_ids() for _ in NAMES]
        for ident in self.actors:
            owner.actors.create(CreateActor(ident, 0, b"fn", "A", b"", {}), self.shape, 0, [])
        for number in range(3):
            owner.handle(RAYLET, [LeaseGrant(self.shape.req, number + 1, worker(number), "", {})])
        for number, ident in enumerate(self.actors):
            if number not in pending:
                owner.handle(worker(number), [Done(ident, 0, [VALUE])])
        self.fate = owner.actors.share_fate(self.actors, NAMES)
        owner.take_outbox(everything=True)

    def call(self, number):
        task = self.owner.new_ids()
        self.owner.calls.submit(Call(task, 0, self.actors[number], 0, 0, "m", b"", 1), 0, [])
        return task

    def lose(self, number, cause="crash", why="its process was killed"):
        self.owner.handle(RAYLET, [LeaseLost(number + 1, worker(number), cause, why, self.actors[number], 0)])

    def error(self, ident):
        return error_of(self.owner.state.entries[ident].result)

    def sent(self, kind):
        boxes = self.owner.take_outbox(everything=True)
        return [msg for _, messages in boxes for msg in messages if isinstance(msg, kind)]


@pytest.mark.parametrize("cause", ["crash", "exit", "oom", "node"])
def test_the_first_that_is_lost_takes_the_others_along_and_is_named(cause):
    three = Three()
    calls = [three.call(number) for number in range(3)]
    three.lose(1, cause)
    for call in [*calls, three.call(0), three.call(1)]:
        error = three.error(call)
        assert type(error) is GangError and error.rank == 1
        assert str(error) == "rank 1 on node 2: its process was killed; its gang has ended with it"
    assert {msg.worker for msg in three.sent(KillWorker)} == {worker(0), worker(2)}
    assert three.owner.state.entries[three.fate.ident].result.kind == INLINE


def test_those_that_are_lost_after_it_change_nothing():
    three = Three()
    three.lose(1)
    for number in (0, 2):
        three.lose(number, "killed", "it was killed")
    assert {three.error(three.call(number)).rank for number in range(3)} == {1}


def test_one_that_is_killed_by_hand_takes_the_others_along():
    three = Three()
    three.owner.actors.kill(three.actors[2], True)
    assert {three.error(three.call(number)).rank for number in range(3)} == {2}
    assert len(three.sent(KillWorker)) == 3


def test_a_constructor_that_fails_is_the_cause_of_all_errors():
    three = Three(pending=(0, 2))
    call = three.call(2)
    three.owner.handle(worker(0), [Done(three.actors[0], 0, [system_error("NoStateError", "the reason")])])
    for error in (three.error(call), three.error(three.call(0))):
        assert error.rank == 0 and "its constructor failed" in str(error) and "the reason" in str(error)
        assert error.cause is not None


def test_a_call_that_was_cancelled_is_said_to_be_the_reason():
    three = Three()
    calls = [three.call(number) for number in range(3)]
    three.owner.cancel(calls[0], False, True)
    three.lose(0, "crash", "its process was killed by SIGKILL")
    assert "rank 0 on node 2: its call was cancelled and did not end" in str(three.error(calls[1]))
    assert type(three.error(calls[0])).__name__ == "TaskCancelledError"


def test_all_can_be_ended_because_of_one_or_of_none():
    three = Three()
    three.owner.actors.end_fate(three.fate, three.actors[2], "it raised ValueError")
    assert str(three.error(three.call(0))) == "rank 2 on node 2: it raised ValueError; its gang has ended with it"
    other = Three()
    other.owner.actors.end_fate(other.fate, b"", "enough")
    assert other.error(other.call(0)).rank == -1 and str(other.error(other.call(1))) == "enough"
    assert len(other.sent(KillWorker)) == 3


def test_one_that_nobody_needs_leaves_in_peace():
    three = Three()
    three.owner.objects.let_go(three.actors[1])
    assert three.sent(EndActor)
    three.lose(1, "exit", "it was not needed")
    assert not three.fate.over and not three.sent(KillWorker)


def test_those_that_have_parted_end_for_themselves():
    three = Three()
    three.owner.actors.part(three.fate)
    three.lose(1)
    assert not three.sent(KillWorker)
    assert three.owner.state.actors[three.actors[0]].state == "alive"


def test_one_that_is_dead_already_takes_the_others_along():
    owner = OwnerMachine(DRIVER)
    owner.state.functions[b"fn"] = b"code"
    shape = owner.leases.add_shape(Shape(CPU, CPU, "DEFAULT", {}, True))
    idents = [owner.new_ids() for _ in range(2)]
    for ident in idents:
        owner.actors.create(CreateActor(ident, 0, b"fn", "A", b"", {}), shape, 0, [])
    owner.actors.kill(idents[0], True)
    assert owner.actors.share_fate(idents, ["a", "b"]).over
    assert owner.state.actors[idents[1]].state == "dead"


def test_actors_of_others_cannot_share_a_fate():
    three = Three()
    with pytest.raises(ValueError, match="in the process that made them"):
        three.owner.actors.share_fate([b"unknown"], ["x"])


def test_callers_in_other_processes_are_told_which_it_was():
    three = Three()
    three.owner.handle(OTHER, [WatchActor(three.actors[0])])
    three.lose(1)
    state = three.sent(ActorState)[-1]
    assert (state.actor, state.state, state.error, state.rank) == (three.actors[0], "dead", "GangError", 1)
    caller = OwnerMachine(OTHER)
    client = caller.calls.client(state.actor)
    client.why, client.cause, client.state = "", b"", "unknown"
    caller.handle(DRIVER, [state])
    assert error_of(caller.calls.dead_error(client)).rank == 1

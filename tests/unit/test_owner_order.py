"""In which order the parts of an owner's machine hear of one event."""

from __future__ import annotations

from functools import partial

import pytest

from hpc.core.ids import HEAD, Address, make_id
from hpc.core.owner.machine import OwnerMachine
from hpc.core.owner.tables import Shape
from hpc.core.resources import UNIT
from hpc.core.wire import (
    INLINE,
    STORED,
    STREAMING,
    BorrowAcked,
    Call,
    CreateActor,
    Done,
    LeaseGrant,
    NodeDied,
    ProcessGone,
    Result,
    Task,
    Unroutable,
)

ME, WORKER, OTHER = Address(1, 1), Address(1, 3), Address(2, 5)
CPU = {"CPU": UNIT}


class Told(list[str]):
    """Notes the name with which each call of a part's method was watched, and lets it happen."""

    def watch(self, part: object, *methods: str) -> None:
        for method in methods:
            setattr(part, method, partial(self._note, f"{type(part).__name__}.{method}", getattr(part, method)))

    def _note(self, name, inner, *args):
        self.append(name)
        return inner(*args)


@pytest.fixture
def owner() -> OwnerMachine:
    machine = OwnerMachine(ME)
    machine.state.functions[b"fn"] = b"code"
    return machine


def leased_task(owner: OwnerMachine, worker: Address = WORKER) -> bytes:
    """A task of ours that is on its way to a leased worker."""
    shape = owner.leases.add_shape(Shape(CPU, CPU, "DEFAULT", {}, False))
    task = owner.new_ids()
    owner.tasks.submit(Task(task, 0, b"fn", "f", b"", 1), shape, 0, False, [])
    owner.handle(Address(1, 0), [LeaseGrant(shape.req, 7, worker, "", {})])
    assert owner.state.tasks[task].lease is not None
    return task


def test_a_dead_process_is_known_to_be_gone_before_anybody_hears_of_it(owner):
    told = Told()
    owner.on_gone = lambda addr: told.append(f"shell, {addr in owner.state.gone}")
    told.watch(owner.objects, "process_gone")
    told.watch(owner.calls, "process_gone")
    owner.handle(HEAD, [ProcessGone(OTHER, "it ended")])
    assert told == ["shell, True", "Objects.process_gone", "OutgoingCalls.process_gone"]


@pytest.mark.parametrize("message", [ProcessGone(OTHER, "it ended"), Unroutable(OTHER)], ids=["news", "no way"])
def test_a_process_is_gone_however_it_is_learnt(owner, message):
    owner.handle(HEAD, [message])
    assert OTHER in owner.state.gone


def test_a_dead_node_takes_its_workers_then_its_processes_then_its_copies_then_demands_are_made_anew(owner):
    theirs = make_id(OTHER, 1)
    owner.objects.hold(theirs)
    owner.handle(Address(1, 0), [BorrowAcked([theirs], [1])])
    leased_task(owner, Address(2, 9))
    told = Told()
    owner.on_gone = lambda addr: told.append(f"shell of {addr}")
    told.watch(owner.leases, "node_gone", "lost", "ask_all_anew")
    told.watch(owner.objects, "node_gone")
    told.watch(owner.calls, "node_gone")
    owner.handle(HEAD, [NodeDied(2, "it burnt")])
    met = [f"shell of {OTHER}"]
    assert told == [
        "Leases.node_gone",
        "Leases.lost",
        *met,
        "Objects.node_gone",
        "Leases.ask_all_anew",
        "OutgoingCalls.node_gone",
    ]
    assert owner.state.gone_nodes == {2: "it burnt"}


def test_an_object_without_holders_ends_its_generator_then_its_origin_then_its_actor(owner):
    told = Told()
    told.watch(owner.streams, "object_freed")
    told.watch(owner.lineage, "object_freed")
    told.watch(owner.actors, "object_freed")
    shape = owner.leases.add_shape(Shape({}, CPU, "DEFAULT", {}, True))
    actor = owner.new_ids()
    owner.actors.create(CreateActor(actor, 0, b"fn", "A", b"", {}), shape, 0, [])
    generator = owner.new_ids(1 << 20)
    plain = owner.leases.add_shape(Shape(CPU, CPU, "DEFAULT", {}, False))
    owner.tasks.submit(Task(generator, 0, b"fn", "g", b"", STREAMING), plain, 0, False, [])
    owner.objects.let_go(actor)
    assert told == ["ItemStreams.object_freed", "Lineage.object_freed", "Actors.object_freed"]
    assert actor not in owner.state.actors


def test_an_answer_goes_to_the_task_the_call_or_the_actor_that_waits_for_it_and_else_to_nobody(owner):
    told = Told()
    told.watch(owner.tasks, "done")
    told.watch(owner.calls, "done")
    told.watch(owner.actors, "created")
    told.watch(owner.streams, "discard_all")
    task = leased_task(owner)
    shape = owner.leases.add_shape(Shape({}, CPU, "DEFAULT", {}, True))
    actor, call = owner.new_ids(), owner.new_ids()
    owner.actors.create(CreateActor(actor, 0, b"fn", "A", b"", {}), shape, 0, [])
    owner.handle(Address(1, 0), [LeaseGrant(shape.req, 8, Address(1, 4), "", {})])
    owner.calls.submit(Call(call, 0, actor, 0, 0, "m", b"", 1), 0, [])
    value = [Result(INLINE, b"\xc0")]
    owner.handle(WORKER, [Done(task, 1, value), Done(task, 0, value), Done(task, 0, value)])
    owner.handle(Address(1, 4), [Done(actor, 0, value), Done(call, 0, value), Done(call, 0, value)])
    late = "ItemStreams.discard_all"
    assert told == [late, "Tasks.done", late, "Actors.created", "OutgoingCalls.done", late]


def test_how_values_can_be_made_again_is_noted_before_they_are_told(owner):
    told = Told()
    told.watch(owner.lineage, "remember", "remembered")
    told.watch(owner.streams, "set_results", "seek")
    task = leased_task(owner)
    owner.state.tasks[task].retries = 3
    owner.handle(WORKER, [Done(task, 0, [Result(STORED, b"", 1 << 20, (1,))])])
    assert told == ["Lineage.remember", "ItemStreams.set_results", "Lineage.remembered", "ItemStreams.seek"]
    assert task in owner.state.origins


def test_a_small_value_of_a_task_takes_none_of_these_steps(owner):
    told = Told()
    told.watch(owner.lineage, "remember", "remembered")
    told.watch(owner.streams, "set_results", "seek")
    task = leased_task(owner)
    owner.handle(WORKER, [Done(task, 0, [Result(INLINE, b"\xc0")])])
    assert told == [] and owner.state.entries[task].plain

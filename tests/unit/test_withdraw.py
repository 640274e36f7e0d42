"""What is not wanted any more asks for no workers, and later work gets none that it had."""

from __future__ import annotations

import msgspec

from hpc.core.ids import Address, raylet_of
from hpc.core.owner.machine import OwnerMachine
from hpc.core.owner.tables import Shape
from hpc.core.resources import UNIT
from hpc.core.wire import (
    GROUP_REMOVED,
    INLINE,
    CreateActor,
    Done,
    KillWorker,
    LeaseGrant,
    LeaseLost,
    LeaseRequest,
    LeaseReturn,
    Result,
    Task,
)

DRIVER = Address(1, 1)
WORKER = Address(2, 5)
OTHER = Address(2, 6)
RAYLET = raylet_of(2)
CPU = {"CPU": UNIT}
GROUP = b"group"


def owner_of(strategy="DEFAULT", actor=False):
    owner = OwnerMachine(DRIVER)
    owner.state.functions[b"fn"] = b"code"
    return owner, owner.leases.add_shape(Shape(CPU, CPU, strategy, {}, actor))


def submit(owner, shape):
    task = owner.new_ids()
    owner.tasks.submit(Task(task, 0, b"fn", "f", b"", 1), shape, 0, False, [])
    return task


def create(owner, shape):
    ident = owner.new_ids()
    return owner.actors.create(CreateActor(ident, 0, b"fn", "A", b"", {}), shape, 0, [])


def grant(owner, shape, worker=WORKER, lease=1):
    owner.handle(RAYLET, [LeaseGrant(shape.req, lease, worker, "", {})])


def done(owner, task):
    owner.handle(WORKER, [Done(task, 0, [Result(INLINE, b"v")])])


def wanted(owner):
    """How many workers the raylet was asked for last."""
    return [m.count for m in owner.outbox.pop(owner.raylet, []) if isinstance(m, LeaseRequest)][-1]


def error(owner, ident):
    return msgspec.msgpack.decode(owner.state.entries[ident].result.data)["type"]


def test_a_cancelled_task_that_waits_asks_for_no_worker_any_more():
    owner, shape = owner_of()
    task = submit(owner, shape)
    assert wanted(owner) == 1
    owner.cancel(task, False, False)
    assert error(owner, task) == "TaskCancelledError"
    assert wanted(owner) == 0 and not shape.queue


def test_the_few_cancelled_tasks_of_a_long_queue_are_taken_out_with_the_next_tick():
    owner, shape = owner_of()
    tasks = [submit(owner, shape) for _ in range(10)]
    owner.tick(0.0)
    assert wanted(owner) == 10
    for task in tasks[3:6]:
        owner.cancel(task, False, False)
    owner.tick(1.0)
    assert wanted(owner) == 7 and [rec.msg.task for rec in shape.queue] == tasks[:3] + tasks[6:]


def test_an_actor_that_is_killed_before_it_is_placed_asks_for_no_worker_any_more():
    owner, shape = owner_of(actor=True)
    actor = create(owner, shape)
    assert wanted(owner) == 1
    owner.actors.kill(actor.create.actor, True)
    assert wanted(owner) == 0 and not shape.actors


def test_a_worker_that_is_killed_with_a_cancelled_task_gets_no_other_one():
    owner, shape = owner_of()
    task = submit(owner, shape)
    grant(owner, shape)
    owner.cancel(task, True, False)
    assert any(isinstance(m, KillWorker) for m in owner.outbox[RAYLET])
    done(owner, task)  # it was faster
    later = submit(owner, shape)
    assert owner.state.tasks[later].lease is None
    assert any(isinstance(m, LeaseReturn) for m in owner.outbox[RAYLET])
    assert wanted(owner) == 1


def test_after_a_group_was_removed_nothing_runs_in_it_any_more():
    owner, shape = owner_of(("pg", GROUP, -1, False))
    first = submit(owner, shape)
    grant(owner, shape)
    done(owner, first)
    assert shape.idle
    owner.groups.hear(GROUP, GROUP_REMOVED, "its placement group was removed")
    assert not owner.state.leases and any(isinstance(m, LeaseReturn) for m in owner.outbox[RAYLET])
    again = owner.leases.add_shape(Shape({}, {}, ("pg", GROUP, 0, False), {}, False))
    assert [error(owner, submit(owner, one)) for one in (shape, again)] == ["TaskPlacementGroupRemoved"] * 2
    actors = owner.leases.add_shape(Shape({}, {}, ("pg", GROUP, 0, False), {}, True))
    assert error(owner, create(owner, actors).create.actor) == "ActorPlacementGroupRemoved"
    assert not owner.state.tasks and not shape.queue


def test_what_waits_and_runs_in_a_group_that_is_removed_fails_and_a_late_grant_goes_back():
    owner, shape = owner_of(("pg", GROUP, -1, False))
    running, waiting = submit(owner, shape), submit(owner, shape)
    grant(owner, shape)
    owner.groups.hear(GROUP, GROUP_REMOVED, "its placement group was removed")
    assert error(owner, waiting) == "TaskPlacementGroupRemoved"
    assert owner.state.tasks[running].lease is not None
    owner.outbox.clear()
    grant(owner, shape, OTHER, 2)
    assert [m.lease for m in owner.outbox[RAYLET]] == [2] and OTHER not in owner.outbox
    owner.handle(RAYLET, [LeaseLost(1, WORKER, "group_removed", "it is no more", running, 0)])
    assert error(owner, running) == "TaskPlacementGroupRemoved"
    assert not owner.state.leases and not owner.state.tasks


def test_the_shapes_of_removed_groups_are_forgotten_once_nothing_uses_them():
    owner, plain = owner_of()
    for number in range(5):
        group = b"group %d" % number
        shape = owner.leases.add_shape(Shape(CPU, CPU, ("pg", group, -1, False), {}, False))
        actors = owner.leases.add_shape(Shape({}, CPU, ("pg", group, -1, False), {}, True))
        submit(owner, shape)
        create(owner, actors)
        owner.groups.hear(group, GROUP_REMOVED, "its placement group was removed")
    held = owner.leases.add_shape(Shape(CPU, CPU, ("pg", GROUP, -1, False), {}, False))
    running = submit(owner, held)
    grant(owner, held)
    owner.groups.hear(GROUP, GROUP_REMOVED, "its placement group was removed")
    last = owner.leases.add_shape(Shape(CPU, CPU, "SPREAD", {}, False))
    assert owner.state.shapes == [plain, held, last], "one still has a lease"
    assert set(owner.state.requests.values()) == {plain, held, last}

    owner.handle(RAYLET, [LeaseLost(1, WORKER, "group_removed", "it is no more", running, 0)])
    more = owner.leases.add_shape(Shape(CPU, CPU, "DEFAULT", {}, True))
    assert owner.state.shapes == [plain, last, more]
    assert error(owner, submit(owner, held)) == "TaskPlacementGroupRemoved", "who has it still hears that it is gone"
    owner.outbox.clear()
    grant(owner, held, OTHER, 2)
    assert [m.lease for m in owner.outbox[RAYLET]] == [2], "a grant that was on its way goes back"

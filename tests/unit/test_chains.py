"""What a program can make as long as it likes the owner's machine does in turn, not by recursion: 5,000 at a time."""

from __future__ import annotations

from types import SimpleNamespace

from hpc.core.ids import Address, raylet_of
from hpc.core.owner.endless import never_come
from hpc.core.owner.machine import OwnerMachine
from hpc.core.owner.shell.callbacks import Callbacks
from hpc.core.owner.shell.client import Client
from hpc.core.owner.tables import ErrorWatch, Shape, Waiter
from hpc.core.passing import names_and_failure
from hpc.core.resources import UNIT
from hpc.core.wire import (
    ERROR,
    INLINE,
    BorrowAcked,
    BorrowDrop,
    Call,
    CreateActor,
    Done,
    LeaseGrant,
    Result,
    Task,
    system_error,
)

MANY = 5000
DRIVER, WORKER = Address(1, 1), Address(2, 5)
CPU = {"CPU": UNIT}
FAILED = Result(ERROR, b"the root")


def owner_and_shape() -> tuple[OwnerMachine, Shape]:
    owner = OwnerMachine(DRIVER)
    owner.state.functions[b"fn"] = b"code"
    return owner, owner.leases.add_shape(Shape(CPU, CPU, "DEFAULT", {}, False))


def submit(owner: OwnerMachine, shape: Shape, *refs: bytes) -> bytes:
    task = owner.new_ids()
    owner.tasks.submit(Task(task, 0, b"fn", "f", b"", 1, refs=refs), shape, 0, False, [])
    return task


def chain(owner: OwnerMachine, shape: Shape) -> list[bytes]:
    tasks = [submit(owner, shape)]
    for _ in range(MANY):
        tasks.append(submit(owner, shape, tasks[-1]))
    return tasks


def test_what_waits_behind_a_call_that_cannot_run_is_known_through_a_long_chain():
    owner, shape = owner_and_shape()
    actor, call = owner.new_ids(), owner.new_ids()
    actors = owner.leases.add_shape(Shape(CPU, CPU, "DEFAULT", {}, True))
    owner.actors.create(CreateActor(actor, 0, b"cls", "A", b"", {}), actors, 0, [])
    owner.calls.submit(Call(call, 0, actor, 0, 0, "m", b"", 1), 0, [])
    other = submit(owner, shape)
    tasks = [submit(owner, shape, call)]
    for _ in range(MANY):
        tasks.append(submit(owner, shape, tasks[-1]))
    tasks.append(submit(owner, shape, tasks[-1], tasks[-1]))
    doubtful = submit(owner, shape, tasks[-1], other)
    found = never_come(owner, [tasks[-1], other, doubtful, call], lambda rec: rec.msg.task == call)
    assert [rec.msg.task for rec in found] == [call, call]
    assert never_come(owner, [tasks[-1]], lambda rec: False) == []
    owner.cancel(call, False, False)
    assert never_come(owner, [tasks[-1]], lambda rec: True) == []


def test_a_failure_goes_through_a_long_chain_of_tasks():
    owner, shape = owner_and_shape()
    tasks = chain(owner, shape)
    owner.handle(raylet_of(2), [LeaseGrant(shape.req, 1, WORKER, "", {})])
    owner.handle(WORKER, [Done(tasks[0], 0, [FAILED])])
    results = [result for task in tasks if (result := owner.state.entries[task].result) is not None]
    assert len(results) == len(tasks) and results[0] == FAILED
    assert all(result.data.endswith(FAILED.data) for result in results)
    assert all(names_and_failure(result.data)[1] == FAILED.data for result in [*results[::100], results[-1]])
    assert not owner.state.tasks


def test_a_cancelled_task_takes_a_long_chain_with_it():
    owner, shape = owner_and_shape()
    tasks = chain(owner, shape)
    owner.cancel(tasks[0], False, True)
    assert not owner.state.tasks


def test_a_value_goes_through_a_long_chain_of_calls_of_an_actor_that_dies():
    owner, _ = owner_and_shape()
    actor = owner.new_ids()
    owner.actors.create(
        CreateActor(actor, 0, b"fn", "A", b"", {}), owner.leases.add_shape(Shape({}, CPU, "DEFAULT", {}, True)), 0, []
    )
    calls: list[bytes] = []
    for _ in range(MANY):
        calls.append(owner.new_ids())
        refs = tuple(calls[-2:-1])
        owner.calls.submit(Call(calls[-1], 0, actor, 0, 0, "m", b"", 1, refs=refs), 0, [])
    owner.actors.kill(actor, True)
    assert all(owner.state.entries[call].result is not None for call in calls)
    assert not owner.state.calls


def test_a_long_chain_of_nested_references_is_let_go():
    owner, _ = owner_and_shape()
    outer = owner.objects.put_inline(b"x", [])
    for _ in range(MANY):
        inner, outer = outer, owner.objects.put_inline(b"x", [outer])
        owner.objects.let_go(inner)
    owner.objects.let_go(outer)
    assert not owner.state.entries


def test_a_long_chain_of_borrowed_references_is_let_go_when_the_first_is_acknowledged():
    owner, _ = owner_and_shape()
    other = OwnerMachine(WORKER)
    outer = other.new_ids()
    owner.objects.hold(outer)
    first = outer
    for _ in range(MANY):
        inner = other.new_ids()
        owner.objects.hold(inner)
        owner.objects.hold_until_acked(inner, outer)
        owner.objects.let_go(outer)
        outer = inner
    owner.objects.let_go(outer)
    owner.handle(owner.raylet, [BorrowAcked([first], [1])])
    assert not owner.state.entries
    dropped = [i for msg in owner.outbox[owner.raylet] if isinstance(msg, BorrowDrop) for i in msg.idents]
    assert len(dropped) == len(set(dropped)) == MANY + 1


def test_who_waits_for_many_is_told_of_the_first_error_and_no_one_else():
    owner, shape = owner_and_shape()
    tasks = [submit(owner, shape) for _ in range(3)]
    waiter, stranger = Waiter(1), Waiter(1)
    watch = ErrorWatch(waiter, lambda: set(tasks[:2]))
    owner.state.error_watches += [watch, ErrorWatch(stranger, lambda: {tasks[2]})]
    owner.objects.set_result(tasks[0], Result(INLINE, b"fine"))
    assert not watch.failed
    owner.objects.set_result(tasks[1], system_error("WorkerCrashedError", "it crashed"))
    assert watch.failed
    assert owner.woken == [waiter]
    assert stranger.needed == 1


def test_callbacks_that_wait_do_not_run_inside_one_another():
    callbacks = Callbacks()
    order: list[str] = []

    def outer() -> None:
        callbacks.append(lambda: order.append("inner"))
        callbacks.run()  # what a callback that waits leads to
        order.append("outer")

    callbacks.append(outer)
    callbacks.run()
    assert order == ["outer", "inner"]


def test_a_waiter_that_another_thread_has_taken_meanwhile_is_no_error():
    class Raced(list):
        def __bool__(self):
            return True  # and then another thread takes the last one

    woken, called = Raced([Waiter(0, lambda: called.append(1))]), []
    client = SimpleNamespace(machine=SimpleNamespace(woken=woken), callbacks=Callbacks(), polling=None)
    Client.wake_done(client)
    client.callbacks.run()
    assert called == [1]

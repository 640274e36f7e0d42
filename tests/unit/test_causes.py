"""Each cause of a loss leads to what it should: a retry, a restart, an error of its class. Words lead to nothing."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from unit.test_object_store import PAGE, NoBytes, Store, at, ident

from hpc.core.causes import NEVER, ActorErrorName, FetchCause, LostCause, NeverCause, is_charged
from hpc.core.exceptions import CopiesLost, ObjectStoreFullError
from hpc.core.ids import Address, raylet_of
from hpc.core.owner.machine import OwnerMachine
from hpc.core.owner.report import report
from hpc.core.owner.shell.arena_use import _failure
from hpc.core.owner.tables import Shape
from hpc.core.raylet.machine import RayletMachine
from hpc.core.raylet.spill import READ
from hpc.core.resources import UNIT, NodeResources
from hpc.core.store.layout import Layout
from hpc.core.wire import (
    ERROR,
    INLINE,
    SYSTEM,
    ActorState,
    BundleCommit,
    BundlePrepare,
    BundleReturn,
    Call,
    CreateActor,
    DecodeError,
    Done,
    Exiting,
    Fetch,
    FetchAll,
    Fetched,
    FetchedAll,
    KillWorker,
    LeaseFailed,
    LeaseGrant,
    LeaseInfeasible,
    LeaseLost,
    LeaseRequest,
    NodeInfo,
    Result,
    Task,
    WatchActor,
    decode_body,
    encode_body,
)

DRIVER, OTHER, WORKER = Address(1, 1), Address(1, 2), Address(2, 5)
RAYLET, HEAD = raylet_of(2), Address(0, 0)
CPU = {"CPU": UNIT}
#: Words that meant something once.
WORDS = "exit:ActorUnschedulableError: its placement group was removed, has no room, it was killed by hpc.kill()"
CAUSES = get_args(LostCause)


def owner_with(actor=False):
    owner = OwnerMachine(DRIVER)
    owner.state.functions[b"fn"] = b"code"
    shape = owner.leases.add_shape(Shape(CPU, CPU, "DEFAULT", {}, actor))
    shape.depth = 8
    return owner, shape


def submit(owner, shape, retries=0):
    task = owner.new_ids()
    owner.tasks.submit(Task(task, 0, b"fn", "f", b"", 1), shape, retries, False, [])
    return task


def create(owner, shape, restarts=0):
    msg = CreateActor(owner.new_ids(), 0, b"fn", "A", b"", {})
    return owner.actors.create(msg, shape, restarts, [])


def call(owner, actor):
    task = owner.new_ids()
    owner.calls.submit(Call(task, 0, actor, 0, 0, "m", b"", 1), 0, [])
    return task


def grant(owner, shape, lease=1):
    owner.handle(RAYLET, [LeaseGrant(shape.req, lease, WORKER, "", {})])


def lose(owner, cause, running, lease=1):
    owner.handle(RAYLET, [LeaseLost(lease, WORKER, cause, WORDS, running, 0)])


def error(owner, ident):
    result = owner.state.entries[ident].result
    assert result.kind in (ERROR, SYSTEM)
    return msgspec.msgpack.decode(result.data)["type"]


# ---------------------------------------------------------------- tasks


@pytest.mark.parametrize("cause", CAUSES)
def test_a_task_that_ran_is_tried_again_or_gets_the_error_of_the_cause(cause):
    owner, shape = owner_with()
    retried, queued = submit(owner, shape, retries=1), submit(owner, shape)
    grant(owner, shape)
    lose(owner, cause, retried)
    if cause == "group_removed":  # what waited there is lost with it
        assert [error(owner, task) for task in (retried, queued)] == ["TaskPlacementGroupRemoved"] * 2
        return
    charged = is_charged(cause)
    assert [owner.state.tasks[task].retries for task in (retried, queued)] == [1 - charged, 0]
    if not charged:  # it may be lost again and again, until its node is lost without a word
        grant(owner, shape, 2)
        lose(owner, cause, retried, 2)
        assert owner.state.tasks[retried].retries == 1
        return
    grant(owner, shape, 2)
    lose(owner, cause, retried, 2)
    assert error(owner, retried) == ("OutOfMemoryError" if cause == "oom" else "WorkerCrashedError")
    assert owner.state.entries[queued].result is None, "it had not begun"


# ---------------------------------------------------------------- actors


@pytest.mark.parametrize("cause", CAUSES)
def test_an_actor_is_restarted_unless_the_cause_is_final(cause):
    owner, shape = owner_with(actor=True)
    actor = create(owner, shape, restarts=1)
    grant(owner, shape)
    owner.handle(WORKER, [Done(actor.create.actor, 0, [Result(INLINE, b"\xc0")])])
    assert actor.state == "alive"
    lose(owner, cause, actor.create.actor)
    final = cause in ("exit", "group_removed")
    left = 1 if final or not is_charged(cause) else 0
    assert (actor.state, actor.incarnation, actor.restarts) == (("dead", 0, 1) if final else ("restarting", 1, left))
    if not is_charged(cause):
        return
    if not final:
        grant(owner, shape, 2)
        lose(owner, cause, actor.create.actor, 2)
    assert actor.state == "dead" and error(owner, call(owner, actor.create.actor)) == "ActorDiedError"
    assert actor.why == WORDS, "people are told all of it"


@pytest.mark.parametrize("cause", CAUSES)
def test_an_actor_that_had_not_begun_is_placed_again_and_pays_with_no_restart_unless_it_was_meant(cause):
    owner, shape = owner_with(actor=True)
    actor = create(owner, shape)
    grant(owner, shape)
    lose(owner, cause, b"")
    placed_again = cause in ("crash", "node", "drained")
    assert actor.state == ("pending" if placed_again else "dead")
    assert (list(shape.actors) == [actor]) is placed_again


@pytest.mark.parametrize("cause", get_args(NeverCause))
def test_what_never_gets_a_worker_has_the_error_of_the_cause_here_and_elsewhere(cause):
    task_error, actor_error = NEVER[cause]
    for is_actor in (False, True):
        owner, shape = owner_with(is_actor)
        made = create(owner, shape).create.actor if is_actor else submit(owner, shape, retries=3)
        if is_actor:
            owner.handle(OTHER, [WatchActor(made)])
            owner.outbox.clear()
        message = LeaseFailed(shape.req, WORDS) if cause == "environment" else LeaseInfeasible(shape.req, WORDS, cause)
        owner.handle(RAYLET, [message])
        assert error(owner, made) == (actor_error if is_actor else task_error)
    assert error(owner, call(owner, made)) == actor_error
    [told] = [m for m in owner.outbox[OTHER] if isinstance(m, ActorState)]
    assert (told.state, told.error, told.why) == ("dead", actor_error, WORDS)
    borrower = OwnerMachine(OTHER)
    theirs = call(borrower, made)
    borrower.handle(DRIVER, [told])
    assert error(borrower, theirs) == actor_error
    [row] = report(owner, "actors", 9)
    assert row["death_cause"] == f"{actor_error}: {WORDS}"


def test_the_first_lines_of_a_death_do_not_choose_its_class():
    borrower = OwnerMachine(OTHER)
    actor = OwnerMachine(DRIVER).new_ids()
    task = call(borrower, actor)
    borrower.handle(DRIVER, [ActorState(actor, "dead", 0, WORKER, "ActorUnschedulableError: it says")])
    assert error(borrower, task) == "ActorDiedError"


def test_causes_that_are_none_are_refused_on_the_wire():
    good = [LeaseLost(1, WORKER, cause, "") for cause in CAUSES]
    good += [LeaseInfeasible(1, "", final) for final in ("", "unschedulable", "group_removed")]
    good += [Fetched(b"", -1, 0, cause) for cause in get_args(FetchCause)]
    good += [ActorState(b"", "dead", 0, WORKER, error=name) for name in get_args(ActorErrorName)]
    assert decode_body(encode_body(good)) == good
    bad = [LeaseLost(1, WORKER, "other", ""), LeaseInfeasible(1, "", "x"), Fetched(b"", -1, 0, "x")]
    for msg in [*bad, FetchedAll(1, [], [], [], "x"), ActorState(b"", "dead", 0, WORKER, error="OSError")]:
        with pytest.raises(DecodeError):
            decode_body(encode_body([msg]))


# ---------------------------------------------------------------- what a raylet says


def raylet_with_worker(strategy="DEFAULT"):
    info = NodeInfo(2, "n2", "", "", {"CPU": UNIT}, {}, False, 0, "")
    raylet = RayletMachine(info, NodeResources({"CPU": UNIT}), Layout(PAGE), NoBytes())
    if strategy != "DEFAULT":
        raylet.leasing.on_bundle_prepare(HEAD, BundlePrepare(b"g", 1, 9, [(0, CPU)]))
        raylet.leasing.on_bundle_commit(HEAD, BundleCommit(b"g", 1))
    raylet.leasing.on_lease_request(DRIVER, LeaseRequest(1, DRIVER, CPU, CPU, 1, 0, False, strategy, {}))
    [proc] = raylet.leasing.starting.values()
    raylet.leasing.worker_ready(proc)
    [lease] = raylet.leasing.leases.values()
    return raylet, proc, lease


def told(raylet, proc, **more):
    raylet.process_gone(proc.proc, "its process ended", **more)
    [lost] = [msg for _, msg in raylet.outbox if isinstance(msg, LeaseLost)]
    return lost.cause, lost.why


def test_a_raylet_says_why_a_worker_is_gone():
    raylet, proc, _ = raylet_with_worker()
    assert told(raylet, proc) == ("crash", "its process ended")
    raylet, proc, _ = raylet_with_worker()
    assert told(raylet, proc, cause="oom") == ("oom", "its process ended")
    for intended, cause in ((True, "exit"), (False, "crash")):
        raylet, proc, _ = raylet_with_worker()
        raylet.handle(Address(2, proc.proc), [Exiting(WORDS, intended)])
        assert told(raylet, proc) == (cause, WORDS)


def test_a_raylet_says_who_wanted_a_workers_end():
    raylet, proc, lease = raylet_with_worker()
    raylet.handle(DRIVER, [KillWorker(Address(2, proc.proc), lease.ident, WORDS)])
    raylet.handle(Address(2, proc.proc), [Exiting("it called exit(1)", False)])
    assert told(raylet, proc) == ("killed", WORDS)
    for removed, cause in ((True, "group_removed"), (False, "crash")):
        raylet, proc, _ = raylet_with_worker(["pg", b"g", -1, False])
        raylet.handle(HEAD, [BundleReturn(b"g", 0, removed, WORDS)])
        assert told(raylet, proc) == (cause, WORDS)


def test_an_end_that_the_worker_meant_stays_one_when_its_owner_wants_it_too():
    raylet, proc, lease = raylet_with_worker()
    raylet.handle(Address(2, proc.proc), [Exiting("exit_actor()")])
    raylet.handle(DRIVER, [KillWorker(Address(2, proc.proc), lease.ident, "killed")])
    assert told(raylet, proc) == ("exit", "exit_actor()")
    assert raylet.leasing.to_kill


# ---------------------------------------------------------------- objects


def test_a_raylet_says_why_an_object_cannot_be_read():
    store = Store(2)
    store.objects.on_fetch(at(2), Fetch(ident(1), 9 * PAGE, [3]))
    store.objects.on_fetch_all(at(2), FetchAll(1, [ident(1), ident(2)], [PAGE, 8 * PAGE], [[3], [3]]))
    store.objects.on_fetch(at(2), Fetch(ident(2), PAGE, [1]))
    store.objects.on_fetch_all(at(2), FetchAll(2, [ident(2)], [PAGE], [[1]]))
    assert [msg.cause for msg in store.take()] == ["no_room", "no_room", "lost", "lost"]
    for number in (0, 1, 2):
        store.put(2, number)
    away = next(number for number in (0, 1, 2) if number not in store.in_memory())
    store.objects.on_fetch(at(3), Fetch(ident(away), PAGE, [1]))
    while store.objects.spiller.jobs:
        job = store.objects.spiller.jobs.pop(0)
        store.objects.disk_ended(job, "no room" if job.kind == READ else "")
    [answer] = store.take(Fetched)
    assert (answer.cause, answer.lost) == ("disk", [1])


def test_a_reader_gets_the_class_of_the_cause_whatever_is_said():
    for cause, kind in (("lost", CopiesLost), ("disk", CopiesLost), ("no_room", ObjectStoreFullError)):
        assert type(_failure(b"id", Fetched(b"id", -1, 1, cause, WORDS, [2]))) is kind
        assert type(_failure(b"id", FetchedAll(1, [], [], [], cause, "it says", b"id", [2]))) is kind

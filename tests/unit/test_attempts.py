"""Tasks, calls and actors that are made again: what people count, what is freed, what is waited for."""

from __future__ import annotations

import msgspec
import pytest

from hpc.core.ids import HEAD, Address, raylet_of
from hpc.core.owner.lineage import CIRCLE
from hpc.core.owner.machine import OwnerMachine
from hpc.core.owner.objects import FREE_BATCH
from hpc.core.owner.report import report
from hpc.core.owner.streams import item_id
from hpc.core.owner.tables import Shape
from hpc.core.passing import names_and_failure
from hpc.core.resources import UNIT
from hpc.core.wire import (
    ERROR,
    INLINE,
    STORED,
    STREAMING,
    SYSTEM,
    Call,
    CopyLost,
    CreateActor,
    Done,
    Free,
    GetObject,
    GivenBack,
    LeaseGrant,
    LeaseLost,
    NodeDied,
    ObjectValue,
    Result,
    Task,
    Yielded,
)

ME, W1, W2, W3 = Address(1, 1), Address(1, 3), Address(2, 4), Address(3, 5)
CPU = {"CPU": UNIT}
NONE = Result(INLINE, b"1")


class Owner:
    """An owner whose raylet grants what the test says."""

    def __init__(self):
        self.machine = OwnerMachine(ME)
        self.machine.state.functions[b"fn"] = b"code"
        self.shape = self.machine.leases.add_shape(Shape(CPU, CPU, "DEFAULT", {}, False))
        self.actor_shape = self.machine.leases.add_shape(Shape({}, CPU, "DEFAULT", {}, True))
        self.lease = 0

    def sent(self, kind):
        out = [(dst, msg) for dst, messages in self.machine.take_outbox(True) for msg in messages]
        return [(dst, msg) for dst, msg in out if isinstance(msg, kind)]

    def tell(self, src, *messages):
        self.machine.handle(src, messages)

    def submit(self, retries=-1, returns=1, refs=()):
        task = self.machine.new_ids(max(1, returns) if returns >= 0 else 100)
        self.machine.tasks.submit(
            Task(task, 0, b"fn", "f", b"", returns, refs=tuple(refs)), self.shape, retries, False, []
        )
        return task

    def grant(self, worker, shape=None):
        self.lease += 1
        self.tell(raylet_of(1), LeaseGrant((shape or self.shape).req, self.lease, worker, "", {}))
        return self.lease

    def lose(self, lease, worker, task=b""):
        self.tell(raylet_of(1), LeaseLost(lease, worker, "crash", "it died", task))

    def actor(self, worker=W1, restarts=-1, refs=()):
        ident = self.machine.new_ids()
        self.machine.actors.create(
            CreateActor(ident, 0, b"fn", "A", b"", {}, refs=tuple(refs)), self.actor_shape, restarts, []
        )
        if worker is not None:
            self.grant(worker, self.actor_shape)
            self.tell(worker, Done(ident, 0, [NONE]))
        return ident

    def call(self, actor, retries=-1, refs=()):
        task = self.machine.new_ids()
        self.machine.calls.submit(Call(task, 0, actor, 0, 0, "m", b"", 1, refs=tuple(refs)), retries, [])
        return task

    def stored(self, task, worker, attempt=0):
        self.tell(worker, Done(task, attempt, [Result(STORED, b"", 9, (worker.node,))]))


@pytest.fixture
def owner():
    return Owner()


def shown(owner, task):
    rows = report(owner.machine, "tasks", 100)
    return [row["attempt_number"] for row in rows if row["task_id"] == task.hex()]


# ---------------------------------------------------------------- what people count


def test_a_task_that_was_given_back_unbegun_has_another_sending_and_the_same_attempt(owner):
    task = owner.submit()
    owner.tell(W1)
    lease = owner.grant(W1)
    owner.tell(W1, GivenBack(lease, [task]))
    msg = owner.machine.state.tasks[task].msg
    assert (msg.attempt, msg.ran) == (1, 0) and shown(owner, task) == [0]


def test_only_an_attempt_that_may_have_begun_is_counted_when_a_worker_is_lost(owner):
    first = owner.submit()
    lease = owner.grant(W1)
    owner.tell(W1, Done(first, 0, [NONE], 1))
    one, two = owner.submit(), owner.submit()
    assert len(owner.machine.state.leases[lease].inflight) == 2
    owner.lose(lease, W1, one)
    assert [shown(owner, task) for task in (one, two)] == [[1], [0]]
    assert [owner.machine.state.tasks[task].msg.attempt for task in (one, two)] == [1, 1]


@pytest.mark.parametrize("told", [(), (0,), (0, 2)], ids=["nothing was told", "the first was", "the third was too"])
def test_a_task_before_one_that_has_begun_has_begun_too(owner, told):
    """Its outcome may have waited to be sent; that of one behind it may have come earlier."""
    first = owner.submit()
    lease = owner.grant(W1)
    owner.tell(W1, Done(first, 0, [NONE], 1))
    tasks = [owner.submit(retries=0) for _ in range(4)]
    for at in told:
        owner.tell(W1, Done(tasks[at], 0, [NONE], 1))
    owner.lose(lease, W1, tasks[2])
    for at, task in enumerate(tasks):
        result = owner.machine.state.entries[task].result
        if at in told:
            assert result is NONE
        else:
            assert (result is None) == (at == 3), at


def test_only_the_last_that_a_lost_worker_began_uses_up_a_retry(owner):
    first = owner.submit()
    lease = owner.grant(W1)
    owner.tell(W1, Done(first, 0, [NONE], 1))
    tasks = [owner.submit(retries=3) for _ in range(3)]
    recs = [owner.machine.state.tasks[task] for task in tasks]
    owner.lose(lease, W1, tasks[1])
    assert [(rec.retries, rec.msg.attempt, rec.msg.ran) for rec in recs] == [(3, 1, 1), (2, 1, 1), (3, 1, 0)]


def test_an_outcome_of_a_task_that_never_ran_says_nothing_of_those_before_it(owner):
    first = owner.submit()
    lease = owner.grant(W1)
    owner.tell(W1, Done(first, 0, [NONE], 1))
    one, two = owner.submit(retries=0), owner.submit(retries=0)
    owner.tell(W1, Done(two, 0, [Result(ERROR, b"e")]))  # it was cancelled in the queue
    owner.lose(lease, W1, b"")
    assert owner.machine.state.entries[one].result is None


def test_a_call_that_was_not_sent_when_its_actor_was_lost_has_not_run(owner):
    actor = owner.actor()
    waits_for = owner.submit()
    sent, waiting = owner.call(actor), owner.call(actor, refs=[waits_for])
    owner.lose(1, W1, actor)
    assert [owner.machine.state.calls[task].msg.ran for task in (sent, waiting)] == [1, 0]


# ---------------------------------------------------------------- what a lost worker wrote


def test_what_a_lost_worker_wrote_and_did_not_tell_is_freed_where_it_was(owner):
    task = owner.submit(returns=2)
    lease = owner.grant(W2)
    owner.sent(object)
    owner.lose(lease, W2, task)
    ((dst, free),) = owner.sent(Free)
    assert (dst, free.writer) == (raylet_of(2), W2.proc)
    assert free.idents == [task, task[:-1] + bytes([task[-1] + 1])]


def test_a_value_that_is_known_to_be_there_is_not_freed_with_a_later_attempt(owner):
    task = owner.submit(returns=2)
    owner.grant(W2)
    second = task[:-1] + bytes([task[-1] + 1])
    values = [Result(STORED, b"", 9, (2,)), Result(STORED, b"", 9, (3,))]
    owner.tell(W2, Done(task, 0, values))
    owner.tell(W3, CopyLost(second, [3]))  # made again, by the same worker
    assert owner.machine.state.tasks[task].lease is not None
    owner.sent(object)
    owner.lose(1, W2, task)
    ((_, free),) = owner.sent(Free)
    assert free.idents == [second]


def test_items_that_a_lost_generator_wrote_and_did_not_tell_are_freed(owner):
    task = owner.submit(returns=STREAMING)
    lease = owner.grant(W2)
    owner.tell(W2, Yielded(task, 0, 0, Result(STORED, b"", 9, (2,))))
    owner.sent(object)
    owner.lose(lease, W2, task)
    ((_, free),) = owner.sent(Free)
    number = int.from_bytes(task[-8:], "big")
    assert [int.from_bytes(ident[-8:], "big") - number for ident in free.idents] == list(range(2, 66))


def test_what_a_lost_actor_wrote_for_its_callers_is_freed(owner):
    actor = owner.actor(W2)
    call = owner.call(actor, retries=0)
    owner.sent(object)
    owner.lose(1, W2, actor)
    ((dst, free),) = owner.sent(Free)
    assert (dst, free.idents, free.writer) == (raylet_of(2), [call], W2.proc)


def test_many_calls_that_were_lost_are_named_in_several_messages(owner):
    actor = owner.actor(W2)
    calls = [owner.call(actor, retries=0) for _ in range(FREE_BATCH + 3)]
    owner.sent(object)
    owner.lose(1, W2, actor)
    assert [free.idents for _, free in owner.sent(Free)] == [calls[:FREE_BATCH], calls[FREE_BATCH:]]


# ---------------------------------------------------------------- values that are lost


def test_a_call_that_is_made_again_and_gives_a_small_value_is_over_like_any_other(owner):
    """Its origin is forgotten when nobody needs the value any more."""
    actor = owner.actor(W2)
    call = owner.call(actor)
    owner.stored(call, W2)
    assert call in owner.machine.state.origins
    owner.tell(W3, CopyLost(call, [2]))
    assert owner.machine.state.calls[call].msg.attempt == 1
    owner.machine.objects.let_go(call)  # while it is made again
    assert call in owner.machine.state.origins
    owner.tell(W2, Done(call, 1, [NONE]))
    assert not owner.machine.state.origins and not owner.machine.lineage.made_by


def test_an_actor_is_restarted_when_the_value_that_it_was_given_has_been_made_again(owner):
    given = owner.submit()
    owner.grant(W2)
    owner.stored(given, W2)
    actor = owner.actor(W1, refs=[given])
    lease = owner.machine.state.actors[actor].lease.ident
    owner.tell(W3, CopyLost(given, [2]))
    assert owner.machine.state.entries[given].result is None
    owner.lose(lease, W1, actor)
    rec = owner.machine.state.actors[actor]
    assert rec.state == "restarting" and rec not in rec.shape.actors
    owner.stored(given, W2, attempt=1)
    assert rec in rec.shape.actors and rec.create.values[0].nodes == (2,)


def test_an_actor_whose_given_value_is_lost_for_good_ends_with_that(owner):
    given = owner.submit(retries=0)
    owner.grant(W2)
    owner.stored(given, W2)
    actor = owner.actor(W1, refs=[given])
    owner.tell(W3, CopyLost(given, [2]))
    owner.lose(owner.machine.state.actors[actor].lease.ident, W1, actor)
    assert owner.machine.state.actors[actor].state == "dead"


def moved(owner):
    """An actor in W2, and the value of a call that it made in W3 before."""
    actor = owner.actor(W3)
    made = owner.call(actor)
    owner.stored(made, W3)
    owner.lose(owner.machine.state.actors[actor].lease.ident, W3, actor)
    owner.grant(W2, owner.actor_shape)
    owner.tell(W2, Done(actor, 1, [NONE]))
    assert owner.machine.state.clients[actor].worker == W2
    return actor, made


def reason(msg):
    """The reason that a reader is told for an error."""
    assert msg.result.kind == SYSTEM
    return msgspec.msgpack.decode(names_and_failure(msg.result.data)[1])["reason"]


@pytest.mark.parametrize("first", ["the node's death", "the reader"])
def test_a_call_does_not_wait_for_one_that_is_made_again_behind_it_and_others_get_the_value(owner, first):
    actor, made = moved(owner)
    reader = owner.call(actor, refs=[made])
    assert [msg.task for dst, msg in owner.sent(Call) if dst == W2] == [reader]
    if first == "the node's death":
        owner.tell(HEAD, NodeDied(3, "it died"))
        assert [msg.task for dst, msg in owner.sent(Call) if dst == W2] == [made]  # behind the other
    owner.tell(W2, CopyLost(made, [3]), GetObject(made))
    owner.tell(W1, CopyLost(made, [3]), GetObject(made))
    assert [(dst, reason(msg)) for dst, msg in owner.sent(ObjectValue)] == [(W2, CIRCLE)]
    assert owner.machine.state.calls[made].sent and owner.machine.state.entries[made].result is None
    owner.tell(W2, Done(reader, 0, [Result(ERROR, b"e")]))
    owner.stored(made, W2, attempt=1)
    assert [(dst, msg.result.nodes) for dst, msg in owner.sent(ObjectValue)] == [(W2, (2,)), (W1, (2,))]


@pytest.mark.parametrize("first", ["the node's death", "the reader"])
def test_a_call_does_not_wait_for_a_task_that_is_made_again_with_what_comes_behind_it(owner, first):
    actor, made = moved(owner)
    between = owner.submit(refs=[made])
    owner.grant(W3)
    owner.stored(between, W3)
    owner.call(actor, refs=[between])
    if first == "the node's death":
        owner.tell(HEAD, NodeDied(3, "it died"))
    else:
        owner.tell(W1, CopyLost(made, [3]))
    owner.sent(ObjectValue)
    owner.tell(W2, CopyLost(between, [3]), GetObject(between))
    assert [(dst, reason(msg)) for dst, msg in owner.sent(ObjectValue)] == [(W2, CIRCLE)]
    owner.stored(made, W2, attempt=1)
    assert owner.machine.state.tasks[between].unresolved == 0


def test_a_call_does_not_wait_for_an_item_of_a_generator_that_is_tried_again_behind_it(owner):
    machine, actor = owner.machine, owner.actor(W2)
    made = machine.new_ids(100)
    machine.calls.submit(Call(made, 0, actor, 0, 0, "m", b"", STREAMING), -1, [])
    owner.tell(W2, Yielded(made, 0, 0, Result(STORED, b"", 9, (3,))))
    item = item_id(made, 0)
    machine.objects.hold(item)
    owner.call(actor, refs=[item])
    owner.tell(W2, Done(made, 0, [Result(ERROR, b"e")], retryable=True))
    owner.tell(HEAD, NodeDied(3, "it died"))
    assert machine.state.entries[item].result is None
    owner.sent(ObjectValue)
    owner.tell(W2, CopyLost(item, [3]), GetObject(item))
    assert [(dst, reason(msg)) for dst, msg in owner.sent(ObjectValue)] == [(W2, CIRCLE)]
    owner.tell(W2, Yielded(made, 1, 0, Result(STORED, b"", 9, (2,))))
    assert [(dst, msg.result.nodes) for dst, msg in owner.sent(ObjectValue)] == [(W2, (2,))]


def test_a_call_waits_for_what_is_made_again_elsewhere(owner):
    given = owner.submit()
    owner.grant(W3)
    owner.stored(given, W3)
    actor = owner.actor(W2)
    owner.call(actor, refs=[given])
    other = owner.actor(W1)
    theirs = owner.call(other)
    owner.stored(theirs, W3)
    owner.tell(HEAD, NodeDied(3, "it died"))
    owner.tell(W2, CopyLost(given, [3]), GetObject(given), CopyLost(theirs, [3]), GetObject(theirs))
    assert not owner.sent(ObjectValue)


def test_an_actor_does_not_wait_for_its_own_call_to_itself_that_is_made_again(owner):
    """It is the owner of the value itself."""
    actor = owner.actor(ME)
    made = owner.call(actor)
    owner.stored(made, W3)
    owner.tell(HEAD, NodeDied(3, "it died"))
    machine = owner.machine
    machine.objects.hold(made)
    error = machine.lineage.copies_lost(made, [3])
    assert reason(ObjectValue(made, error)) == CIRCLE and machine.state.entries[made].result is None
    owner.stored(made, ME, attempt=1)
    assert machine.state.entries[made].result.nodes == (1,)


# ---------------------------------------------------------------- errors that nobody got


def failed(owner, worker=W2):
    task = owner.submit(retries=0)
    owner.grant(worker)
    owner.tell(worker, Done(task, 0, [Result(ERROR, b"e")]))
    return task


def test_an_error_given_to_a_constructor_is_not_got_until_somebody_calls(owner):
    actor = owner.actor(None, refs=[failed(owner)])
    assert owner.machine.state.actors[actor].state == "dead"
    assert owner.machine.state.unseen == {actor}
    owner.machine.calls.dead_error(owner.machine.state.clients[actor])
    assert owner.machine.state.unseen == {actor}
    owner.call(actor)
    assert actor not in owner.machine.state.unseen


def test_an_error_given_to_a_constructor_is_got_by_the_calls_that_wait(owner):
    given = owner.submit(retries=0)
    actor = owner.actor(None, refs=[given])
    owner.call(actor)
    owner.grant(W2)
    owner.tell(W2, Done(given, 0, [Result(ERROR, b"e")]))
    assert owner.machine.state.actors[actor].state == "dead" and actor not in owner.machine.state.unseen


def test_the_error_of_a_constructor_is_shown_by_its_worker_and_by_nobody_else(owner):
    actor = owner.actor(None)
    owner.grant(W1, owner.actor_shape)
    owner.tell(W1, Done(actor, 0, [Result(ERROR, b"e")]))
    assert owner.machine.state.actors[actor].state == "dead" and not owner.machine.state.unseen

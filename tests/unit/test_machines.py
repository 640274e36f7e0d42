"""What the pure machines promise, one message at a time."""

from __future__ import annotations

import pickle

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc.core import serialization
from hpc.core.head.machine import HeadMachine
from hpc.core.ids import SESSION_BYTES, Address, make_id, owner_of, raylet_of, return_id, session_mark
from hpc.core.owner.machine import OwnerMachine
from hpc.core.owner.tables import Shape
from hpc.core.policy.placement import Snapshot, place, why_infeasible
from hpc.core.raylet.borrowing import Borrowing
from hpc.core.raylet.leasing import Leasing
from hpc.core.raylet.preparing import prepare
from hpc.core.resources import UNIT, NodeResources, to_units
from hpc.core.store.layout import Layout, OutOfSpace
from hpc.core.wire import (
    INLINE,
    WIRE_VERSION,
    BorrowAcked,
    BorrowAdd,
    BorrowDrop,
    Call,
    CallRefused,
    CreateActor,
    Done,
    Heartbeat,
    HoldAcked,
    LeaseBegin,
    LeaseFailed,
    LeaseGrant,
    LeaseLost,
    LeaseRequest,
    LeaseReturn,
    NodeDemand,
    NodeInfo,
    NodeRegister,
    PrepareEnv,
    Result,
    Skip,
    Task,
    Tickets,
)
from hpc.core.worker.executor import Executor

DRIVER = Address(1, 1)
OTHER = Address(2, 5)
CPU = {"CPU": UNIT}


# ---------------------------------------------------------------- ids, resources, layout, serialization


def test_ids_carry_their_owner():
    ident = make_id(OTHER, 7)
    assert owner_of(ident) == OTHER
    assert return_id(ident, 0) == ident
    assert return_id(ident, 2) == make_id(OTHER, 9)


def test_amounts_are_exact():
    assert 10 * to_units("GPU", 0.1) == to_units("GPU", 1)
    with pytest.raises(ValueError, match=r"multiples of 0\.0001"):
        to_units("CPU", 0.00001)
    with pytest.raises(ValueError, match="whole numbers"):
        to_units("GPU", 1.5)
    for amount in (float("nan"), float("inf"), 1e15):
        with pytest.raises(ValueError, match=r"amounts are numbers up to 9e\+14"):
            to_units("memory", amount)


def test_fractions_share_one_gpu_and_whole_ones_are_exclusive():
    node = NodeResources({"GPU": 2 * UNIT}, {"GPU": ["a", "b"]})
    halves = [node.acquire({"GPU": UNIT // 2}) for _ in range(2)]
    assert {i for grant in halves if grant for i in grant.instances()["GPU"]} == {"a"}
    whole = node.acquire({"GPU": UNIT})
    assert whole is not None
    assert whole.instances() == {"GPU": ["b"]}
    assert node.acquire({"GPU": UNIT // 2}) is None
    for grant in [*halves, whole]:
        assert grant is not None
        node.release(grant)
    assert node.free == node.totals


def test_a_blocked_holder_lends_its_cpu_and_takes_it_back_without_waiting():
    node = NodeResources({"CPU": UNIT, "GPU": UNIT})
    grant = node.acquire({"CPU": UNIT, "GPU": UNIT})
    assert grant is not None
    node.lend_cpu(grant)
    second = node.acquire(CPU)
    assert second is not None
    assert node.free["GPU"] == 0
    node.resume_cpu(grant)
    assert node.free["CPU"] == -UNIT
    node.release(grant)
    node.release(second)
    assert node.free == node.totals


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40_000)), max_size=60))
@settings(max_examples=80, deadline=None)
def test_the_layout_never_overlaps_and_loses_nothing(steps):
    layout = Layout(64 * 4096, 4096)
    used = []
    for take, size in steps:
        if take:
            try:
                used.append(layout.alloc(size))
            except OutOfSpace:
                assert layout.largest_hole < size or size > layout.free_bytes
        elif used:
            layout.free(used.pop(size % len(used)))
        layout.check()
    for offset in used:
        layout.free(offset)
    layout.check()
    assert layout.largest_hole == layout.capacity - layout.reserved


def test_arrays_come_back_without_a_copy_and_simple_values_as_plain_pickles():
    array = np.arange(10_000)
    data = serialization.dumps({"a": array, "b": [1, 2]})
    packed = data.to_bytes()
    assert len(packed) == data.size
    back = serialization.loads(packed)
    assert (back["a"] == array).all()
    assert not back["a"].flags.writeable


def test_small_arrays_are_read_only_like_large_ones_and_those_of_a_function_are_its_own():
    for array in (np.zeros(4), np.array(3), np.zeros((2, 3), order="F")):
        back = serialization.loads(serialization.dumps([array]).to_bytes())[0]
        assert not back.flags.writeable and back.dtype == array.dtype and (back == array).all()
    assert array.flags.writeable
    array = np.zeros(4)
    function = pickle.loads(serialization.dump_code(lambda: array)[0])
    assert function().flags.writeable
    assert serialization.dumps((1, "x")).buffers == []


# ---------------------------------------------------------------- the executor


def call(seq, incarnation=0):
    return Call(make_id(DRIVER, seq + 1), 0, b"actor", incarnation, seq, "m", b"", 1)


def test_calls_run_in_the_order_of_their_numbers_and_a_skip_fills_a_hole():
    executor = Executor()
    executor.handle(DRIVER, CreateActor(b"actor", 0, b"fn", "A", b"", {}))
    executor.ready.clear()
    for seq in (2, 0):
        executor.handle(DRIVER, call(seq))
    assert [m.seq for _, m in executor.ready] == [0]
    executor.handle(DRIVER, Skip(b"actor", 0, 1))
    assert [m.seq for _, m in executor.ready] == [0, 2]


def test_calls_for_another_incarnation_are_refused():
    executor = Executor()
    executor.handle(DRIVER, CreateActor(b"actor", 1, b"fn", "A", b"", {}))
    executor.handle(DRIVER, call(0, incarnation=0))
    assert isinstance(executor.replies[0][1], CallRefused)


# ---------------------------------------------------------------- the owner


def owner_with_worker():
    owner = OwnerMachine(DRIVER)
    owner.state.functions[b"fn"] = b"code"
    shape = owner.leases.add_shape(Shape(CPU, CPU, "DEFAULT", {}, False))
    return owner, shape


def submit(owner, shape, retries=0):
    task = owner.new_ids()
    owner.tasks.submit(Task(task, 0, b"fn", "f", b"", 1), shape, retries, False, [])
    return task


def grant(owner, lease=1, worker=OTHER):
    owner.handle(raylet_of(worker.node), [LeaseGrant(1, lease, worker, "", {})])


def test_a_task_asks_for_a_worker_and_goes_straight_to_it():
    owner, shape = owner_with_worker()
    task = submit(owner, shape)
    [request] = owner.outbox.pop(owner.raylet)
    assert isinstance(request, LeaseRequest)
    assert (request.count, request.seen) == (1, 0)
    grant(owner)
    sent = owner.outbox[OTHER]
    assert isinstance(sent[0], LeaseBegin)
    assert isinstance(sent[-1], Task)
    owner.handle(OTHER, [Done(task, 0, [Result(INLINE, b"v")])])
    assert owner.state.entries[task].result.data == b"v"
    assert not owner.state.tasks


def test_an_answer_of_an_earlier_attempt_is_not_believed():
    owner, shape = owner_with_worker()
    task = submit(owner, shape, retries=1)
    grant(owner)
    owner.handle(raylet_of(2), [LeaseLost(1, OTHER, "crash", "was killed", task, 0)])
    owner.handle(OTHER, [Done(task, 0, [Result(INLINE, b"late")])])
    assert owner.state.entries[task].result is None
    assert owner.state.tasks[task].msg.attempt == 1


def test_only_the_task_that_ran_uses_up_a_retry():
    owner, shape = owner_with_worker()
    shape.depth = 8
    tasks = [submit(owner, shape) for _ in range(3)]
    grant(owner)
    assert len(owner.state.leases[1].inflight) == 3
    owner.handle(raylet_of(2), [LeaseLost(1, OTHER, "crash", "was killed", tasks[0], 0)])
    failed = msgspec.msgpack.decode(owner.state.entries[tasks[0]].result.data)
    assert failed["type"] == "WorkerCrashedError"
    assert [rec.msg.task for rec in shape.queue] == tasks[1:]


def test_a_grant_that_is_slower_than_the_news_of_its_workers_death_is_asked_for_again():
    owner, shape = owner_with_worker()
    submit(owner, shape)
    owner.outbox.clear()
    owner.process_gone(OTHER)
    grant(owner)
    assert not owner.state.leases
    assert [m.seen for m in owner.outbox[owner.raylet] if isinstance(m, LeaseRequest)] == [1]


def test_borrowing_holds_until_the_last_use_and_tells_once():
    owner, _ = owner_with_worker()
    ident = make_id(OTHER, 3)
    owner.objects.hold(ident)
    owner.objects.hold(ident)
    owner.objects.let_go(ident)
    assert [type(m) for m in owner.outbox[owner.raylet]] == [BorrowAdd]
    owner.objects.let_go(ident)
    assert [type(m) for m in owner.outbox[owner.raylet]] == [BorrowAdd, BorrowDrop]
    assert not owner.state.entries


# ---------------------------------------------------------------- the raylet


def leasing(cpus=2):
    machine = Leasing(1, NodeResources({"CPU": cpus * UNIT}), prestart=cpus)
    machine.start_workers_ahead()
    for proc in list(machine.to_start):
        proc.path = "w"
        machine.worker_ready(proc)
    machine.to_start.clear()
    return machine


def want(count, seen, req=1, owner=DRIVER, depth=0):
    return LeaseRequest(req, owner, CPU, CPU, count, seen, False, "DEFAULT", {}, depth)


def grants(machine):
    found = [m for _, m in machine.outbox if isinstance(m, LeaseGrant)]
    machine.outbox.clear()
    return found


def test_repeating_a_demand_or_crossing_a_grant_gives_no_worker_twice():
    machine = leasing(4)
    machine.on_lease_request(DRIVER, want(2, 0))
    machine.on_lease_request(DRIVER, want(2, 0))
    assert len(grants(machine)) == 2
    machine.on_lease_request(DRIVER, want(1, 2))
    assert len(grants(machine)) == 1


def test_children_of_waiting_tasks_go_first():
    machine = leasing(1)
    machine.on_lease_request(DRIVER, want(1, 0))
    [first] = grants(machine)
    machine.on_lease_request(DRIVER, want(1, 1, depth=0))
    machine.on_lease_request(OTHER, want(1, 0, owner=OTHER, depth=3))
    machine.outbox.clear()
    machine.on_lease_return(DRIVER, LeaseReturn(first.lease))
    assert [dst for dst, m in machine.outbox if isinstance(m, LeaseGrant)] == [OTHER]


def test_nobody_returns_somebody_elses_lease():
    machine = leasing(1)
    machine.on_lease_request(DRIVER, want(1, 0))
    [one] = grants(machine)
    machine.on_lease_return(OTHER, LeaseReturn(one.lease))
    assert one.lease in machine.leases


def test_an_acknowledgement_of_an_earlier_hold_is_not_taken_for_the_later_one():
    node = Borrowing(1)
    ident = make_id(OTHER, 1)
    node.on_borrow_add(DRIVER, BorrowAdd([ident], 1))
    node.on_borrow_drop(DRIVER, BorrowDrop([ident]))
    node.on_borrow_add(DRIVER, BorrowAdd([ident], 2))
    node.outbox.clear()
    node.on_hold_acked(OTHER, HoldAcked([ident]))
    assert node.outbox == []
    node.on_hold_acked(OTHER, HoldAcked([ident]))
    assert [type(m) for _, m in node.outbox] == [BorrowAcked]


# ---------------------------------------------------------------- the head and its policy


def head_with(*cpus):
    head = HeadMachine()
    for number, count in enumerate(cpus, 1):
        info = NodeInfo(number, f"n{number}", "", "", {"CPU": count * UNIT}, {}, False, 0, "")
        head.handle(raylet_of(number), [NodeRegister(info, WIRE_VERSION)], 0.0)
    head.outbox.clear()
    return head


def tickets(head):
    found = [m for _, m in head.outbox if isinstance(m, Tickets)]
    head.outbox.clear()
    return found


def test_a_demand_gets_tickets_for_nodes_with_room_and_no_more_than_it_asked():
    head = head_with(1, 4)
    head.handle(raylet_of(1), [NodeDemand(1, 9, CPU, CPU, "DEFAULT", 3)], 0.0)
    [answer] = tickets(head)
    assert sum(count for _, count, _ in answer.grants) == 3
    head.handle(raylet_of(1), [NodeDemand(1, 9, CPU, CPU, "DEFAULT", 3, 0)], 0.0)
    assert tickets(head) == []


def test_what_no_node_can_ever_do_is_said_once():
    head = head_with(1, 2)
    big = {"CPU": 8 * UNIT}
    head.handle(raylet_of(1), [NodeDemand(1, 9, big, big, "DEFAULT", 1)], 0.0)
    [answer] = tickets(head)
    assert "{CPU: 8}" in answer.infeasible
    assert "{CPU: 2}" in answer.infeasible
    head.tick(1.0)
    assert tickets(head) == []


def pass_time(head, begin, end, *talking):
    """The head's turns from one second to another; these nodes report in each."""
    for at in range(begin + 1, end + 1):
        for node in talking:
            head.handle(raylet_of(node), [Heartbeat(node, CPU, 1, 0)], float(at))
        head.tick(float(at))


def test_silent_nodes_are_suspected_and_then_buried():
    head = head_with(1, 1)
    pass_time(head, 0, 50, 1)
    assert head.nodes[2].suspect
    assert not head.nodes[1].suspect
    pass_time(head, 50, 61, 1)
    assert list(head.dead) == [2]
    head.outbox.clear()
    head.handle(raylet_of(2), [Heartbeat(2, CPU, 1, 0)], 62.0)
    assert 2 not in head.nodes


def test_the_time_in_which_the_head_was_stopped_is_held_against_nobody():
    head = head_with(1, 1)
    pass_time(head, 0, 5, 1, 2)
    head.tick(500.0)
    assert not any(node.suspect for node in head.nodes.values())
    pass_time(head, 500, 520, 1)
    assert head.nodes[2].suspect and not head.dead
    pass_time(head, 520, 570, 1)
    assert list(head.dead) == [2]


def tried(head):
    """The nodes whose ports are to be tried now."""
    numbers, head.to_try[:] = sorted(head.to_try), []
    return numbers


def test_a_silent_node_whose_port_refuses_twice_is_lost():
    head = head_with(1, 1)
    pass_time(head, 0, 3, 1, 2)
    assert tried(head) == [1, 2]  # once, to know that they can be reached at all
    head.port_tried(1, False)
    head.port_tried(2, False)
    pass_time(head, 3, 6, 1, 2)
    assert tried(head) == []
    pass_time(head, 6, 8, 1)
    assert tried(head) == [2]
    head.port_tried(2, True)
    assert 2 in head.nodes  # its supervisor may still be ending it
    pass_time(head, 8, 10, 1)
    assert tried(head) == [2]
    head.port_tried(2, True)
    assert list(head.dead) == [2] and "refuses connections" in head.dead[2].why


def test_a_port_that_takes_connections_again_or_reports_clears_a_node():
    head = head_with(1, 1)
    pass_time(head, 0, 3, 1, 2)
    for node in tried(head):
        head.port_tried(node, False)
    pass_time(head, 3, 5, 1)
    head.port_tried(2, True)
    pass_time(head, 5, 7, 1, 2)
    pass_time(head, 7, 10, 1)
    head.port_tried(2, True)
    assert 2 in head.nodes  # the first refusal since it reported
    head.port_tried(2, False)
    pass_time(head, 10, 14, 1)
    head.port_tried(2, True)
    assert 2 in head.nodes


def test_a_port_that_was_never_seen_open_proves_nothing():
    head = head_with(1, 1)
    pass_time(head, 0, 30, 1)
    assert set(tried(head)) == {1, 2} and len(head.to_try) == 0
    head.port_tried(2, True)
    pass_time(head, 30, 40, 1)
    head.port_tried(2, True)
    assert 2 in head.nodes  # a firewall refuses in the name of those behind it


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.integers(1, 30), st.sampled_from(["DEFAULT", "SPREAD"]))
@settings(max_examples=80, deadline=None)
def test_a_plan_never_exceeds_what_is_free(free, count, strategy):
    rows = [(n, {"CPU": 5 * UNIT}, {"CPU": f * UNIT}) for n, f in enumerate(free, 1)]
    plan = place(Snapshot.of(rows), CPU, count, strategy)
    assert sum(n for _, n in plan) == min(count, sum(free))
    assert all(n <= free[node - 1] for node, n in plan)
    if strategy == "SPREAD" and plan:
        used = dict(plan)
        assert max(used.values()) - min(used.get(n, 0) for n, f in enumerate(free, 1) if f >= max(used.values())) <= 1


def test_a_hard_affinity_to_a_node_that_is_not_there_is_infeasible():
    snapshot = Snapshot.of([(1, CPU, CPU)])
    assert "node 7" in why_infeasible(snapshot, CPU, ["node", 7, False])
    assert why_infeasible(snapshot, CPU, ["node", 7, True]) == ""


def test_calls_of_a_frame_are_told_apart_by_incarnation_group_and_order():
    executor = Executor()
    executor.handle(DRIVER, CreateActor(b"actor", 1, b"fn", "A", b"", {}))
    executor.ready.clear()
    src = Address(*DRIVER)  # one object for a whole frame, as the shell gives
    for number, (seq, incarnation, group) in enumerate([(0, 0, ""), (0, 1, ""), (1, 1, ""), (0, 1, "io"), (2, 1, "")]):
        msg = call(seq, incarnation=incarnation)
        msg.group, msg.task = group, bytes([number])
        executor.handle(src, msg)
    assert [m.task[0] for _, m in executor.ready] == [1, 2, 3, 4]
    assert [m.task[0] for _, m in executor.replies] == [0]
    executor.handle(src, CreateActor(b"other", 0, b"fn", "A", b"", {}))
    executor.ready.clear()
    executor.handle(src, call(3, incarnation=1))
    assert not executor.ready and len(executor.replies) == 2


def test_an_id_of_another_session_is_nobodys_here():
    owner = OwnerMachine(DRIVER)
    owner.enter("this")
    mine = owner.objects.put_inline(b"v", [])
    assert session_mark("this") != session_mark("that")
    stranger = session_mark("that") + mine[SESSION_BYTES:]
    assert owner_of(stranger) == DRIVER
    entry = owner.objects.hold(stranger)
    assert not entry.owned and b"another session" in entry.result.data
    owner.objects.let_go(stranger)
    assert not owner.outbox, "nobody is told of it"
    owner.actors.kill(stranger, True)
    assert not owner.outbox


# ---------------------------------------------------------------- environments before the first task


def test_the_head_tells_all_nodes_that_take_work_to_prepare_an_environment():
    head = HeadMachine()
    for node, gateway in ((1, False), (2, False), (3, True)):
        info = NodeInfo(node, f"n{node}", "tcp://h:1", "key", CPU, {}, gateway, 1, "/dir", True, "")
        head.handle(Address(node, 0), [NodeRegister(info, WIRE_VERSION)], 0.0)
    head.tick(1.0)
    head.outbox.clear()
    msg = PrepareEnv(7, {"A": "1"})
    head.handle(DRIVER, [msg], 1.0)
    told, answers = head.outbox[:-1], head.outbox[-1:]
    assert told == [(raylet_of(1), msg), (raylet_of(2), msg)] and [(dst, m.req, m.ok) for dst, m in answers] == [
        (DRIVER, 7, True)
    ]


def test_a_node_prepares_an_environment_once_and_a_task_takes_the_worker_that_did():
    leasing = Leasing(1, NodeResources({"CPU": 2 * UNIT}))
    msg = PrepareEnv(7, {"HPC_RUNTIME_ENV": "{}"})
    prepare(leasing, msg)
    prepare(leasing, msg)
    (proc,) = leasing.to_start
    assert proc.env == (("HPC_RUNTIME_ENV", "{}"),)
    leasing.on_lease_request(DRIVER, LeaseRequest(1, DRIVER, CPU, CPU, 1, 0, False, "DEFAULT", msg.env))
    assert leasing.to_start == [proc], "it waits for the one that is being started"
    leasing.worker_ready(proc)
    assert [type(m) for _, m in leasing.outbox] == [LeaseGrant]
    prepare(leasing, msg)
    assert leasing.to_start == [proc]
    leasing.max_procs = 1
    prepare(leasing, PrepareEnv(8, {"B": "2"}))
    assert leasing.to_start == [proc], "no more processes than the node has room for"


def test_a_task_that_waits_for_what_is_being_prepared_hears_of_its_failure():
    leasing = Leasing(1, NodeResources({"CPU": 2 * UNIT}))
    prepare(leasing, PrepareEnv(7, {"A": "1"}))
    leasing.on_lease_request(DRIVER, LeaseRequest(1, DRIVER, CPU, CPU, 1, 0, False, "DEFAULT", {"A": "1"}))
    (proc,) = leasing.to_start
    leasing.env_failed(proc.env, "pip failed")
    leasing.worker_gone(proc, "it ended")
    assert [(dst, m.req, m.why) for dst, m in leasing.outbox if type(m) is LeaseFailed] == [(DRIVER, 1, "pip failed")]

"""What the head says upward of what waits and of its nodes, and how nodes are vacated and taken back."""

from __future__ import annotations

import json

import pytest

from hpc.core.head.machine import HeadMachine
from hpc.core.head.upward import MAX_SHAPES, REPEAT_S
from hpc.core.ids import Address, make_id, raylet_of
from hpc.core.node.control import MAX_PACKET_BYTES
from hpc.core.raylet.leasing import Leasing
from hpc.core.raylet.vacancy import let_workers_end, vacancy, vacate
from hpc.core.resources import UNIT, NodeResources
from hpc.core.wire import (
    WIRE_VERSION,
    BundlePrepare,
    BundlePrepared,
    Heartbeat,
    LeaseGrant,
    LeaseRequest,
    LeaseReturn,
    NodeDemand,
    NodeInfo,
    NodeRegister,
    PgCreate,
    Tickets,
    Vacate,
)

CPU = {"CPU": UNIT}
TWO = {"CPU": 2 * UNIT}
DRIVER = Address(1, 1)


def head_with(nodes=2, totals=TWO, labels=None):
    head = HeadMachine()
    for number in range(1, nodes + 1):
        own = {"hpc.io/node-id": str(number), "hpc.io/host": f"h{number}", **(labels or {}).get(number, {})}
        info = NodeInfo(number, f"h{number}", f"tcp://h{number}:1", "key", dict(totals), own, False, 1, "/")
        head.handle(raylet_of(number), [NodeRegister(info, WIRE_VERSION)], 0.0)
    head.outbox.clear()
    return head


def beat(head, number, vacancy, now, *, free=None, keeps=False):
    node = head.nodes[number]
    free = dict(node.info.totals) if free is None else free
    head.handle(raylet_of(number), [Heartbeat(number, free, 1, 0, vacancy=vacancy, keeps=keeps)], now)


def fill(head, now=0.0):
    """All nodes are full."""
    for number in head.nodes:
        beat(head, number, "used", now, free={"CPU": 0})


def ask(head, count, now, *, shape=1, placement=CPU, strategy="DEFAULT", time_s=0.0, node=1):
    demand = NodeDemand(node, shape, placement, placement, strategy, count, 0, time_s)
    head.handle(raylet_of(node), [demand], now)


def report(head, now):
    found = head.upward.report(now)
    assert found is not None
    assert len(json.dumps({"op": "demand", **found})) < MAX_PACKET_BYTES
    return found


def test_ten_thousand_tasks_that_wait_are_one_line():
    head = head_with()
    fill(head)
    ask(head, 9_996, 1.0)
    ask(head, 4, 1.0, node=2)
    assert report(head, 1.0)["shapes"] == [[CPU, 10_000, 0.0, True]]


def test_what_has_found_room_is_not_among_it():
    head = head_with()
    ask(head, 7, 1.0)  # four of them find room
    assert report(head, 1.0)["shapes"] == [[CPU, 3, 0.0, True]]


def test_what_waits_at_a_full_node_for_its_share_waits():
    head = head_with()
    fill(head)
    ask(head, 1, 1.0)
    head.outbox.clear()
    head.tick(1.5)
    assert any(isinstance(msg, Tickets) and msg.patient for _, msg in head.outbox)
    assert not head.demands.table and report(head, 1.6)["shapes"] == [[CPU, 1, 0.0, True]]
    assert report(head, 9.0)["shapes"] == []


@pytest.mark.parametrize(
    ("strategy", "others"),
    [
        ("SPREAD", True),
        (["near", 1], True),
        (["node", 1, True], True),
        (["node", 1, False], False),
        (["where", "DEFAULT", [[("zone", "in", ["a"])]]], True),
        (["where", "DEFAULT", [[("zone", "in", ["b"])]]], False),
        (["where", "DEFAULT", [[("ray.io/node-id", "in", ["1"])]]], False),
        (["where", "DEFAULT", [[("hpc.io/host", "in", ["h1"])]]], False),
    ],
)
def test_it_is_said_whether_another_node_could_serve_what_waits(strategy, others):
    labels = {1: {"zone": "a", "ray.io/node-id": "1"}}
    head = head_with(labels=labels)
    fill(head)
    ask(head, 1, 1.0, strategy=strategy)
    assert report(head, 1.0)["shapes"] == [[CPU, 1, 0.0, others]]


def test_a_report_has_a_limit_however_much_waits():
    head = head_with(300)
    fill(head)
    for shape in range(500):
        ask(head, 2, 1.0, shape=shape, placement={"CPU": 1 + shape})
    ask(head, 5, 1.0, shape=1000, placement={"x" * 500: 1})
    found = report(head, 1.0)
    assert len(found["shapes"]) == MAX_SHAPES and found["more"] == 2 * (500 - MAX_SHAPES) + 5
    assert len(found["nodes"]) == 300 and found["kinds"] == [TWO]


def test_groups_that_wait_are_said_with_the_room_that_there_is():
    head = head_with()
    group = make_id(DRIVER, 5)
    create = PgCreate(1, group, "", "", "STRICT_SPREAD", [CPU] * 3, [], False, DRIVER)
    head.handle(DRIVER, [create], 1.0)
    found = report(head, 1.0)
    assert found["groups"] == [["STRICT_SPREAD", [[CPU, 3]]]] and found["room"] == [[TWO, 2]]


def test_nodes_are_said_with_how_long_they_are_as_they_are():
    head = head_with()
    beat(head, 1, "used", 1.0)
    beat(head, 2, "idle", 5.0, keeps=True)
    beat(head, 2, "idle", 9.0)
    head.learn_end(100.0, [1], "its job ends", now=9.0)
    found = report(head, 10.0)
    assert found["nodes"] == [[1, "draining", 10.0, 0, False], [2, "idle", 5.0, 0, False]]


def test_what_has_not_changed_is_said_seldom():
    head = head_with()
    assert head.upward.report(1.0) is not None
    assert head.upward.report(2.0) is None
    assert head.upward.report(1.0 + REPEAT_S) is not None
    beat(head, 1, "idle", 12.0)
    assert head.upward.report(12.5) is not None


# ---------------------------------------------------------------- vacating, as the head sees it


def vacates(head):
    found = [(dst.node, msg.on) for dst, msg in head.outbox if isinstance(msg, Vacate)]
    head.outbox.clear()
    return found


def test_an_idle_node_is_vacated_and_nothing_is_placed_there():
    head = head_with()
    beat(head, 1, "used", 1.0, free={"CPU": 0})
    beat(head, 2, "idle", 1.0)
    head.outbox.clear()
    head.upward.vacate([2])
    assert vacates(head) == [(2, True)]
    ask(head, 1, 2.0)
    assert report(head, 2.0)["shapes"] == [[CPU, 1, 0.0, True]]
    head.upward.vacate([])
    assert vacates(head) == [(2, False)]
    head.tick(2.1)
    assert any(isinstance(msg, Tickets) and msg.grants for _, msg in head.outbox)


def test_a_node_in_use_is_asked_when_it_is_idle():
    head = head_with()
    beat(head, 2, "used", 1.0)
    head.upward.vacate([2])
    assert vacates(head) == []
    beat(head, 2, "used", 2.0)
    assert vacates(head) == []
    beat(head, 2, "idle", 3.0)
    assert vacates(head) == [(2, True)]
    beat(head, 2, "leaving", 4.0)
    beat(head, 2, "empty", 5.0)
    assert vacates(head) == []


def test_a_head_that_took_the_place_of_another_takes_back_what_it_was_not_told_of():
    head = head_with()
    beat(head, 2, "empty", 1.0)
    assert vacates(head) == [(2, False)]


# ---------------------------------------------------------------- vacating, as the raylet does it


@pytest.fixture
def leasing():
    """A node with one idle worker."""
    leasing = Leasing(2, NodeResources(TWO))
    leasing.start_worker(())
    leasing.worker_ready(leasing.to_start.pop())
    leasing.outbox.clear()
    return leasing


def request(count=1, req=1):
    return LeaseRequest(req, DRIVER, CPU, CPU, count, 0, False, "DEFAULT", {})


def test_an_idle_node_is_empty_once_its_workers_have_ended(leasing):
    assert vacancy(leasing) == "idle"
    vacate(leasing, True)
    assert vacancy(leasing) == "leaving" and len(leasing.to_retire) == 1
    leasing.worker_gone(leasing.to_retire.pop(), "it was told to end")
    assert vacancy(leasing) == "empty"


def test_a_worker_that_was_being_started_ends_too(leasing):
    leasing.start_worker(())
    vacate(leasing, True)
    leasing.worker_ready(leasing.to_start.pop())
    let_workers_end(leasing)
    assert len(leasing.to_retire) == 2


def test_a_node_in_use_is_not_vacated(leasing):
    leasing.on_lease_request(raylet_of(2), request())
    vacate(leasing, True)
    assert vacancy(leasing) == "used" and not leasing.to_retire
    (lease,) = leasing.leases.values()
    leasing.on_lease_return(DRIVER, LeaseReturn(lease.ident))
    assert vacancy(leasing) == "idle"


def test_a_vacated_node_takes_nothing_until_it_is_taken_back(leasing):
    vacate(leasing, True)
    prepare = BundlePrepare(b"g", 1, 0, [(0, CPU)])
    leasing.on_bundle_prepare(Address(0, 0), prepare)
    ((_, said),) = leasing.outbox
    assert isinstance(said, BundlePrepared) and not said.ok and "given back" in said.why
    leasing.outbox.clear()
    leasing.on_lease_request(raylet_of(2), request())
    assert not leasing.leases
    vacate(leasing, False)
    assert len(leasing.leases) == 1 and vacancy(leasing) == "used"
    leasing.worker_ready(leasing.to_start.pop())
    assert any(isinstance(msg, LeaseGrant) for _, msg in leasing.outbox)


def test_drivers_and_bundles_use_a_node(leasing):
    leasing.on_bundle_prepare(Address(0, 0), BundlePrepare(b"g", 1, 0, [(0, CPU)]))
    assert vacancy(leasing) == "used"
    other = Leasing(3, NodeResources(TWO))
    other.new_proc("driver")
    assert vacancy(other) == "used"

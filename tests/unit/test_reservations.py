"""Room that is kept for those who would never find it among many small ones: the pure parts of raylet and head."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hpc.core.head.groups import HOLD_S as GROUP_HOLD_S
from hpc.core.head.groups import PATIENCE_S
from hpc.core.head.machine import HeadMachine
from hpc.core.ids import HEAD, Address, make_id, raylet_of
from hpc.core.raylet.leasing import Leasing
from hpc.core.raylet.reservations import RESERVE_AFTER_S, RESERVE_S
from hpc.core.resources import UNIT, NodeResources
from hpc.core.wire import (
    WIRE_VERSION,
    BundleCommit,
    BundlePrepare,
    BundlePrepared,
    BundleReturn,
    Heartbeat,
    LeaseGrant,
    LeaseReclaim,
    LeaseRequest,
    LeaseReturn,
    NodeInfo,
    NodeRegister,
    PgCreate,
    PgRemove,
)

DRIVER = Address(1, 100)
GROUP = make_id(DRIVER, 7)
OTHER = make_id(DRIVER, 8)


def cpus(count):
    return {"CPU": count * UNIT}


class Node:
    """A raylet's leasing with workers that are there at once."""

    def __init__(self, count=4):
        self.leasing = Leasing(1, NodeResources(cpus(count)), prestart=0)
        self.now = 0.0
        self.granted = []

    def settle(self):
        """Start workers, take grants; what else was sent."""
        leasing, rest = self.leasing, []
        while leasing.to_start:
            leasing.worker_ready(leasing.to_start.pop())
        for dst, msg in leasing.outbox:
            if isinstance(msg, LeaseGrant):
                self.granted.append((dst, msg.req, msg.lease))
            else:
                rest.append((dst, msg))
        leasing.outbox.clear()
        return rest

    def ask(self, req, size, count, owner=DRIVER):
        self.leasing.on_lease_request(
            owner, LeaseRequest(req, owner, cpus(size), cpus(size), count, self.seen(req), False, "DEFAULT", {})
        )
        return self.settle()

    def seen(self, req):
        return sum(1 for _, r, _ in self.granted if r == req)

    def held(self, req):
        return [le.ident for le in self.leasing.leases.values() if le.req == req]

    def give_back(self, lease):
        self.leasing.on_lease_return(self.leasing.leases[lease].owner, LeaseReturn(lease))
        return self.settle()

    def tick(self, seconds):
        self.now += seconds
        self.leasing.tick(self.now)
        return self.settle()

    def prepare(self, group, size, attempt=1, patient=True):
        self.leasing.on_bundle_prepare(HEAD, BundlePrepare(group, attempt, 99, [(0, cpus(size))], patient))
        return [msg for _, msg in self.settle() if isinstance(msg, BundlePrepared)]


def test_a_large_demand_gets_what_small_ones_give_back():
    node = Node(4)
    node.ask(1, 1, 100)
    node.ask(2, 4, 1)
    assert len(node.held(1)) == 4
    for _ in range(8):  # without patience every worker that comes back goes out again
        node.give_back(node.held(1)[0])
        assert len(node.held(1)) == 4
    node.tick(0.01)
    recalled = []
    for dst, msg in node.tick(RESERVE_AFTER_S):
        recalled += msg.leases if isinstance(msg, LeaseReclaim) and dst == DRIVER else []
    assert sorted(recalled) == sorted(node.held(1))
    for left in (3, 2, 1):
        node.give_back(node.held(1)[0])
        assert len(node.held(1)) == left
        assert node.leasing.reservations.free_for_others() == cpus(0)
    node.give_back(node.held(1)[0])
    assert (len(node.held(1)), len(node.held(2))) == (0, 1)
    node.tick(0.1)
    assert not node.leasing.reservations.waiting
    node.give_back(node.held(2)[0])
    assert len(node.held(1)) == 4


def test_a_hold_that_helps_nobody_lapses_and_comes_back_for_longer():
    node = Node(2)
    node.ask(1, 1, 100)
    node.ask(2, 2, 1)
    node.tick(0.01)
    node.tick(RESERVE_AFTER_S)
    node.give_back(node.held(1)[0])
    assert len(node.held(1)) == 1
    node.tick(RESERVE_S + 0.01)  # the other one has not ended
    assert not node.leasing.reservations.waiting
    node.leasing.schedule()
    assert len(node.held(1)) == 2
    node.tick(RESERVE_S - 0.1)
    assert not node.leasing.reservations.waiting
    node.tick(0.2)
    assert node.leasing.reservations.waiting[0].until >= node.now + 2 * RESERVE_S - 0.1


def test_a_withdrawn_demand_keeps_nothing():
    node = Node(2)
    node.ask(1, 1, 100)
    node.ask(2, 2, 1)
    node.tick(0.01)
    node.tick(RESERVE_AFTER_S)
    assert node.leasing.reservations.waiting
    node.ask(2, 2, 0)
    node.tick(0.01)
    assert not node.leasing.reservations.waiting


def test_what_actors_have_is_not_waited_for():
    node = Node(2)
    node.leasing.on_lease_request(DRIVER, LeaseRequest(3, DRIVER, cpus(1), cpus(1), 1, 0, True, "DEFAULT", {}))
    node.settle()
    node.ask(1, 1, 100)
    node.ask(2, 2, 1)
    node.tick(0.01)
    node.tick(RESERVE_AFTER_S)
    assert not node.leasing.reservations.waiting
    (answer,) = node.prepare(GROUP, 2)
    assert not answer.ok


def test_bundles_that_are_waited_for_get_what_becomes_free_and_are_answered_then():
    node = Node(2)
    node.ask(1, 1, 100)
    assert not node.prepare(GROUP, 2)
    assert not node.prepare(OTHER, 1)  # who comes later waits behind
    node.give_back(node.held(1)[0])
    node.give_back(node.held(1)[0])
    assert not node.held(1)
    assert [b.group for b in node.leasing.bundles.held.values()] == [GROUP]
    node.leasing.on_bundle_return(HEAD, BundleReturn(GROUP, 0, True, "removed"))
    assert [b.group for b in node.leasing.bundles.held.values()] == [OTHER]
    assert len(node.held(1)) == 1


def test_nobody_else_reserves_what_is_kept_and_a_removed_group_keeps_nothing():
    node = Node(2)
    node.ask(1, 1, 100)
    assert not node.prepare(GROUP, 2)
    node.give_back(node.held(1)[0])
    (answer,) = node.prepare(OTHER, 1, patient=False)
    assert not answer.ok
    node.leasing.on_bundle_return(HEAD, BundleReturn(GROUP, 1, False, "given up"))
    assert len(node.held(1)) == 2
    assert not node.leasing.reservations.waiting


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=60))
def test_units_are_never_lost_and_all_are_served_in_the_end(steps):
    node = Node(4)
    leasing = node.leasing
    node.ask(1, 1, 30)
    node.ask(2, 4, 2)
    for kind, pick in steps:
        if kind == 0 and leasing.leases:
            node.give_back([*leasing.leases][pick % len(leasing.leases)])
        elif kind == 1:
            node.prepare(GROUP, 1 + pick % 3, attempt=pick + 1)
        elif kind == 2:
            leasing.on_bundle_return(HEAD, BundleReturn(GROUP, 0, True, "removed"))
        elif kind == 3:
            leasing.on_bundle_commit(HEAD, BundleCommit(GROUP, pick + 1))
        else:
            node.tick(pick / 3)
        node.settle()
        used = sum(le.grant.amounts.get("CPU", 0) for le in leasing.leases.values())
        kept = sum(b.grant.amounts.get("CPU", 0) for b in leasing.bundles.held.values())
        assert leasing.resources.free["CPU"] + used + kept == 4 * UNIT
        assert leasing.resources.free["CPU"] >= 0
    leasing.on_bundle_return(HEAD, BundleReturn(GROUP, 0, True, "removed"))
    for _ in range(200):
        if leasing.leases:
            node.give_back(next(iter(leasing.leases)))
        node.tick(0.5)
    assert (node.seen(1), node.seen(2)) == (30, 2)
    assert not leasing.reservations.waiting


# ---------------------------------------------------------------- the head


class Cluster:
    """A head with nodes of two CPUs that are all in use."""

    def __init__(self, nodes=2):
        self.head = HeadMachine()
        self.now = 0.0
        for node in range(1, nodes + 1):
            info = NodeInfo(node, f"n{node}", "", "", cpus(2), {}, False, 0, "")
            self.head.handle(raylet_of(node), [NodeRegister(info, WIRE_VERSION)], 0.0)
            self.report(node, 0)
        self.take()

    def report(self, node, free):
        self.head.handle(raylet_of(node), [Heartbeat(node, cpus(free), 0, 0, [], [])], self.now)

    def take(self, kind=BundlePrepare):
        out = [(dst.node, msg) for dst, msg in self.head.outbox if isinstance(msg, kind)]
        self.head.outbox.clear()
        return out

    def group(self, ident, strategy="STRICT_SPREAD", bundles=2):
        self.head.handle(
            DRIVER, [PgCreate(1, ident, "", "", strategy, [cpus(2)] * bundles, [], True, DRIVER)], self.now
        )

    def tick(self, seconds):
        """Time goes by, and reports come."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.5)
            for node in list(self.head.nodes):
                self.report(node, 0)
            self.head.tick(self.now)


def test_the_head_is_patient_for_one_group_at_a_time_the_oldest_first():
    cluster = Cluster()
    cluster.group(GROUP)
    cluster.group(OTHER)
    cluster.tick(PATIENCE_S / 2)
    assert not cluster.take()
    cluster.tick(PATIENCE_S)
    asked = cluster.take()
    assert {(node, msg.group, msg.patient) for node, msg in asked} == {(1, GROUP, True), (2, GROUP, True)}
    cluster.tick(1.0)
    assert not cluster.take()
    for node, msg in asked:
        cluster.head.handle(raylet_of(node), [BundlePrepared(GROUP, msg.attempt, True)], cluster.now)
    assert len(cluster.take(BundleCommit)) == 2
    assert cluster.head.groups.table[GROUP].state == "CREATED"
    cluster.tick(1.0)
    assert not cluster.take()  # the nodes are the first group's
    cluster.head.handle(DRIVER, [PgRemove(2, GROUP)], cluster.now)
    cluster.tick(1.0)
    assert {(node, msg.group) for node, msg in cluster.take()} == {(1, OTHER), (2, OTHER)}


def test_a_group_that_waits_in_vain_lets_others_have_their_turn():
    cluster = Cluster()
    cluster.group(GROUP)
    cluster.group(OTHER)
    cluster.tick(PATIENCE_S + 0.5)
    assert {msg.group for _, msg in cluster.take()} == {GROUP}
    cluster.tick(GROUP_HOLD_S)
    found = [(type(msg).__name__, msg.group) for _, msg in cluster.take((BundlePrepare, BundleReturn))]
    assert found.count(("BundleReturn", GROUP)) == 2
    assert found.count(("BundlePrepare", OTHER)) == 2
    cluster.tick(GROUP_HOLD_S + 1.0)
    assert ("BundlePrepare", GROUP) in [
        (type(msg).__name__, msg.group) for _, msg in cluster.take((BundlePrepare, BundleReturn))
    ]


def test_a_node_where_waiting_is_in_vain_is_left_out():
    cluster = Cluster(3)
    cluster.group(GROUP)
    cluster.tick(PATIENCE_S + 0.5)
    first = cluster.take()
    node, msg = first[0]
    cluster.head.handle(raylet_of(node), [BundlePrepared(GROUP, msg.attempt, False, "actors")], cluster.now)
    cluster.tick(0.5)
    again = cluster.take()
    assert len(again) == 2
    assert node not in {n for n, _ in again}


def test_room_elsewhere_is_used_at_once():
    cluster = Cluster(2)
    cluster.group(GROUP, "STRICT_PACK", 1)
    cluster.tick(PATIENCE_S + 0.5)
    ((kept_at, first),) = cluster.take()
    other = 3 - kept_at
    cluster.report(other, 2)
    ((node, second),) = cluster.take()
    assert (node, second.patient, second.attempt) == (other, False, first.attempt + 1)


def test_a_removed_group_is_taken_back_everywhere():
    cluster = Cluster()
    cluster.group(GROUP)
    cluster.tick(PATIENCE_S + 0.5)
    assert cluster.take()
    cluster.head.handle(DRIVER, [PgRemove(2, GROUP)], cluster.now)
    assert sorted(node for node, _ in cluster.take(BundleReturn)) == [1, 2]
    assert not cluster.head.groups.are_waiting

"""The head's view of what is free is kept, not made anew; a demand is looked at when something has changed for it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc.core.head.columns import difference, rebuilt
from hpc.core.head.machine import TELL_MAX_S, HeadMachine
from hpc.core.head.nodes import TICKET_S
from hpc.core.ids import Address
from hpc.core.policy.bundles import STRATEGIES
from hpc.core.policy.labels import parse_selector
from hpc.core.policy.placement import Snapshot, place
from hpc.core.resources import UNIT
from hpc.core.wire import (
    WIRE_VERSION,
    BundlePrepare,
    BundlePrepared,
    Heartbeat,
    HeartbeatAck,
    KvGet,
    NodeDemand,
    NodeInfo,
    NodeRegister,
    NodeTable,
    PgCreate,
    PgRemove,
    ProcessGone,
    Tickets,
)

CPU = {"CPU": UNIT}
WHERE = parse_selector({"zone": "a"})


def info(node, totals=None, zone="a", gateway=False):
    return NodeInfo(node, f"n{node}", "", "", totals or {"CPU": 2 * UNIT}, {"zone": zone}, gateway, 0, "")


class Cluster:
    """A head, and what raylets would say to it."""

    def __init__(self):
        self.head = HeadMachine(suspect_s=3.0, dead_s=30.0)
        self.now = 0.0
        self.given = {}
        self.prepares = []

    def say(self, node, *messages, turn=True, proc=0):
        self.head.handle(Address(node, proc), messages, self.now, serve=False)
        if turn:
            self.turn()

    def turn(self, later=0.0):
        self.now += later
        due = self.head.tick(self.now)
        for dst, msg in self.head.outbox:
            if isinstance(msg, Tickets):
                for node, _, ticket in msg.grants:
                    self.given.setdefault(node, []).append(ticket)
            elif isinstance(msg, BundlePrepare):
                self.prepares.append((dst.node, msg))
                self.given.setdefault(dst.node, []).append(msg.ticket)
        out, self.head.outbox[:] = list(self.head.outbox), []
        assert due > self.now
        return out

    def do(self, step):
        kind, node, n, strategy = step
        head = self.head
        if kind == "join":
            totals = [CPU, {"CPU": 4 * UNIT}, {"CPU": UNIT, "GPU": UNIT}, {"x": UNIT}][n % 4]
            if node not in head.dead:
                self.say(node, NodeRegister(info(node, totals, "ab"[n % 2], n == 7), WIRE_VERSION), turn=n < 5)
        elif kind == "report":
            spent, self.given[node] = self.given.get(node, [])[:n], self.given.get(node, [])[n:]
            self.say(node, Heartbeat(node, {"CPU": (n - 1) * UNIT, "GPU": n % 2 * UNIT}, 0, 0, spent), turn=n % 3 > 0)
        elif kind == "want":
            wanted = [CPU, {"CPU": 3 * UNIT}, {"GPU": UNIT}, {}][n % 4]
            self.say(node, NodeDemand(node, n, wanted, wanted, strategy, n), turn=n % 3 > 0)
        elif kind == "die":
            head.lose_node(node, "test")
        elif kind == "group":
            group = bytes([n]) * 16
            how = STRATEGIES[n % 4]
            self.say(node, PgCreate(n, group, "", "", how, [CPU] * (n % 3 + 1), [], True, Address(node, 1)), proc=1)
        elif kind == "ungroup":
            self.say(node, PgRemove(n, bytes([n]) * 16), proc=1)
        elif kind == "answer" and self.prepares:
            dst, msg = self.prepares.pop(0)
            self.say(dst, BundlePrepared(msg.group, msg.attempt, n % 3 > 0))
        else:
            self.turn(n * 0.3)


steps = st.tuples(
    st.sampled_from(["join", "join", "report", "report", "want", "want", "die", "time", "group", "ungroup", "answer"]),
    st.integers(1, 5),
    st.integers(0, 7),
    st.sampled_from(
        ["DEFAULT", "SPREAD", ["near", 2], ["node", 3, False], ["node", 3, True], ["where", "DEFAULT", [WHERE]]]
    ),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(steps, max_size=40))
def test_after_whatever_happens_the_view_is_what_it_would_be_if_made_anew_and_nobody_waits_beside_room(history):
    cluster = Cluster()
    head, demands = cluster.head, cluster.head.demands
    for step in history:
        cluster.do(step)
        if step[2] % 2:  # not after each step, so that several changes meet
            assert not difference(head.snapshot(), rebuilt(head.nodes))
    cluster.turn(0.02)
    view = head.snapshot()
    assert not difference(view, rebuilt(head.nodes))
    for key, demand in head.demands.table.items():
        assert not place(view, demand.placement, 1, demand.strategy), "there is room, and nobody looked"
        assert key in demands._patient_at or key in demands._told_infeasible, "nothing will ever have it looked at"
    assert set(demands._kind_of) == set(head.demands.table)
    assert sorted(key for kind in demands._kinds.values() for key in kind.keys) == sorted(head.demands.table)
    assert all(node.promised == summed(node.tickets.values()) for node in head.nodes.values())


def summed(amounts):
    total = {}
    for one in amounts:
        for name, units in one.items():
            total[name] = total.get(name, 0) + units
    return {name: units for name, units in total.items() if units}


def with_nodes(count, free=0):
    cluster = Cluster()
    for node in range(1, count + 1):
        cluster.say(node, NodeRegister(info(node), WIRE_VERSION), turn=False)
    cluster.turn()
    for node in range(1, count + 1):
        cluster.say(node, Heartbeat(node, {"CPU": free * UNIT}, 0, 0), turn=False)
    cluster.turn()
    return cluster


def want(cluster, shape, count=1, wanted=CPU, strategy="DEFAULT"):
    cluster.say(1, NodeDemand(1, shape, wanted, wanted, strategy, count))


def test_a_demand_that_waits_is_not_looked_at_in_vain():
    cluster = with_nodes(4)
    for shape in range(20):
        want(cluster, shape)
    looks = cluster.head.demands.looks
    for _ in range(10):
        cluster.say(2, Heartbeat(2, {"CPU": 0}, 1, 0))  # nothing new
        cluster.say(2, Heartbeat(2, {"CPU": -UNIT}, 1, 0))  # less
        cluster.say(2, Heartbeat(2, {"CPU": 0}, 1, 0))  # more, and not enough
    assert cluster.head.demands.looks == looks
    cluster.say(2, Heartbeat(2, {"CPU": 2 * UNIT}, 1, 0))
    # The two that have room, and the one that then has none.
    assert cluster.head.demands.looks <= looks + 3
    assert sorted(cluster.head.demands.table) == [(1, shape) for shape in range(2, 20)]


def test_a_ticket_that_lapses_makes_room():
    cluster = with_nodes(1, free=1)
    want(cluster, 1)
    want(cluster, 2, strategy=["node", 1, True])
    assert list(cluster.head.demands.table) == [(1, 2)]
    cluster.head.demands._patient_at.clear()  # patience is another matter
    cluster.turn(TICKET_S / 2)
    assert cluster.head.demands.table
    cluster.turn(TICKET_S / 2 + 0.01)
    assert not cluster.head.demands.table


def test_a_demand_larger_than_a_turn_goes_on_by_itself(monkeypatch):
    monkeypatch.setattr("hpc.core.head.demands.MAX_DEMAND", 3)
    cluster = with_nodes(5, free=2)
    want(cluster, 1, count=9)
    assert cluster.head.demands.table[(1, 1)].count == 6
    while cluster.head.demands.table:
        assert cluster.head.demands.next_at(cluster.now) < cluster.now + 0.1
        cluster.turn(0.01)
    assert cluster.now < 0.1


def test_those_who_join_in_one_turn_are_told_of_together():
    cluster = with_nodes(3)
    for node in (7, 5):
        cluster.say(node, NodeRegister(info(node), WIRE_VERSION), turn=False)
    assert not cluster.head.outbox
    told = {dst.node: msg for dst, msg in cluster.turn(TELL_MAX_S) if isinstance(msg, NodeTable)}
    assert {node: [i.node for i in msg.nodes] for node, msg in told.items()} == {
        1: [7, 5], 2: [7, 5], 3: [7, 5], 5: [1, 2, 3, 7, 5], 7: [1, 2, 3, 7, 5],
    }  # fmt: skip
    assert told[1] is told[2], "one message, which is encoded once"
    assert told[5] is told[7]
    assert not [msg for _, msg in cluster.turn(TELL_MAX_S) if isinstance(msg, NodeTable)]


def test_of_nodes_that_join_one_after_the_other_nobody_is_told_one_by_one():
    cluster = Cluster()
    told = {}
    for node in range(1, 65):
        cluster.say(node, NodeRegister(info(node), WIRE_VERSION), turn=False)
        for dst, msg in cluster.turn(0.01):
            told.setdefault(dst.node, []).append(msg)
    for dst, msg in cluster.turn(TELL_MAX_S):
        told.setdefault(dst.node, []).append(msg)
    assert {i.node for msg in told[1] for i in msg.nodes} == set(range(1, 65))
    assert len(told) == 64
    assert len(told[1]) < 20, "not one for each node"


def test_the_first_node_is_told_at_once_and_the_next_before_whatever_is_asked_for_is_answered():
    cluster = Cluster()
    cluster.say(1, NodeRegister(info(1), WIRE_VERSION), turn=False)
    assert [dst.node for dst, msg in cluster.turn() if isinstance(msg, NodeTable)] == [1]
    cluster.say(2, NodeRegister(info(2), WIRE_VERSION), turn=False)
    assert not cluster.turn()
    cluster.say(1, KvGet(1, "", b"key"), turn=False)
    assert [dst.node for dst, msg in cluster.turn() if isinstance(msg, NodeTable)] == [1, 2]


def test_one_that_joins_and_dies_in_one_turn_is_not_told_of_as_living():
    cluster = with_nodes(2)
    cluster.say(3, NodeRegister(info(3), WIRE_VERSION), turn=False)
    cluster.head.lose_node(3, "power")
    assert not [msg for _, msg in cluster.turn(TELL_MAX_S) if isinstance(msg, NodeTable)]


def test_silence_is_noticed_although_it_is_not_looked_for_all_the_time():
    cluster = with_nodes(3, free=1)
    cluster.turn(2.0)
    cluster.say(1, Heartbeat(1, CPU, 0, 0))
    cluster.turn(1.5)
    assert [n for n, node in cluster.head.nodes.items() if node.suspect] == [2, 3]
    assert cluster.head.snapshot().nodes.tolist() == [1]
    cluster.say(2, Heartbeat(2, CPU, 0, 0))  # at 3.5: it is suspected again at 6.5, and long before 30
    cluster.turn(1.6)
    cluster.turn(1.5)
    assert cluster.head.nodes[2].suspect
    cluster.say(1, Heartbeat(1, CPU, 0, 0))
    for _ in range(24):
        cluster.turn(1.0)
        cluster.say(1, Heartbeat(1, CPU, 0, 0))
    assert list(cluster.head.dead) == [3]


@pytest.mark.parametrize("size", [10, 1000])
def test_what_a_report_costs_does_not_depend_on_the_number_of_nodes(size, monkeypatch):
    """Counted in rows that are written and messages that are sent."""
    cluster = with_nodes(size)
    want(cluster, 1)
    written = []
    view = cluster.head.snapshot()
    write = view._write
    monkeypatch.setattr(view, "_write", lambda numbers: (written.extend(numbers), write(numbers)))
    looks = cluster.head.demands.looks
    cluster.say(2, Heartbeat(2, {"CPU": 0, "memory": 5}, 0, 0), turn=False)
    assert [type(msg) for _, msg in cluster.turn()] == [HeartbeatAck]
    assert (written, cluster.head.demands.looks) == ([2], looks)
    cluster.say(1, ProcessGone(Address(1, 9), "ended"), turn=False)
    assert len(cluster.turn()) == size - 1


def dealt(snapshot, wanted, count, after):
    """SPREAD as it is meant: one to each in turn."""
    room = {}
    for node, free, total in zip(snapshot.nodes.tolist(), snapshot.free["CPU"].tolist(), snapshot.totals["CPU"]):
        if free >= wanted:
            room[node] = (-min(1.0, free / max(total, 1)), node <= after, node, min(count, free // wanted))
    order = sorted(room, key=room.get)
    taken = dict.fromkeys(order, 0)
    while count and any(taken[n] < room[n][3] for n in order):
        for node in order:
            if count and taken[node] < room[node][3]:
                taken[node] += 1
                count -= 1
    return [(node, n) for node, n in taken.items() if n]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=8),
    st.integers(1, 3),
    st.integers(0, 20),
    st.integers(0, 9),
)
def test_spread_deals_one_to_each_in_turn(cpus, wanted, count, after):
    rows = [(n, {"CPU": max(t, f)}, {"CPU": f}) for n, (t, f) in enumerate(cpus, 1)]
    snapshot = Snapshot.of(rows)
    assert place(snapshot, {"CPU": wanted}, count, "SPREAD", after) == dealt(snapshot, wanted, count, after)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-2, 9), min_size=1, max_size=8), st.integers(0, 3), st.integers(1, 20))
def test_default_fills_the_first_with_room_for_all_else_those_with_most(cpus, wanted, count):
    snapshot = Snapshot.of([(n, {"CPU": 9}, {"CPU": free}) for n, free in enumerate(cpus, 1)])
    room = [min(count, max(0, free) // wanted) if wanted else count for free in cpus]
    plan, left = [], count
    for at in np.argsort(-np.array(room), kind="stable"):
        if left and room[at]:
            plan.append((int(at) + 1, min(left, room[at])))
            left -= plan[-1][1]
    assert place(snapshot, {"CPU": wanted}, count) == plan

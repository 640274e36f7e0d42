"""Named devices: nothing is given twice, fractions are of one device, several come from one island; head and node
agree on what has room."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc.core.accelerators.base import Device
from hpc.core.head.admission import is_sane
from hpc.core.head.columns import difference, rebuilt
from hpc.core.head.machine import HeadMachine
from hpc.core.ids import Address
from hpc.core.islands import Islands, islands_of
from hpc.core.pieces import UNIT, devices_for, fit, less, of_amount, times
from hpc.core.policy.bundles import place_bundles
from hpc.core.policy.device_columns import DeviceColumns
from hpc.core.policy.group_reasons import why_no_group
from hpc.core.policy.placement import Snapshot, place
from hpc.core.raylet.leasing import Leasing
from hpc.core.resources import NodeResources, to_units
from hpc.core.wire import (
    WIRE_VERSION,
    BundlePrepared,
    Heartbeat,
    LeaseGrant,
    LeaseRequest,
    LeaseReturn,
    NodeDemand,
    NodeInfo,
    NodeRegister,
    PgCreate,
)

OWNER = Address(1, 1)
FRACTIONS = [to_units("GPU", x) for x in (0.1, 0.15, 0.25, 0.3, 0.5, 0.7)]


def gpus(units):
    return {"GPU": units}


def node(count=8, islands=None):
    return NodeResources(gpus(count * UNIT), {"GPU": [f"g{i}" for i in range(count)]}, islands)


def linked(*islands, numa=()):
    """Devices of which those of one island are linked with one another."""
    return [
        Device(ident, "GPU", links=tuple(o for o in island if o != ident), numa_node=dict(numa).get(ident, -1))
        for island in islands
        for ident in island
    ]


# ---------------------------------------------------------------- fractions


@pytest.mark.parametrize(
    ("part", "held"), [(0.15, 48), (0.3, 24), (0.7, 8), (0.5, 16), (0.25, 32), (1, 8), (2, 4), (3, 2)]
)
def test_each_device_holds_as_many_fractions_as_fit_on_it_alone(part, held):
    there, units = node(8), to_units("GPU", part)
    grants = []
    while (grant := there.acquire(gpus(units))) is not None:
        grants.append(grant)
    assert len(grants) == held
    assert all(len(grant.shares["GPU"]) == max(1, int(part)) for grant in grants)
    assert times(there.pieces()["GPU"], units) == 0
    for grant in grants:
        there.release(grant)
    assert there.free == there.totals
    assert there.pieces() == {"GPU": [UNIT] * 8}


def test_fractions_fill_a_device_before_they_begin_another():
    there = node(4)
    first, second, third = (there.acquire(gpus(units)).instances()["GPU"] for units in (7000, 3000, 1000))
    assert (first, second, third) == (["g0"], ["g0"], ["g1"])


def test_a_part_of_a_device_is_a_device_that_holds_less():
    there = NodeResources(gpus(UNIT // 2))
    assert there.acquire(gpus(7000)) is None
    assert there.acquire(gpus(5000)).instances() == {"GPU": ["0"]}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_nothing_is_given_twice_and_what_is_released_comes_back(data):
    count = data.draw(st.integers(1, 9))
    cut = data.draw(st.integers(0, count))
    names = [f"g{i}" for i in range(count)]
    there = node(count, islands_of(linked(names[:cut], names[cut:])))
    grants = []
    for _ in range(data.draw(st.integers(1, 25))):
        if grants and data.draw(st.booleans()):
            there.release(grants.pop(data.draw(st.integers(0, len(grants) - 1))))
        else:
            units = data.draw(st.sampled_from([*FRACTIONS, UNIT, 2 * UNIT, 4 * UNIT]))
            before = there.pieces()["GPU"]
            grant = there.acquire(gpus(units))
            assert (grant is not None) == bool(times(before, units)), "what has room is given"
            if grant is not None:
                assert sum(grant.shares["GPU"].values()) == units
                assert units > UNIT or len(grant.shares["GPU"]) == 1
                assert there.pieces()["GPU"] == less(before, units), "the head takes as the node does"
                grants.append(grant)
        held = dict.fromkeys(names, 0)
        for grant in grants:
            for ident, units in grant.shares["GPU"].items():
                held[ident] += units
        assert all(0 <= held[i] <= UNIT for i in names)
        assert {i: UNIT - held[i] for i in names} == there.instances["GPU"]
        assert there.free["GPU"] == count * UNIT - sum(held.values())


@given(st.lists(st.sampled_from([*FRACTIONS, UNIT, 2 * UNIT]), max_size=8), st.integers(0, 5))
def test_what_fits_together_fits_on_as_many_devices_as_are_said_to_be_needed(amounts, spare):
    need = devices_for(amounts)
    assert fit([UNIT] * (need + spare), amounts)
    assert need >= -(-sum(amounts) // UNIT)


@given(st.lists(st.sampled_from([*FRACTIONS, UNIT]), max_size=9), st.sampled_from([*FRACTIONS, UNIT, 2 * UNIT]))
def test_pieces_stay_in_order_and_lose_what_was_taken(pieces, units):
    pieces = sorted(pieces, reverse=True)
    left = less(pieces, units)
    assert left == sorted(left, reverse=True)
    assert sum(left) == max(0, sum(pieces) - units)


# ---------------------------------------------------------------- islands


def test_several_devices_come_from_one_island_and_the_smallest_that_has_enough():
    islands = Islands(linked(["a", "b", "c", "d"], ["e", "f"]))
    everything = ["a", "b", "c", "d", "e", "f"]
    assert islands.choose(everything, 2) == ["e", "f"]
    assert islands.choose(everything, 3) == ["a", "b", "c"]
    assert islands.choose(["a", "c", "d", "e", "f"], 1) == ["e"], "the larger stays as whole as it is"
    assert islands.choose(["a", "b", "c", "e", "f"], 4) == ["a", "b", "c", "e"], "none has enough: the largest first"


def test_where_no_links_are_known_devices_of_one_numa_node_belong_together():
    devices = [Device(str(i), "GPU", numa_node=i % 2) for i in range(4)]
    assert Islands(devices).choose(["0", "1", "2", "3"], 2) == ["0", "2"]
    assert Islands(devices).choose(["0", "1", "3"], 2) == ["1", "3"]
    assert Islands([]).choose(["x", "y", "z"], 2) == ["x", "y"]


def test_all_linked_with_all_those_of_one_numa_node_are_taken_together():
    names = [str(i) for i in range(8)]
    devices = linked(names, numa=[(n, int(n) // 4) for n in names])
    assert Islands(devices).choose(names, 4) == ["0", "1", "2", "3"]
    assert Islands(devices).choose(names[1:], 3) == ["1", "2", "3"], "the other half stays whole"
    assert Islands(devices).choose(names[1:], 4) == ["4", "5", "6", "7"]


#: The cube mesh of an eight-device machine: each device has links to four others.
MESH = {
    0: (1, 2, 3, 4), 1: (0, 2, 3, 5), 2: (0, 1, 3, 6), 3: (0, 1, 2, 7),
    4: (0, 5, 6, 7), 5: (1, 4, 6, 7), 6: (2, 4, 5, 7), 7: (3, 4, 5, 6),
}  # fmt: skip


def test_of_a_mesh_those_are_taken_that_are_linked_most():
    devices = [Device(str(i), "GPU", links=tuple(map(str, to))) for i, to in MESH.items()]
    islands = Islands(devices)
    names = [d.id for d in devices]
    for count in (2, 3, 4):
        chosen = islands.choose(names, count)
        assert all(int(b) in MESH[int(a)] for a, b in combinations(chosen, 2))
    assert sorted(islands.choose(["0", "1", "4", "5", "6", "7"], 4)) == ["4", "5", "6", "7"]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_one_island_is_chosen_whenever_one_has_enough(data):
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    names, parts = iter(range(100)), []
    for size in sizes:
        parts.append([str(next(names)) for _ in range(size)])
    free = [i for part in parts for i in part if data.draw(st.booleans())]
    if not free:
        return
    count = data.draw(st.integers(1, len(free)))
    chosen = Islands(linked(*parts)).choose(free, count)
    assert len(set(chosen)) == count
    assert set(chosen) <= set(free)
    left = [len([i for i in part if i in free]) for part in parts]
    touched = [at for at, part in enumerate(parts) if set(part) & set(chosen)]
    if max(left) >= count:
        assert len(touched) == 1
        assert left[touched[0]] == min(size for size in left if size >= count)


def test_links_are_of_both_ends_and_those_to_devices_elsewhere_do_not_count():
    islands = Islands([Device("a", "GPU", links=("b", "gone")), Device("c", "GPU"), Device("b", "GPU")])
    assert islands.choose(["a", "c", "b"], 2) == ["a", "b"]


# ---------------------------------------------------------------- bundles


def test_bundles_of_one_group_share_an_island_and_their_own_tasks_too():
    there = node(6, islands_of(linked(["g0", "g2", "g4"], ["g1", "g3", "g5"])))
    there.acquire(gpus(UNIT))
    grants, missed = there.acquire_all([gpus(UNIT), gpus(2 * UNIT)])
    assert missed == -1
    assert [grant.instances()["GPU"] for grant in grants] == [["g5"], ["g1", "g3"]]
    pool = there.part_of(grants[1])
    assert pool.acquire(gpus(UNIT)).instances() == {"GPU": ["g1"]}


def test_bundles_are_taken_all_or_none():
    there = node(2)
    assert there.acquire_all([gpus(7000), gpus(7000), gpus(7000)]) == ([], 2)
    assert there.pieces() == {"GPU": [UNIT, UNIT]}
    assert there.free == there.totals
    grants, _ = there.acquire_all([gpus(3000), gpus(UNIT), gpus(7000)])
    assert [[*grant.shares["GPU"].items()] for grant in grants] == [[("g1", 3000)], [("g0", UNIT)], [("g1", 7000)]]


# ---------------------------------------------------------------- the head agrees


def columns(*rows):
    table = [(at, gpus(8 * UNIT), gpus(sum(row))) for at, row in enumerate(rows, 1)]
    return Snapshot.of(table, pieces={at: {"GPU": row} for at, row in enumerate(rows, 1)})


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([*FRACTIONS, UNIT]), max_size=5), min_size=1, max_size=4),
    st.sampled_from([*FRACTIONS, UNIT, 2 * UNIT]),
)
def test_columns_say_of_all_nodes_what_their_pieces_say(rows, units):
    rows = [sorted(row, reverse=True) for row in rows]
    made = DeviceColumns.of(rows)
    assert made.times(units).tolist() == [times(row, units) for row in rows]
    assert made.has(units).tolist() == [bool(times(row, units)) for row in rows]
    assert [made.row(at) for at in range(len(rows))] == rows
    made.take(0, units)
    assert made.row(0) == less(rows[0], units)
    assert made.rows(np.array([0])).row(0) == made.row(0)


def test_a_node_whose_free_devices_are_in_pieces_gets_no_task_for_a_whole_one():
    nodes = columns([5000, 5000, 5000, 5000], [UNIT])
    for strategy in ("DEFAULT", "SPREAD", ["near", 1], ["where", "DEFAULT", [None]]):
        if strategy[0] != "where":
            assert place(nodes, gpus(UNIT), 1, strategy) == [(2, 1)]
    assert place(nodes, gpus(UNIT), 3) == [(2, 1)]
    assert place(nodes, gpus(3000), 9) == [(1, 4), (2, 3)]


def test_a_group_is_planned_by_the_devices_of_its_nodes():
    small = [gpus(1500)] * 48
    empty = columns([UNIT] * 8)
    assert place_bundles(empty, small, "STRICT_PACK") == [1] * 48
    assert place_bundles(empty, [*small, gpus(1500)], "STRICT_PACK") is None
    too_many = [*small, gpus(1500)]
    assert "no node has that: a fraction is of one device" in why_no_group(empty, too_many, "STRICT_PACK")
    assert "more than the 1 nodes have: a fraction is of one device" in why_no_group(empty, too_many, "PACK")
    assert why_no_group(columns([]), small, "PACK") == "", "if it were empty there would be room"
    two = columns([5000] * 4, [UNIT] * 3)
    for strategy in ("PACK", "SPREAD", "STRICT_PACK"):
        assert place_bundles(two, [gpus(UNIT)] * 2, strategy) == [2, 2]
    assert place_bundles(two, [gpus(UNIT)] * 2, "STRICT_SPREAD") is None
    assert place_bundles(columns([7000] * 2, [7000]), [gpus(7000)] * 3, "PACK") == [1, 1, 2]


def test_amounts_of_more_devices_than_a_node_can_have_are_not_taken():
    def joins(units):
        return is_sane(NodeRegister(NodeInfo(1, "", "", "", gpus(units), {}, False, 0, ""), version=WIRE_VERSION))

    assert joins(1024 * UNIT)
    assert not joins(1025 * UNIT)
    beat = Heartbeat(1, {}, 0, 0)
    assert is_sane(beat)
    for pieces in ([UNIT + 1], [-1], [0], [1] * 1025):
        assert not is_sane(Heartbeat(1, {}, 0, 0, pieces={"GPU": pieces}))
        assert not is_sane(Heartbeat(1, {}, 0, 0, bundle_pieces=[{"GPU": pieces}]))


class Two:
    """A head and the leasing of its nodes, which have so many devices each."""

    def __init__(self, *counts):
        self.head = HeadMachine(suspect_s=1e6, dead_s=1e7)
        self.now = 0.0
        self.nodes = {at: Leasing(at, node(count)) for at, count in enumerate(counts, 1)}
        self.grants = []
        for at, leasing in self.nodes.items():
            info = NodeInfo(at, f"n{at}", "", "", leasing.resources.totals, {}, False, 0, "")
            self.hear(at, NodeRegister(info, version=WIRE_VERSION))

    def hear(self, at, *messages):
        self.head.handle(Address(at, 0), list(messages), self.now)

    def step(self):
        """Reports go up, tickets down."""
        self.now += 0.01
        for at, leasing in self.nodes.items():
            leasing.tick(self.now)
            pieces = leasing.reservations.pieces_for_others()
            free = leasing.reservations.free_for_others()
            spent, leasing.spent_tickets = leasing.spent_tickets, []
            bundles, more = leasing.bundles.report_free(), leasing.bundles.report_pieces()
            self.hear(at, Heartbeat(at, free, 0, 0, spent, bundles, pieces=pieces, bundle_pieces=more))
        assert not difference(self.head.snapshot(), rebuilt(self.head.nodes))
        self.head.tick(self.now)
        self.deliver()

    def deliver(self):
        waiting = [(Address(0, 0), *sent) for sent in self.head.outbox]
        self.head.outbox.clear()
        while waiting:
            src, dst, msg = waiting.pop(0)
            if isinstance(msg, LeaseGrant):
                self.grants.append(msg)
            elif isinstance(msg, (NodeDemand, BundlePrepared)):
                self.hear(src.node, msg)
            elif dst.node in self.nodes and dst.proc == 0:
                to = self.nodes[dst.node]
                known = {
                    "Tickets": to.on_tickets, "LeaseRequest": to.on_lease_request, "LeaseRefused": to.on_lease_refused,
                    "BundlePrepare": to.on_bundle_prepare, "BundleCommit": to.on_bundle_commit,
                }  # fmt: skip
                if (handler := known.get(type(msg).__name__)) is not None:
                    handler(src, msg)
            for at, leasing in self.nodes.items():
                while leasing.to_start:
                    leasing.worker_ready(leasing.to_start.pop(0))
                waiting += [(Address(at, 0), *sent) for sent in leasing.outbox]
                leasing.outbox.clear()

    def ask(self, units, count=1, req=1, strategy="DEFAULT"):
        amounts = gpus(units)
        msg = LeaseRequest(req, OWNER, amounts, amounts, count, 0, True, strategy, {}, 0, driver=OWNER)
        self.nodes[1].on_lease_request(OWNER, msg)
        self.deliver()


def where(grant):
    return grant.worker.node, grant.instances["GPU"]


def test_a_task_for_a_whole_device_goes_past_a_node_that_has_only_pieces():
    cluster = Two(2, 1)
    cluster.nodes[1].resources.instances["GPU"] = {"g0": 5000, "g1": 5000}
    cluster.nodes[1].resources.free["GPU"] = UNIT
    cluster.nodes[1].resources.moves += 1
    cluster.step()
    cluster.ask(UNIT)
    for _ in range(5):
        cluster.step()
    assert [where(grant) for grant in cluster.grants] == [(2, ["g0"])]
    assert not cluster.head.demands.table


def test_fractions_fill_all_nodes_and_the_rest_waits_without_being_sent_about():
    cluster = Two(2, 3)
    cluster.ask(1500, count=40)
    for _ in range(10):
        cluster.step()
    assert len(cluster.grants) == 5 * 6
    looks = cluster.head.demands.looks
    for _ in range(10):
        cluster.step()
    assert cluster.head.demands.looks - looks <= 4, "who has no room is not asked again and again"
    assert len(cluster.grants) == 30


def test_a_task_in_a_group_goes_to_the_bundle_whose_devices_have_room_for_it():
    cluster = Two(1, 4, 4)
    group = b"g" * 16
    bundles = [gpus(2 * UNIT)] * 2
    make = PgCreate(1, group, "", "", "STRICT_SPREAD", bundles, [], False, OWNER)
    cluster.hear(1, make)
    for _ in range(3):
        cluster.step()
    homes = [cluster.nodes[at].bundles.held for at in (2, 3)]
    assert [[*held] for held in homes] == [[(group, 0)], [(group, 1)]]
    first = homes[0][(group, 0)].pool
    halves = [first.acquire(gpus(7000)) for _ in range(2)]
    assert all(halves)
    first.release(halves.pop())
    first.acquire(gpus(5000))
    cluster.nodes[2].bundles.changed = True
    assert cluster.nodes[2].bundles.report_pieces() == [{"GPU": [5000, 3000]}]
    cluster.step()
    cluster.ask(6000, strategy=["pg", group, -1, False])
    for _ in range(5):
        cluster.step()
    assert [grant.worker.node for grant in cluster.grants] == [3]


# ---------------------------------------------------------------- what is kept for those who wait


def test_fractions_do_not_take_again_the_device_that_is_kept_for_a_whole_one():
    leasing = Leasing(1, node(3), now=0.0)
    grants = []

    def ask(req, units, count, actor=False, owner=OWNER):
        amounts = gpus(units)
        leasing.on_lease_request(
            owner, LeaseRequest(req, owner, amounts, amounts, count, 0, actor, "DEFAULT", {}, 0, driver=owner)
        )
        take()

    def take():
        while leasing.to_start:
            leasing.worker_ready(leasing.to_start.pop(0))
        grants.extend(msg for _, msg in leasing.outbox if isinstance(msg, LeaseGrant))
        leasing.outbox.clear()

    ask(1, 5000, 6)
    assert [grant.instances["GPU"] for grant in grants] == [["g0"]] * 2 + [["g1"]] * 2 + [["g2"]] * 2
    ask(2, UNIT, 1, owner=Address(1, 2))
    for step in range(1, 40):
        leasing.tick(step * 0.1)
    assert leasing.reservations.kept_devices() == {"GPU": {"g0"}}
    leasing.outbox.clear()
    for at in (0, 2, 4):  # one half of each
        leasing.on_lease_return(OWNER, LeaseReturn(grants[at].lease, True))
    for proc in [p for p in leasing.procs.values() if p.retired]:
        leasing.worker_gone(proc, "retired")
    take()
    leasing.on_lease_request(
        OWNER, LeaseRequest(1, OWNER, gpus(5000), gpus(5000), 3, 6, False, "DEFAULT", {}, 0, driver=OWNER)
    )
    take()
    assert [g.instances["GPU"] for g in grants[6:]] == [["g1"], ["g2"]]
    assert leasing.reservations.pieces_for_others() == {"GPU": []}
    leasing.on_lease_return(OWNER, LeaseReturn(grants[1].lease, True))
    for proc in [p for p in leasing.procs.values() if p.retired]:
        leasing.worker_gone(proc, "retired")
    take()
    assert grants[8].instances == {"GPU": ["g0"]}
    assert grants[8].req == 2


def test_of_workers_those_are_asked_back_that_use_the_device_which_is_waited_for():
    leasing = Leasing(1, node(2), now=0.0)
    amounts = gpus(5000)
    for req, owner in ((1, OWNER), (2, Address(1, 2))):
        leasing.on_lease_request(
            owner, LeaseRequest(req, owner, amounts, amounts, 2, 0, req == 1, "DEFAULT", {}, 0, driver=owner)
        )
    while leasing.to_start:
        leasing.worker_ready(leasing.to_start.pop(0))
    whole, other = gpus(UNIT), Address(1, 3)
    leasing.on_lease_request(other, LeaseRequest(3, other, whole, whole, 1, 0, False, "DEFAULT", {}, 0, driver=other))
    for step in range(1, 30):
        leasing.tick(step * 0.1)
    assert leasing.reservations.kept_devices() == {"GPU": {"g1"}}, "actors have the other, for good"
    recalled = {lease.owner for lease in leasing.leases.values() if lease.recalled_at >= 0}
    assert recalled == {Address(1, 2)}


def test_waiting_is_in_vain_where_actors_hold_a_part_of_each_device():
    leasing = Leasing(1, node(2), now=0.0)
    held = gpus(5000)
    leasing.on_lease_request(OWNER, LeaseRequest(1, OWNER, held, held, 3, 0, True, "DEFAULT", {}, 0, driver=OWNER))
    leases = [*leasing.leases.values()]
    leasing.release(leases[0])
    assert leasing.resources.free == gpus(UNIT - 5000 + 5000)
    assert leasing.reservations.never([gpus(UNIT)], leasing.leases.values())
    assert not leasing.reservations.never([gpus(5000), gpus(5000)], leasing.leases.values())


def test_a_node_that_nobody_uses_has_whole_devices():
    assert of_amount(2 * UNIT + 5000) == [UNIT, UNIT, 5000]
    assert of_amount(0) == []
    assert DeviceColumns.of_totals(np.array([0, 25_000, UNIT])).pieces.tolist() == [
        [0, 0, 0], [UNIT, UNIT, 5000], [UNIT, 0, 0],
    ]  # fmt: skip

"""Placement groups among switches, racks and other domains: plans as properties, and why there is none."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc.api.placement_groups import validate_placement_group
from hpc.core.head.groups import CREATED, RESCHEDULING
from hpc.core.head.machine import HeadMachine
from hpc.core.ids import Address, raylet_of
from hpc.core.node.settings import check
from hpc.core.pieces import fit, of_amount, times
from hpc.core.policy import bundles as bundles_module
from hpc.core.policy.bundles import kinds_of, place_bundles
from hpc.core.policy.device_columns import DeviceColumns
from hpc.core.policy.group_reasons import why_group_waits, why_no_group
from hpc.core.policy.labels import (
    GPU_DOMAIN,
    NVLINK_DOMAIN,
    SWITCH,
    check_value,
    labels_of_host,
    node_labels,
    parse_selector,
)
from hpc.core.policy.placement import Snapshot
from hpc.core.policy.topology import natural
from hpc.core.resources import UNIT
from hpc.core.wire import (
    WIRE_VERSION,
    Answer,
    BundlePrepare,
    BundlePrepared,
    Heartbeat,
    NodeInfo,
    NodeRegister,
    PgCreate,
    PgTable,
    PgWarning,
)

STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
DRIVER = Address(9, 1)
GROUP = b"g" * 16
REQUESTS = itertools.count(100)


def cpus(count):
    return {"CPU": count * UNIT}


def cluster(rooms, free=None):
    """Nodes 1, 2, ...: (switches from the top, CPUs) of each."""
    rows, labels = [], {}
    for number, (switches, count) in enumerate(rooms, start=1):
        rows.append((number, cpus(count), cpus(count if free is None else free[number - 1])))
        labels[number] = node_labels({}, number, f"n{number}", "", switches)
    return Snapshot.of(rows, labels)


def tree(*racks):
    """A rack per argument; CPUs of the nodes of its switches: tree([[2, 2], [2]], [[4]])."""
    return cluster(
        [
            (("root", f"r{r}", f"s{r}{s}"), count)
            for r, switches in enumerate(racks)
            for s, nodes in enumerate(switches)
            for count in nodes
        ]
    )


def domains(view, nodes, key=SWITCH):
    return [view.labels[node].get(key, f"node {node}") for node in nodes]


RACKS = st.lists(
    st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=4), min_size=1, max_size=3), min_size=1, max_size=3
)
WANTED = st.lists(st.integers(1, 3), min_size=1, max_size=8)


@given(RACKS, WANTED, st.sampled_from(STRATEGIES), st.sampled_from(STRATEGIES), st.data())
@settings(max_examples=300, deadline=None)
def test_all_bundles_are_placed_once_and_domains_are_as_asked(racks, wanted, how, over_nodes, data):
    view = tree(*racks)
    key = data.draw(st.sampled_from([SWITCH, "hpc.io/switch-level-1"]))
    plan = place_bundles(view, [cpus(w) for w in wanted], over_nodes, topology=[[key, how]])
    without = place_bundles(view, [cpus(w) for w in wanted], over_nodes)
    if plan is None:
        assert without is None or how.startswith("STRICT") or over_nodes == "STRICT_SPREAD"
        return
    assert len(plan) == len(wanted)
    for node in plan:
        assert sum(w for w, n in zip(wanted, plan) if n == node) <= view.totals["CPU"][node - 1] // UNIT
    used = domains(view, plan, key)
    if how == "STRICT_PACK":
        assert len(set(used)) == 1
    elif how == "STRICT_SPREAD":
        assert len(set(used)) == len(used)
    elif how == "PACK":
        assert without is None or len(set(used)) <= len(set(domains(view, without, key)))
    if over_nodes == "STRICT_PACK":
        assert len(set(plan)) == 1
    elif over_nodes == "STRICT_SPREAD":
        assert len(set(plan)) == len(plan)


@given(RACKS, WANTED, st.sampled_from(STRATEGIES))
@settings(max_examples=300, deadline=None)
def test_who_asks_for_no_domain_gets_no_more_nodes_and_a_plan_whenever_there_was_one(racks, wanted, strategy):
    view = tree(*racks)
    bare = Snapshot(view.nodes, view.totals, view.free)
    bundles = [cpus(w) for w in wanted]
    near, far = place_bundles(view, bundles, strategy), place_bundles(bare, bundles, strategy)
    assert (near is None) == (far is None)
    if near is not None:
        assert len(set(near)) <= len(set(far))
        if strategy in ("PACK", "STRICT_SPREAD") and len(set(near)) == len(set(far)):
            assert len(set(domains(view, near))) <= len(set(domains(view, far)))


@given(RACKS, st.integers(1, 3), st.integers(1, 12), st.sampled_from(STRATEGIES))
@settings(max_examples=200, deadline=None)
def test_equal_bundles_have_their_nodes_in_the_order_of_the_tree(racks, size, count, strategy):
    view = tree(*racks)
    plan = place_bundles(view, [cpus(size)] * count, strategy)
    if plan is not None:
        places = {int(view.nodes[row]): at for at, row in enumerate(view.along())}
        assert [places[node] for node in plan] == sorted(places[node] for node in plan)


@given(RACKS, st.integers(1, 3), st.integers(1, 12))
@settings(max_examples=200, deadline=None)
def test_one_domain_is_found_whenever_there_is_one_for_equal_bundles_and_it_is_left_fullest(racks, size, count):
    view = tree(*racks)
    holds = {}
    for node, total in zip(view.nodes.tolist(), view.totals["CPU"].tolist()):
        switch = view.labels[node][SWITCH]
        holds[switch] = holds.get(switch, 0) + total // (size * UNIT)
    enough = [room for room in holds.values() if room >= count]
    plan = place_bundles(view, [cpus(size)] * count, "PACK", topology=[[SWITCH, "STRICT_PACK"]])
    assert (plan is None) == (not enough)
    if plan is not None:
        assert holds[view.labels[plan[0]][SWITCH]] == min(enough)


@given(RACKS, st.integers(1, 12))
@settings(max_examples=200, deadline=None)
def test_spread_over_domains_is_even_as_far_as_there_is_room(racks, count):
    view = tree(*racks)
    plan = place_bundles(view, [cpus(1)] * count, "PACK", topology=[[SWITCH, "SPREAD"]])
    room = {}
    for node, total in zip(view.nodes.tolist(), view.totals["CPU"].tolist()):
        switch = view.labels[node][SWITCH]
        room[switch] = room.get(switch, 0) + total // UNIT
    if plan is None:
        assert sum(room.values()) < count
        return
    got = {switch: domains(view, plan).count(switch) for switch in room}
    for switch, has in got.items():
        # Nobody has two more than another that has room left.
        assert all(has + 2 > other or has == room[switch] for other in got.values())


@given(RACKS, st.lists(st.integers(1, 4), min_size=20, max_size=40), st.sampled_from(STRATEGIES))
@settings(max_examples=100, deadline=None)
def test_many_kinds_find_room_as_few_do(racks, wanted, strategy):
    view = tree(*racks)
    bundles = [{"CPU": w * UNIT // 8 + i} for i, w in enumerate(wanted)]
    assert len(kinds_of(view, bundles, ())) > bundles_module.MAX_KINDS
    plan = place_bundles(view, bundles, strategy)
    if plan is None:
        sums, rooms = sum(b["CPU"] for b in bundles), view.totals["CPU"]
        assert {
            "STRICT_PACK": sums > rooms.max(),
            "STRICT_SPREAD": len(rooms) < len(bundles) or sorted(rooms)[0] < max(b["CPU"] for b in bundles),
        }.get(strategy, sums > rooms.sum() - len(rooms) * max(b["CPU"] for b in bundles))
        return
    for node in set(plan):
        assert sum(b["CPU"] for b, n in zip(bundles, plan) if n == node) <= view.totals["CPU"][node - 1]


@given(
    st.lists(st.tuples(st.lists(st.integers(1, 10), max_size=4), st.integers(0, 5)), min_size=1, max_size=5),
    st.sampled_from([1, 3, 5, 10, 20]),
)
def test_devices_taken_from_many_nodes_at_once_are_those_taken_one_by_one(nodes, tenths):
    rows = [sorted((part * UNIT // 10 for part in parts), reverse=True) for parts, _ in nodes]
    units = tenths * UNIT // 10
    counts = [min(count, times(row, units)) for row, (_, count) in zip(rows, nodes)]
    together, single = DeviceColumns.of(rows), DeviceColumns.of(rows)
    together.take_each(np.array(counts), units)
    for at, count in enumerate(counts):
        for _ in range(count):
            single.take(at, units)
    assert together.pieces.tolist() == single.pieces.tolist()
    assert together.whole.tolist() == single.whole.tolist()


@given(RACKS, st.lists(st.sampled_from([0.3, 0.5, 1, 2]), min_size=1, max_size=8), st.sampled_from(STRATEGIES))
@settings(max_examples=200, deadline=None)
def test_gpus_of_a_plan_have_room_on_the_devices_of_its_nodes(racks, wanted, strategy):
    counts = [count for rack in racks for switch in rack for count in switch]
    rows = [(n, {"GPU": c * UNIT}, {"GPU": c * UNIT}) for n, c in enumerate(counts, start=1)]
    bundles = [{"GPU": int(w * UNIT)} for w in wanted]
    plan = place_bundles(Snapshot.of(rows), bundles, strategy)
    for node in set(plan or ()):
        assert fit(of_amount(counts[node - 1] * UNIT), [b["GPU"] for b, n in zip(bundles, plan) if n == node])
    if strategy == "STRICT_PACK" and plan is None:
        assert not any(fit(of_amount(count * UNIT), [b["GPU"] for b in bundles]) for count in counts)


def test_pack_prefers_one_switch_then_one_rack():
    view = tree([[2, 2], [2, 2, 2]], [[2, 2, 2]])
    assert place_bundles(view, [cpus(2)] * 2, "PACK") == [1, 2], "the switch that is left fullest"
    assert set(domains(view, place_bundles(view, [cpus(2)] * 3, "PACK"))) in ({"s01"}, {"s10"})
    assert set(domains(view, place_bundles(view, [cpus(2)] * 5, "PACK"))) == {"s00", "s01"}, "one rack"
    assert set(domains(view, place_bundles(view, [cpus(1)] * 3, "STRICT_SPREAD"))) in ({"s01"}, {"s10"})


def test_fewer_nodes_come_before_fewer_switches_unless_switches_are_asked_for():
    view = tree([[1, 1, 1, 1]], [[2]], [[2]])
    assert place_bundles(view, [cpus(1)] * 4, "PACK") == [5, 5, 6, 6]
    assert place_bundles(view, [cpus(1)] * 4, "PACK", topology=[[SWITCH, "PACK"]]) == [1, 2, 3, 4]


def test_a_domain_of_two_labels_and_bundles_spread_within_it():
    view = tree([[2, 2], [2]], [[2, 2], [2, 2], [2, 2]])
    rack = ["hpc.io/switch-level-1", "STRICT_PACK"]
    plan = place_bundles(view, [cpus(2)] * 3, "PACK", topology=[rack, [SWITCH, "STRICT_SPREAD"]])
    assert len(set(domains(view, plan))) == 3
    assert set(domains(view, plan, rack[0])) == {"r1"}
    plan = place_bundles(view, [cpus(1)] * 3, "PACK", topology=[rack, [SWITCH, "SPREAD"]])
    assert set(domains(view, plan, rack[0])) == {"r0"}


def test_bundles_that_stay_bind_the_domain():
    view = tree([[1, 1, 1]], [[2, 2, 2, 2]])
    strict = [[SWITCH, "STRICT_PACK"]]
    assert place_bundles(view, [cpus(1)], "PACK", taken=[1], topology=strict) == [1]
    assert place_bundles(view, [cpus(1)] * 3, "PACK", taken=[1], topology=strict) == [1, 2, 3]
    assert place_bundles(view, [cpus(2)], "PACK", taken=[1], topology=strict) is None
    assert place_bundles(view, [cpus(1)] * 2, "PACK", taken=[1], topology=[[SWITCH, "PACK"]], avoid=[1]) == [2, 3]
    # A node that takes no work now still says where its bundles are.
    gone = {9: {SWITCH: "s10"}}
    assert place_bundles(view, [cpus(1)], "PACK", taken=[9], topology=strict, labels=gone)[0] in (4, 5, 6, 7)
    assert place_bundles(view, [cpus(1)], "PACK", taken=[9], topology=strict) is None
    apart = [[SWITCH, "STRICT_SPREAD"]]
    assert place_bundles(view, [cpus(1)], "PACK", taken=[9], topology=apart, labels=gone)[0] in (1, 2, 3)
    assert place_bundles(view, [cpus(1)] * 2, "PACK", taken=[9], topology=apart, labels=gone) is None


def test_selectors_hold_within_domains():
    view = tree([[2, 2]], [[2, 2]])
    there = parse_selector({SWITCH: "s10"})
    assert place_bundles(view, [cpus(1)] * 2, "PACK", [there, there], topology=[[SWITCH, "STRICT_PACK"]]) == [3, 3]
    other = parse_selector({SWITCH: "s00"})
    assert place_bundles(view, [cpus(1)] * 2, "PACK", [there, other], topology=[[SWITCH, "STRICT_PACK"]]) is None
    assert place_bundles(view, [cpus(1)] * 2, "PACK", [there, other], topology=[[SWITCH, "STRICT_SPREAD"]]) == [3, 1]


def test_nodes_without_the_label_are_in_no_domain():
    view = Snapshot.of([(n, cpus(4), cpus(4)) for n in (1, 2, 3)], {1: {"rack": "a"}, 2: {"rack": "a"}})
    for how in ("STRICT_PACK", "STRICT_SPREAD"):
        assert place_bundles(view, [cpus(4)], "PACK", topology=[["rack", how]], avoid=[1, 2]) is None
    assert place_bundles(view, [cpus(4)] * 3, "PACK", topology=[["rack", "PACK"]]) == [1, 2, 3]
    assert place_bundles(view, [cpus(4)] * 2, "PACK", topology=[["rack", "SPREAD"]]) == [1, 3]


@pytest.mark.parametrize(
    ("bundles", "topology", "text"),
    [
        (5, [[SWITCH, "STRICT_PACK"]], "need one hpc.io/switch for all, and the nearest, s10, has room for 4"),
        (2, [["rack", "STRICT_PACK"]], "no node has the label rack"),
        (4, [[SWITCH, "STRICT_SPREAD"]], "need a hpc.io/switch for each, and 3 of 3 has room for one"),
        (9, [[SWITCH, "STRICT_PACK"]], "together, more than the 6 nodes have"),
    ],
)
def test_what_cannot_be_names_the_domain_that_comes_nearest(bundles, topology, text):
    view = tree([[1, 1], [2]], [[2, 1, 1]])
    assert text in why_no_group(view, [cpus(1)] * bundles, "PACK", (), topology)
    assert why_no_group(view, [cpus(1)] * 2, "PACK", (), [[SWITCH, "STRICT_PACK"]]) == ""


def test_what_waits_says_which_domain_has_most_room_now():
    view = cluster([(("s1",), 2), (("s1",), 2), (("s2",), 4)], free=[1, 0, 3])
    why = why_group_waits(view, [cpus(1)] * 4, "PACK", (), [[SWITCH, "STRICT_PACK"]])
    assert "the nearest, s2, has room now for 3" in why
    assert why_group_waits(view, [cpus(1)] * 3, "PACK", (), [[SWITCH, "STRICT_PACK"]]) == ""


# ---------------------------------------------------------------- labels


def test_each_level_of_switches_is_a_label_and_long_names_stay_different():
    labels = node_labels({}, 1, "h", "", ("top", "row1", "s7"))
    assert [labels[key] for key in (SWITCH, "hpc.io/switch-level-1", "ray.io/switch-level-2")] == ["s7", "row1", "top"]
    one, two = (node_labels({}, 1, "h", "", ("x" * 80 + end,))[SWITCH] for end in "ab")
    assert one != two
    assert check_value(one) == one


@pytest.mark.parametrize(
    ("text", "host", "expected"),
    [
        (r"rack=x(\d+)c hpc.io/switch=x(\d+)c(\d+)", "x3001c0s13b0n0", {"rack": "3001", "hpc.io/switch": "3001.0"}),
        (r"rack=x\d+", "x3001c0s13b0n0.domain", {"rack": "x3001"}),
        (r"rack=x(\d+)", "login-x3", {}),
        (r"kind=(gpu)?n row=n(\d)", "n7", {"row": "7"}),
        ("", "n7", {}),
    ],
)
def test_labels_follow_from_the_name_of_the_host(text, host, expected):
    assert labels_of_host(text, host) == expected


@pytest.mark.parametrize("text", [3, "rack", "rack=", "=x", "ra ck=x", "rack=(", "a/b/c=x"])
def test_a_pattern_that_makes_no_sense_is_an_error_where_the_session_starts(text):
    with pytest.raises(ValueError, match="it takes LABEL=PATTERN of host names"):
        check({"labels_of_host": text}, {})


def test_the_nvlink_domain_is_there_under_the_name_that_programs_for_ray_use():
    labels = node_labels({NVLINK_DOMAIN: "d1"}, 1, "h", "")
    assert labels["ray.io/gpu-domain"] == labels[GPU_DOMAIN] == labels["ray.io/nvlink-domain"] == "d1"
    assert node_labels({"ray.io/nvlink-domain": "d", "ray.io/gpu-domain": "e"}, 1, "h", "")[GPU_DOMAIN] == "e"
    assert GPU_DOMAIN not in node_labels({}, 1, "h", "")


def test_names_are_sorted_as_people_count():
    assert sorted(["s10", "s2", "a", "s2b1"], key=natural) == ["a", "s2", "s2b1", "s10"]


# ---------------------------------------------------------------- the head


def join(head, number, switch, count):
    labels = node_labels({}, number, f"n{number}", "", ("root", switch))
    info = NodeInfo(number, f"n{number}", "", "", cpus(count), labels, False, 0, "")
    head.handle(raylet_of(number), [NodeRegister(info, WIRE_VERSION)], 0.0)


def head_with(*switches):
    head = HeadMachine()
    for number, switch in enumerate(switches, start=1):
        join(head, number, switch, 1)
    head.outbox.clear()
    return head


def create(head, count, topology, strategy="PACK"):
    msg = PgCreate(1, GROUP, "", "", strategy, [cpus(1)] * count, [], True, DRIVER, topology)
    head.handle(DRIVER, [msg], 1.0)
    return head.groups.find(GROUP)


def say_yes(head, now=1.0):
    asked = [(dst.node, msg) for dst, msg in head.outbox if isinstance(msg, BundlePrepare)]
    head.outbox.clear()
    for node, msg in asked:
        head.handle(raylet_of(node), [BundlePrepared(msg.group, msg.attempt, True)], now)


def row_of(head):
    head.outbox.clear()
    head.handle(DRIVER, [PgTable(next(REQUESTS), GROUP, "", "")], head.now)
    (answer,) = [msg for _, msg in head.outbox if isinstance(msg, Answer)]
    return msgspec.json.decode(answer.data)[0]


def test_a_lost_bundle_waits_for_room_in_its_domain_and_a_lost_domain_gives_way_to_another():
    head = head_with("s1", "s1", "s2", "s2")
    group = create(head, 2, [[SWITCH, "STRICT_PACK"]])
    say_yes(head)
    assert (group.state, group.nodes) == (CREATED, [1, 2])
    row = row_of(head)
    assert row["topology_assignments"] == {SWITCH: "s1"}
    assert [each[SWITCH] for each in row["domains"]] == ["s1", "s1"]
    for node in (1, 2):  # what the group has is not free
        head.handle(raylet_of(node), [Heartbeat(node, cpus(0), 1, 0, [*range(9)])], 1.1)
    head.lose_node(1, "power")
    head.tick(2.0)
    assert (group.state, group.nodes) == (RESCHEDULING, [0, 2])
    assert not group.planned, "there is room only below the other switch"
    assert "domain" in row_of(head)["why"]
    head.lose_node(2, "power")
    head.tick(3.0)
    say_yes(head, 3.0)
    assert (group.state, group.nodes) == (CREATED, [3, 4])
    assert row_of(head)["topology_assignments"] == {SWITCH: "s2"}


def test_a_group_that_no_switch_can_hold_says_so_and_takes_the_node_that_joins_there():
    head = head_with("s1", "s2", "s2")
    group = create(head, 3, [[SWITCH, "STRICT_PACK"]])
    (warning,) = [msg for _, msg in head.outbox if isinstance(msg, PgWarning)]
    assert "the nearest, s2, has room for 2" in warning.why
    join(head, 4, "s1", 1)
    assert not group.planned
    join(head, 5, "s2", 1)
    say_yes(head)
    assert (group.state, group.nodes) == (CREATED, [2, 3, 5])


def test_a_row_of_a_group_keeps_its_topology():
    head = head_with("s1")
    create(head, 2, [[SWITCH, "STRICT_PACK"]])
    again = head_with()
    for key, row in msgspec.msgpack.decode(msgspec.msgpack.encode(list(head.groups.rows()))):
        again.groups.load(key, row)
    assert again.groups.find(GROUP).topology == [[SWITCH, "STRICT_PACK"]]


def test_a_group_with_unknown_strategies_of_labels_is_not_taken():
    head = head_with("s1")
    assert create(head, 1, [[SWITCH, "NEAR"]]) is None
    assert create(head, 1, [[SWITCH]]) is None


# ---------------------------------------------------------------- what users may ask for


@pytest.mark.parametrize(
    ("strategy", "topology", "text"),
    [
        ("PACK", {"rack": "STRICT_PACK"}, "not both"),
        (None, ["rack"], "must be a dict"),
        (None, {"rack": "NEAR"}, "must be one of"),
        (None, {"": "PACK"}, "not the key of a label"),
        (None, {1: "PACK"}, "not the key of a label"),
        (None, {"a": "PACK", "b": "SPREAD"}, "one label with a strategy other than STRICT_PACK"),
        (None, {"a": "STRICT_SPREAD", "ray.io/node-id": "STRICT_PACK"}, "exclude each other"),
        (None, {"hpc.io/node-id": "PACK", "ray.io/node-id": "PACK"}, "twice"),
        (None, {f"k{n}": "STRICT_PACK" for n in range(11)}, "10 at most"),
    ],
)
def test_what_makes_no_sense_is_a_value_error(strategy, topology, text):
    with pytest.raises(ValueError, match=text):
        validate_placement_group([{"CPU": 1}] * 2, strategy, topology_strategy=topology)


@pytest.mark.parametrize(
    "topology",
    [
        {}, {"ray.io/node-id": "STRICT_SPREAD"}, {"rack": "STRICT_PACK", "ray.io/node-id": "SPREAD"},
        {"rack": "STRICT_PACK", "hpc.io/switch": "SPREAD"},
    ],
)  # fmt: skip
def test_what_makes_sense_is_taken(topology):
    validate_placement_group([{"CPU": 1}] * 2, topology_strategy=topology)

"""Where bundles go, which labels match, who shares with whom, and the head's and raylets' part of placement groups."""

from __future__ import annotations

import itertools
import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc.core.head.groups import CREATED, PENDING, REMOVED, RESCHEDULING, UNHEARD_S
from hpc.core.head.machine import HeadMachine
from hpc.core.ids import Address, raylet_of
from hpc.core.owner.locality import best_node
from hpc.core.owner.machine import OwnerMachine
from hpc.core.owner.tables import Shape
from hpc.core.policy.bundles import place_bundles
from hpc.core.policy.group_reasons import why_no_group
from hpc.core.policy.labels import matches, node_labels, parse_selector
from hpc.core.policy.placement import Snapshot, place, why_infeasible
from hpc.core.raylet.leasing import Leasing
from hpc.core.resources import UNIT, NodeResources
from hpc.core.wire import (
    INLINE,
    STORED,
    WIRE_VERSION,
    Answer,
    BundleCommit,
    BundlePrepare,
    BundlePrepared,
    BundleReturn,
    BundlesHeld,
    Done,
    Heartbeat,
    LeaseGrant,
    LeaseInfeasible,
    LeaseReclaim,
    LeaseRequest,
    LeaseReturn,
    NodeDemand,
    NodeInfo,
    NodeRegister,
    PgCreate,
    PgRemove,
    PgState,
    PgTable,
    PgWait,
    PgWarning,
    ProcessGone,
    Result,
    Task,
    Tickets,
)

DRIVER, OTHER = Address(1, 1), Address(1, 2)
CPU = {"CPU": UNIT}
GROUP = b"g" * 16


def snapshot(cpus, labels=None):
    rows = [(n + 1, {"CPU": c * UNIT}, {"CPU": c * UNIT}) for n, c in enumerate(cpus)]
    return Snapshot.of(rows, {n + 1: given for n, given in enumerate(labels or [])})


# ---------------------------------------------------------------- bundles


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=6),
    st.lists(st.integers(1, 3), min_size=1, max_size=6),
    st.sampled_from(["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"]),
)
@settings(max_examples=300, deadline=None)
def test_a_plan_keeps_capacity_and_strictness(cpus, wanted, strategy):
    plan = place_bundles(snapshot(cpus), [{"CPU": w * UNIT} for w in wanted], strategy)
    if plan is None:
        if strategy == "STRICT_PACK":
            assert max(cpus) < sum(wanted)
        elif strategy == "STRICT_SPREAD":
            rooms, needs = sorted(cpus, reverse=True), sorted(wanted, reverse=True)
            assert len(wanted) > len(cpus) or any(r < n for r, n in zip(rooms, needs))
        else:
            # A bundle fails only where the room that is left is split: one of 3 always fits into 5 on two nodes.
            assert sum(cpus) < sum(wanted) + 2 * len(cpus) or max(cpus) < max(wanted)
        return
    for node in set(plan):
        assert sum(w for w, n in zip(wanted, plan) if n == node) <= cpus[node - 1]
    if strategy == "STRICT_PACK":
        assert len(set(plan)) == 1
    elif strategy == "STRICT_SPREAD":
        assert len(set(plan)) == len(plan)
    elif strategy == "PACK" and max(cpus) >= sum(wanted):
        assert len(set(plan)) == 1


@given(st.lists(st.integers(1, 8), min_size=1, max_size=6), st.integers(1, 12))
@settings(max_examples=100, deadline=None)
def test_pack_takes_as_few_nodes_as_possible_for_equal_bundles(cpus, count):
    plan = place_bundles(snapshot(cpus), [CPU] * count, "PACK")
    if sum(cpus) < count:
        assert plan is None
        return
    best = next(n for n in itertools.count(1) if sum(sorted(cpus, reverse=True)[:n]) >= count)
    assert len(set(plan)) <= best + (0 if count % max(cpus) else 1)


def test_spread_uses_every_node_before_one_twice():
    assert sorted(place_bundles(snapshot([4, 4, 4]), [CPU] * 4, "SPREAD")) in ([1, 1, 2, 3], [1, 2, 2, 3], [1, 2, 3, 3])
    assert sorted(place_bundles(snapshot([1, 8]), [CPU] * 4, "SPREAD")) == [1, 2, 2, 2]


def test_strict_spread_finds_a_matching_that_greed_misses():
    labels = [{"k": "a"}, {"k": "b"}]
    selectors = [[], parse_selector({"k": "a"})]
    # The node with most room is the only one for the second bundle.
    assert place_bundles(snapshot([4, 2], labels), [CPU, CPU], "STRICT_SPREAD", selectors) == [2, 1]
    chain = [parse_selector({"k": "in(a, b)"}), parse_selector({"k": "in(b, c)"}), parse_selector({"k": "b"})]
    three = snapshot([1, 3, 1], [{"k": "a"}, {"k": "b"}, {"k": "c"}])
    assert place_bundles(three, [CPU] * 3, "STRICT_SPREAD", chain) == [1, 3, 2]


def test_bundles_that_stay_count():
    nodes = snapshot([2, 2, 2])
    assert place_bundles(nodes, [CPU], "STRICT_SPREAD", taken=[1, 2]) == [3]
    assert place_bundles(nodes, [CPU], "STRICT_PACK", taken=[2]) == [2]
    assert place_bundles(nodes, [CPU], "PACK", taken=[3]) == [3]
    assert place_bundles(nodes, [CPU], "SPREAD", taken=[1, 1, 3]) == [2]
    assert place_bundles(nodes, [CPU], "STRICT_PACK", taken=[2], avoid={2}) is None


@pytest.mark.parametrize(
    ("bundles", "strategy", "text"),
    [
        ([{"CPU": 9 * UNIT}], "PACK", "bundle 0 needs one node with {CPU: 9}"),
        ([CPU, {"GPU": UNIT}], "SPREAD", "bundle 1 needs one node with {GPU: 1}"),
        ([CPU] * 3, "STRICT_PACK", "one node with {CPU: 3}"),
        ([CPU] * 3, "STRICT_SPREAD", "a node for each of 3 bundles"),
        ([CPU] * 5, "PACK", "need {CPU: 5} together, more than the 2 nodes have"),
    ],
)
def test_what_cannot_be_says_what_it_needs(bundles, strategy, text):
    assert text in why_no_group(snapshot([2, 2]), bundles, strategy)
    assert why_no_group(snapshot([2, 2]), [CPU, CPU], strategy) == ""


# ---------------------------------------------------------------- labels and strategies


@pytest.mark.parametrize(
    ("condition", "value", "expected"),
    [
        ("a", "a", True), ("a", "b", False), ("a", None, False), ("!a", "a", False), ("!a", "b", True),
        ("!a", None, True), ("in(a, b)", "b", True), ("in(a,b)", "c", False), ("!in(a,b)", "c", True),
        ("!in(a,b)", "a", False), ("!in(a,b)", None, True), ("", "", True),
    ],
)  # fmt: skip
def test_selectors(condition, value, expected):
    labels = {} if value is None else {"k": value}
    assert matches(labels, parse_selector({"k": condition})) is expected


@pytest.mark.parametrize(
    ("key", "bad"),
    [*[("k", bad) for bad in ("in(a", "in(a))", "a b", "x" * 64, "in()", "!in( )")], ("", "a"), ("a/b/c", "d")],
)
def test_selectors_that_make_no_sense(key, bad):
    with pytest.raises(ValueError):
        parse_selector({key: bad})


def test_labels_have_both_prefixes_and_the_user_wins():
    labels = node_labels({"ray.io/market-type": "spot", "zone": "a"}, 3, "n3", "A100")
    assert labels["hpc.io/node-id"] == labels["ray.io/node-id"] == "3"
    assert labels["hpc.io/market-type"] == "spot"
    assert labels["ray.io/accelerator-type"] == "A100"
    assert labels["zone"] == "a"
    assert node_labels({"ray.io/accelerator-type": "X1"}, 1, "h", "A100")["hpc.io/accelerator-type"] == "X1"


def test_alternatives_are_tried_in_order():
    nodes = snapshot([1, 4, 4], [{"z": "a"}, {"z": "b"}, {"z": "c"}])
    a, b = parse_selector({"z": "a"}), parse_selector({"z": "b"})
    assert place(nodes, CPU, 3, ["where", "DEFAULT", [a, b]]) == [(1, 1), (2, 2)]
    assert place(nodes, CPU, 3, ["where", "DEFAULT", [a]]) == [(1, 1)]
    assert place(nodes, CPU, 1, ["where", ["node", 3, False], [b]]) == []
    assert "no node has the labels" in why_infeasible(nodes, CPU, ["where", "DEFAULT", [parse_selector({"z": "q"})]])
    assert "with the labels" in why_infeasible(nodes, {"CPU": 2 * UNIT}, ["where", "DEFAULT", [a]])
    assert why_infeasible(nodes, {"CPU": 2 * UNIT}, ["where", "DEFAULT", [a, b]]) == ""


def test_soft_affinity_leaves_only_for_a_node_that_can_never_serve():
    nodes = snapshot([1, 2])
    nodes.free["CPU"][0] = 0
    assert place(nodes, CPU, 1, ["node", 1, True]) == []
    assert place(nodes, {"CPU": 2 * UNIT}, 1, ["node", 1, True]) == [(2, 1)]
    assert place(nodes, CPU, 1, ["node", 7, True]) == [(2, 1)]
    assert place(nodes, CPU, 2, ["near", 1]) == [(2, 2)]


def test_spread_takes_turns_among_equals():
    assert [place(snapshot([2, 2, 2]), CPU, 1, "SPREAD", after)[0][0] for after in (0, 1, 2, 3)] == [1, 2, 3, 1]


def test_where_the_bytes_are():
    large = Result(STORED, b"", 3 << 20, [2])
    both = Result(STORED, b"", 2 << 20, [1, 3])
    assert best_node([large, both]) == 2
    assert best_node([both]) == 1
    assert best_node([Result(STORED, b"", 1000, [2]), Result(INLINE, b"x" * 10)]) == 0


# ---------------------------------------------------------------- the head


def head_with(cpus, **labels):
    head = HeadMachine()
    for number, count in enumerate(cpus, 1):
        totals = {"CPU": count * UNIT}
        info = NodeInfo(number, f"n{number}", "", "", totals, labels, False, 0, "")
        head.handle(raylet_of(number), [NodeRegister(info, WIRE_VERSION)], 0.0)
    head.outbox.clear()
    return head


def create(head, bundles, strategy="PACK", group=GROUP, name="", creator=DRIVER, detached=False, now=1.0):
    msg = PgCreate(1, group, name, "", strategy, bundles, [], detached, creator)
    head.handle(creator, [msg], now)
    return head.groups.find(group)


def sent(head, kind):
    found = [(dst.node, msg) for dst, msg in head.outbox if isinstance(msg, kind)]
    head.outbox[:] = [(dst, msg) for dst, msg in head.outbox if not isinstance(msg, kind)]
    return found


def say_yes(head, now=1.0):
    for node, msg in sent(head, BundlePrepare):
        head.handle(raylet_of(node), [BundlePrepared(msg.group, msg.attempt, True)], now)


def test_both_phases_and_who_waits_is_told():
    head = head_with([1, 1])
    group = create(head, [CPU, CPU], "STRICT_SPREAD")
    head.handle(OTHER, [PgWait(7, GROUP)], 1.0)
    prepares = sent(head, BundlePrepare)
    assert sorted(node for node, _ in prepares) == [1, 2]
    assert all(sum(u["CPU"] for _, u in m.bundles) == UNIT for _, m in prepares)
    head.handle(raylet_of(1), [BundlePrepared(GROUP, 1, True)], 1.0)
    assert not sent(head, BundleCommit)
    assert group.state == "PREPARED"
    head.handle(raylet_of(2), [BundlePrepared(GROUP, 1, True)], 1.0)
    assert sorted(node for node, _ in sent(head, BundleCommit)) == [1, 2]
    assert group.state == CREATED
    assert (OTHER, Answer(7, True)) in head.outbox


def test_one_no_rolls_back_and_it_is_planned_anew_elsewhere():
    head = head_with([1, 1, 1])
    group = create(head, [CPU, CPU], "STRICT_SPREAD")
    (first, _), (second, _) = sent(head, BundlePrepare)
    head.handle(raylet_of(first), [BundlePrepared(GROUP, 1, True)], 1.0)
    head.handle(raylet_of(second), [BundlePrepared(GROUP, 1, False, "no room")], 1.0)
    assert sent(head, BundleReturn) == [(first, BundleReturn(GROUP, 1, False, "this attempt to reserve was given up"))]
    assert group.state in (PENDING, "PREPARED")
    free = Heartbeat(first, CPU, 1, 0, [1, 2])
    head.handle(raylet_of(first), [free], 1.01)
    again = sent(head, BundlePrepare)
    assert second not in [node for node, _ in again]
    assert all(msg.attempt == 2 for _, msg in again)
    # A late answer to the first attempt is returned, not believed.
    head.handle(raylet_of(second), [BundlePrepared(GROUP, 1, True)], 1.2)
    assert sent(head, BundleReturn)[0][1].attempt == 1
    assert group.state != CREATED


def test_a_death_moves_only_what_was_there():
    head = head_with([1, 1, 1])
    group = create(head, [CPU, CPU], "STRICT_SPREAD", creator=Address(4, 1))
    say_yes(head)
    lost, kept = group.nodes
    head.lose_node(lost, "power")
    assert group.state == RESCHEDULING
    assert group.nodes == [0, kept]
    say_yes(head)
    assert group.state == CREATED
    assert group.nodes[1] == kept
    assert group.nodes[0] not in (0, lost, kept)


def test_whoever_made_a_group_is_told_each_time_that_waiting_for_it_would_end_or_begin():
    head = head_with([1, 1, 1])
    group = create(head, [CPU, CPU], "STRICT_SPREAD")
    assert not sent(head, PgState)
    say_yes(head)
    assert sent(head, PgState) == [(DRIVER.node, PgState(GROUP, CREATED))]
    head.lose_node(next(node for node in group.nodes if node != DRIVER.node), "power")
    assert sent(head, PgState) == [(DRIVER.node, PgState(GROUP, ""))]
    say_yes(head)
    assert sent(head, PgState) == [(DRIVER.node, PgState(GROUP, CREATED))]
    head.handle(OTHER, [PgWait(0, GROUP)], 1.0)
    assert sent(head, PgState) == [(OTHER.node, PgState(GROUP, CREATED))]
    head.handle(OTHER, [PgRemove(2, GROUP)], 2.0)
    (_, told) = sent(head, PgState)[0]
    assert (told.state, "was removed" in told.why) == (REMOVED, True)


def test_removal_and_the_creators_end_return_everything():
    head = head_with([2, 2])
    create(head, [CPU], name="a")
    create(head, [CPU], group=b"h" * 16, creator=OTHER)
    create(head, [CPU], group=b"i" * 16, creator=OTHER, detached=True)
    say_yes(head)
    head.handle(DRIVER, [PgRemove(2, GROUP)], 2.0)
    assert [m.group for _, m in sent(head, BundleReturn)] == [GROUP]
    head.handle(raylet_of(1), [ProcessGone(OTHER, "ended")], 2.0)
    assert [m.group for _, m in sent(head, BundleReturn)] == [b"h" * 16]
    assert {g.state for g in head.groups.removed.values()} == {REMOVED}
    assert head.groups.table[b"i" * 16].state == CREATED
    head.outbox.clear()
    head.handle(DRIVER, [PgWait(3, GROUP)], 2.0)
    assert "was removed" in head.outbox[0][1].why


def test_names_are_unique_among_the_living():
    head = head_with([2])
    create(head, [CPU], name="a")
    create(head, [CPU], group=b"h" * 16, name="a")
    assert not head.outbox[-1][1].ok
    assert b"h" * 16 not in head.groups.table
    head.handle(DRIVER, [PgTable(4, name="a")], 1.0)
    assert msgspec.json.decode(head.outbox[-1][1].data)[0]["group"] == GROUP.hex()
    head.handle(DRIVER, [PgRemove(5, GROUP)], 1.0)
    assert create(head, [CPU], group=b"h" * 16, name="a") is not None


def test_an_infeasible_group_is_said_once_and_placed_when_a_node_joins():
    head = head_with([1])
    group = create(head, [{"CPU": 2 * UNIT}])
    warnings = sent(head, PgWarning)
    assert "one node with {CPU: 2}" in warnings[0][1].why
    for now in range(2, 6):
        head.tick(float(now))
    assert not sent(head, PgWarning)
    info = NodeInfo(2, "n2", "", "", {"CPU": 2 * UNIT}, {}, False, 0, "")
    head.handle(raylet_of(2), [NodeRegister(info, WIRE_VERSION)], 7.0)
    say_yes(head)
    assert group.state == CREATED
    assert group.nodes == [2]


def test_rows_of_groups_lead_to_the_same_table_and_raylets_say_what_they_hold():
    head = head_with([1, 1, 1])
    create(head, [CPU, CPU], "STRICT_SPREAD", name="kept")
    say_yes(head)
    other = b"h" * 16
    create(head, [CPU], group=other)
    rows = msgspec.msgpack.decode(msgspec.msgpack.encode(list(head.groups.changes())))
    assert not list(head.groups.changes())
    again = head_with([])
    for key, row in rows:
        again.groups.load(key, row)
    assert list(again.groups.rows()) == list(head.groups.rows())
    group = again.groups.table[GROUP]
    assert group.state == CREATED
    assert group.creator == DRIVER
    assert again.groups.table[other].state == PENDING
    held = [(GROUP, i, group.attempts[i], False) for i, n in enumerate(group.nodes) if n == group.nodes[0]]
    again.handle(raylet_of(group.nodes[0]), [BundlesHeld([*held, (other, 0, 1, True), (b"?" * 16, 0, 1, True)])], 1.0)
    assert sent(again, BundleCommit) == [(group.nodes[0], BundleCommit(GROUP, 1))]
    assert {m.group: m.removed for _, m in sent(again, BundleReturn)} == {other: False, b"?" * 16: True}


def demand(strategy, count=1, shape=1, node=1):
    return NodeDemand(node, shape, CPU, CPU, strategy, count)


def test_tickets_for_bundles_follow_the_reports():
    head = head_with([2, 2])
    group = create(head, [CPU, CPU], "STRICT_SPREAD")
    say_yes(head)
    one, two = group.nodes
    head.handle(raylet_of(1), [demand(["pg", GROUP, -1, False], 3)], 2.0)
    assert not sent(head, Tickets)
    head.handle(raylet_of(one), [Heartbeat(one, CPU, 1, 0, [], [(GROUP, 0, CPU)])], 2.0)
    ((_, answer),) = sent(head, Tickets)
    assert [(n, c) for n, c, _ in answer.grants] == [(one, 1)]
    head.handle(raylet_of(two), [Heartbeat(two, CPU, 1, 0, [], [(GROUP, 1, CPU)])], 2.1)
    ((_, answer),) = sent(head, Tickets)
    assert [(n, c) for n, c, _ in answer.grants] == [(two, 1)]
    head.handle(raylet_of(one), [Heartbeat(one, CPU, 1, 0, [], [(GROUP, 0, CPU)])], 2.2)
    assert not sent(head, Tickets), "the first ticket is not spent yet"


@pytest.mark.parametrize(
    ("strategy", "final", "text"),
    [
        (["pg", b"?" * 16, -1, False], "group_removed", "no such placement group"),
        (["pg", GROUP, 5, False], "group_removed", "none of index 5"),
        (["node", 2, False], "unschedulable", "has died"),
        (["where", ["node", 2, False], [[]]], "unschedulable", "has died"),
        (["node", 2, True], "", ""),
        (["node", 9, False], "", "not part of the cluster"),
    ],
)
def test_what_can_never_be_served_is_final(strategy, final, text):
    head = head_with([1, 1])
    create(head, [CPU])
    head.lose_node(2, "power")
    head.outbox.clear()
    head.handle(raylet_of(1), [demand(strategy)], 2.0)
    if text == "no such placement group":  # it may be on its way
        assert not sent(head, Tickets)
        head.tick(2.0 + UNHEARD_S)
    answers = sent(head, Tickets)
    if text:
        assert [(m.final, text in m.infeasible) for _, m in answers] == [(final, True)]
    else:
        assert all(not m.infeasible for _, m in answers)
    assert (not final) == ((1, 1) in head.demands.table or not text)


# ---------------------------------------------------------------- the raylet


def request(req, owner=DRIVER, count=1, strategy="DEFAULT", seen=0, driver=None, depth=0):
    return LeaseRequest(req, owner, CPU, CPU, count, seen, False, strategy, {}, depth, driver=driver or owner)


def raylet(cpus=2):
    leasing = Leasing(1, NodeResources({"CPU": cpus * UNIT}), now=0.0)
    return leasing


def grants_of(leasing):
    for proc in list(leasing.starting.values()):
        leasing.worker_ready(proc)
    found = [(dst, msg) for dst, msg in leasing.outbox if isinstance(msg, LeaseGrant)]
    leasing.outbox[:] = [(dst, msg) for dst, msg in leasing.outbox if not isinstance(msg, LeaseGrant)]
    return found


def test_a_bundle_is_taken_whole_leased_from_and_returned_when_its_workers_have_ended():
    leasing = raylet(3)
    head = Address(0, 0)
    leasing.on_bundle_prepare(head, BundlePrepare(GROUP, 1, 9, [(0, CPU), (1, CPU)]))
    assert leasing.outbox.pop()[1] == BundlePrepared(GROUP, 1, True)
    assert leasing.spent_tickets == [9]
    assert leasing.resources.free == CPU
    leasing.on_lease_request(DRIVER, request(1, count=3, strategy=["pg", GROUP, -1, False]))
    assert not leasing.leases, "it was not committed yet"
    leasing.on_bundle_commit(head, BundleCommit(GROUP, 1))
    assert len(grants_of(leasing)) == 2
    assert leasing.resources.free == CPU
    assert sorted(f["CPU"] for _, _, f in leasing.bundles.report_free()) == [0, 0]
    leasing.on_bundle_return(head, BundleReturn(GROUP, 0, True, "removed"))
    assert leasing.resources.free == CPU, "the workers are still there"
    for proc, _ in leasing.to_kill:
        leasing.worker_gone(proc, "killed")
    assert leasing.resources.free == {"CPU": 3 * UNIT}
    assert not leasing.bundles.held and not leasing.bundles.returning


def test_a_prepare_takes_all_or_nothing_and_may_be_said_again():
    leasing = raylet(2)
    assert leasing.bundles.prepare(GROUP, 1, [(0, CPU), (1, {"CPU": 2 * UNIT})]) == "there is no room for bundle 1"
    assert leasing.resources.free == {"CPU": 2 * UNIT}
    for _ in range(2):
        assert leasing.bundles.prepare(GROUP, 2, [(0, CPU), (1, CPU)]) == ""
    assert leasing.resources.free == {"CPU": 0}
    assert "attempt 2" in leasing.bundles.prepare(GROUP, 3, [(0, CPU)])
    leasing.bundles.give_back(GROUP, 1, "group_removed", "old")
    assert len(leasing.bundles.report_held()) == 2
    leasing.bundles.give_back(GROUP, 2, "group_removed", "old")
    assert leasing.resources.free == {"CPU": 2 * UNIT}


def test_instances_of_a_bundle_are_fixed():
    node = NodeResources({"GPU": 4 * UNIT}, {"GPU": ["a", "b", "c", "d"]})
    part = node.acquire({"GPU": 2 * UNIT})
    pool = NodeResources.part(part)
    seen = [pool.acquire({"GPU": UNIT}).instances()["GPU"][0] for _ in range(2)]
    assert sorted(seen) == sorted(part.instances()["GPU"])
    assert pool.acquire({"GPU": UNIT // 2}) is None
    half = NodeResources.part(node.acquire({"GPU": UNIT // 2}))
    assert half.acquire({"GPU": UNIT // 4}).instances()["GPU"] == ["c"]


def test_a_recalled_worker_goes_to_the_driver_that_waits():
    leasing = raylet(1)
    leasing.on_lease_request(DRIVER, request(1, count=5))
    ((_, first),) = grants_of(leasing)
    leasing.on_lease_request(OTHER, request(1, OTHER, count=5))
    leasing.tick(1.0)
    leasing.tick(1.03)
    assert not any(isinstance(m, LeaseReclaim) and m.leases for _, m in leasing.outbox)
    leasing.tick(1.06)
    recalls = [(dst, m.leases) for dst, m in leasing.outbox if isinstance(m, LeaseReclaim) and m.leases]
    assert recalls == [(DRIVER, [first.lease])]
    leasing.on_lease_return(DRIVER, LeaseReturn(first.lease))
    ((dst, _),) = grants_of(leasing)
    assert dst == OTHER


@given(st.lists(st.integers(1, 9), min_size=2, max_size=4), st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_shares_become_equal_whoever_came_first(wants, cpus):
    leasing = raylet(cpus)
    owners = [Address(1, 100 + n) for n in range(len(wants))]
    held = {owner: set() for owner in owners}
    turns = dict.fromkeys(owners, 0)
    for owner in owners:
        leasing.on_lease_request(owner, request(1, owner, count=100))
    now = 0.0
    for _ in range(200):
        now += 0.03
        leasing.tick(now)
        for dst, grant in grants_of(leasing):
            held[dst].add(grant.lease)
        for owner in owners:
            turns[owner] += len(held[owner])
        recalls = [(dst, msg.leases) for dst, msg in leasing.outbox if isinstance(msg, LeaseReclaim)]
        leasing.outbox.clear()
        for dst, leases in recalls:
            for lease in leases:
                held[dst].remove(lease)
                leasing.on_lease_return(dst, LeaseReturn(lease))
        assert sum(len(h) for h in held.values()) <= cpus
    least = math.floor(cpus / len(owners))
    assert min(turns.values()) >= 0.6 * 200 * max(least, 0.5 * cpus / len(owners)), turns


# ---------------------------------------------------------------- the owner


def test_an_owner_returns_a_recalled_worker_although_it_has_more_to_do():
    owner = OwnerMachine(DRIVER)
    owner.state.functions[b"f"] = b""
    shape = owner.leases.add_shape(Shape(CPU, CPU, "DEFAULT", {}, False))
    tasks = []
    for _ in range(3):
        tasks.append(owner.new_ids())
        owner.tasks.submit(Task(tasks[-1], 0, b"f", "t", b"", 1), shape, 0, False, [])
    worker = Address(1, 9)
    owner.handle(raylet_of(1), [LeaseGrant(shape.req, 5, worker, "", {})])
    owner.handle(raylet_of(1), [LeaseReclaim(1, [5])])
    assert not any(isinstance(m, LeaseReturn) for m in owner.outbox[owner.raylet])
    owner.handle(worker, [Done(tasks[0], 0, [Result(INLINE, b"")], 10_000)])
    assert LeaseReturn(5) in owner.outbox[owner.raylet]
    assert len(shape.queue) == 2
    assert not shape.idle and not owner.leases.idle


def test_what_can_never_run_fails_and_later_work_asks_again():
    owner = OwnerMachine(DRIVER)
    owner.state.functions[b"f"] = b""
    shape = owner.leases.add_shape(Shape(CPU, CPU, ["node", 2, False], {}, False))
    task = owner.new_ids()
    owner.tasks.submit(Task(task, 0, b"f", "t", b"", 1), shape, 3, False, [])
    owner.outbox.clear()
    owner.handle(raylet_of(1), [LeaseInfeasible(shape.req, "node 2 has died", "unschedulable")])
    error = msgspec.msgpack.decode(owner.state.entries[task].result.data)
    assert error["type"] == "TaskUnschedulableError"
    assert [m.count for m in owner.outbox[owner.raylet] if isinstance(m, LeaseRequest)] == [0]
    owner.tasks.submit(Task(owner.new_ids(), 0, b"f", "t", b"", 1), shape, 3, False, [])
    assert [m.count for m in owner.outbox[owner.raylet] if isinstance(m, LeaseRequest)] == [0, 1]


def test_a_removal_that_overtakes_the_creation_ends_it():
    """A new head may be asked again in another order than the one before: seed 226150 with dying heads."""
    head = head_with([1])
    head.handle(DRIVER, [PgRemove(2, GROUP)], 1.0)
    group = create(head, [CPU])
    assert group.state == REMOVED
    assert not sent(head, BundlePrepare)
    assert not head.groups.table
    again = head_with([])
    for key, row in head.groups.rows():
        again.groups.load(key, row)
    assert again.groups.find(GROUP).state == REMOVED

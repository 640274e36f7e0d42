"""Placement groups on real processes: reservation, tasks and actors inside, removal, death of a node."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

import hpc
from hpc.cluster_utils import Cluster
from hpc.exceptions import ActorDiedError, TaskPlacementGroupRemoved
from hpc.util.placement_group import (
    PlacementGroup,
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from hpc.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from hpc.util.state import list_placement_groups
from runtime.running import eventually, kill9, local_nodes, one_node, pid_of


@hpc.remote
def where(seconds=0.0):
    time.sleep(seconds)
    return hpc.get_runtime_context().get_node_id()


@hpc.remote(max_retries=0)
def write(path):
    with open(path, "a") as file:
        file.write("it ran")


@hpc.remote
def group_here():
    group = get_current_placement_group()
    return group.id if group else b""


@hpc.remote
def children_of(capture):
    return hpc.get([group_here.remote(), group_here.remote()])


@hpc.remote
class Counter:
    def __init__(self):
        self.n = 0

    def add(self):
        self.n += 1
        return self.n

    def node(self):
        return hpc.get_runtime_context().get_node_id()


def inside(group, index=-1, capture=None):
    return PlacementGroupSchedulingStrategy(group, index, capture)


def free_cpus():
    return hpc.available_resources().get("CPU", 0)


def test_one_node_reserves_runs_and_returns():
    with one_node(num_cpus=3):
        group = placement_group([{"CPU": 1}, {"CPU": 1}], strategy="PACK", name="both")
        assert hpc.get(group.ready(), timeout=60) == group
        assert group.wait(60)
        assert group.bundle_count == 2
        assert group.bundle_specs == [{"CPU": 1}, {"CPU": 1}]
        eventually(lambda: free_cpus() == 1)
        assert hpc.util.get_placement_group("both") == group
        assert (
            hpc.get([group_here.options(scheduling_strategy=inside(group, i)).remote() for i in (0, 1, -1)])
            == [group.id] * 3
        )
        assert hpc.get(group_here.remote()) == b""
        row = placement_group_table(group)
        assert row["state"] == "CREATED"
        assert row["bundles_to_node_id"] == {0: "1", 1: "1"}
        remove_placement_group(group)
        assert placement_group_table(group)["state"] == "REMOVED"
        eventually(lambda: free_cpus() == 3)
        with pytest.raises(ValueError, match="no placement group named"):
            get_placement_group("both")
        with pytest.raises(TaskPlacementGroupRemoved, match="removed by remove_placement_group"):
            hpc.get(where.options(scheduling_strategy=inside(group)).remote(), timeout=60)
        assert not group.wait(1)


def test_a_node_has_labels_from_the_name_of_its_host():
    with one_node({"HPC_LABELS_OF_HOST": "rack=(.) hpc.io/switch=(.*) none=(.*)nothing-like-it"}, num_cpus=1):
        labels = hpc.get_runtime_context().get_node_labels()
        assert labels["rack"] == os.uname().nodename[0]
        assert labels["ray.io/switch"] == labels["hpc.io/switch"]
        assert "none" not in labels
        group = placement_group([{"CPU": 1}], topology_strategy={"rack": "STRICT_PACK"})
        assert group.wait(60)
        assert placement_group_table(group)["topology_assignments"] == {"rack": labels["rack"]}


def test_strategies_place_bundles_on_the_right_nodes():
    with local_nodes(3, num_cpus=2):

        def nodes_of(bundles, strategy):
            group = placement_group(bundles, strategy=strategy)
            assert group.wait(60), placement_group_table(group)
            nodes = list(placement_group_table(group)["bundles_to_node_id"].values())
            seen = hpc.get([where.options(scheduling_strategy=inside(group, i)).remote() for i in range(len(bundles))])
            assert seen == nodes
            remove_placement_group(group)
            eventually(lambda: free_cpus() == 6)
            return nodes

        assert len(set(nodes_of([{"CPU": 1}] * 2, "STRICT_PACK"))) == 1
        assert len(set(nodes_of([{"CPU": 1}] * 3, "STRICT_SPREAD"))) == 3
        assert len(set(nodes_of([{"CPU": 1}] * 3, "SPREAD"))) == 3
        assert len(set(nodes_of([{"CPU": 1}] * 4, "PACK"))) == 2


def test_a_group_lands_below_one_switch_and_shows_where_and_waits_for_a_switch_with_room():
    below = {"num_cpus": 1, "object_store_memory": 64 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**below, "labels": {"hpc.io/switch": "s1"}})
    try:
        others = [cluster.add_node(**below, labels={"hpc.io/switch": "s2"}) for _ in range(2)]
        cluster.wait_for_nodes()
        cluster.connect()
        apart = {"hpc.io/switch": "STRICT_PACK", "ray.io/node-id": "STRICT_SPREAD"}
        group = placement_group([{"CPU": 1}] * 2, topology_strategy=apart)
        assert group.wait(60)
        row = placement_group_table(group)
        assert list(row["bundles_to_node_id"].values()) == [node.node_id for node in others]
        assert row["topology_assignments"] == {"hpc.io/switch": "s2"}
        assert row["bundles_to_domains"] == {i: {"hpc.io/switch": "s2"} for i in (0, 1)}
        three = placement_group([{"CPU": 1}] * 2, topology_strategy={"ray.io/switch": "STRICT_PACK"})
        eventually(lambda: "nearest, s1, has room now for 1" in placement_group_table(three)["why"])
        (waiting,) = list_placement_groups([("state", "=", "PENDING")])
        assert waiting.topology_strategy == {"ray.io/switch": "STRICT_PACK"}
        cluster.add_node(**below, labels={"hpc.io/switch": "s1"})
        assert three.wait(60)
        assert placement_group_table(three)["topology_assignments"] == {"ray.io/switch": "s1"}
    finally:
        cluster.shutdown()


def test_a_bundle_is_a_limit_and_waiting_tasks_follow_at_once():
    with local_nodes(2, num_cpus=2):
        group = placement_group([{"CPU": 1}, {"CPU": 1}], strategy="STRICT_SPREAD")
        assert group.wait(60)
        for index in range(2):
            times = hpc.get([stamp.options(scheduling_strategy=inside(group, index)).remote(0.02) for _ in range(6)])
            times.sort()
            ends = [0.0] + [end for _, end in times[:-1]]
            assert all(start >= end for (start, _), end in zip(times, ends)), "two ran at once in a bundle of 1 CPU"
        one = where.options(scheduling_strategy=inside(group, 0))
        assert len({hpc.get(one.remote()) for _ in range(20)}) == 1


@hpc.remote
def stamp(seconds):
    start = time.monotonic()
    time.sleep(seconds)
    return start, time.monotonic()


@hpc.remote(num_cpus=1)
class Holder:
    def node(self):
        return hpc.get_runtime_context().get_node_id()


def test_room_in_a_remote_bundle_is_used_before_any_report_of_its_node():
    """Nodes report every 20 s here, and when something changes."""
    with local_nodes(2, num_cpus=2, config={"heartbeat_s": 20.0, "suspect_s": 45.0}):
        group = placement_group([{"CPU": 1}, {"CPU": 1}], strategy="STRICT_SPREAD")
        assert group.wait(60)
        nodes = placement_group_table(group)["bundles_to_node_id"]
        remote = next(i for i, node in nodes.items() if node != "1")
        options = {"scheduling_strategy": inside(group, remote)}
        first = Holder.options(**options).remote()
        assert hpc.get(first.node.remote(), timeout=60) == nodes[remote]
        second = Holder.options(**options).remote()
        asked = second.node.remote()
        assert hpc.wait([asked], timeout=0.1)[0] == []
        hpc.kill(first)
        assert hpc.get(asked, timeout=10) == nodes[remote]


def test_children_are_captured_only_when_asked_for():
    with one_node(num_cpus=3):
        group = placement_group([{"CPU": 2}])
        assert group.wait(60)
        captured = children_of.options(scheduling_strategy=inside(group, capture=True))
        assert hpc.get(captured.remote(True), timeout=60) == [group.id] * 2
        plain = children_of.options(scheduling_strategy=inside(group))
        assert hpc.get(plain.remote(False), timeout=60) == [b""] * 2
        assert hpc.get(captured.remote(True), timeout=60) == [group.id] * 2


def test_a_blocked_parent_lends_its_cpu_to_its_own_bundle():
    with one_node(num_cpus=2):
        group = placement_group([{"CPU": 1}])
        assert group.wait(60)
        parent = children_of.options(scheduling_strategy=inside(group, 0, capture=True))
        assert hpc.get(parent.remote(True), timeout=60) == [group.id] * 2


def test_removal_ends_what_runs_inside_and_says_so():
    with one_node(num_cpus=3):
        group = placement_group([{"CPU": 1}, {"CPU": 1}])
        assert group.wait(60)
        actor = Holder.options(scheduling_strategy=inside(group, 0), max_restarts=5).remote()
        assert hpc.get(actor.node.remote(), timeout=60) == "1"
        slow = where.options(scheduling_strategy=inside(group, 1))
        running, queued = slow.remote(60), slow.remote(60)
        outside = where.remote(0.5)
        assert hpc.wait([running], timeout=0.3)[0] == []
        remove_placement_group(group)
        for ref in (running, queued):
            with pytest.raises(TaskPlacementGroupRemoved, match="placement group was removed"):
                hpc.get(ref, timeout=60)
        with pytest.raises(ActorDiedError, match="placement group was removed"):
            hpc.get(actor.node.remote(), timeout=60)
        assert hpc.get(outside, timeout=60) == "1"
        eventually(lambda: free_cpus() == 3)


def test_a_group_waits_for_room_and_an_infeasible_one_says_what_it_needs(capfd):
    with local_nodes(2, num_cpus=1):
        first = placement_group([{"CPU": 1}] * 2, strategy="SPREAD")
        assert first.wait(60)
        second = placement_group([{"CPU": 1}])
        assert not second.wait(0.3)
        assert placement_group_table(second)["state"] == "PENDING"
        remove_placement_group(first)
        assert second.wait(60)
        large = placement_group([{"CPU": 4}], name="large")
        assert not large.wait(0.5)
        said = []
        eventually(lambda: said.append(capfd.readouterr().err) or "placement group 'large'" in "".join(said))
        assert "CPU: 4" in "".join(said)
        ref = large.ready()
        remove_placement_group(large)
        with pytest.raises(TaskPlacementGroupRemoved):
            hpc.get(ref, timeout=60)


def test_bundles_on_a_dead_node_move_and_the_others_stay():
    with local_nodes(3, num_cpus=2) as session:
        group = placement_group([{"CPU": 2}] * 2, strategy="STRICT_SPREAD", bundle_label_selector=[{}, {}])
        assert group.wait(60)
        nodes = placement_group_table(group)["bundles_to_node_id"]
        lost = next(i for i, node in nodes.items() if node != "1")
        kept = 1 - lost
        actor = Counter.options(num_cpus=1, scheduling_strategy=inside(group, kept)).remote()
        assert hpc.get(actor.add.remote(), timeout=60) == 1
        mover = Counter.options(num_cpus=1, scheduling_strategy=inside(group, lost), max_restarts=1).remote()
        assert hpc.get(mover.node.remote(), timeout=60) == nodes[lost]
        row = next(n for n in hpc.nodes() if n["NodeID"] == nodes[lost])
        kill9(pid_of(os.path.dirname(row["RayletSocketName"]), "raylet"))

        def moved():
            session.pump(0.05)
            return placement_group_table(group)["bundles_to_node_id"][lost] not in ("", nodes[lost])

        eventually(moved)
        eventually(lambda: placement_group_table(group)["state"] == "CREATED")
        assert hpc.get(actor.add.remote(), timeout=60) == 2
        now = placement_group_table(group)["bundles_to_node_id"]
        assert now[kept] == nodes[kept]
        assert eventually(lambda: try_node(mover)) == now[lost]


def try_node(actor):
    try:
        return hpc.get(actor.node.remote(), timeout=60)
    except hpc.exceptions.RayActorError:
        return None


def test_groups_end_with_their_driver_unless_detached():
    code = """
import hpc, sys
from hpc.util import placement_group
hpc.init(address=sys.argv[1])
assert placement_group([{"CPU": 1}], name="mine").wait(60)
assert placement_group([{"CPU": 1}], name="kept", lifetime="detached").wait(60)
print("made", flush=True)
"""
    with local_nodes(1, num_cpus=3) as session:
        done = subprocess.run(
            [sys.executable, "-c", code, session.local_dir()], capture_output=True, text=True, timeout=60
        )
        assert "made" in done.stdout, done.stderr
        states = eventually(lambda: (t := table_by_name())["mine"] == "REMOVED" and t)
        assert states["kept"] == "CREATED"
        eventually(lambda: free_cpus() == 2)
        remove_placement_group(PlacementGroup(bytes.fromhex(next(k for k in placement_group_table()))))


def table_by_name():
    return {row["name"]: row["state"] for row in placement_group_table().values()}


def test_gpus_of_a_bundle_are_its_own():
    @hpc.remote(num_gpus=1, num_cpus=0)
    def gpu():
        return hpc.get_gpu_ids(), os.environ["CUDA_VISIBLE_DEVICES"]

    with one_node(num_cpus=2, num_gpus=4):
        groups = [placement_group([{"GPU": 2}]) for _ in range(2)]
        assert all(group.wait(60) for group in groups)
        seen = []
        for group in groups:
            refs = [gpu.options(scheduling_strategy=inside(group, 0)).remote() for _ in range(2)]
            values = hpc.get(refs, timeout=60)
            seen.append({ids[0] for ids, _ in values})
            assert all(str(ids[0]) == visible for ids, visible in values)
        assert not seen[0] & seen[1]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (([],), "at least one bundle"),
        (([{}],), "must be a dict"),
        (([{"CPU": 0}],), "reserves nothing"),
        (([{"CPU": -1}],), "negative"),
        (("CPU",), "list of dicts"),
        (([{"CPU": 1}], "TIGHT"), "strategy must be one of"),
        (([{"CPU": 1}], "PACK", "", "forever"), "lifetime must be"),
        (([{"CPU": 1}], "PACK", "", None, [{}, {}]), "2 selectors for 1 bundles"),
        (([{"CPU": 1}], "PACK", "", None, [{"a b": "c"}]), "not the key of a label"),
    ],
)
def test_nonsense_is_refused(arguments, text):
    with pytest.raises((ValueError, TypeError), match=text):
        placement_group(*arguments)


def test_what_cannot_fit_into_a_bundle_is_refused_at_once():
    with one_node(num_cpus=2):
        group = placement_group([{"CPU": 1}])
        with pytest.raises(ValueError, match="does not fit into any bundle"):
            where.options(num_cpus=2, scheduling_strategy=inside(group)).remote()
        with pytest.raises(ValueError, match="there is none of index 1"):
            where.options(scheduling_strategy=inside(group, 1)).remote()
        with pytest.raises(ValueError, match="belong to its bundles"):
            where.options(label_selector={"a": "b"}, scheduling_strategy=inside(group)).remote()
        named = placement_group([{"CPU": 1}], name="n")
        assert named
        with pytest.raises(ValueError, match="is taken"):
            placement_group([{"CPU": 1}], name="n")


def test_a_task_that_is_submitted_after_its_group_was_removed_does_not_run(tmp_path):
    with one_node(num_cpus=2):
        for turn in range(5):
            group = placement_group([{"CPU": 1}])
            task = write.options(scheduling_strategy=inside(group))
            hpc.get(task.remote("/dev/null"))  # its worker is warm
            remove_placement_group(group)
            path = tmp_path / str(turn)
            refs = [task.remote(path), write.options(scheduling_strategy=inside(group, 0), num_cpus=0).remote(path)]
            for ref in refs:
                with pytest.raises(TaskPlacementGroupRemoved, match="was removed by remove_placement_group"):
                    hpc.get(ref, timeout=30)
            assert not path.exists()

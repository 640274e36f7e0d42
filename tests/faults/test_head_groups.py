"""Placement groups and detached actors across the death of the head: what is reserved stays, what waits is served."""

from __future__ import annotations

import os
import threading

import pytest

import hpc
from hpc.exceptions import TaskPlacementGroupRemoved
from hpc.util.placement_group import (
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from hpc.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from runtime.running import Heads, eventually, kill9, local_nodes, on, pid_of, where_once


@hpc.remote
def where():
    return hpc.get_runtime_context().get_node_id()


@hpc.remote
class Counter:
    def __init__(self):
        self.value = 0

    def add(self):
        self.value += 1
        return self.value

    def pid(self):
        return os.getpid()


def inside(group, index=-1):
    return PlacementGroupSchedulingStrategy(group, index)


def free_cpus():
    return hpc.available_resources().get("CPU", 0)


@pytest.fixture
def heads():
    with local_nodes(3, num_cpus=2) as session:
        hpc.get([where.options(scheduling_strategy=on(n)).remote() for n in (1, 2, 3)])
        yield Heads(session)


def test_groups_in_use_stay_and_a_pending_one_is_served(heads, tmp_path):
    used = placement_group([{"CPU": 1}] * 3, strategy="STRICT_SPREAD", name="used")
    assert used.wait(60)
    nodes = placement_group_table(used)["bundles_to_node_id"]
    actor = Counter.options(scheduling_strategy=inside(used, 1)).remote()
    assert hpc.get(actor.add.remote()) == 1
    running = where_once.options(scheduling_strategy=inside(used, 0)).remote(tmp_path / "gate")
    pending = placement_group([{"CPU": 2}, {"CPU": 2}], strategy="STRICT_SPREAD")  # the first group is in its way
    ready = pending.ready()
    waited = []
    waiter = threading.Thread(target=lambda: waited.append(pending.wait(30)))
    waiter.start()
    assert hpc.wait([ready], timeout=0.3)[0] == []
    for calls in (2, 3):
        heads.kill()
        assert hpc.get(actor.add.remote(), timeout=60) == calls
        assert placement_group_table(used)["state"] == "CREATED"
        assert placement_group_table(used)["bundles_to_node_id"] == nodes
        assert placement_group_table(pending)["state"] == "PENDING"
        assert get_placement_group("used") == used
        assert hpc.get(where.options(scheduling_strategy=inside(used, 2)).remote(), timeout=60) == nodes[2]
    (tmp_path / "gate").touch()
    assert hpc.get(running, timeout=60) == nodes[0]
    assert not waited
    hpc.kill(actor)
    remove_placement_group(used)
    assert hpc.get(ready, timeout=60) == pending
    waiter.join(60)
    assert waited == [True]
    assert hpc.get(where.options(num_cpus=2, scheduling_strategy=inside(pending, 1)).remote(), timeout=60) in "123"
    with pytest.raises(TaskPlacementGroupRemoved):
        hpc.get(where.options(scheduling_strategy=inside(used)).remote(), timeout=60)
    heads.kill()
    assert placement_group_table(used)["state"] == "REMOVED"
    remove_placement_group(pending)
    eventually(lambda: free_cpus() == 6)


def test_groups_made_and_removed_while_there_is_no_head(heads):
    """Asked of nobody, and answered by the next head: once each, and nothing stays reserved."""
    before = placement_group([{"CPU": 2}], name="before")
    assert before.wait(60)
    for turn in range(2):  # a head may be started again 5 times in a minute
        heads.kill(wait=False)
        made = placement_group([{"CPU": 1}, {"CPU": 1}], strategy="PACK", name=f"made{turn}")
        ready = made.ready()
        assert hpc.get(ready, timeout=60) == made
        heads.kill(wait=False)
        remove_placement_group(made)
        eventually(lambda made=made: placement_group_table(made)["state"] == "REMOVED")
        eventually(lambda: free_cpus() == 4)
    assert placement_group_table(before)["state"] == "CREATED"
    remove_placement_group(before)
    eventually(lambda: free_cpus() == 6)


def test_a_node_with_a_bundle_dies_while_there_is_no_head(heads):
    group = placement_group([{"CPU": 1}] * 2, strategy="STRICT_SPREAD")
    assert group.wait(60)
    nodes = placement_group_table(group)["bundles_to_node_id"]
    away = next(i for i, node in nodes.items() if node != "1")
    there = os.path.dirname(hpc.nodes()[int(nodes[away]) - 1]["RayletSocketName"])
    lost = pid_of(there, "raylet")
    heads.kill(wait=False)
    kill9(lost)
    task = where.options(scheduling_strategy=inside(group, away)).remote()
    session = heads.session  # the launcher tells the head that a node has ended
    eventually(lambda: session.pump(0.05) or hpc.wait([task], timeout=0)[0], 30)
    assert hpc.get(task) != nodes[away]
    table = placement_group_table(group)
    assert table["state"] == "CREATED" and nodes[away] not in table["bundles_to_node_id"].values()


def test_a_detached_actor_outlives_the_head(heads):
    counter = Counter.options(name="kept", lifetime="detached", max_restarts=1, max_task_retries=1).remote()
    assert hpc.get(counter.add.remote()) == 1
    heads.kill()
    assert hpc.get(counter.add.remote(), timeout=60) == 2
    again = hpc.get_actor("kept")
    assert hpc.get(again.add.remote(), timeout=60) == 3
    with pytest.raises(ValueError, match="taken"):
        Counter.options(name="kept", lifetime="detached").remote()
    other = Counter.options(name="other", lifetime="detached").remote()
    assert hpc.get(other.add.remote(), timeout=60) == 1
    heads.kill(wait=False)
    kill9(hpc.get(again.pid.remote(), timeout=60))  # while there is no head
    eventually(lambda: hpc.get(again.add.remote(), timeout=60) >= 1)
    heads.kill()
    hpc.kill(again)
    hpc.kill(other)

    def gone(name):
        try:
            hpc.get_actor(name)
        except ValueError:
            return True
        return False

    eventually(lambda: gone("kept") and gone("other"))
    assert hpc.get(Counter.options(name="kept").remote().add.remote(), timeout=60) == 1

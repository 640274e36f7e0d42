"""Several nodes: placement, objects that travel, and what happens when a node or a process is killed."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

import hpc
from hpc.core.ids import owner_of
from hpc.core.process.current import need_client
from hpc.exceptions import ActorDiedError, ObjectLostError, OwnerDiedError, SessionLostError
from hpc.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from runtime.running import children, eventually, kill9, local_nodes, on, one_node, pid_of

MIB = 1 << 20


@hpc.remote
def node_id(seconds=0.0):
    time.sleep(seconds)
    return hpc.get_runtime_context().get_node_id()


@hpc.remote
def meet(path, count):
    """Wait until ``count`` tasks are here at the same time; the node that this one is on."""
    os.close(os.open(f"{path}/{os.getpid()}-{time.monotonic_ns()}", os.O_CREAT))
    eventually(lambda: len(os.listdir(path)) >= count)
    return hpc.get_runtime_context().get_node_id()


@hpc.remote
def make(n):
    return np.arange(n)


@hpc.remote
def total(array):
    return int(array.sum())


def test_four_nodes_are_seen_and_used(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with local_nodes(4):
        nodes = hpc.nodes()
        assert [n["NodeID"] for n in nodes] == ["1", "2", "3", "4"]
        assert all(n["Alive"] for n in nodes)
        assert hpc.cluster_resources()["CPU"] == 4
        assert sorted(hpc.get([meet.remote(str(tmp_path / "a"), 4) for _ in range(4)])) == ["1", "2", "3", "4"]
        spread = meet.options(scheduling_strategy="SPREAD")
        assert sorted(hpc.get([spread.remote(str(tmp_path / "b"), 4) for _ in range(4)])) == ["1", "2", "3", "4"]
        for node in (3, 1, 4):
            assert hpc.get(node_id.options(scheduling_strategy=on(node)).remote()) == str(node)


def test_objects_travel_between_nodes_without_damage():
    with local_nodes(3):
        ref = make.options(scheduling_strategy=on(2)).remote(2 * MIB)
        expected = sum(range(2 * MIB))
        assert hpc.get(total.options(scheduling_strategy=on(3)).remote(ref)) == expected
        assert int(hpc.get(ref).sum()) == expected
        mine = hpc.put(np.ones(3 * MIB))
        refs = [total.options(scheduling_strategy=on(n)).remote(mine) for n in (2, 3, 2)]
        assert hpc.get(refs) == [3 * MIB] * 3


def test_references_cross_nodes_in_values_and_stay_alive():
    @hpc.remote
    def put_there():
        return [hpc.put(np.full(MIB, 3, np.uint8)), hpc.put("small")]

    @hpc.remote
    def read(box):
        return int(hpc.get(box[0]).sum()), hpc.get(box[1])

    with local_nodes(3):
        box = hpc.get(put_there.options(scheduling_strategy=on(2)).remote())
        assert hpc.get(read.options(scheduling_strategy=on(3)).remote(box)) == (3 * MIB, "small")
        assert hpc.get(box[1]) == "small"


def test_actors_on_other_nodes():
    @hpc.remote
    class Adder:
        def __init__(self):
            self.value = 0

        def add(self, n):
            self.value += n
            return self.value

    with local_nodes(2):
        adder = Adder.options(scheduling_strategy=on(2)).remote()
        assert hpc.get([adder.add.remote(1) for _ in range(300)]) == list(range(1, 301))


@hpc.remote
def fib(n: int) -> int:
    return n if n < 2 else sum(hpc.get([fib.remote(n - 1), fib.remote(n - 2)]))


def test_recursion_over_nodes_goes_on_with_more_tasks_than_cpus():
    with local_nodes(2):
        assert hpc.get(fib.remote(8)) == 21


def test_custom_resources_decide_the_node(tmp_path):
    with local_nodes(2, resources={"license": 1}):
        held = meet.options(resources={"license": 1}, num_cpus=0)
        assert sorted(hpc.get([held.remote(str(tmp_path), 2) for _ in range(2)])) == ["1", "2"]
        assert hpc.cluster_resources()["license"] == 2


def test_a_lost_node_loses_its_objects_and_actors_and_its_tasks_run_elsewhere(tmp_path):
    @hpc.remote
    class Sitter:
        def where(self):
            return hpc.get_runtime_context().get_node_id()

    @hpc.remote(max_retries=2)
    def long_then_node(path):
        node = hpc.get_runtime_context().get_node_id()
        open(f"{path}/{node}", "w").close()
        time.sleep(600 if node == "3" else 0)
        return node

    with local_nodes(3) as session:
        sitter = Sitter.options(scheduling_strategy=on(3)).remote()
        assert hpc.get(sitter.where.remote()) == "3"
        ref = make.options(scheduling_strategy=on(3), max_retries=0).remote(MIB)
        hpc.wait([ref], fetch_local=False)
        eventually(lambda: hpc.available_resources().get("CPU") == 3)
        soft = NodeAffinitySchedulingStrategy("3", soft=True)
        moved = long_then_node.options(scheduling_strategy=soft).remote(str(tmp_path))
        eventually(lambda: (tmp_path / "3").exists())
        node3 = next(n for n in hpc.nodes() if n["NodeID"] == "3")
        kill9(pid_of(os.path.dirname(node3["RayletSocketName"]), "raylet"))
        eventually(lambda: session.pump(0.05) or [n["Alive"] for n in hpc.nodes()] == [True, True, False])
        assert hpc.get(moved, timeout=60) in ("1", "2")
        with pytest.raises(ActorDiedError):
            hpc.get(sitter.where.remote(), timeout=60)
        with pytest.raises(ObjectLostError):
            hpc.get(ref, timeout=60)


def test_objects_of_a_dead_owner_say_so():
    @hpc.remote
    class Owner:
        def make(self):
            return [hpc.put("owned by the actor")]

    with local_nodes(2):
        owner = Owner.options(scheduling_strategy=on(2)).remote()
        box = hpc.get(owner.make.remote())
        hpc.kill(owner)
        eventually(lambda: owner_of(box[0].binary()) in need_client().machine.state.gone)  # a value read before stays
        with pytest.raises(OwnerDiedError):
            hpc.get(box[0], timeout=60)


def test_the_driver_is_told_when_its_raylet_is_killed():
    with one_node():
        node_dir = os.path.dirname(hpc.nodes()[0]["RayletSocketName"])
        ref = node_id.remote(60)
        kill9(pid_of(node_dir, "raylet"))
        with pytest.raises(SessionLostError):
            hpc.get(ref, timeout=60)
        with pytest.raises(SessionLostError):
            hpc.put(1)


@pytest.mark.parametrize("what", ["raylet", "zygote"])
def test_nothing_is_left_when_the_raylet_or_a_zygote_is_killed(what):
    with one_node():
        hpc.get(node_id.remote())
        node_dir = os.path.dirname(hpc.nodes()[0]["RayletSocketName"])
        kill9(pid_of(node_dir, what))
        with pytest.raises(SessionLostError):
            hpc.get(node_id.remote(60), timeout=60)
        eventually(lambda: not os.path.exists(node_dir))


def test_nothing_is_left_when_the_driver_is_killed(tmp_path):
    import subprocess
    import sys

    script = tmp_path / "driver.py"
    script.write_text(
        "import hpc, time\n"
        "context = hpc.init(address='local', num_cpus=2)\n"
        "@hpc.remote\n"
        "def forever():\n    time.sleep(600)\n"
        "ref = forever.remote()\n"
        "hpc.wait([ref], timeout=0.3)\n"
        "print(context['node_dir'], flush=True)\n"
        "time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    node_dir = process.stdout.readline().strip()
    assert os.path.exists(node_dir)
    assert children(process.pid)
    kill9(process.pid)
    process.wait(60)
    process.stdout.close()
    eventually(lambda: not os.path.exists(node_dir))

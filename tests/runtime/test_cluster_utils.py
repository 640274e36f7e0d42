"""`hpc.cluster_utils.Cluster`: nodes that come and go while a session runs."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

import hpc
from hpc.cluster_utils import Cluster
from runtime.running import eventually, kill9

STORE = 64 << 20


@hpc.remote
def where() -> str:
    return hpc.get_runtime_context().get_node_id()


@hpc.remote
def big() -> bytes:
    return bytes(1 << 20)


@pytest.fixture
def cluster():
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": STORE})
    yield made
    made.shutdown()


def test_nodes_have_resources_and_labels_of_their_own(cluster: Cluster):
    node = cluster.add_node(num_cpus=2, resources={"disk": 1}, labels={"zone": "b"}, object_store_memory=float(STORE))
    cluster.wait_for_nodes()
    with hpc.init(address=cluster.address):
        assert hpc.cluster_resources()["CPU"] == 3
        assert hpc.get(where.options(resources={"disk": 1}).remote()) == node.node_id
        rows = {row["NodeID"]: row for row in hpc.nodes()}
        assert rows[node.node_id]["Labels"]["zone"] == "b"
        assert "zone" not in rows["1"]["Labels"]
    assert cluster.list_all_nodes() == [cluster.head_node, node]


def test_a_node_that_joins_serves_what_was_waiting_for_it(cluster: Cluster):
    cluster.connect()
    waiting = where.options(resources={"disk": 1}).remote()
    assert hpc.wait([waiting], timeout=0.2) == ([], [waiting])
    node = cluster.add_node(resources={"disk": 1}, object_store_memory=STORE)
    assert hpc.get(waiting, timeout=60) == node.node_id


@pytest.mark.parametrize("graceful", [True, False])
def test_a_removed_node_is_gone_for_everybody_and_its_number_is_not_used_again(cluster: Cluster, graceful: bool):
    node = cluster.add_node(resources={"disk": 1}, object_store_memory=STORE)
    cluster.connect()
    kept = big.options(resources={"disk": 1}, max_retries=0).remote()
    assert hpc.wait([kept], timeout=60, fetch_local=False)[0]
    directory, pid = node.node_dir, node.pid
    cluster.remove_node(node, allow_graceful=graceful)
    cluster.wait_for_nodes()
    assert not os.path.exists(directory)
    assert not os.path.exists(f"/proc/{pid}")
    assert [row["Alive"] for row in hpc.nodes()] == [True, False]
    try:
        moved = hpc.get(kept, timeout=60)
    except hpc.exceptions.HpcError:
        moved = None
    # A node that is ended in order may have time to give away what it has.
    assert moved is None or (graceful and moved == bytes(1 << 20))
    assert hpc.get(where.remote(), timeout=60) == "1"
    assert cluster.add_node(object_store_memory=STORE).node_id == "3"
    with pytest.raises(ValueError, match="removed before"):
        cluster.remove_node(node)


def test_actors_restart_elsewhere_when_their_node_is_killed(cluster: Cluster):
    first = cluster.add_node(num_cpus=1, resources={"place": 1}, object_store_memory=STORE)
    cluster.connect()

    @hpc.remote(resources={"place": 1}, max_restarts=1, max_task_retries=-1)
    class Counter:
        def where(self):
            return hpc.get_runtime_context().get_node_id()

    counter = Counter.remote()
    assert hpc.get(counter.where.remote()) == first.node_id
    cluster.remove_node(first, allow_graceful=False)
    second = cluster.add_node(num_cpus=1, resources={"place": 1}, object_store_memory=STORE)
    assert hpc.get(counter.where.remote(), timeout=30) == second.node_id


def test_many_nodes_come_and_go_without_waiting_for_each(cluster: Cluster):
    nodes = [cluster.add_node(wait=False, object_store_memory=STORE) for _ in range(3)]
    cluster.wait_for_nodes()
    assert len(cluster.list_all_nodes()) == 4
    for node in nodes:
        cluster.remove_node(node, allow_graceful=False)
    cluster.wait_for_nodes()
    assert cluster.list_all_nodes() == [cluster.head_node]


def test_the_end_of_the_heads_node_is_the_end_of_the_session():
    for graceful in (True, False):
        cluster = Cluster(initialize_head=True, connect=True, head_node_args={"object_store_memory": STORE})
        head = cluster.head_node
        assert head is not None
        cluster.remove_node(head, allow_graceful=graceful)
        assert cluster.head_node is None
        assert not hpc.is_initialized()


def test_a_forked_child_does_not_end_its_parents_cluster(cluster: Cluster):
    cluster.connect()
    pid = os.fork()
    if not pid:
        try:
            cluster.shutdown()
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert hpc.get(where.remote(), timeout=60) == "1"
    assert cluster.add_node(object_store_memory=STORE).node_id == "2"


def test_errors_say_what_to_do(cluster: Cluster):
    with pytest.raises(TypeError, match="num_gpu; there are: num_cpus"):
        cluster.add_node(num_gpu=1)
    with pytest.raises(TypeError, match="'num_cpus' must be a number, not str"):
        cluster.add_node(num_cpus="two")
    with pytest.raises(ValueError, match="'disk' is -1; it cannot be negative"):
        cluster.add_node(resources={"disk": -1})
    with pytest.raises(RuntimeError, match="add_node\\(\\) starts the first"):
        Cluster().wait_for_nodes()
    with pytest.raises(ValueError, match="initialize_head=True"):
        Cluster(connect=True)
    missing = cluster.add_node(wait=False, object_store_memory=STORE)
    kill9(eventually(lambda: missing.pid))
    eventually(lambda: not missing.any_processes_alive())
    cluster.connect()
    eventually(lambda: sum(row["Alive"] for row in hpc.nodes()) == 1)
    with pytest.raises(TimeoutError, match="missing: node"):
        cluster.wait_for_nodes(timeout=0.5)


def test_a_script_that_forgets_the_cluster_leaves_nothing():
    script = textwrap.dedent("""
        import hpc
        from hpc.cluster_utils import Cluster
        cluster = Cluster(initialize_head=True, connect=True)
        cluster.add_node()
        print(cluster.address)
    """)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""

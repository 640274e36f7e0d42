"""Objects between nodes: once per node, from many sources, and on when a source dies."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import pytest

import hpc
from runtime.running import eventually, kill9, local_nodes, on, pid_of, store_stats

MIB = 1 << 20


@pytest.fixture(params=[True, False], ids=["encrypted", "plain"])
def config(request):
    """Each of these holds for both ways that the bytes may take."""
    return {"bulk_encryption": request.param}


def came_as_said(config, node):
    """Bytes came unencrypted exactly where the user said so."""
    stats = store_stats(node)
    assert stats["plain_bytes"] == (0 if config["bulk_encryption"] else stats["received_bytes"])


@hpc.remote(num_cpus=0.2)
def digest(array):
    return hashlib.sha256(array).hexdigest()


@hpc.remote(num_cpus=0.2)
def make(size):
    return np.random.default_rng(1).integers(0, 256, size, np.uint8)


def test_one_object_to_eight_nodes_is_sent_by_its_source_less_than_four_times(config):
    with local_nodes(9, config=config):
        array = np.random.default_rng(0).integers(0, 256, 16 * MIB, np.uint8)
        ref = hpc.put(array)
        refs = [digest.options(scheduling_strategy=on(n)).remote(ref) for n in range(2, 10)]
        assert set(hpc.get(refs, timeout=60)) == {hashlib.sha256(array).hexdigest()}
        sent = [store_stats(n)["sent_bytes"] for n in range(1, 10)]
        assert sent[0] < 4 * array.nbytes
        assert 8 * array.nbytes <= sum(sent) < 9 * array.nbytes
        came_as_said(config, 9)


def test_many_readers_on_one_node_cost_one_transfer(config):
    with local_nodes(2, config=config):
        ref = hpc.put(np.ones(20 * MIB, np.uint8))
        refs = [digest.options(scheduling_strategy=on(2)).remote(ref) for _ in range(5)]
        assert len(set(hpc.get(refs, timeout=30))) == 1
        assert 20 * MIB <= store_stats(2)["received_bytes"] < 21 * MIB
        came_as_said(config, 2)


def test_more_than_the_store_travels_and_is_spilled_at_both_ends(config):
    with local_nodes(2, config=config):
        refs = [make.options(scheduling_strategy=on(2)).remote(15 * MIB + i) for i in range(8)]
        mine = [hashlib.sha256(hpc.get(ref, timeout=30)).hexdigest() for ref in refs]
        there = [digest.options(scheduling_strategy=on(2)).remote(ref) for ref in refs]
        assert hpc.get(there, timeout=30) == mine
        assert store_stats(2)["spilled_bytes"] > 0
        came_as_said(config, 1)


def test_a_source_that_dies_in_the_middle_is_replaced(config):
    """Nodes 1 and 2 have the object; node 2 is killed while 3 and 4 read."""
    with local_nodes(4, config=config) as session:
        array = np.random.default_rng(0).integers(0, 256, 50 * MIB, np.uint8)
        ref = hpc.put(array)
        expected = hashlib.sha256(array).hexdigest()
        assert hpc.get(digest.options(scheduling_strategy=on(2)).remote(ref), timeout=30) == expected
        hpc.get([digest.options(scheduling_strategy=on(n)).remote(b"") for n in (3, 4)], timeout=30)
        node2 = next(n for n in hpc.nodes() if n["NodeID"] == "2")
        raylet = pid_of(os.path.dirname(node2["RayletSocketName"]), "raylet")
        refs = [digest.options(scheduling_strategy=on(n)).remote(ref) for n in (3, 4)]
        hpc.wait(refs, timeout=0.02)
        kill9(raylet)
        eventually(lambda: session.pump(0.05) or not hpc.nodes()[1]["Alive"])
        assert hpc.get(refs, timeout=40) == [expected, expected]

"""A reader of more than the store's memory gets room on disk, so that no two readers wait for each other."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import pytest

import hpc
from hpc.exceptions import ObjectStoreFullError
from runtime.running import eventually, one_node, pid_of, store_stats

MIB = 1 << 20
SMALL_STORE = 64 * MIB
#: File systems keep some of their own notes on what was there.
LITTLE = 4 * MIB


def overflow_on_disk():
    """Bytes that the nameless file of this session's only node takes."""
    raylet = pid_of(os.path.dirname(hpc.nodes()[0]["RayletSocketName"]), "raylet")
    found = {}
    for fd in Path(f"/proc/{raylet}/fd").iterdir():
        try:
            if os.readlink(fd).endswith("(deleted)") and "memfd" not in os.readlink(fd):
                found[os.stat(fd).st_ino] = os.stat(fd).st_blocks * 512
        except OSError:
            continue
    return sum(found.values())


def test_a_parent_that_holds_large_arguments_gets_its_children_done():
    @hpc.remote
    def child(array, number):
        return int(array[0]) + int(array[-1]) + number

    @hpc.remote
    def parent(array, others):
        got = hpc.get([child.remote(ref, i) for i, ref in enumerate(others)])
        return got, int(array[0])

    with one_node({"HPC_STORE_FULL_TIMEOUT_S": "100"}, object_store_memory=SMALL_STORE):  # longer than it is waited for
        held = hpc.put(np.full(50 * MIB, 9, np.uint8))
        others = [hpc.put(np.full(30 * MIB, i, np.uint8)) for i in range(4)]
        assert hpc.get(parent.remote(held, others), timeout=30) == ([0, 3, 6, 9], 9)
        del held, others
        gc.collect()
        eventually(lambda: store_stats()["objects"] == 0)
        eventually(lambda: overflow_on_disk() < LITTLE)
        stats = store_stats()
        assert stats["used_bytes"] == stats["overflow_bytes"] == stats["disk_bytes"] == 0


def test_two_parents_that_hold_60_percent_each_and_have_such_children_finish():
    @hpc.remote
    def child(a, b):
        return int(a[0]) + int(b[-1])

    @hpc.remote
    def parent(a, b, c, d):
        return hpc.get(child.remote(*c, *d)) + int(a[0]) + int(b[0])

    with one_node(object_store_memory=SMALL_STORE):
        refs = [hpc.put(np.full(19 * MIB, i, np.uint8)) for i in range(6)]
        first = parent.remote(refs[0], refs[1], [refs[4]], [refs[5]])
        second = parent.remote(refs[2], refs[3], [refs[0]], [refs[2]])
        assert hpc.get([first, second], timeout=30) == [0 + 1 + 4 + 5, 2 + 3 + 0 + 2]


def test_a_driver_keeps_reading_more_than_the_memory_of_the_store():
    with one_node(object_store_memory=SMALL_STORE):
        refs = [hpc.put(np.full(15 * MIB, i, np.uint8)) for i in range(12)]
        arrays = hpc.get(refs, timeout=30)
        more = [hpc.get(hpc.put(np.full(15 * MIB, 100 + i, np.uint8))) for i in range(3)]
        assert [(int(a[0]), int(a[-1])) for a in arrays] == [(i, i) for i in range(12)]
        assert [int(a[-1]) for a in more] == [100, 101, 102]
        assert store_stats()["overflow_bytes"] > 100 * MIB
        assert overflow_on_disk() > 100 * MIB
        assert not arrays[-1].flags.writeable
        del arrays, more, refs
        gc.collect()
        eventually(lambda: overflow_on_disk() < LITTLE)
        assert store_stats()["used_bytes"] == 0


def test_a_worker_that_dies_with_views_on_disk_leaves_nothing():
    @hpc.remote(max_retries=0)
    def die(refs):
        views = [hpc.get(ref) for ref in refs]
        os.kill(os.getpid(), 9)
        return views

    with one_node(object_store_memory=SMALL_STORE):
        refs = [hpc.put(np.full(20 * MIB, i, np.uint8)) for i in range(5)]
        for _ in range(2):
            try:
                hpc.get(die.remote(refs), timeout=30)
            except hpc.exceptions.WorkerCrashedError:
                pass
        assert [int(hpc.get(ref)[0]) for ref in refs] == list(range(5))
        del refs
        gc.collect()
        eventually(lambda: store_stats()["objects"] == 0)
        assert store_stats()["overflow_bytes"] == 0
        eventually(lambda: overflow_on_disk() < LITTLE)


def test_a_full_store_says_so_and_recovers():
    """What is read cannot leave memory, and without a disk there is nowhere else."""
    with one_node(env={"HPC_STORE_FULL_TIMEOUT_S": "0.3", "HPC_SPILL_LIMIT_BYTES": "0"}):
        kept = [hpc.get(hpc.put(np.zeros(16 * MIB, np.uint8))) for _ in range(7)]
        with pytest.raises(ObjectStoreFullError, match=r"object store of node 1.*driver pid \d+ reads 112 MiB"):
            hpc.put(np.zeros(16 * MIB, np.uint8))
        kept.clear()
        assert hpc.get(hpc.put(np.ones(100 * MIB, np.uint8)))[-1] == 1

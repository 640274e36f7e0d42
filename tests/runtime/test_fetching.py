"""Objects of other nodes: a list of them comes at the same time, and `wait` knows which are here."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

import hpc
from runtime.running import eventually, local_nodes, on, pid_of, store_stats

MIB = 1 << 20


@hpc.remote
def make(size, value):
    return np.full(size, value, np.uint8)


def made_on(node, size, *values):
    """Objects of a node, not brought here yet."""
    refs = [make.options(scheduling_strategy=on(node)).remote(size, value) for value in values]
    assert len(hpc.wait(refs, num_returns=len(refs), timeout=60, fetch_local=False)[0]) == len(refs)
    return refs


def raylet_of_node(node):
    (row,) = [n for n in hpc.nodes() if n["NodeID"] in (node, str(node))]
    return pid_of(os.path.dirname(row["RayletSocketName"]), "raylet")


def test_a_list_of_objects_of_other_nodes_is_got_whole_and_in_order():
    with local_nodes(3, num_cpus=1):
        refs = [ref for pair in zip(made_on(2, 2 * MIB, 1, 2, 3), made_on(3, 3 * MIB, 4, 5, 6)) for ref in pair]
        refs += [hpc.put(np.full(MIB, 7, np.uint8)), hpc.put(8), refs[0]]
        values = hpc.get(refs, timeout=60)
        assert [int(np.max(v)) for v in values] == [1, 4, 2, 5, 3, 6, 7, 8, 1]
        assert store_stats()["received_bytes"] < 6 * 3 * MIB + MIB  # each came once


def test_a_node_that_does_not_answer_holds_up_only_its_own_objects():
    with local_nodes(3, num_cpus=1):
        slow, quick = made_on(2, 2 * MIB, 1), made_on(3, 2 * MIB, 2, 3, 4)
        raylet = raylet_of_node(2)
        os.kill(raylet, signal.SIGSTOP)
        try:
            with pytest.raises(hpc.exceptions.GetTimeoutError):
                hpc.get([*slow, *quick], timeout=1.0)
            # All others come meanwhile, although the first does not.
            eventually(lambda: store_stats()["received_bytes"] >= 6 * MIB)
            eventually(lambda: hpc.wait([*slow, *quick], num_returns=4, timeout=0.2) == (quick, slow))
        finally:
            os.kill(raylet, signal.SIGCONT)
        assert [int(v[0]) for v in hpc.get([*slow, *quick], timeout=60)] == [1, 2, 3, 4]


def test_wait_brings_values_here_unless_it_is_told_not_to():
    with local_nodes(2, num_cpus=1):
        refs = made_on(2, 4 * MIB, 1, 2)
        assert store_stats()["objects"] == 0
        assert hpc.wait(refs, num_returns=2, timeout=60) == (refs, [])
        assert store_stats()["objects"] == 2
        more = made_on(2, 4 * MIB, 3)
        raylet = raylet_of_node(2)
        os.kill(raylet, signal.SIGSTOP)
        try:
            assert hpc.wait(more, timeout=0.1) == ([], more)
            assert hpc.wait(more, timeout=0.1, fetch_local=False) == (more, [])
            assert hpc.wait([*more, refs[0]], timeout=0.1) == ([refs[0]], more)
        finally:
            os.kill(raylet, signal.SIGCONT)
        eventually(lambda: hpc.wait(more, timeout=0)[0])  # what was asked for comes between two calls


def test_more_than_the_store_holds_is_waited_for_piece_by_piece():
    with local_nodes(2, num_cpus=1):
        refs = made_on(2, 12 * MIB, *range(10))
        ready, rest = hpc.wait(refs, num_returns=10, timeout=30)
        assert (len(ready), rest) == (10, [])
        total = 0
        for ref in refs:
            total += int(hpc.get(ref, timeout=60)[-1])
        assert total == 45


def test_a_task_waits_for_what_it_borrows():
    @hpc.remote
    def look(refs):
        ready, _ = hpc.wait(refs, num_returns=len(refs), timeout=60)
        return sum(int(v[0]) for v in hpc.get(ready))

    with local_nodes(3, num_cpus=1):
        refs = [*made_on(2, MIB, 1, 2), *made_on(3, MIB, 3)]
        assert hpc.get(look.options(scheduling_strategy=on(1)).remote(refs), timeout=60) == 6


def test_a_value_that_is_lost_counts_as_ready_and_says_so():
    with local_nodes(2, num_cpus=1) as session:

        @hpc.remote(max_retries=0)
        def once():
            return np.ones(MIB, np.uint8)

        ref = once.options(scheduling_strategy=on(2)).remote()
        assert hpc.wait([ref], fetch_local=False, timeout=60)[0]
        os.kill(raylet_of_node(2), signal.SIGKILL)
        eventually(lambda: session.pump(0.05) or hpc.wait([ref], timeout=0)[0])
        with pytest.raises(hpc.exceptions.ObjectLostError):
            hpc.get(ref, timeout=60)


def test_a_get_without_time_reads_what_is_on_this_node_and_nothing_else():
    with local_nodes(2, num_cpus=1):
        here, there = made_on(1, MIB, 1, 2), made_on(2, MIB, 3)
        assert [int(v[0]) for v in hpc.get(here, timeout=0)] == [1, 2]
        with pytest.raises(hpc.exceptions.GetTimeoutError):
            hpc.get([*here, *there], timeout=0)
        assert int(hpc.get(there, timeout=60)[0][0]) == 3

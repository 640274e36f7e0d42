"""A request for much room at once is served in bounded time, however busy others are with small things."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import hpc
from hpc.util.placement_group import placement_group, remove_placement_group
from hpc.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from runtime.running import eventually, local_nodes, one_node

TASK_S = 0.1


@hpc.remote
def small():
    time.sleep(TASK_S)
    return 1


@contextmanager
def always_busy(at_a_time):
    """Small tasks are submitted all the time, more than there is room for; gives the number of those that are done."""
    stop, done = threading.Event(), [0]

    def submit():
        pending = [small.remote() for _ in range(at_a_time)]
        while not stop.is_set():
            ready, pending = hpc.wait(pending, num_returns=1, timeout=60)
            done[0] += len(ready)
            pending += [small.remote() for _ in ready]
        hpc.get(pending)

    thread = threading.Thread(target=submit)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()


def test_a_placement_group_is_reserved_although_submitters_are_always_busy():
    with local_nodes(2, num_cpus=2), always_busy(12) as done:
        eventually(lambda: done[0] >= 8)
        group = placement_group([{"CPU": 2}] * 2, strategy="STRICT_SPREAD")
        hpc.get(group.ready(), timeout=60)
        inside = small.options(num_cpus=2, scheduling_strategy=PlacementGroupSchedulingStrategy(group, 0))
        assert hpc.get(inside.remote(), timeout=60) == 1
        before = done[0]
        remove_placement_group(group)
        eventually(lambda: done[0] >= before + 8)


def test_a_group_that_is_removed_while_it_waits_keeps_no_room(tmp_path):
    with local_nodes(1, num_cpus=2):

        @hpc.remote
        def long(gate):
            eventually(gate.exists, 60.0)
            return 2

        running = long.remote(tmp_path / "gate")
        with always_busy(4) as done:

            def ended_in(seconds):
                before = done[0]
                time.sleep(seconds)
                return done[0] - before

            eventually(lambda: done[0] >= 2)
            group = placement_group([{"CPU": 2}])
            # Once patience is over one CPU is kept, and the long task has the other one.
            eventually(lambda: ended_in(3 * TASK_S) <= 1)
            before = done[0]
            remove_placement_group(group)
            eventually(lambda: done[0] >= before + 4)
            (tmp_path / "gate").touch()
            assert hpc.get(running, timeout=60) == 2


def test_two_groups_that_need_all_nodes_are_reserved_one_after_the_other():
    with local_nodes(2, num_cpus=1), always_busy(6) as done:
        eventually(lambda: done[0] >= 4)
        groups = [placement_group([{"CPU": 1}] * 2, strategy="STRICT_SPREAD") for _ in range(2)]
        for group in groups:
            hpc.get(group.ready(), timeout=60)
            remove_placement_group(group)


def test_a_large_task_runs_among_a_stream_of_small_ones():
    @hpc.remote(num_cpus=4)
    def large():
        return 4

    with one_node(num_cpus=4), always_busy(12) as done:
        eventually(lambda: done[0] >= 8)
        assert hpc.get([large.remote(), large.remote()], timeout=60) == [4, 4]
        before = done[0]
        eventually(lambda: done[0] >= before + 8)


def test_children_that_are_waited_for_run_beside_a_large_task_that_waits():
    @hpc.remote(num_cpus=2)
    def large():
        return 2

    @hpc.remote(num_cpus=1)
    def parent():
        return sum(hpc.get([small.remote() for _ in range(12)]))

    with one_node(num_cpus=2):
        parents = [parent.remote() for _ in range(2)]
        assert hpc.get([large.remote(), *parents], timeout=60) == [2, 12, 12]

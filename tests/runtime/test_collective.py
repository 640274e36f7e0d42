"""Collectives of actors and tasks: joining and leaving, declared groups, several at a time, and ranks that die."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

import hpc
from hpc import collective
from hpc.collective import CollectiveError, CollectiveTimeoutError, ReduceOp
from runtime.running import local_nodes, on

NODES = 2


@pytest.fixture(autouse=True, scope="module")
def session(no_leaks_of_module):
    with local_nodes(NODES):
        yield


@hpc.remote(num_cpus=0, max_concurrency=4)
class Rank:
    """An actor that does collective operations. Nodes of the tests are one machine; ``node`` keeps them apart."""

    def __init__(self, node=""):
        os.environ["HPC_COLLECTIVE_NODE"] = node

    def join(self, size, rank, group="default", backend="shm", **options):
        collective.init_collective_group(size, rank, backend, group, **options)
        return collective.get_rank(group), collective.get_collective_group_size(group)

    def sum(self, values, group="default", op=ReduceOp.SUM):
        mine = np.array(values, float)
        collective.allreduce(mine, group, op)
        return mine.tolist()

    def pid(self):
        return os.getpid()

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def leave(self, group="default"):
        collective.destroy_collective_group(group)
        return collective.is_group_initialized(group)

    def many(self, count, group):
        mine = np.zeros(2000)
        works = []
        for turn in range(count):
            works.append(collective.allreduce(mine, group, async_op=True))
            if turn % 5 == 0:
                collective.barrier(group)
            mine_done = works[-1].wait()
            assert mine_done and works[-1].is_completed() and works[-1].exception() is None
            mine += 1
        return float(mine[0])

    def overlap(self, first, second):
        a, b = np.ones(50_000), np.full(50_000, 2.0)
        works = [collective.allreduce(a, first, async_op=True), collective.allreduce(b, second, async_op=True)]
        for work in reversed(works):
            work.wait()
        return float(a.sum()), float(b.sum())


def made(count, apart=False):
    """Ranks on alternating nodes of the session; on one machine, or as if on several."""
    ranks = [Rank.options(scheduling_strategy=on(1 + r % NODES)).remote(str(r) if apart else "") for r in range(count)]
    hpc.get([rank.pid.remote() for rank in ranks])
    return ranks


@pytest.mark.parametrize("apart", [False, True])
def test_actors_join_compute_leave_and_join_again(apart):
    ranks = made(3, apart)
    for turn in range(2):
        assert hpc.get([a.join.remote(3, r) for r, a in enumerate(ranks)]) == [(0, 3), (1, 3), (2, 3)]
        assert hpc.get([a.sum.remote([r, turn]) for r, a in enumerate(ranks)]) == [[3, 3 * turn]] * 3
        assert hpc.get([a.leave.remote() for a in ranks]) == [False] * 3


def test_tasks_join_too():
    @hpc.remote(num_cpus=0)
    def work(rank):
        collective.init_collective_group(2, rank, group_name="of tasks")
        mine = np.array([rank + 1.0])
        collective.allreduce(mine, "of tasks", ReduceOp.MAX)
        collective.destroy_collective_group("of tasks")
        return mine[0]

    assert hpc.get([work.remote(r) for r in range(2)]) == [2.0, 2.0]


def test_a_declared_group_is_joined_at_the_first_operation():
    ranks = made(2)
    collective.create_collective_group(ranks, 2, [1, 0], group_name="declared")
    with pytest.raises(RuntimeError, match="twice"):
        collective.create_collective_group(ranks, 2, [1, 0], group_name="declared")
    assert hpc.get([a.sum.remote([r], "declared") for r, a in enumerate(ranks)]) == [[1.0]] * 2
    (stranger,) = made(1)
    with pytest.raises(RuntimeError, match="is not initialized in the process"):
        hpc.get(stranger.sum.remote([1], "declared"))
    hpc.get([a.leave.remote("declared") for a in ranks])
    collective.create_collective_group(ranks, 2, [0, 1], group_name="declared")


def test_groups_overlap_in_one_process_and_calls_go_on_beside_it():
    ranks = made(2)
    for group in ("a", "b"):
        hpc.get([a.join.remote(2, r, group) for r, a in enumerate(ranks)])
    assert hpc.get([a.overlap.remote("a", "b") for a in ranks]) == [(100_000.0, 200_000.0)] * 2
    # Zero, then (0 + 1) * 2, ... : each turn doubles and one is added.
    assert hpc.get([a.many.remote(10, "a") for a in ranks]) == [2.0**10 - 1] * 2


@pytest.mark.parametrize("apart", [False, True])
def test_the_death_of_an_actor_raises_on_the_others_within_seconds(apart):
    ranks = made(3, apart)
    hpc.get([a.join.remote(3, r) for r, a in enumerate(ranks)])
    waiting = [a.sum.remote([1.0]) for a in ranks[:2]]
    ranks[2].die.remote()
    for ref in waiting:
        # Between machines the end of a connection does not say whether the rank died or left.
        with pytest.raises(CollectiveError, match=r"rank 2 \(.*\) has died( or left)?\b"):
            hpc.get(ref, timeout=30)
    with pytest.raises(CollectiveError, match="has died"):
        hpc.get(ranks[0].sum.remote([1.0]))
    # Another process takes the place of the dead one, and the group is made anew.
    hpc.get([a.leave.remote() for a in ranks[:2]])
    ranks = [*ranks[:2], *made(1)]
    hpc.get([a.join.remote(3, r) for r, a in enumerate(ranks)])
    assert hpc.get([a.sum.remote([1.0]) for a in ranks]) == [[3.0]] * 3


def test_a_rank_that_does_not_come_to_the_group_is_named():
    ranks = made(2)
    with pytest.raises(CollectiveTimeoutError, match="rank 1 of the group 'alone'"):
        hpc.get(ranks[0].join.remote(2, 0, "alone", gloo_timeout=500))
    with pytest.raises(CollectiveTimeoutError, match="rank 0 of the group 'alone'"):
        hpc.get(ranks[1].join.remote(2, 1, "alone", gloo_timeout=500))


def test_ranks_that_disagree_about_the_group_are_told_so():
    ranks = made(2)
    refs = [ranks[0].join.remote(2, 0, "odd"), ranks[1].join.remote(3, 1, "odd")]
    for ref in refs:
        with pytest.raises(CollectiveError, match="rank 1 says that it has 3 ranks, rank 0 says 2"):
            hpc.get(ref)


def test_what_is_left_of_a_group_that_was_killed_while_it_was_made_is_waited_out():
    ranks = made(2)
    waiting = ranks[0].join.remote(2, 0, "again")
    eventually_has_key("again")
    os.kill(hpc.get(ranks[0].pid.remote()), signal.SIGKILL)
    with pytest.raises(hpc.exceptions.RayActorError):
        hpc.get(waiting)
    late = ranks[1].join.remote(2, 1, "again")
    (first,) = made(1)
    assert hpc.get([first.join.remote(2, 0, "again"), late], timeout=30) == [(0, 2), (1, 2)]


def eventually_has_key(group):
    from hpc import spi

    with spi.watch("collective", group) as watch:
        assert watch.next(30)


def test_gloo_has_the_operations_that_ray_does_not():
    pytest.importorskip("torch")

    @hpc.remote(num_cpus=0)
    class Gloo:
        def work(self, rank):
            collective.init_collective_group(2, rank, "gloo", "all")
            outs = [np.zeros(1) for _ in range(2)]
            collective.alltoall(outs, [np.full(1, rank * 10.0 + r) for r in range(2)], "all")
            got = [np.zeros(1) for _ in range(2)] if rank == 0 else None
            collective.gather(np.full(1, rank + 1.0), got, 0, "all")
            mine = np.zeros(1)
            collective.scatter(mine, [np.full(1, r + 7.0) for r in range(2)] if rank == 0 else None, 0, "all")
            mean = np.full(1, float(rank))
            collective.allreduce(mean, "all", ReduceOp.AVERAGE)
            return [float(x[0]) for x in (*outs, *(got or ()), mine, mean)]

        def die(self):
            os.kill(os.getpid(), signal.SIGKILL)

        def wait(self):
            collective.barrier("all")

    ranks = [Gloo.remote() for _ in range(2)]
    assert hpc.get([a.work.remote(r) for r, a in enumerate(ranks)]) == [[0, 10, 1, 2, 7, 0.5], [1, 11, 8, 0.5]]
    waiting = ranks[0].wait.remote()
    ranks[1].die.remote()
    with pytest.raises(CollectiveError, match="gloo failed on rank 0"):
        hpc.get(waiting, timeout=30)


def test_nccl_without_a_gpu_says_so():
    pytest.importorskip("torch")
    (rank,) = made(1)
    with pytest.raises(RuntimeError, match="Backend NCCL is not available"):
        hpc.get(rank.join.remote(1, 0, "n", "nccl"))
    with pytest.raises(RuntimeError, match="there are shm, gloo, nccl"):
        hpc.get(rank.join.remote(1, 0, "n", "gluu"))

"""Which idle worker a lease gets."""

from __future__ import annotations

import pytest

from hpc.core.ids import Address
from hpc.core.raylet.pool import IDLE_WORKER_S, Pool
from hpc.core.raylet.tables import NOBODY, Lease, Proc
from hpc.core.resources import UNIT, NodeResources

NODE = NodeResources({"CPU": 8 * UNIT, "GPU": 4 * UNIT, "TPU": 4 * UNIT})


def lease(actor: bool = False, env=(), **wanted: int) -> Lease:
    grant = NODE.acquire({name: amount * UNIT for name, amount in wanted.items()})
    assert grant is not None
    return Lease(1, Address(1, 1), 1, grant, actor, env, NOBODY, NODE)


def pool_of(*workers: tuple[int, bool]) -> Pool:
    pool = Pool()
    for number, used in workers:
        pool.add(Proc(number, "worker", "starting", used=used), float(number))
    return pool


def taken(pool: Pool, one: Lease) -> int | None:
    worker = pool.take(one)
    return None if worker is None else worker.proc


def test_tasks_take_the_worker_that_ran_last_and_fresh_ones_when_there_is_no_other():
    pool = pool_of((1, False), (2, True), (3, True), (4, False))
    assert [taken(pool, lease(CPU=1)) for _ in range(5)] == [3, 2, 1, 4, None]


@pytest.mark.parametrize("kind", [{"actor": True}, {"GPU": 1}, {"TPU": 1}])
def test_actors_and_accelerators_take_only_workers_that_have_run_nothing(kind):
    pool = pool_of((1, False), (2, True), (3, False), (4, True))
    assert [taken(pool, lease(**kind)) for _ in range(3)] == [3, 1, None]
    assert [worker.proc for worker in pool] == [2, 4]


def test_a_worker_counts_as_used_from_its_first_lease_on():
    pool = pool_of((1, False))
    worker = pool.take(lease(CPU=1))
    assert worker is not None
    pool.add(worker, 5.0)
    assert taken(pool, lease(actor=True)) is None
    assert taken(pool, lease(CPU=1)) == 1


def test_a_worker_serves_its_own_environment_only():
    pool = pool_of((1, True))
    pool.add(Proc(2, "worker", "starting", env=(("a", "b"),)), 2.0)
    assert taken(pool, lease(env=(("a", "b"),))) == 2
    assert taken(pool, lease(env=(("a", "c"),))) is None


def test_those_that_have_waited_longest_are_too_many():
    pool = pool_of((1, True), (2, False), (3, True))
    assert [worker.proc for worker in pool.take_surplus(1, IDLE_WORKER_S + 2.5)] == [1, 2]
    assert [worker.proc for worker in pool] == [3]

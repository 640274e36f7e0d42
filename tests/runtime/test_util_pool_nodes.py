"""Pools over several nodes, and what becomes of them when the session ends."""

from __future__ import annotations

import pytest

import hpc
from hpc.exceptions import SessionLostError
from hpc.util.multiprocessing import Pool
from runtime.running import local_nodes, one_node


def node(_):
    return hpc.get_runtime_context().get_node_id()


def wait_for_ever():
    import time

    time.sleep(600)


def test_a_pool_is_on_all_nodes():
    with local_nodes(2), Pool() as pool:
        assert set(pool.map(node, range(40), chunksize=1)) == {"1", "2"}
        assert len(set(pool.imap_unordered(node, range(40)))) == 2


def test_leaving_the_session_ends_waiting_for_results():
    with one_node():
        pool = Pool(1)
        running, waiting = pool.apply_async(wait_for_ever), pool.apply_async(wait_for_ever)
    for result in (running, waiting):
        with pytest.raises(SessionLostError):
            result.get(timeout=60)
    pool.terminate()
    pool.join()


def test_a_pool_connects_by_itself():
    try:
        with Pool(2, ray_address="local") as pool:
            assert hpc.is_initialized()
            assert pool.map(abs, [-1, -2]) == [1, 2]
    finally:
        hpc.shutdown()

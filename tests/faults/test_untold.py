"""What a worker had written in the arena when it was killed, before it could tell the owner: it does not stay there."""

from __future__ import annotations

import os

import numpy as np
import pytest

import hpc
from runtime.running import eventually, one_node, store_stats

SIZE = 2 << 20


class Kills:
    """A value whose packing kills its process."""

    def __reduce__(self):
        os.kill(os.getpid(), 9)
        return Kills, ()


@hpc.remote(max_retries=0)
def pair():
    return np.zeros(SIZE, np.uint8), Kills()


@hpc.remote(max_retries=0)
def items():
    yield np.zeros(SIZE, np.uint8)
    yield np.ones(SIZE, np.uint8)
    yield Kills()


@hpc.remote(max_restarts=0)
class Actor:
    def pair(self):
        return np.zeros(SIZE, np.uint8), Kills()


@pytest.fixture(scope="module")
def session():
    with one_node(num_cpus=2):
        yield


@pytest.mark.parametrize("who", ["task", "actor", "generator"])
def test_what_a_killed_worker_wrote_and_did_not_tell_is_freed(session, who):
    if who == "generator":
        refs = list(items.options(num_returns="streaming").remote())
    elif who == "task":
        refs = pair.options(num_returns=2).remote()
    else:
        actor = Actor.remote()
        refs = actor.pair.options(num_returns=2).remote()
    with pytest.raises((hpc.exceptions.WorkerCrashedError, hpc.exceptions.ActorDiedError)):
        hpc.get(refs[-1])
    del refs
    eventually(lambda: store_stats()["objects"] == 0)
    assert store_stats()["used_bytes"] == 0

"""What a worker had written in the arena when it was killed, before it could tell the owner: it does not stay there."""

from __future__ import annotations

import os

import numpy as np
import pytest

import hpc
from runtime.running import eventually, one_node, store_stats

#: Of values that have room of their own, and of those that are placed in a worker's span.
SIZES = {"large": 3 << 20, "in a span": 200_000}


class Kills:
    """A value whose packing kills its process."""

    def __reduce__(self):
        os.kill(os.getpid(), 9)
        return Kills, ()


@hpc.remote(max_retries=0)
def pair(size):
    return np.zeros(size, np.uint8), Kills()


@hpc.remote(max_retries=0)
def items(size):
    yield np.zeros(size, np.uint8)
    yield np.ones(size, np.uint8)
    yield Kills()


@hpc.remote(max_restarts=0)
class Actor:
    def pair(self, size):
        return np.zeros(size, np.uint8), Kills()


@hpc.remote(max_retries=3)
def filled(number, folder):
    """An array of its number; every 50th time the process ends at once, before its values of the last time are told."""
    if number % 50 == 49:
        try:
            (folder / str(number)).touch(exist_ok=False)
        except FileExistsError:
            pass
        else:
            os.kill(os.getpid(), 9)
    return np.full(SIZES["in a span"], number % 251, np.uint8)


@pytest.fixture(scope="module")
def session():
    with one_node(num_cpus=2):
        yield


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("who", ["task", "actor", "generator"])
def test_what_a_killed_worker_wrote_and_did_not_tell_is_freed(session, who, size):
    if who == "generator":
        refs = list(items.options(num_returns="streaming").remote(size))
    elif who == "task":
        refs = pair.options(num_returns=2).remote(size)
    else:
        actor = Actor.remote()
        refs = actor.pair.options(num_returns=2).remote(size)
    with pytest.raises((hpc.exceptions.WorkerCrashedError, hpc.exceptions.ActorDiedError)):
        hpc.get(refs[-1])
    del refs
    eventually(lambda: store_stats()["objects"] == 0)
    assert store_stats()["used_bytes"] == 0


def test_values_in_spans_of_killed_workers_are_there_whole_or_made_again(session, tmp_path):
    refs = [filled.remote(number, tmp_path) for number in range(200)]
    for number, value in enumerate(hpc.get(refs)):
        assert (value == number % 251).all()
    assert len(list(tmp_path.iterdir())) == 4
    del value, refs
    eventually(lambda: store_stats()["used_bytes"] == store_stats()["objects"] == 0)
    eventually(lambda: store_stats()["span_bytes"] == 0)

"""A node that runs out of memory ends its newest work, says so, and goes on."""

from __future__ import annotations

import os
import time

import pytest

import hpc
from hpc.exceptions import ActorDiedError, OutOfMemoryError
from runtime.running import eventually, one_node

MIB = 1 << 20
#: The sum of the node's workers may be this much: what one greedy task alone exceeds.
LIMIT = {"HPC_MEMORY_LIMIT_BYTES": str(500 * MIB), "HPC_MEMORY_WATCH_INTERVAL_S": "0.05"}


@hpc.remote
def take(mib, seconds, path=""):
    if path:
        os.close(os.open(f"{path}/{os.getpid()}-{time.monotonic_ns()}", os.O_CREAT))
    memory = bytearray(mib * MIB)
    for at in range(0, len(memory), 4096):
        memory[at] = 1
    time.sleep(seconds)
    return os.getpid()


@hpc.remote
def keep(mib, folder):
    """Has so much memory, says so, and keeps it until it is told to go."""
    memory = bytearray(mib * MIB)
    for at in range(0, len(memory), 4096):
        memory[at] = 1
    (folder / "has it").touch()
    eventually((folder / "go").exists, 60.0)
    return os.getpid()


def test_a_task_that_takes_too_much_is_ended_and_the_error_says_why():
    with one_node(env=LIMIT):
        with pytest.raises(
            OutOfMemoryError, match=r"worker pid \d+ used .* GiB .*above the threshold of 95%.*Most used"
        ):
            hpc.get(take.options(max_retries=0).remote(700, 30), timeout=60)
        assert hpc.get(take.remote(10, 0))


def test_it_is_tried_again_as_its_policy_says(tmp_path):
    with one_node(env=LIMIT):
        with pytest.raises(OutOfMemoryError):
            hpc.get(take.options(max_retries=2).remote(700, 30, str(tmp_path)), timeout=30)
        assert len(list(tmp_path.iterdir())) == 3


def test_the_newest_goes_and_the_oldest_is_spared(tmp_path):
    with one_node(env=LIMIT):
        old = keep.options(max_retries=0).remote(250, tmp_path)
        eventually((tmp_path / "has it").exists)
        new = take.options(max_retries=0).remote(300, 30)
        with pytest.raises(OutOfMemoryError):
            hpc.get(new, timeout=60)
        (tmp_path / "go").touch()
        assert hpc.get(old, timeout=60)


def test_an_actor_that_is_ended_says_why():
    @hpc.remote
    class Greedy:
        def take(self):
            self.memory = bytearray(700 * MIB)
            for at in range(0, len(self.memory), 4096):
                self.memory[at] = 1
            time.sleep(30)

    with one_node(env=LIMIT), pytest.raises(ActorDiedError, match="running out of memory"):
        hpc.get(Greedy.remote().take.remote(), timeout=60)


def test_a_threshold_of_zero_turns_it_off():
    with one_node(env={**LIMIT, "HPC_MEMORY_USAGE_THRESHOLD": "0"}):
        assert hpc.get(take.options(max_retries=0).remote(600, 0.3), timeout=60)

"""Links with a window of 128 KiB, full in both directions, that stall and break meanwhile: every get comes back."""

from __future__ import annotations

import itertools
import random

import pytest
from faults.linkbed import Fault, linked_nodes

import hpc
from runtime.running import on

KIB = 1 << 10
SIZE = 60_000  # inline: it goes through the links, both ways
TIGHT = {"link_window_bytes": 128 * KIB, "link_wire_window_bytes": 64 * KIB}


@hpc.remote(num_cpus=0)
class Echo:
    def __init__(self):
        self.calls = 0

    def say(self, number, data):
        self.calls += 1
        assert number == self.calls
        return number, data


@hpc.remote(num_cpus=0)
def talk(echo, count):
    """On some node: calls to the actor of the other, all at once, then one after the other."""
    refs = [echo.say.remote(n, bytes(SIZE)) for n in range(1, count)]
    got = [number for number, _ in hpc.get(refs)]
    got.append(hpc.get(echo.say.remote(count, bytes(SIZE)))[0])
    return got


@pytest.mark.parametrize("seed", [1, 2])
def test_every_get_comes_back(tmp_path, seed):
    rng = random.Random(seed)
    with linked_nodes(2, tmp_path, config=TIGHT, num_cpus=2) as (_, bed):
        for _ in range(3):
            faults = [
                Fault(rng.choice(["rst", "stall", "half"]), rng.randrange(1, 250), "inside", rng.random() < 0.5, 0.4)
                for _ in range(6)
            ]
            bed.arm(*faults)
            count = 40
            echoes = [Echo.options(scheduling_strategy=on(n)).remote() for n in (1, 2, 2)]
            talks = [talk.options(scheduling_strategy=on(3 - n)).remote(echo, count) for n, echo in zip((1, 2), echoes)]
            mine = [echoes[2].say.remote(n, bytes(SIZE)) for n in range(1, count)]
            assert [number for number, _ in hpc.get(mine, timeout=30)] == list(range(1, count))
            assert hpc.get(talks, timeout=30) == [list(range(1, count + 1))] * 2
            for number in itertools.islice(itertools.count(count), 5):
                assert hpc.get(echoes[2].say.remote(number, bytes(SIZE)), timeout=30)[0] == number
            assert bed.done

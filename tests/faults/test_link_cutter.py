"""The links between nodes are cut, stalled and half-opened at each frame of a program: nobody but the log notices."""

from __future__ import annotations

import itertools
import os
import random
import time

import numpy as np
import pytest
from faults.linkbed import Fault, linked_nodes

import hpc
from runtime.running import eventually, on, store_stats

MIB = 1 << 20
#: HPC_TEST_ALL_FRAMES=600: all frames, with every kind of fault and 100 MB, in random order for 600 s.
ALL_S = float(os.environ.get("HPC_TEST_ALL_FRAMES", 0))
PULL_BYTES = (100 if ALL_S else 6) * MIB
RUNS = 24
CALLS = 1000
KINDS = ("rst", "fin", "half", "stall")
WHERE = ("before", "inside", "behind")


@hpc.remote(num_cpus=0)
class Scribe:
    """Writes each call to a file, in the order in which they run."""

    def __init__(self, path):
        self.file = open(path, "a", buffering=1)

    def write(self, number):
        self.file.write(f"{number}\n")
        return number * number


@hpc.remote
def make(size, seed):
    return np.random.default_rng(seed).integers(0, 255, size, dtype=np.uint8)


@hpc.remote
def total(array):
    return int(array.sum())


@hpc.remote(num_cpus=0)
def far(box):
    """On another node: reads the reference in the box, hands it back to the first node, and returns one of its own."""
    here = int(hpc.get(box[0]).sum())
    back = hpc.get(total.options(scheduling_strategy=on(1)).remote(box[0]))
    return [hpc.put(np.full(200_000, here % 251, dtype=np.uint8)), here, back]


def program(folder, name):
    """Nested references, pulls in both directions and calls 1..1000; all that it saw."""
    path = folder / f"{name}.log"
    scribe = Scribe.options(scheduling_strategy=on(2)).remote(str(path))
    inner = hpc.put(np.arange(300_000, dtype=np.int64))
    nested = far.options(scheduling_strategy=on(2)).remote([inner])
    del inner
    big = make.options(scheduling_strategy=on(2)).remote(PULL_BYTES, 7)
    pushed = total.options(scheduling_strategy=on(2)).remote(hpc.put(np.full(PULL_BYTES, 3, dtype=np.uint8)))
    calls = []
    for number in range(1, CALLS + 1):
        calls.append(scribe.write.remote(number))
        if number % 100 == 0:
            hpc.get(calls[-100], timeout=30)
    sums = int(hpc.get(big, timeout=60).sum()), hpc.get(pushed, timeout=60)
    box, here, back = hpc.get(nested, timeout=60)
    inside = int(hpc.get(box, timeout=60).sum())
    squares = hpc.get(calls, timeout=60)
    written = path.read_text().split()
    assert written == [str(n) for n in range(1, CALLS + 1)]
    return sums, inside, here, back, squares


def faults_for(frames):
    """For the suite a few dozen, well spread; each kind, place and width occurs with early and late frames."""
    if ALL_S:
        every = list(itertools.product(range(1, frames + 1), KINDS, WHERE, (False, True), (0.2, 1.0)))
        random.shuffle(every)
        end = time.monotonic() + ALL_S
        for frame, kind, where, wide, seconds in itertools.takewhile(lambda _: time.monotonic() < end, every):
            yield Fault(kind, frame, where, wide, seconds)
        return
    for n in range(RUNS):
        frame = 1 + n * frames // RUNS
        kind, where = KINDS[n % len(KINDS)], WHERE[n // len(KINDS) % len(WHERE)]
        yield Fault(kind, frame, where, wide=n % 5 < 2, seconds=(0.2, 1.0)[n % 3 == 0])


def empty(nodes):
    return all(store_stats(node)["used_bytes"] == 0 for node in nodes)


@pytest.mark.timeout(180 + 2 * ALL_S)
def test_faults_at_the_frames_of_a_program(tmp_path):
    begin = time.monotonic()
    with linked_nodes(2, tmp_path, num_cpus=2, object_store_bytes=4 * PULL_BYTES + 64 * MIB) as (_, bed):
        expected = program(tmp_path, "warm")
        bed.arm()
        assert program(tmp_path, "uncut") == expected
        frames = bed.frames
        assert frames > 50
        runs = struck = 0
        for n, fault in enumerate(faults_for(frames)):
            second = [Fault("rst", fault.frame + 4)] if n % 4 == 3 else []  # while the links are made again
            bed.arm(fault, *second)
            at = time.monotonic()
            assert program(tmp_path, f"n{n}") == expected, fault
            if ALL_S:
                print(f"{fault}: {time.monotonic() - at:.2f} s of {time.monotonic() - begin:.0f}", flush=True)
            runs += 1
            struck += bool(bed.done)
        bed.arm()
        eventually(lambda: empty((1, 2)))
    assert struck > 0.7 * runs  # the last frames of one run may be missing in the next

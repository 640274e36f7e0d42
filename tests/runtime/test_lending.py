"""When a task that waits lends its CPU to others."""

from __future__ import annotations

import numpy as np
import pytest

import hpc
from runtime.running import one_node


@pytest.fixture(scope="module", autouse=True)
def session():
    with one_node(num_cpus=1):
        yield


@hpc.remote(num_cpus=0)
class Gauge:
    """How many of those who entered have not left, at most."""

    def __init__(self):
        self.now = self.most = 0

    def enter(self):
        self.now += 1
        self.most = max(self.most, self.now)

    def leave(self):
        self.now -= 1

    def most_at_once(self):
        return self.most


@hpc.remote
def read(gauge, refs):
    gauge.enter.remote()
    total = sum(float(np.sum(hpc.get(ref))) for ref in refs)
    done = gauge.leave.remote()
    return total, done


@pytest.mark.parametrize("size", [10, 200_000])
def test_a_get_of_values_that_are_there_lends_no_cpu(size):
    gauge = Gauge.remote()
    refs = [hpc.put(np.ones(size)) for _ in range(5)]
    totals = hpc.get([read.remote(gauge, refs) for _ in range(12)])
    assert [total for total, _ in totals] == [5.0 * size] * 12
    assert hpc.get(gauge.most_at_once.remote()) == 1


def test_a_get_of_what_takes_work_lends_the_cpu():
    @hpc.remote
    def inner():
        return 1

    @hpc.remote
    def outer(refs):
        return hpc.get(inner.remote()) + hpc.get(refs[0])

    @hpc.remote
    def later(refs):
        return hpc.get(refs[0])

    made = inner.remote()
    assert hpc.get([later.remote([made]), outer.remote([made])], timeout=30) == [1, 2]

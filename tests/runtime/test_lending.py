"""When a task that waits lends its CPU to others."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

import hpc
from runtime.running import one_node


@pytest.fixture(scope="module", autouse=True)
def session():
    with one_node(num_cpus=1):
        yield


@hpc.remote
def read(refs):
    from hpc.core.owner.shell import values

    moment_s, values.ASKED_S = values.ASKED_S, 30.0  # on a busy machine an owner may need more than a moment
    begin = time.monotonic()
    try:
        total = sum(float(np.sum(hpc.get(ref))) for ref in refs)
    finally:
        values.ASKED_S = moment_s
    return total, begin, time.monotonic()


@pytest.mark.parametrize("size", [10, 200_000])
def test_a_get_of_values_that_are_there_lends_no_cpu(size):
    refs = [hpc.put(np.ones(size)) for _ in range(5)]
    rows = hpc.get([read.remote(refs) for _ in range(12)])
    assert [total for total, _, _ in rows] == [5.0 * size] * 12
    rows.sort(key=lambda row: row[1])
    assert all(end <= begin for (_, _, end), (_, begin, _) in itertools.pairwise(rows))


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

"""What objects promise: shared memory without copies, and space that comes back."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import hpc
from runtime.running import one_node, settle

MIB = 1 << 20


@pytest.fixture(autouse=True, scope="module")
def session(no_leaks_of_module):
    with one_node():
        yield


@pytest.fixture(autouse=True)
def nothing_stays(no_leaks):
    yield
    settle()


def test_values_come_back_equal():
    for value in [None, 1, "text", b"bytes", [1, [2]], {"a": (1, 2)}, {1, 2}, 3.5, np.float32(2), "x" * 500_000]:
        assert hpc.get(hpc.put(value)) == value


def test_large_arrays_are_read_only_views_of_the_same_memory():
    array = np.random.default_rng(0).random(MIB)
    ref = hpc.put(array)
    first, second = hpc.get(ref), hpc.get(ref)
    assert (first == array).all()
    assert not first.flags.writeable
    assert first.__array_interface__["data"][0] == second.__array_interface__["data"][0]
    with pytest.raises(ValueError):
        first[0] = 1


def test_a_view_keeps_its_memory_when_the_reference_is_gone():
    ref = hpc.put(np.full(4 * MIB, 7, np.uint8))
    view = hpc.get(ref)[100:200]
    del ref
    gc.collect()
    others = [hpc.put(np.full(4 * MIB, i, np.uint8)) for i in range(20)]
    assert (view == 7).all()
    assert (hpc.get(others[3]) == 3).all()


def test_space_is_used_again_when_references_go():
    for i in range(40):
        ref = hpc.put(np.full(16 * MIB, i, np.uint8))
        assert hpc.get(ref)[0] == i
        del ref


def test_results_of_tasks_go_through_shared_memory_too():
    @hpc.remote
    def make(n):
        return np.arange(n)

    @hpc.remote
    def total(array):
        assert not array.flags.writeable
        return int(array.sum())

    ref = make.remote(MIB)
    assert hpc.get(total.remote(ref)) == MIB * (MIB - 1) // 2
    assert hpc.get(ref)[5] == 5


def test_results_that_nobody_wants_leave_no_memory_behind():
    @hpc.remote
    def make():
        return np.zeros(30 * MIB, np.uint8)

    for _ in range(8):
        ref = make.remote()
        hpc.wait([ref])
        del ref
    assert hpc.get(hpc.put(np.ones(100 * MIB, np.uint8)))[-1] == 1


def test_references_inside_values_keep_objects_alive():
    outer = hpc.put([hpc.put(np.ones(MIB)), hpc.put("inner")])
    gc.collect()
    inner = hpc.get(outer)
    del outer
    gc.collect()
    assert hpc.get(inner[1]) == "inner"
    assert hpc.get(inner[0]).sum() == MIB


def test_references_returned_by_tasks_stay_valid_after_the_worker_let_go():
    @hpc.remote
    def make():
        return [hpc.put("made in a worker"), hpc.put(np.arange(MIB))]

    refs = hpc.get(make.remote())
    gc.collect()
    assert hpc.get(refs[0]) == "made in a worker"
    assert hpc.get(refs[1])[-1] == MIB - 1


def test_references_kept_by_actors_stay_valid():
    @hpc.remote
    class Keeper:
        def keep(self, box):
            self.ref = box[0]

        def read(self):
            return hpc.get(self.ref)

    keeper = Keeper.remote()
    ref = hpc.put("kept")
    hpc.get(keeper.keep.remote([ref]))
    del ref
    gc.collect()
    assert hpc.get(keeper.read.remote()) == "kept"


def test_put_of_a_reference_is_refused():
    with pytest.raises(TypeError, match="already is a reference"):
        hpc.put(hpc.put(1))


def test_what_cannot_be_pickled_says_so():
    import threading

    with pytest.raises(TypeError, match="pickle"):
        hpc.put(threading.Lock())
    lock = threading.Lock()

    @hpc.remote
    def uses_it():
        return lock

    with pytest.raises(TypeError, match="uses_it cannot be pickled"):
        uses_it.remote()


def test_freeing_by_hand():
    large, small = hpc.put(np.zeros(1 << 20)), hpc.put(5)
    made = hpc.remote(lambda: np.ones(1 << 20)).remote()
    hpc.wait([made])
    hpc.internal.free([large, small, made])
    for ref in (large, small, made):
        with pytest.raises(hpc.exceptions.ObjectFreedError, match=r"internal\.free"):
            hpc.get(ref)
    with pytest.raises(TypeError, match="not int"):
        hpc.internal.free([1])

"""multiprocessing.Pool: what the standard library's pool promises, with actors."""

from __future__ import annotations

import functools
import gc
import itertools
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import weakref

import pytest

import hpc
from hpc.exceptions import ActorDiedError
from hpc.util.multiprocessing import AsyncResult, Pool, TimeoutError
from hpc.util.multiprocessing.pool import _deal
from runtime.running import eventually, one_node


@pytest.fixture(autouse=True, scope="module")
def session(no_leaks_of_module):
    with one_node():
        yield


@pytest.fixture
def pool():
    with Pool(2) as pool:
        yield pool


def square(value):
    return value * value


def add(left, right=0):
    return left + right


def inverse(value):
    return 1 / value


def pid(_value=None):
    return os.getpid()


def test_one_call(pool):
    assert pool.apply(add, (1,), {"right": 2}) == 3
    assert pool.apply(add, (1, 5)) == 6
    assert pool.apply(add, (1,), kwds={"right": 3}) == 4
    result = pool.apply_async(add, (1,), {"right": 2})
    assert isinstance(result, AsyncResult)
    assert result.get(timeout=60) == 3
    assert result.ready()
    assert result.successful()
    with pytest.raises(TypeError, match="both"):
        pool.apply_async(add, (1,), {"right": 2}, kwds={"right": 2})


@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 9, 100])
def test_map_like_the_standard_library(pool, count):
    assert pool.map(square, range(count)) == [i * i for i in range(count)]
    assert pool.starmap(add, [(i, 1) for i in range(count)]) == [i + 1 for i in range(count)]
    assert list(pool.imap(square, range(count))) == [i * i for i in range(count)]
    assert sorted(pool.imap_unordered(square, range(count), chunksize=3)) == [i * i for i in range(count)]
    assert pool.map(square, (i for i in range(count)), chunksize=5) == [i * i for i in range(count)]


def test_chunks_go_to_one_process(pool):
    pids = pool.map(pid, range(8), chunksize=4)
    assert len(set(pids[:4])) == len(set(pids[4:])) == 1
    assert os.getpid() not in pids
    with pytest.raises(ValueError, match="chunksize"):
        pool.map(square, [1], chunksize=0)
    with pytest.raises(ValueError, match="chunksize"):
        pool.imap(square, [1], chunksize=0)


def test_what_a_call_raised(pool):
    with pytest.raises(ZeroDivisionError) as caught:
        pool.apply(inverse, (0,))
    assert "in inverse" in str(caught.value.__cause__)
    result = pool.map_async(inverse, [1, 0, "x"])
    with pytest.raises(ZeroDivisionError):
        result.get()
    assert not result.successful()
    results = pool.imap(inverse, [1, 0, 2])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert next(results) == 0.5
    with pytest.raises(StopIteration):
        next(results)


def test_an_exception_that_cannot_be_pickled(pool):
    def fails():
        error = ValueError("with a lock")
        error.lock = threading.Lock()
        raise error

    with pytest.raises(RuntimeError, match="ValueError: with a lock"):
        pool.apply(fails)


def test_what_cannot_be_sent_is_an_error_that_names_it(pool):
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"_thread\.lock"):
        pool.map(lambda value: lock, [1])
    with pytest.raises(TypeError, match=r"_thread\.lock"):
        pool.apply(square, (lock,))
    with pytest.raises(TypeError, match=r"_thread\.lock"):
        pool.apply(threading.Lock)
    assert pool.apply(add, (1,)) == 1


def test_waiting_for_a_result(pool):
    gate = Gate.remote()
    result = pool.apply_async(wait_for, (gate,))
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(timeout=0.01)
    results = pool.imap(wait_for, [gate])
    with pytest.raises(TimeoutError):
        results.next(timeout=0.01)
    result.wait(0.01)
    hpc.get(gate.open.remote())
    result.wait()
    assert result.ready()
    assert results.next(timeout=60) == "open"


@hpc.remote(num_cpus=0, max_concurrency=20)
class Gate:
    def __init__(self):
        self.opened = threading.Event()

    def open(self):
        self.opened.set()

    def wait(self):
        self.opened.wait()


def wait_for(gate):
    hpc.get(gate.wait.remote())
    return "open"


def test_callbacks(pool, capsys):
    seen, errors = [], []
    pool.apply_async(square, (3,), callback=seen.append, error_callback=errors.append).get()
    pool.map_async(square, [1, 2, 3], chunksize=1, callback=seen.append, error_callback=errors.append).get()
    pool.starmap_async(add, [(1, 2)], callback=seen.append).get()
    assert (seen, errors) == ([9, [1, 4, 9], [3]], [])
    failed = pool.map_async(inverse, [0], callback=seen.append, error_callback=errors.append)
    with pytest.raises(ZeroDivisionError):
        failed.get()
    assert isinstance(errors[0], ZeroDivisionError)
    assert len(seen) == 3
    assert pool.apply_async(square, (2,), callback=lambda value: 1 / 0).get() == 4
    assert pool.apply(square, (2,)) == 4
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_imap_takes_from_an_endless_iterable_what_it_needs(pool):
    counter = itertools.count()
    results = pool.imap(square, counter)
    assert list(itertools.islice(results, 20)) == [i * i for i in range(20)]
    assert next(counter) <= 24


def test_imap_of_imap_and_an_iterable_that_raises(pool):
    assert list(pool.imap(square, pool.imap(square, range(20)))) == [i**4 for i in range(20)]

    def broken():
        yield 2
        raise LookupError("no more")

    results = pool.imap(square, broken())
    assert next(results) == 4
    with pytest.raises(LookupError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_unordered_results_do_not_wait_for_the_slow(pool):
    gate = Gate.remote()
    calls = [functools.partial(wait_for, gate), functools.partial(square, 3)]
    results = pool.imap_unordered(call, calls)
    assert results.next(timeout=60) == 9
    hpc.get(gate.open.remote())
    assert next(results) == "open"


def call(function):
    return function()


def test_close_and_join_do_all_that_was_submitted():
    pool = Pool(2)
    with pytest.raises(ValueError, match="running"):
        pool.join()
    mapped = pool.map_async(square, range(50), chunksize=1)
    results = pool.imap(square, range(50))
    pool.close()
    for use in (lambda: pool.apply(square, (1,)), lambda: pool.map(square, []), lambda: pool.imap(square, [])):
        with pytest.raises(ValueError, match="not running"):
            use()
    pool.join()
    assert mapped.ready()
    assert mapped.get() == list(results) == [i * i for i in range(50)]
    pool.close()


def test_processes_are_gone_after_close_and_after_terminate():
    for end in ("close", "terminate"):
        pool = Pool(2)
        pids = set(pool.map(pid, range(8), chunksize=1))
        getattr(pool, end)()
        pool.join()
        eventually(lambda pids=pids: not [p for p in pids if os.path.exists(f"/proc/{p}")])


def test_terminate_does_not_wait_and_results_say_so():
    pool = Pool(1)
    gate = Gate.remote()
    running, waiting = pool.apply_async(wait_for, (gate,)), pool.map_async(square, [1, 2])
    results = pool.imap(wait_for, [gate])
    pool.terminate()
    pool.join()
    for result in (running, waiting):
        with pytest.raises(ActorDiedError, match="terminated"):
            result.get(timeout=60)
    with pytest.raises(ActorDiedError, match="terminated"):
        results.next(timeout=60)


def test_the_end_of_a_with_statement_terminates():
    with Pool(1) as pool:
        assert pool.apply(square, (2,)) == 4
    with pytest.raises(ValueError, match="not running"):
        pool.apply(square, (2,))
    pool.join()


def test_a_pool_that_is_dropped_ends_its_processes():
    pool = Pool(1)
    worker = pool.apply(pid)
    thread = pool._dispatcher.thread
    gone = weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None
    thread.join(60)
    assert not thread.is_alive()
    eventually(lambda: not os.path.exists(f"/proc/{worker}"))
    assert Pool(1).apply_async(square, (3,)).get(timeout=60) == 9


def prepare(value):
    global prepared
    prepared = value


def read_prepared(_):
    return prepared


def refuse():
    raise OSError("no such device")


def test_the_initializer_runs_in_each_process():
    with Pool(2, prepare, (42,)) as pool:
        assert set(pool.map(read_prepared, range(8))) == {42}
    with pytest.raises(Exception, match="no such device"):
        Pool(1, refuse)


SCRIPT = """
import hpc
from hpc.util.multiprocessing import Pool

def prepare(value):
    global prepared
    prepared = value

def read(_):
    global calls
    calls = globals().get("calls", 0) + 1
    return prepared, calls

if __name__ == "__main__":
    hpc.init(address="local", num_cpus=1)
    with Pool(1, prepare, ("from the initializer",)) as pool:
        print(pool.map(read, range(3), chunksize=1))
        print(pool.apply(read, (0,)))
"""


def test_globals_of_a_script_as_in_the_standard_library(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    words = "from the initializer"
    assert done.stdout.splitlines() == [str([(words, 1), (words, 2), (words, 3)]), str((words, 1))], done.stderr


def test_processes_are_replaced_after_so_many_chunks():
    with Pool(1, maxtasksperchild=2) as pool:
        pids = [pool.apply(pid) for _ in range(5)]
        assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]
        assert len(set(pool.map(pid, range(4), chunksize=2))) == 2


def die(_=None):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_dies_fails_its_chunk_and_is_replaced(pool):
    results = [pool.apply_async(die) for _ in range(3)]
    for result in results:
        with pytest.raises(ActorDiedError, match="SIGKILL"):
            result.get(timeout=60)
    assert pool.map(square, range(10)) == [i * i for i in range(10)]


def test_bad_arguments():
    for bad in ({"processes": 0}, {"processes": -1}, {"maxtasksperchild": 0}):
        with pytest.raises(ValueError):
            Pool(**bad)
    for bad in ({"processes": "2"}, {"initializer": 3}):
        with pytest.raises(TypeError):
            Pool(**bad)
    with pytest.raises(ValueError, match="num_cps"):
        Pool(1, ray_remote_args={"num_cps": 1})
    with pytest.warns(UserWarning, match="context"):
        Pool(1, context="spawn").terminate()
    with Pool(1) as pool:
        with pytest.raises(TypeError, match="chunksize is given by name"):
            pool.starmap_async(add, [(1, 2)], 5)
        assert pool.starmap_async(add, [(1, 2)], chunksize=5).get() == [3]
    with Pool(1, maxtasksperchild=3) as pool, pytest.raises(TypeError, match="maxtasksperchild"):
        pickle.dumps(pool)


@hpc.remote(num_cpus=0)
class User:
    def __init__(self, pool):
        self.pool = pool

    def map(self, function, values):
        return self.pool.map(function, values, chunksize=1)


def test_a_pool_that_is_given_away_uses_the_same_processes(pool):
    user = User.remote(pool)
    assert hpc.get(user.map.remote(square, range(5)), timeout=30) == [0, 1, 4, 9, 16]
    assert set(hpc.get(user.map.remote(pid, range(8)), timeout=30)) == set(pool.map(pid, range(8), chunksize=1))


def test_a_pool_that_is_given_away_lives_as_long_as_one_copy():
    pool = Pool(1)
    worker = pool.apply(pid)
    user = User.remote(pool)
    hpc.get(user.map.remote(square, [1]), timeout=30)
    del pool
    gc.collect()
    assert hpc.get(user.map.remote(pid, [0]), timeout=30) == [worker]
    del user
    eventually(lambda: not os.path.exists(f"/proc/{worker}"))


def test_a_copy_of_a_pool_goes_on_without_the_processes_that_died(pool):
    user = User.remote(pool)
    with pytest.raises(ActorDiedError, match="SIGKILL"):
        hpc.get(user.map.remote(die, [0]), timeout=30)
    assert hpc.get(user.map.remote(square, range(5)), timeout=30) == [0, 1, 4, 9, 16]
    with pytest.raises(ActorDiedError, match="SIGKILL"):
        hpc.get(user.map.remote(die, [0]), timeout=30)
    with pytest.raises(ActorDiedError, match="have ended"):
        hpc.get(user.map.remote(square, range(5)), timeout=30)


def test_options_of_the_processes_and_their_number():
    with Pool(1, ray_remote_args={"num_cpus": 1, "name": "of a pool"}) as pool:
        assert pool.apply(square, (2,)) == 4
        assert hpc.get_actor("of a pool")
    with Pool() as pool:
        assert pool._processes == hpc.cluster_resources()["CPU"] == 2
    with Pool(5) as pool:  # more than there are CPUs
        assert len(set(pool.map(pid, range(50), chunksize=1))) > 2


def test_a_pool_inside_a_task():
    @hpc.remote
    def work():
        with Pool(2) as pool:
            return pool.map(square, range(4))

    assert hpc.get(work.remote(), timeout=30) == [0, 1, 4, 9]


def test_processes_are_dealt_out_by_cpus():
    assert sorted(_deal({"1": 4, "2": 2}, 6)) == ["1"] * 4 + ["2"] * 2
    assert sorted(_deal({"1": 4, "2": 2}, 3)) == ["1", "1", "2"]
    assert _deal({"1": 1}, 3) == ["1"] * 3
    assert _deal({}, 3) == []

"""ActorPool, as_completed and map_unordered, on one node."""

from __future__ import annotations

import pytest

import hpc
from hpc.util import ActorPool, as_completed, map_unordered
from runtime.running import one_node


@pytest.fixture(autouse=True, scope="module")
def session(no_leaks_of_module):
    with one_node():
        yield


@hpc.remote(num_cpus=0)
class Doubler:
    def double(self, value):
        return 2 * value

    def fail(self, value):
        raise KeyError(value)

    def end(self, value):
        hpc.actor.exit_actor()

    def after(self, gate):
        return hpc.get(gate[0])

    @hpc.method(num_returns=2)
    def both(self, value):
        return value, 2 * value


@hpc.remote(num_cpus=0, max_concurrency=20)
class Gate:
    """Something to wait for that the test decides about."""

    def __init__(self):
        import threading

        self.opened = threading.Event()

    def open(self):
        self.opened.set()

    def wait(self, value=None):
        self.opened.wait()
        return value


@pytest.fixture
def gate():
    gate = Gate.remote()
    yield gate
    hpc.get(gate.open.remote())


def double(actor, value):
    return actor.double.remote(value)


def pool_of(count):
    return ActorPool([Doubler.remote() for _ in range(count)])


def test_map_keeps_the_order():
    pool = pool_of(2)
    assert list(pool.map(double, range(20))) == [2 * i for i in range(20)]
    assert sorted(pool.map_unordered(double, range(20))) == [2 * i for i in range(20)]


def test_unordered_results_do_not_wait_for_the_slow(gate):
    pool = pool_of(2)
    pool.submit(lambda actor, value: actor.after.remote([gate.wait.remote("slow")]), None)
    pool.submit(double, 1)
    assert pool.get_next_unordered(timeout=60) == 2
    hpc.get(gate.open.remote())
    assert pool.get_next_unordered(timeout=60) == "slow"
    assert not pool.has_next()


def test_submit_waits_for_a_free_actor():
    pool = pool_of(1)
    for value in range(3):
        pool.submit(double, value)
    assert not pool.has_free()
    assert [pool.get_next() for _ in range(3)] == [0, 2, 4]
    assert pool.has_free()
    with pytest.raises(StopIteration):
        pool.get_next()
    with pytest.raises(StopIteration):
        pool.get_next_unordered()


@pytest.mark.parametrize("how", ["get_next", "get_next_unordered"])
def test_timeouts(gate, how):
    pool = pool_of(1)
    pool.submit(lambda actor, value: actor.after.remote([gate.wait.remote("late")]), None)
    with pytest.raises(TimeoutError):
        getattr(pool, how)(timeout=0.05)
    assert pool.has_next()
    with pytest.raises(TimeoutError, match="ignored"):
        getattr(pool, how)(timeout=0.05, ignore_if_timedout=True)
    assert not pool.has_next()
    pool.submit(double, 4)
    hpc.get(gate.open.remote())
    assert getattr(pool, how)(timeout=60) == 8


def test_a_failed_call_raises_and_its_actor_goes_on():
    pool = pool_of(1)
    pool.submit(lambda actor, value: actor.fail.remote(value), "x")
    pool.submit(double, 1)
    with pytest.raises(KeyError):
        pool.get_next()
    assert pool.get_next() == 2


def test_an_actor_that_died_leaves_the_pool_and_what_waits_goes_to_the_others():
    pool = ActorPool([Doubler.remote(), Doubler.remote()])
    pool.submit(lambda actor, value: actor.end.remote(value), 0)
    for value in range(1, 4):
        pool.submit(lambda actor, value: actor.double.remote(value), value)
    with pytest.raises(hpc.exceptions.ActorDiedError):
        pool.get_next()
    assert [pool.get_next() for _ in range(3)] == [2, 4, 6]
    assert pool.pop_idle() is not None
    assert pool.pop_idle() is None


def test_a_new_map_drops_what_nobody_took():
    pool = pool_of(1)
    pool.submit(double, 100)
    pool.submit(double, 101)
    assert list(pool.map(double, [1])) == [2]


def test_actors_come_and_go():
    first, second = Doubler.remote(), Doubler.remote()
    pool = ActorPool([first])
    with pytest.raises(ValueError, match="belongs"):
        pool.push(first)
    assert pool.pop_idle() == first
    assert pool.pop_idle() is None
    assert not pool.has_free()
    pool.submit(double, 5)
    pool.push(second)
    with pytest.raises(ValueError, match="belongs"):
        pool.push(second)
    assert pool.get_next() == 10


def test_mixed_taking_is_an_error_where_order_is_lost(gate):
    pool = pool_of(2)
    pool.submit(lambda actor, value: actor.after.remote([gate.wait.remote("slow")]), None)
    pool.submit(double, 1)
    assert pool.get_next_unordered(timeout=60) == 2
    with pytest.raises(ValueError, match="get_next"):
        pool.get_next()


def test_calls_with_several_values():
    pool = pool_of(2)
    assert list(pool.map(lambda actor, value: actor.both.remote(value), [1, 2])) == [[1, 2], [2, 4]]


def test_a_function_that_returns_no_reference_is_an_error_and_the_actor_stays():
    pool = pool_of(1)
    with pytest.raises(TypeError, match="reference"):
        pool.submit(lambda actor, value: value, 1)
    assert pool.has_free()


@hpc.remote
def square(value):
    return value * value


def test_as_completed_gives_all(gate):
    refs = [square.remote(i) for i in range(25)]
    assert sorted(as_completed(refs)) == [i * i for i in range(25)]
    assert list(as_completed([])) == []
    taken = list(as_completed(refs, chunk_size=3, yield_obj_refs=True))
    assert set(taken) == set(refs)


def test_as_completed_begins_before_all_are_done(gate):
    slow = gate.wait.remote("slow")
    results = as_completed([slow, square.remote(3)], chunk_size=1)
    assert next(results) == 9
    hpc.get(gate.open.remote())
    assert list(results) == ["slow"]


def test_as_completed_raises_what_a_task_raised():
    actor = Doubler.remote()
    with pytest.raises(KeyError):
        list(as_completed([actor.fail.remote("x")]))


def test_map_unordered_submits_no_more_than_its_limit(gate):
    taken = []

    def items():
        for i in range(30):
            taken.append(i)
            yield i

    results = map_unordered(square, items(), backpressure_size=4, chunk_size=1)
    assert not taken
    first = next(results)
    assert len(taken) == 4
    assert sorted([first, *results]) == [i * i for i in range(30)]
    assert sorted(map_unordered(square, range(9), backpressure_size=None)) == [i * i for i in range(9)]
    refs = list(map_unordered(square, range(3), yield_obj_refs=True))
    assert sorted(hpc.get(refs)) == [0, 1, 4]
    actor = Doubler.remote()
    assert sorted(map_unordered(actor.double, range(3))) == [0, 2, 4]


def test_bad_sizes_are_errors_at_once():
    for bad in ({"chunk_size": 0}, {"backpressure_size": 0}, {"num_returns": 2}):
        with pytest.raises(ValueError):
            map_unordered(square, [1], **bad)
    with pytest.raises(ValueError):
        as_completed([], chunk_size=0)
    with pytest.raises(TypeError):
        as_completed([], speed=3)
    with pytest.raises(TypeError):
        map_unordered(len, [1])

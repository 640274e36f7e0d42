"""Queue and JoinableQueue, between processes of one node."""

from __future__ import annotations

import asyncio
import queue
import threading

import numpy as np
import pytest

import hpc
from hpc.exceptions import ActorDiedError, TaskCancelledError
from hpc.util.multiprocessing import JoinableQueue
from hpc.util.queue import Empty, Full, Queue
from runtime.running import eventually, one_node


@pytest.fixture(autouse=True, scope="module")
def session(no_leaks_of_module):
    with one_node():
        yield


def test_first_in_first_out():
    q = Queue()
    for item in (1, "two", None, [3]):
        q.put(item)
    assert len(q) == q.size() == q.qsize() == 4
    assert [q.get() for _ in range(4)] == [1, "two", None, [3]]
    assert q.empty()
    assert not q.full()


def test_a_full_queue_says_so():
    q = Queue(maxsize=1)
    q.put(1)
    assert q.full()
    with pytest.raises(Full):
        q.put_nowait(2)
    with pytest.raises(queue.Full):
        q.put(2, timeout=0.01)
    with pytest.raises(Full):
        q.put(2, timeout=0)
    assert q.get() == 1


def test_an_empty_queue_says_so():
    q = Queue()
    with pytest.raises(Empty):
        q.get_nowait()
    with pytest.raises(queue.Empty):
        q.get(timeout=0.01)
    with pytest.raises(Empty):
        q.get(block=False)


def test_batches_are_all_or_nothing():
    q = Queue(maxsize=3)
    q.put_nowait_batch([1, 2])
    with pytest.raises(Full):
        q.put_nowait_batch([3, 4])
    with pytest.raises(Empty):
        q.get_nowait_batch(3)
    assert q.size() == 2
    assert q.get_nowait_batch(2) == [1, 2]
    assert q.get_nowait_batch(0) == []
    q.put_nowait_batch(iter([5]))
    assert q.get() == 5


def test_bad_arguments():
    q = Queue()
    for call in (lambda: q.put(1, timeout=-1), lambda: q.get(timeout=-1), lambda: q.get_nowait_batch(-1)):
        with pytest.raises(ValueError):
            call()
    for call in (lambda: q.put_nowait_batch(3), lambda: q.get_nowait_batch("3"), lambda: Queue(maxsize="3")):
        with pytest.raises(TypeError):
            call()


def test_producers_and_consumers_in_other_processes():
    q = Queue(maxsize=4)

    @hpc.remote(num_cpus=0)
    def produce(q, start):
        for i in range(20):
            q.put(start + i)

    @hpc.remote(num_cpus=0)
    def consume(q):
        return [q.get() for _ in range(20)]

    consumers = [consume.remote(q) for _ in range(2)]
    producers = [produce.remote(q, start) for start in (0, 100)]
    hpc.get(producers)
    got = [item for items in hpc.get(consumers) for item in items]
    assert sorted(got) == [*range(20), *range(100, 120)]


def test_who_waits_is_woken():
    q = Queue(maxsize=1)
    got = []
    thread = threading.Thread(target=lambda: got.append(q.get(timeout=30)))
    thread.start()
    q.put("x")
    thread.join()
    q.put(1)
    thread = threading.Thread(target=lambda: q.put(2, timeout=30))
    thread.start()
    assert got == ["x"]
    assert [q.get(timeout=30), q.get(timeout=30)] == [1, 2]
    thread.join()


def test_many_who_wait_do_not_keep_out_those_who_put():
    q = Queue()
    waiting = [q.actor.get.remote(None) for _ in range(1500)]
    q.put_nowait_batch(range(1500))
    assert hpc.get(waiting, timeout=30) == [[i] for i in range(1500)]


def test_coroutines():
    q = Queue(maxsize=1)

    async def work():
        await q.put_async(1)
        with pytest.raises(Full):
            await q.put_async(2, block=False)
        with pytest.raises(Full):
            await q.put_async(2, timeout=0.01)
        assert await q.get_async() == 1
        with pytest.raises(Empty):
            await q.get_async(timeout=0.01)
        getting = asyncio.gather(q.get_async(), q.get_async())
        await q.put_async("a")
        await q.put_async("b")
        assert sorted(await getting) == ["a", "b"]

    asyncio.run(work())


def test_a_get_that_was_given_up_takes_nothing_later():
    q = Queue(maxsize=1)

    async def give_up(awaitable):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(awaitable, 0.05)

    asyncio.run(give_up(q.get_async()))
    asyncio.run(give_up(q.get_async()))
    q.put("for who comes after")
    asyncio.run(give_up(q.put_async("not any more")))
    assert q.get(timeout=60) == "for who comes after"
    with pytest.raises(Empty):
        q.get(timeout=0.05)


def test_an_interrupted_get_takes_nothing_later():
    q = Queue()

    @hpc.remote(num_cpus=0)
    def take(q):
        return q.get()

    taking = take.remote(q)
    eventually(lambda: hpc.get(q.actor.__ray_call__.remote(waiting_to_get)))
    hpc.cancel(taking)
    with pytest.raises(TaskCancelledError):
        hpc.get(taking, timeout=60)
    eventually(lambda: not hpc.get(q.actor.__ray_call__.remote(waiting_to_get)))
    q.put(1)
    assert q.get(timeout=60) == 1


def waiting_to_get(actor):
    return len([getter for getter in actor.items._getters if not getter.done()])


def test_large_items():
    q = Queue()
    array = np.arange(1 << 18)
    q.put(array)
    q.put([array])
    assert (q.get() == array).all()
    assert (q.get()[0] == array).all()


def test_references_among_items_keep_their_objects():
    q = Queue()
    q.put([hpc.put(np.arange(1 << 18))])

    @hpc.remote(num_cpus=0)
    def last(q):
        return int(hpc.get(q.get()[0])[-1])

    assert hpc.get(last.remote(q), timeout=30) == (1 << 18) - 1
    q.put(hpc.put("a bare reference is replaced by its value"))
    assert "replaced" in q.get()


def test_options_of_the_actor():
    q = Queue(actor_options={"name": "a queue", "num_cpus": 1})
    q.put(1)
    assert hpc.get(hpc.get_actor("a queue").qsize.remote()) == 1


@pytest.mark.parametrize("force", [True, False])
def test_shutdown_ends_the_actor_and_who_waits_in_it(force):
    q = Queue()
    q.put(1)
    actor = q.actor
    waiting = actor.get.remote(None), actor.get.remote(None)
    assert hpc.get(waiting[0]) == [1]
    q.shutdown(force=force, grace_period_s=1)
    with pytest.raises(ActorDiedError):
        hpc.get(waiting[1], timeout=60)
    with pytest.raises(RuntimeError, match="shut down"):
        q.put(1)
    q.shutdown()


def test_a_joinable_queue_waits_for_what_is_being_worked_on():
    q = JoinableQueue()
    for i in range(3):
        q.put(i)
    joined = q.actor.join.remote()
    assert q.get() == 0
    q.get_nowait_batch(2)
    q.task_done()
    q.task_done()
    assert hpc.wait([joined], timeout=0.05)[0] == []
    q.task_done()
    q.join()
    hpc.get(joined)
    with pytest.raises(ValueError, match="task_done"):
        q.task_done()

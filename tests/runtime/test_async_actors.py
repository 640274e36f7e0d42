"""Actors on an event loop that polls the session's sockets itself."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

import hpc
from hpc.exceptions import TaskCancelledError
from runtime.running import one_node


@pytest.fixture(autouse=True, scope="module")
def session(no_leaks_of_module):
    with one_node(num_cpus=2):
        yield


@hpc.remote
def after(path, value):
    while not path.exists():
        time.sleep(0.002)
    return value


@hpc.remote(num_cpus=0)
class Loop:
    def __init__(self):
        self.thread = threading.get_ident()

    async def echo(self, x):
        await asyncio.sleep(0)
        return x

    async def same_thread(self):
        return threading.get_ident() == self.thread == threading.main_thread().ident

    async def get_on_a_thread(self, refs):
        return await asyncio.get_running_loop().run_in_executor(None, hpc.get, refs[0])

    async def wait_for(self, refs):
        return await refs[0]

    async def own(self):
        return [hpc.put(bytes(1000))]

    async def block(self, path):
        path.with_name("blocked").touch()
        while not path.exists():
            time.sleep(0.002)


def test_everything_runs_on_the_main_thread():
    actor = Loop.remote()
    assert hpc.get(actor.same_thread.remote(), timeout=60)


def test_calls_go_on_while_a_thread_of_the_actor_waits_for_a_task(tmp_path):
    actor = Loop.remote()
    gate = tmp_path / "gate"
    held = actor.get_on_a_thread.remote([after.remote(gate, 7)])
    for n in range(50):
        assert hpc.get(actor.echo.remote(n), timeout=60) == n
    gate.touch()
    assert hpc.get(held, timeout=60) == 7


def test_calls_go_on_while_a_coroutine_awaits_a_task(tmp_path):
    actor = Loop.remote()
    gate = tmp_path / "gate"
    held = actor.wait_for.remote([after.remote(gate, 8)])
    assert hpc.get([actor.echo.remote(n) for n in range(500)], timeout=60) == list(range(500))
    gate.touch()
    assert hpc.get(held, timeout=60) == 8


def test_owned_objects_are_answered_for_while_a_coroutine_blocks_the_loop(tmp_path):
    actor = Loop.remote()
    (inner,) = hpc.get(actor.own.remote(), timeout=60)
    gate = tmp_path / "gate"
    blocked = actor.block.remote(gate)
    while not (tmp_path / "blocked").exists():
        time.sleep(0.002)
    assert hpc.get(inner, timeout=60) == bytes(1000)
    assert not gate.exists()
    gate.touch()
    hpc.get(blocked, timeout=60)


def test_a_call_that_waits_for_its_turn_is_cancelled_and_the_next_one_runs(tmp_path):
    actor = Loop.options(max_concurrency=1).remote()
    gate = tmp_path / "gate"
    held = actor.wait_for.remote([after.remote(gate, 9)])
    waiting, last = actor.echo.remote(1), actor.echo.remote(2)
    hpc.cancel(waiting)
    with pytest.raises(TaskCancelledError):
        hpc.get(waiting, timeout=60)
    gate.touch()
    assert hpc.get([held, last], timeout=60) == [9, 2]


def test_a_running_coroutine_is_cancelled(tmp_path):
    actor = Loop.remote()
    held = actor.wait_for.remote([after.remote(tmp_path / "gate", 1)])
    hpc.get(actor.echo.remote(0), timeout=60)
    hpc.cancel(held)
    with pytest.raises(TaskCancelledError):
        hpc.get(held, timeout=60)
    (tmp_path / "gate").touch()
    assert hpc.get(actor.echo.remote(3), timeout=60) == 3


def test_a_constructor_begins_tasks_in_the_running_loop():
    @hpc.remote(num_cpus=0)
    class Polls:
        def __init__(self):
            self.found = asyncio.Event()
            self.loop = asyncio.get_running_loop()
            self.task = asyncio.create_task(self.poll())

        async def poll(self):
            self.found.set()

        async def has_polled(self):
            await self.found.wait()
            return asyncio.get_running_loop() is self.loop

    assert hpc.get(Polls.remote().has_polled.remote(), timeout=60)


def test_a_constructor_that_raises_shows_its_own_lines_alone():
    @hpc.remote(num_cpus=0)
    class Fails:
        def __init__(self):
            raise ValueError("not today")

        async def ping(self):
            return 1

    with pytest.raises(Exception, match="not today") as caught:
        hpc.get(Fails.remote().ping.remote(), timeout=60)
    assert "run_until_complete" not in str(caught.value)


def test_a_get_or_wait_in_a_coroutine_waits():
    @hpc.remote(num_cpus=0)
    class Blocks:
        async def get(self, refs):
            return hpc.get(refs[0])

        async def wait(self, refs):
            return len(hpc.wait(refs)[0])

    @hpc.remote
    def late():
        time.sleep(0.05)
        return 5

    actor = Blocks.remote()
    assert hpc.get([actor.get.remote([late.remote()]), actor.wait.remote([late.remote()])], timeout=60) == [5, 1]


@hpc.remote(num_cpus=0, concurrency_groups={"health": 1, "work": 2})
class Groups:
    def __init__(self):
        self.go = threading.Event()
        self.begun = threading.Event()

    async def blocks(self):
        self.begun.set()
        return self.go.wait(60)

    @hpc.method(concurrency_group="work")
    async def blocks_work(self):
        self.begun.set()
        return self.go.wait(60)

    @hpc.method(concurrency_group="health")
    async def ping(self):
        return self.begun.wait(60)

    @hpc.method(concurrency_group="health")
    async def open(self):
        self.go.set()

    @hpc.method(concurrency_group="health")
    async def where(self):
        await asyncio.sleep(0)
        return threading.current_thread().name, asyncio.get_running_loop() is asyncio.get_event_loop()

    @hpc.method(concurrency_group="health")
    async def sleep(self):
        await asyncio.sleep(3600)


@pytest.mark.parametrize("blocking", ["blocks", "blocks_work"])
def test_a_coroutine_that_blocks_its_group_does_not_stop_another(blocking):
    actor = Groups.remote()
    blocked = getattr(actor, blocking).remote()
    assert hpc.get(actor.ping.remote(), timeout=60)
    hpc.get(actor.open.remote(), timeout=60)
    assert hpc.get(blocked, timeout=60)
    assert hpc.get(actor.where.remote(), timeout=60) == ("hpc-actor-health", True)


def test_calls_of_a_group_run_in_order_and_are_cancelled_there():
    actor = Groups.remote()
    first, second = actor.sleep.remote(), actor.ping.remote()  # the second waits: the limit is 1
    third = actor.where.remote()
    hpc.cancel(second)
    with pytest.raises(TaskCancelledError):
        hpc.get(second, timeout=60)
    hpc.cancel(first)
    with pytest.raises(TaskCancelledError):
        hpc.get(first, timeout=60)
    assert hpc.get(third, timeout=60)[1]


def test_an_actor_with_groups_ends_after_the_calls_of_all_groups():
    actor = Groups.remote()
    refs = [actor.where.remote() for _ in range(20)]
    del actor
    assert all(right for _, right in hpc.get(refs, timeout=60))

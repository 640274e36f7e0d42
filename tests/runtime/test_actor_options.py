"""Concurrency groups, pending limits, out-of-order calls, method options; and cancelling of all kinds of work."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import hpc
from hpc.exceptions import PendingCallsLimitExceeded, TaskCancelledError
from runtime.running import eventually, one_node, settle


@pytest.fixture(autouse=True, scope="module")
def session(no_leaks_of_module: None) -> Iterator[None]:
    with one_node():
        yield


@pytest.fixture(autouse=True)
def nothing_stays(no_leaks: None) -> Iterator[None]:
    yield
    settle()


def wait_for_file(path: Path) -> None:
    while not path.exists():
        time.sleep(0.002)


@hpc.remote
def echo(value):
    return value


@hpc.remote
def after(path, value):
    wait_for_file(path)
    return value


# ---------------------------------------------------------------- concurrency groups


@hpc.remote(concurrency_groups={"io": 2, "compute": 1})
class Threaded:
    @hpc.method(concurrency_group="io")
    def meet(self, here: Path, there: Path):
        here.touch()
        wait_for_file(there)
        return threading.current_thread().name

    @hpc.method(concurrency_group="compute")
    def compute(self):
        return threading.get_ident()

    def plain(self):
        return "plain"

    def where(self):
        return threading.current_thread().name


def test_groups_of_threads(tmp_path):
    actor = Threaded.remote()
    one, two = tmp_path / "one", tmp_path / "two"
    a = actor.meet.remote(one, two)
    assert hpc.get(actor.plain.remote()) == "plain"  # another group: not behind the one that waits
    assert hpc.get(actor.compute.remote()) == hpc.get(actor.compute.remote())  # one thread
    b = actor.meet.remote(two, one)  # the second thread of the group
    assert all("io" in name for name in hpc.get([a, b]))
    assert "compute" in hpc.get(actor.where.options(concurrency_group="compute").remote())


def test_groups_of_coroutines():
    @hpc.remote(concurrency_groups={"one": 1})
    class Coroutines:
        def __init__(self):
            self.running = self.most = 0

        @hpc.method(concurrency_group="one")
        async def alone(self):
            self.running += 1
            self.most = max(self.most, self.running)
            await asyncio.sleep(0.001)
            self.running -= 1

        async def seen(self):
            return self.most

    actor = Coroutines.remote()
    hpc.get([actor.alone.remote() for _ in range(10)])
    assert hpc.get(actor.seen.remote()) == 1


def test_unknown_groups_are_said():
    with pytest.raises(ValueError, match="do not have"):

        @hpc.remote
        class Wrong:
            @hpc.method(concurrency_group="nowhere")
            def f(self):
                pass

    actor = Threaded.remote()
    with pytest.raises(ValueError, match="it has: io, compute"):
        actor.plain.options(concurrency_group="disk")
    with pytest.raises(ValueError, match="at least 1"):
        Threaded.options(concurrency_groups={"io": 0})


# ---------------------------------------------------------------- limits and order


def test_max_pending_calls(tmp_path):
    @hpc.remote(max_pending_calls=3)
    class Busy:
        def wait(self, path):
            wait_for_file(path)

    actor, go = Busy.remote(), tmp_path / "go"
    hpc.get(actor.__ray_ready__.remote())
    refs = [actor.wait.remote(go) for _ in range(3)]
    with pytest.raises(PendingCallsLimitExceeded, match="max_pending_calls is 3"):
        actor.wait.remote(go)
    go.touch()
    hpc.get(refs)
    hpc.get(actor.wait.remote(go))


def test_out_of_order_execution(tmp_path):
    go = tmp_path / "go"

    class Log:
        def __init__(self):
            self.seen = []

        def add(self, value):
            self.seen.append(value)
            return list(self.seen)

    late = after.remote(go, "late")
    free = hpc.remote(allow_out_of_order_execution=True)(Log).remote()
    first, second = free.add.remote(late), free.add.remote("early")
    assert hpc.get(second) == ["early"]
    go.touch()
    assert hpc.get(first) == ["early", "late"]

    go.unlink()
    late = after.remote(go, "late")
    strict = hpc.remote(Log).remote()
    first, second = strict.add.remote(late), strict.add.remote("early")
    go.touch()
    assert hpc.get(second) == ["late", "early"]


# ---------------------------------------------------------------- options of methods


def test_retries_of_one_method(tmp_path):
    @hpc.remote(max_restarts=-1)
    class Fragile:
        @hpc.method(max_task_retries=2)
        def crash_once(self, mark):
            if not mark.exists():
                mark.touch()
                os._exit(1)
            return "survived"

        @hpc.method(max_task_retries=3, retry_exceptions=True)
        def raise_twice(self, count):
            with open(count, "a") as file:
                file.write("x")
            if len(Path(count).read_text()) < 3:
                raise ValueError("not yet")
            return Path(count).read_text()

        def crash(self):
            os._exit(1)

        def pid(self):
            return os.getpid()

    actor = Fragile.remote()
    assert hpc.get(actor.crash_once.remote(tmp_path / "mark")) == "survived"
    assert hpc.get(actor.raise_twice.remote(tmp_path / "count")) == "xxx"
    with pytest.raises(hpc.exceptions.ActorUnavailableError):
        hpc.get(actor.crash.remote())
    assert hpc.get(actor.pid.remote())


def test_max_calls():
    @hpc.remote(max_calls=2)
    def pid():
        return os.getpid()

    pids = hpc.get([pid.remote() for _ in range(12)])
    assert all(pids.count(one) <= 2 for one in pids)
    assert hpc.get(echo.remote(1)) == 1


def test_a_coroutine_waits_for_references_by_get_and_by_await(tmp_path):
    @hpc.remote
    class Reader:
        async def block(self, refs):
            return hpc.get(refs[0])

        async def careful(self, refs):
            return await refs[0]

    actor, go = Reader.remote(), tmp_path / "go"
    ref = after.remote(go, 5)
    found = [actor.block.remote([ref]), actor.careful.remote([ref])]
    go.touch()
    assert hpc.get(found) == [5, 5]


# ---------------------------------------------------------------- cancelling


def test_cancel_by_any_return_value(tmp_path):
    @hpc.remote(num_returns=3)
    def three(path):
        path.touch()
        while True:
            time.sleep(0.002)

    refs = three.remote(tmp_path / "runs")
    wait_for_file(tmp_path / "runs")
    hpc.cancel(refs[2])
    for ref in refs:
        with pytest.raises(TaskCancelledError):
            hpc.get(ref)


def test_cancel_reaches_children(tmp_path):
    @hpc.remote(num_cpus=0.5)
    def child(mark):
        mark.touch()
        try:
            while True:
                time.sleep(0.002)
        finally:
            mark.with_suffix(".ended").touch()

    @hpc.remote(num_cpus=0.5)
    def parent(mark):
        return hpc.get(child.remote(mark))

    ref = parent.remote(tmp_path / "child")
    wait_for_file(tmp_path / "child")
    hpc.cancel(ref)
    with pytest.raises(TaskCancelledError):
        hpc.get(ref)
    eventually((tmp_path / "child.ended").exists)

    ref = parent.remote(tmp_path / "other")
    wait_for_file(tmp_path / "other")
    hpc.cancel(ref, recursive=False)
    with pytest.raises(TaskCancelledError):
        hpc.get(ref)
    assert not (tmp_path / "other.ended").exists()


def test_cancel_calls(tmp_path):
    @hpc.remote
    class Slow:
        async def forever(self):
            await asyncio.Event().wait()

        async def ok(self):
            return "ok"

    actor = Slow.remote()
    ref = actor.forever.remote()
    assert hpc.get(actor.ok.remote()) == "ok"
    with pytest.raises(ValueError, match=r"hpc\.kill"):
        hpc.cancel(ref, force=True)
    hpc.cancel(ref)
    with pytest.raises(TaskCancelledError):
        hpc.get(ref)
    assert hpc.get(actor.ok.remote()) == "ok"


def test_a_worker_survives_that_its_tasks_are_cancelled_anywhere():
    """Tasks that submit, put, get and wait without a pause, cancelled at whatever they are doing."""

    @hpc.remote(num_cpus=0)
    def leaf(x):
        return x

    @hpc.remote(num_cpus=0)
    def busy(mark):
        mark.touch()
        while True:
            refs = [leaf.remote(i) for i in range(20)]
            hpc.wait(refs, num_returns=5)
            assert hpc.get(refs) == list(range(20))
            assert hpc.get(hpc.put(np.arange(1000)))[999] == 999

    for turn in range(60):
        with tempfile.TemporaryDirectory() as folder:
            mark = Path(folder, "mark")
            ref = busy.remote(mark)
            wait_for_file(mark)
            for _ in range(turn * 15):
                hpc.get(hpc.put(0))
            hpc.cancel(ref, recursive=False)
            with pytest.raises(TaskCancelledError):
                hpc.get(ref, timeout=60)
    assert hpc.get([leaf.remote(i) for i in range(200)], timeout=60) == list(range(200))

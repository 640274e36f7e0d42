"""Cancelling what runs, what waits and what has not begun: tasks, calls of all kinds of actors, from any process."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import hpc
from hpc.exceptions import TaskCancelledError, TaskError
from runtime.running import eventually, one_node


@pytest.fixture(autouse=True, scope="module")
def session(no_leaks_of_module: None) -> Iterator[None]:
    with one_node(num_cpus=4):
        yield


def wait_for_file(path: Path) -> None:
    eventually(path.exists)


def cancelled(ref, in_its_code=None):
    """It was; an exception that ended its code is a TaskError too, which says where that was."""
    with pytest.raises(TaskCancelledError) as caught:
        hpc.get(ref, timeout=60)
    if in_its_code is not None:
        assert isinstance(caught.value, TaskError) is in_its_code
        assert (__file__ in str(caught.value)) is in_its_code and "/core/worker/" not in str(caught.value)


def sleeps():
    time.sleep(60)


def locks():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def waits():
    threading.Event().wait(60)


def multiplies():
    matrix = np.ones((200, 200))
    while True:
        matrix @ matrix


def catches():
    while True:
        try:
            time.sleep(60)
        except Exception:
            pass


@pytest.mark.parametrize("code", [sleeps, locks, waits, multiplies, catches])
def test_code_that_waits_computes_or_catches_exceptions_is_ended(tmp_path, code):
    @hpc.remote
    def task(mark):
        mark.touch()
        code()

    ref = task.remote(tmp_path / "begun")
    wait_for_file(tmp_path / "begun")
    hpc.cancel(ref)
    cancelled(ref, in_its_code=True)


def test_a_task_that_catches_it_may_end_in_order(tmp_path):
    @hpc.remote
    def tidy(mark):
        mark.touch()
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            return "tidied up", hpc.get_runtime_context().is_canceled()

    ref = tidy.remote(tmp_path / "begun")
    wait_for_file(tmp_path / "begun")
    hpc.cancel(ref)
    assert hpc.get(ref, timeout=60) == ("tidied up", True)


def test_what_went_on_can_be_cancelled_again_and_by_force(tmp_path):
    @hpc.remote
    def stubborn(folder):
        for turn in range(100):
            try:
                (folder / str(turn)).touch()
                time.sleep(60)
            except KeyboardInterrupt:
                pass

    ref = stubborn.remote(tmp_path)
    for turn in range(3):
        wait_for_file(tmp_path / str(turn))
        hpc.cancel(ref)
    wait_for_file(tmp_path / "3")
    hpc.cancel(ref, force=True)
    cancelled(ref, in_its_code=False)


class Slow:
    """Unpickled slowly."""

    def __reduce__(self):
        return _slowly, (self.begun,)


def _slowly(begun):
    begun.touch()
    eventually(hpc.get_runtime_context().is_canceled)
    return Slow()


def test_a_task_cancelled_while_its_arguments_arrive_never_runs(tmp_path):
    @hpc.remote
    def run(arg, mark):
        mark.touch()

    arg = Slow()
    arg.begun = tmp_path / "begun"
    ref = run.remote(arg, tmp_path / "ran")
    wait_for_file(arg.begun)
    hpc.cancel(ref)
    cancelled(ref)
    assert not (tmp_path / "ran").exists()


def test_what_another_process_submitted_is_cancelled(tmp_path):
    @hpc.remote
    def forever(mark):
        mark.touch()
        time.sleep(60)

    @hpc.remote
    class Holder:
        def begin(self, mark):
            return [forever.remote(mark)]

        def cancel(self, refs, force):
            hpc.cancel(refs[0], force=force)

    holder = Holder.remote()
    [theirs] = hpc.get(holder.begin.remote(tmp_path / "theirs"))
    wait_for_file(tmp_path / "theirs")
    hpc.cancel(theirs)
    cancelled(theirs)
    for force in (False, True):
        mine = forever.remote(tmp_path / f"mine{force}")
        wait_for_file(tmp_path / f"mine{force}")
        hpc.get(holder.cancel.remote([mine], force))
        cancelled(mine)
    slow = Actor.remote()
    call = slow.work.remote(tmp_path / "call", tmp_path / "end")
    wait_for_file(tmp_path / "call")
    with pytest.raises(ValueError, match="kill"):
        hpc.get(holder.cancel.remote([call], True))
    (tmp_path / "end").touch()
    assert hpc.get(call) == "worked"


@hpc.remote(max_restarts=1, max_task_retries=-1)
class Actor:
    def __init__(self):
        self.seen: list[object] = []

    def work(self, mark: Path, end: Path):
        mark.touch()
        is_canceled = hpc.get_runtime_context().is_canceled
        while not (end.exists() or is_canceled()):
            time.sleep(0.005)
        self.seen.append(is_canceled())
        return "worked"

    def wait_for(self, refs, mark: Path):
        mark.touch()
        try:
            return hpc.get(refs[0])
        except KeyboardInterrupt:
            self.seen.append("interrupted")
            raise

    def items(self, mark: Path):
        for i in range(10**9):
            mark.touch()
            yield i

    def what(self):
        seen, self.seen = self.seen, []
        return seen

    def pid(self):
        return os.getpid()


@pytest.mark.parametrize("threads", [1, 3])
def test_a_method_that_computes_sees_a_flag_and_its_value_is_dropped(tmp_path, threads):
    actor = Actor.options(max_concurrency=threads).remote()
    ref = actor.work.remote(tmp_path / "begun", tmp_path / "end")
    wait_for_file(tmp_path / "begun")
    hpc.cancel(ref)
    cancelled(ref, in_its_code=False)
    (tmp_path / "end").touch()
    assert hpc.get(actor.what.remote()) == [True]
    assert hpc.get(actor.work.remote(tmp_path / "begun", tmp_path / "end")) == "worked"
    assert hpc.get(actor.what.remote()) == [False]


@pytest.mark.parametrize("threads", [1, 3])
def test_a_method_that_waits_for_a_reference_is_interrupted_and_its_children_end(tmp_path, threads):
    @hpc.remote
    def forever(mark):
        mark.touch()
        time.sleep(60)

    actor = Actor.options(max_concurrency=threads).remote()
    never = forever.remote(tmp_path / "never")
    ref = actor.wait_for.remote([never], tmp_path / "waits")
    wait_for_file(tmp_path / "waits")
    time.sleep(0.05)
    hpc.cancel(ref)
    cancelled(ref, in_its_code=True)
    assert hpc.get(actor.what.remote()) == ["interrupted"]
    hpc.cancel(never)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_call_that_waits_for_its_turn_never_runs_and_is_told_at_once(tmp_path, threads):
    actor = Actor.options(max_concurrency=threads).remote()
    running = [actor.work.remote(tmp_path / f"begun{i}", tmp_path / "end") for i in range(threads)]
    for i in range(threads):
        wait_for_file(tmp_path / f"begun{i}")
    waiting = actor.work.remote(tmp_path / "ran", tmp_path / "end")
    time.sleep(0.02)
    hpc.cancel(waiting)
    cancelled(waiting, in_its_code=False)
    (tmp_path / "end").touch()
    assert hpc.get(running) == ["worked"] * threads
    assert not (tmp_path / "ran").exists()


def test_a_generator_of_an_actor_ends_with_its_next_item(tmp_path):
    actor = Actor.remote()
    items = actor.items.remote(tmp_path / "begun")
    wait_for_file(tmp_path / "begun")
    hpc.cancel(items)
    with pytest.raises(TaskCancelledError):
        hpc.get(list(items))


def test_a_cancelled_call_does_not_run_again_after_a_restart(tmp_path):
    actor = Actor.remote()
    pid = hpc.get(actor.pid.remote())
    ref = actor.work.remote(tmp_path / "begun", tmp_path / "never")
    wait_for_file(tmp_path / "begun")
    (tmp_path / "begun").unlink()
    hpc.cancel(ref)
    os.kill(pid, signal.SIGKILL)
    cancelled(ref, in_its_code=False)
    assert hpc.get(actor.pid.remote(), timeout=60) != pid
    assert not (tmp_path / "begun").exists()


def test_a_coroutine_cannot_refuse(tmp_path):
    @hpc.remote
    class Coroutines:
        def __init__(self):
            self.seen = []

        async def refuse(self, mark):
            mark.touch()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.seen.append(hpc.get_runtime_context().is_canceled())
                return "nevertheless"

        async def obey(self, mark):
            mark.touch()
            await asyncio.Event().wait()

        async def what(self):
            return self.seen

    actor = Coroutines.remote()
    ref = actor.refuse.remote(tmp_path / "begun")
    wait_for_file(tmp_path / "begun")
    hpc.cancel(ref)
    cancelled(ref)
    assert hpc.get(actor.what.remote()) == [True]
    ref = actor.obey.remote(tmp_path / "again")
    wait_for_file(tmp_path / "again")
    hpc.cancel(ref)
    cancelled(ref, in_its_code=True)


def test_cancelling_an_item_cancels_its_generator():
    @hpc.remote
    def endless():
        i = 0
        while True:
            time.sleep(0.001)
            yield (i := i + 1)

    items = endless.remote()
    first = next(items)
    hpc.cancel(first)
    with pytest.raises(TaskCancelledError):
        hpc.get(list(items))
    assert hpc.get(first) == 1


def test_is_canceled_is_no_question_for_a_driver():
    with pytest.raises(RuntimeError, match="tasks and actors"):
        hpc.get_runtime_context().is_canceled()
    with pytest.raises(TypeError, match=r"hpc\.kill"):
        hpc.cancel(3)

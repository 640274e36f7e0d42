"""Calls that travel together are calls like any others for the program that makes them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import hpc
from runtime.running import one_node


@pytest.fixture(scope="module")
def session():
    with one_node():
        yield


@hpc.remote
class Worker:
    def __init__(self) -> None:
        self.seen: list[int] = []

    def note(self, number: int) -> int:
        self.seen.append(number)
        return number

    def all(self) -> list[int]:
        return self.seen

    def mixed(self, number: int) -> object:
        if number % 7 == 3:
            raise ValueError(number)
        if number % 7 == 5:
            return bytes(200_000)
        if number % 7 == 6:
            return [hpc.put(number)]
        return number

    def wait_for(self, gate: str) -> str:
        while not os.path.exists(gate):
            time.sleep(0.005)
        return "open"

    def my_task(self) -> str:
        return hpc.get_runtime_context().get_task_id()

    def end(self, number: int) -> int:
        if number == 30:
            os._exit(1)
        return number


def test_many_calls_run_in_order_whatever_each_ends_with(session):
    worker = Worker.remote()
    refs = [worker.mixed.remote(k) for k in range(300)]
    for number, ref in enumerate(refs):
        if number % 7 == 3:
            with pytest.raises(ValueError, match=str(number)):
                hpc.get(ref)
        elif number % 7 == 5:
            assert hpc.get(ref) == bytes(200_000)
        elif number % 7 == 6:
            assert hpc.get(hpc.get(ref)[0]) == number
        else:
            assert hpc.get(ref) == number
    hpc.get([worker.note.remote(k) for k in range(500)])
    assert hpc.get(worker.all.remote()) == list(range(500))


def test_an_answer_does_not_wait_for_the_calls_behind_it(session, tmp_path: Path):
    worker, gate = Worker.remote(), tmp_path / "gate"
    hpc.get(worker.note.remote(0))
    busy = worker.wait_for.remote(str(tmp_path))  # so that the next ones go as one run
    calls = [worker.wait_for.remote(str(tmp_path)), worker.wait_for.remote(str(gate))]
    try:
        assert hpc.get([busy, calls[0]], timeout=60) == ["open", "open"]
    finally:
        gate.touch()
    assert hpc.get(calls[1]) == "open"


def test_a_call_that_waits_behind_others_can_be_cancelled(session, tmp_path: Path):
    worker, gate = Worker.remote(), tmp_path / "gate"
    hpc.get(worker.note.remote(-1))
    waiting = worker.wait_for.remote(str(gate))
    notes = [worker.note.remote(k) for k in range(50)]
    hpc.cancel(notes[20])
    with pytest.raises(hpc.exceptions.TaskCancelledError):
        hpc.get(notes[20], timeout=60)
    gate.touch()
    assert hpc.get(waiting) == "open"
    assert hpc.get(notes[:20] + notes[21:]) == [*range(20), *range(21, 50)]
    assert 20 not in hpc.get(worker.all.remote())


def test_each_call_has_its_own_context(session):
    worker = Worker.remote()
    hpc.get(worker.note.remote(0))
    refs = [worker.my_task.remote() for _ in range(100)]
    assert hpc.get(refs) == [ref.task_id().hex() for ref in refs]


def test_calls_that_an_actor_has_not_finished_when_it_ends_fail_and_the_others_do_not(session):
    worker = Worker.remote()
    hpc.get(worker.note.remote(0))
    refs = [worker.end.remote(k) for k in range(60)]
    with pytest.raises(hpc.exceptions.ActorDiedError):
        hpc.get(refs[30], timeout=30)
    for ref in refs[31:]:
        with pytest.raises(hpc.exceptions.ActorDiedError):
            hpc.get(ref, timeout=30)


def test_calls_are_made_again_where_the_actor_is_restarted(session, tmp_path: Path):
    @hpc.remote(max_restarts=1, max_task_retries=1)
    class Once:
        def step(self, number: int) -> int:
            if number == 30 and not (tmp_path / "ended").exists():
                (tmp_path / "ended").touch()
                os._exit(1)
            return number

    once = Once.remote()
    assert hpc.get(once.step.remote(-1)) == -1
    assert hpc.get([once.step.remote(k) for k in range(100)], timeout=60) == list(range(100))

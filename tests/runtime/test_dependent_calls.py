"""Calls of an actor that use what earlier calls of it gave, while those are tried again or the actor dies."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import hpc
from hpc.exceptions import ActorDiedError, ActorError, ActorUnavailableError
from runtime.running import eventually, one_node


@pytest.fixture(scope="module", autouse=True)
def session():
    with one_node(num_cpus=2):
        yield


class Flaky(Exception):
    pass


@hpc.remote(max_restarts=-1, max_task_retries=-1)
class Box:
    def __init__(self):
        self.tries = 0

    @hpc.method(max_task_retries=2, retry_exceptions=[Flaky])
    def make(self, times):
        self.tries += 1
        if self.tries <= times:
            raise Flaky("not yet")
        return 10

    def use(self, value):
        return value + 1

    def pid(self):
        return os.getpid()

    def make_at(self, gate: Path):
        eventually(gate.exists, 60.0)
        return 10


@hpc.remote
class Mortal:
    def pid(self):
        return os.getpid()

    def make_at(self, gate: Path):
        eventually(gate.exists, 60.0)
        return 10

    def use(self, value):
        return value + 1


@pytest.mark.parametrize("times", [1, 2])
def test_a_call_gets_the_value_of_an_earlier_one_that_is_tried_again(times):
    box = Box.remote()
    made = box.make.remote(times)
    used = made
    for _ in range(3):
        used = box.use.remote(used)
    assert hpc.get([made, used], timeout=30) == [10, 13]


def test_an_actor_lives_on_when_a_call_fails_and_with_it_the_one_that_would_have_used_its_value():
    box = Box.remote()
    used = box.use.remote(box.make.remote(5))
    with pytest.raises(Flaky):
        hpc.get(used, timeout=30)
    assert hpc.get(box.use.remote(1), timeout=30) == 2


def test_calls_that_use_one_another_run_again_in_the_actors_next_life(tmp_path):
    box = Box.remote()
    pid = hpc.get(box.pid.remote())
    made = box.make_at.remote(tmp_path / "gate")
    used = [made]
    for _ in range(3):
        used.append(box.use.remote(used[-1]))
    os.kill(pid, signal.SIGKILL)
    (tmp_path / "gate").touch()
    assert hpc.get(used, timeout=30) == [10, 11, 12, 13]


def test_calls_that_use_one_another_all_end_with_the_death_of_their_actor(tmp_path):
    mortal = Mortal.remote()
    pid = hpc.get(mortal.pid.remote())
    refs = [mortal.make_at.remote(tmp_path / "never")]
    for _ in range(3):
        refs.append(mortal.use.remote(refs[-1]))
    os.kill(pid, signal.SIGKILL)
    for ref in refs:
        with pytest.raises(ActorDiedError):
            hpc.get(ref, timeout=30)
    with pytest.raises(ActorDiedError):
        hpc.get(mortal.use.remote(1), timeout=30)


def test_a_call_that_may_have_begun_fails_at_a_restart_and_so_does_what_uses_it_and_nothing_else(tmp_path):
    actor = Mortal.options(max_restarts=1, max_task_retries=0).remote()
    pid = hpc.get(actor.pid.remote())
    made = actor.make_at.remote(tmp_path / "never")
    used = actor.use.remote(made)
    os.kill(pid, signal.SIGKILL)
    for ref in (made, used):
        with pytest.raises((ActorUnavailableError, ActorError)):
            hpc.get(ref, timeout=30)
    assert eventually(lambda: _answer(actor)) == 2


def _answer(actor):
    try:
        return hpc.get(actor.use.remote(1), timeout=60)
    except ActorError:
        return None

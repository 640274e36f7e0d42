"""The head owns detached actors: it may be killed at any time, and they live on."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

import hpc
from runtime.running import Heads, eventually, kill9, local_nodes, on


@hpc.remote
class Slow:
    """Its constructor and its methods wait for files, and every start leaves a line."""

    def __init__(self, folder, array=None):
        self.folder = folder
        self.array = array
        self.calls = 0
        with open(folder / "starts", "a") as file:
            file.write(f"{os.getpid()}\n")
        while not (folder / "go").exists():
            time.sleep(0.005)

    def call(self):
        self.calls += 1
        return self.calls

    def size(self):
        return self.array.size

    def pid(self):
        return os.getpid()

    def leave(self):
        hpc.actor.exit_actor()


def starts(folder) -> list[int]:
    path = folder / "starts"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


@pytest.fixture
def heads():  # a head may be started again so many times a minute: one session for each test
    with local_nodes(2, num_cpus=4) as session:
        yield Heads(session)


def test_a_head_that_is_killed_while_an_actor_is_made_makes_it_once(heads, tmp_path):
    actor = Slow.options(name="made", lifetime="detached", scheduling_strategy=on(2)).remote(tmp_path)
    first = actor.call.remote()
    eventually(lambda: starts(tmp_path))
    heads.kill()
    (tmp_path / "go").touch()
    assert hpc.get(first, timeout=60) == 1
    assert hpc.get(hpc.get_actor("made").call.remote(), timeout=60) == 2
    assert len(starts(tmp_path)) == 1
    hpc.kill(actor)


def test_the_constructor_ends_while_there_is_no_head(heads, tmp_path):
    actor = Slow.options(lifetime="detached").remote(tmp_path)
    first = actor.call.remote()
    eventually(lambda: starts(tmp_path))
    heads.kill(wait=False)
    (tmp_path / "go").touch()
    assert hpc.get(first, timeout=60) == 1
    assert len(starts(tmp_path)) == 1
    hpc.kill(actor)


def test_an_actor_that_waits_for_room_gets_it_from_the_next_head(heads, tmp_path):
    (tmp_path / "go").touch()
    holders = [Slow.options(num_cpus=4, scheduling_strategy=on(n)).remote(tmp_path) for n in (1, 2)]
    hpc.get([holder.pid.remote() for holder in holders])
    actor = Slow.options(lifetime="detached", num_cpus=3).remote(tmp_path)
    call = actor.call.remote()
    heads.kill()
    assert not hpc.wait([call], timeout=0.3)[0]
    del holders
    assert hpc.get(call, timeout=60) == 1
    hpc.kill(actor)


def test_it_restarts_with_its_arguments_after_the_head_was_killed(heads, tmp_path):
    (tmp_path / "go").touch()
    array = hpc.put(np.ones(100_000))
    actor = Slow.options(lifetime="detached", max_restarts=2, max_task_retries=-1).remote(tmp_path, array)
    del array
    assert hpc.get(actor.size.remote()) == 100_000
    heads.kill()
    kill9(hpc.get(actor.pid.remote(), timeout=60))
    assert hpc.get(actor.size.remote(), timeout=60) == 100_000
    heads.kill(wait=False)
    kill9(starts(tmp_path)[-1])
    assert hpc.get(actor.size.remote(), timeout=60) == 100_000
    eventually(lambda: len(starts(tmp_path)) == 3)
    kill9(starts(tmp_path)[-1])
    with pytest.raises(hpc.exceptions.ActorDiedError):
        hpc.get(actor.size.remote(), timeout=60)


def test_one_that_leaves_while_there_is_no_head_is_not_restarted(heads, tmp_path):
    (tmp_path / "go").touch()
    actor = Slow.options(name="leaves", lifetime="detached", max_restarts=-1).remote(tmp_path)
    assert hpc.get(actor.call.remote()) == 1
    heads.kill(wait=False)
    with pytest.raises(hpc.exceptions.ActorDiedError):
        hpc.get(actor.leave.remote(), timeout=60)

    def is_free():
        try:
            hpc.get_actor("leaves")
        except ValueError:
            return True
        return False

    eventually(is_free)
    assert len(starts(tmp_path)) == 1


def test_what_the_dead_head_had_asked_for_is_given_back(heads, tmp_path):
    eventually(lambda: hpc.available_resources().get("CPU") == 8)
    (tmp_path / "go").touch()
    actors = [Slow.options(lifetime="detached", num_cpus=1).remote(tmp_path) for _ in range(6)]
    heads.kill(wait=False)
    assert hpc.get([actor.call.remote() for actor in actors], timeout=30) == [1] * 6
    assert len(starts(tmp_path)) >= 6
    for actor in actors:
        hpc.kill(actor)
    eventually(lambda: hpc.available_resources().get("CPU") == 8)

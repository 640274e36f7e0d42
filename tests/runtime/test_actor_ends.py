"""How an actor ends by its own will: exit_actor(), wherever it is called, and what is called on the way."""

from __future__ import annotations

import asyncio
import atexit
import threading

import pytest

import hpc
from hpc.actor import exit_actor
from hpc.exceptions import ActorDiedError, TaskError
from runtime.running import eventually, one_node, settle


@pytest.fixture(autouse=True, scope="module")
def session(no_leaks_of_module):
    with one_node(num_cpus=4):
        yield


@pytest.fixture(autouse=True)
def nothing_stays(no_leaks):
    yield
    settle()


@hpc.remote
class Closes:
    def __init__(self, path):
        self.path = path

    def ready(self):
        return True

    def leave(self):
        exit_actor()

    def __ray_shutdown__(self):
        self.path.write_text("closed")


def test_exit_actor_in_a_constructor_runs_atexit_and_calls_say_that_the_actor_died(tmp_path):
    mark = tmp_path / "atexit"

    @hpc.remote
    class Leaves:
        def __init__(self):
            atexit.register(mark.write_text, "called")
            exit_actor()

        def ping(self):
            return "pong"

    with pytest.raises(ActorDiedError, match="exit_actor"):
        hpc.get(Leaves.remote().ping.remote(), timeout=60)
    eventually(mark.exists)


def test_exit_actor_in_a_task_of_the_actors_own_making_ends_it():
    @hpc.remote
    class Leaves:
        async def begin(self):
            self.task = asyncio.create_task(self.later())

        async def later(self):
            exit_actor()

        async def wait(self):
            await asyncio.sleep(3600)

    actor = Leaves.remote()
    hpc.get(actor.begin.remote())
    eventually(lambda: _is_dead(actor.begin))


def _is_dead(method):
    try:
        hpc.get(method.remote(), timeout=60)
    except ActorDiedError:
        return True
    return False


def test_exit_actor_that_is_caught_ends_the_actor_all_the_same():
    @hpc.remote
    class Catches:
        def leave(self):
            try:
                exit_actor()
            except SystemExit:
                return "caught"

        def ping(self):
            return "pong"

    actor = Catches.remote()
    assert hpc.get(actor.leave.remote()) == "caught"
    with pytest.raises(ActorDiedError):
        hpc.get(actor.ping.remote(), timeout=60)


@pytest.mark.parametrize("kind", ["threads", "coroutines"])
def test_calls_that_run_end_before_the_actor_does(kind):
    @hpc.remote(max_concurrency=4)
    class Threads:
        def __init__(self):
            self.left = threading.Event()
            self.begun = threading.Event()

        def run(self):
            self.begun.set()
            self.left.wait(60)
            return "ended"

        def leave(self):
            self.begun.wait(60)
            threading.Timer(0.1, self.left.set).start()
            exit_actor()

    @hpc.remote
    class Coroutines:
        async def run(self):
            self.left = asyncio.Event()
            await self.left.wait()
            return "ended"

        async def leave(self):
            asyncio.get_running_loop().call_later(0.1, self.left.set)
            exit_actor()

    actor = (Threads if kind == "threads" else Coroutines).remote()
    run, leave = actor.run.remote(), actor.leave.remote()
    with pytest.raises(ActorDiedError):
        hpc.get(leave, timeout=60)
    assert hpc.get(run, timeout=60) == "ended"
    with pytest.raises(ActorDiedError):
        hpc.get(actor.run.remote(), timeout=60)


def test_exit_actor_outside_of_an_actor_is_a_type_error():
    @hpc.remote
    def task():
        exit_actor()

    with pytest.raises(TypeError, match="hosts none"):
        exit_actor()
    with pytest.raises(TypeError) as caught:
        hpc.get(task.remote())
    assert isinstance(caught.value, TaskError)


@pytest.mark.parametrize("way", ["last handle", "terminate", "exit_actor"])
def test_an_actor_that_ends_in_peace_is_shut_down_by_its_own_method(tmp_path, way):
    path = tmp_path / "closed"
    actor = Closes.remote(path)
    hpc.get(actor.ready.remote())
    if way == "terminate":
        actor.__ray_terminate__.remote()
    elif way == "exit_actor":
        actor.leave.remote()
    else:
        del actor
    eventually(path.exists)


def test_kill_does_not_call_the_shutdown_method(tmp_path):
    actor = Closes.remote(tmp_path / "closed")
    hpc.get(actor.ready.remote())
    hpc.kill(actor)
    assert eventually(lambda: _is_dead(actor.ready))
    assert not (tmp_path / "closed").exists()

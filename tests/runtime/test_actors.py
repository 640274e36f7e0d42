"""What actors promise, on one node."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import threading
import time

import pytest

import hpc
from hpc.actor import exit_actor
from hpc.exceptions import ActorDiedError, ActorError, GetTimeoutError, WorkerCrashedError
from runtime.running import eventually, one_node, settle


@pytest.fixture(autouse=True, scope="module")
def session(no_leaks_of_module):
    with one_node():
        yield


@pytest.fixture(autouse=True)
def nothing_stays(no_leaks):
    yield
    settle()


@hpc.remote
class Counter:
    def __init__(self, start=0):
        self.value = start

    def add(self, amount=1):
        self.value += amount
        return self.value

    def pid(self):
        return os.getpid()

    def crash(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def leave(self):
        exit_actor()

    def fail(self):
        raise ValueError("an actor lives on after this")

    @hpc.method(num_returns=2)
    def two(self):
        return 1, 2


def test_calls_of_one_caller_run_in_order():
    counter = Counter.remote(10)
    assert hpc.get([counter.add.remote() for _ in range(500)]) == list(range(11, 511))


def test_order_holds_when_arguments_are_not_ready_yet():
    @hpc.remote
    def slow(value):
        time.sleep(0.2)
        return value

    @hpc.remote
    class Log:
        def __init__(self):
            self.seen = []

        def note(self, value):
            self.seen.append(value)
            return list(self.seen)

    log = Log.remote()
    log.note.remote(slow.remote("first"))
    assert hpc.get(log.note.remote("second")) == ["first", "second"]


def test_a_call_whose_argument_failed_does_not_hold_up_the_next():
    @hpc.remote
    def fails():
        raise RuntimeError("no argument")

    counter = Counter.remote()
    failed = counter.add.remote(fails.remote())
    assert hpc.get(counter.add.remote(5), timeout=60) == 5
    with pytest.raises(RuntimeError, match="no argument"):
        hpc.get(failed)


def test_an_exception_leaves_the_actor_alive():
    counter = Counter.remote()
    with pytest.raises(ValueError, match="lives on"):
        hpc.get(counter.fail.remote())
    assert hpc.get(counter.add.remote()) == 1


def test_several_return_values_of_a_method():
    counter = Counter.remote()
    assert hpc.get(counter.two.remote()) == [1, 2]


def test_a_crashed_actor_fails_its_calls_and_says_how():
    counter = Counter.remote()
    hpc.get(counter.add.remote())
    with pytest.raises(ActorDiedError, match="SIGKILL"):
        hpc.get(counter.crash.remote())
    with pytest.raises(ActorDiedError):
        hpc.get(counter.add.remote())


def test_a_constructor_that_raises_is_the_cause_of_every_call():
    @hpc.remote
    class Broken:
        def __init__(self):
            raise OSError("no such device")

        def method(self):
            return 1

    broken = Broken.remote()
    for _ in range(2):
        with pytest.raises(ActorDiedError, match="no such device") as caught:
            hpc.get(broken.method.remote())
        assert caught.value.actor_init_failed
        assert isinstance(caught.value.cause, OSError)
        assert isinstance(caught.value, ActorError)
        again = pickle.loads(pickle.dumps(caught.value))
        assert again.actor_init_failed
        assert again.actor_id == caught.value.actor_id
        assert again.actor_id


def test_an_argument_of_a_constructor_that_failed_is_the_cause_of_every_call():
    @hpc.remote(max_retries=0)
    def crash():
        os._exit(1)

    @hpc.remote
    def fail():
        raise ValueError("bad argument")

    @hpc.remote
    class Takes:
        def __init__(self, value):
            pass

        def method(self):
            return 1

    for argument, cause, text in (
        (fail, ValueError, "bad argument"),
        (crash, WorkerCrashedError, "exited with code 1"),
    ):
        with pytest.raises(ActorDiedError, match=text) as caught:
            hpc.get(Takes.remote(argument.remote()).method.remote())
        assert caught.value.actor_init_failed
        assert isinstance(caught.value.cause, cause)


def test_kill_ends_an_actor_and_its_process():
    counter = Counter.remote()
    pid = hpc.get(counter.pid.remote())
    hpc.kill(counter)
    with pytest.raises(ActorDiedError, match="killed"):
        hpc.get(counter.add.remote())
    eventually(lambda: not os.path.exists(f"/proc/{pid}"))


def test_exit_actor_ends_it_by_intention():
    counter = Counter.options(max_restarts=5).remote()
    with pytest.raises(ActorDiedError):
        hpc.get(counter.leave.remote())
    with pytest.raises(ActorDiedError):
        hpc.get(counter.add.remote())


def test_an_actor_ends_with_its_last_handle():
    counter = Counter.remote()
    pid = hpc.get(counter.pid.remote())
    del counter
    eventually(lambda: not os.path.exists(f"/proc/{pid}"))


def test_calls_made_before_the_last_handle_went_are_run(tmp_path):
    @hpc.remote
    class Writer:
        def write(self, path):
            time.sleep(0.1)
            with open(path, "w") as file:
                file.write("done")

    ref = Writer.remote().write.remote(str(tmp_path / "out"))
    hpc.get(ref)
    assert (tmp_path / "out").read_text() == "done"


def test_restarts_and_retried_calls():
    @hpc.remote(max_restarts=1, max_task_retries=1)
    class Phoenix:
        def __init__(self):
            self.calls = 0

        def again(self):
            return hpc.get_runtime_context().was_current_actor_reconstructed

        def crash_once(self):
            if not hpc.get_runtime_context().was_current_actor_reconstructed:
                os.kill(os.getpid(), signal.SIGKILL)
            return "second life"

    phoenix = Phoenix.remote()
    assert hpc.get(phoenix.again.remote()) is False
    assert hpc.get(phoenix.crash_once.remote()) == "second life"
    assert hpc.get(phoenix.again.remote()) is True


def test_names():
    counter = Counter.options(name="shared").remote(100)
    assert hpc.get(hpc.get_actor("shared").add.remote()) == 101
    with pytest.raises(ValueError, match="taken"):
        Counter.options(name="shared").remote()
    same = Counter.options(name="shared", get_if_exists=True).remote()
    assert hpc.get(same.add.remote()) == 102
    with pytest.raises(ValueError, match="no actor named"):
        hpc.get_actor("nobody")
    del same
    hpc.kill(counter)

    def free():
        try:
            hpc.get_actor("shared")
        except ValueError:
            return True
        return False

    eventually(free)
    assert hpc.get(Counter.options(name="shared").remote(1).add.remote()) == 2


def test_handles_can_be_passed_to_tasks_and_other_actors():
    @hpc.remote
    def bump(counter, times):
        return hpc.get([counter.add.remote() for _ in range(times)])[-1]

    @hpc.remote
    class Holder:
        def keep(self, counter):
            self.counter = counter

        def bump(self):
            return hpc.get(self.counter.add.remote())

    counter = Counter.remote()
    assert hpc.get(bump.remote(counter, 5)) == 5
    holder = Holder.remote()
    hpc.get(holder.keep.remote(counter))
    del counter
    assert hpc.get(holder.bump.remote()) == 6


def test_coroutine_methods_interleave():
    @hpc.remote
    class Meeting:
        def __init__(self):
            self.event = asyncio.Event()

        async def wait(self):
            await self.event.wait()
            return "met"

        async def arrive(self):
            self.event.set()

    meeting = Meeting.remote()
    waiting = meeting.wait.remote()
    with pytest.raises(GetTimeoutError):
        hpc.get(waiting, timeout=0.1)
    hpc.get(meeting.arrive.remote())
    assert hpc.get(waiting, timeout=60) == "met"


def test_threads_run_calls_at_the_same_time():
    @hpc.remote(max_concurrency=2)
    class Pair:
        def __init__(self):
            self.barrier = threading.Barrier(2)

        def meet(self):
            return self.barrier.wait(timeout=60) >= 0

    pair = Pair.remote()
    assert hpc.get([pair.meet.remote(), pair.meet.remote()], timeout=60) == [True, True]


def test_inheritance_and_unknown_methods():
    class Base:
        def hello(self):
            return "base"

    @hpc.remote
    class Child(Base):
        def own(self):
            return super().hello() + " and child"

    child = Child.remote()
    assert hpc.get([child.hello.remote(), child.own.remote()]) == ["base", "base and child"]
    with pytest.raises(AttributeError, match="no method"):
        child.nothing.remote()
    with pytest.raises(TypeError, match=r"\.remote\(\)"):
        Child()


def test_an_actor_without_resources_left_waits_and_then_comes():
    big = Counter.options(num_cpus=2).remote()
    hpc.get(big.add.remote())
    second = Counter.options(num_cpus=2).remote()
    ref = second.add.remote()
    assert hpc.wait([ref], timeout=0.3)[0] == []
    hpc.kill(big)
    assert hpc.get(ref, timeout=60) == 1


def test_built_in_methods():
    counter = Counter.remote(3)
    assert hpc.get(counter.__ray_ready__.remote()) is True
    assert hpc.get(counter.__ray_call__.remote(lambda self, k: self.value * k, 2)) == 6

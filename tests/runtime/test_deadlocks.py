"""A method of an actor that waits for a call to the same actor: an error where that cannot end, and none elsewhere."""

from __future__ import annotations

import asyncio
import threading

import pytest

import hpc
from hpc.exceptions import ActorDiedError, DeadlockError, GetTimeoutError, TaskCancelledError
from runtime.running import one_node


@pytest.fixture(autouse=True, scope="module")
def session(no_leaks_of_module):
    with one_node(num_cpus=2):
        yield


def me():
    return hpc.get_runtime_context().current_actor


@hpc.remote(num_cpus=0.1)
def add_one(x):
    return x + 1


@hpc.remote(num_cpus=0)
class Plain:
    def __init__(self, asks=False):
        if asks:
            hpc.get(me().one.remote())

    def one(self):
        return 1

    def add(self, x):
        return x + 1

    def items(self):
        yield 1

    def alone(self):
        return hpc.get(me().one.remote())

    def among_others(self):
        return hpc.get([add_one.remote(1), me().one.remote()])

    def through_tasks(self):
        ref = me().one.remote()
        for _ in range(200):
            ref = add_one.remote(ref)
        return hpc.get(ref)

    def with_an_argument_that_comes(self):
        return hpc.get(me().add.remote(add_one.remote(1)))

    def with_an_argument_that_fails(self):
        return hpc.get(me().add.remote(add_one.remote("")))

    def a_generator(self):
        return [hpc.get(ref) for ref in me().items.options(num_returns="streaming").remote()]

    def wait(self, num_returns, timeout=None):
        ready, _ = hpc.wait([add_one.remote(1), me().one.remote()], num_returns=num_returns, timeout=timeout)
        return len(ready)

    def with_a_timeout(self):
        try:
            hpc.get(me().one.remote(), timeout=0.1)
        except GetTimeoutError:
            return "too late"

    def cancels(self):
        ref = me().one.remote()
        hpc.cancel(ref)
        hpc.get(ref)

    def goes_on_after(self):
        try:
            self.alone()
        except RuntimeError:
            return "handled"

    def submit(self):
        self.refs = [me().one.remote() for _ in range(3)]

    def have_run(self):
        return len(hpc.wait(self.refs, num_returns=len(self.refs), timeout=0)[0])

    def use(self):
        return sum(hpc.get(self.refs))

    def take(self, box):
        while not (found := hpc.get(box.look.remote())):
            pass
        return hpc.get(found[0])

    def begin_thread(self):
        self.got = []
        ref = me().one.remote()
        threading.Thread(target=lambda: self.got.append(hpc.get(ref))).start()

    def what_it_got(self):
        return self.got


@hpc.remote(num_cpus=0, concurrency_groups={"single": 1, "several": 2})
class Grouped:
    def other(self):
        return 1

    @hpc.method(concurrency_group="single")
    def single(self):
        return 1

    @hpc.method(concurrency_group="single")
    def own_group(self):
        return hpc.get(me().single.remote())

    @hpc.method(concurrency_group="several")
    def from_another_group(self):
        return hpc.get(me().single.remote())

    def default_group(self):
        return hpc.get(me().other.remote())


@hpc.remote(num_cpus=0)
class Coroutines:
    def __init__(self, asks=False):
        if asks:
            hpc.get(me().one.remote())

    async def one(self):
        return 1

    async def slow(self):
        await asyncio.sleep(30)

    async def blocks(self):
        return hpc.get(me().one.remote())

    def method_blocks(self):
        return hpc.get(me().one.remote())

    async def blocks_on_a_running_one(self):
        ref = me().slow.remote()
        await asyncio.sleep(0.05)
        return hpc.get(ref)

    async def awaits(self):
        return await me().one.remote()

    async def on_a_thread(self):
        return await asyncio.to_thread(hpc.get, me().one.remote())

    async def finished_before(self):
        refs = [me().one.remote() for _ in range(20)]
        await asyncio.wait([asyncio.ensure_future(ref) for ref in refs])
        return sum(hpc.get(refs))

    async def just_finished(self):
        ref = me().one.remote()
        for _ in range(50):  # at some turn of the loop it has run, and its reply is still on the way
            await asyncio.sleep(0)
            try:
                return hpc.get(ref)
            except DeadlockError:
                pass
        return await ref

    async def another(self):
        return hpc.get(add_one.remote(1))


@pytest.mark.parametrize(
    "method",
    ["alone", "among_others", "through_tasks", "with_an_argument_that_comes", "a_generator"],
)
def test_a_method_cannot_wait_for_a_call_that_comes_after_it(method):
    actor = Plain.remote()
    with pytest.raises(DeadlockError, match=r"Plain\.\w+\(\) to this same actor.*max_concurrency"):
        hpc.get(getattr(actor, method).remote(), timeout=60)
    assert hpc.get(actor.one.remote(), timeout=60) == 1


def test_with_several_threads_it_can():
    actor = Plain.options(max_concurrency=2).remote()
    for method, value in (("alone", 1), ("among_others", [2, 1]), ("through_tasks", 201), ("a_generator", [1])):
        assert hpc.get(getattr(actor, method).remote(), timeout=30) == value


def test_waits_that_can_end_are_no_error():
    actor = Plain.remote()
    assert hpc.get(actor.wait.remote(1), timeout=60) == 1
    assert hpc.get(actor.wait.remote(2, timeout=0.1), timeout=60) <= 1
    assert hpc.get(actor.with_a_timeout.remote(), timeout=60) == "too late"
    with pytest.raises(TypeError):
        hpc.get(actor.with_an_argument_that_fails.remote(), timeout=60)
    with pytest.raises(TaskCancelledError):
        hpc.get(actor.cancels.remote(), timeout=60)
    hpc.get(actor.submit.remote(), timeout=60)
    while hpc.get(actor.have_run.remote(), timeout=60) < 3:
        pass
    assert hpc.get(actor.use.remote(), timeout=60) == 3
    hpc.get(actor.begin_thread.remote(), timeout=60)
    while not (got := hpc.get(actor.what_it_got.remote(), timeout=60)):
        pass
    assert got == [1]


def test_a_wait_for_more_than_can_come_is_an_error_that_can_be_handled():
    actor = Plain.remote()
    with pytest.raises(DeadlockError):
        hpc.get(actor.wait.remote(2), timeout=60)
    assert hpc.get(actor.goes_on_after.remote(), timeout=60) == "handled"


@hpc.remote(num_cpus=0)
class Box:
    def __init__(self):
        self.refs = []

    def put(self, refs):
        self.refs = refs

    def look(self):
        return self.refs


def test_a_method_cannot_wait_for_a_later_call_of_somebody_else():
    box, actor = Box.remote(), Plain.remote()
    taken, later = actor.take.remote(box), actor.one.remote()
    box.put.remote([later])
    with pytest.raises(DeadlockError, match=r"Plain\.one\(\)"):
        hpc.get(taken, timeout=60)
    assert hpc.get(later, timeout=60) == 1
    threads = Plain.options(max_concurrency=2).remote()
    assert hpc.get(threads.take.remote(box), timeout=60) == 1
    assert hpc.get(actor.take.remote(box), timeout=60) == 1


@pytest.mark.parametrize("make", [Plain.remote, Plain.options(max_concurrency=3).remote, Coroutines.remote])
def test_a_constructor_cannot_wait_for_a_call_to_its_own_actor(make):
    with pytest.raises(ActorDiedError, match="once its constructor has returned"):
        hpc.get(make(True).one.remote(), timeout=60)


def test_concurrency_groups_wait_for_others_only():
    actor = Grouped.remote()
    assert hpc.get(actor.from_another_group.remote(), timeout=60) == 1
    for method in ("own_group", "default_group"):
        with pytest.raises(DeadlockError):
            hpc.get(getattr(actor, method).remote(), timeout=60)


@pytest.mark.parametrize("method", ["blocks", "method_blocks", "blocks_on_a_running_one"])
def test_a_coroutine_cannot_block_for_one_on_its_own_loop(method):
    actor = Coroutines.remote()
    with pytest.raises(DeadlockError, match="`await ref`"):
        hpc.get(getattr(actor, method).remote(), timeout=60)
    assert hpc.get(actor.awaits.remote(), timeout=60) == 1


def test_what_has_run_or_runs_elsewhere_can_be_waited_for():
    actor = Coroutines.remote()
    assert hpc.get(actor.on_a_thread.remote(), timeout=60) == 1
    assert hpc.get(actor.finished_before.remote(), timeout=60) == 20
    assert hpc.get([actor.just_finished.remote() for _ in range(20)], timeout=30) == [1] * 20
    assert hpc.get(actor.another.remote(), timeout=60) == 2

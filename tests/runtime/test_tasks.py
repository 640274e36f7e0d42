"""What tasks promise, on one node."""

from __future__ import annotations

import itertools
import os
import signal
import time

import numpy as np
import pytest

import hpc
from hpc.exceptions import GetTimeoutError, TaskCancelledError, TaskError, WorkerCrashedError
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
def echo(*args, **kwargs):
    return args, kwargs


@hpc.remote
def sleep_then(seconds, value):
    time.sleep(seconds)
    return value


def test_arguments_and_results_of_all_kinds():
    assert hpc.get(echo.remote(1, "a", b=None)) == ((1, "a"), {"b": None})
    array = np.arange(100_000)
    (got, text), _ = hpc.get(echo.remote(array, "x" * 300_000))
    assert (got == array).all()
    assert len(text) == 300_000


def test_references_are_resolved_at_the_top_and_passed_through_when_nested():
    ref = hpc.put(41)
    args, kwargs = hpc.get(echo.remote(ref, [ref], key=ref))
    assert args[0] == 41
    assert kwargs == {"key": 41}
    assert isinstance(args[1][0], hpc.ObjectRef)
    assert hpc.get(args[1][0]) == 41


def test_tasks_wait_for_the_tasks_that_they_depend_on():
    slow = sleep_then.remote(0.2, 5)
    assert hpc.get(echo.remote(slow)) == ((5,), {})


def test_several_return_values():
    @hpc.remote(num_returns=3)
    def three():
        return 1, 2, 3

    assert hpc.get(list(three.remote())) == [1, 2, 3]
    assert three.options(num_returns=0).remote() is None
    with pytest.raises(ValueError, match="returned 3 values"):
        hpc.get(three.options(num_returns=2).remote())


def test_nested_tasks_and_recursion_do_not_deadlock_on_two_cpus():
    @hpc.remote
    def fib(n):
        return n if n < 2 else sum(hpc.get([fib.remote(n - 1), fib.remote(n - 2)]))

    assert hpc.get(fib.remote(7), timeout=60) == 13


def test_an_exception_is_an_instance_of_its_own_class_and_shows_the_remote_traceback():
    @hpc.remote
    def fails():
        raise KeyError("not there")

    with pytest.raises(KeyError) as caught:
        hpc.get(fails.remote())
    assert isinstance(caught.value, TaskError)
    assert 'raise KeyError("not there")' in str(caught.value)
    # whoever depends on it fails alike
    with pytest.raises(KeyError):
        hpc.get(echo.remote(fails.remote()))


def test_exceptions_are_retried_when_asked_for(tmp_path):
    @hpc.remote(max_retries=3, retry_exceptions=[OSError])
    def flaky(path):
        with open(path, "a") as file:
            file.write("x")
        if os.path.getsize(path) < 3:
            raise OSError("again")
        return os.path.getsize(path)

    assert hpc.get(flaky.remote(str(tmp_path / "n"))) == 3

    @hpc.remote(max_retries=3, retry_exceptions=[OSError])
    def other(path):
        with open(path, "a") as file:
            file.write("x")
        raise ValueError

    with pytest.raises(ValueError):
        hpc.get(other.remote(str(tmp_path / "m")))
    assert os.path.getsize(tmp_path / "m") == 1


def test_a_crashed_worker_is_replaced_and_its_task_retried(tmp_path):
    @hpc.remote(max_retries=2)
    def crash_once(path):
        if not os.path.exists(path):
            open(path, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return "survived"

    assert hpc.get(crash_once.remote(str(tmp_path / "flag"))) == "survived"


def test_a_task_whose_workers_all_crash_says_how():
    @hpc.remote(max_retries=1)
    def crash():
        os._exit(7)

    with pytest.raises(WorkerCrashedError, match="exited with code 7"):
        hpc.get(crash.remote())


def test_only_the_task_that_ran_pays_for_a_crash(tmp_path):
    """Tasks queued behind one that kills the worker use up no retry."""

    @hpc.remote(max_retries=0)
    def maybe(index):
        if index == 50:
            os.kill(os.getpid(), signal.SIGKILL)
        return index

    refs = [maybe.remote(i) for i in range(200)]
    results, crashed = [], []
    for index, ref in enumerate(refs):
        try:
            results.append(hpc.get(ref))
        except WorkerCrashedError:
            crashed.append(index)
    assert crashed == [50]
    assert len(results) == 199


def test_get_gives_up_after_its_timeout_and_wait_splits():
    slow = sleep_then.remote(600, 1)
    fast = sleep_then.remote(0, 2)
    with pytest.raises(GetTimeoutError):
        hpc.get(slow, timeout=0.1)
    ready, rest = hpc.wait([slow, fast], timeout=60)
    assert ready == [fast]
    assert rest == [slow]
    assert hpc.wait([slow], timeout=0) == ([], [slow])
    hpc.cancel(slow, force=True)


def test_wait_refuses_nonsense():
    ref = hpc.put(1)
    with pytest.raises(ValueError, match="unique"):
        hpc.wait([ref, ref])
    with pytest.raises(ValueError, match="only 1"):
        hpc.wait([ref], num_returns=2)
    with pytest.raises(TypeError):
        hpc.wait(ref)
    with pytest.raises(ValueError, match="ObjectRef"):
        hpc.get(3)


def test_cancel_reaches_running_and_waiting_tasks():
    running = [sleep_then.remote(600, i) for i in range(2)]
    waiting = sleep_then.remote(600, 3)
    hpc.wait(running, timeout=0.3)
    for ref in [*running, waiting]:
        hpc.cancel(ref)
    for ref in [*running, waiting]:
        with pytest.raises(TaskCancelledError):
            hpc.get(ref, timeout=60)
    assert hpc.get(echo.remote(1), timeout=60) == ((1,), {})


def test_a_long_task_does_not_hold_up_the_short_ones_behind_it():
    refs = [sleep_then.remote(0, i) for i in range(50)]
    hpc.get(refs)
    refs = [sleep_then.remote(600 if i == 0 else 0.0, i) for i in range(40)]
    assert hpc.get(refs[1:], timeout=60) == list(range(1, 40))
    assert hpc.wait(refs[:1], timeout=0)[0] == []
    hpc.cancel(refs[0], force=True)


def test_resources_limit_what_runs_at_the_same_time():
    @hpc.remote(num_cpus=2)
    def alone():
        start = time.monotonic()
        time.sleep(0.1)
        return start, time.monotonic()

    spans = sorted(hpc.get([alone.remote() for _ in range(3)]))
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


def test_what_can_never_run_is_said_and_waits(capfd):
    ref = echo.options(num_cpus=64).remote()
    said = ""

    def is_said():
        nonlocal said
        said += capfd.readouterr().err
        return "no node could ever provide {CPU: 64}" in said

    eventually(is_said)
    assert hpc.wait([ref], timeout=0.1) == ([], [ref])
    hpc.cancel(ref)


def test_available_resources_follow_what_runs():
    assert hpc.cluster_resources()["CPU"] == 2
    eventually(lambda: hpc.available_resources().get("CPU") == 2)
    ref = sleep_then.remote(600, 0)
    eventually(lambda: hpc.available_resources().get("CPU") == 1)
    hpc.cancel(ref)
    eventually(lambda: hpc.available_resources().get("CPU") == 2)


def test_environment_variables_of_a_task():
    @hpc.remote
    def variable():
        return os.environ.get("HPC_TEST_COLOUR")

    blue = variable.options(runtime_env={"env_vars": {"HPC_TEST_COLOUR": "blue"}})
    assert hpc.get([variable.remote(), blue.remote()]) == [None, "blue"]


def test_options_are_checked_where_they_are_written():
    with pytest.raises(ValueError, match="not an option"):
        hpc.remote(num_cpu=1)(lambda: 1)
    with pytest.raises(ValueError, match="negative"):
        hpc.remote(num_cpus=-1)(lambda: 1)
    with pytest.raises(TypeError):
        hpc.remote(max_retries="3")(lambda: 1)
    with pytest.raises(TypeError, match="streaming"):
        hpc.remote(num_returns="many")(lambda: 1)
    with pytest.raises(ValueError, match="at least"):
        hpc.remote(max_calls=-1)(lambda: 1)
    with pytest.raises(TypeError, match=r"\.remote\(\)"):
        echo(1)


def test_what_tasks_print_is_shown_with_its_origin(capfd):
    @hpc.remote
    def talk():
        print("hello from a task")
        return os.getpid()

    pid = hpc.get(talk.remote())
    expected = f"(talk pid={pid}) hello from a task"
    out = ""

    def seen():
        nonlocal out
        out += capfd.readouterr().out
        return expected in out

    eventually(seen)


def test_random_numbers_differ_between_workers(tmp_path):
    @hpc.remote
    def draw():
        (tmp_path / str(os.getpid())).touch()
        eventually(lambda: len(list(tmp_path.iterdir())) == 2)  # both run at the same time
        return os.getpid(), float(np.random.random())

    drawn = dict(hpc.get([draw.remote() for _ in range(2)]))
    assert len(drawn) == 2
    assert len(set(drawn.values())) == 2


def test_await_and_future():
    import asyncio

    async def main():
        return await asyncio.gather(*(sleep_then.remote(0.05, i) for i in range(5)))

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]
    assert sleep_then.remote(0, 9).future().result(timeout=60) == 9


def test_an_await_that_was_given_up_disturbs_nobody_when_the_value_comes(tmp_path):
    import asyncio

    gate = tmp_path / "gate"

    @hpc.remote
    def items():
        eventually(gate.exists)
        yield 1

    @hpc.remote
    def one():
        eventually(gate.exists)
        return 1

    async def give_up(awaitable):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(awaitable, 0.01)

    late, generator = one.remote(), items.remote()
    asyncio.run(give_up(late))
    asyncio.run(give_up(generator.__anext__()))
    gate.touch()
    assert late.future().cancel()
    assert hpc.get(late) == 1
    assert hpc.get(next(generator)) == 1
    assert hpc.get(sleep_then.remote(0, 2), timeout=60) == 2


def test_many_threads_get_at_the_same_time():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda i: hpc.get(echo.remote(i), timeout=30), range(400)))
    assert results == [((i,), {}) for i in range(400)]

"""concurrent.futures over all nodes: what the standard library's own executors promise, on tasks."""

from __future__ import annotations

import concurrent.futures
import operator
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, ProcessPoolExecutor, as_completed, wait
from pathlib import Path

import pytest

import hpc
from hpc.util.executor import Executor, InitializerFailed
from runtime.running import one_node


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    with one_node(num_cpus=4):
        yield


pytestmark = pytest.mark.usefixtures("session")


def square(x: int) -> int:
    return x * x


def fails(word: str) -> None:
    raise KeyError(word)


def wait_for(path: str) -> str:
    while not os.path.exists(path):
        time.sleep(0.01)
    return path


def meet(folder: str, mine: int, all_of: int) -> int:
    """Wait until so many of us run at the same time."""
    Path(folder, str(mine)).touch()
    while len(os.listdir(folder)) < all_of:
        time.sleep(0.01)
    return mine


def test_the_same_program_runs_on_a_pool_of_processes_and_on_tasks() -> None:
    answers = []
    for pool in (ProcessPoolExecutor(2), Executor()):
        with pool:
            first = pool.submit(operator.add, 1, 2)
            named = pool.submit(int, "ff", base=16)
            mapped = list(pool.map(operator.mul, range(20), range(1, 30), chunksize=3))
            squares = sorted(f.result() for f in as_completed([pool.submit(square, n) for n in range(10)]))
            failed = pool.submit(fails, "x")
            error = failed.exception()
            assert isinstance(error, KeyError) and error.args == ("x",)
            with pytest.raises(KeyError):
                list(pool.map(fails, ["a"]))
            done = wait([first, named, failed], return_when=ALL_COMPLETED)
            answers.append((first.result(), named.result(), mapped, squares, len(done.done), first.done()))
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            pool.submit(square, 1)
    assert answers[0] == answers[1]


def test_results_come_in_order_and_a_late_one_is_a_timeout(tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    with Executor() as pool:
        late = pool.submit(wait_for, gate)
        soon = pool.submit(square, 3)
        done, waiting = wait([late, soon], timeout=30, return_when=FIRST_COMPLETED)
        assert done == {soon} and waiting == {late}
        with pytest.raises(concurrent.futures.TimeoutError):
            late.result(timeout=0.05)
        with pytest.raises(concurrent.futures.TimeoutError):
            next(iter(pool.map(wait_for, [str(tmp_path / "never")], timeout=0.05)))
        Path(gate).touch()
        assert late.result(timeout=30) == gate


def test_callbacks_run_and_may_submit_more() -> None:
    seen: list[int] = []
    over = threading.Event()

    def again(future: concurrent.futures.Future[int]) -> None:
        seen.append(future.result())
        if len(seen) < 5:
            pool.submit(square, len(seen)).add_done_callback(again)
        else:
            over.set()

    with Executor(1) as pool:
        pool.submit(square, 0).add_done_callback(again)
        assert over.wait(30)
    assert seen == [0, 1, 4, 9, 16]


@pytest.mark.parametrize("limit", [2, None])
def test_no_more_calls_than_max_workers_run_at_a_time(tmp_path: Path, limit: int | None) -> None:
    gate, began = tmp_path / "gate", tmp_path / "began"
    began.mkdir()

    def note(n: int) -> int:
        (began / str(n)).touch()
        wait_for(str(gate))
        return n

    with Executor(limit) as pool:
        futures = [pool.submit(note, n) for n in range(4)]
        most = limit or 4
        while len(list(began.iterdir())) < most:
            time.sleep(0.01)
        assert len(list(began.iterdir())) == most
        gate.touch()
        assert [future.result(timeout=30) for future in futures] == [0, 1, 2, 3]


def test_a_call_that_waits_is_cancelled_and_never_begins(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with Executor(1) as pool:
        running = pool.submit(wait_for, str(gate))
        waits = pool.submit(Path.touch, tmp_path / "ran")
        assert waits.cancel() and waits.cancelled()
        with pytest.raises(concurrent.futures.CancelledError):
            waits.result()
        gate.touch()
        assert running.result(timeout=30)
        assert not running.cancel()
        assert pool.submit(square, 2).result(timeout=30) == 4
    assert not (tmp_path / "ran").exists()


def test_shutdown_waits_or_drops_what_has_not_begun(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    pool = Executor(1)
    running = pool.submit(wait_for, str(gate))
    waiting = [pool.submit(square, n) for n in range(3)]
    pool.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in waiting) and not running.done()
    gate.touch()
    pool.shutdown(wait=True)
    assert running.done()


def remember() -> None:
    assert not hasattr(hpc, "_prepared"), "an initializer runs once in a process"
    hpc._prepared = os.getpid()  # type: ignore[attr-defined]


def prepared(_n: int) -> bool:
    return getattr(hpc, "_prepared", None) == os.getpid()


def broken(word: str) -> None:
    raise OSError(word)


def test_an_initializer_runs_once_in_each_process() -> None:
    with Executor(initializer=remember, runtime_env={"env_vars": {"OF_THIS_TEST": "1"}}) as pool:
        assert all(pool.map(prepared, range(40)))


def test_an_initializer_that_fails_fails_each_call_with_its_cause() -> None:
    with Executor(initializer=broken, initargs=("no such device",)) as pool:
        for _ in range(3):
            with pytest.raises(InitializerFailed, match="OSError: no such device"):
                pool.submit(square, 1).result(timeout=30)


def test_a_worker_that_dies_fails_its_own_call_alone() -> None:
    with Executor(max_retries=0) as pool:
        dies = pool.submit(os._exit, 3)
        others = [pool.submit(square, n) for n in range(8)]
        assert isinstance(dies.exception(timeout=30), hpc.exceptions.WorkerCrashedError)
        assert [future.result(timeout=30) for future in others] == [n * n for n in range(8)]


def test_what_cannot_be_sent_is_the_calls_own_error() -> None:
    with Executor(1) as pool:
        assert isinstance(pool.submit(threading.Lock().__class__).exception(timeout=30), Exception)
        assert isinstance(pool.submit(print, threading.Lock()).exception(timeout=30), TypeError)
        assert pool.submit(square, 5).result(timeout=30) == 25


@pytest.mark.parametrize(("words", "error"), [({"max_workers": 0}, ValueError), ({"no_such": 1}, ValueError)])
def test_wrong_arguments_are_refused(words: dict[str, int], error: type[Exception]) -> None:
    with pytest.raises(error):
        Executor(**words)
    with Executor() as pool, pytest.raises(ValueError, match="chunksize"):
        pool.map(square, [1], chunksize=0)


def test_an_iterator_that_is_left_cancels_the_rest(tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    with Executor(1) as pool:
        results = pool.map(lambda n: square(n) if n < 2 else wait_for(gate), range(50))
        assert next(results) == 0
        results.close()  # type: ignore[attr-defined]
        Path(gate).touch()
        assert pool.submit(square, 6).result(timeout=30) == 36

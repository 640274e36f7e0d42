"""Nodes that a nursery forks are what executed ones are, and are executed where they could not be."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from running import eventually, kill9, one_node

import hpc
from hpc.core.node.nursery import can_bear
from hpc.core.node.reap import children_of, is_running
from hpc.launchers.local.group import BEARERS
from hpc.launchers.local.nursery import Nursery

pytestmark = pytest.mark.skipif(not can_bear(), reason="the clone call of this processor is not known here")


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    """One of this test, in the place of the suite's."""
    kept = BEARERS[:]
    mine = Nursery()
    BEARERS[:] = [mine]
    yield mine
    BEARERS[:] = kept
    mine.close()


def is_forked(keeper: int) -> bool:
    """Whether a keeper came from a nursery: it has the command line of that."""
    return b"core.node.nursery" in Path(f"/proc/{keeper}/cmdline").read_bytes()


def keepers(nursery: Nursery) -> list[int]:
    """The nodes of this process."""
    names = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in children_of(os.getpid())}
    nodes = [pid for pid, name in names.items() if name == "hpc-keeper" and pid != nursery.pid]
    return [pid for pid in nodes if is_running(pid)]  # a test before may have left a session that nobody waits for


@hpc.remote
def seen() -> tuple[str, str | None, str | None, int]:
    """What a task finds: its directory, two variables, and the descriptors of its node's keeper."""
    return os.getcwd(), os.environ.get("NURSERY_A"), os.environ.get("NURSERY_B"), os.getppid()


def open_files_of(pid: int) -> str:
    (line,) = [line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if line.startswith("Max open")]
    return line


def test_a_node_has_the_directory_and_the_variables_of_now(
    nursery: Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NURSERY_A", "1")
    monkeypatch.chdir(tmp_path)
    with one_node({"NURSERY_B": "2"}):
        (keeper,) = keepers(nursery)
        assert is_forked(keeper)
        folder, a, b, _zygote = hpc.get(seen.remote())
        assert (folder, a, b) == (str(tmp_path), "1", "2")
        assert os.readlink(f"/proc/{keeper}/cwd") == str(tmp_path)
        assert open_files_of(keeper) == open_files_of(os.getpid())
    monkeypatch.delenv("NURSERY_A")
    with one_node():
        assert hpc.get(seen.remote())[1:3] == (None, None)


def test_nodes_of_a_nursery_share_no_descriptor_with_it(nursery: Nursery) -> None:
    def links(pid: int) -> set[str]:
        return {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}

    with one_node():
        (keeper,) = keepers(nursery)
        (supervisor,) = children_of(keeper)
        shared = (links(keeper) | links(supervisor)) & links(nursery.pid)
        assert all(name == "/dev/null" or name.startswith("anon_inode") for name in shared)
        assert os.getpgid(keeper) == keeper, "Ctrl-C does not reach it"


@contextmanager
def changed_umask() -> Iterator[None]:
    before = os.umask(0o027)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def one_processor() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def ignored_signal() -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


@contextmanager
def variable_of_the_interpreter() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONNURSERY", "1")
        yield


@pytest.mark.parametrize("change", [changed_umask, one_processor, ignored_signal, variable_of_the_interpreter])
def test_where_a_program_would_inherit_something_else_the_node_is_executed(
    nursery: Nursery, change: Callable[[], AbstractContextManager[None]]
) -> None:
    if change is one_processor and len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this process has one processor")
    with change():
        order = nursery.bear(["--rank", "0"], 0, 1, False)
    assert order is None


def test_a_nursery_that_was_killed_is_done_without(nursery: Nursery) -> None:
    kill9(nursery.pid)
    with one_node():
        (keeper,) = keepers(nursery)
        assert not is_forked(keeper)
        assert hpc.get(seen.remote())[3] > 0


def test_a_nursery_that_hangs_is_killed_and_done_without(nursery: Nursery) -> None:
    nursery._sock.settimeout(0.2)
    os.kill(nursery.pid, signal.SIGSTOP)
    with one_node():
        assert not is_running(nursery.pid), "it would fork the node later"
        assert hpc.get(seen.remote())[3] > 0


def test_an_order_that_is_broken_off_ends_the_nursery(nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its answer would be taken for the next one's."""

    class Interrupted:
        def recv(self, _bytes: int) -> bytes:
            raise KeyboardInterrupt

        def __getattr__(self, name: str) -> object:
            return getattr(own, name)

    own = nursery._sock
    with monkeypatch.context() as patch:
        patch.setattr(nursery, "_sock", Interrupted())
        with pytest.raises(KeyboardInterrupt):
            hpc.init(address="local", num_cpus=1)
    assert not is_running(nursery.pid)


class Silent:
    """It forks a node, as far as that can be seen from its pipes, and does not say so."""

    def bear(self, words: Sequence[str], stdin_fd: int, stdout_fd: int, apart: bool) -> int | None:
        self.stdin, self.stdout = os.dup(stdin_fd), os.dup(stdout_fd)
        return None

    def close(self) -> None:
        """Nothing is to be ended."""


def test_a_node_that_was_forked_without_an_answer_has_no_pipe_of_the_next(nursery: Nursery) -> None:
    silent = Silent()
    BEARERS[:] = [silent]
    with one_node():
        ready, _, _ = select.select([silent.stdin], [], [], 0)
        assert ready and os.read(silent.stdin, 1) == b"", "it would read what the executed node is told"
        with pytest.raises(BrokenPipeError):
            os.write(silent.stdout, b"x")
    os.close(silent.stdin)
    os.close(silent.stdout)


def test_a_nursery_with_threads_bears_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The zygote of an executed node refuses such modules; that of a forked one would not see the threads."""
    (tmp_path / "with_thread.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    mine = Nursery(["with_thread"])
    read, write = os.pipe()
    try:
        assert mine.bear(["--rank", "0"], read, write, False) is None
    finally:
        os.close(read)
        os.close(write)
        mine.close()


def test_nodes_outlive_their_nursery_and_end_in_order(nursery: Nursery) -> None:
    with one_node():
        (keeper,) = keepers(nursery)
        kill9(nursery.pid)
        assert hpc.get(seen.remote())[3] > 0
    assert not is_running(keeper)


def test_the_keeper_clears_up_after_a_supervisor_that_is_killed(nursery: Nursery) -> None:
    with one_node():
        (keeper,) = keepers(nursery)
        (supervisor,) = children_of(keeper)
        kill9(supervisor)
        eventually(lambda: not is_running(keeper))


KILLED = """
import os, sys, time
import hpc
from hpc.launchers.local.nursery import keep_nursery
print(keep_nursery().pid, flush=True)
hpc.init(address="local", num_cpus=1)
print(os.getpid(), flush=True)
if os.fork():
    os.kill(os.getpid(), 9)
time.sleep(1000)  # it has a copy of the socket
"""


def test_it_ends_with_its_launcher_also_when_a_child_of_that_lives_on() -> None:
    started = subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    nursery, launcher = (int(started.stdout.readline()) for _ in range(2))
    assert started.wait() == -signal.SIGKILL and launcher == started.pid
    eventually(lambda: not is_running(nursery))
    (child,) = [pid for pid in children_of(os.getpid()) if is_forked_copy(pid)]
    kill9(child)
    started.stdout.close()


def is_forked_copy(pid: int) -> bool:
    return b"keep_nursery" in Path(f"/proc/{pid}/cmdline").read_bytes()

"""What a killed worker provably had not begun runs on another one, and uses up neither a retry nor a restart."""

from __future__ import annotations

import os
import signal

import pytest

import hpc
from hpc.core.process.current import need_client
from hpc.util.state import list_workers
from runtime.running import eventually, kill9, one_node


@pytest.fixture
def stopped():
    """A session whose workers have been stopped while they had nothing to do."""
    with one_node(num_cpus=1):
        pids = eventually(lambda: [row["pid"] for row in list_workers() if row["state"] == "IDLE"])
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield pids


@hpc.remote(max_restarts=0)
class Counter:
    def __init__(self, path):
        with open(path, "a") as file:
            file.write("begun\n")

    def pid(self):
        return os.getpid()

    def count(self):
        return hpc.get_runtime_context().was_current_actor_reconstructed


@hpc.remote(max_retries=0)
def pid_of_task():
    return os.getpid()


def granted():
    """Whether this driver has a worker for what it wants."""
    return any(lease.actor or lease.inflight for lease in need_client().machine.state.leases.values())


def test_an_actor_without_restarts_is_made_elsewhere_if_its_worker_ends_before_it_begins(stopped, tmp_path):
    counter = Counter.remote(str(tmp_path / "begun"))
    called = counter.pid.remote()
    eventually(granted)
    for pid in stopped:
        kill9(pid)
    assert hpc.get(called, timeout=30) not in stopped
    assert (tmp_path / "begun").read_text() == "begun\n"
    assert hpc.get(counter.count.remote()) is False


def test_so_is_a_detached_one(stopped, tmp_path):
    counter = Counter.options(lifetime="detached", name="counter").remote(str(tmp_path / "begun"))
    called = counter.pid.remote()
    eventually(lambda: any(row["pid"] in stopped and row["state"] == "LEASED" for row in list_workers()))
    for pid in stopped:
        kill9(pid)
    assert hpc.get(called, timeout=30) not in stopped
    assert (tmp_path / "begun").read_text() == "begun\n"


def test_a_task_without_retries_runs_elsewhere_if_its_worker_ends_before_it_begins(stopped):
    called = pid_of_task.remote()
    eventually(granted)
    for pid in stopped:
        kill9(pid)
    assert hpc.get(called, timeout=30) not in stopped


@hpc.remote(max_restarts=0)
class Dies:
    def __init__(self, how):
        how()

    def hello(self):
        return "hello"


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class DiesWithItsArguments:
    """Kills the process that unpickles it."""

    def __reduce__(self):
        return die, ()


@pytest.mark.parametrize("argument", [die, DiesWithItsArguments()])
def test_an_actor_without_restarts_ends_with_its_worker_once_it_has_begun(argument):
    with one_node(num_cpus=1), pytest.raises(hpc.exceptions.ActorDiedError):
        hpc.get(Dies.remote(argument).hello.remote(), timeout=30)


def test_an_actor_that_is_killed_before_it_begins_is_not_made_again(stopped, tmp_path):
    counter = Counter.remote(str(tmp_path / "begun"))
    called = counter.pid.remote()
    eventually(granted)
    hpc.kill(counter, no_restart=False)
    with pytest.raises(hpc.exceptions.ActorDiedError, match=r"hpc\.kill"):
        hpc.get(called, timeout=30)
    assert not (tmp_path / "begun").exists()


@hpc.remote(max_retries=0)
def note(path, what, kill=False):
    with open(path, "a") as file:
        file.write(f"{what}\n")
    if kill:
        kill9(os.getpid())


def test_a_task_that_has_run_is_not_run_again_although_its_outcome_was_lost_with_its_worker(tmp_path):
    """Outcomes of short tasks wait for the next one's."""
    path = tmp_path / "ran"
    with one_node(num_cpus=1):
        hpc.get([note.remote(str(path), "before") for _ in range(100)])
        path.unlink()
        for turn in range(5):
            refs = [note.remote(str(path), f"{turn} {at}", at == 2) for at in range(4)]
            hpc.wait(refs, num_returns=len(refs))
            with pytest.raises(hpc.exceptions.WorkerCrashedError):
                hpc.get(refs[2])
            hpc.get(refs[3])
        lines = path.read_text().splitlines()
        assert sorted(lines) == sorted(set(lines)) and len(lines) == 20

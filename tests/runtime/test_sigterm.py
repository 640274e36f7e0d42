"""A SIGTERM ends a worker that alone was sent it; where all processes of a node were, the launcher decides."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

import hpc
from hpc.core.node.reap import descendants
from hpc.core.node.supervisor import AGAIN_S
from hpc.exceptions import ActorDiedError, WorkerCrashedError
from runtime.running import eventually, local_nodes, on, one_node


@hpc.remote(num_cpus=0)
class Counts:
    def __init__(self) -> None:
        self.calls = 0

    def pid(self) -> int:
        self.calls += 1
        return os.getpid()


@hpc.remote(max_retries=0, num_cpus=0)
def ends_itself(went_on: Path) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    went_on.touch()


@hpc.remote(num_cpus=0)
def ends_a_child() -> list[int | None]:
    codes = []
    for _ in range(20):
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        child.start()
        child.terminate()
        child.join()
        codes.append(child.exitcode)
    return codes


def test_a_sigterm_ends_a_worker_that_alone_was_sent_it(no_leaks: None, tmp_path: Path) -> None:
    with one_node():
        with pytest.raises(WorkerCrashedError, match="told to end by SIGTERM"):
            hpc.get(ends_itself.remote(tmp_path / "went on"), timeout=60)
        assert not (tmp_path / "went on").exists()
        assert hpc.get(ends_a_child.remote()) == [-signal.SIGTERM] * 20
        actor = Counts.remote()
        os.kill(hpc.get(actor.pid.remote()), signal.SIGTERM)
        with pytest.raises(ActorDiedError, match="told to end by SIGTERM"):
            eventually(lambda: hpc.get(actor.pid.remote()) == 0)


def test_a_sigterm_to_all_processes_of_a_node_ends_none_where_the_launcher_has_it_stay(no_leaks: None) -> None:
    with local_nodes(2) as running:
        asked: list[str] = []

        def stay(info: object, signal_name: str) -> bool:
            asked.append(signal_name)
            return True

        running.on_warned = stay
        actor = Counts.options(scheduling_strategy=on(2)).remote()
        pid = hpc.get(actor.pid.remote())
        supervisor = int(running.nodes[2].hello["pid"])
        for one in [supervisor, *descendants(supervisor)]:
            os.kill(one, signal.SIGTERM)
        eventually(lambda: running.pump(0.05) or asked == ["SIGTERM"])
        time.sleep(0.6)  # until the worker has told of it
        assert hpc.get(actor.pid.remote()) == pid and running.nodes[2].state == "ready"
        time.sleep(AGAIN_S)
        os.kill(supervisor, signal.SIGTERM)  # long after the first: it ends
        eventually(lambda: running.pump(0.05) or running.nodes[2].state == "gone")

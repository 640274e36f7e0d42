"""What runs in the containers of an application, as processes here: how they find each other, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc.launchers.yarn import commands

JOB = "application_1_0001"


class Containers:
    """Processes as YARN starts them: each leads a process group of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, number: int, *command: str, nodes: int = 2, attempt: int = 1) -> subprocess.Popen[bytes]:
        words = [
            sys.executable,
            "-c",
            commands.CONTAINER_PROGRAM,
            f"--nodes={nodes}",
            "--resources=memory-mb=1,vcores=1",
        ]
        words += [f"--folder={self.folder}", f"--output={self.folder}/%j-%x.txt", "--name=n", "--", *command]
        env = {**os.environ, "YARN_SHELL_ID": str(number), "NM_HOST": f"host{number}", "HADOOP_CONF_DIR": "/nowhere"}
        env["CONTAINER_ID"] = f"container_e2_1_0001_{attempt:02}_00000{number + 1}"
        process = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, start_new_session=True)
        self.started.append(process)
        return process

    @property
    def output(self) -> str:
        return (self.folder / f"{JOB}-n.txt").read_text()


@pytest.fixture
def containers(tmp_path: Path) -> Iterator[Containers]:
    found = Containers(tmp_path)
    yield found
    for process in found.started:
        process.kill()
        process.communicate()


def test_the_first_waits_for_the_others_and_its_end_is_theirs(containers: Containers) -> None:
    show = ["sh", "-c", f"echo $HPC_YARN_JOB $HPC_YARN_HOSTS $HPC_YARN_CPUS; test -d {containers.folder}/{JOB}; exit 7"]
    second = containers.start(2, "never")
    time.sleep(0.2)
    first = containers.start(1, *show)
    assert first.wait(20) == 7 and containers.output == f"{JOB} host1,host2 1\n"
    assert second.wait(20) == 1  # there was no session to come to
    assert not (containers.folder / JOB).exists()


def test_the_others_run_the_script_once_there_is_a_session(containers: Containers) -> None:
    second = containers.start(2, "sh", "-c", "echo $HPC_YARN_RANK; exit 3")
    first = containers.start(1, "sh", "-c", f"touch {containers.folder}/{JOB}/join; sleep 1")
    assert second.wait(20) == 3 and second.stdout is not None and second.stdout.read() == b"1\n"
    assert first.wait(20) == 0


def test_a_signal_to_the_container_is_the_scripts(containers: Containers) -> None:
    body = "trap 'echo got; exit 9' TERM; echo up; while true; do sleep 0.05; done"
    first = containers.start(1, "bash", "-c", body, nodes=1)
    end = time.monotonic() + 20
    while not (containers.folder / f"{JOB}-n.txt").exists() or "up" not in containers.output:
        assert time.monotonic() < end
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGTERM)
    assert first.wait(20) == 9 and containers.output.endswith("got\n")


def test_a_first_that_is_ended_while_it_waits_takes_the_others_along(containers: Containers) -> None:
    second = containers.start(2, "never", nodes=3)
    first = containers.start(1, "never", nodes=3)
    end = time.monotonic() + 20
    while not (containers.folder / JOB / "hosts-0").exists() or not (containers.folder / JOB / "hosts-1").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGTERM)
    assert first.wait(20) == 128 + signal.SIGTERM and second.wait(20) == 1


@pytest.mark.parametrize(("number", "attempt"), [(1, 2), (3, 1)])
def test_a_second_attempt_and_containers_too_many_end_at_once(
    containers: Containers, number: int, attempt: int
) -> None:
    process = containers.start(number, "never", attempt=attempt)
    assert process.wait(20) == 0 and process.stdout is not None and b"does not run twice" in process.stdout.read()

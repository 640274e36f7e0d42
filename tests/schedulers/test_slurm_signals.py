"""Signals, output and words between a real Slurm, hpc-launch and the script: each signal once, each line, each failure
named."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from desk import SlurmDesk as Desk
from desk import Terminal, launcher
from netbed import wait_for

pytestmark = pytest.mark.slurm

COUNTS = """
    import os, signal, sys, time
    came = []

    def note(signum, _frame):
        came.append(signum)
        print("got", signal.Signals(signum).name, flush=True)

    for signum in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(signum, note)
    print("up", flush=True)
    while signal.SIGTERM not in came:
        time.sleep(0.02)
    time.sleep(1.0)  # what comes twice comes now
"""
TALKS = """
    import sys
    import hpc

    hpc.init()

    @hpc.remote
    def talk(number, lines):
        for line in range(lines):
            print(f"{number} says {line:05d}", "." * 60)

    hpc.get([talk.remote(number, int(sys.argv[1])) for number in range(4)])
"""
WAITS = """
    import time
    print("up", flush=True)
    time.sleep(280)
"""


def output(desk: Desk) -> str:
    return desk.hpc("logs", "last").stdout


def wait_for_output(desk: Desk, words: str, times: int = 1) -> None:
    wait_for(f"{words!r} in the output", lambda: output(desk).count(words) >= times, 90.0, 0.2)


@pytest.mark.parametrize("ranks", [[], ["--ranks-per-node=1"]])
def test_a_signal_to_the_whole_job_comes_once(desk: Desk, ranks: list[str]) -> None:
    desk.script("counts.py", COUNTS)
    desk.launch("-N2", "-t5", "--detach", *ranks, "counts.py", check=True)
    copies = 2 if ranks else 1
    wait_for_output(desk, "up", copies)
    job = desk.job_id()
    desk.run("scancel", "--full", "--signal=USR1", job, check=True)
    wait_for_output(desk, "got SIGUSR1", copies)
    desk.hpc("cancel", "last", check=True)
    desk.bed.wait_job(job, ["CANCELLED"])
    wait_for("its end", lambda: desk.status()["state"] == "ended", 90.0)
    found = re.findall(r"got (\w+)", output(desk))
    assert sorted(found) == ["SIGTERM"] * copies + ["SIGUSR1"] * copies


def test_a_signal_to_hpc_launch_alone_is_passed_on(desk: Desk) -> None:
    desk.script("counts.py", COUNTS)
    desk.launch("-N1", "-t5", "--detach", "counts.py", check=True)
    wait_for_output(desk, "up")
    desk.run("scancel", "--batch", "--signal=USR1", desk.job_id(), check=True)
    wait_for_output(desk, "got SIGUSR1")
    desk.run("scancel", "--batch", "--signal=TERM", desk.job_id(), check=True)
    desk.bed.wait_job(desk.job_id(), ["COMPLETED", "FAILED"])
    assert re.findall(r"got (\w+)", output(desk)) == ["SIGUSR1", "SIGTERM"]


def test_who_follows_a_job_and_is_ended_leaves_it_running(desk: Desk) -> None:
    """Three that look at it, each ended in another way; and a terminal that closes tells so by the exit code."""
    desk.script("waits.py", WAITS)
    desk.launch("-N1", "-t5", "--detach", "waits.py", check=True)
    wait_for_output(desk, "up")
    followers = [desk.start(sys.executable, "-m", "hpc", *words) for words in (["attach"], ["logs", "-f"])]
    for process, signum in zip(followers, (signal.SIGTERM, signal.SIGINT), strict=True):
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        process.send_signal(signum)
        process.communicate(timeout=90)
    assert [process.returncode for process in followers] == [128 + signal.SIGTERM, 130]
    shell = Terminal(desk, sys.executable, "-m", "hpc", "attach")
    shell.see("up")
    os.close(shell.master)
    shell.process.send_signal(signal.SIGHUP)
    assert shell.process.wait(20) == 128 + signal.SIGHUP
    assert desk.bed.job_field(desk.job_id(), "JobState") == "RUNNING"


def test_all_that_tasks_print_arrives_also_what_comes_last(desk: Desk) -> None:
    desk.script("talks.py", TALKS)
    done = desk.launch("-N4", "-c2", "-t5", "--env=HPC_DEDUP_LOGS=0", "talks.py", "4000")
    assert done.returncode == 0, done.stderr
    for number in range(4):
        lines = re.findall(rf"\b{number} says (\d+)", done.stdout)
        assert lines == [f"{line:05d}" for line in range(4000)]


def test_a_line_of_setup_that_fails_ends_the_job_and_is_named(desk: Desk) -> None:
    desk.script("waits.py", WAITS)
    setup = ["--setup", "export A=1", "--setup", "module load nope"]
    done = desk.launch("-N1", "-t5", *setup, "waits.py")
    assert done.returncode == 125 and "error[SETUP]" in done.stderr
    assert "--setup failed with exit code 127: module load nope" in done.stderr
    assert json.loads((desk.jobs / "1" / "status.json").read_text())["state"] != "running"


def test_what_is_piped_into_a_submission_is_said_to_be_left(desk: Desk) -> None:
    desk.script("reads.py", "import sys; print(repr(sys.stdin.read()))")
    done = subprocess.run(
        [*launcher(), "-N1", "-t5", "reads.py"], input="hello\n", capture_output=True, text=True, timeout=60,
        cwd=desk.folder, env={**desk.bed.env, **desk.env},
    )  # fmt: skip
    assert done.stdout == "''\n" and "standard input is left" in done.stderr

"""`hpc top` of a session: once, and at a terminal that is left as it was."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import hpc
from hpc.state.overview import own_directory
from runtime.hosting import ENV, hpc_command
from runtime.running import eventually, one_node


@hpc.remote
def square(number: int) -> int:
    return number * number


@hpc.remote(num_gpus=1)
def with_gpu() -> None:
    pass


@pytest.fixture(scope="module")
def session() -> Iterator[str]:
    with one_node():
        hpc.get([square.remote(number) for number in range(20)])
        waits = with_gpu.remote()
        yield own_directory()
        del waits


def test_once_it_prints_what_is_there(session):
    def shown() -> str:
        done = hpc_command("top", "--once", f"--address={session}", env={"COLUMNS": "100"})
        assert done.returncode == 0, done.stderr
        assert all(len(line) <= 100 for line in done.stdout.splitlines()) and "\x1b" not in done.stdout
        return done.stdout

    eventually(lambda: "20" in shown())
    assert "square" in shown() and "nodes 1" in shown()
    done = hpc_command("top", "--show=why", f"--address={session}")
    assert "with_gpu" in done.stdout and "no node" in done.stdout
    assert hpc_command("top", "--show=pears").returncode == 2


class Terminal:
    """A terminal with `hpc top` in it, and all that this has written."""

    def __init__(self, fd: int, process: subprocess.Popen[bytes]) -> None:
        self.fd = fd
        self.process = process
        self.text = ""

    def read(self, for_s: float = 0.0) -> str:
        """All that has come until now, or in this time."""
        until = time.monotonic() + for_s
        while select.select([self.fd], [], [], max(0.0, until - time.monotonic()))[0]:
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                break
            if not data:
                break
            self.text += data.decode(errors="replace")
        return self.text

    def press(self, keys: str) -> None:
        os.write(self.fd, keys.encode())


@contextmanager
def terminal_of(session: str) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (30, 100)) if hasattr(termios, "tcsetwinsize") else None
    command = [sys.executable, "-m", "hpc", "top", f"--address={session}"]
    env = {key: value for key, value in ENV.items() if key not in ("COLUMNS", "LINES")} | {"TERM": "xterm"}
    process = subprocess.Popen(command, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    before = termios.tcgetattr(theirs)
    try:
        found = Terminal(ours, process)
        eventually(lambda: "square" in found.read())
        yield found
        process.wait(timeout=60)
        found.read()
        assert found.text.rstrip().endswith("\x1b[?1049l"), "the user's own screen is back"
        assert found.text.count("\x1b[?1049h") == 1 and "\x1b[?25h" in found.text
        assert termios.tcgetattr(theirs)[3] == before[3], "keys are shown and lines edited as before"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(ours)
        os.close(theirs)


def test_keys_change_what_is_shown_and_q_ends_it(session, no_leaks):
    with terminal_of(session) as terminal:
        terminal.press("w")
        eventually(lambda: "with_gpu" in terminal.read())
        terminal.press("/no-such-thing\r")
        eventually(lambda: "nothing" in terminal.read())
        terminal.press("q")
    assert terminal.process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_the_terminal_clean(session, number):
    with terminal_of(session) as terminal:
        terminal.process.send_signal(number)
    assert terminal.process.returncode in (130, 128 + number)


def test_little_is_written_while_nothing_changes(session):
    with terminal_of(session) as terminal:
        begun, at = len(terminal.read(1.0)), time.monotonic()
        terminal.read(4.0)
        rate = (len(terminal.text) - begun) / (time.monotonic() - at)
        print(f"{rate:.0f} bytes/s")
        assert rate < 5000
        terminal.press("q")

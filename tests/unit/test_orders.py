"""Orders to a job by files in its folder: both sides, in a folder that both see."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc.launchers.yarn.orders import ORDERS, PROGRAM, Orders, give, wait, withdraw


@pytest.fixture
def script() -> Iterator[subprocess.Popen[str]]:
    """A process that waits, and says which signal came."""
    program = (
        "import signal\nsignal.signal(signal.SIGINT, lambda *_: None)\n"
        "print('up', flush=True); signal.pause(); print('INT', flush=True)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def served(tmp_path: Path, script: subprocess.Popen[str]) -> Iterator[Path]:
    """A job's folder, where orders are carried out."""
    orders, over = Orders(tmp_path, script.pid), threading.Event()

    def serve() -> None:
        while not over.wait(0.01):
            orders.look()

    thread = threading.Thread(target=serve)
    thread.start()
    yield tmp_path
    over.set()
    thread.join()
    orders.close()


def outside(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, str(folder), *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def test_a_signal_reaches_the_script(served: Path, script: subprocess.Popen[str]) -> None:
    order = give(served, {"signal": "INT"})
    assert wait(order) == 0
    withdraw(order)
    assert script.stdout is not None and script.stdout.readline() == "INT\n"
    assert list((served / ORDERS).iterdir()) == []


def test_a_command_is_as_if_it_ran_here(served: Path) -> None:
    program = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)"
    done = outside(served, sys.executable, "-c", program)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert list((served / ORDERS).iterdir()) == []


def test_output_comes_while_the_command_runs(served: Path) -> None:
    program = "import time; print('first', flush=True); time.sleep(300)"
    command = [sys.executable, "-c", PROGRAM, str(served), sys.executable, "-c", program]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "first\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 128 + signal.SIGINT
    process.stdout.close()
    end = time.monotonic() + 10
    while any(b"print('first'" in cmdline(pid) for pid in os.listdir("/proc") if pid.isdigit()):
        assert time.monotonic() < end, "the command outlived whoever asked for it"
        time.sleep(0.05)


def cmdline(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("order", ["{", "{}", '{"signal": "NO"}', '{"run": []}', '{"run": ["/nowhere"]}', "[]"])
def test_what_cannot_be_carried_out_is_said(served: Path, order: str) -> None:
    (served / ORDERS).mkdir(exist_ok=True)
    (served / ORDERS / "x.json").write_text(order)
    said: list[bytes] = []
    assert wait(served / ORDERS / "x", lambda out, err: said.append(err)) == 126
    assert b"cannot be carried out" in b"".join(said)


def test_nobody_who_takes_orders_and_no_job_are_said(tmp_path: Path) -> None:
    assert wait(give(tmp_path, {"signal": "INT"}), taken_s=0.1) is None
    done = outside(tmp_path / "gone", "true")
    assert done.returncode == 1 and "does not run" in done.stderr


def test_an_order_is_never_seen_in_part(tmp_path: Path) -> None:
    order = give(tmp_path, {"run": ["true"] * 1000})
    assert json.loads(Path(f"{order}.json").read_text())["run"] == ["true"] * 1000

"""Whatever is killed under hpc-launch: the right exit code, and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hpc.core.node.reap import is_running
from runtime.running import eventually, kill9, pid_of

LAUNCH = str(Path(sys.executable).with_name("hpc-launch"))
SCRIPT = """
import os, sys, time
import hpc
hpc.init()
@hpc.remote
def busy():
    time.sleep(600)
refs = [busy.remote() for _ in range(2)]
hpc.wait(refs, timeout=0.2)
print(os.getpid(), os.environ["HPC_SESSION_DIR"], flush=True)
hpc.get(refs)
"""


class Launched:
    """hpc-launch with two local nodes and a script that never ends by itself."""

    def __init__(self, folder: Path, script: str = SCRIPT) -> None:
        path = folder / "script.py"
        path.write_text(script)
        command = [LAUNCH, "--scheduler", "local", "--nodes", "2", "--job-dir", str(folder / "jobs"), str(path)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        driver, self.node_dir = self.process.stdout.readline().split()
        self.driver = int(driver)

    def end(self, timeout_s: float = 30.0) -> tuple[int, str]:
        """Wait for the end; exit code and standard error."""
        _, err = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, err

    def gone(self) -> bool:
        return not os.path.exists(self.node_dir) and not is_running(self.driver)


@pytest.fixture
def launched(tmp_path):
    run = Launched(tmp_path)
    yield run
    if run.process.poll() is None:
        run.process.kill()
    run.process.wait(60)
    for stream in (run.process.stdout, run.process.stderr):
        if stream is not None:
            stream.close()


@pytest.mark.parametrize("what", ["raylet", "zygote"])
def test_a_killed_part_of_the_drivers_node_ends_the_session(launched, what):
    kill9(pid_of(launched.node_dir, what))
    code, err = launched.end()
    assert code != 0
    assert err
    eventually(launched.gone)


def test_a_killed_driver_ends_the_session(launched):
    kill9(launched.driver)
    code, _ = launched.end()
    assert code == 128 + signal.SIGKILL
    eventually(launched.gone)


def test_a_killed_launcher_leaves_nothing(launched):
    kill9(launched.process.pid)
    launched.end()
    eventually(launched.gone)


def test_a_killed_supervisor_leaves_nothing(launched):
    import json

    supervisor = int(json.loads(Path(launched.node_dir, "session.json").read_text())["pid"])
    kill9(supervisor)
    code, _ = launched.end()
    assert code != 0
    eventually(launched.gone)


def test_sigterm_ends_it_in_order(launched):
    launched.process.send_signal(signal.SIGTERM)
    code, _ = launched.end()
    assert code == 128 + signal.SIGTERM
    eventually(launched.gone)


def test_a_killed_worker_is_replaced(tmp_path):
    script = """
import os, time
import hpc
hpc.init()
@hpc.remote(max_retries=3)
def slow(flag):
    first = not os.path.exists(flag)
    open(flag, "w").close()
    open(flag + "." + str(os.getpid()), "w").close()
    time.sleep(600 if first else 0)
    return 7
ref = slow.remote({flag!r})
print(os.getpid(), os.environ["HPC_SESSION_DIR"], flush=True)
assert hpc.get(ref) == 7
"""
    run = Launched(tmp_path, script.format(flag=str(tmp_path / "flag")))
    first = eventually(lambda: list(tmp_path.glob("flag.*")))[0]
    kill9(int(first.suffix[1:]))
    code, err = run.end()
    assert code == 0, err
    assert len(list(tmp_path.glob("flag.*"))) == 2
    assert run.process.stdout is not None
    run.process.stdout.close()


@pytest.mark.parametrize(("ending", "code"), [("raise SystemExit(7)", 7), ("1 / 0", 1), ("pass", 0)])
def test_the_scripts_own_exit_code_passes_through(tmp_path, ending, code):
    path = tmp_path / "script.py"
    path.write_text(f"import hpc\nhpc.init()\n{ending}\n")
    command = [LAUNCH, "--scheduler", "local", "--nodes", "2", "--job-dir", str(tmp_path / "jobs"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr


def test_what_user_code_leaves_running_ends_with_the_session(tmp_path):
    script = """
import os, subprocess
import hpc
hpc.init()
@hpc.remote
def daemon():
    return subprocess.Popen(["sleep", "600"], start_new_session=True).pid
print(os.getpid(), os.environ["HPC_SESSION_DIR"], flush=True)
print(hpc.get(daemon.remote()), flush=True)
"""
    run = Launched(tmp_path, script)
    assert run.process.stdout is not None
    out = run.process.stdout.read()  # not communicate(): that does not see what readline() has read ahead
    code, err = run.end()
    assert code == 0, err
    pid = int(out.split()[0])
    eventually(lambda: not os.path.exists(f"/proc/{pid}"))

"""Another user of the same machine tries everything that a running session has: files, sockets, memory, processes.

The session's user is root here, and the other one is `nobody`. docs/security.md has the list of what is tried.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hpc
from hpc.core import raylet
from runtime.running import children, hpc_json, one_node

NOBODY = 65534
pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")

#: Runs as the other user; prints what it could do, as a list in JSON.
ATTACK = """
    import ctypes, json, os, socket, stat, sys
    os.setgroups([]); os.setgid({uid}); os.setuid({uid})
    pids, folders = json.loads(sys.argv[1])
    could = []

    def tries(what, action):
        try:
            action()
        except (OSError, PermissionError):
            return
        could.append(what)

    for pid in pids:
        for name in ("environ", "mem", "maps", "io", "stack", "auxv", "cwd", "root", "exe"):
            path = f"/proc/{{pid}}/{{name}}"
            if name in ("cwd", "root", "exe"):
                tries(path, lambda: os.readlink(path))
            else:
                tries(path, lambda: open(path, "rb").read(64))
        tries(f"/proc/{{pid}}/fd", lambda: os.listdir(f"/proc/{{pid}}/fd"))
        for fd in range(64):
            tries(f"/proc/{{pid}}/fd/{{fd}}", lambda: os.close(os.open(f"/proc/{{pid}}/fd/{{fd}}", os.O_RDONLY)))
        tries(f"signal to {{pid}}", lambda: os.kill(pid, 0))
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.ptrace(16, pid, None, None) == 0:  # PTRACE_ATTACH
            could.append(f"ptrace of {{pid}}")
        pidfd = os.pidfd_open(pid)
        for fd in range(16):
            if libc.syscall(438, pidfd, fd, 0) >= 0:  # pidfd_getfd
                could.append(f"descriptor {{fd}} of {{pid}}")
        os.close(pidfd)
    for folder in folders:
        tries(f"list {{folder}}", lambda: os.listdir(folder))
        tries(f"write in {{folder}}", lambda: os.close(os.open(folder + "/mine", os.O_CREAT | os.O_WRONLY)))
        for name in ("raylet.sock", "w1.sock", "session.json", "logs", "logs/head.log", "logs/raylet.log", "lock",
                     "journal", "driver.log", "job.json", "status.json", "worker-1.out", "logs/worker-1.out"):
            path = f"{{folder}}/{{name}}"
            tries(f"stat {{path}}", lambda: os.stat(path))
            tries(f"open {{path}}", lambda: os.close(os.open(path, os.O_RDONLY)))
            with socket.socket(socket.AF_UNIX) as probe:
                tries(f"connect {{path}}", lambda: probe.connect(path))
    print(json.dumps(could))
"""


def attack(pids: list[int], folders: list[str]) -> list[str]:
    """What another user can do to these processes and folders."""
    program = textwrap.dedent(ATTACK).format(uid=NOBODY)
    python = os.path.realpath(sys.executable)
    words = [python, "-I", "-S", "-c", program, json.dumps([pids, folders])]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, cwd="/", check=False)
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found


def below(pid: int) -> list[int]:
    found = children(pid)
    return found + [p for child in found for p in below(child)]


@hpc.remote
def pid_of_worker() -> int:
    print("a line of a task", flush=True)
    return os.getpid()


@pytest.fixture
def session() -> Iterator[dict[str, Any]]:
    """A session with a worker: its node's directory and all its processes."""
    with one_node():
        worker = hpc.get(pid_of_worker.remote())
        folder = os.path.dirname(hpc.nodes()[0]["RayletSocketName"])
        supervisor = int(hpc_json(folder)["pid"])
        yield {"folder": folder, "pids": [supervisor, *below(supervisor)], "worker": worker}


def test_another_user_gets_nothing_of_a_sessions_processes_and_folders(session: dict[str, Any]) -> None:
    assert session["worker"] in session["pids"] and len(session["pids"]) >= 4
    assert attack(session["pids"], [session["folder"]]) == []


def test_the_attack_succeeds_where_nothing_is_protected(tmp_path: Path) -> None:
    """The check itself: a process of the other user, and an open folder."""
    entered_by_all(tmp_path)
    tmp_path.chmod(0o777)
    (tmp_path / "driver.log").write_text("open")
    theirs = subprocess.Popen(
        ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "sleep", "60"], cwd="/"
    )
    try:
        while f"Uid:\t{NOBODY}" not in Path(f"/proc/{theirs.pid}/status").read_text():
            pass
        could = attack([theirs.pid], [str(tmp_path)])
    finally:
        theirs.kill()
        theirs.wait()
    assert f"/proc/{theirs.pid}/environ" in could and f"signal to {theirs.pid}" in could
    assert f"write in {tmp_path}" in could and f"open {tmp_path}/driver.log" in could


def entered_by_all(folder: Path) -> None:
    """Let everybody enter a folder, as they can enter a home or a scratch folder."""
    for path in (folder, *list(folder.parents)[:3]):
        path.chmod(path.stat().st_mode | 0o755)


def test_another_user_cannot_read_a_jobs_folder(tmp_path: Path) -> None:
    """It is made under the usual umask, with what the script and its tasks print."""
    entered_by_all(tmp_path)
    script = tmp_path / "waits.py"
    script.write_text(
        "import os, time, hpc\n"
        "hpc.init()\n"
        "print('runs', flush=True)\n"
        f"while not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.02)\n"
    )
    env = {**os.environ, "HPC_JOB_DIR": str(tmp_path / "jobs")}
    command = [sys.executable, "-m", "hpc", "launch", "--quiet", "--scheduler=local", str(script)]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True, umask=0o022, cwd=tmp_path) as run:
        try:
            assert run.stdout is not None and run.stdout.readline() == "runs\n"
            (job,) = (tmp_path / "jobs").iterdir()
            assert (job / "job.json").exists()
            assert attack([], [str(tmp_path / "jobs"), str(job)]) == []
        finally:
            (tmp_path / "go").touch()
    assert run.returncode == 0


def test_another_user_cannot_read_what_a_node_spills(tmp_path: Path) -> None:
    entered_by_all(tmp_path)
    with one_node(object_store_memory=64 << 20, object_spilling_directory=str(tmp_path)):
        held = [hpc.put(np.full(20 << 20, i, np.uint8)) for i in range(4)]
        folders = [str(path) for path in tmp_path.iterdir()]
        assert folders and [name for folder in folders for name in os.listdir(folder) if name != "lock"]
        assert [line for line in attack([], folders) if "stat" not in line] == []
        del held


def test_head_and_raylet_have_nothing_that_unpickles() -> None:
    """What they receive is never unpickled: what could read a value of ours is not even loaded in them."""
    code = (
        "import sys\n"
        "import hpc.core.head.main, hpc.core.raylet.main\n"
        "print(sorted({'cloudpickle', 'dill', 'hpc.core.serialization', 'hpc.core.code'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
    root = Path(raylet.__path__[0]).parent
    files = [path for room in ("head", "raylet", "net", "store", "policy") for path in (root / room).glob("*.py")]
    assert len(files) > 40
    users = [
        path.name
        for path in files
        if re.search(r"\b(pickle|marshal|shelve|recv_pyobj|eval|exec)\b\(?", path.read_text())
    ]
    assert not users, users

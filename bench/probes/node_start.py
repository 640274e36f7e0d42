"""What the start of a node costs, as counts: modules that its processes import, its processes, and files looked for.

"modules, supervisor": before the first fork, beyond those of the bare interpreter; "modules, raylet" and
"modules, zygote": what these import beside. "processes" are those of a node with two workers and without a head. With
strace, "files" are the calls that open or look at a file, from the start of the node program until it has ended, while
it joins a session whose other node is not counted.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

FILE_CALLS = ("open", "openat", "stat", "newfstatat", "lstat", "access", "readlink", "getdents64")


def modules() -> dict[str, list[str]]:
    """What each process imports that those before it in the same line have not."""
    found = {}
    for name, wanted in (
        ("supervisor", lambda: importlib.import_module("hpc.core.node.supervisor")),
        ("raylet", lambda: sys.modules["hpc.core.node.programs"].CHILDREN.preload(head=False)),
        ("zygote", lambda: sys.modules["hpc.core.node.imports"].import_threadless(_zygote().PRELOAD)),
    ):
        before = set(sys.modules)
        wanted()
        found[name] = sorted(set(sys.modules) - before)
    return found


def _zygote() -> Any:
    return importlib.import_module("hpc.core.node.zygote")


def node(command: list[str]) -> int:
    """Have a node started by this command join a session; returns how many processes it has."""
    from hpc.core.node.reap import descendants
    from hpc.launchers.local.group import LocalGroup
    from hpc.launchers.session import Session

    session = Session(LocalGroup(1), overrides={"num_cpus": 1})
    try:
        session.start()
        session.wait_ready(60.0)
        group = LocalGroup(1, command=command)
        (number,) = session.add_group(group, overrides={"num_cpus": 2})
        info = session.wait_node(number, 60.0)
        supervisor = int(info.hello["pid"])
        until = time.monotonic() + 20.0
        while sum(_is_worker(pid) for pid in descendants(supervisor)) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        return 2 + len(descendants(supervisor))  # with the supervisor, and its keeper
    finally:
        session.stop(5.0)


def _is_worker(pid: int) -> bool:
    try:
        return "IDLE" in Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return False


def traced() -> dict[str, int]:
    """The calls that look for files; empty where strace cannot say."""
    strace = shutil.which("strace")
    if strace is None or subprocess.run([strace, "-qqo", os.devnull, "true"], capture_output=True).returncode:
        return {}
    from hpc.launchers.node_group import node_command

    with TemporaryDirectory() as folder:
        out = os.path.join(folder, "calls")
        node(
            [strace, "-fcqq", "-o", out, "-e", "trace=" + ",".join(f"?{name}" for name in FILE_CALLS), *node_command()]
        )
        rows = re.findall(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", Path(out).read_text(), re.MULTILINE)
    return {"files": sum(int(calls) for calls, name in rows if name in FILE_CALLS)}


def main() -> None:
    from hpc.launchers.node_group import node_command

    processes = node(node_command())
    calls = traced()
    program = "import sys; sys.path.insert(0, sys.argv[1]); from node_start import modules; print(repr(modules()))"
    command = [sys.executable, "-c", program, os.path.dirname(__file__)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    names = ast.literal_eval(done.stdout)
    counts = {f"modules, {name}": len(found) for name, found in names.items()}
    print("@bench " + json.dumps({**counts, "processes": processes, **calls, "names": names}))


if __name__ == "__main__":
    main()

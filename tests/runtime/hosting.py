"""`hpc start` and friends for tests: commands in a folder of their own, and sessions that surely end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hpc.core.node.reap import is_running
from hpc.host.find import hosts
from runtime.running import eventually

ENV = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "HPC_SESSION", "HPC_ADDRESS", "HPC_JOB"))}
ENV["HPC_JOB_DIR"] = os.path.join(os.environ["HPC_TMPDIR"], "jobs")  # of sessions that are started, too


def hpc_command(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run `hpc ...` to its end."""
    env = {**ENV, "HPC_TMPDIR": os.environ["HPC_TMPDIR"], **more.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-m", "hpc", *words], env=env, capture_output=True, text=True, timeout=60,
        stdin=subprocess.DEVNULL, **more,
    )  # fmt: skip


def python_script(text: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a script to its end."""
    environ = {**ENV, "HPC_TMPDIR": os.environ["HPC_TMPDIR"], **env}
    return subprocess.run([sys.executable, "-c", text], env=environ, capture_output=True, text=True, timeout=60)


@contextmanager
def started(*options: str) -> Iterator[dict[str, Any]]:
    """A session of `hpc start --head`; what it printed with --json. It ends with the block, whoever ended it."""
    given = () if any(o.startswith("--num-cpus") for o in options) else ("--num-cpus=2",)
    result = hpc_command("start", "--head", "--json", "--object-store-memory=80000000", *given, *options)
    assert result.returncode == 0, result.stderr
    facts: dict[str, Any] = json.loads(result.stdout)
    try:
        yield facts
    finally:
        if any(info.session == facts["session"] for info in hosts()):
            ended = hpc_command("stop", f"--session={facts['session']}", "--grace=2s")
            assert ended.returncode == 0, ended.stderr
        eventually(lambda: not is_running(facts["pid"]))

"""JupyterLab on the first node of a job, and the line of ssh to it: `hpc-launch ... -m hpc.templates.notebook`.

Its kernels belong to the session: `hpc.init()` in a notebook finds it, and several notebooks share its nodes. The
server listens on the loopback interface alone. Its address with the token is in a file that nobody else may read, as
the output of a job is often readable for others. The job ends with the server (its menu, Shut Down), or at its limit.
Rejected: listening on the node's address (anybody of the cluster could try); a fixed port (taken by somebody else).
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

START_S = 180.0
#: Variables with the name of the host from which the job was submitted.
SUBMITTED_FROM = ("SLURM_SUBMIT_HOST", "PBS_O_HOST", "HPC_SUBMIT_HOST")


def server_facts(runtime: Path, pid: int) -> dict[str, Any] | None:
    """What a Jupyter server has written about itself, None until it has."""
    try:
        facts: dict[str, Any] = json.loads((runtime / f"jpserver-{pid}.json").read_text())
    except (OSError, ValueError):
        return None
    return facts if facts.get("port") else None


def tunnel(host: str, port: int, env: Mapping[str, str], user: str) -> str:
    """The command that makes the server reachable as port 8888 of the user's own machine."""
    login = next((env[name] for name in SUBMITTED_FROM if env.get(name)), "LOGIN-NODE")
    return f"ssh -N -L 8888:127.0.0.1:{port} -J {user}@{login} {user}@{host}"


def write_address(folder: Path, port: int, token: str) -> Path:
    """Write the address as it is on the user's own machine, for the user alone (mode 0600)."""
    path = folder / "notebook-url"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    os.fchmod(descriptor, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"http://127.0.0.1:8888/lab?token={token}\n")
    return path


def start(words: Sequence[str], runtime: Path) -> subprocess.Popen[bytes]:
    """Start the server. RuntimeError where JupyterLab is not installed."""
    import importlib.util

    if importlib.util.find_spec("jupyterlab") is None:
        raise RuntimeError(f"JupyterLab is not installed beside {sys.executable}: pip install jupyterlab")
    options = ["--no-browser", "--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", "--ServerApp.open_browser=False"]
    if os.geteuid() == 0:
        options.append("--allow-root")
    # A token that the server makes itself would stand in its output; one from the environment does not.
    env = {**os.environ, "JUPYTER_RUNTIME_DIR": str(runtime), "JUPYTER_TOKEN": secrets.token_urlsafe(32)}
    return subprocess.Popen([sys.executable, "-m", "jupyterlab", *options, *words], env=env)


def wait_for(server: subprocess.Popen[bytes], runtime: Path) -> dict[str, Any]:
    """The server's facts, when it listens. RuntimeError if it ends before, or takes too long."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        facts = server_facts(runtime, server.pid)
        if facts:
            return facts
        if server.poll() is not None:
            raise RuntimeError(f"JupyterLab ended with code {server.returncode}; what it said is above")
        time.sleep(0.1)
    server.terminate()
    raise RuntimeError(f"JupyterLab did not come up within {START_S:g} s")


def main(words: Sequence[str]) -> int:
    """Run a server until it ends. words: more options for JupyterLab."""
    runtime = Path(tempfile.mkdtemp(prefix="hpc-notebook-"))  # mode 0700
    folder = Path(os.environ.get("HPC_NOTEBOOK_DIR") or Path.cwd())
    server = start(words, runtime)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.terminate())
    try:
        facts = wait_for(server, runtime)
        address = write_address(folder, facts["port"], facts["token"])
        print(f"JupyterLab runs on {os.uname().nodename}. On your own machine:", flush=True)
        print(f"    {tunnel(os.uname().nodename, facts['port'], os.environ, getpass.getuser())}", flush=True)
        print(f"and open the address in {address}", flush=True)
        code = server.wait()
        address.unlink(missing_ok=True)
        return 0 if code in (0, -signal.SIGTERM) else code
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()
        for path in runtime.iterdir():
            path.unlink()
        runtime.rmdir()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except RuntimeError as error:
        sys.exit(f"error: {error}")

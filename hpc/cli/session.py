"""Being a guest in a session that runs: by its id, the only one here, or that of a job.

A job's session is on its nodes. Where one of them is this machine its directory is here; else the same command is run
there, in the job's own allocation by one srun. Rejected: a connection from the login node (nodes often cannot be
reached from there, and the session's keys would have to leave its nodes).
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hpc.cli import jobdir
from hpc.cli.errors import CliError
from hpc.cli.jobdir import JobDir


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """A connection as a further driver, which prints nothing of the workers'; CliError where there is no session."""
    import hpc

    try:
        hpc.init(address=address or "auto", log_to_driver=False)
    except ConnectionError as error:
        raise CliError("NO-SESSION", str(error), fix="hpc start --head, or a script that is running") from None
    try:
        yield
    finally:
        hpc.shutdown()


def address_of(job: JobDir) -> str:
    """The node directory on this machine of a job's session; "" where it has ended or is elsewhere."""
    status = job.status()
    path = str(status.get("node_dir", ""))
    here = status.get("host") == socket.gethostname() and status.get("state") == "running" and not jobdir.over(job)
    return path if here and path and os.path.exists(os.path.join(path, "raylet.sock")) else ""


def is_elsewhere(job: JobDir) -> bool:
    """Whether the job's session runs on nodes that this machine is none of, as far as its folder says."""
    status = job.status()
    runs = status.get("state") == "running" and job.job().get("kind") == "submitted"
    return runs and bool(status.get("node_dir")) and status.get("host") != socket.gethostname()


def run_there(job: JobDir, words: Sequence[str]) -> int:
    """Run `hpc WORDS` on the node where the job's hpc-launch is, with its session as the address; the exit code."""
    status = job.status()
    job_id = str(job.job().get("scheduler_id", ""))
    argv = ["srun", f"--jobid={job_id}", "--overlap", "--quiet", "--nodes=1", "--ntasks=1", "--mem=0"]
    argv += [f"--nodelist={status.get('node_name') or status.get('host')}", "--chdir=/"]
    argv += [sys.executable, "-m", "hpc", *words]
    argv += [f"--address={status.get('node_dir')}"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_") or name == "SLURM_CONF"}
    try:
        return subprocess.run(argv, env=env, check=False).returncode
    except OSError as error:
        raise CliError("SCHEDULER-DOWN", f"srun cannot be run to look into job {job_id}", why=str(error)) from None

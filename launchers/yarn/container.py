"""What each container of an application runs: the first becomes hpc-launch, the others are nodes that dial in.

YARN starts containers one by one as nodes become free, which may take hours, and tells none of them of the others. So
each writes its host's name into the job's folder, and the first waits until all have. Then the nodes are known, and
hpc-launch finds them in its environment (commands.allocation). The folder is on a file system that all see; it is the
user's alone, and so is the join file in it.

A second attempt of the application starts all containers anew: those end at once, for a second run could overwrite
what the first wrote.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from hpc.launchers.joiner import DESERTED, join_group
from hpc.launchers.scheduler import NoAnswer
from hpc.launchers.yarn import commands

HOST_FILES = "hosts"
FIRST_WAIT_S, MOST_WAIT_S = 0.02, 1.0
FILE_S = 120.0  # from the last container's start to the join file: hpc-launch starts at once
ANSWER_S = 60.0


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """One container: `--nodes=N --resources=memory-mb=M,... [--time=S] --folder=DIR -- COMMAND`."""
    parser = argparse.ArgumentParser(prog="container")
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--resources", required=True)
    parser.add_argument("--time", type=float)
    parser.add_argument("--folder", required=True)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args(argv)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    known = commands.parse_container(os.environ.get(commands.CONTAINER, ""))
    number = os.environ.get(commands.SHELL_ID, "")
    if known is None or not number.isdigit():
        sys.exit(f"hpc: this is no container of the DistributedShell ({commands.CONTAINER}, {commands.SHELL_ID})")
    job_id, attempt = known
    rank = int(number) - 1
    if attempt > 1 or rank >= options.nodes:
        print(f"hpc: container {number} of attempt {attempt} has nothing to do: the job does not run twice", flush=True)
        sys.exit(0)
    os.environ.update(commands.grant(options.resources))
    folder = Path(options.folder) / job_id
    folder.mkdir(mode=0o700, exist_ok=True)
    host = os.environ.get("NM_HOST") or os.uname().nodename
    if rank == 0:
        first(folder, options.nodes, options.time, host, job_id, command)
    sys.exit(other(folder, rank, host, job_id))


def other(folder: Path, rank: int, host: str, job_id: str) -> int:
    """A node that waits for the first and dials in. SIGTERM comes to all containers, and is for the first alone: nodes
    must not end before hpc-launch has ended the script."""
    announce(folder, rank, host)
    code = join_group(
        str(folder / commands.JOIN_FILE), rank, file_s=float("inf"), answer_s=ANSWER_S, ignored=(signal.SIGTERM,)
    )
    if code == DESERTED:
        end(job_id)
    return code


def end(job_id: str) -> None:
    """The first node is gone, and with it the job: its master would try for minutes to stop the container there."""
    from hpc.launchers.yarn.manager import Manager, NotKnown

    try:
        Manager(client=False).kill(job_id, commands.FIRST_IS_LOST)
    except (NoAnswer, NotKnown) as error:
        print(f"hpc: {commands.FIRST_IS_LOST}; YARN could not be told: {error}", file=sys.stderr, flush=True)


def first(folder: Path, nodes: int, time_s: float | None, host: str, job_id: str, command: Sequence[str]) -> NoReturn:
    """Wait for the others, then become hpc-launch."""
    announce(folder, 0, host)
    hosts = await_hosts(folder, nodes)
    env = {**os.environ, commands.JOB: job_id, commands.HOSTS: ",".join(hosts), commands.FOLDER: str(folder)}
    if time_s is not None:
        env[commands.END] = f"{time.time() + time_s:.3f}"
        limit(job_id, time_s)
    os.execvpe(command[0], list(command), env)


def announce(folder: Path, rank: int, host: str) -> None:
    """This container is there."""
    scratch = folder / f".{HOST_FILES}-{rank}"
    scratch.write_text(host)
    scratch.rename(folder / f"{HOST_FILES}-{rank}")


def await_hosts(folder: Path, nodes: int) -> list[str]:
    """The hosts of all containers in the order of their ranks, once they are there, which may take hours."""
    found: dict[int, str] = {}
    wait_s = FIRST_WAIT_S
    while True:
        for rank in range(nodes):
            path = folder / f"{HOST_FILES}-{rank}"
            if rank not in found and path.exists():
                found[rank] = path.read_text().strip()
                wait_s = FIRST_WAIT_S
        if len(found) == nodes:
            return [found[rank] for rank in range(nodes)]
        time.sleep(wait_s)
        wait_s = min(MOST_WAIT_S, wait_s * 1.3)


def limit(job_id: str, time_s: float) -> None:
    """Has the ResourceManager end what does not end by itself. hpc-launch keeps the limit; where this cannot be asked
    for (a login that containers have not), YARN's own limits are what is left."""
    from hpc.launchers.yarn.manager import Manager, NotKnown

    now = time.time()
    try:
        Manager(client=False).kill_at(job_id, now + time_s + commands.LIMIT_MARGIN_S, now)
    except (NoAnswer, NotKnown) as error:
        print(f"hpc: YARN was not told of the time limit, which hpc-launch keeps: {error}", file=sys.stderr, flush=True)

"""What each container of an application runs: the first is hpc-launch's, the others are nodes that dial in.

YARN starts containers one by one as nodes become free, which may take hours, and tells none of them of the others. So
each writes its host's name into the job's folder, and the first waits until all have. Then the nodes are known:
hpc-launch finds them in its environment (commands.allocation). The folder is on a file system that all see; it is the
user's alone, and so is the join file in it.

The job script begins this program, which runs the script once more with what it has found out. Then come the
user's lines of --setup, and hpc-launch or a node (`--node`). In the first container this process stays: the
others must learn that the job is over, in whatever way that happened.

A second attempt of the application starts all containers anew: those end at once, for a second run could overwrite
what the first wrote.
"""

from __future__ import annotations

import argparse
import getpass
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from hpc.launchers.scheduler import NoAnswer
from hpc.launchers.yarn import commands
from hpc.launchers.yarn.orders import LOOK_S, Orders

HOST_FILES = "hosts"
FIRST_WAIT_S, MOST_WAIT_S = 0.02, 1.0
FILE_S = 300.0  # a file that was seen may hide once more behind a cache
ANSWER_S = 60.0
ASK_S = 30.0


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """One container. The words of the command line are those of commands.job_script."""
    parser = argparse.ArgumentParser(prog="container")
    parser.add_argument("--node", action="store_true")
    parser.add_argument("--nodes", type=int)
    parser.add_argument("--resources", default="")
    parser.add_argument("--output", default=os.devnull)
    parser.add_argument("--name", default="")
    parser.add_argument("--time", type=float)
    parser.add_argument("--folder", default="")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args(argv)
    if options.node:
        sys.exit(node())
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
    folder = Path(options.folder) / job_id
    folder.mkdir(mode=0o700, exist_ok=True)
    os.environ.update(commands.grant(options.resources))
    os.environ.update({commands.JOB: job_id, commands.FOLDER: str(folder), commands.RANK: str(rank)})
    host = os.environ.get("NM_HOST") or os.uname().nodename
    if rank == 0:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        try:
            announce(folder, rank, host)
            output = commands.output_file(options.output, job_id, options.name, getpass.getuser())
            sys.exit(first(folder, options.nodes, options.time, job_id, command, output))
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # so the others know that it is over
    announce(folder, rank, host)
    if not await_join_file(folder, job_id):
        sys.exit(1)
    os.execvp(command[0], command)


# ---------------------------------------------------------------- the first


def first(folder: Path, nodes: int, time_s: float | None, job_id: str, command: Sequence[str], output: str) -> int:
    """Wait for the others, then for the job script; returns its exit code.

    YARN signals all processes of this group: the script's gets SIGTERM by itself, and this one has only to go on.
    """
    with open(output, "ab", buffering=0) as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    os.environ[commands.HOSTS] = ",".join(await_hosts(folder, nodes))
    if time_s is not None:
        os.environ[commands.END] = f"{time.time() + time_s:.3f}"
        limit(job_id, time_s)
    early: list[int] = []
    signal.signal(signal.SIGTERM, lambda signum, _frame: early.append(signum))
    with subprocess.Popen(list(command)) as script:
        if early:
            script.terminate()
        code = await_script(script, Orders(folder, script.pid))
    return 128 - code if code < 0 else code


def await_script(script: subprocess.Popen[bytes], orders: Orders) -> int:
    """The exit code of the job script; meanwhile orders are carried out."""
    try:
        while True:
            try:
                return script.wait(LOOK_S)
            except subprocess.TimeoutExpired:
                orders.look()
    finally:
        orders.close()


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


# ---------------------------------------------------------------- the others


def await_join_file(folder: Path, job_id: str) -> bool:
    """Wait for the join file, which may take hours; False when the job is over without one."""
    wait_s, ask_at = FIRST_WAIT_S, time.monotonic() + ASK_S
    while not (folder / commands.JOIN_FILE).exists():
        if not folder.exists():
            return False
        if time.monotonic() > ask_at:
            ask_at = time.monotonic() + ASK_S
            if some_have_ended(job_id):
                return False
        time.sleep(wait_s)
        wait_s = min(MOST_WAIT_S, wait_s * 1.3)
    return True


def some_have_ended(job_id: str) -> bool:
    """Whether a container has ended, though none does before the session has begun: the first could not even wait."""
    from hpc.launchers.yarn.manager import Manager, NotKnown

    try:
        return commands.has_begun_to_end(Manager(client=False).app(job_id))
    except (NoAnswer, NotKnown):
        return False


def node() -> int:
    """A node that dials in. SIGTERM comes to all containers, and is for the first alone: nodes must not end before
    hpc-launch has ended the script."""
    from hpc.launchers.joiner import DESERTED, join_group

    folder, rank = Path(os.environ[commands.FOLDER]), int(os.environ[commands.RANK])
    path = str(folder / commands.JOIN_FILE)
    code = join_group(path, rank, file_s=FILE_S, answer_s=ANSWER_S, ignored=(signal.SIGTERM,))
    if code == DESERTED:
        end(os.environ[commands.JOB])
    return code


def end(job_id: str) -> None:
    """The first node is gone, and with it the job: its master would try for minutes to stop the container there."""
    from hpc.launchers.yarn.manager import Manager, NotKnown

    try:
        Manager(client=False).kill(job_id, commands.FIRST_IS_LOST)
    except (NoAnswer, NotKnown) as error:
        print(f"hpc: {commands.FIRST_IS_LOST}; YARN could not be told: {error}", file=sys.stderr, flush=True)

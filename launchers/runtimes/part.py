"""A cluster runtime's part on a node: starts it there, says when it is up and how it is reached, ends with it.

The supervisor runs this program. Its stdout is for the launcher alone: one line of JSON, once the part is up. What the
runtime's own processes write goes to a file in the node's folder. Its last lines go to stderr when they end. The
order comes in a variable and names files of keys, never a key.

SIGTERM comes from the supervisor, to all that runs here.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, NoReturn

from hpc.core.node import rundir
from hpc.core.node.tail import last_lines
from hpc.launchers.runtimes.face import PART_ENV, Order, Say

FREE_PORT, SHORT_FOLDER = "{free_port}", "{short}"
SHARED_BYTES = re.compile(r"\{shared:(\d+)\}")
LOOK_S = 0.05
MOST_LOOKED_AT = 1 << 20
#: Part of the free shared memory that one runtime may take: others have sessions on this machine too.
SHARED_PART = 0.9


def main() -> NoReturn:
    """Be the part that the variable HPC_PART orders."""
    order = json.loads(os.environ.pop(PART_ENV))
    words = os.dup(1)
    os.set_inheritable(words, False)
    os.dup2(2, 1)

    def say(facts: Mapping[str, Any]) -> None:
        os.write(words, json.dumps(dict(facts)).encode() + b"\n")

    if order["part"] == "dask":
        from hpc.launchers.runtimes.dask_part import dask_part

        sys.exit(dask_part(order, say))
    sys.exit(command_part(order, say))


def command_part(order: Order, say: Say) -> int:
    """Run a command that stays, and say what it writes of itself: the groups of the pattern `up`.

    argv: may have {free_port}, {short}, and {shared:N}: N bytes, or what there is of shared memory. log: its output.
    short: session and node, for a folder of a short name. foreign: a folder with the name of another node's, which the
    command makes here, if it does. Both folders go with the command.
    """
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda signum, _frame: told.append(signum))  # the command has it too: its end counts
    with ExitStack() as folders:
        try:
            short = _short_folder(order, folders)
            argv = [filled(word, short) for word in order["argv"]]
        except rundir.RunDirError as error:
            print(error, file=sys.stderr)
            return 1
        foreign = order.get("foreign")
        if foreign is not None and _make(foreign):
            folders.callback(rundir.remove, foreign)
        code = _run(argv, order["log"], re.compile(order["up"]), say)
    if code and not told:
        sys.stderr.write("\n".join(last_lines(order["log"])) + "\n")
    return code if code >= 0 else 128 - code


def _run(argv: list[str], log: str, up: re.Pattern[str], say: Say) -> int:
    """Its output goes to the file itself: what the command leaves behind may hold a pipe open for ever."""
    with open(os.open(log, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "rb+") as file:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        while process.poll() is None:
            found = up.search(os.pread(file.fileno(), MOST_LOOKED_AT, 0).decode(errors="replace"))
            if found:
                say(found.groupdict())
                break
            time.sleep(LOOK_S)
        return process.wait()


def _short_folder(order: Order, folders: ExitStack) -> str:
    """A folder in /tmp of its own, if the order asks for one: locked, so that it is swept should nobody remove it."""
    if "short" not in order:
        return ""
    session, number = order["short"]
    made = rundir.make("/tmp", session, number)
    folders.callback(rundir.remove, made.path)
    return made.path


def _make(folder: str) -> bool:
    """Whether a folder had to be made: it is this node's then, for the machine does not share it with another node."""
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        return False
    return True


def filled(word: str, short_folder: str = "") -> str:
    """An argument with what only this machine knows."""
    word = word.replace(SHORT_FOLDER, short_folder)
    if FREE_PORT in word:
        word = word.replace(FREE_PORT, str(free_port()))
    shared = SHARED_BYTES.search(word)
    if shared:
        free = os.statvfs("/dev/shm")
        room = int(free.f_bavail * free.f_frsize * SHARED_PART)
        word = SHARED_BYTES.sub(str(min(int(shared.group(1)), room)), word)
    return word


def free_port() -> int:
    """A port that nobody listens on now, from where the kernel takes those of short connections."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])

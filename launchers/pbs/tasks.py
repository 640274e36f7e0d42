"""The tasks of a PBS job, started by PBS's own library: one process that starts one task on each of the other nodes.

PBS's commands for that (pbs_tmrsh, pbsdsh) give a task nothing but its words, which every user can see. The library
that they are made of gives it variables, too, which nobody but the user can: they go the way of the job's own. So what
a node has to know comes with its task, and the nodes need not share any folder.

The process ends when all tasks have ended. Each end is a line on stdout: "task RANK CODE".
Rejected: calling the library in hpc-launch itself (it blocks, and a release may crash). Rejected too: PBS's protocol in
Python (releases differ), and a key derived from PBS_JOBCOOKIE (PBS draws it from a few million that can be guessed).
"""

from __future__ import annotations

import ctypes
import glob
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from hpc.launchers.carrier import CARRIED, carrier_command, key_in
from hpc.launchers.joiner import JOIN_VARIABLE, KEY_VARIABLE, handed_over_command
from hpc.launchers.joinfile import JoinFile, JoinFileError, await_join_file

PROGRAM = "import sys; sys.path[:]=[p for p in sys.path if p]; from hpc.launchers.pbs.tasks import main; main()"
FILE_S = 30.0
FAILED = 1
_NULL_EVENT, _ERROR_EVENT = 0, -1


def library(exec_dir: str | None) -> str | None:
    """The library of this PBS; None where its installation has none (old releases)."""
    found = sorted(glob.glob(f"{exec_dir}/lib*/libpbs.so*")) if exec_dir else []
    return found[0] if found else None


def order(
    library_path: str, join_path: str, hosts: Sequence[str], step_args: Sequence[str], env: Mapping[str, str], cwd: str
) -> dict[str, Any]:
    """What `main` reads: start a task on each of the hosts but the first, which are numbered in this order.

    Where the job's folder is carried (its place is in the environment), it is carried to them, too.
    """
    fields = {"library": library_path, "join": join_path, "hosts": list(hosts), "step_args": list(step_args)}
    return {**fields, "env": dict(env), "cwd": cwd}


class NotStarted(Exception):
    """PBS's library has not done what it was asked for."""


class TaskInterface:
    """PBS's task interface, as far as it is needed. It speaks for one job, that of the environment."""

    def __init__(self, library_path: str) -> None:
        self._lib = ctypes.CDLL(library_path)
        roots = (ctypes.c_int * 32)()  # struct tm_roots is smaller
        self._check("tm_init", self._lib.tm_init(None, roots))
        self.events: dict[int, int] = {}  # an event that is waited for: the rank
        self._kept: list[Any] = []  # what the library writes to when the answer comes

    def _check(self, name: str, code: int) -> None:
        if code:
            raise NotStarted(f"PBS's {name} failed with {code}")

    def spawn(self, rank: int, node: int, argv: Sequence[str], env: Mapping[str, str]) -> ctypes.c_uint:
        """Begin to start a task on a node, which is the number of one of its lines in the node file."""
        words = (ctypes.c_char_p * (len(argv) + 1))(*(os.fsencode(word) for word in argv), None)
        pairs = [os.fsencode(f"{name}={value}") for name, value in env.items()]
        variables = (ctypes.c_char_p * (len(pairs) + 1))(*pairs, None)
        task, event = ctypes.c_uint(), ctypes.c_int()
        self._check(
            "tm_spawn", self._lib.tm_spawn(len(argv), words, variables, node, ctypes.byref(task), ctypes.byref(event))
        )
        self._kept.append(task)
        self.events[event.value] = rank
        return task

    def obit(self, rank: int, task: ctypes.c_uint) -> ctypes.c_int:
        """Ask for the end of a task: its exit code is there once the event has come."""
        code, event = ctypes.c_int(), ctypes.c_int()
        self._check("tm_obit", self._lib.tm_obit(task, ctypes.byref(code), ctypes.byref(event)))
        self._kept.append(code)
        self.events[event.value] = rank
        return code

    def next(self) -> tuple[int, int]:
        """Wait for the next event: the rank that it is about, and PBS's error (0: none)."""
        event, error = ctypes.c_int(), ctypes.c_int()
        self._check("tm_poll", self._lib.tm_poll(_NULL_EVENT, ctypes.byref(event), 1, ctypes.byref(error)))
        if event.value == _ERROR_EVENT or event.value not in self.events:
            raise NotStarted(f"PBS's server on this node ended the conversation ({error.value})")
        return self.events.pop(event.value), error.value


def node_numbers(hosts: Sequence[str], node_file: str) -> list[int]:
    """The number of the first line of each host in the text of the node file."""
    lines = node_file.split()
    return [lines.index(host) for host in hosts]


def say(rank: int, code: int) -> None:
    print(f"task {rank} {code}", flush=True)


def run(told: Mapping[str, Any], join: JoinFile) -> None:
    """Start all tasks at once, and wait for their ends."""
    with open(os.environ["PBS_NODEFILE"]) as file:
        nodes = node_numbers(told["hosts"], file.read())
    tasks = TaskInterface(told["library"])
    env = {**told["env"], JOIN_VARIABLE: join.text}
    if CARRIED in env:
        env[KEY_VARIABLE] = key_in(env[CARRIED])
    started = {}
    for rank, node in list(enumerate(nodes))[1:]:
        around = carrier_command(KEY_VARIABLE, env[CARRIED], rank + 1) if CARRIED in env else ()
        argv = [*told["step_args"], *handed_over_command(told["cwd"], rank, around)]
        started[rank] = tasks.spawn(rank, node, argv, env)
    codes: dict[int, ctypes.c_int] = {}
    while tasks.events:
        rank, error = tasks.next()
        if error:
            print(f"PBS could not start a task on {told['hosts'][rank]} (error {error})", flush=True)
            say(rank, FAILED)
        elif rank not in codes:
            codes[rank] = tasks.obit(rank, started[rank])
        else:
            say(rank, codes[rank].value)


def main() -> NoReturn:
    """The order is one line on stdin."""
    told = json.loads(sys.stdin.readline())
    try:
        join = await_join_file(told["join"], FILE_S)
        run(told, join)
    except (JoinFileError, NotStarted, OSError, ValueError) as error:
        print(error, flush=True)
        for rank in range(1, len(told["hosts"])):
            say(rank, FAILED)
        sys.exit(1)
    sys.exit(0)

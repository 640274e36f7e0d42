"""Machines without a scheduler, named by the user (`--hosts`): nodes that the user starts, by one line on each.

Nothing of ours logs in anywhere. The launcher opens a door and writes the join file with the names of the machines.
Then the user gives the same line on each, by hand or with whatever runs commands on many machines. A machine finds by
its name which node it is. Without a file system that they share, the file is copied first.
Rejected: ssh from here (keys, agents and prompts are the user's affair, and what it starts nobody ends).
"""

from __future__ import annotations

import os
import shlex
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import ClassVar

from hpc.launchers.dial_in import DialInGroup
from hpc.launchers.node_group import Surroundings
from hpc.launchers.scheduler import Allocation


class BadHosts(ValueError):
    """What --hosts says cannot be used. `fix` is what helps."""

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.fix = fix


def read_hosts(text: str) -> list[str]:
    """`a,b,c`, or a file with a name at the beginning of each line; what follows it there, and comments, do not count.

    BadHosts for a file that cannot be read, no names, and one that is there twice.
    """
    if os.path.exists(text) or os.sep in text:
        try:
            with open(text) as file:
                lines = [line.partition("#")[0].split() for line in file]
        except (OSError, UnicodeDecodeError) as error:
            raise BadHosts(f"the file {text} cannot be read: {error}") from None
        names = [words[0] for words in lines if words]
    else:
        names = [name.strip() for name in text.split(",") if name.strip()]
    short = [_short(name) for name in names]
    twice = next((name for name in short if short.count(name) > 1), None)
    if twice is not None:
        raise BadHosts(f"{twice} is there twice")
    if not names:
        raise BadHosts(f"no names of machines: {text!r}")
    return names


def _short(name: str) -> str:
    return name.split(".")[0].lower()


def own_place(hosts: Sequence[str], hostname: str | None = None) -> int | None:
    """Which of the machines this is; short and full names agree."""
    here = _short(hostname or socket.gethostname())
    return next((i for i, name in enumerate(hosts) if _short(name) == here), None)


def here_first(hosts: Sequence[str], hostname: str | None = None) -> list[str]:
    """The same machines, with this one as the first: the head and the script are on it. BadHosts if it is none."""
    own = own_place(hosts, hostname)
    if own is None:
        what = f"this machine, {hostname or socket.gethostname()}, is none of {', '.join(hosts[:8])}"
        raise BadHosts(what, "give the command on one of them")
    return [hosts[own], *hosts[:own], *hosts[own + 1 :]]


class WorkstationGroup(DialInGroup):
    """One node on each of the machines, the first of which is this one."""

    def __init__(self, hosts: Sequence[str], join_path: str, *, fork: bool = False) -> None:
        super().__init__(len(hosts), join_path, fork=fork, hosts=hosts)
        self.hosts = tuple(hosts)
        if len(hosts) > 1:
            line = shlex.join([sys.executable, "-m", "hpc", "start", f"--join-file={join_path}"])
            self.notices = [f"on {', '.join(hosts[1:])}: {line}"]

    def host_of(self, rank: int) -> str | None:
        return self.hosts[rank]

    def describe(self) -> str:
        return f"a node on each of {', '.join(self.hosts)}"


class Workstations:
    """These machines as a source of nodes. join_path: set before nodes are asked for."""

    name: ClassVar[str] = "hosts"
    title: ClassVar[str] = "Machines of --hosts"

    def __init__(self, hosts: Sequence[str]) -> None:
        self.hosts = list(hosts)
        self.join_path = ""

    def here(self, env: Mapping[str, str]) -> Allocation | None:
        return None

    def configured(self, env: Mapping[str, str]) -> bool:
        return False

    def group(
        self,
        alloc: Allocation | None,
        nodes: int | None = None,
        *,
        fork: bool = False,
        step_args: Sequence[str] = (),
        base_dir: str | None = None,
        around: Surroundings | None = None,
    ) -> WorkstationGroup:
        return WorkstationGroup(self.hosts, self.join_path, fork=fork)

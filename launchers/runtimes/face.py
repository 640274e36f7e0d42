"""The face of another runtime on the nodes of an allocation: what it starts where, and what the user's program gets.

The nodes are started as ever: one batched start, and a supervisor on each, which ends everything below it. A runtime
says which programs the supervisors run. There are two kinds. A *cluster* (Ray, Dask) has processes of its own on the
nodes. The user's program is one process beside them, which finds them by variables. A *gang* (torchrun, MPI) is the
user's program itself, on all nodes at once.

Pure, as are the files of the runtimes: command lines and variables follow from the nodes. What chooses ports and waits
for the processes of a cluster is part.py, on the node; serving.py is its other end, beside the launcher.
Rejected: each runtime's own way over the nodes (ssh, a loop of job steps): slow, and blind to what the scheduler ends.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from hpc.launchers.node_program import NodeProgram


class RuntimeFault(Exception):
    """A runtime cannot be started, or not any more. `fix` is what helps."""

    def __init__(self, what: str, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.why = why
        self.fix = fix


@dataclass(frozen=True)
class RuntimeNode:
    """A node as a runtime sees it. `number` is the session's, `folder` is on its own disk and goes with the session.

    offers: False for the machine of a driver that is none of the allocation's nodes. device_env: the variables by which
    a process sees all accelerators that the node was granted.
    """

    number: int
    name: str
    addr: str
    folder: str
    cpus: int = 1
    mem_bytes: int = 1 << 30
    gpus: tuple[str, ...] = ()
    offers: bool = True
    device_env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Wish:
    """What a runtime is asked for. keys: a folder of mode 0700 that all nodes see, for secrets in files of mode 0600.

    The first of the nodes is the one with the runtime's own scheduler. args: the user's, for the runtime's command.
    folders_chosen: the user has said where the nodes' folders are to be.
    """

    session: str
    nodes: tuple[RuntimeNode, ...]
    keys: str
    args: tuple[str, ...] = ()
    folders_chosen: bool = False


#: What a program of a cluster has said of itself, once it is up.
Facts = Mapping[str, Any]
#: Programs by the numbers of their nodes go out, and what each of them said comes back; at last the driver's variables.
Steps = Generator[dict[int, NodeProgram], Mapping[int, Facts], dict[str, str]]


class ClusterRuntime(Protocol):
    """A runtime with processes of its own."""

    #: The value of --runtime.
    name: ClassVar[str]
    #: For people.
    title: ClassVar[str]
    #: The module without which there is no such runtime, and what installs it.
    module: ClassVar[str]
    installs: ClassVar[str]
    #: Whether the user's program can only run on a machine that has a node of the runtime's.
    driver_needs_node: ClassVar[bool]

    def steps(self, wish: Wish) -> Steps:
        """What is to be started, one step after the other; RuntimeFault where that cannot be."""


def missing(module: str, title: str, installs: str) -> RuntimeFault | None:
    """Why a runtime cannot be: its package is not in this Python, which the nodes use too."""
    if importlib.util.find_spec(module) is not None:
        return None
    what = f"{title} is not in this Python: there is no module {module!r}"
    return RuntimeFault(what, why=sys.executable, fix=f"{sys.executable} -m pip install {installs}")


# Empty entries leave sys.path, as in a node's own program.
_PART = "import sys; sys.path[:]=[p for p in sys.path if p]; from hpc.launchers.runtimes.part import main; main()"
PART_ENV = "HPC_PART"
#: What a part is to do, and how it says that it is up.
Order = Mapping[str, Any]
Say = Callable[[Mapping[str, Any]], None]


def part(order: Mapping[str, Any], env: Mapping[str, str | None]) -> NodeProgram:
    """The program of a cluster's part on a node (part.py); `order` holds no secret."""
    return NodeProgram((sys.executable, "-c", _PART), {**env, PART_ENV: json.dumps(dict(order))})


def others(nodes: Sequence[RuntimeNode]) -> list[RuntimeNode]:
    """All but the first."""
    return list(nodes[1:])

"""A program that the supervisor of one node is to run, in a session of the mode "ranks"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpc.launchers.session_nodes import SessionNode


@dataclass(frozen=True)
class NodeProgram:
    """A command line, and variables over the node's own; those that are None are taken away."""

    argv: tuple[str, ...]
    env: Mapping[str, str | None] = field(default_factory=dict)


def send_program(info: SessionNode, program: NodeProgram, cwd: str, number: int | None = None) -> None:
    """Have the supervisor of a node run a program in a directory. What it says of it has the number, or the rank."""
    order = {"op": "ranks", "only": [info.rank], "argv": list(program.argv), "env": dict(program.env), "cwd": cwd}
    info.group.send({**order, "as_ranks": False, "number": number})

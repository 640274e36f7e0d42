"""The nodes of a session as its launcher knows them, and what happens to them, for people. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hpc.core.node.bootstrap import Message
from hpc.launchers.node_group import NodeGroup

NodeState = Literal["starting", "hello", "ready", "gone"]
EventKind = Literal[
    "start", "hello", "ready", "restarted", "refused", "error", "exit", "lost", "noise", "stop", "end",
    "drained", "left",
]  # fmt: skip


@dataclass(slots=True)
class SessionNode:
    """A node as the launcher knows it. `why` and `tail` say what went wrong, if something did."""

    node: int
    rank: int
    group: NodeGroup
    gateway: bool = False
    state: NodeState = "starting"
    host: str | None = None
    hello: Message = field(default_factory=dict)
    refused: bool = False  # said hello, but does not fit: its key is not given to the head
    removed: bool = False  # told to leave: its end is no loss
    drained: bool = False  # it leaves, and nothing is lost if it ends now
    why: str = ""
    tail: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """For messages: "node 3 (nid0042)"."""
        return f"node {self.node} ({self.host})" if self.host else f"node {self.node}"

    def problem(self) -> str:
        """One line: who is missing, and why."""
        return f"{self.name}: {self.trouble()}"

    def trouble(self) -> str:
        """Why it is missing."""
        waiting = {
            "starting": "its supervisor has not answered" if not self.why else "",
            "hello": "not registered with the head yet",
        }.get(self.state, "")
        return self.why or waiting or "gone"


@dataclass(frozen=True, slots=True)
class Event:
    """Something for the status line.

    kind: "start" means that a group was started, and "restarted" that a head was killed and another one works. "lost"
    means that a node is gone that was not told to stop. One that is "drained" can end now, and what it "left" behind is
    lost with it. "noise" is other output of the launch, for -v.
    """

    kind: EventKind
    text: str = ""
    node: SessionNode | None = None

"""A cluster runtime from the launcher's side: sends its programs to the nodes, hears when they are up, watches them.

The session is one of the mode "ranks": supervisors that run what they are told. Each node has one program of the
runtime (part.py). The first node's is the runtime's own scheduler: without it there is no cluster, so the session is
lost. Of any other node the runtime itself notices the end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hpc.core.node.bootstrap import Message
from hpc.core.node.reap import describe_code
from hpc.launchers.loop import SessionLoop
from hpc.launchers.node_program import NodeProgram, send_program
from hpc.launchers.runtimes.face import ClusterRuntime, RuntimeFault, RuntimeNode, Wish
from hpc.launchers.session import Session
from hpc.launchers.session_nodes import SessionNode


def runtime_node(info: SessionNode) -> RuntimeNode:
    """A node of a session, from what its supervisor said."""
    hello = info.hello
    return RuntimeNode(
        info.node, info.host or f"node{info.node}", str(hello["addr"]), str(hello["dir"]),
        max(1, int(hello.get("cpus") or 1)), int(hello.get("mem_bytes") or 1 << 30),
        tuple(str(gpu) for gpu in (hello.get("devices") or {}).get("GPU", ())), offers=not info.gateway,
        device_env=dict(hello.get("device_env") or {}),
    )  # fmt: skip


class ClusterRun:
    """One cluster on the nodes of a session.

    least: with so many nodes up when the time is over it goes on, the first among them. tell: something for the user.
    hear: what its parts wrote of themselves, for -v.
    """

    def __init__(
        self,
        loop: SessionLoop,
        runtime: ClusterRuntime,
        wish: Wish,
        *,
        cwd: str,
        least: int,
        tell: Callable[[str], object],
        hear: Callable[[str], object] = lambda text: None,
    ) -> None:
        self.loop = loop
        self.session: Session = loop.session
        self.runtime = runtime
        self.wish = wish
        self.least = least
        self.up: dict[int, Mapping[str, Any]] = {}
        self.ended: dict[int, str] = {}
        self._cwd = cwd
        self._tell = tell
        self._hear = hear
        self._lines: dict[int, str] = {}

    def start(self, limit_s: float) -> dict[str, str]:
        """Start everything, by `limit_s` (time.monotonic()); returns the variables of the user's program.

        RuntimeFault when too few came, or the first did not.
        """
        self.session.on_output = self.on_output
        self.loop.each_turn(self._check)
        steps = self.runtime.steps(self.wish)
        programs = next(steps)
        while True:
            for number, program in programs.items():
                send_program(self.session.nodes[number], program, self._cwd)
            self._await(programs, limit_s)
            try:
                programs = steps.send({number: self.up[number] for number in programs if number in self.up})
            except StopIteration as end:
                return dict(end.value)

    def _await(self, numbers: Mapping[int, NodeProgram], limit_s: float) -> None:
        waiting = set(numbers)
        self.loop.until(lambda: waiting <= self.up.keys() | self.ended.keys() or bool(self.session.lost), limit_s)
        first = self.wish.nodes[0].number
        late = waiting - self.up.keys() - self.ended.keys()
        failed = {number: self.ended.get(number, "it did not come up in time") for number in waiting - self.up.keys()}
        if not failed:
            return
        came = sum(1 for node in self.wish.nodes if node.offers and node.number in self.up)
        if first in self.up and came >= self.least and not any(not self._offers(number) for number in failed):
            for number, why in failed.items():
                self._tell(f"{self.runtime.title} goes on without {self._name(number)}: {why.splitlines()[0]}")
            return
        shown = sorted(failed, key=lambda number: (number in late, number))[:4]
        why = "\n".join(f"{self._name(number)}: {failed[number]}" for number in shown)
        more = f"\nand {len(failed) - len(shown)} more" if len(failed) > len(shown) else ""
        fix = f"--min-nodes={came} goes on with those that came" if first in self.up and came else ""
        raise RuntimeFault(f"{self.runtime.title} did not start", why=why + more, fix=fix)

    def _offers(self, number: int) -> bool:
        return any(node.number == number and node.offers for node in self.wish.nodes)

    def _name(self, number: int) -> str:
        return self.session.nodes[number].name

    # -------------------------------------------------------------- what comes from the nodes

    def on_output(self, info: SessionNode, message: Message) -> None:
        """Take an `out` or `rank_exit` message of the session."""
        if message["op"] == "rank_exit":
            code, tail = int(message["code"]), [str(line) for line in message.get("tail", [])]
            self._has_ended(info.node, "\n".join([describe_code(code), *(f"  | {line}" for line in tail)]))
        elif int(message["fd"]) == 1:
            *lines, self._lines[info.node] = (self._lines.get(info.node, "") + str(message["text"])).split("\n")
            for line in lines:
                self._has_said(info.node, line)
        else:
            for line in str(message["text"]).splitlines():
                self._hear(f"{info.name}: {line}")

    def _has_said(self, number: int, line: str) -> None:
        try:
            facts = json.loads(line)
        except ValueError:
            self._hear(line)
            return
        if isinstance(facts, dict):
            self.up[number] = facts

    def _check(self) -> None:
        for number in self.up.keys() - self.ended.keys():
            info = self.session.nodes[number]
            if info.state == "gone":
                self._has_ended(number, info.trouble())

    def _has_ended(self, number: int, why: str) -> None:
        was_up = number in self.up and number not in self.ended
        self.ended.setdefault(number, why)
        if not was_up or self.session.state != "ready":
            return
        text = f"{self.runtime.title} has ended on {self._name(number)}: it {why}"
        if number == self.wish.nodes[0].number:
            self.session.lost = self.session.lost or text
        elif self.session.nodes[number].state != "gone":  # of a lost node it is said that it is lost
            self._tell(text)


def nodes_of(infos: Sequence[SessionNode]) -> tuple[RuntimeNode, ...]:
    """The nodes of a session as a runtime sees them, in the order of their numbers, each with a name of its own."""
    nodes = [runtime_node(info) for info in sorted(infos, key=lambda info: info.node)]
    names = [node.name for node in nodes]
    return tuple(
        replace(node, name=f"{node.name}-{node.number}") if names.count(node.name) > 1 else node for node in nodes
    )

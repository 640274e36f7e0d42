"""Nodes that a scheduler takes away while the session runs: how long they have is asked, then they drain.

It tells the nodes alone, by a SIGTERM to their processes. A job of higher priority wants them, and their partition or
QOS has a grace time. Or somebody ends the step, or gives the allocation back. The nodes ask here what to do
(`Session.on_warned`). Where the node with the head is among them, the session has to end: whoever runs it does that.
Others leave it, and what they have moves to those that stay.
"""

from __future__ import annotations

from collections.abc import Callable

from hpc.launchers.asking import ask
from hpc.launchers.leave import leave
from hpc.launchers.loop import SessionLoop
from hpc.launchers.node_group import NodeGroup
from hpc.launchers.registry import Place
from hpc.launchers.scheduler import JobInfo
from hpc.launchers.session_nodes import SessionNode

#: Nodes that leave are ended so long before their scheduler ends them.
MARGIN_S = 2.0

#: Told that the session's own nodes are taken: what the scheduler says of their job (None: nothing), and the signal.
SessionEnds = Callable[[JobInfo | None, str], object]


class Taken:
    """For one session. grace_s: how long nodes have of which the scheduler says nothing."""

    def __init__(
        self,
        loop: SessionLoop,
        place: Place,
        grace_s: float,
        session_ends: SessionEnds,
        note: Callable[[str], object],
    ) -> None:
        self._loop, self._place, self._grace_s = loop, place, grace_s
        self._session_ends, self._note = session_ends, note
        self._told: dict[NodeGroup, list[SessionNode]] = {}
        self._leaving: set[int] = set()
        loop.session.on_warned = self._on_warned

    def _on_warned(self, info: SessionNode, signal_name: str) -> bool:
        """A node was told to end; true: it may stay until it is ended from here."""
        told = self._told.get(info.group)
        if told is not None:
            told.append(info)
            return True
        self._told[info.group] = [info]
        job_id = info.group.job_id

        def decide(job: JobInfo | None) -> None:
            self._decide(self._told.pop(info.group), job, signal_name)

        if job_id and self._place.kind != "local":
            ask(self._loop, self._place.scheduler.inquire(job_id, position=False), decide)
        else:
            self._loop.at(0.0, lambda: decide(None))
        return True

    def _decide(self, nodes: list[SessionNode], job: JobInfo | None, signal_name: str) -> None:
        session = self._loop.session
        if session.head in nodes:
            self._session_ends(job, signal_name)
            return
        left_s = self._grace_s
        why = f"it was told to end by {signal_name}"
        if job is not None and job.preempted and job.time_left_s is not None:
            left_s, why = job.time_left_s, TAKEN
        for info in nodes:
            if info.node in self._leaving:
                continue  # its supervisor and whoever started that are told one after the other
            self._leaving.add(info.node)
            self._note(f"hpc: {info.name} leaves ({why}, {left_s:.0f} s left)")
            leave(self._loop, info.node, max(MARGIN_S, left_s - MARGIN_S), why, self._grace_s)


TAKEN = "its scheduler takes it for another job"

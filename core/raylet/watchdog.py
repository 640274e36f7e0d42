"""Ends a worker before the kernel ends something at random: looks at the node's memory several times a second.

The kernel's choice is the largest process, or all of the job; neither says why. It looks at the job's cgroups up the
chain and at the machine. Where the user gave a limit for the sum of this node's workers and its arena it looks at that
as well.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from msgspec import to_builtins

from hpc.core.net.reactor import Reactor
from hpc.core.node.usage import Usage, memory_folders, memory_usage, oom_kills, private_bytes
from hpc.core.raylet.oom import Candidate, choose, explain
from hpc.core.raylet.tables import Proc
from hpc.core.store.arena import Arena

log = logging.getLogger("hpc.raylet")


class Watchdog:
    """One raylet's. ``ended`` says of each worker that was ended why."""

    def __init__(
        self, reactor: Reactor, arena: Arena, procs: Mapping[int, Proc], slots: Mapping[int, int],
        kill: Callable[[Proc], None], arena_used: Callable[[], int], *,
        threshold: float, interval_s: float, limit_bytes: int = 0,
    ) -> None:  # fmt: skip
        self._reactor = reactor
        self._arena = arena
        self._procs = procs
        self._slots = slots
        self._kill = kill
        self._arena_used = arena_used
        self.threshold = threshold
        self.interval_s = interval_s
        self.limit_bytes = limit_bytes
        self.ended: dict[int, str] = {}
        self._folders = memory_folders()
        self._kernel_kills = oom_kills(self._folders)
        if threshold > 0 and interval_s > 0:
            reactor.call_later(interval_s, self._look)

    def _look(self) -> None:
        self._reactor.call_later(self.interval_s, self._look)
        usage = memory_usage(self._folders)
        if self.limit_bytes:
            own = self._own_usage()
            usage = own if own.share > usage.share else usage
        if usage.share >= self.threshold and not any(number in self._procs for number in self.ended):
            self._end_one(usage)

    def report(self, limit: int) -> list[dict[str, Any]]:
        """The node's memory now: bytes in use, how many there may be, and whose limit that is; what is shared of it."""
        return [to_builtins(memory_usage(self._folders))]

    def _own_usage(self) -> Usage:
        used = sum(private_bytes(proc.pid) for proc in self._procs.values() if proc.kind == "worker")
        return Usage(used + self._arena_used(), self.limit_bytes, "the node's own limit, HPC_MEMORY_LIMIT_BYTES")

    def _candidates(self) -> Iterator[Candidate]:
        for proc in self._procs.values():
            if proc.kind != "worker" or not proc.pid:
                continue
            slot = self._slots.get(proc.proc)
            since, retriable = self._arena.running_since(slot) if slot is not None else (0.0, False)
            actor = proc.lease is not None and proc.lease.actor
            what: Literal["task", "actor", "idle"] = "actor" if actor else "task" if since else "idle"
            yield Candidate(proc.proc, proc.pid, what, since or proc.started, retriable, private_bytes(proc.pid))

    def _end_one(self, usage: Usage) -> None:
        candidates = list(self._candidates())
        victim = choose(candidates)
        if victim is None:
            return
        why = explain(victim, usage.used_bytes, usage.limit_bytes, usage.where, self.threshold, candidates)
        log.error("%s", why)
        self.ended[victim.proc] = why
        self._kill(self._procs[victim.proc])

    def why_ended(self, number: int, killed: bool) -> str:
        """Why a worker that has ended did so, if that was for want of memory: our choice, or the kernel's."""
        why = self.ended.pop(number, "")
        if not why and killed and self._folders:
            kills = oom_kills(self._folders)
            if kills > self._kernel_kills:
                why = "the kernel ended it because the job's memory limit was reached"
            self._kernel_kills = kills
        return why

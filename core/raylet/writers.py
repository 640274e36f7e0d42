"""The writer of output without a mark: C code, or a program that a task has started.

The worker's slot in the arena says what it runs, since when, and in whose name it prints. Text that came after a
certain moment is a task's if that task has run since before it and still runs. An actor is alone in its process.
"""

from __future__ import annotations

from collections.abc import Mapping

from hpc.core.raylet.tables import Proc
from hpc.core.store.arena import Arena


class Writers:
    """Names of the living workers of a node. ``slots`` are their slots, those in ``free`` are nobody's."""

    def __init__(self, arena: Arena, slots: Mapping[int, int], free: list[int], procs: Mapping[int, Proc]) -> None:
        self._arena = arena
        self._slots = slots
        self._free = free
        self._procs = procs

    def name(self, number: int, moment: float) -> str:
        """The only task that can have written since then (monotonic clock); empty if that is not known."""
        slot, proc = self._slots.get(number), self._procs.get(number)
        if slot is None or proc is None or not self._free:  # without free ones some share a slot
            return ""
        since = self._arena.running_since(slot)[0]
        name = self._arena.published_name(slot)
        is_actor = proc.lease is not None and proc.lease.actor
        sure = is_actor or (0.0 < since < moment and self._arena.running_since(slot)[0] == since)
        return name.decode("utf-8", "replace") if sure else ""

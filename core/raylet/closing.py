"""What may still begin on a node that ends: the time that is left there, and whether a task fits into it. Pure."""

from __future__ import annotations

from hpc.core.causes import LostCause
from hpc.core.raylet.tables import Demand


class Closing:
    """The end of the node, as leasing has to mind it. Times are the raylet's own, in seconds."""

    def __init__(self) -> None:
        self.ends_at: float | None = None
        self.why = ""  # it drains
        self.vacated = False  # it takes nothing new until it is ended or taken back
        #: Leases whose tasks take long: by number, how long.
        self.timed: dict[int, float] = {}

    def admits(self, demand: Demand, now: float) -> bool:
        """Whether a worker may be given to this demand: not where it could not finish."""
        if self.why or self.vacated:
            return False
        return not demand.time_s or self.ends_at is None or self.ends_at - now >= demand.time_s

    @property
    def refusal(self) -> str:
        """Why nothing is reserved here; empty where it can be."""
        return self.why or ("this node is being given back" if self.vacated else "")

    def cause(self, cause: LostCause) -> LostCause:
        """Why a worker is gone whose process has ended: on a node that drains that was to be expected."""
        return "drained" if self.why and cause == "crash" else cause

    def late(self, now: float) -> list[int]:
        """Leases on which another task could not finish any more: they are named once."""
        if self.ends_at is None or not self.timed:
            return []
        left_s = self.ends_at - now
        found = [ident for ident, time_s in self.timed.items() if time_s > left_s]
        for ident in found:
            del self.timed[ident]
        return found

    def next_at(self, now: float) -> float:
        """When to look for late ones again."""
        longest = max(self.timed.values(), default=None)
        return now + 1.0 if self.ends_at is None or longest is None else max(now, self.ends_at - longest)

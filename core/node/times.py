"""The times after which silence means a fault, as the [runtime] options give them. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hpc.core.node.settings import setting

#: Within this time the supervisor of a raylet that ended has ended its node, and said so.
TRY_S = 2.0


class FaultTimes(NamedTuple):
    """When silence means what (options of the start message, in seconds)."""

    #: between two reports of a raylet to the head
    heartbeat_s: float
    #: the port of a node that was not heard for so long is tried: one that refuses for as long again has ended
    try_s: float
    #: a node that was not heard for so long gets nothing new
    suspect_s: float
    #: a node that was not heard for so long is declared dead
    dead_s: float
    #: a raylet that got no answer from the head for so long ends its node
    fence_s: float


def fault_times(config: Mapping[str, Any]) -> FaultTimes:
    """The times in `config`; those that are not there follow from ``dead_s``. ValueError if their order is wrong."""
    heartbeat_s = setting("heartbeat_s", config)
    dead_s = setting("dead_s", config)
    suspect_s = setting("suspect_s", {"suspect_s": dead_s / 6, **config})
    fence_s = setting("fence_s", {"fence_s": dead_s * 0.75, **config})
    times = FaultTimes(heartbeat_s, max(2 * heartbeat_s, TRY_S), suspect_s, dead_s, fence_s)
    if not 0 < heartbeat_s < times.suspect_s < dead_s:
        found = (heartbeat_s, times.suspect_s, dead_s)
        raise ValueError(f"heartbeat_s, suspect_s and dead_s must be above 0 and grow, not {found}")
    if not heartbeat_s < times.fence_s < dead_s:
        raise ValueError(
            f"fence_s must be above heartbeat_s and below dead_s, not {times.fence_s:g}: a node that is declared dead "
            "must have ended itself by then"
        )
    return times

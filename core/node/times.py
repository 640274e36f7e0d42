"""The times after which silence means a fault, as the [runtime] options give them. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

#: A head that does not answer its supervisor for so long is killed and started again.
HEAD_HANG_S = 15.0


class FaultTimes(NamedTuple):
    """When silence means what (options of the start message, in seconds)."""

    #: between two reports of a raylet to the head
    heartbeat_s: float
    #: a node that was not heard for so long gets nothing new
    suspect_s: float
    #: a node that was not heard for so long is declared dead
    dead_s: float
    #: a raylet that got no answer from the head for so long ends its node
    fence_s: float


def fault_times(config: Mapping[str, Any]) -> FaultTimes:
    """The times in `config`; those that are not there follow from ``dead_s``. ValueError if their order is wrong."""
    heartbeat_s = float(config.get("heartbeat_s", 1.0))
    dead_s = float(config.get("dead_s", 60.0))
    times = FaultTimes(
        heartbeat_s,
        float(config.get("suspect_s", dead_s / 6)),
        dead_s,
        float(config.get("fence_s", dead_s * 0.75)),
    )
    if not 0 < heartbeat_s < times.suspect_s < dead_s:
        raise ValueError(f"heartbeat_s, suspect_s and dead_s must be above 0 and grow, not {times[:3]}")
    if not heartbeat_s < times.fence_s < dead_s:
        raise ValueError(
            f"fence_s must be above heartbeat_s and below dead_s, not {times.fence_s:g}: a node that is declared dead "
            "must have ended itself by then"
        )
    return times


def head_hang_s(config: Mapping[str, Any]) -> float:
    """How long a head may be silent, in seconds; 0 is for ever. ValueError for what makes no sense."""
    value = float(config.get("head_hang_s", HEAD_HANG_S))
    if value != 0 and not 1.0 <= value < float("inf"):
        raise ValueError(f"head_hang_s must be 0 (never) or at least 1 s, not {value:g}")
    return value

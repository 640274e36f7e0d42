"""Metrics: from processes to their raylet, up a tree of raylets to the head, and from there to whoever asks."""

from __future__ import annotations

from typing import Literal

from hpc.core.metrics.sample import Sample
from hpc.core.wire.base import Message

#: The tags of the messages of this file.
TAGS = range(192, 208)


class ProcessMetrics(Message, tag=192):
    """A process tells its raylet what was counted since it told last, and its gauges that have changed. ``dropped``:
    how many samples had no room."""

    samples: list[Sample]
    dropped: int = 0


class TreeMetrics(Message, tag=193):
    """A raylet tells the one above it, or the head, what is known of its node and those below. ``nodes`` are their
    numbers, as four bytes each. ``heat`` has by name of a gauge one byte for each of them: 0 to 254 for the values 0 to
    1, or `NO_HEAT`. The next one follows in ``period_s``."""

    period_s: float
    nodes: bytes
    heat: dict[str, bytes]
    samples: list[Sample]
    dropped: int = 0


class MetricsWatched(Message, tag=194):
    """Down the tree: somebody looks, for ``left_s`` from now on; metrics are wanted every ``period_s``."""

    period_s: float
    left_s: float


class MetricsQuery(Message, tag=195):
    """Ask the head for the newest of everything, for the course of the metrics of these ``names``, or for the heat of
    one. Or say that somebody looks. The answer's data is msgpack, as `hpc.core.metrics.cluster` makes it."""

    req: int
    what: Literal["latest", "series", "heat", "look"]
    names: list[str] = []
    step_s: float = 2.0
    since_s: float = 600.0

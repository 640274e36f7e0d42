"""The head's part: it takes what the first node of the tree tells, keeps the course of it, and answers. Pure.

Nothing of it is in the journal. The first node tells a head that was started again once more what it has told of what
was counted. So no counter goes back, but that of the head's own CPU time. The course of them begins anew.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from hpc.core.ids import Address, raylet_of
from hpc.core.metrics.merge import Key, Merged
from hpc.core.metrics.node import GRACE_S, MISSED, NO_HEAT, WATCHED_S, is_sane
from hpc.core.metrics.sample import COUNTER, GAUGE, Sample, counted, gauge
from hpc.core.metrics.series import Series
from hpc.core.metrics.table import DROPPED, NODES, RUNTIME_CPU
from hpc.core.metrics.tree import in_order
from hpc.core.wire import Message, MetricsQuery, MetricsWatched, NodeInfo, TreeMetrics

#: Somebody who looks is taken to look for this long; the tree is told anew after `AGAIN_S`.
LOOK_S, AGAIN_S = 30.0, 10.0
#: An answer has at most this many numbers: those of 200 gauges at 300 times.
MAX_NUMBERS = 420_000
MAX_SILENT = 100
#: The largest number of samples that is told: doubles are exact up to it.
MAX_COUNT = 1 << 53


class Told(Struct):
    """What one node told last: the first of the tree, or one that took itself for that."""

    at: float
    due_s: float
    nodes: array[int]
    heat: dict[str, bytes]
    gauges: list[Sample]


class Known(Protocol):
    """A node that the head knows."""

    info: NodeInfo


class ClusterMetrics:
    """What the head knows of metrics. ``nodes`` are those that there are, by number, ``dead`` the others."""

    def __init__(
        self, outbox: list[tuple[Address, Message]], nodes: Mapping[int, Known], dead: Mapping[int, object]
    ) -> None:
        self.outbox = outbox
        self.nodes = nodes
        self.dead = dead
        #: Seconds of CPU that the head has used; the shell says it.
        self.own_cpu_s: Callable[[], float] = lambda: 0.0
        self.totals = Merged()
        self.told: dict[int, Told] = {}
        self.series = Series()
        self.dropped = 0
        self._said_at = float("-inf")
        self._cpu_s = 0.0
        self.heard_at: float | None = None

    def on_tree(self, src: Address, msg: TreeMetrics, now: float) -> None:
        """A node that has no other above it tells."""
        if len(msg.nodes) % 4:
            return
        gauges = []
        for sample in msg.samples:
            if not is_sane(sample):
                self.dropped += 1
            elif sample.kind == GAUGE:
                gauges.append(sample)
            else:
                self.totals.add(sample)
        nodes = array("I")
        nodes.frombytes(msg.nodes)
        self.told[src.node] = Told(now, MISSED * msg.period_s + GRACE_S, nodes, msg.heat, gauges)
        self.heard_at = now
        if self.series.is_due(now):
            self.series.add(now, self._now(now))

    # -------------------------------------------------------------- answers

    def on_query(self, src: Address, msg: MetricsQuery, now: float) -> bytes:
        """The answer's data."""
        if msg.what == "look":
            self._look(msg.step_s, now)
            return msgspec.msgpack.encode(None)
        if msg.what == "heat":
            return msgspec.msgpack.encode(self._heat(msg.names[:1], now))
        if msg.what == "series":
            return msgspec.msgpack.encode(self._course(msg.names, msg.step_s, msg.since_s, now))
        return msgspec.msgpack.encode(self._latest(now))

    def _look(self, period_s: float, now: float) -> None:
        if now < self._said_at + AGAIN_S:
            return
        order = in_order(node.info for node in self.nodes.values())
        if order:
            self._said_at = now
            self.outbox.append((raylet_of(order[0]), MetricsWatched(max(period_s, WATCHED_S), LOOK_S)))

    def _latest(self, now: float) -> dict[str, Any]:
        silent = self._silent(now)
        return {
            "age_s": None if self.heard_at is None else now - self.heard_at,
            "nodes": len(self.nodes) - len(silent),
            "silent": silent[:MAX_SILENT],
            "silent_more": max(0, len(silent) - MAX_SILENT),
            "dropped": self._dropped(),
            "samples": list(self._now(now).values()),
        }

    def _course(self, names: Sequence[str], step_s: float, since_s: float, now: float) -> dict[str, Any]:
        ring = self.series.ring(step_s)
        places = ring.since(now - since_s)
        ages = array("d", [now - ring.times[at] for at in places])
        rows, room, cut = [], MAX_NUMBERS, 0
        wanted = set(names)
        for key, (width, _) in ring.tracks.items():
            if key[0] not in wanted:
                continue
            room -= width * len(places)
            if room < 0:
                cut += 1
                continue
            columns = [array("d", ring.column(key, which, places)).tobytes() for which in range(width)]
            rows.append((key[0], key[1], self.series.kinds[key], columns))
        return {"step_s": ring.step_s, "ages": ages.tobytes(), "rows": rows, "cut": cut}

    def _heat(self, names: Sequence[str], now: float) -> dict[int, int]:
        """By node, a byte of its gauge."""
        found: dict[int, int] = {}
        for told in self._heard(now):
            for name in names:
                values = told.heat.get(name, b"")
                found |= {node: value for node, value in zip(told.nodes, values) if value != NO_HEAT}
        return found

    # -------------------------------------------------------------- what is known

    def _heard(self, now: float) -> list[Told]:
        """What counts, each node once. When the first of the tree has died, or a new node took itself for that, two
        tell of the same nodes for a while. Then the one that knows of more nodes counts, or the newer one."""
        self.told = {node: told for node, told in self.told.items() if now - told.at <= told.due_s}
        if len(self.told) < 2:
            return list(self.told.values())
        parts = [(told, self.nodes.keys() & set(told.nodes)) for told in self.told.values()]
        parts.sort(key=lambda part: (len(part[1]), part[0].at), reverse=True)
        kept: list[Told] = []
        seen: set[int] = set()
        for told, nodes in parts:
            if nodes and nodes.isdisjoint(seen):
                kept.append(told)
                seen |= nodes
        return kept

    def _silent(self, now: float) -> list[int]:
        heard = {node for told in self._heard(now) for node in told.nodes}
        return sorted(node for node in self.nodes if node not in heard)

    def _dropped(self) -> int:
        lower = self.totals.samples.get((DROPPED, ()))
        below = int(min(lower.total, MAX_COUNT)) if lower else 0  # a program may count under this name, and more
        return below + self.dropped + self.totals.dropped + len(self.series.dropped)

    def _now(self, now: float) -> dict[Key, Sample]:
        """All samples: the totals of what was counted, and the gauges of those that were heard lately."""
        gauges = Merged()
        told = self._heard(now)
        for one in told:
            gauges.add_all(one.gauges)
        silent = len(self._silent(now))
        states = {"alive": len(self.nodes) - silent, "silent": silent, "dead": len(self.dead)}
        gauges.add_all(gauge(NODES, count, ("state", state)) for state, count in states.items())
        cpu_s = self.own_cpu_s()
        self.totals.add(counted(RUNTIME_CPU, cpu_s - self._cpu_s, ("process", "head")))
        self._cpu_s = cpu_s
        samples = {**self.totals.samples, **gauges.samples}
        samples[(DROPPED, ())] = Sample(DROPPED, COUNTER, (), self._dropped())
        return samples

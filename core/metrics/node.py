"""A raylet's part: what its processes and the nodes below it tell, its own numbers, and what goes up the tree. Pure.

Counters and histograms are kept until they were sent, and then added by whoever is above. Gauges are those of now: of
each process, and of each node below, the last that was heard. A packet has room for `MAX_PACKET_BYTES` of samples. What
was counted and has no room in it goes with the next; gauges that have none are dropped and counted. The runtime's own
come first. The numbers of the nodes and their heat, 4 bytes and at most 5 for each, come on top.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from hpc.core.ids import HEAD, Address, raylet_of
from hpc.core.metrics import tree
from hpc.core.metrics.merge import Key, Merged
from hpc.core.metrics.sample import GAUGE, Labels, Sample, counted, fits
from hpc.core.metrics.table import BY_NAME, DROPPED, HEAT
from hpc.core.wire import Message, MetricsWatched, NodeInfo, ProcessMetrics, TreeMetrics

#: How often metrics go up the tree while nobody looks, and the most often that they can be wanted.
IDLE_S, WATCHED_S = 10.0, 2.0
#: The first time they are told a node's number is not yet known to all others.
FIRST_S = 0.5
MAX_PACKET_BYTES = 32 << 10
#: A node that leaves tells what it has in so many packets at most, and so does the first one to another head.
MAX_LAST = 32
#: A node that was not heard for this many of its periods, and `GRACE_S`, is left out.
MISSED, GRACE_S = 2.5, 1.0
#: A process tells no more samples at once, and has no more gauges.
MAX_SAMPLES = 2_000
NO_HEAT = 255


class Below(Struct):
    """What a node below has told last. ``at``: when; ``due_s``: after how long it is left out."""

    at: float
    due_s: float
    nodes: bytes
    heat: dict[str, bytes]
    gauges: list[Sample]


class NodeMetrics:
    """All that one raylet knows of metrics."""

    def __init__(
        self, info: NodeInfo, outbox: list[tuple[Address, Message]], numbers: Callable[[float], list[Sample]]
    ) -> None:
        self.info = info
        self.outbox = outbox
        #: The node's own numbers at this moment: what the machine knows, and what the shell does.
        self.numbers = numbers
        self.shell_numbers: Callable[[float], list[Sample]] = lambda now: []
        self.counts = Merged()
        #: What the head was told of what was counted: another head knows nothing of it, and is told it once more.
        self.told = Merged()
        self._is_again = False
        self.gauges: dict[int, dict[Key, Sample]] = {}
        self.below: dict[int, Below] = {}
        self.order: list[int] = [info.node]
        self.place = 0
        self.on = True
        self._stale = True
        self._due = float("inf")
        self._watched_until = 0.0
        self._period_s = IDLE_S
        self._dropped = 0
        self.now = 0.0
        self.handlers: dict[type, Callable[[Address, Any], None]] = {
            MetricsWatched: self.on_watched, ProcessMetrics: self.on_process, TreeMetrics: self.on_tree,
        }  # fmt: skip

    def attach(self, numbers: Callable[[float], list[Sample]], on: bool) -> None:
        """What the shell knows of the node. Not ``on``: nothing is told."""
        self.shell_numbers, self.on = numbers, on

    # -------------------------------------------------------------- what is heard

    def on_process(self, src: Address, msg: ProcessMetrics) -> None:
        """A process of this node tells what it has counted."""
        if src.node == self.info.node and src.proc:
            gauges = self.gauges.setdefault(src.proc, {})
            self._dropped += msg.dropped
            for sample in msg.samples[:MAX_SAMPLES]:
                key = (sample.name, sample.labels)
                if not is_sane(sample):
                    self._dropped += 1
                    gauges.pop(key, None)  # a gauge that is no number now is not what it was either
                elif sample.kind != GAUGE:
                    self.counts.add(sample)
                elif key in gauges or len(gauges) < MAX_SAMPLES:
                    gauges[key] = sample
                else:
                    self._dropped += 1

    def count(self, name: str, labels: Labels = ()) -> None:
        """Something has happened once on this node."""
        self.counts.add(counted(name, 1, labels))

    def process_gone(self, number: int) -> None:
        """A process of this node has ended: what it has counted stays."""
        self.gauges.pop(number, None)

    def on_tree(self, src: Address, msg: TreeMetrics) -> None:
        """A node below tells. One that is above another one by its own view, and not by ours, has its counts taken."""
        self._dropped += msg.dropped
        gauges = []
        for sample in msg.samples:
            if not is_sane(sample):
                self._dropped += 1
            elif sample.kind == GAUGE:
                gauges.append(sample)
            else:
                self.counts.add(sample)
        due_s = MISSED * msg.period_s + GRACE_S
        self.below[src.node] = Below(self.now, due_s, msg.nodes, msg.heat, gauges)

    def on_watched(self, src: Address, msg: MetricsWatched) -> None:
        """Somebody looks: tell more often for a while, and have those below do so."""
        self._period_s = max(WATCHED_S, min(IDLE_S, msg.period_s))
        self._watched_until = self.now + msg.left_s
        self._due = min(self._due, self.now + self._period_s)
        places = tree.below(self.place, len(self.order))
        self.outbox += [(raylet_of(self.order[at]), msg) for at in places]

    def nodes_changed(self) -> None:
        """Others have joined or are gone."""
        self._stale = True

    def head_restarted(self) -> None:
        """Nothing that the head was told is known any more."""
        again, self.told = self.told, Merged()
        self.counts.add_all(again.samples.values())
        self._is_again = bool(again.samples)
        self._due = min(self._due, self.now + FIRST_S)

    # -------------------------------------------------------------- time

    def tick(self, now: float, others: Mapping[int, NodeInfo]) -> float:
        """Tell those above, if it is time; returns the time of the next tick. To be called once the node is known."""
        self.now = now
        if not self.on:
            return float("inf")
        if self._due == float("inf"):
            self._due = now + FIRST_S
        if now >= self._due:
            self._due = now + (self._period_s if now < self._watched_until else IDLE_S)
            self._tell(now, others)
            if self._is_again:
                self._is_again = False
                self._tell_rest(now, others)
        return self._due

    def leave(self, now: float, others: Mapping[int, NodeInfo]) -> None:
        """Tell what there is: this node ends, and others go on."""
        if self.on and self._due != float("inf"):
            self._tell(now, others)
            self._tell_rest(now, others)

    def _tell_rest(self, now: float, others: Mapping[int, NodeInfo]) -> None:
        """Tell what had no room in the packet before."""
        for _ in range(MAX_LAST - 1):
            if self.counts.samples:
                self._tell(now, others)

    def _tell(self, now: float, others: Mapping[int, NodeInfo]) -> None:
        if self._stale:
            self._find_place(others)
        up, packet = tree.above(self.place), self._packet(now)
        if up is None:
            self.told.add_all(sample for sample in packet.samples if sample.kind != GAUGE)
        self.outbox.append((HEAD if up is None else raylet_of(self.order[up]), packet))

    def _find_place(self, others: Mapping[int, NodeInfo]) -> None:
        self._stale = False
        self.order = tree.in_order([self.info, *others.values()])
        self.place = self.order.index(self.info.node)

    def _packet(self, now: float) -> TreeMetrics:
        children = {self.order[at] for at in tree.below(self.place, len(self.order))}
        self.below = {
            node: told for node, told in self.below.items() if node in children and now - told.at <= told.due_s
        }
        numbers = self.numbers(now) + self.shell_numbers(now)
        gauges = Merged()
        for sample in numbers:
            (gauges if sample.kind == GAUGE else self.counts).add(sample)
        heat = self._heat(gauges.samples)
        parts = [[*of_process.values()] for of_process in self.gauges.values()]
        gauges.add_gauges(
            sample for part in (*parts, *(told.gauges for told in self.below.values())) for sample in part
        )
        if dropped := gauges.dropped + self.counts.dropped + self._dropped:
            self.counts.add(counted(DROPPED, dropped))
            self.counts.dropped = self._dropped = 0
        nodes = array("I", [self.info.node]).tobytes() + b"".join(told.nodes for told in self.below.values())
        period_s = self._due - now
        return TreeMetrics(period_s, nodes, heat, self._fitting(gauges))

    def _heat(self, own: Mapping[Key, Sample]) -> dict[str, bytes]:
        """Of each gauge that is told by node: its bytes, this node's first. One that nobody has is left out."""
        heat = {}
        for name in HEAT:
            parts = [bytes([_warm(own.get((name, ())))])]
            parts += [told.heat.get(name, bytes([NO_HEAT]) * (len(told.nodes) // 4)) for told in self.below.values()]
            line = b"".join(parts)
            if line.count(NO_HEAT) != len(line):
                heat[name] = line
        return heat

    def _fitting(self, gauges: Merged) -> list[Sample]:
        """What goes with this packet: the runtime's own first, then the gauges and counts of programs."""
        room = MAX_PACKET_BYTES
        chosen: list[Sample] = []
        own = [key for key in self.counts.samples if key[0] in BY_NAME]
        rest = [key for key in self.counts.samples if key[0] not in BY_NAME]
        for sample in sorted(gauges.samples.values(), key=lambda one: one.name not in BY_NAME):
            room -= size_of(sample)
            if room < MAX_PACKET_BYTES // 2:  # the other half is for what was counted
                self._dropped += 1
            else:
                chosen.append(sample)
        room = MAX_PACKET_BYTES - sum(map(size_of, chosen))
        for at, key in enumerate(own + rest):
            room -= size_of(self.counts.samples[key])
            if room < 0 and at:  # the first goes in any case, or it would hold up all others for ever
                break
            chosen.append(self.counts.take(key))
        return chosen


def _warm(sample: Sample | None) -> int:
    """The value of a gauge from 0 to 1 as a byte; of several, their mean."""
    if sample is None or not sample.count:
        return NO_HEAT
    return round(min(max(sample.total / sample.count, 0.0), 1.0) * 254)


def size_of(sample: Sample) -> int:
    """About how many bytes a sample takes in a packet."""
    words = sum(len(word) if word.isascii() else len(word.encode()) for word in (sample.name, *sample.labels))
    return 40 + words + 3 * len(sample.bins) + 9 * len(sample.bounds)


def is_sane(sample: Sample) -> bool:
    """Whether a sample can be one, and its numbers are finite. With NaN or an infinity nothing could be said of all
    others either: their sum is none, and bins get too wide."""
    numbers = (sample.low, sample.high) if sample.kind == GAUGE else (sample.total,)
    return fits(sample) and all(map(math.isfinite, numbers))

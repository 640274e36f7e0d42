"""Pairs of nodes in rounds, and the nodes whose network is slow, by what their pairs have measured. No I/O.

A link that is slow has two ends. A node is slow where its *best* link is: a sound node has a good one with every other
sound node. While most nodes are sound, a few slow ones are told from those that they were measured with.
Rejected: each node against the first one. It takes as many turns as there are nodes, and a slow first node makes all
look slow. Rejected too: the mean, and limits in bytes per second, for networks differ a thousandfold.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

#: A node is slow whose best link has less than this share of the median of all nodes' best.
SLOW_SHARE = 0.5
#: A link between sound nodes is slow below this share. Single links differ more than the best of several.
LINK_SHARE = 0.25
#: ... or whose shortest latency is so many times the median, and by so much more.
LATE_TIMES, LATE_S = 5.0, 0.5e-3
#: A node is measured with at most as many others.
ROUNDS = 6


@dataclass(frozen=True)
class Link:
    """What was measured between two nodes: the slower direction. rate: bytes per second, 0 where none came through."""

    a: int
    b: int
    rate: float
    latency_s: float = 0.0


@dataclass(frozen=True)
class Fault:
    """A node, or a link with its other end, and its figures beside those of the others. kind: "broken" has none."""

    kind: Literal["broken", "slow", "late", "link"]
    node: int
    other: int = -1
    value: float = 0.0
    usual: float = 0.0


def rounds(count: int, most: int = ROUNDS) -> list[list[tuple[int, int]]]:
    """Rounds of pairs of `count` nodes; in each round a node has at most one partner, and no pair comes twice.

    All pairs where there is room for them in `most` rounds, else rounds that lie far from one another.
    """
    even = count + count % 2
    if count < 2:
        return []
    every = even - 1
    chosen = range(every) if every <= most else [every * i // most for i in range(most)]
    return [_round(even, count, turn) for turn in chosen]


def _round(even: int, count: int, turn: int) -> list[tuple[int, int]]:
    """The circle method: one node stays, the others turn around it."""
    last = even - 1
    pairs = [(turn, last)]
    pairs += [((turn + i) % last, (turn - i) % last) for i in range(1, even // 2)]
    return [(min(pair), max(pair)) for pair in pairs if max(pair) < count]


def faults(count: int, links: Sequence[Link]) -> list[Fault]:
    """The nodes that are broken or slow, and slow links between sound nodes. Two nodes alone: neither can be named."""
    links = best_of(links)
    of: dict[int, list[Link]] = {node: [] for node in range(count)}
    for link in links:
        of[link.a].append(link)
        of[link.b].append(link)
    measured = {node: there for node, there in of.items() if there}
    best = {node: max(link.rate for link in there) for node, there in measured.items()}
    found = [Fault("broken", node) for node in sorted(best) if best[node] <= 0]
    sound = {node: rate for node, rate in best.items() if rate > 0}
    if count < 3 or len(sound) < 2:
        return found
    usual = statistics.median(sound.values())
    slow = sorted(node for node, rate in sound.items() if rate < SLOW_SHARE * usual)
    found += [Fault("slow", node, -1, sound[node], usual) for node in slow]
    late = {node: min(link.latency_s for link in of[node] if link.rate > 0) for node in sound}
    usual_s = statistics.median(late.values())
    for node in sorted(late):
        if node not in slow and late[node] > LATE_TIMES * usual_s and late[node] > usual_s + LATE_S:
            found.append(Fault("late", node, -1, late[node], usual_s))
    bad = {fault.node for fault in found}
    for link in links:
        if not bad & {link.a, link.b} and link.rate < LINK_SHARE * usual:
            found.append(Fault("link", link.a, link.b, link.rate, usual))
    return found


def suspects(count: int, links: Sequence[Link]) -> list[tuple[int, int]]:
    """The pairs to be measured once more, alone: somebody else may have been at work. The better figure counts then."""
    best = {node: max((x for x in links if node in (x.a, x.b)), key=lambda x: x.rate) for node in _ends(links)}
    found = [
        (best[fault.node].a, best[fault.node].b) if fault.other < 0 else (fault.node, fault.other)
        for fault in faults(count, links)
    ]
    return list(dict.fromkeys(found))


def _ends(links: Sequence[Link]) -> set[int]:
    return {node for link in links for node in (link.a, link.b)}


def best_of(links: Sequence[Link]) -> list[Link]:
    """Each pair once, by its better figures, in order."""
    found: dict[tuple[int, int], Link] = {}
    for link in sorted(links, key=lambda link: (link.a, link.b)):
        other = found.get((link.a, link.b), link)
        latency_s = min((x.latency_s for x in (link, other) if x.rate > 0), default=0.0)
        found[link.a, link.b] = Link(link.a, link.b, max(link.rate, other.rate), latency_s)
    return list(found.values())

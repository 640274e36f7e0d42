"""The tree by which metrics come to the head: living nodes in the order of their numbers, gateways last.

Each node has up to `FAN_IN` nodes below it. All nodes know who lives, so each finds the node above it by itself. For a
moment two of them may see it differently; what was counted is not lost by that.
"""

from __future__ import annotations

from collections.abc import Iterable

from hpc.core.wire import NodeInfo

FAN_IN = 16


def in_order(nodes: Iterable[NodeInfo]) -> list[int]:
    """The numbers of these nodes as the tree has them."""
    return [number for _, number in sorted((info.gateway, info.node) for info in nodes)]


def above(at: int) -> int | None:
    """The place in the order of the node above this place; None for the first, which has the head above it."""
    return (at - 1) // FAN_IN if at else None


def below(at: int, count: int) -> range:
    """The places of the nodes below it, of ``count`` nodes."""
    first = at * FAN_IN + 1
    return range(min(first, count), min(first + FAN_IN, count))

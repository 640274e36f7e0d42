"""What the head takes from nodes: amounts that can be, demands that can be served in one go.

A node's nonsense must not keep the others waiting: what is out of bounds is dropped, which its sender repeats if it
meant it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpc.core.accelerators.base import INSTANCE_RESOURCES
from hpc.core.pieces import MAX_DEVICES, UNIT
from hpc.core.wire import Heartbeat, Message, NodeDemand, NodeRegister, PgCreate

#: Workers that one demand is served at a time; what is beyond is asked for again within a second.
MAX_DEMAND = 10_000
#: An amount of a resource, in units; more is nonsense, and sums of it would overflow.
MAX_AMOUNT = 1 << 56
#: Kinds of resources in one message.
MAX_RESOURCES = 1_000
MAX_NUMBER = 1 << 62
#: Bundles of one placement group.
MAX_BUNDLES = 100_000
#: Labels over whose values one group has a strategy.
MAX_LABELS = 10
STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
#: What a request that makes no sense may raise when it is to be placed.
NONSENSE = (TypeError, ValueError, IndexError, KeyError, AttributeError, OverflowError)


def amounts(given: Mapping[str, int]) -> bool:
    """Whether this can be amounts of resources. What is free may be below 0 for a moment: a CPU that was lent."""
    return len(given) <= MAX_RESOURCES and all(-MAX_AMOUNT < units < MAX_AMOUNT for units in given.values())


def pieces(given: Mapping[str, Sequence[int]]) -> bool:
    """Whether this can be what is free on a node's devices."""
    return len(given) <= MAX_RESOURCES and all(
        len(free) <= MAX_DEVICES and all(0 < piece <= UNIT for piece in free) for free in given.values()
    )


def is_sane(msg: Message) -> bool:
    """Whether a message can be taken."""
    if isinstance(msg, Heartbeat):
        return amounts(msg.free) and pieces(msg.pieces) and all(map(pieces, msg.bundle_pieces))
    if isinstance(msg, NodeRegister):
        totals = msg.info.totals
        few = all(totals.get(name, 0) <= MAX_DEVICES * UNIT for name in INSTANCE_RESOURCES)
        return few and amounts(totals) and all(units >= 0 for units in totals.values())
    if isinstance(msg, NodeDemand):
        wanted = [*msg.placement.values(), *msg.held.values()]
        numbers = 0 <= msg.count < MAX_NUMBER and 0 <= msg.seen < MAX_NUMBER
        return numbers and amounts(msg.placement) and amounts(msg.held) and all(units >= 0 for units in wanted)
    if isinstance(msg, PgCreate):
        known = msg.strategy in STRATEGIES and len(msg.selectors) in (0, len(msg.bundles))
        positive = all(amounts(bundle) and min(bundle.values(), default=0) >= 0 for bundle in msg.bundles)
        known = known and len(msg.topology) <= MAX_LABELS
        known = known and all(len(each) == 2 and each[1] in STRATEGIES for each in msg.topology)
        return known and positive and 0 < len(msg.bundles) <= MAX_BUNDLES
    return True

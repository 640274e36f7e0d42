"""The devices of one node, as what is free on each: the pieces that tasks can have.

A fraction is never split over two devices, and whole devices are given whole. So the sum does not say what fits: four
devices that are half free have no room for one whole. A list of pieces has what is free on each device that is not
full, in units, the largest first. The raylet and the head take from such lists by the same rules, so they agree on what
has room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpc.core.accelerators.base import INSTANCE_RESOURCES

#: Amounts are integers; one device is so many.
UNIT = 10_000

#: Devices of one resource on one node, at most.
MAX_DEVICES = 1_024

Pieces = dict[str, list[int]]


def of_amount(units: int) -> list[int]:
    """The pieces of devices that nobody uses; a part of a device is a piece too."""
    count, rest = divmod(max(0, units), UNIT)
    return [UNIT] * count + [rest] * bool(rest)


def of_amounts(amounts: Mapping[str, int]) -> Pieces:
    """The same for each resource that has devices."""
    return {name: of_amount(amounts[name]) for name in INSTANCE_RESOURCES if amounts.get(name)}


def times(pieces: Sequence[int], units: int) -> int:
    """How many times an amount fits."""
    if units >= UNIT:
        return sum(1 for left in pieces if left == UNIT) // (units // UNIT)
    return sum(left // units for left in pieces)


def less(pieces: Sequence[int], units: int) -> list[int]:
    """What is left when an amount has been taken: whole devices, and for a fraction the smallest piece that holds it.

    Where it does not fit, as a sum of several amounts may not, the largest pieces are used up.
    """
    left = list(pieces)
    while units >= UNIT and left and left[0] == UNIT:
        del left[0]
        units -= UNIT
    while units > 0 and left:
        at = max((i for i, piece in enumerate(left) if piece >= units), default=0)
        piece = left.pop(at)
        rest, units = max(0, piece - units), max(0, units - piece)
        if rest:
            left.append(rest)
            left.sort(reverse=True)
    return left


def fit(pieces: Sequence[int], amounts: Sequence[int]) -> bool:
    """Whether all of the amounts have room together, the largest first."""
    left = list(pieces)
    for units in sorted(amounts, reverse=True):
        if units > 0:
            if not times(left, units):
                return False
            left = less(left, units)
    return True


def devices_for(amounts: Sequence[int]) -> int:
    """How many devices hold all of the amounts, if nothing else is on them."""
    count, left = 0, list[int]()
    for units in sorted(amounts, reverse=True):
        if units >= UNIT:
            count += units // UNIT
        elif units > 0:
            if not times(left, units):
                count += 1
                left.insert(0, UNIT)
            left = less(left, units)
    return count


def has_grown(before: Sequence[int], now: Sequence[int]) -> bool:
    """Whether an amount may have room now that had none before."""
    return len(now) > len(before) or any(new > old for old, new in zip(before, now))

"""How long requests took, as counts by size: four counts for each doubling, so a quantile is right to a tenth. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

Counts = dict[int, int]
_SHORTEST_S = 1e-6


def bucket_of(seconds: float) -> int:
    """The count that a time belongs to."""
    part, power = math.frexp(max(seconds, _SHORTEST_S))
    return 4 * power + int(8 * part) - 4


def middle_of(bucket: int) -> float:
    """The seconds in the middle of what a count has."""
    power, quarter = divmod(bucket, 4)
    return math.ldexp((quarter + 4.5) / 8, power)


def together(many: Iterable[Mapping[int, int]]) -> Counts:
    """The sum of counts."""
    found: Counts = {}
    for counts in many:
        for bucket, count in counts.items():
            found[bucket] = found.get(bucket, 0) + count
    return found


def quantile(counts: Mapping[int, int], share: float) -> float | None:
    """The time that this share of the requests took at most; None where there were none."""
    left = share * sum(counts.values())
    for bucket in sorted(counts):
        left -= counts[bucket]
        if left <= 0 and counts[bucket]:
            return middle_of(bucket)
    return None

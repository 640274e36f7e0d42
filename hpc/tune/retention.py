"""Which checkpoints of a trial stay. Pure.

Ascending by score, NaN lowest, among equals the later one higher. The latest always stays, whatever its score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpc.tune.flat import flatten_dict

if TYPE_CHECKING:
    from hpc.runs.checkpoint import Checkpoint

    Kept = tuple[Checkpoint, dict[str, Any]]


@dataclass(frozen=True)
class Rule:
    """num_to_keep: so many stay (None: all). attribute: the metric of the score; None: the age. order: "max" or
    "min" is best."""

    num_to_keep: int | None = None
    attribute: str | None = None
    order: str = "max"

    def score(self, metrics: dict[str, Any]) -> tuple[bool, float]:
        """The higher the better; NaN is the worst, and then a result without the attribute.

        Raises ValueError for a score that is no number.
        """
        value = flatten_dict(metrics).get(self.attribute or "", None)
        if value is None:
            return True, -math.inf
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise ValueError(
                f"checkpoint_score_attribute {self.attribute!r} must be a number in each result, and is {value!r}"
            ) from None
        if math.isnan(number):
            return False, -math.inf
        return True, number if self.order == "max" else -number

    def best(self, kept: Sequence[Kept]) -> list[Kept]:
        """What is kept for its score, worst first: without the latest one, where that is kept only because it is."""
        ranked: list[Kept] = []
        for one in kept:
            ranked, _ = Rule(None, self.attribute, self.order).add(ranked, one)
        return ranked if self.num_to_keep is None else ranked[-self.num_to_keep :]

    def add(self, kept: Sequence[Kept], new: Kept) -> tuple[list[Kept], list[Kept]]:
        """What is kept with the new one, worst first, and what is not any more.

        A checkpoint without the score goes to the end, as if there were no score.
        """
        place = len(kept)
        if self.attribute is not None and self.attribute in flatten_dict(new[1]):
            score = self.score(new[1])
            place = next((index for index, one in enumerate(kept) if self.score(one[1]) > score), place)
        ranked = [*kept[:place], new, *kept[place:]]
        if self.num_to_keep is None:
            return ranked, []
        worst, rest = ranked[: -self.num_to_keep], ranked[-self.num_to_keep :]
        latest = [one for one in worst if one is new]
        return latest + rest, [one for one in worst if one is not new]

"""Methods that make one dataset of several: union, zip, mix."""

from __future__ import annotations

import math
from typing import Any, Literal

from hpc.data.options import MixStoppingCondition
from hpc.data.plan import nodes
from hpc.data.planned import D, Planned

_STOP: dict[MixStoppingCondition, Literal["shortest", "longest_drop"]] = {
    MixStoppingCondition.STOP_ON_SHORTEST: "shortest",
    MixStoppingCondition.STOP_ON_LONGEST_DROP: "longest_drop",
}


def check_datasets(method: str, *others: Any) -> None:
    """Raises TypeError for what is no dataset."""
    for other in others:
        if not hasattr(other, "plan"):
            raise TypeError(f"{method} takes datasets, not {type(other).__name__}")


def union(self: D, *other: Planned) -> D:
    """The rows of this one, and then those of the others."""
    check_datasets("union", *other)
    return self.derived(nodes.Union((self.plan, *(one.plan for one in other))))


def zip(self: D, *other: Planned) -> D:
    """The columns of all of them side by side, row by row. A name that is there gets a number behind it.

    The run raises ValueError where they have different numbers of rows."""
    check_datasets("zip", *other)
    return self.derived(nodes.Zip((self.plan, *(one.plan for one in other))))


def mix(
    self: D,
    *other: Planned,
    weights: list[float] | None = None,
    stopping_condition: MixStoppingCondition = MixStoppingCondition.STOP_ON_LONGEST_DROP,
) -> D:
    """The rows of all, in turns whose lengths are as the weights (by default equal).

    It ends with the first that ends, or, without those that have ended, with the last."""
    check_datasets("mix", *other)
    count = len(other) + 1
    shares = [1.0 / count] * count if weights is None else list(weights)
    if len(shares) != count:
        raise ValueError(f"Number of datasets ({count}) must match number of weights ({len(shares)}).")
    if not all(0 < share < math.inf for share in shares):
        raise ValueError(f"Weights must be positive. Got weights: {weights}")
    stop = _STOP[MixStoppingCondition(stopping_condition)]
    return self.derived(nodes.Mix((self.plan, *(one.plan for one in other)), tuple(shares), stop))

"""Medians, spreads, ratios and verdicts over plain data. Pure.

A result is the dict that is written as JSON; everything that is shown is computed from it here, so that a table can be
made again from a file. Rejected: means and standard deviations (on a shared machine one bad round spoils both).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.metrics import HPC, METRICS, RAY, Metric, Target

Values = Mapping[str, Mapping[str, Sequence[float]]]  # metric -> peer -> one value per round


@dataclass(frozen=True)
class Summary:
    """The rounds of one metric under one peer."""

    median: float
    low: float
    high: float
    rounds: int

    @property
    def spread(self) -> float:
        """The distance between the best and the worst round, as a share of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0


def summary(values: Sequence[float]) -> Summary | None:
    """None where nothing was measured."""
    if not values:
        return None
    return Summary(statistics.median(values), min(values), max(values), len(values))


def ratio(ours: float, theirs: float, higher_is_better: bool) -> float:
    """How many times better we are: above 1 is better, whatever the unit."""
    best, other = (ours, theirs) if higher_is_better else (theirs, ours)
    return best / other if other else float("inf")


def ratio_range(ours: Sequence[float], theirs: Sequence[float], higher_is_better: bool) -> tuple[float, float] | None:
    """The smallest and largest ratio among rounds measured beside each other; None where a round is missing, because
    then values of different rounds would be paired."""
    if not ours or len(ours) != len(theirs):
        return None
    pairs = [ratio(a, b, higher_is_better) for a, b in zip(ours, theirs)]
    return min(pairs), max(pairs)


def reached(metric: Metric, medians: Mapping[str, float]) -> bool | None:
    """Whether all targets are reached; None where there is none, or a figure that one of them needs is missing."""
    verdicts = [_one(metric, target, medians) for target in metric.targets]
    if False in verdicts:
        return False
    return None if not verdicts or None in verdicts else True


def _one(metric: Metric, target: Target, medians: Mapping[str, float]) -> bool | None:
    ours = medians.get(HPC)
    if ours is None:
        return None
    if target.at_most is not None:
        return ours <= target.at_most
    if target.at_least is not None:
        return ours >= target.at_least
    theirs = medians.get(target.peer)
    if theirs is None or target.times is None:
        return None
    return ratio(ours, theirs, metric.higher_is_better) >= target.times


@dataclass(frozen=True)
class Line:
    """One metric with all that is shown of it."""

    metric: Metric
    peers: Mapping[str, Summary]
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    others: Mapping[str, float]  # the ratio to each other peer
    reached: bool | None


def line(metric: Metric, values: Mapping[str, Sequence[float]]) -> Line | None:
    """The line of a metric; None where nobody was measured."""
    peers = {peer: s for peer, numbers in values.items() if (s := summary(numbers)) is not None}
    if not peers:
        return None
    medians = {peer: s.median for peer, s in peers.items()}
    better = metric.higher_is_better
    both = HPC in peers and RAY in peers
    between = ratio_range(values[HPC], values[RAY], better) if both else None
    return Line(
        metric, peers, ratio(medians[HPC], medians[RAY], better) if both else None,
        between[0] if between else None, between[1] if between else None,
        {p: ratio(medians[HPC], m, better) for p, m in medians.items() if p not in (HPC, RAY) and HPC in medians},
        reached(metric, medians),
    )  # fmt: skip


def lines(values: Values, metrics: Sequence[Metric] = METRICS) -> list[Line]:
    """The lines of all metrics that have values, in the order of the metrics."""
    return [found for m in metrics if (found := line(m, values.get(m.name, {}))) is not None]


def missed(result: Mapping[str, Any]) -> list[str]:
    """The targets that were measured and not reached."""
    return [x.metric.name for x in lines(result["values"]) if x.reached is False]


def unjudged(result: Mapping[str, Any]) -> list[str]:
    """The targets about which this run says nothing."""
    judged = {x.metric.name for x in lines(result["values"]) if x.reached is not None}
    return [m.name for m in METRICS if m.targets and m.name not in judged]

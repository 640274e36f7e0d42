"""How an update's data is divided among learners, so that each has as much to do as the others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import hpc
from hpc.rllib.core.learner.remote_learner import Share, rows_of_rank
from hpc.rllib.env.fragment import Sample
from hpc.rllib.utils.trees import leaves

#: Whole samples are dealt out where the largest share is at most this much larger than the mean one.
MOST_UNEVEN = 1.1


def of_samples(samples: Sequence[tuple[Sample, Any]], ranks: int) -> list[Share]:
    """Whole samples to each learner if that is even, else to each the same share of the columns of all."""
    if ranks == 1:
        return [Share(samples=list(samples))]
    dealt: list[list[tuple[Sample, Any]]] = [[] for _ in range(ranks)]
    loads = [0] * ranks
    for sample in sorted(samples, key=lambda pair: -steps_of(pair[0])):
        least = loads.index(min(loads))
        dealt[least].append(sample)
        loads[least] += steps_of(sample[0])
    if max(loads) <= MOST_UNEVEN * sum(loads) / ranks or not _can_be_cut(samples, ranks):
        return [Share(samples=part) for part in dealt]
    return [Share(samples=list(samples), part=(rank, ranks)) for rank in range(ranks)]


def _can_be_cut(samples: Sequence[tuple[Sample, Any]], ranks: int) -> bool:
    """Whether each fragment has a column for each learner, as far as is known here."""
    widths = [fragment.width for sample, _ in samples for fragment in sample.modules.values()]
    known = [steps_of(sample) / sample.rows for sample, ref in samples if ref is not None and sample.rows]
    return all(width >= ranks for width in [*widths, *known])


def of_batch(batch: Any, ranks: int) -> list[Share]:
    """A piece of the rows of each module to each learner. A reference goes to all, who take their piece there."""
    if ranks == 1:
        return [Share(batch=batch)]
    if isinstance(batch, hpc.ObjectRef):
        return [Share(batch=batch, part=(rank, ranks)) for rank in range(ranks)]
    return [Share(batch=rows_of_rank(batch, rank, ranks)) for rank in range(ranks)]


def of_episodes(episodes: Sequence[Any], ranks: int) -> list[Share]:
    """Whole episodes, the longest first, each to the learner that has least."""
    dealt: list[list[Any]] = [[] for _ in range(ranks)]
    loads = [0] * ranks
    for episode in sorted(episodes, key=len, reverse=True):
        least = loads.index(min(loads))
        dealt[least].append(episode)
        loads[least] += len(episode)
    return [Share(episodes=part) for part in dealt]


def steps_of(sample: Sample) -> int:
    """Steps of the module that has the most of them."""
    return max(sample.module_steps.values(), default=sample.env_steps)


def rows_of(samples: Any, batch: Any, episodes: Any) -> int:
    """How many rows the largest module of an update has."""
    if samples is not None:
        return sum(steps_of(sample) for sample, _ in samples)
    if isinstance(batch, Mapping):
        return max((len(next(leaves(rows))) for rows in batch.values()), default=0)
    if batch is not None:
        return 0
    return sum(len(episode) for episode in episodes)


def minibatches(rows: int, ranks: int, epochs: int, size: int | None) -> int:
    """How many minibatches each learner takes: the same number, since they average gradients in each."""
    return epochs * max(1, math.ceil(rows / ranks / size)) if size else epochs

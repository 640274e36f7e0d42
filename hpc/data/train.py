"""Datasets of trainers: a part for each rank, in an order that a checkpoint can go on in."""

from __future__ import annotations

import logging
from typing import Any

from hpc import spi
from hpc.data.consume.sharing import Equal
from hpc.data.dataset import Dataset
from hpc.data.iterator import DataIterator
from hpc.data.methods.splitting import streaming_split
from hpc.data.options import ExecutionOptions
from hpc.data.ordered import ordered_split

logger = logging.getLogger("hpc.data")


def shards(
    dataset: Dataset,
    ranks: int,
    *,
    split: bool = True,
    deterministic: bool = True,
    seed: int | None = None,
    window: int = 8192,
    equal: Equal = "drop",
    nodes: list[str] | None = None,
    options: ExecutionOptions | None = None,
) -> list[DataIterator]:
    """The iterator of each rank: of its part, or (``split`` False) of all rows.

    ``deterministic``: the order of all ranks' rows together depends on ``seed`` and the epoch alone, as
    `hpc.data.ordered` has it. Otherwise blocks go to the rank that asks, those on its node (``nodes``) first.
    ``equal``: as `streaming_split` has it.

    It is called when the ranks have their CPUs. Where those are all that there are, tasks of the dataset take none.

    Raises TypeError for options that are none, ValueError for a window below 1."""
    own: Any = Dataset.copy(dataset, _deep_copy=True)
    if max((room.free.get("CPU", 0.0) for room in spi.rooms() if room.is_open), default=1.0) < 1:
        own.context._task_cpus = 0.0
        logger.warning(
            "no node has a whole CPU free beside the ranks: the tasks of the dataset share theirs. Give ranks less "
            "(ScalingConfig(resources_per_worker={'CPU': 0.5})) to have CPUs for the tasks"
        )
    if options is not None:
        if not isinstance(options, ExecutionOptions):
            raise TypeError(f"execution_options must be ExecutionOptions, not {type(options).__name__}")
        options.validate()
        own.context.execution_options = options
    if not split:
        return [own.iterator() for _ in range(ranks)]
    if deterministic:
        return list(ordered_split(own, ranks, seed, window, equal))
    return streaming_split(own, ranks, equal=equal, locality_hints=nodes)

"""A rank's part of the datasets that were given to the trainer."""

from __future__ import annotations

from typing import Any

import hpc
from hpc.train.devices import get_device
from hpc.train.loop import current_loop
from hpc.train.shards import DatasetShard, check_dataset, is_streamed


def get_dataset_shard(dataset_name: str | None = None) -> Any:
    """This rank's part of a dataset that was given to the trainer (``datasets={name: ...}``). Without a name: of the
    only one. Of a dataset of `hpc.data` it is a `DataIterator`, of all others a `DatasetShard`. Raises KeyError for one
    that was not given."""
    loop = current_loop("get_dataset_shard")
    datasets = loop.work.datasets if loop.own_datasets is None else loop.own_datasets
    if dataset_name is None and len(datasets) == 1:
        dataset_name = next(iter(datasets))
    if dataset_name is None or dataset_name not in datasets:
        there = ", ".join(map(repr, datasets)) or "none"
        raise KeyError(f"no dataset {dataset_name!r} was given to the trainer: datasets={{...}} has {there}")
    if loop.own_datasets is not None:
        own = loop.own_datasets[dataset_name]
        if hasattr(own, "device_of"):  # an iterator of hpc.data
            own.device_of = get_device
            return own
        check_dataset(str(dataset_name), own)
        return own.on(get_device) if isinstance(own, DatasetShard) else DatasetShard(own, 0, 1, get_device)
    split = dataset_name in loop.work.split
    rank, world = (loop.identity.world_rank, loop.identity.world_size) if split else (0, 1)
    data = hpc.get(datasets[dataset_name])
    if is_streamed(data):
        raise TypeError(f"give the dataset {dataset_name!r} to the trainer as it is, not by a reference")
    check_dataset(str(dataset_name), data)
    return DatasetShard(data, rank, world, get_device)

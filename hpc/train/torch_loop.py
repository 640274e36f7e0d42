"""The parts of hpc.train.torch that need torch when they are defined: models and data loaders on a rank's device."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset, RandomSampler, SequentialSampler

from hpc.train import torch_amp, torch_sharding
from hpc.train.devices import get_device
from hpc.train.loop import current_loop
from hpc.train.sampler import ElasticSampler


def prepare_model(
    model: torch.nn.Module,
    move_to_device: bool | torch.device,
    parallel_strategy: str | None,
    parallel_strategy_kwargs: dict[str, Any] | None,
) -> torch.nn.Module:
    """See hpc.train.torch.prepare_model."""
    identity = current_loop("torch.prepare_model").identity
    if parallel_strategy not in ("ddp", "fsdp", "fsdp2", None):
        raise ValueError(f'parallel_strategy must be "ddp", "fsdp", "fsdp2" or None, not {parallel_strategy!r}')
    if parallel_strategy_kwargs and parallel_strategy is None:
        raise ValueError("parallel_strategy_kwargs were given, but no parallel_strategy")
    device = move_to_device if isinstance(move_to_device, torch.device) else get_device()
    if move_to_device:
        model = model.to(device)
    mixed = torch_amp.precision()
    if mixed is not None:
        if mixed.scaler is not None and parallel_strategy in ("fsdp", "fsdp2"):
            raise ValueError(f'float16 needs "ddp": with {parallel_strategy!r} take accelerate(dtype=torch.bfloat16)')
        model.forward = mixed.around(model.forward)
    if parallel_strategy is None or identity.world_size == 1:
        return model
    kwargs = dict(parallel_strategy_kwargs or {})
    if parallel_strategy == "fsdp":
        return torch_sharding.wrapped(model, device, kwargs)
    if parallel_strategy == "fsdp2":
        return torch_sharding.sharded(model, device, kwargs)
    if device.type == "cuda":
        kwargs.setdefault("device_ids", [device])
        kwargs.setdefault("output_device", device)
    return DistributedDataParallel(model, **kwargs)


def prepare_data_loader(
    loader: DataLoader[Any], add_dist_sampler: bool, move_to_device: bool, auto_transfer: bool
) -> DataLoader[Any]:
    """See hpc.train.torch.prepare_data_loader."""
    identity = current_loop("torch.prepare_data_loader").identity
    device = get_device()
    to_gpu = move_to_device and device.type == "cuda"
    sampled = (
        isinstance(loader.sampler, DistributedSampler)
        or isinstance(loader.dataset, IterableDataset)
        or isinstance(loader.batch_sampler, ElasticSampler)
    )
    if identity.world_size > 1 and add_dist_sampler and not sampled:
        loader = _sharded(loader, identity.world_size, identity.world_rank, to_gpu and auto_transfer)
    return OnDeviceLoader(loader, device, auto_transfer) if to_gpu else loader


def _sharded(loader: DataLoader[Any], world_size: int, rank: int, pin_memory: bool) -> DataLoader[Any]:
    """The same loader over one rank's share of the data. As under Ray, another sampler is replaced, which is said."""
    if loader.batch_size is None and loader.batch_sampler is not None:
        raise ValueError(
            "prepare_data_loader cannot share out a loader with a batch_sampler of its own: give that one this rank's "
            "part of the data, and call prepare_data_loader(..., add_dist_sampler=False)"
        )
    shuffle = not isinstance(loader.sampler, SequentialSampler)
    dataset: Any = loader.dataset
    if not isinstance(loader.sampler, (RandomSampler, SequentialSampler)) and rank == 0:
        warnings.warn(
            f"prepare_data_loader replaces the {type(loader.sampler).__name__} of the loader by a DistributedSampler: "
            "with add_dist_sampler=False it stays, and is to take this rank's part of the data",
            stacklevel=4,
        )
    sampler: Any = DistributedSampler(dataset, world_size, rank, shuffle=shuffle)
    workers: dict[str, Any] = {}
    if loader.num_workers > 0:
        workers = {
            "prefetch_factor": loader.prefetch_factor,
            "persistent_workers": loader.persistent_workers,
            "multiprocessing_context": loader.multiprocessing_context,
            "timeout": loader.timeout,
        }
    return DataLoader(
        loader.dataset,
        batch_size=loader.batch_size,
        sampler=sampler,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory or pin_memory,
        drop_last=loader.drop_last,
        worker_init_fn=loader.worker_init_fn,
        generator=loader.generator,
        **workers,
    )


class _OnDevice:
    """Makes of a loader one whose batches are on the device when they come; all else is the given loader's."""

    def __init__(self, loader: Any, device: torch.device, non_blocking: bool) -> None:
        self.__dict__.update(loader.__dict__)
        self._hpc_inner = loader
        self._hpc_device = device
        self._hpc_non_blocking = non_blocking

    def __iter__(self) -> Iterator[Any]:
        for batch in self._hpc_inner:
            yield _to(batch, self._hpc_device, self._hpc_non_blocking)

    def __len__(self) -> int:
        return len(self._hpc_inner)


#: The same as a DataLoader, for those who ask with isinstance. Its __init__ is never run: the state is copied.
OnDeviceLoader: Any = type("OnDeviceLoader", (_OnDevice, DataLoader), {})


def _to(batch: Any, device: torch.device, non_blocking: bool) -> Any:
    """Tensors on the device; through lists, tuples, named tuples and dicts; other things as they are."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=non_blocking)
    if isinstance(batch, dict):
        return type(batch)({key: _to(value, device, non_blocking) for key, value in batch.items()})
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_to(one, device, non_blocking) for one in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(_to(one, device, non_blocking) for one in batch)
    return batch

"""Models whose weights are shared out over the ranks: torch's FSDP, first and second form, on GPUs and CPUs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from hpc.train.loop import current_loop

#: Of prepare_model's keywords for "fsdp2" this one is ours.
SUBMODULES = "submodules"


def same_on_all_ranks(model: torch.nn.Module) -> None:
    """Give all ranks rank 0's weights, as DistributedDataParallel does: ranks that drew their own would mix them."""
    for tensor in (*model.parameters(), *model.buffers()):
        if not tensor.is_meta:
            dist.broadcast(tensor.detach(), 0)


def wrapped(model: torch.nn.Module, device: torch.device, kwargs: dict[str, Any]) -> torch.nn.Module:
    """The model in FullyShardedDataParallel."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    same_on_all_ranks(model)
    kwargs.setdefault("device_id", device)
    made: torch.nn.Module = FullyShardedDataParallel(model, **kwargs)
    return made


def sharded(model: torch.nn.Module, device: torch.device, kwargs: dict[str, Any]) -> torch.nn.Module:
    """The same model with its parameters sharded by fully_shard: chosen submodules each for itself, then the rest."""
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
    except ImportError as error:
        raise ImportError(f'"fsdp2" needs torch 2.6 or newer, not {torch.__version__}', name="torch") from error
    chosen = _chosen(kwargs.pop(SUBMODULES, None))
    if kwargs.get("mesh") is None:
        kwargs["mesh"] = init_device_mesh(device.type, (current_loop("torch.prepare_model").identity.world_size,))
    same_on_all_ranks(model)
    inner = (
        [module for module in model.modules() if module is not model and chosen(module)] if chosen else _layers(model)
    )
    for module in reversed(inner):  # parents come before their children
        fully_shard(module, **kwargs)
    fully_shard(model, **kwargs)
    return model


def _chosen(given: Any) -> Callable[[torch.nn.Module], bool] | None:
    """Whether a module is one of those that were asked for: by classes, or by a function."""
    kinds = given if isinstance(given, (tuple, list, set)) else (given,)
    if given is None:
        return None
    if all(isinstance(kind, type) and issubclass(kind, torch.nn.Module) for kind in kinds):
        return lambda module: isinstance(module, tuple(kinds))
    if callable(given):
        function: Callable[[torch.nn.Module], bool] = given
        return function
    raise TypeError(f"{SUBMODULES} must be classes of modules, or a function of a module, not {given!r}")


def _layers(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The items of the model's ModuleLists: the layers of most models."""
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    return [layer for layers in lists for layer in layers if any(True for _ in layer.parameters())]

"""Ray's face for what makes the ranks one group: a `BackendConfig` names a `Backend`, whose hooks call the ranks.

A config without a backend of its own leaves the ranks alone: they have their numbers and `hpc.collective`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import hpc
from hpc.train.group import RankGroup


class Backend:
    """Hooks around the training function, called in the driver. Derive from it, and name it in a BackendConfig.

    All GPUs of a node's ranks are visible to each of them, whatever ``share_cuda_visible_devices`` says.
    """

    share_cuda_visible_devices: bool = False

    def on_start(self, worker_group: RankCalls, backend_config: Any) -> None:
        """All ranks are there."""

    def on_training_start(self, worker_group: RankCalls, backend_config: Any) -> None:
        """The training functions start next."""

    def on_shutdown(self, worker_group: RankCalls, backend_config: Any) -> None:
        """All ranks' functions have returned. After a failure the ranks are killed, and this is not called."""


class BackendConfig:
    """What a `DataParallelTrainer` is told of its group. Derive from it, with ``backend_cls`` as a property."""

    @property
    def backend_cls(self) -> type[Backend]:
        """The class of the hooks."""
        return Backend

    @property
    def train_func_context(self) -> Callable[[], Any]:
        """What makes the context manager that each rank's training function runs in."""
        return nullcontext

    @property
    def framework(self) -> Any:
        """The framework's name, for those who ask."""
        return None

    def to_dict(self) -> dict[str, Any]:
        """The settings, as plain values."""
        return {}


class RankCalls:
    """What hooks do with the ranks: call functions there. Ranks are counted from 0."""

    def __init__(self, group: RankGroup) -> None:
        self._group = group

    def __len__(self) -> int:
        """The number of ranks."""
        return len(self._group.actors)

    def execute(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Any]:
        """Call the function on every rank at once; its results by rank. Raises WorkerGroupError if one fails."""
        return self._group.run(functools.partial(func, **kwargs), *args)

    def execute_async(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Any]:
        """The same without waiting: a reference for each rank."""
        return [self.execute_single_async(rank, func, *args, **kwargs) for rank in range(len(self))]

    def execute_single(self, rank: int, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call the function on one rank; its result."""
        return hpc.get(self.execute_single_async(rank, func, *args, **kwargs))

    def execute_single_async(self, rank: int, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The same without waiting: a reference."""
        return self._group.actors[rank].call.remote(functools.partial(func, **kwargs), *args)

    def get_resources_per_worker(self) -> dict[str, float]:
        """What each rank holds."""
        return dict(self._group.reservation.request.each)


class Hooks:
    """The hooks of a config, as the controller calls them."""

    def __init__(self, config: BackendConfig) -> None:
        self._config = config
        self._backend = config.backend_cls()

    def on_start(self, group: RankGroup) -> None:
        """The hooks before training."""
        self._backend.on_start(RankCalls(group), self._config)
        self._backend.on_training_start(RankCalls(group), self._config)

    def on_end(self, group: RankGroup) -> None:
        """The hook after it."""
        self._backend.on_shutdown(RankCalls(group), self._config)

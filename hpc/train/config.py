"""What a training run is told: the configuration classes of Ray Train v2, with its names and defaults.

A field that Ray has and this package has no use for yet raises NotImplementedError when it is set. Ignoring it silently
would change what a program does. Fields that Ray does not have raise TypeError, as for any dataclass.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from hpc.train.checkpoint import Checkpoint

STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
DEFAULT_STORAGE_PATH = "~/hpc_results"


def _refuse(config: Any, *names: str) -> None:
    """NotImplementedError for those of the fields that are set to anything but their default."""
    defaults = {one.name: one.default for one in fields(config)}
    for name in names:
        if getattr(config, name) != defaults[name]:
            raise NotImplementedError(f"{type(config).__name__}.{name} is not supported yet")


def _need_int(where: str, value: Any, minimum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{where} must be an integer, not {type(value).__name__}")
    if value < minimum:
        raise ValueError(f"{where} must be at least {minimum}, not {value}")


@dataclass
class ScalingConfig:
    """How many workers there are, what each of them holds, and on which nodes they run.

    num_workers: the world size. use_gpu: one GPU for each worker, unless resources_per_worker says how many.
    resources_per_worker: {"CPU": 2, "GPU": 1, "memory": bytes, "other": 1}; without it {"CPU": 1}, or {"GPU": 1}.
    placement_strategy: "PACK" fills node after node, and "SPREAD" deals the workers out over the nodes, both as far as
    there is room. "STRICT_PACK" needs one node for all of them, "STRICT_SPREAD" a node for each of them.
    """

    num_workers: int | tuple[int, int] = 1
    use_gpu: bool = False
    resources_per_worker: dict[str, float] | None = None
    placement_strategy: str = "PACK"
    accelerator_type: str | None = None
    label_selector: Any = None
    use_tpu: bool = False
    topology: str | None = None
    elastic_resize_monitor_interval_s: float = 60.0

    def __post_init__(self) -> None:
        if isinstance(self.num_workers, tuple):
            raise NotImplementedError("ScalingConfig.num_workers as (min, max) is not supported yet; give one number")
        _need_int("ScalingConfig.num_workers", self.num_workers, 1)
        if not isinstance(self.use_gpu, bool):
            raise TypeError(f"ScalingConfig.use_gpu must be a bool, not {type(self.use_gpu).__name__}")
        _refuse(self, "accelerator_type", "label_selector", "use_tpu", "topology", "elastic_resize_monitor_interval_s")
        if self.placement_strategy not in STRATEGIES:
            raise ValueError(
                f"ScalingConfig.placement_strategy must be one of {', '.join(STRATEGIES)}, "
                f"not {self.placement_strategy!r}"
            )
        self._check_resources()

    def _check_resources(self) -> None:
        given = self.resources_per_worker
        if given is None:
            return
        if not isinstance(given, dict):
            raise TypeError(f"ScalingConfig.resources_per_worker must be a dict, not {type(given).__name__}")
        for name, amount in given.items():
            if isinstance(amount, bool) or not isinstance(amount, (int, float)):
                raise TypeError(f"resources_per_worker[{name!r}] must be a number, not {type(amount).__name__}")
            if amount < 0:
                raise ValueError(f"resources_per_worker[{name!r}] must not be negative")
        if not self.use_gpu and given.get("GPU"):
            raise ValueError("resources_per_worker has GPUs: set use_gpu=True too")
        if self.use_gpu and given.get("GPU") == 0:
            raise ValueError("use_gpu=True, but resources_per_worker has 0 GPUs")

    @property
    def world_size(self) -> int:
        """The number of workers."""
        assert isinstance(self.num_workers, int)
        return self.num_workers

    @property
    def worker_resources(self) -> dict[str, float]:
        """What each worker holds: amounts above 0 by name."""
        if self.resources_per_worker is None:
            return {"GPU": 1.0} if self.use_gpu else {"CPU": 1.0}
        found = {name: float(amount) for name, amount in self.resources_per_worker.items() if amount}
        if self.use_gpu:
            found.setdefault("GPU", 1.0)
        return found


@dataclass
class FailureConfig:
    """max_failures: how often the workers are started again, from the last checkpoint; -1: without end."""

    max_failures: int = 0
    controller_failure_limit: int = -1
    max_preemption_failures: int = -1

    def __post_init__(self) -> None:
        _need_int("FailureConfig.max_failures", self.max_failures, -1)
        _refuse(self, "controller_failure_limit", "max_preemption_failures")


@dataclass
class CheckpointConfig:
    """num_to_keep: so many checkpoints stay (None: all); the best by the metric checkpoint_score_attribute, else the
    latest. The latest always stays: a restart needs it."""

    num_to_keep: int | None = None
    checkpoint_score_attribute: str | None = None
    checkpoint_score_order: str = "max"

    def __post_init__(self) -> None:
        if self.num_to_keep is not None:
            _need_int("CheckpointConfig.num_to_keep", self.num_to_keep, 1)
        if self.checkpoint_score_order not in ("max", "min"):
            raise ValueError(
                f'CheckpointConfig.checkpoint_score_order must be "max" or "min", not {self.checkpoint_score_order!r}'
            )


class UserCallback:
    """Subclass it and give instances to ``RunConfig(callbacks=[...])``. Its methods run in the driver.

    An exception raised by a callback ends the run.
    """

    def after_report(
        self, run_context: TrainRunContext, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None
    ) -> None:
        """All ranks have reported. metrics: of each rank, by rank; checkpoint: the one that was stored, if any."""

    def after_exception(self, run_context: TrainRunContext, worker_exceptions: dict[int, Exception]) -> None:
        """Ranks have failed: the exceptions by rank. They may be started again after this (FailureConfig)."""


@dataclass
class RunConfig:
    """The run's name, where its results go, and what happens when something fails.

    Results go to storage_path/name (~/hpc_results and a name with the time). The same name and path again continue
    from the last checkpoint there. worker_runtime_env: {"env_vars": {...}} for the workers.
    """

    name: str | None = None
    storage_path: str | os.PathLike[str] | None = None
    storage_filesystem: Any = None
    failure_config: FailureConfig = field(default_factory=FailureConfig)
    checkpoint_config: CheckpointConfig = field(default_factory=CheckpointConfig)
    callbacks: Sequence[UserCallback] | None = None
    worker_runtime_env: dict[str, Any] | None = None
    logging_config: Any = None

    def __post_init__(self) -> None:
        _refuse(self, "storage_filesystem", "logging_config")
        self.failure_config = self.failure_config or FailureConfig()
        self.checkpoint_config = self.checkpoint_config or CheckpointConfig()
        for name, kind in (("failure_config", FailureConfig), ("checkpoint_config", CheckpointConfig)):
            if not isinstance(getattr(self, name), kind):
                raise TypeError(f"RunConfig.{name} must be a {kind.__name__}, not {type(getattr(self, name)).__name__}")
        if self.name is not None and (self.name in ("", ".", "..") or "/" in self.name or "\0" in self.name):
            raise ValueError(f"RunConfig.name must be the name of a directory, not {self.name!r}")
        for callback in self.callbacks or ():
            if not isinstance(callback, UserCallback):
                raise TypeError(f"RunConfig.callbacks must be UserCallback objects, not {type(callback).__name__}")
        if "://" in self.storage_root:
            raise NotImplementedError("RunConfig.storage_path must be a directory: URLs are not supported yet")

    @property
    def storage_root(self) -> str:
        """The directory in which runs have their directories."""
        path = os.fspath(self.storage_path) if self.storage_path is not None else DEFAULT_STORAGE_PATH
        return path if "://" in path else os.path.abspath(os.path.expanduser(path))


@dataclass(frozen=True)
class TrainRunContext:
    """The run that a callback is told of. ``run_config.name`` is the run's name, also where none was given."""

    run_config: RunConfig
    scaling_config: ScalingConfig
    train_loop_config: dict[str, Any] | None

"""What any run is told: where its results go and what happens when something fails. Ray's names and defaults.

A field that Ray has and this package has no use for yet raises NotImplementedError when it is set. Ignoring it silently
would change what a program does. Fields that Ray does not have raise TypeError, as for any dataclass.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from hpc.runs.callbacks import UserCallback
from hpc.runs.files import resolve

DEFAULT_STORAGE_PATH = "~/hpc_results"


def refuse(config: Any, *names: str) -> None:
    """NotImplementedError for those of the fields that are set to anything but their default."""
    defaults = {one.name: one.default for one in fields(config)}
    for name in names:
        if getattr(config, name) != defaults[name]:
            raise NotImplementedError(f"{type(config).__name__}.{name} is not supported yet")


def need_int(where: str, value: Any, minimum: int) -> None:
    """TypeError or ValueError for anything but an integer of at least this much."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{where} must be an integer, not {type(value).__name__}")
    if value < minimum:
        raise ValueError(f"{where} must be at least {minimum}, not {value}")


def check_limit(where: str, value: Any, zero: str = "") -> None:
    """TypeError or ValueError for anything but a number of seconds above 0, or 0 where that has a meaning."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{where} must be a number of seconds, not {type(value).__name__}")
    if not (value > 0 or (zero and value == 0)):
        raise ValueError(f"{where} must be above 0{f' (0: {zero})' if zero else ''}, not {value}")


def check_name(name: Any) -> None:
    """TypeError or ValueError for anything but the name of a directory, or None."""
    if name is not None and not isinstance(name, str):
        raise TypeError(f"RunConfig.name must be a str, not {type(name).__name__}")
    if name is not None and (name in ("", ".", "..") or "/" in name or "\0" in name):
        raise ValueError(f"RunConfig.name must be the name of a directory, not {name!r}")


def check_filesystem(filesystem: Any, receivers: str) -> None:
    """TypeError for a file system that cannot be sent to those that write there."""
    try:
        pickle.dumps(filesystem)
    except Exception as error:
        what = type(filesystem).__name__
        raise TypeError(f"RunConfig.storage_filesystem, a {what}, cannot be sent to {receivers}: {error}") from None


def place_of(path: str | os.PathLike[str] | None, filesystem: Any) -> tuple[Any, str]:
    """The pyarrow file system, or None for this machine's, and the path on it; without a path the default one.

    Raises ImportError for a URL without pyarrow, and ValueError for one that pyarrow cannot open.
    """
    return resolve(os.fspath(path) if path is not None else DEFAULT_STORAGE_PATH, filesystem)


@dataclass
class FailureConfig:
    """How often the workers are started again, from the last checkpoint; -1: without end. Three numbers are counted
    apart.

    max_failures: after failures of workers. controller_failure_limit: after workers died before the training function
    began. max_preemption_failures: after nodes were taken away.

    preemption_grace_s: when ranks have gone with such nodes, the others may go on for so long beyond the deadline. They
    bring a checkpoint to its end, for example. relax_collectives_on_preemption: report() and get_preemption_info() do
    not wait for ranks that have gone so, as long as rank 0 is there. A checkpoint needs the parts of all other ranks
    only then.
    """

    max_failures: int = 0
    controller_failure_limit: int = -1
    max_preemption_failures: int = -1
    relax_collectives_on_preemption: bool = False
    preemption_grace_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("max_failures", "controller_failure_limit", "max_preemption_failures"):
            need_int(f"FailureConfig.{name}", getattr(self, name), -1)
        if not isinstance(self.relax_collectives_on_preemption, bool):
            raise TypeError("FailureConfig.relax_collectives_on_preemption must be a bool")
        check_limit("FailureConfig.preemption_grace_s", self.preemption_grace_s, zero="none")


@dataclass
class CheckpointConfig:
    """num_to_keep: so many checkpoints stay (None: all); the best by the metric checkpoint_score_attribute, else the
    latest. The latest always stays: a restart needs it."""

    num_to_keep: int | None = None
    checkpoint_score_attribute: str | None = None
    checkpoint_score_order: str = "max"

    def __post_init__(self) -> None:
        if self.num_to_keep is not None:
            need_int("CheckpointConfig.num_to_keep", self.num_to_keep, 1)
        name = self.checkpoint_score_attribute
        if name is not None and not isinstance(name, str):
            raise TypeError(f"CheckpointConfig.checkpoint_score_attribute must be a str, not {type(name).__name__}")
        if self.checkpoint_score_order not in ("max", "min"):
            raise ValueError(
                f'CheckpointConfig.checkpoint_score_order must be "max" or "min", not {self.checkpoint_score_order!r}'
            )


@dataclass
class RunConfig:
    """The run's name, where its results go, and what happens when something fails.

    Results go to storage_path/name (~/hpc_results and a name with the time). The same name and path again continue
    from the last checkpoint there. storage_path may be a URL that pyarrow knows ("s3://bucket/path"), or a path on
    storage_filesystem, a pyarrow.fs.FileSystem. worker_runtime_env: {"env_vars": {...}} for the workers.

    Beyond Ray: hang_report_s: when ranks have waited for others so many seconds, the driver says for which, and where
    those are; 0: never. hang_end_s: a wait after which the run counts as failed (see FailureConfig); None: never.
    """

    name: str | None = None
    storage_path: str | os.PathLike[str] | None = None
    storage_filesystem: Any = None
    failure_config: FailureConfig = field(default_factory=FailureConfig)
    checkpoint_config: CheckpointConfig = field(default_factory=CheckpointConfig)
    callbacks: Sequence[UserCallback] | None = None
    worker_runtime_env: dict[str, Any] | None = None
    logging_config: Any = None
    hang_report_s: float = 15.0
    hang_end_s: float | None = None

    def __post_init__(self) -> None:
        check_limit("RunConfig.hang_report_s", self.hang_report_s, zero="never")
        if self.hang_end_s is not None:
            check_limit("RunConfig.hang_end_s", self.hang_end_s)
        refuse(self, "logging_config")
        self.failure_config = self.failure_config or FailureConfig()
        self.checkpoint_config = self.checkpoint_config or CheckpointConfig()
        for name, kind in (("failure_config", FailureConfig), ("checkpoint_config", CheckpointConfig)):
            if not isinstance(getattr(self, name), kind):
                raise TypeError(f"RunConfig.{name} must be a {kind.__name__}, not {type(getattr(self, name)).__name__}")
        check_name(self.name)
        for callback in self.callbacks or ():
            if not isinstance(callback, UserCallback):
                raise TypeError(f"RunConfig.callbacks must be UserCallback objects, not {type(callback).__name__}")
        if self.storage_filesystem is not None:
            self.storage()  # what is no file system, and a URL beside one, is an error now
            check_filesystem(self.storage_filesystem, "workers")

    def storage(self) -> tuple[Any, str]:
        """Where runs have their directories: the pyarrow file system, or None for this machine's, and the path on it.

        Raises ImportError for a URL without pyarrow, and ValueError for one that pyarrow cannot open.
        """
        return place_of(self.storage_path, self.storage_filesystem)

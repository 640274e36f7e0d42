"""Checks of checkpoints that go on beside a run: which function makes them, and what became of each checkpoint."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from hpc.runs.checkpoint import Checkpoint


class CheckpointUploadMode(enum.Enum):
    """When ``report`` stores a checkpoint.

    SYNC: before it returns. ASYNC: beside the training, in the order of the reports. NO_UPLOAD: not at all; the
    checkpoint is in the run's directory already.
    """

    ASYNC = "ASYNC"
    SYNC = "SYNC"
    NO_UPLOAD = "NO_UPLOAD"

    def default_delete_local_checkpoint_after_upload(self) -> bool:
        """Whether the rank's own files are deleted once they are stored, where ``report`` is not told."""
        return self is CheckpointUploadMode.ASYNC


class CheckpointConsistencyMode(enum.Enum):
    """What ``get_all_reported_checkpoints`` waits for.

    COMMITTED: the checkpoints of all reports that this rank has made are stored. VALIDATED: and validated.
    """

    COMMITTED = "COMMITTED"
    VALIDATED = "VALIDATED"


class ReportedCheckpointStatus(enum.Enum):
    """COMMITTED: stored, without a validation. PENDING_VALIDATION: stored, and to be validated. VALIDATED: stored, and
    the validation's metrics are among its own. VALIDATION_TIMEOUT, VALIDATION_FAILED: stored, without them."""

    COMMITTED = "COMMITTED"
    PENDING_VALIDATION = "PENDING_VALIDATION"
    VALIDATED = "VALIDATED"
    VALIDATION_TIMEOUT = "VALIDATION_TIMEOUT"
    VALIDATION_FAILED = "VALIDATION_FAILED"


@dataclass
class ReportedCheckpoint:
    """A checkpoint of a run, with rank 0's metrics of the report, and those of its validation once there are some."""

    checkpoint: Checkpoint
    metrics: dict[str, Any]
    status: ReportedCheckpointStatus


class ValidationFn(Protocol):
    """A function that is given a checkpoint, and returns metrics."""

    def __call__(self, checkpoint: Checkpoint, **kwargs: Any) -> dict[str, Any]:
        """kwargs: ``fn_kwargs`` of the trainer's ValidationTaskConfig and of the report's, the latter first."""


@dataclass
class ValidationTaskConfig:
    """fn_kwargs: further arguments of the function; values that JSON can hold. timeout_s: after so many seconds the
    validation is given up; None: never."""

    fn_kwargs: dict[str, Any] | None = None
    timeout_s: float | None = None

    def __post_init__(self) -> None:
        self.fn_kwargs = {} if self.fn_kwargs is None else self.fn_kwargs
        if not isinstance(self.fn_kwargs, dict):
            raise TypeError(f"ValidationTaskConfig.fn_kwargs must be a dict, not {type(self.fn_kwargs).__name__}")
        if self.timeout_s is not None and self.timeout_s <= 0:
            raise ValueError(f"ValidationTaskConfig.timeout_s must be above 0 or None, not {self.timeout_s}")


class ValidationConfig:
    """fn: called with a checkpoint in a task of its own, one checkpoint at a time, in the order of the reports.

    task_config: where ``report`` is not told otherwise. ray_remote_kwargs: options of the task, such as num_gpus.
    """

    def __init__(
        self,
        fn: Callable[..., dict[str, Any]],
        task_config: ValidationTaskConfig | None = None,
        ray_remote_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if not callable(fn):
            raise TypeError(f"ValidationConfig takes a function, not {type(fn).__name__}")
        if task_config is not None and not isinstance(task_config, ValidationTaskConfig):
            raise TypeError(f"task_config must be a ValidationTaskConfig, not {type(task_config).__name__}")
        self.fn = fn
        self.task_config = task_config or ValidationTaskConfig()
        self.ray_remote_kwargs = dict(ray_remote_kwargs or {})

    def task(self, asked: bool | ValidationTaskConfig) -> dict[str, Any]:
        """What a manifest says of a validation that was asked for: its arguments and its time limit."""
        kwargs, timeout_s = self.task_config.fn_kwargs or {}, self.task_config.timeout_s
        if isinstance(asked, ValidationTaskConfig):
            kwargs, timeout_s = {**kwargs, **(asked.fn_kwargs or {})}, asked.timeout_s
        return {"kwargs": kwargs, "timeout_s": timeout_s}

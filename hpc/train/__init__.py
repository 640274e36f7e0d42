"""Distributed training on the nodes of a session: Ray Train v2's names, defaults and semantics.

``hpc.train.torch`` has TorchTrainer. Nothing here imports torch before it is needed.
"""

from __future__ import annotations

from hpc.train.checkpoint import Checkpoint
from hpc.train.config import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, TrainRunContext, UserCallback
from hpc.train.errors import ControllerError, Drained, TrainingFailedError, WorkerGroupError
from hpc.train.loop import (
    CheckpointUploadMode,
    TrainContext,
    get_checkpoint,
    get_context,
    get_dataset_shard,
    report,
)
from hpc.train.progress import Progress
from hpc.train.result import Result

__all__ = [
    "Checkpoint",
    "CheckpointConfig",
    "CheckpointUploadMode",
    "ControllerError",
    "Drained",
    "FailureConfig",
    "Progress",
    "Result",
    "RunConfig",
    "ScalingConfig",
    "TrainContext",
    "TrainRunContext",
    "TrainingFailedError",
    "UserCallback",
    "WorkerGroupError",
    "get_checkpoint",
    "get_context",
    "get_dataset_shard",
    "report",
]

"""Distributed training on the nodes of a session: Ray Train v2's names, defaults and semantics.

``hpc.train.torch`` has TorchTrainer. Nothing here imports torch before it is needed.
"""

from __future__ import annotations

from hpc.runs.callbacks import UserCallback
from hpc.runs.checkpoint import Checkpoint
from hpc.runs.config import CheckpointConfig, FailureConfig, RunConfig
from hpc.runs.result import Result
from hpc.train.config import ScalingConfig, TrainRunContext
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

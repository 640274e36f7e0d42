"""Distributed training on the nodes of a session: Ray Train v2's names, defaults and semantics.

``hpc.train.torch`` has TorchTrainer, ``hpc.train.jax`` has JaxTrainer; DataParallelTrainer needs neither. Nothing here
imports torch or jax before it is needed.
"""

from __future__ import annotations

from hpc.runs.callbacks import UserCallback
from hpc.runs.checkpoint import Checkpoint
from hpc.runs.config import CheckpointConfig, FailureConfig, RunConfig
from hpc.runs.result import Result
from hpc.runs.uploading import StorageError
from hpc.runs.validation import (
    CheckpointConsistencyMode,
    CheckpointUploadMode,
    ReportedCheckpoint,
    ReportedCheckpointStatus,
    ValidationConfig,
    ValidationFn,
    ValidationTaskConfig,
)
from hpc.train.backend import BackendConfig
from hpc.train.config import ScalingConfig, TrainRunContext
from hpc.train.data import get_dataset_shard
from hpc.train.errors import (
    ControllerError,
    Drained,
    PreemptionError,
    RankHangError,
    TrainingFailedError,
    WorkerGroupError,
)
from hpc.train.loop import (
    TrainContext,
    get_all_reported_checkpoints,
    get_checkpoint,
    get_context,
    get_preemption_info,
    report,
)
from hpc.train.preemption import PreemptionInfo
from hpc.train.progress import Progress
from hpc.train.sampler import ElasticSampler
from hpc.train.shards import DataConfig
from hpc.train.trainer import DataParallelTrainer

__all__ = [
    "BackendConfig",
    "Checkpoint",
    "CheckpointConfig",
    "CheckpointConsistencyMode",
    "CheckpointUploadMode",
    "ControllerError",
    "DataConfig",
    "DataParallelTrainer",
    "Drained",
    "ElasticSampler",
    "FailureConfig",
    "PreemptionError",
    "PreemptionInfo",
    "Progress",
    "RankHangError",
    "ReportedCheckpoint",
    "ReportedCheckpointStatus",
    "Result",
    "RunConfig",
    "ScalingConfig",
    "StorageError",
    "TrainContext",
    "TrainRunContext",
    "TrainingFailedError",
    "UserCallback",
    "ValidationConfig",
    "ValidationFn",
    "ValidationTaskConfig",
    "WorkerGroupError",
    "get_all_reported_checkpoints",
    "get_checkpoint",
    "get_context",
    "get_dataset_shard",
    "get_preemption_info",
    "report",
]

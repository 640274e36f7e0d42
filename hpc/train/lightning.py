"""PyTorch Lightning in a training function, under Ray's names.

A plain ``Trainer(devices=..., num_nodes=..., strategy="ddp")`` works there too: it finds torchrun's environment.
What is here takes the ranks from the run itself, and reports each epoch.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import tempfile
from typing import Any

from hpc.runs.checkpoint import Checkpoint
from hpc.runs.validation import CheckpointUploadMode, ValidationTaskConfig
from hpc.train.devices import get_device
from hpc.train.loop import get_context, report

_found = [name for name in ("lightning.pytorch", "pytorch_lightning") if importlib.util.find_spec(name.split(".")[0])]
if not _found:
    raise ModuleNotFoundError("Lightning is not installed for this Python: `pip install lightning`", name="lightning")
pl: Any = importlib.import_module(_found[0])
_environments: Any = importlib.import_module(f"{_found[0]}.plugins.environments")


class _OnRanks:
    """Strategies on the device and with the share of the data of the run's rank."""

    world_size: int
    global_rank: int

    @property
    def root_device(self) -> Any:
        return get_device()

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        return {"num_replicas": self.world_size, "rank": self.global_rank}


class RayDDPStrategy(_OnRanks, pl.strategies.DDPStrategy):  # type: ignore[misc]
    """DDPStrategy on the ranks of the run. The process group is the run's: TorchConfig has its backend and limits."""


class RayFSDPStrategy(_OnRanks, pl.strategies.FSDPStrategy):  # type: ignore[misc]
    """FSDPStrategy on the ranks of the run."""


class RayDeepSpeedStrategy(_OnRanks, pl.strategies.DeepSpeedStrategy):  # type: ignore[misc]
    """DeepSpeedStrategy on the ranks of the run. Needs the package deepspeed."""


class RayLightningEnvironment(_environments.LightningEnvironment):  # type: ignore[misc]
    """The ranks of the run, for Lightning's plugins."""

    def world_size(self) -> int:
        """The number of ranks."""
        return get_context().get_world_size()

    def global_rank(self) -> int:
        """This rank."""
        return get_context().get_world_rank()

    def local_rank(self) -> int:
        """This rank among those on its node."""
        return get_context().get_local_rank()

    def node_rank(self) -> int:
        """This node among those that have ranks."""
        return get_context().get_node_rank()

    def set_world_size(self, size: int) -> None:
        """Nothing: the run says it."""

    def set_global_rank(self, rank: int) -> None:
        """Nothing: the run says it."""

    def teardown(self) -> None:
        """Nothing: the variables are the run's."""


def prepare_trainer(trainer: Any) -> Any:
    """The trainer, if its strategy and its environment are of this module. Raises RuntimeError if they are not."""
    strategies = (RayDDPStrategy, RayFSDPStrategy, RayDeepSpeedStrategy)
    if not isinstance(trainer.strategy, strategies):
        names = ", ".join(kind.__name__ for kind in strategies)
        raise RuntimeError(f"the strategy must be one of {names}, not {type(trainer.strategy).__name__}")
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if environment is not None and not isinstance(environment, RayLightningEnvironment):
        raise RuntimeError(f"plugins must have a RayLightningEnvironment(), not a {type(environment).__name__}")
    return trainer


class RayTrainReportCallback(pl.callbacks.Callback):  # type: ignore[misc]
    """Reports the metrics and a checkpoint, with the file checkpoint.ckpt, at the end of each training epoch."""

    CHECKPOINT_NAME = "checkpoint.ckpt"

    def __init__(
        self,
        checkpoint_upload_mode: CheckpointUploadMode | None = None,
        validation: bool | ValidationTaskConfig = False,
    ) -> None:
        super().__init__()
        self.checkpoint_upload_mode = checkpoint_upload_mode or CheckpointUploadMode.SYNC
        self.validation = validation

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Save and report. One rank of each node gives the files of the node's ranks: they share a directory."""
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        metrics.update(epoch=trainer.current_epoch, step=trainer.global_step)
        made = tempfile.mkdtemp(prefix="lightning-") if trainer.is_global_zero else None
        folder = trainer.strategy.broadcast(made)
        os.makedirs(folder, exist_ok=True)
        trainer.save_checkpoint(os.path.join(folder, self.CHECKPOINT_NAME), weights_only=False)
        trainer.strategy.barrier()
        gives = get_context().get_local_rank() == 0
        report(
            metrics,
            Checkpoint(folder) if gives else None,
            checkpoint_upload_mode=self.checkpoint_upload_mode,
            validation=self.validation if gives else False,
        )
        if gives and not self.checkpoint_upload_mode.default_delete_local_checkpoint_after_upload():
            shutil.rmtree(folder, ignore_errors=True)


__all__ = [
    "RayDDPStrategy",
    "RayDeepSpeedStrategy",
    "RayFSDPStrategy",
    "RayLightningEnvironment",
    "RayTrainReportCallback",
    "prepare_trainer",
]

"""The Trainer of Transformers in a training function, under Ray's names. It finds torchrun's environment by itself."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import tempfile
from typing import Any

from hpc.runs.checkpoint import Checkpoint
from hpc.train.collective import barrier
from hpc.train.loop import get_context, report
from hpc.train.shards import DatasetShard

if importlib.util.find_spec("transformers") is None:
    raise ModuleNotFoundError(
        "Transformers is not installed for this Python: `pip install transformers accelerate`", name="transformers"
    )
_trainer: Any = importlib.import_module("transformers.trainer")
_callbacks: Any = importlib.import_module("transformers.trainer_callback")


class RayTrainReportCallback(_callbacks.TrainerCallback):  # type: ignore[misc]
    """Reports the logged metrics and the checkpoint, in the folder ``checkpoint``, whenever the Trainer has saved."""

    CHECKPOINT_NAME = "checkpoint"

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report. One rank of each node gives the files of the node's ranks: they share the output directory."""
        barrier()  # all ranks have written theirs
        metrics: dict[str, Any] = {}
        for logged in state.log_history:
            metrics.update(logged)
        saved = _trainer.get_last_checkpoint(args.output_dir) if get_context().get_local_rank() == 0 else None
        if saved is None:
            report(metrics)
            return
        with tempfile.TemporaryDirectory(prefix="transformers-") as folder:
            shutil.copytree(saved, os.path.join(folder, self.CHECKPOINT_NAME))
            report(metrics, Checkpoint(folder))


def prepare_trainer(trainer: Any) -> Any:
    """The same Trainer, which takes a rank's rows from ``get_dataset_shard`` as they are: they are shared out already.

    Other datasets it shares out itself, with or without this call.
    """
    if not isinstance(trainer, _trainer.Trainer):
        raise TypeError(f"prepare_trainer takes a transformers.Trainer, not {type(trainer).__name__}")
    kind: Any = type(trainer)
    trainer.__class__ = type(kind.__name__, (_FromShards, kind), {})
    return trainer


class _FromShards:
    """Makes of a Trainer one whose loaders take shards as they are."""

    def get_train_dataloader(self: Any) -> Any:
        if isinstance(self.train_dataset, DatasetShard):
            return _loader(self, self.train_dataset, self._train_batch_size, self.args.dataloader_drop_last)
        return super().get_train_dataloader()  # type: ignore[misc]

    def get_eval_dataloader(self: Any, eval_dataset: Any = None) -> Any:
        data = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(data, str):
            data = self.eval_dataset[data]
        if isinstance(data, DatasetShard):
            return _loader(self, data, self.args.eval_batch_size, False)
        return super().get_eval_dataloader(eval_dataset)  # type: ignore[misc]


def _loader(trainer: Any, shard: DatasetShard, batch_size: int, drop_last: bool) -> Any:
    from torch.utils.data import DataLoader

    data: Any = shard
    return DataLoader(data, batch_size=batch_size, collate_fn=trainer.data_collator, drop_last=drop_last)


__all__ = ["RayTrainReportCallback", "prepare_trainer"]

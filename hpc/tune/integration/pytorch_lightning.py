"""PyTorch Lightning in a trial: reports at a hook of its Trainer. The module's name is Ray's."""

from __future__ import annotations

import functools
import importlib
import os
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hpc.runs.checkpoint import Checkpoint
from hpc.tune.context import report
from hpc.tune.integration.boosting import Metrics, names_of, selected

_Base: Any = object
if not TYPE_CHECKING:
    for _module in ("lightning.pytorch", "pytorch_lightning"):
        try:
            _Base = importlib.import_module(_module).Callback
        except ImportError:
            continue
        break


class TuneCallback(_Base):  # type: ignore[misc]
    """The base of callbacks that do something at hooks of a Trainer: override ``_handle``.

    on: the hooks, without "on_", such as "validation_end". Raises ImportError without Lightning, and ValueError for
    what is no hook.
    """

    def __init__(self, on: str | Sequence[str] = "validation_end") -> None:
        if _Base is object:
            raise ImportError("this callback needs Lightning: pip install lightning", name="lightning")
        super().__init__()
        hooks = sorted(name.removeprefix("on_") for name in dir(_Base) if name.startswith("on_"))
        for hook in [on] if isinstance(on, str) else on:
            if hook not in hooks:
                raise ValueError(f"Lightning has no hook {hook!r}; there are {', '.join(hooks)}")
            setattr(self, f"on_{hook}", functools.partial(self._hook))

    def _hook(self, trainer: Any, pl_module: Any = None, *args: Any, **kwargs: Any) -> None:
        self._handle(trainer, pl_module)

    def _handle(self, trainer: Any, pl_module: Any) -> None:
        raise NotImplementedError


class TuneReportCheckpointCallback(TuneCallback):
    """Give one to ``Trainer(callbacks=[...])`` in a trial's function.

    metrics: which of the Trainer's ``callback_metrics`` are reported: a name, several, or a dict of them by the names
    under which they are reported; without, all. filename: of the Trainer's checkpoint in that of the trial.
    save_checkpoints: whether there is one with each report. on: the hooks, without "on_".

    Raises ImportError without Lightning, ValueError for what is no hook, and KeyError for a metric that is not there.
    """

    def __init__(
        self,
        metrics: Metrics = None,
        filename: str = "checkpoint",
        save_checkpoints: bool = True,
        on: str | Sequence[str] = "validation_end",
    ) -> None:
        super().__init__(on)
        self._names = names_of(metrics)
        self._filename = filename
        self._save_checkpoints = save_checkpoints

    def _handle(self, trainer: Any, pl_module: Any) -> None:
        if trainer.sanity_checking:
            return
        found = {name: value.item() for name, value in trainer.callback_metrics.items()}
        if not found:
            return
        chosen = selected(found, self._names, __name__)
        if not self._save_checkpoints:
            report(chosen)
            return
        with tempfile.TemporaryDirectory() as folder:
            trainer.save_checkpoint(os.path.join(folder, self._filename))
            report(chosen, checkpoint=Checkpoint(folder))

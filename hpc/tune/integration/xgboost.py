"""XGBoost in a trial: each boosting iteration is a result. The module's name is Ray's."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from hpc.runs.checkpoint import Checkpoint
from hpc.tune.integration.boosting import BoostedReports, Change, Metrics

if TYPE_CHECKING:
    _Base: Any = object
else:
    try:
        _Base = importlib.import_module("xgboost.callback").TrainingCallback
    except ImportError:
        _Base = object


class TuneReportCheckpointCallback(BoostedReports, _Base):  # type: ignore[misc]
    """Give one to ``xgboost.train(callbacks=[...])`` in a trial's function, with ``evals``.

    metrics: which are reported, such as "eval-logloss": a name, several, or a dict of them by the names under which
    they are reported; without, all. filename: of the model in a checkpoint. frequency: after so many iterations the
    model is reported with the metrics; 0: never. checkpoint_at_end: it is at the end. results_postprocessing_fn: may
    change what is reported.

    Raises ImportError without xgboost, and KeyError for a metric that is not there.
    """

    LIBRARY = ("xgboost", "xgboost")
    CHECKPOINT_NAME = "model.ubj"

    def __init__(
        self,
        metrics: Metrics = None,
        filename: str = CHECKPOINT_NAME,
        frequency: int = 0,
        checkpoint_at_end: bool = True,
        results_postprocessing_fn: Change | None = None,
    ) -> None:
        super().__init__()
        self._settle(metrics, filename, frequency, checkpoint_at_end, results_postprocessing_fn)
        self._found: dict[str, Any] = {}

    @classmethod
    def get_model(cls, checkpoint: Checkpoint, filename: str = CHECKPOINT_NAME) -> Any:
        """The Booster of a checkpoint."""
        model = importlib.import_module("xgboost").Booster()
        with checkpoint.as_directory() as folder:
            model.load_model(os.path.join(folder, filename))
        return model

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Report the newest value of each metric."""
        self._found = {
            f"{data}-{metric}": values[-1] for data, metrics in evals_log.items() for metric, values in metrics.items()
        }
        self._iteration(epoch, self._found, model)
        return False

    def after_training(self, model: Any) -> Any:
        """Report the model."""
        self._end(model.num_boosted_rounds() - 1, self._found, model)
        return model

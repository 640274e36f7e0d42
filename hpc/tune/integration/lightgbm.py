"""LightGBM in a trial: each boosting iteration is a result. The module's name is Ray's."""

from __future__ import annotations

import importlib
import os
from typing import Any

from hpc.runs.checkpoint import Checkpoint
from hpc.tune.integration.boosting import BoostedReports, Change, Metrics


class TuneReportCheckpointCallback(BoostedReports):
    """Give one to ``lightgbm.train(callbacks=[...])`` in a trial's function, with ``valid_sets``.

    metrics: which are reported, such as "eval-binary_logloss": a name, several, or a dict of them by the names under
    which they are reported; without, all. With ``lightgbm.cv`` they end in "-mean" and "-stdv". filename: of the model
    in a checkpoint. frequency: after so many iterations the model is reported with the metrics; 0: never.
    checkpoint_at_end: it is at the end. results_postprocessing_fn: may change what is reported.

    Raises ImportError without lightgbm, and KeyError for a metric that is not there.
    """

    LIBRARY = ("lightgbm", "lightgbm")
    CHECKPOINT_NAME = "model.txt"
    #: After the library's own callbacks that look at the metrics.
    order = 25

    def __init__(
        self,
        metrics: Metrics = None,
        filename: str = CHECKPOINT_NAME,
        frequency: int = 0,
        checkpoint_at_end: bool = True,
        results_postprocessing_fn: Change | None = None,
    ) -> None:
        self._settle(metrics, filename, frequency, checkpoint_at_end, results_postprocessing_fn)

    @classmethod
    def get_model(cls, checkpoint: Checkpoint, filename: str = CHECKPOINT_NAME) -> Any:
        """The Booster of a checkpoint."""
        with checkpoint.as_directory() as folder:
            return importlib.import_module("lightgbm").Booster(model_file=os.path.join(folder, filename))

    def __call__(self, env: Any) -> None:
        """Report an iteration; of the last one the model, too."""
        found: dict[str, Any] = {}
        for data, metric, value, _, *spread in env.evaluation_result_list or ():
            name = f"{data}-{metric}"
            found.update({f"{name}-mean": value, f"{name}-stdv": spread[0]} if spread else {name: value})
        self._iteration(env.iteration, found, env.model, is_last=env.iteration == env.end_iteration - 1)

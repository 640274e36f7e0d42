"""``result.json``, ``params.json`` and ``params.pkl`` of each trial."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpc.runs.files import join
from hpc.tune.files import mend_end, result_line, tried, write_params
from hpc.tune.logger.logger import FewTrials, FileLogger
from hpc.tune.result import EXPR_PARAM_FILE, EXPR_PARAM_PICKLE_FILE, EXPR_RESULT_FILE

if TYPE_CHECKING:
    from hpc.tune.trial import Trial


class JsonLoggerCallback(FileLogger):
    """Writes each report as a line of JSON to ``result.json``, and a trial's configuration beside it.

    A trial that gets another configuration (a clone under PBT) has it in params.json from its next start on.
    """

    _SAVED_FILE_TEMPLATES = (EXPR_RESULT_FILE, EXPR_PARAM_FILE, EXPR_PARAM_PICKLE_FILE)

    def __init__(self, few: FewTrials | None = None) -> None:
        super().__init__(few)
        self._begun: set[str] = set()

    def log_trial_start(self, trial: Trial) -> None:
        if not self._writes(trial):
            return
        assert trial.path is not None
        if trial.trial_id not in self._begun and self._appender.files.local:
            path = join(trial.path, EXPR_RESULT_FILE)
            tried(lambda: mend_end(path), None)
        self._begun.add(trial.trial_id)
        self.update_config(trial, trial.config)

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        if trial.trial_id not in self._begun:
            self.log_trial_start(trial)
        if trial.trial_id in self._begun:
            self._appender.add(f"{trial.path}/{EXPR_RESULT_FILE}", result_line(result).encode())

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        if trial.trial_id in self._begun:
            self._begun.discard(trial.trial_id)
            self._appender.flush(f"{trial.path}/{EXPR_RESULT_FILE}")

    def update_config(self, trial: Trial, config: dict[str, Any]) -> None:
        """Write this as the trial's configuration."""
        if self._writes(trial):
            assert trial.path is not None
            path = trial.path
            tried(lambda: write_params(self._appender.files, path, config), None)

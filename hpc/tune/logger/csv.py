"""``progress.csv`` of each trial."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpc.runs.files import join
from hpc.tune.files import CsvTable, csv_columns, mend_end, tried
from hpc.tune.logger.logger import FewTrials, FileLogger
from hpc.tune.result import EXPR_PROGRESS_FILE

if TYPE_CHECKING:
    from hpc.tune.trial import Trial


class CSVLoggerCallback(FileLogger):
    """Writes the reports of each trial as the lines of a table. Nested values have the columns "a/b"; a trial's
    configuration is left out.

    The first report fixes the columns: what a later one has beyond is not written. A trial that runs again keeps those
    of its file.
    """

    _SAVED_FILE_TEMPLATES = (EXPR_PROGRESS_FILE,)

    def __init__(self, few: FewTrials | None = None) -> None:
        super().__init__(few)
        self._tables: dict[str, CsvTable] = {}

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        table = self._tables.get(trial.trial_id)
        if table is None:
            if not self._writes(trial):
                return
            table = self._tables[trial.trial_id] = self._begin(join(str(trial.path), EXPR_PROGRESS_FILE))
        self._appender.add(f"{trial.path}/{EXPR_PROGRESS_FILE}", table.lines(result).encode(errors="backslashreplace"))

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        if self._tables.pop(trial.trial_id, None) is not None:
            self._appender.flush(f"{trial.path}/{EXPR_PROGRESS_FILE}")

    def _begin(self, path: str) -> CsvTable:
        if self._appender.files.local:
            tried(lambda: mend_end(path), None)
        return CsvTable(tried(lambda: csv_columns(self._appender.files, path), None))

"""Where the trials of an experiment and their reports come from: its journal, or directories that Ray has written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from hpc.runs.files import files_of
from hpc.runs.trial_directory import read_reports
from hpc.tune.retention import Rule

if TYPE_CHECKING:
    from hpc.tune.trial import Trial


class Source(Protocol):
    """An experiment to be read. trials: in the order in which they were made. rule: which checkpoints they keep."""

    trials: Sequence[Trial]
    rule: Rule

    def history(self, trial: Trial) -> list[dict[str, Any]]:
        """All that the trial has reported, oldest first."""


class Known:
    """Trials that somebody has, and a function that finds the reports of one; else those in its directory are read."""

    def __init__(
        self,
        trials: Iterable[Trial],
        history: Callable[[Trial], list[dict[str, Any]]] | None = None,
        filesystem: Any = None,
        rule: Rule | None = None,
    ) -> None:
        self.rule = rule or Rule()
        self.trials: Sequence[Trial] = list(trials)
        self._history = history
        self._files = files_of(filesystem)

    def history(self, trial: Trial) -> list[dict[str, Any]]:
        """All that the trial has reported, oldest first."""
        if self._history is not None:
            return self._history(trial)
        return read_reports(self._files, trial.path) if trial.path else []

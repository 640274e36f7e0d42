"""The base of loggers: objects that record what trials report. Ray's `LoggerCallback`, and one for files."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from hpc.tune.callback import Callback
from hpc.tune.files import EAGER_TRIALS, Appender, plain

if TYPE_CHECKING:
    from hpc.tune.trial import Trial

#: Lists of up to this length have one line for each element.
_LINES_OF_A_LIST = 3


class LoggerCallback(Callback):
    """A callback with one method for each thing that is to be recorded. What it opens for a trial, it closes in
    ``log_trial_end``."""

    def log_trial_start(self, trial: Trial) -> None:
        """The trial runs, for the first time or again."""

    def log_trial_restore(self, trial: Trial) -> None:
        """The trial goes on from a checkpoint."""

    def log_trial_save(self, trial: Trial) -> None:
        """The trial has a new checkpoint."""

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        """The trial has reported."""

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """The trial has ended; ``failed``: with an error."""

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        self.log_trial_result(iteration, trial, result)

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.log_trial_start(trial)

    def on_trial_restore(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.log_trial_restore(trial)

    def on_trial_save(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.log_trial_save(trial)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.log_trial_end(trial, failed=False)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.log_trial_end(trial, failed=True)


class FewTrials:
    """Whether trials have files: all of an experiment that has no more than ``most`` of them, else none. Where nobody
    knows how many there will be, the first ones."""

    def __init__(self, most: int = EAGER_TRIALS) -> None:
        self._most = most
        self._total: int | None = None
        self._seen: set[str] = set()

    def expect(self, total: int | None) -> None:
        """There will be this number of trials. None, or a number without an end: nobody knows."""
        self._total = None if total is None or not 0 <= total < sys.maxsize else total

    def admits(self, trial: Trial) -> bool:
        """Whether this one has."""
        if self._total is not None:
            return self._total <= self._most
        if trial.trial_id not in self._seen and len(self._seen) < self._most:
            self._seen.add(trial.trial_id)
        return trial.trial_id in self._seen


class FileLogger(LoggerCallback):
    """A logger whose files are in the trials' directories. It gathers what it writes (`hpc.tune.files.Appender`).

    few: which trials have files. One that a user makes writes those of all trials.
    """

    def __init__(self, few: FewTrials | None = None) -> None:
        self._few = few
        self._appender = Appender()

    def setup(
        self,
        stop: Any = None,
        num_samples: int | None = None,
        total_num_samples: int | None = None,
        **info: Any,
    ) -> None:
        if self._few is not None:
            self._few.expect(total_num_samples)
        self._appender = Appender(info.get("storage_filesystem"))

    def _writes(self, trial: Trial) -> bool:
        return trial.path is not None and (self._few is None or self._few.admits(trial))

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self._appender.flush_if_due()

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        self.close()

    def close(self) -> None:
        """Write what is gathered."""
        self._appender.close()


def pretty_print(result: dict[str, Any], exclude: Collection[str] | None = None) -> str:
    """A result for people, in YAML: without its configuration, what is None, and the keys in ``exclude``."""
    hidden = {"config", "hist_stats", *(exclude or ())}
    shown = {key: value for key, value in result.items() if value is not None and key not in hidden}
    lines = _yaml(json.loads(json.dumps(shown, default=plain)), "")
    return "".join(f"{line}\n" for line in lines)


def _yaml(value: Any, indent: str) -> list[str]:
    lines: list[str] = []
    for key in sorted(value) if isinstance(value, dict) else range(len(value)):
        one = value[key]
        head = f"{indent}{key}:" if isinstance(value, dict) else f"{indent}-"
        if isinstance(one, dict) and one:
            lines += [head, *_yaml(one, indent + "  ")]
        elif isinstance(one, list) and 0 < len(one) <= _LINES_OF_A_LIST:
            lines += [head, *_yaml(one, indent)]
        else:
            lines.append(f"{head} {_scalar(one)}")
    return lines


def _scalar(value: Any) -> str:
    plain_text = isinstance(value, str) and value and value[0].isalpha() and not set(value) & set(":#\n")
    return value if plain_text and value.lower() not in ("true", "false", "null", "yes", "no") else json.dumps(value)

"""What an experiment shows by itself: a live table on a terminal, lines elsewhere, HTML in a notebook.

verbose 0: only errors. 1: how all trials are, now and then, and tables at the beginning and the end. 2: also each
trial's start, results and end. A reporter of the user's (RunConfig.progress_reporter) takes the place of the tables.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TextIO

from hpc.tune.callback import Callback
from hpc.tune.flat import flatten_dict, lookup
from hpc.tune.progress_reporter import RECOVERED, JupyterNotebookReporter, ProgressReporter, in_notebook
from hpc.tune.reporter.live import LiveTable
from hpc.tune.reporter.table import draw
from hpc.tune.reporter.trials import (
    DEFAULT_COLUMNS,
    HIDDEN_KEYS,
    best_trial,
    by_status,
    clock,
    error_file,
    error_rows,
    failed,
    infer_metrics,
    reported,
    shortened,
    span,
)
from hpc.tune.result import AUTO_RESULT_KEYS, TRAINING_ITERATION
from hpc.tune.values import as_number

if TYPE_CHECKING:
    from hpc.runs.checkpoint import Checkpoint
    from hpc.tune.trial import Trial

SILENT, DEFAULT, VERBOSE = 0, 1, 2
#: Seconds between two lines about all trials: where something has changed, and where nothing has.
LINE_EVERY_S = 5.0
IDLE_LINE_EVERY_S = 30.0
#: Rows of the table at the end, and of the live one.
MOST_ROWS_AT_END = 100
MOST_ROWS_LIVE = 20
_ORDER = ("RUNNING", "TERMINATED", "PAUSED", "PENDING", "ERROR")


#: Whether a small or a large value of the metric is better.
Mode = Literal["min", "max"]


class About(NamedTuple):
    """The experiment, as it is introduced. parameters: the keys of the space, in its order. total: how many trials
    there will be; None: nobody knows. resources: says in a line what is in use. tensorboard: whether event files are
    written.
    """

    name: str
    path: str
    searcher: str
    scheduler: str
    total: int | None
    metric: str | None = None
    mode: Mode | None = None
    parameters: Sequence[str] = ()
    resources: Callable[[], str] | None = None
    tensorboard: bool = True


def verbosity(verbose: Any) -> int:
    """RunConfig.verbose as 0, 1 or 2. Raises ValueError for anything but a number from 0 to 3, or an enum of one."""
    value = DEFAULT if verbose is None else getattr(verbose, "value", verbose)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 3:
        raise ValueError(f"RunConfig.verbose must be 0, 1 or 2, not {verbose!r}")
    return min(value, VERBOSE)


class ExperimentOutput(Callback):
    """Shows an experiment to its user."""

    def __init__(
        self,
        about: About,
        verbose: int = DEFAULT,
        reporter: ProgressReporter | None = None,
        out: TextIO | None = None,
    ) -> None:
        if reporter is None and in_notebook():
            reporter = JupyterNotebookReporter(overwrite=verbose < VERBOSE)
        self._about = about
        self._verbose = verbose
        self._reporter = reporter
        self._out = out
        self._live: LiveTable | None = None
        self._started = time.time()
        self._next_line = time.monotonic() + LINE_EVERY_S
        self._last_line = time.monotonic()
        self._told: dict[str, int] = {}
        self._in_block = False

    # -------------------------------------------------------------- the experiment

    def setup(
        self, stop: Any = None, num_samples: int | None = None, total_num_samples: int | None = None, **info: Any
    ) -> None:
        self._started = time.time()
        if total_num_samples is not None:
            self._about = self._about._replace(total=total_num_samples)
        about = self._about
        if self._reporter is not None:
            self._reporter.setup(
                start_time=self._started, total_samples=about.total, metric=about.metric, mode=about.mode
            )
            return
        if self._verbose == SILENT:
            return
        rows = [
            ["Search algorithm", about.searcher],
            ["Scheduler", about.scheduler],
            ["Number of trials", _count(about.total)],
        ]
        self._say(self._draw(["Configuration for experiment", about.name], rows, ("left", "left")))
        self._say(f"\nView detailed results here: {about.path}")
        if about.tensorboard:
            self._say(f"To visualize your results with TensorBoard, run: `tensorboard --logdir {about.path}`")
        self._say("")
        if self._target().isatty():
            self._live = LiveTable(self._target())

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        if self._reporter is not None:
            if self._verbose and self._reporter.should_report(trials, done=False):
                self._reporter.report(trials, False, *self._sys_info())
            return
        if self._live is not None:
            if self._live.is_due():
                self._live.show(self._summary(trials), *self._table(trials, MOST_ROWS_LIVE))
            return
        now = time.monotonic()
        if self._verbose and now >= self._next_line:
            self._next_line = now + LINE_EVERY_S
            counts = {status: len(group) for status, group in by_status(trials).items()}
            if counts != self._told or now - self._last_line >= IDLE_LINE_EVERY_S:
                self._told, self._last_line = counts, now
                self._say(". ".join(self._summary(trials)))

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        self.close()
        if self._verbose == SILENT:
            return
        if self._reporter is not None:
            if self._reporter.should_report(trials, done=True):
                self._reporter.report(trials, True, *self._sys_info())
            return
        self._say("")
        for line in self._summary(trials):
            self._say(line)
        heads, rows, left_out = self._table(trials, MOST_ROWS_AT_END)
        self._say(self._draw(heads, rows))
        if left_out:
            self._say(left_out)
        failures = failed(trials)
        if failures:
            self._say(f"\nNumber of errored trials: {len(failures)}")
            shown = error_rows(failures[:MOST_ROWS_AT_END])
            self._say(self._draw(["Trial name", "# failures", "error file"], shown, ("left", "right", "left")))
            if any(one.status == "TERMINATED" for one in failures):
                self._say(RECOVERED)
        self._say("")

    def close(self) -> None:
        """Give the terminal back; however the experiment has ended."""
        if self._live is not None:
            self._live.close()
            self._live = None

    # -------------------------------------------------------------- trials

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        if self._verbose < VERBOSE or self._reporter is not None:
            return
        if not trial.config:
            self._say(f"\nTrial {trial} started without custom configuration.")
            return
        self._say(f"\nTrial {trial} started with configuration:")
        self._say(self._two_columns(f"Trial {trial} config", trial.config))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        if self._verbose >= VERBOSE and self._reporter is None:
            self._tell(trial, f"finished iteration {result.get(TRAINING_ITERATION)}", result)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        if self._verbose >= VERBOSE and self._reporter is None:
            self._tell(trial, f"completed after {_iterations(trial)} iterations")

    def on_checkpoint(
        self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Checkpoint, **info: Any
    ) -> None:
        if self._verbose >= VERBOSE and self._reporter is None:
            self._say(f"Trial {trial} saved a checkpoint for iteration {_iterations(trial)} at: {checkpoint.path}")

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.on_trial_error(iteration, trials, trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._tell(trial, f"errored after {_iterations(trial)} iterations")
        self._say(f"Error: {_last_line(trial.error)}\nError file: {error_file(trial)}")

    # -------------------------------------------------------------- texts

    def _tell(self, trial: Trial, event: str, result: dict[str, Any] | None = None) -> None:
        now = time.time()
        self._say(f"\nTrial {trial} {event} at {clock(now)}. Total running time: {span(now - self._started)}")
        if result is not None:
            self._say(self._two_columns(f"Trial {trial} result", result))

    def _summary(self, trials: list[Trial]) -> list[str]:
        now = time.time()
        counts = " | ".join(f"{len(group)} {status}" for status, group in by_status(trials).items())
        lines = [
            f"Trial status: {counts or 'none yet'}",
            f"Current time: {clock(now)}. Total running time: {span(now - self._started)}",
            *self._sys_info(),
        ]
        best = best_trial(trials, self._about.metric, self._about.mode)
        if best is not None:
            metric = str(self._about.metric)
            value = lookup(metric, best.last_result)
            lines.append(f"Current best trial: {best.trial_id} with {metric}={value} and params={best.config}")
        return lines

    def _sys_info(self) -> list[str]:
        return [self._about.resources()] if self._about.resources is not None else []

    def _table(self, trials: list[Trial], most: int) -> tuple[list[str], list[list[Any]], str]:
        """Heads, rows, and what is said of the trials that have none: in a long list the best ones have."""
        groups = by_status(trials)
        ordered = [trial for status in _ORDER for trial in groups.get(status, ())]
        left_out = ""
        if len(ordered) > most:
            left_out = f"... {len(ordered) - most} more trials not shown"
            ordered = self._best_first(ordered)[:most]
        parameters = self._searched(ordered)
        metrics = {**DEFAULT_COLUMNS, **infer_metrics(trials, 4, HIDDEN_KEYS)}
        if self._about.metric:
            metrics.setdefault(self._about.metric, self._about.metric)
        names = reported(metrics, ordered)
        heads = ["Trial name", "status", *(shortened(one) for one in parameters)]
        heads += [shortened(metrics[name]) for name in names]
        return heads, [self._row(trial, parameters, names) for trial in ordered], left_out

    def _searched(self, trials: Sequence[Trial]) -> list[str]:
        """The names of what was sampled for these trials, in the order of the space."""
        names = dict.fromkeys(name for one in trials for name in one.evaluated_params)
        places = {name: place for place, name in enumerate(self._about.parameters)}
        return sorted(names, key=lambda name: places.get(name.partition("/")[0], len(places)))

    def _best_first(self, trials: list[Trial]) -> list[Trial]:
        """Running ones before others, and those of a status by their metric."""
        metric, sign = self._about.metric, -1.0 if self._about.mode == "max" else 1.0

        def key(trial: Trial) -> tuple[bool, float]:
            value = lookup(metric, trial.last_result or {}) if metric else None
            number = as_number(value)
            return trial.status != "RUNNING", math.inf if math.isnan(number) else sign * number

        return sorted(trials, key=key)

    @staticmethod
    def _row(trial: Trial, parameters: Sequence[str], metrics: Sequence[str]) -> list[Any]:
        values = [lookup(name, trial.config, trial.evaluated_params.get(name)) for name in parameters]
        values += [lookup(name, trial.last_result or {}) for name in metrics]
        return [str(trial), trial.status, *map(shortened, values)]

    def _two_columns(self, head: str, values: dict[str, Any]) -> str:
        shown = {key: value for key, value in values.items() if key not in HIDDEN_KEYS}
        flat = flatten_dict(shown)
        usual = [key for key in sorted(flat) if key in AUTO_RESULT_KEYS]
        names = [*usual, *(key for key in sorted(flat) if key not in AUTO_RESULT_KEYS)]
        rows = [[key, _digits(flat[key])] for key in names]
        return self._draw([head, ""], rows, ("left", "right"))

    def _draw(self, heads: Sequence[str], rows: Sequence[Sequence[Any]], aligns: Any = None) -> str:
        encoding = getattr(self._target(), "encoding", None) or ""
        return draw(heads, rows, "rounded", aligns, unicode=encoding.lower().startswith("utf"))

    def _target(self) -> TextIO:
        return self._out if self._out is not None else sys.stdout

    def _say(self, text: str) -> None:
        if self._live is not None:
            self._live.say(text)
        else:
            print(text, file=self._target(), flush=True)


def _iterations(trial: Trial) -> int:
    return int((trial.last_result or {}).get(TRAINING_ITERATION, 0))


def _last_line(error: object) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def _digits(value: Any) -> Any:
    return f"{value:.5g}" if isinstance(value, float) else shortened(value)


def _count(total: int | None) -> str:
    return "infinite" if total is None or total >= sys.maxsize else str(total)

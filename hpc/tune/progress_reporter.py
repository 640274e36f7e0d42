"""Reporters: how far an experiment is, for people. Ray's names; by default `hpc.tune.reporter.output` is there."""

from __future__ import annotations

import importlib
import sys
import time
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hpc.tune.flat import lookup
from hpc.tune.reporter.table import draw, draw_html
from hpc.tune.reporter.trials import (
    DEFAULT_COLUMNS,
    best_trial,
    by_status,
    clock,
    digital,
    error_rows,
    failed,
    fair_share,
    heads_of,
    infer_metrics,
    names_of,
    place_of,
    reported,
    shortened,
)
from hpc.tune.result import DEFAULT_METRIC

if TYPE_CHECKING:
    from hpc.tune.trial import Trial

_ORDER = ("RUNNING", "PAUSED", "PENDING", "TERMINATED", "ERROR")
_ERROR_HEADS = ("Trial name", "# failures", "error file")


class ProgressReporter:
    """The base of reporters. ``should_report`` is asked in each turn of the driver, and at the end with ``done``. Where
    it says so, ``report`` shows how things are."""

    def setup(
        self,
        start_time: float | None = None,
        total_samples: int | None = None,
        metric: str | None = None,
        mode: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Before the first trial. start_time: seconds since 1970. total_samples: how many trials there will be."""

    def should_report(self, trials: list[Trial], done: bool = False) -> bool:
        """Whether it is time to report."""
        raise NotImplementedError

    def report(self, trials: list[Trial], done: bool, *sys_info: str) -> None:
        """Show how the trials are. done: for the last time. sys_info: lines about the scheduler and resources."""
        raise NotImplementedError


class TuneReporterBase(ProgressReporter):
    """A table with a row for each trial, every few seconds.

    metric_columns, parameter_columns: what has a column; a dict gives each another head. Without, the usual metrics
    with the first ``infer_limit`` others, and all parameters that are searched for. max_progress_rows, max_error_rows:
    of the tables while the experiment goes on. max_column_length: characters; longer texts are cut at their beginning.
    max_report_frequency: seconds between two reports at least. print_intermediate_tables: False: the table of trials
    comes at the end only. metric, mode: what the best trial is found by. sort_by_metric: trials that have ended are in
    this order.
    """

    DEFAULT_COLUMNS = DEFAULT_COLUMNS

    def __init__(
        self,
        *,
        metric_columns: list[str] | dict[str, str] | None = None,
        parameter_columns: list[str] | dict[str, str] | None = None,
        total_samples: int | None = None,
        max_progress_rows: int = 20,
        max_error_rows: int = 20,
        max_column_length: int = 20,
        max_report_frequency: float = 5,
        infer_limit: int = 3,
        print_intermediate_tables: bool | None = None,
        metric: str | None = None,
        mode: str | None = None,
        sort_by_metric: bool = False,
    ) -> None:
        self._total_samples = total_samples
        self._infers = metric_columns is None
        self._metric_columns: list[str] | dict[str, str] = metric_columns or dict(DEFAULT_COLUMNS)
        self._parameter_columns: list[str] | dict[str, str] = parameter_columns or []
        self._max_progress_rows = max_progress_rows
        self._max_error_rows = max_error_rows
        self._max_column_length = max_column_length
        self._max_report_frequency = max_report_frequency
        self._infer_limit = infer_limit
        self._tables_between = print_intermediate_tables is not False
        self._metric = metric
        self._mode = mode
        self._sort_by_metric = sort_by_metric
        self._start_time = time.time()
        self._last_report = float("-inf")

    def setup(
        self,
        start_time: float | None = None,
        total_samples: int | None = None,
        metric: str | None = None,
        mode: str | None = None,
        **kwargs: Any,
    ) -> None:
        if start_time is not None:
            self._start_time = start_time
        self._total_samples = total_samples
        self.set_search_properties(metric, mode)

    def set_search_properties(self, metric: str | None, mode: str | None) -> bool:
        """What the experiment optimises. Raises ValueError where the reporter was made with another metric or mode."""
        for name, own, given in (("metric", self._metric, metric), ("mode", self._mode, mode)):
            if own and given and own != given:
                raise ValueError(
                    f"TuneConfig has the {name} {given!r} and the reporter {own!r}: leave it out of one of them"
                )
        self._metric, self._mode = metric or self._metric, mode or self._mode
        if self._metric is None and self._mode:
            self._metric = DEFAULT_METRIC
        if self._sort_by_metric and not (self._metric and self._mode):
            warnings.warn("sort_by_metric needs a metric and a mode: trials are not sorted", stacklevel=2)
            self._sort_by_metric = False
        return True

    def should_report(self, trials: list[Trial], done: bool = False) -> bool:
        now = time.monotonic()
        if done or now - self._last_report > self._max_report_frequency:
            self._last_report = now
            return True
        return False

    def add_metric_column(self, metric: str, representation: str | None = None) -> None:
        """Show this metric, too; in a column of another head where one is given. Raises ValueError for one that is
        shown already, and for a head where the reporter has a list of columns."""
        self._infers = False
        _add(self._metric_columns, metric, representation)

    def add_parameter_column(self, parameter: str, representation: str | None = None) -> None:
        """Show this parameter; see ``add_metric_column``."""
        _add(self._parameter_columns, parameter, representation)

    def _rows(self, trials: list[Trial], most: int | None) -> tuple[list[str], list[list[Any]], str]:
        """The heads and rows of the table of trials, and what is said of those that it has no room for."""
        if self._infers and isinstance(self._metric_columns, dict):
            self._metric_columns.update(infer_metrics(trials, self._infer_limit))
        groups = by_status(trials)
        if self._sort_by_metric and "TERMINATED" in groups:
            groups["TERMINATED"].sort(key=self._score)
        shown, left_out = groups, ""
        if most is not None and len(trials) > most:
            shown = fair_share(groups, most, self._sort_by_metric)
            rest = [f"{n} {s}" for s in _ORDER if (n := len(groups.get(s, ())) - len(shown.get(s, ()))) > 0]
            left_out = f"... {len(trials) - most} more trials not shown ({', '.join(rest)})"
        ordered = [trial for status in _ORDER for trial in shown.get(status, ())]
        metrics = reported(names_of(self._metric_columns), ordered)
        parameters = names_of(self._parameter_columns) or sorted(
            {key for one in ordered for key in one.evaluated_params}
        )
        heads = ["Trial name", "status", "loc"]
        heads += heads_of(self._parameter_columns, parameters, self._max_column_length)
        heads += heads_of(self._metric_columns, metrics, self._max_column_length)
        return heads, [self._row(trial, parameters, metrics) for trial in ordered], left_out

    def _row(self, trial: Trial, parameters: list[str], metrics: list[str]) -> list[Any]:
        most = self._max_column_length
        values = [lookup(name, trial.config, trial.evaluated_params.get(name)) for name in parameters]
        values += [lookup(name, trial.last_result or {}) for name in metrics]
        return [str(trial), trial.status, place_of(trial), *(shortened(value, most) for value in values)]

    def _score(self, trial: Trial) -> float:
        value = lookup(str(self._metric), trial.last_result or {})
        sign = -1.0 if self._mode == "max" else 1.0
        return float("inf") if value is None or value != value else sign * value

    def _head_lines(self, trials: list[Trial]) -> list[str]:
        now = time.time()
        lines = [f"Current time: {clock(now)} (running for {digital(now - self._start_time)})"]
        best = best_trial(trials, self._metric, self._mode)
        if best is not None:
            config = best.config
            names = names_of(self._parameter_columns) or list(config)
            values = {name: lookup(name, config) for name in names}
            value = lookup(str(self._metric), best.last_result)
            lines.append(f"Current best trial: {best.trial_id} with {self._metric}={value} and parameters={values}")
        return lines

    def _count_line(self, trials: list[Trial]) -> str:
        groups = by_status(trials)
        total = self._total_samples
        of = "" if not total else "/infinite" if total >= sys.maxsize else f"/{total}"
        return f"Number of trials: {len(trials)}{of} ({', '.join(f'{len(groups[s])} {s}' for s in sorted(groups))})"

    def _errors(self, trials: list[Trial], done: bool) -> tuple[list[str], list[list[str]], bool]:
        """Lines about failed trials, the rows of their table, and whether one ended well all the same."""
        all_failed = failed(trials)
        most = None if done else self._max_error_rows
        lines = [f"Number of errored trials: {len(all_failed)}"] if all_failed else []
        if most is not None and len(all_failed) > most:
            lines.append(f"Table truncated to {most} rows ({len(all_failed) - most} overflow)")
        shown = all_failed[:most]
        return lines, error_rows(shown), any(one.status == "TERMINATED" for one in shown)


RECOVERED = "* The trial terminated successfully after retrying."


class CLIReporter(TuneReporterBase):
    """Prints tables on the terminal, or to a file."""

    def report(self, trials: list[Trial], done: bool, *sys_info: str) -> None:
        self._print(self._progress_str(trials, done, *sys_info))

    def _print(self, text: str) -> None:
        print(text, flush=True)

    def _progress_str(self, trials: list[Trial], done: bool, *sys_info: str) -> str:
        time_line, *best_line = self._head_lines(trials)
        lines = ["== Status ==", time_line, *sys_info, *best_line]
        if trials:
            lines += [f"Result logdir: {folder}" for folder in _folders(trials)] + [self._count_line(trials)]
            if self._tables_between or done:
                heads, rows, left_out = self._rows(trials, None if done else self._max_progress_rows)
                lines += [draw(heads, rows), *([left_out] if left_out else [])]
        errors, error_rows, recovered = self._errors(trials, done)
        if errors:
            lines += [*errors, draw(_ERROR_HEADS, error_rows, aligns=("left", "right", "left"))]
            lines += [RECOVERED] if recovered else []
        return "\n".join([*lines, ""])


class JupyterNotebookReporter(TuneReporterBase):
    """Shows tables in a notebook, in place. overwrite: what the cell has shown before goes away. Raises ImportError
    where there is no IPython. Other arguments are those of `CLIReporter`."""

    def __init__(self, *, overwrite: bool = True, **columns_and_limits: Any) -> None:
        super().__init__(**columns_and_limits)
        self._overwrite = overwrite
        self._handle: Any = None
        if not in_notebook():
            warnings.warn(
                "JupyterNotebookReporter is for notebooks, and this is none: give a CLIReporter as progress_reporter",
                stacklevel=2,
            )

    def report(self, trials: list[Trial], done: bool, *sys_info: str) -> None:
        self.display(self._progress_html(trials, done, *sys_info))

    def display(self, string: str) -> None:
        """Show this HTML, in the place of what was shown before."""
        shown: Any = importlib.import_module("IPython.display")
        if self._handle is None:
            if self._overwrite:
                shown.clear_output(wait=True)
            self._handle = shown.display(shown.HTML(string), display_id=True)
        else:
            self._handle.update(shown.HTML(string))

    def _progress_html(self, trials: list[Trial], done: bool, *sys_info: str) -> str:
        heads, rows, left_out = self._rows(trials, None if done else self._max_progress_rows)
        lines = [*self._head_lines(trials), *sys_info, self._count_line(trials)]
        errors, error_rows, recovered = self._errors(trials, done)
        parts = [_paragraph(lines), draw_html(heads, rows), _paragraph([left_out, *errors])]
        if error_rows:
            parts += [draw_html(_ERROR_HEADS, error_rows), _paragraph([RECOVERED] if recovered else [])]
        return f'<div class="tuneStatus">{"".join(parts)}</div>'


def _paragraph(lines: list[str]) -> str:
    import html

    text = "<br>".join(html.escape(line).replace("\n", "<br>") for line in lines if line)
    return f"<p>{text}</p>" if text else ""


def _folders(trials: list[Trial]) -> list[str]:
    return sorted({trial.path.rpartition("/")[0] for trial in trials if trial.path})


def _add(columns: list[str] | dict[str, str], name: str, head: str | None) -> None:
    if name in columns:
        raise ValueError(f"there is a column {name} already")
    if isinstance(columns, Mapping):
        columns[name] = head or name
    elif head is not None and head != name:
        raise ValueError(f"the reporter has a list of columns: {name} cannot have the head {head!r}; give it a dict")
    else:
        columns.append(name)


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook."""
    module = sys.modules.get("IPython")
    get_shell: Any = getattr(module, "get_ipython", None)
    shell = get_shell() if get_shell is not None else None
    return shell is not None and hasattr(shell, "kernel")

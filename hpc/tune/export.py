"""Writes the files of trials from what is known of them: those that an experiment of many trials has not written.

From a shell: ``hpc tune export EXPERIMENT``.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Any

from hpc.runs.files import Files, files_of, join, resolve
from hpc.tune.analysis.reading import read_source
from hpc.tune.files import CsvTable, put, result_line, write_error, write_params
from hpc.tune.logger.tensorboardx import EVENTS_PREFIX, events_of
from hpc.tune.naming import date_text
from hpc.tune.result import EXPR_ERROR_FILE, EXPR_PROGRESS_FILE, EXPR_RESULT_FILE

if TYPE_CHECKING:
    from hpc.tune.trial import Trial


def export_experiment(
    path: str | os.PathLike[str],
    *,
    to: str | os.PathLike[str] | None = None,
    trials: Collection[str] = (),
    storage_filesystem: Any = None,
) -> list[str]:
    """Write the files of an experiment's trials, and return their directories.

    path: the experiment's directory, or its URL. to: where the trials' directories go; beside the journal by default.
    trials: the ids or names of those that are meant; all by default. Files that are there are replaced, but for
    error.txt, which has failures that nothing else has.

    Raises FileNotFoundError where there is no experiment, and ValueError for a trial that it has not.
    """
    filesystem, where = resolve(os.fspath(path), storage_filesystem)
    source = read_source(filesystem, where)
    known = {name: trial for trial in source.trials for name in (trial.trial_id, str(trial))}
    for name in trials:
        if name not in known:
            raise ValueError(f"{where} has no trial {name!r}: there are {', '.join(map(str, source.trials[:5]))}, ...")
    goal_filesystem, goal = (filesystem, where) if to is None else resolve(os.fspath(to))
    files = files_of(goal_filesystem)
    written = []
    for trial in source.trials:
        if trials and not {trial.trial_id, str(trial)} & set(trials):
            continue
        folder = join(goal, (trial.path or str(trial)).rstrip("/").rpartition("/")[2])
        write_trial(files, folder, trial, source.history(trial))
        written.append(folder)
    return written


def write_trial(files: Files, folder: str, trial: Trial, history: list[dict[str, Any]]) -> None:
    """Write the files of one trial. history: all that it has reported."""
    write_params(files, folder, trial.config)
    if history:
        table = CsvTable()
        put(files, join(folder, EXPR_RESULT_FILE), "".join(map(result_line, history)).encode())
        put(files, join(folder, EXPR_PROGRESS_FILE), "".join(map(table.lines, history)).encode())
        for name in files.names(folder):
            if name.startswith(EVENTS_PREFIX):
                files.delete(join(folder, name))
        name, data = events_of(trial, history)
        put(files, join(folder, name), data)
    if trial.error is not None and not files.exists(join(folder, EXPR_ERROR_FILE)):
        moment = datetime.fromtimestamp(max(trial.last_result_time, trial.start_time or 0.0))
        write_error(files, folder, trial.num_failures, date_text(moment), trial.error)

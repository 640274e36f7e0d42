"""Finds out who has written an experiment, and reads it: this package's journal in one go, or Ray's files."""

from __future__ import annotations

from typing import Any

from hpc.runs.files import files_of, join
from hpc.tune import journal
from hpc.tune.analysis.ray_layout import newest_state, read_experiment
from hpc.tune.analysis.sources import Known, Source
from hpc.tune.history import History
from hpc.tune.records import RETENTION
from hpc.tune.retention import Rule


def read_source(filesystem: Any, path: str, state_file: str | None = None) -> Source:
    """The experiment in this directory, wherever that is now. state_file: the file that Ray has written, where several
    are there.

    Raises FileNotFoundError where there is none, and TuneError for a damaged journal.
    """
    files = files_of(filesystem)
    kept = join(path, journal.FILE)
    if state_file is None and files.exists(kept):
        history = History(path, filesystem, keep_results=True)
        history.apply_all(journal.parse(files.read(kept), kept))
        rule = Rule(*history.noted.get(RETENTION, ()))
        return Known(history.made, lambda trial: history.results[trial.trial_id], rule=rule)
    state_file = state_file or newest_state(files, path)
    if state_file is None:
        raise FileNotFoundError(
            f"{path} holds no experiment: give the directory RunConfig.storage_path/name, in which its journal is"
        )
    return read_experiment(filesystem, path, state_file)

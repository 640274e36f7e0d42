"""Finds out who has written an experiment, and reads it."""

from __future__ import annotations

from typing import Any

from hpc.runs.files import files_of
from hpc.tune.analysis.ray_layout import newest_state, read_experiment
from hpc.tune.analysis.sources import Source


def read_source(filesystem: Any, path: str, state_file: str | None = None) -> Source:
    """The experiment in this directory. state_file: the file that Ray has written, where several are there.

    Raises FileNotFoundError where there is none.
    """
    state_file = state_file or newest_state(files_of(filesystem), path)
    if state_file is None:
        raise FileNotFoundError(
            f"{path} holds no experiment: give the directory RunConfig.storage_path/name, in which its journal is"
        )
    return read_experiment(filesystem, path, state_file)

"""An experiment that Ray Tune has written, without Ray: its newest ``experiment_state-*.json``.

Values that JSON has no word for stand there as pickles in hexadecimal digits. Of these only numbers of numpy and plain
containers are made; an object of Ray's becomes a `Foreign`, which has its attributes, and calls nothing.
"""

from __future__ import annotations

import io
import json
import pickle
from typing import Any

from hpc.runs.checkpoint import Checkpoint
from hpc.runs.files import Files, files_of, join
from hpc.runs.trial_directory import read_error, read_reports
from hpc.tune.analysis.sources import Known
from hpc.tune.trial import Trial

STATE_PREFIX, STATE_SUFFIX = "experiment_state-", ".json"
#: Modules whose names a pickle of a metric needs.
_TRUSTED = ("numpy", "collections", "datetime", "decimal", "fractions")
_BUILTINS = ("complex", "set", "frozenset", "bytearray", "range", "slice", "int", "float", "bool", "str", "bytes")


class Foreign:
    """An object of a class that is not made here, with its attributes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple):
            state = {key: one for part in state if part for key, one in part.items()}
        self.__dict__.update(state)

    def __call__(self, *args: Any, **kwargs: Any) -> Foreign:
        return Foreign(*args)

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Of a list that is not made here."""

    def extend(self, values: Any) -> None:
        """Of a list that is not made here."""


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] in _TRUSTED or (module == "builtins" and name in _BUILTINS):
            return super().find_class(module, name)
        return Foreign


def _decoded(one: dict[str, Any]) -> Any:
    if one.get("_type") != "CLOUDPICKLE_FALLBACK":
        return one
    try:
        return _Reader(io.BytesIO(bytes.fromhex(one["value"]))).load()
    except Exception:  # what cannot be made here is as what is not made
        return Foreign()


def _load(text: str | bytes) -> Any:
    return json.loads(text, object_hook=_decoded)


def newest_state(files: Files, path: str) -> str | None:
    """The file with the state of the experiment in this directory; None where Ray has written none."""
    names = [one for one in files.names(path) if one.startswith(STATE_PREFIX) and one.endswith(STATE_SUFFIX)]
    return join(path, max(names)) if names else None


def read_experiment(filesystem: Any, path: str, state_file: str) -> Known:
    """The trials of an experiment in this directory; it may have been moved since it was written."""
    files = files_of(filesystem)
    rows = _load(files.read(state_file))["trial_data"]
    trials = [_trial(files, filesystem, path, _load(state), _load(running)) for state, running in rows]
    return Known(trials, lambda trial: read_reports(files, str(trial.path)))


def _trial(files: Files, filesystem: Any, path: str, state: dict[str, Any], running: dict[str, Any]) -> Trial:
    folder = state.get("relative_logdir")
    trial = Trial(
        state["trainable_name"],
        trial_id=state["trial_id"],
        config=state.get("config"),
        evaluated_params=state.get("evaluated_params"),
        experiment_tag=state.get("experiment_tag") or "",
        custom_trial_name=state.get("custom_trial_name"),
        path=join(path, folder) if folder else None,
    )
    last = running.get("last_result") or {}
    trial.restore_metrics({"trial_id": trial.trial_id, **last}, running.get("metric_analysis") or {})
    trial.last_result_time = float(running.get("last_result_time", "-inf"))
    trial.status = "PENDING" if state["status"] == "RUNNING" else state["status"]
    trial.start_time = running.get("start_time")
    trial.num_failures = running.get("num_failures", 0)
    trial.checkpoints, trial.checkpoint = _checkpoints(filesystem, trial, running.get("checkpoint_manager"))
    if running.get("error_filename") and trial.path:
        trial.error = read_error(files, trial.path)
    return trial


def _checkpoints(
    filesystem: Any, trial: Trial, manager: Any
) -> tuple[list[tuple[Checkpoint, dict[str, Any]]], Checkpoint | None]:
    """The checkpoints that were kept, with their metrics, and the latest one."""

    def found(result: Any) -> tuple[Checkpoint, dict[str, Any]]:
        name = result.checkpoint.path.rstrip("/").rpartition("/")[2]
        return Checkpoint(join(str(trial.path), name), filesystem), result.metrics

    kept = [found(one) for one in getattr(manager, "_checkpoint_results", None) or []]
    most = getattr(getattr(manager, "_checkpoint_config", None), "num_to_keep", None)
    kept = kept[-most:] if isinstance(most, int) else kept  # beyond them is the latest one
    latest = getattr(manager, "_latest_checkpoint_result", None)
    return kept, found(latest)[0] if latest is not None else None

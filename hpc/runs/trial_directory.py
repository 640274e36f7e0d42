"""The directory of one trial of a search, in the layout of Ray Tune: its reports, checkpoints and error."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import pickle
from collections.abc import Mapping
from typing import Any, NamedTuple

from hpc.runs.checkpoint import Checkpoint
from hpc.runs.files import Files, join

RESULT_FILE = "result.json"
PROGRESS_FILE = "progress.csv"
ERROR_FILE = "error.txt"
PICKLED_ERROR_FILE = "error.pkl"
_CHECKPOINT = "checkpoint_"


class TrialFailed(Exception):
    """A trial has failed; the text is that of its error, which this process cannot make again."""


class TrialDirectory(NamedTuple):
    """What a trial has left: its reports, its checkpoints with the metrics reported with them, and how it failed."""

    history: list[dict[str, Any]]
    checkpoints: list[tuple[Checkpoint, dict[str, Any]]]
    error: Exception | None


def is_trial(files: Files, path: str) -> bool:
    """Whether a trial has reported here."""
    return files.exists(join(path, RESULT_FILE)) or files.exists(join(path, PROGRESS_FILE))


def read_trial(files: Files, filesystem: Any, path: str) -> TrialDirectory:
    """Read the directory of a trial."""
    history = read_reports(files, path)
    names = [name for name in files.names(path) if name.startswith(_CHECKPOINT) and files.is_dir(join(path, name))]
    with_metrics = {one.get("checkpoint_dir_name"): one for one in history}
    kept = [(Checkpoint(join(path, name), filesystem), with_metrics.get(name, {})) for name in names]
    return TrialDirectory(history, kept, read_error(files, path))


def read_reports(files: Files, path: str) -> list[dict[str, Any]]:
    """All that a trial has reported: from result.json, else from progress.csv; nothing where neither is there."""
    with contextlib.suppress(FileNotFoundError):
        return read_lines(files.read(join(path, RESULT_FILE)))
    with contextlib.suppress(FileNotFoundError):
        rows = csv.DictReader(io.StringIO(files.read(join(path, PROGRESS_FILE)).decode(), newline=""))
        return [{key: _value(key, text) for key, text in row.items()} for row in rows]
    return []


def read_lines(data: bytes) -> list[dict[str, Any]]:
    """Reports in lines of JSON; a last line that is cut off is none."""
    found = []
    for line in data.splitlines():
        with contextlib.suppress(ValueError):
            one = json.loads(line)
            if isinstance(one, dict):
                found.append(one)
    return found


def read_error(files: Files, path: str) -> Exception | None:
    """How the trial failed the last time; as `TrialFailed` where its error cannot be made again in this process."""
    with contextlib.suppress(Exception):
        error = pickle.loads(files.read(join(path, PICKLED_ERROR_FILE)))
        if isinstance(error, Exception):
            return error
    with contextlib.suppress(FileNotFoundError):
        text = files.read(join(path, ERROR_FILE)).decode(errors="replace")
        return TrialFailed(text.rpartition("Failure # ")[2].partition("\n")[2].strip())
    return None


def flat_record(nested: Mapping[Any, Any]) -> dict[str, Any]:
    """A report as a row of a table: "a/b" is the column of the value "b" in the dict "a". What is nested is at the end,
    as pandas' json_normalize has it."""
    flat = {key: value for key, value in nested.items() if not isinstance(value, dict)}
    for key, value in nested.items():
        if isinstance(value, dict):
            _descend(flat, str(key), value)
    return flat


def _descend(flat: dict[str, Any], path: str, nested: Mapping[Any, Any]) -> None:
    for key, value in nested.items():
        if isinstance(value, dict):
            _descend(flat, f"{path}/{key}", value)
        else:
            flat[f"{path}/{key}"] = value


def _value(name: str, text: str) -> Any:
    """A cell of a table: a number, a truth, a text, or nothing."""
    if name == "trial_id":
        return text
    if text in ("", "True", "False"):
        return {"": None, "True": True, "False": False}[text]
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text

"""A run's directory: storage_path/name with checkpoint_000000, checkpoint_000001, ... and a record of them.

Ranks copy their files into a hidden staging directory of the report, all of them into the same one. When every rank has
done so, the driver renames it. So a checkpoint is whole or not there, whatever is killed when. The record
(checkpoints.json) is replaced in one step as well, before that: a checkpoint that it names and that is not there was
never made.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import time
from dataclasses import dataclass
from typing import Any

from hpc.runs.checkpoint import Checkpoint
from hpc.runs.config import CheckpointConfig
from hpc.runs.ranking import Ranking, Stored
from hpc.runs.record import RECORD_FILE, read_record
from hpc.runs.result import Result, result_of

MARKER_FILE = ".run"
STAGING_PREFIX = ".staging-"
#: A file that another node has just made may not be seen at once on a network file system.
MARKER_PATIENCE_S = 5.0


@dataclass(frozen=True)
class Place:
    """Where the run's directory is, as a worker must know it."""

    storage_path: str
    experiment_dir_name: str
    token: str

    @property
    def experiment_fs_path(self) -> str:
        """The run's directory."""
        return os.path.join(self.storage_path, self.experiment_dir_name)


class RunStorage:
    """The driver's side: opens the directory, commits checkpoints and deletes those that do not stay."""

    def __init__(self, storage_path: str, name: str, config: CheckpointConfig) -> None:
        self.place = Place(storage_path, name, secrets.token_hex(8))
        self.path = self.place.experiment_fs_path
        self.ranking = Ranking(config)
        self.history: list[dict[str, Any]] = []
        self._next_index = 0

    def open(self) -> None:
        """Make the directory, or continue with what an earlier run of this name left in it."""
        os.makedirs(self.path, exist_ok=True)
        self.clear_staging()
        _replace(os.path.join(self.path, MARKER_FILE), self.place.token)
        stored, self.history = read_record(self.path)
        for one in stored:
            self.ranking.kept.append(one)
            self.ranking.latest = one
        self.ranking.kept.sort(key=self.ranking.score)
        indices = [int(m[1]) for name in os.listdir(self.path) if (m := re.fullmatch(r"checkpoint_(\d+)", name))]
        self._next_index = max(indices, default=-1) + 1

    @property
    def latest(self) -> Checkpoint | None:
        """The checkpoint from which to go on."""
        return self.ranking.latest.checkpoint if self.ranking.latest is not None else None

    def commit(self, staging: str, name: str | None, metrics: dict[str, Any]) -> Checkpoint:
        """All ranks have copied their files: make the checkpoint of them, and delete those that it pushes out."""
        if name is None:
            name = f"checkpoint_{self._next_index:06d}"
            self._next_index += 1
        path = os.path.join(self.path, name)
        if os.path.lexists(path):
            raise FileExistsError(f"{path} exists already: checkpoint_dir_name must be a new one for each report")
        stored = Stored(Checkpoint(path), metrics)
        extra = self.ranking.add(stored)
        self.write_record()
        os.rename(os.path.join(self.path, staging), path)
        for one in extra:
            shutil.rmtree(one.checkpoint.path, ignore_errors=True)
        return stored.checkpoint

    def write_record(self) -> None:
        """The checkpoints that are kept, in the order in which they were made, and all metrics."""
        latest = self.ranking.latest
        ordered = [one for one in self.ranking.kept if one is not latest] + ([latest] if latest is not None else [])
        rows = [{"name": os.path.basename(one.checkpoint.path), "metrics": one.metrics} for one in ordered]
        text = json.dumps({"checkpoints": rows, "history": self.history}, default=_plain)
        _replace(os.path.join(self.path, RECORD_FILE), text)

    def clear_staging(self) -> None:
        """Remove what ranks had copied that ended before their report was complete."""
        for name in os.listdir(self.path):
            if name.startswith(STAGING_PREFIX):
                shutil.rmtree(os.path.join(self.path, name), ignore_errors=True)

    def close(self) -> None:
        """Leave the directory as a result: checkpoints and their record."""
        self.clear_staging()
        self.write_record()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.path, MARKER_FILE))

    def result(self, return_value: Any = None, error: Exception | None = None) -> Result:
        """The outcome, as it is now."""
        return result_of(self.path, self.ranking.kept, self.latest, self.history, return_value, error)


def staging_name(attempt: int, report: int) -> str:
    """The staging directory of the ranks' report of this number."""
    return f"{STAGING_PREFIX}{attempt}-{report}"


def stage(source: str, place: Place, staging: str) -> None:
    """In a worker: copy a checkpoint's files to where those of the other ranks go.

    Files appear whole: two ranks that write the same name do not mix their bytes. Raises RuntimeError where this
    node does not see the run's directory.
    """
    if not os.path.isdir(source):
        raise FileNotFoundError(f"the reported checkpoint is no directory: {source}")
    _check_shared(place)
    base = os.path.join(place.experiment_fs_path, staging)
    os.makedirs(base, exist_ok=True)
    for folder, folders, files in os.walk(source):
        target = os.path.normpath(os.path.join(base, os.path.relpath(folder, source)))
        for name in list(folders):
            os.makedirs(os.path.join(target, name), exist_ok=True)
        for name in files:
            temporary = os.path.join(target, f".{secrets.token_hex(6)}.part")
            shutil.copy2(os.path.join(folder, name), temporary)
            os.replace(temporary, os.path.join(target, name))


def _check_shared(place: Place) -> None:
    marker = os.path.join(place.experiment_fs_path, MARKER_FILE)
    deadline = time.monotonic() + MARKER_PATIENCE_S
    while True:
        with contextlib.suppress(OSError), open(marker) as file:
            if file.read() == place.token:
                return
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"checkpoints go to {place.experiment_fs_path}, which is not the same directory on this node as on "
                "the driver's: set RunConfig(storage_path=...) to a directory on a shared file system"
            )
        time.sleep(0.2)


def _replace(path: str, text: str) -> None:
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "w") as file:
        file.write(text)
    os.replace(temporary, path)


def _plain(value: Any) -> Any:
    """Numbers of numpy as numbers; anything else as its text."""
    try:
        return value.item()
    except Exception:
        return str(value)

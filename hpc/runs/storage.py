"""A run's directory: storage_path/name with checkpoint_000000, checkpoint_000001, ... and a manifest of each.

Ranks bring their files into a staging directory of the report, all of them into the same one. When every rank has done
so, the driver writes what was reported so far, renames the directory, and writes the manifest. With that there is a
checkpoint. Each step is on disk before the next one begins. So whatever is killed when, what is there is either whole
or seen not to be, and `open` puts it in order. On a file system of pyarrow's, which may not be able to rename, the
files go to their final place at once.

A marker stands beside a directory that is about to become a checkpoint, or to be deleted. With it a directory without a
manifest is removed; one with a manifest is a checkpoint. A checkpoint is given up by deleting its manifest first.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hpc.runs.checkpoint import Checkpoint, named
from hpc.runs.config import CheckpointConfig
from hpc.runs.files import LocalFiles, files_of, join
from hpc.runs.manifest import (
    BEGUN_PREFIX,
    PREFIX,
    Damaged,
    Entry,
    Manifest,
    Status,
    begun_file,
    check,
    entries_of,
    manifest_file,
)
from hpc.runs.ranking import PENDING_VALIDATION, Ranking, Stored
from hpc.runs.record import HISTORY_FILE, History, read_manifests
from hpc.runs.result import Result, result_of
from hpc.runs.uploading import MARKER_FILE, STAGING_PREFIX, Place, StorageError, merge, why_not_own

DAMAGED_PREFIX = "damaged."
#: What ranks wrote to their streams, of attempts that failed.
OUTPUT_FOLDER = "ranks"


@dataclass(frozen=True)
class Target:
    """Where the files of a report's checkpoint go (path), and the name that it will have."""

    name: str
    path: str


class RunStorage:
    """The driver's side: opens the directory, commits checkpoints and deletes those that do not stay."""

    def __init__(self, storage_path: str, name: str, config: CheckpointConfig, filesystem: Any = None) -> None:
        self.place = Place(storage_path, name, secrets.token_hex(8), filesystem)
        self.path = self.place.experiment_fs_path
        self.files = files_of(filesystem)
        self.ranking = Ranking(config)
        self.history = History(self.files, self.path)
        self._begun: dict[str, Target] = {}
        self._next_index = 0
        self._next_number = 0

    def open(self) -> None:
        """Make the directory, or continue with what an earlier run of this name left in it.

        What was begun and not finished is removed. A checkpoint that is damaged is passed over, with a message.
        """
        self.files.make_dirs(self.path)
        self.clear_staging()
        self.files.write(join(self.path, MARKER_FILE), self.place.token.encode())
        self.history.load()
        found, damaged = read_manifests(self.files, self.place.filesystem, self.path)
        passed = bool(damaged)
        for name, why in damaged.items():
            self._pass_over(name, why)
        self._next_number = max((one.manifest.number for one in found), default=-1) + 1
        while found:
            try:
                check(self.files, found[-1].checkpoint.path, found[-1].manifest.files)
            except Damaged as error:
                self._pass_over(found.pop().manifest.name, error)
                passed = True
                continue
            break
        self.ranking.kept = [Stored(self._named(one.manifest.name), one.manifest) for one in found]
        self.ranking.latest = self.ranking.kept[-1] if found else None
        if passed and found:
            say(f"the latest checkpoint is {found[-1].manifest.name}")
        self._delete(self.ranking.sift())
        self.rewind()

    @property
    def latest(self) -> Checkpoint | None:
        """The checkpoint from which to go on."""
        return self.ranking.latest.checkpoint if self.ranking.latest is not None else None

    def begin(self, name: str | None) -> Target:
        """A report has a checkpoint: where its files go. Raises FileExistsError for a name that is taken."""
        self._need_own()
        name = name or self.next_name()
        path = join(self.path, name)
        if _is_ours(name):
            raise ValueError(f"{name!r} is a name of the run's own files: checkpoint_dir_name must be another one")
        if name in self._begun or self.files.exists(path):
            raise FileExistsError(f"{path} exists already: checkpoint_dir_name must be a new one for each report")
        if isinstance(self.files, LocalFiles):
            path = join(self.path, f"{STAGING_PREFIX}{secrets.token_hex(6)}-{name}")
        else:
            self._mark(name)
        self.files.make_dirs(path)
        self._begun[name] = Target(name, path)
        return self._begun[name]

    def next_name(self) -> str:
        """The name of a checkpoint to which nobody gave one."""
        self._next_index += 1
        return f"checkpoint_{self._next_index - 1:06d}"

    def abandon(self, target: Target) -> None:
        """There will be no checkpoint of this report."""
        self.files.delete_tree(target.path)
        self.files.delete(join(self.path, begun_file(target.name)))
        self._begun.pop(target.name, None)

    def commit(
        self,
        target: Target,
        by_rank: Sequence[Sequence[Entry]],
        metrics: dict[str, Any],
        reports: int,
        validation: dict[str, Any] | None = None,
    ) -> Stored:
        """All ranks have brought their files: make the checkpoint of them, and delete those that it pushes out.

        reports: how many reports there were in all, with the one that this checkpoint came with.
        """
        self._need_own()
        entries = merge(self.files, target.path, by_rank)
        manifest = self._manifest(target.name, entries, metrics, reports, validation)
        self.history.flush()
        if isinstance(self.files, LocalFiles):
            self._mark(target.name)
            self.files.rename(target.path, join(self.path, target.name))
        self._write(manifest)
        self.files.delete(join(self.path, begun_file(target.name)))
        del self._begun[target.name]
        return self._keep(manifest)

    def adopt(
        self,
        path: str,
        metrics: dict[str, Any],
        reports: int,
        validation: dict[str, Any] | None = None,
    ) -> Stored:
        """Make a checkpoint of a directory in the run's own that the ranks have filled by themselves."""
        name = relative_name(self.place, path)
        if name is None:
            raise ValueError(f"{path} is not in the run's directory {self.path}")
        if any(one.manifest.name == name for one in self.ranking.kept):
            raise FileExistsError(f"{path} is the checkpoint of an earlier report: each report needs a new directory")
        self._need_own()
        manifest = self._manifest(name, entries_of(self.files, path), metrics, reports, validation)
        self.history.flush()
        self._write(manifest)
        return self._keep(manifest)

    def change(self, stored: Stored, status: Status, metrics: dict[str, Any]) -> None:
        """A validation has ended: with these metrics, which are added to those of the report."""
        self._need_own()
        stored.manifest.status = status
        stored.manifest.validation = None
        stored.manifest.metrics = {**stored.manifest.metrics, **metrics}
        self._write(stored.manifest)
        self._delete(self.ranking.sift())

    def rewind(self) -> None:
        """The workers start from the latest checkpoint: drop what was begun and what was reported after it."""
        self._need_own()
        self.clear_staging()
        self.history.keep(self.ranking.latest.manifest.reports if self.ranking.latest is not None else 0)
        names = (*self.files.names(self.path), *(one.manifest.name for one in self.ranking.kept))
        indices = [int(found[1]) for name in names if (found := re.match(r"checkpoint_(\d+)", name))]
        self._next_index = max(indices, default=-1) + 1

    def clear_staging(self) -> None:
        """Remove what ranks had brought whose report was never complete, and what was about to be deleted."""
        self._begun.clear()
        for name in self.files.names(self.path):
            path = join(self.path, name)
            if name.startswith(BEGUN_PREFIX):
                goal = self.files.read(path).decode()
                if goal and not self._has_manifest(goal):
                    self.files.delete_tree(join(self.path, goal))
                self.files.delete(path)
            elif name.startswith(STAGING_PREFIX):
                self.files.delete_tree(path)
            elif name.startswith(".") and name.endswith(".part"):
                self.files.delete(path)

    def close(self) -> None:
        """Leave the directory as a result: checkpoints, their manifests, and the metrics. Raises nothing: what cannot
        be written is said. What is another run's by now is left alone."""
        try:
            self._need_own()
            self.clear_staging()
            self.history.flush()
            self.files.delete(join(self.path, MARKER_FILE))
        except OSError as error:
            say(f"{join(self.path, HISTORY_FILE)} lacks the last reports: {error}")

    def result(self, return_value: Any = None, error: Exception | None = None) -> Result:
        """The outcome, as it is now."""
        return result_of(self.place, self.ranking.kept, self.latest, self.history, return_value, error)

    def _named(self, name: str) -> Checkpoint:
        return named(join(self.path, name), self.place.filesystem, self.place.token)

    def _manifest(
        self,
        name: str,
        entries: list[Entry],
        metrics: dict[str, Any],
        reports: int,
        validation: dict[str, Any] | None,
    ) -> Manifest:
        status: Status = "COMMITTED" if validation is None else PENDING_VALIDATION
        self._next_number += 1
        return Manifest(name, self._next_number - 1, reports, metrics, entries, status, validation, time.time())

    def _need_own(self) -> None:
        """Raises StorageError unless the directory is this run's still. A later run of the same name takes it over, and
        would be harmed by what this one does there."""
        why = why_not_own(self.place)
        if why:
            raise StorageError(f"{self.path} cannot be used any more: {why}")

    def _mark(self, name: str) -> None:
        self.files.write(join(self.path, begun_file(name)), name.encode())

    def _has_manifest(self, name: str) -> bool:
        return self.files.exists(join(self.path, manifest_file(name)))

    def _write(self, manifest: Manifest) -> None:
        self.files.write(join(self.path, manifest_file(manifest.name)), manifest.encode())

    def _keep(self, manifest: Manifest) -> Stored:
        stored = Stored(self._named(manifest.name), manifest)
        self._delete(self.ranking.add(stored))
        return stored

    def _delete(self, extra: Sequence[Stored]) -> None:
        for one in extra:
            name = one.manifest.name
            self._mark(name)
            self.files.delete(join(self.path, manifest_file(name)))
            self.files.delete_tree(one.checkpoint.path)
            self.files.delete(join(self.path, begun_file(name)))

    def _pass_over(self, name: str, why: Damaged) -> None:
        """A checkpoint is damaged: it is none any more. Its directory stays, under another name where that can be."""
        path = join(self.path, name)
        say(f"the checkpoint {path} is passed over: {why}")
        if isinstance(self.files, LocalFiles) and self.files.is_dir(path):
            aside = join(self.path, DAMAGED_PREFIX + name.replace("/", "_"))
            self.files.delete_tree(aside)
            self.files.rename(path, aside)
        self.files.delete(join(self.path, manifest_file(name)))


def _is_ours(name: str) -> bool:
    """Whether a file of ours could have this name."""
    return name in (HISTORY_FILE, OUTPUT_FOLDER) or name.startswith(
        (STAGING_PREFIX, PREFIX, BEGUN_PREFIX, DAMAGED_PREFIX)
    )


def relative_name(place: Place, path: str) -> str | None:
    """The name of a directory within the run's; None if it is not in there."""
    base = place.experiment_fs_path
    if place.filesystem is None:
        base, path = os.path.realpath(base), os.path.realpath(path)
    else:
        base, path = os.path.normpath(base), os.path.normpath(path)
    return path[len(base) + 1 :] if path.startswith(base + "/") else None


def say(text: str) -> None:
    """A message about a run, on the driver's terminal."""
    print(f"train: {text}", file=sys.stderr, flush=True)

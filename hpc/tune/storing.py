"""In a trial: bring its checkpoints to its directory, whole, and keep what it wrote into its working directory."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil

from hpc.runs.checkpoint import Checkpoint
from hpc.runs.files import LocalFiles, files_of, join
from hpc.runs.uploading import STAGING_PREFIX, Place, upload

_NAMED = re.compile(r"checkpoint_(\d+)")


def checkpoint_name(index: int) -> str:
    """The directory of a trial's checkpoint."""
    return f"checkpoint_{index:06d}"


def index_of(path: str) -> int:
    """The number in a checkpoint's path; -1 for another name."""
    found = _NAMED.fullmatch(path.rstrip("/").rpartition("/")[2])
    return int(found[1]) if found else -1


class Store:
    """The checkpoints of one trial. place: the experiment's directory; directory: the trial's, in it.

    A checkpoint's files go to a staging directory beside, and get their name when all are there. On a file system that
    cannot rename they go to their place at once.
    """

    def __init__(self, place: Place, directory: str, next_index: int) -> None:
        self.place = place
        self.directory = directory
        self._next = next_index

    def keep(self, checkpoint: Checkpoint, take: bool = False) -> str:
        """Store it; the name of its directory. take: its own files are moved, or deleted.

        What an earlier process left under this name, and told nobody of, is replaced. Raises StorageError where the
        files cannot be stored, and FileNotFoundError where there is no such checkpoint.
        """
        name = checkpoint_name(self._next)
        files, goal = files_of(self.place.filesystem), join(self.directory, name)
        files.make_dirs(self.directory)
        if not isinstance(files, LocalFiles):
            files.delete_tree(goal)
            upload(checkpoint, self.place, goal, take)
        else:
            staging = join(self.directory, f"{STAGING_PREFIX}{secrets.token_hex(4)}-{name}")
            try:
                upload(checkpoint, self.place, staging, take)
                files.delete_tree(goal)
                files.rename(staging, goal)
            except BaseException:
                files.delete_tree(staging)
                raise
        self._next += 1
        return name

    def add(self, path: str, name: str) -> None:
        """Move what is in a file here to the end of one of the trial's."""
        with open(path, "rb") as source:
            data = source.read()
        if data:
            files = files_of(self.place.filesystem)
            files.make_dirs(self.directory)
            files.append(join(self.directory, name), data)
        os.unlink(path)

    def keep_artifacts(self, working: str) -> None:
        """Copy what there is in the working directory to the trial's."""
        if os.path.isdir(working) and os.listdir(working):
            files = files_of(self.place.filesystem)
            for folder, _, names in os.walk(working):
                inside = os.path.relpath(folder, working)
                goal = self.directory if inside == "." else join(self.directory, inside)
                files.make_dirs(goal)
                for name in names:
                    with open(os.path.join(folder, name), "rb") as source:
                        files.put(source, join(goal, name))


def delete_checkpoint(checkpoint: Checkpoint) -> None:
    """Delete a checkpoint's files: the directory first gets a name that is none."""
    files = files_of(checkpoint._filesystem)
    if isinstance(files, LocalFiles):
        aside = join(os.path.dirname(checkpoint.path), f"{STAGING_PREFIX}{secrets.token_hex(4)}-old")
        with contextlib.suppress(OSError):
            os.rename(checkpoint.path, aside)
            shutil.rmtree(aside, ignore_errors=True)
    else:
        files.delete_tree(checkpoint.path)

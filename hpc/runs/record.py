"""What a run's directory says of it: the metrics of its reports, and its checkpoints by their manifests.

The metrics are lines of a file that only grows while the run goes on. It is written before a checkpoint is made, and
each checkpoint knows how many reports there were. What was reported after the one that a run goes on from is reported
again: the lines of the first time are dropped.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hpc.runs.checkpoint import Checkpoint
from hpc.runs.files import Files, join
from hpc.runs.manifest import Damaged, decode, name_of, plain
from hpc.runs.ranking import Stored

HISTORY_FILE = "metrics.jsonl"


class History(list[dict[str, Any]]):
    """Rank 0's metrics of all reports, and their file."""

    def __init__(self, files: Files, path: str) -> None:
        super().__init__()
        self._files = files
        self._path = join(path, HISTORY_FILE)
        self._written = 0

    def load(self) -> None:
        """Read what an earlier run of this name has left."""
        self[:] = read_history(self._files, self._path)
        self._written = -1

    def keep(self, count: int) -> None:
        """Drop all but the first reports."""
        if count < len(self) or self._written < 0:
            del self[count:]
            self._written = -1

    def flush(self) -> None:
        """Write what is new."""
        text = "".join(f"{json.dumps(one, default=plain)}\n" for one in self[max(self._written, 0) :]).encode()
        if self._written < 0:
            self._files.write(self._path, text)
        elif text or not self._written:
            self._files.append(self._path, text)
        self._written = len(self)


def read_history(files: Files, path: str) -> list[dict[str, Any]]:
    """The metrics in a file of lines. The last line may be cut off: it is as if it had not been written."""
    found = []
    with contextlib.suppress(FileNotFoundError, ValueError):
        for line in files.read(path).splitlines():
            found.append(json.loads(line))
    return found


def read_manifests(files: Files, filesystem: Any, path: str) -> tuple[list[Stored], dict[str, Damaged]]:
    """The checkpoints that have a manifest and a directory, oldest first; and by name those that cannot be read."""
    found, damaged = [], {}
    for file in files.names(path):
        name = name_of(file)
        if name is None:
            continue
        try:
            manifest = decode(files.read(join(path, file)))
        except Damaged as error:
            damaged[name] = error
            continue
        place = join(path, manifest.name)
        if files.is_dir(place):
            found.append(Stored(Checkpoint(place, filesystem), manifest))
        else:
            damaged[name] = Damaged("its directory is gone")
    return sorted(found, key=lambda one: one.manifest.number), damaged

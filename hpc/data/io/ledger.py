"""Which parts of a source have been written: a write that was killed goes on with the others, and repeats none.

Beside the files is the folder ``_ledger``. A task that has ended puts an entry there: the ranges that it has read, and
the files that it has written. This is the moment when its rows count. Files that no entry names are those
of tasks that did not get so far: the next run removes them, and reads their ranges again. An entry whose files are gone
does not count. A file that was read may not have changed, which is looked at where it is on a file system.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from typing import Any, TypeAlias

import pyarrow.fs as pafs

from hpc.data.io.outputs import PART, OutputFolder
from hpc.data.io.source import Range
from hpc.data.transform.base import TaskContext

FOLDER = "_ledger"


#: What one task has done: "ranges", "files" (names below the folder), and "sources" with their versions.
Entry: TypeAlias = dict[str, Any]


def entries_of(content: dict[str, Any]) -> list[Entry]:
    """The entries of a file of the ledger: that of one task, or those of many."""
    return content.get("entries", [content])


def version_of(path: str) -> list[int] | None:
    """The size and the time of the last change, of a file that this node sees; None for others."""
    try:
        found = os.stat(path) if os.path.isabs(path) else None
    except OSError:
        return None
    return None if found is None else [found.st_size, found.st_mtime_ns]


class Ledger:
    """The ledger of one folder of files."""

    def __init__(self, folder: OutputFolder) -> None:
        self.folder = folder
        self.path = f"{folder.path}/{FOLDER}"
        self.id = ""

    # -------------------------------------------------------------- in the driver

    def begin(self) -> list[Range]:
        """The ranges that are done. Removes files of tasks that did not end. Called before tasks are planned.

        An entry counts if all its files are there. Raises ValueError if a file that was read has changed since.
        """
        self.folder.make(self.path)
        held = {name: self.read(name) for name in self.names() if name.endswith(".json")}
        if "id.json" not in held:
            held["id.json"] = {"id": uuid.uuid4().hex}
            self.put("id.json", held["id.json"])
        self.id = held.pop("id.json")["id"]
        base = len(self.folder.path) + 1
        there = {path[base:]: path for path in self.folder.files()}
        entries: list[Entry] = []
        for name, content in held.items():
            some = entries_of(content)
            kept = [entry for entry in some if all(file in there for file in entry["files"])]
            if len(kept) < len(some):
                self.put(name, {"entries": kept})
            entries += kept
        self.check(entries)
        known = {file for entry in entries for file in entry["files"]}
        for name, path in there.items():
            mine = name.rpartition("/")[2].startswith((f"{self.id}_", f"{PART}{self.id}"))
            if mine and not name.startswith(f"{FOLDER}/") and name not in known:
                self.folder.remove(path)
        return [(path, first, end) for entry in entries for path, first, end in entry["ranges"]]

    def check(self, entries: list[Entry]) -> None:
        """Raise ValueError for a file that has been read, and is another one now."""
        known = [found for entry in entries for found in entry.get("sources", {}).items()]
        now = {path: version_of(path) for path in dict(known)}
        for path, version in known:
            if now[path] not in (None, version):
                raise ValueError(
                    f"{path} has changed since the write to {self.folder.path} read it, so that this write cannot go "
                    f"on: write to a new folder, or remove {self.folder.path} to write all again"
                )

    def compact(self) -> None:
        """Bring all entries into one file."""
        held = [(name, self.read(name)) for name in self.names() if name.endswith(".json") and name != "id.json"]
        if len(held) <= 1:
            return
        self.put("done.json", {"entries": [entry for _, content in held for entry in entries_of(content)]})
        for name, _ in held:
            if name != "done.json":
                self.delete(name)

    # -------------------------------------------------------------- in tasks

    def name_of(self, task: TaskContext) -> str:
        """The name of a task's files: that of what it reads. Raises ValueError if it does not read by itself."""
        return f"{self.id}_{self.key(task)}"

    def key(self, task: TaskContext) -> str:
        if not task.ranges:
            raise ValueError(
                "a write that resumes runs in the tasks that read: there must be nothing between them but functions "
                "of rows and batches that run as tasks (no actors, no repartition, shuffle, sort, join or limit)"
            )
        return hashlib.blake2b(json.dumps(task.ranges).encode(), digest_size=12).hexdigest()

    def record(self, task: TaskContext, paths: list[str]) -> None:
        """Say that what a task reads is done."""
        base = len(self.folder.path) + 1
        versions = {path: version_of(path) for path, _, _ in task.ranges}
        entry = {
            "ranges": task.ranges,
            "files": [path[base:] for path in paths],
            "sources": {path: version for path, version in versions.items() if version is not None},
        }
        self.put(f"{self.key(task)}.json", entry)

    # -------------------------------------------------------------- files of the ledger

    def names(self) -> list[str]:
        if self.folder.filesystem is None:
            return sorted(os.listdir(self.path))
        selector = pafs.FileSelector(self.path, allow_not_found=True)
        return sorted(one.base_name for one in self.folder.filesystem.get_file_info(selector))

    def read(self, name: str) -> dict[str, Any]:
        if self.folder.filesystem is None:
            with open(f"{self.path}/{name}") as file:
                return json.load(file)
        with self.folder.filesystem.open_input_stream(f"{self.path}/{name}") as stream:
            return json.loads(stream.readall())

    def put(self, name: str, entry: dict[str, Any]) -> None:
        output = self.folder.begin(f"{FOLDER}/{name}", "ledger")
        output.file.write(json.dumps(entry).encode())
        output.commit()

    def delete(self, name: str) -> None:
        path = f"{self.path}/{name}"
        os.unlink(path) if self.folder.filesystem is None else self.folder.filesystem.delete_file(path)

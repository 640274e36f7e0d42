"""Which parts of a source have been written: a write that was killed goes on with the others, and repeats none.

Beside the files is the folder ``_ledger``. A task that has ended puts an entry there: the ranges that it has read, and
the files that it has written. This is the moment when its rows count. Files that no entry names are those
of tasks that did not get so far: the next run removes them, and reads their ranges again.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from typing import Any

import pyarrow.fs as pafs

from hpc.data.io.outputs import OutputFolder
from hpc.data.io.source import Range
from hpc.data.transform.base import TaskContext

FOLDER = "_ledger"


class Ledger:
    """The ledger of one folder of files."""

    def __init__(self, folder: OutputFolder) -> None:
        self.folder = folder
        self.path = f"{folder.path}/{FOLDER}"
        self.id = ""

    # -------------------------------------------------------------- in the driver

    def begin(self) -> list[Range]:
        """The ranges that are done. Removes files of tasks that did not end. Called before tasks are planned."""
        self.folder.make(self.path)
        entries = {name: self.read(name) for name in self.names() if name.endswith(".json")}
        if "id.json" not in entries:
            entries["id.json"] = {"id": uuid.uuid4().hex}
            self.put("id.json", entries["id.json"])
        self.id = entries["id.json"]["id"]
        known = {name for entry in entries.values() for name in entry.get("files", ())}
        base = len(self.folder.path) + 1
        for path in self.folder.files():
            name = path[base:]
            mine = name.rpartition("/")[2].startswith((f"{self.id}_", f".part-{self.id}"))
            if mine and not name.startswith(f"{FOLDER}/") and name not in known:
                self.folder.remove(path)
        return [(path, first, end) for entry in entries.values() for path, first, end in entry.get("ranges", ())]

    def compact(self) -> None:
        """Bring all entries into one file."""
        entries = [(name, self.read(name)) for name in self.names() if name.endswith(".json") and name != "id.json"]
        if len(entries) <= 1:
            return
        ranges = [one for _, entry in entries for one in entry["ranges"]]
        files = [one for _, entry in entries for one in entry["files"]]
        self.put("done.json", {"ranges": ranges, "files": files})
        for name, _ in entries:
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
        self.put(f"{self.key(task)}.json", {"ranges": task.ranges, "files": [path[base:] for path in paths]})

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

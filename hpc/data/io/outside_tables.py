"""Tables of other systems: Lance datasets and Delta tables. Their packages are not needed otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from hpc.data.io import paths
from hpc.data.io.files import Reading
from hpc.data.io.given import opener
from hpc.data.io.listing import Entry
from hpc.data.io.manifest import Manifest
from hpc.data.io.parquet import ParquetSource
from hpc.data.io.parquet_file import ParquetFormat, check_objects
from hpc.data.io.partitioning import Partitioning, PartitionStyle, PathPartitionParser
from hpc.data.io.source import Estimate, Source, SourceTask
from hpc.data.packages import needs
from hpc.data.transform.base import TaskContext

#: What files of a Delta table alone do not tell.
VECTORS = "deletionVectors"
BEYOND_FILES = ("columnMapping",)
DELTA_TYPES: dict[str, type] = {
    "byte": int, "short": int, "integer": int, "long": int, "float": float, "double": float, "boolean": bool,
    "date": date,
}  # fmt: skip


class LanceSource(Source):
    """The rows of a Lance dataset: tasks read fragments."""

    name = "Lance"

    def __init__(
        self,
        uri: str,
        version: Any = None,
        columns: list[str] | None = None,
        filter: str | None = None,
        storage_options: dict[str, str] | None = None,
        scanner_options: dict[str, Any] | None = None,
    ) -> None:
        lance = needs("lance", "read_lance", "pylance")
        self.args = {"uri": uri, "version": version, "storage_options": storage_options}
        self.dataset = lance.dataset(**self.args)
        # Later commits must not change what the tasks of one dataset see.
        self.args["version"] = self.dataset.version
        self.scan = {**(scanner_options or {})}
        if columns is not None:
            self.scan["columns"] = columns
        if filter is not None:
            self.scan["filter"] = filter

    def __getstate__(self) -> dict[str, Any]:
        return {"args": self.args, "scan": self.scan}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.args, self.scan = state["args"], state["scan"]
        self.dataset = needs("lance", "read_lance", "pylance").dataset(**self.args)

    def estimate(self) -> Estimate:
        return Estimate(self.count(), None, len(self.dataset.get_fragments()))

    def count(self) -> int:
        return self.dataset.count_rows(self.scan.get("filter"))

    def schema(self) -> pa.Schema:
        return self.dataset.scanner(**self.scan).projected_schema

    def tasks(self, parallelism: int) -> Iterator[SourceTask]:
        fragments = [fragment.fragment_id for fragment in self.dataset.get_fragments()]
        count = min(parallelism if parallelism > 0 else len(fragments), len(fragments))
        for index in range(count):
            part = fragments[len(fragments) * index // count : len(fragments) * (index + 1) // count]
            yield LanceTask(self.args, self.scan, part)


class LanceTask(SourceTask):
    """Some fragments of one version of a Lance dataset."""

    def __init__(self, args: dict[str, Any], scan: dict[str, Any], fragments: list[int]) -> None:
        self.args, self.scan, self.fragments = args, scan, fragments
        self.files = (str(args["uri"]),)
        self.key = f"{args['uri']} version {args['version']} fragments {fragments}"

    def read(self, task: TaskContext) -> Iterator[pa.Table]:
        task.ranges = self.ranges
        dataset = needs("lance", "read_lance", "pylance").dataset(**self.args)
        for number in self.fragments:
            task.source = f"{self.args['uri']} fragment {number}"
            scanner = dataset.get_fragment(number).scanner(**self.scan)
            check_objects(scanner.projected_schema, None, task.source)
            for batch in scanner.to_batches():
                yield pa.Table.from_batches([batch])


def delta(path: str, version: int | None, given: dict[str, Any]) -> ParquetSource:
    """The parquet files of one version of a Delta table. Raises ValueError for features that need more than files."""
    deltalake = needs("deltalake", "read_delta", "deltalake")
    options = given.get("storage_options")
    table = deltalake.DeltaTable(path, version=version, storage_options=options)
    features = [one for one in table.protocol().reader_features or () if one in BEYOND_FILES]
    if features:
        raise ValueError(f"the Delta table {path} has the features {features}, which read_delta does not know")
    files = files_of(table)
    deleted = deleted_rows(table, path, files) if VECTORS in (table.protocol().reader_features or ()) else {}
    inside = bool(options) and "://" in path and given.get("filesystem") is None
    if inside:
        # The credentials travel with the tasks: the environment of a worker has none. Paths are those in the table.
        handler = needs("deltalake.fs", "read_delta", "deltalake").DeltaStorageHandler(path, options)
        given = {**given, "filesystem": pafs.PyFileSystem(handler)}
        files = [uri.removeprefix(f"{path.rstrip('/')}/") for uri in files]
        deleted = {uri.removeprefix(f"{path.rstrip('/')}/"): places for uri, places in deleted.items()}
    roots, filesystem = paths.resolve(files, given.get("filesystem")) if files else ([], None)
    changed = paths.resolve(list(deleted), given.get("filesystem"))[0] if deleted else []
    names = table.metadata().partition_columns
    kinds = {field.name: DELTA_TYPES.get(getattr(field.type, "type", ""), str) for field in table.schema().fields}
    base = "" if inside else paths.resolve(path, given.get("filesystem"))[0][0]
    parts = Partitioning(PartitionStyle.HIVE, base, None, {name: kinds[name] for name in names}, filesystem)
    reading = Reading(
        ParquetFormat(deleted=tuple(zip(changed, deleted.values()))),
        opener(filesystem, given),
        PathPartitionParser(parts) if names else None,
        bool(given.get("include_paths")),
    )
    return ParquetSource(Manifest(None, [Entry(root) for root in sorted(roots)]), reading, shuffle=given.get("shuffle"))


def files_of(table: Any) -> list[str]:
    """The files of a table. Where it is a folder, its own path has escapes in what deltalake says, theirs have none."""
    root = table.table_uri.rstrip("/")
    if "://" in root and not root.startswith("file://"):
        return table.file_uris()
    plain = unquote(root).removeprefix("file://")
    bare = root.removeprefix("file://")
    return [plain + uri.removeprefix("file://").removeprefix(bare) for uri in table.file_uris()]


def deleted_rows(table: Any, path: str, files: list[str]) -> dict[str, bytes]:
    """The places of the rows that deletion vectors leave out, by file. Raises ValueError where they cannot be read."""
    read = getattr(table, "deletion_vectors", None)
    if read is None:
        raise ValueError(
            f"the Delta table {path} has the feature {VECTORS}, which this version of deltalake does not read: "
            "pip install -U deltalake"
        )
    there, found = set(files), {}
    for batch in pa.RecordBatchReader.from_stream(read()):
        for uri, keeps in zip(batch["filepath"].to_pylist(), batch["selection_vector"]):
            # The vectors name files by URLs with escapes.
            names = (uri, unquote(uri), unquote(uri).removeprefix("file://"))
            file = next((name for name in names if name in there), None)
            if file is None:
                raise ValueError(f"the Delta table {path} has a deletion vector of {uri}, which is none of its files")
            kept = keeps.values.to_numpy(zero_copy_only=False)
            found[file] = np.flatnonzero(~kept).astype(np.int64).tobytes()
    return found

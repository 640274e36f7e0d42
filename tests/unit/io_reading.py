"""What tests of sources share: files that they write, and reading a source in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from hpc.data.io import given
from hpc.data.io.formats import Format
from hpc.data.io.partitioning import Partitioning, PartitionStyle
from hpc.data.io.source import Source
from hpc.data.transform.base import TaskContext

HIVE = Partitioning(PartitionStyle.HIVE)


def written(path: Path, content: str | bytes) -> Path:
    """A file with a content; its folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def source(form: Format, paths: Any, **args: Any) -> Any:
    """The source that a ``read_*`` function makes."""
    return given.files(form, {"paths": paths, **args})


def tables(source: Source, parallelism: int = -1) -> list[pa.Table]:
    return [table for task in source.tasks(parallelism) for table in task.read(TaskContext())]


def rows(source: Source, parallelism: int = -1) -> list[dict[str, Any]]:
    return [row for table in tables(source, parallelism) for row in table.to_pylist()]


def types(source: Source) -> dict[str, str]:
    schema = source.schema()
    assert schema is not None
    return dict(zip(schema.names, map(str, schema.types)))

"""Columns whose values are in the paths of files: ``year=2024/month=3`` (hive), or ``2024/3`` with names (dir)."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Any

import pyarrow as pa

from hpc.data.io import paths

#: The folder of rows whose value is null, as Hive names it.
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
ARROW_TYPES = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), date: pa.date32(), str: pa.string()}


class PartitionStyle(str, Enum):
    """How paths tell values: ``hive`` has ``name=value`` folders, ``dir`` has values alone."""

    HIVE = "hive"
    DIRECTORY = "dir"


@dataclass
class Partitioning:
    """How values are told by paths.

    ``base_dir``: folders below this one are looked at. ``field_names``: names of the columns, needed for ``dir``.
    ``field_types``: int, float, bool or str for some of them; other values are texts.
    """

    style: PartitionStyle
    base_dir: str | None = None
    field_names: list[str] | None = None
    field_types: dict[str, type] | None = None
    filesystem: Any = None

    def __post_init__(self) -> None:
        self.base_dir = self.base_dir or ""
        self.field_types = dict(self.field_types or {})

    @property
    def normalized_base_dir(self) -> str:
        """The base folder as file paths begin with it, with a slash at its end; empty for none."""
        if not self.base_dir:
            return ""
        ((base,), _) = paths.resolve(self.base_dir, self.filesystem)
        return base.rstrip("/") + "/"


class PathPartitionParser:
    """Reads the values that a path tells: a dict of names and values, empty for a file outside of any partition."""

    @staticmethod
    def of(
        style: PartitionStyle = PartitionStyle.HIVE,
        base_dir: str | None = None,
        field_names: list[str] | None = None,
        field_types: dict[str, type] | None = None,
        filesystem: Any = None,
    ) -> PathPartitionParser:
        """A parser for a partitioning that is told by its fields."""
        return PathPartitionParser(Partitioning(style, base_dir, field_names, field_types, filesystem))

    def __init__(self, partitioning: Partitioning) -> None:
        try:
            self.style = PartitionStyle(partitioning.style)
        except ValueError:
            raise ValueError(
                f"the style of a partitioning is 'hive' or 'dir', and not {partitioning.style!r}"
            ) from None
        if self.style is PartitionStyle.DIRECTORY and not partitioning.field_names:
            raise ValueError("a partitioning of style 'dir' needs field_names: the columns that the folders stand for")
        self.scheme = partitioning
        self.base = partitioning.normalized_base_dir
        self.last: tuple[str, dict[str, Any]] = ("", {})

    def __call__(self, path: str) -> dict[str, Any]:
        """The values of one path. Raises ValueError if it has others than the names that are given."""
        folder = path.rpartition("/")[0]
        if self.last[0] != folder:  # Files of one folder follow each other.
            self.last = (folder, self.parse(folder + "/"))
        return self.last[1]

    def parse(self, folder: str) -> dict[str, Any]:
        if not folder.startswith(self.base):
            return {}
        parts = [part for part in folder[len(self.base) :].split("/") if part]
        found: Mapping[str, str | None] = self.hive(parts) if self.style is PartitionStyle.HIVE else self.dirs(parts)
        types = self.scheme.field_types or {}
        return {name: cast(value, types.get(name), name, folder) for name, value in found.items()}

    def hive(self, parts: list[str]) -> dict[str, str | None]:
        pairs = [part.split("=") for part in parts if part.count("=") == 1]
        names = self.scheme.field_names
        if names and pairs and [name for name, _ in pairs] != list(names):
            raise ValueError(f"the path has partitions {[name for name, _ in pairs]}, but field_names are {names}")
        return {name: None if value == NO_VALUE else urllib.parse.unquote(value) for name, value in pairs}

    def dirs(self, parts: list[str]) -> dict[str, str]:
        names = self.scheme.field_names or []
        if parts and len(parts) != len(names):
            raise ValueError(
                f"the path has {len(parts)} folders {parts}, but there are {len(names)} field_names {names}"
            )
        return {name: part for name, part in zip(names, parts) if name is not None} if parts else {}

    def fields(self, path: str) -> pa.Schema:
        """The columns that a path adds, with their types."""
        types = self.scheme.field_types or {}
        return pa.schema([(name, ARROW_TYPES.get(types.get(name, str), pa.string())) for name in self(path)])


class PathPartitionFilter:
    """Keeps the files whose partition values a function accepts."""

    @staticmethod
    def of(
        filter_fn: Callable[[dict[str, Any]], bool],
        style: PartitionStyle = PartitionStyle.HIVE,
        base_dir: str | None = None,
        field_names: list[str] | None = None,
        field_types: dict[str, type] | None = None,
        filesystem: Any = None,
    ) -> PathPartitionFilter:
        """A filter for a partitioning that is told by its fields.

        ``filter_fn`` gets the values of a path (an empty dict for a file outside of any partition), and says whether
        to read the file.
        """
        return PathPartitionFilter(
            PathPartitionParser.of(style, base_dir, field_names, field_types, filesystem), filter_fn
        )

    def __init__(self, path_partition_parser: PathPartitionParser, filter_fn: Callable[[dict[str, Any]], bool]) -> None:
        self.parser = path_partition_parser
        self.filter_fn = filter_fn

    def __call__(self, paths: Sequence[str]) -> list[str]:
        """The paths that pass."""
        return [path for path in paths if self.apply(path)]

    def apply(self, path: str) -> bool:
        """Whether the file is to be read."""
        return bool(self.filter_fn(dict(self.parser(path))))


def cast(text: str | None, kind: type | None, name: str, path: str) -> Any:
    if text is None or kind is None or kind is str:
        return text
    if kind is bool:
        return text.lower() == "true"
    try:
        return date.fromisoformat(text) if kind is date else kind(text)
    except ValueError:
        raise ValueError(f"{path}: the partition {name}={text} is no {kind.__name__}, as field_types says") from None

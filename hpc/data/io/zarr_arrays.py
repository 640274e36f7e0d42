"""Arrays of Zarr stores: a row for each chunk of each array, or a row for each step of chunks along a shared axis."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.block import build
from hpc.data.io.errors import ReadError
from hpc.data.io.source import Estimate, Range, Source, SourceTask
from hpc.data.packages import needs
from hpc.data.transform.base import TaskContext

#: A task reads about so many bytes, and a table has about so many.
TASK = 32 << 20
TABLE = 8 << 20


@dataclass(frozen=True)
class ZarrArray:
    """An array of the store, and the chunks that it is read in."""

    path: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    itemsize: int

    @property
    def grid(self) -> tuple[int, ...]:
        return tuple(-(-size // chunk) for size, chunk in zip(self.shape, self.chunks))

    @property
    def chunk_bytes(self) -> int:
        return max(1, self.itemsize * math.prod(self.chunks))

    def bounds(self, index: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """Where a chunk begins and ends along each axis."""
        return tuple(
            (at * chunk, min(size, (at + 1) * chunk)) for at, chunk, size in zip(index, self.chunks, self.shape)
        )


def opened(path: str, filesystem: Any) -> Any:
    """The group (or the array) of a store, for reading."""
    zarr = needs("zarr", "read_zarr", "zarr")
    try:
        return zarr.open(path if filesystem is None else filesystem.get_mapper(path), mode="r")
    except (FileNotFoundError, PermissionError):
        if filesystem is not None or not os.path.isdir(path):
            raise
        raise ReadError("there is no Zarr store in this folder", path) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ReadError(f"this is no Zarr store: {error}", path) from error


class ZarrSource(Source):
    """Chunks of the arrays of a store."""

    name = "Zarr"

    def __init__(
        self,
        path: str,
        filesystem: Any = None,
        chunk_shapes: Any = None,
        array_paths: list[str] | None = None,
        scan: bool = False,
        aligned: bool = False,
        overlap: int = 0,
    ) -> None:
        if not isinstance(overlap, int) or overlap < 0:
            raise ValueError(f"overlap is a number of steps, 0 or more, and not {overlap!r}")
        if overlap and not aligned:
            raise ValueError("overlap needs align_axis_0=True: there is no axis that rows share otherwise")
        self.path, self.filesystem, self.aligned, self.overlap = path, filesystem, aligned, overlap
        found = arrays_of(opened(path, filesystem), array_paths, scan, path)
        self.arrays = [
            ZarrArray(name, array.shape, chunks_of(name, array, chunk_shapes), array.dtype.itemsize)
            for name, array in found.items()
        ]
        if aligned and len({(array.shape[0], array.chunks[0]) for array in self.arrays}) > 1:
            lengths = {array.path: (array.shape[0], array.chunks[0]) for array in self.arrays}
            raise ValueError(f"with align_axis_0 all arrays have one length and one chunk along axis 0: {lengths}")

    @property
    def steps(self) -> int:
        return self.arrays[0].grid[0] if self.arrays else 0

    def count(self) -> int:
        return self.steps if self.aligned else sum(math.prod(array.grid) for array in self.arrays)

    def estimate(self) -> Estimate:
        return Estimate(self.count(), sum(array.itemsize * math.prod(array.shape) for array in self.arrays), 1)

    def tasks(self, parallelism: int) -> Iterator[SourceTask]:
        if self.aligned:
            row = sum(array.chunk_bytes // array.chunks[0] * array.chunks[0] for array in self.arrays)
            for first, end in split(self.steps, row, parallelism):
                yield ZarrTask(self, tuple(self.arrays), first, end)
            return
        total = max(1, self.count())
        for array in self.arrays:
            rows = math.prod(array.grid)
            share = max(1, round(parallelism * rows / total)) if parallelism > 0 else -1
            for first, end in split(rows, array.chunk_bytes, share):
                yield ZarrTask(self, (array,), first, end)


def split(rows: int, row_bytes: int, parallelism: int) -> Iterator[tuple[int, int]]:
    count = parallelism if parallelism > 0 else max(1, rows * row_bytes // TASK)
    count = min(count, rows)
    for index in range(count):
        yield rows * index // count, rows * (index + 1) // count


class ZarrTask(SourceTask):
    """Some chunks of an array, or some steps of aligned arrays."""

    def __init__(self, source: ZarrSource, arrays: tuple[ZarrArray, ...], first: int, end: int) -> None:
        self.path, self.filesystem = source.path, source.filesystem
        self.aligned, self.overlap = source.aligned, source.overlap
        self.arrays, self.first, self.end = arrays, first, end
        self.rows = end - first
        self.nbytes = self.rows * sum(array.chunk_bytes for array in arrays)
        self.files = (self.path,)
        self.key = f"{self.path} {','.join(array.path for array in arrays)} {first} {end}"

    @property
    def ranges(self) -> tuple[Range, ...]:
        name = f"{self.path}/{self.arrays[0].path if not self.aligned else '*'}"
        return ((name, self.first, self.end),)

    def read(self, task: TaskContext) -> Iterator[pa.Table]:
        task.ranges = self.ranges
        root = opened(self.path, self.filesystem)
        rows: list[dict[str, Any]] = []
        size = 0
        for number in range(self.first, self.end):
            task.source = f"{self.path} chunk {number}"
            row = self.step(root, number) if self.aligned else self.chunk(root, number)
            rows.append(row)
            size += sum(cell.nbytes for cell in row.values() if isinstance(cell, np.ndarray))
            if size >= TABLE:
                yield build.from_rows(rows)
                rows, size = [], 0
        if rows:
            yield build.from_rows(rows)

    def chunk(self, root: Any, number: int) -> dict[str, Any]:
        (array,) = self.arrays
        index = tuple(int(at) for at in np.unravel_index(number, array.grid))
        bounds = array.bounds(index)
        data = (root[array.path] if array.path else root)[tuple(slice(*bound) for bound in bounds)]
        places = [list(bound) for bound in bounds]
        return {"array": array.path, "chunk_index": list(index), "chunk_slices": places, "chunk": np.asarray(data)}

    def step(self, root: Any, number: int) -> dict[str, Any]:
        first = self.arrays[0]
        start, stop = first.bounds((number, *(0 for _ in first.chunks[1:])))[0]
        end = min(first.shape[0], stop + self.overlap)
        cells = {array.path: np.asarray(root[array.path][start:end]) for array in self.arrays}
        return {"t_start": start, "t_stop": stop, **cells}


def arrays_of(root: Any, wanted: list[str] | None, scan: bool, path: str) -> dict[str, Any]:
    """The arrays that are read, by their paths."""
    if hasattr(root, "chunks"):  # The store is one array.
        return {"": root}
    if wanted is not None:
        found = {}
        for name in (one.strip("/") for one in wanted):
            try:
                found[name] = root[name]
            except KeyError:
                raise ValueError(f"there is no array {name!r} in {path}") from None
            if not hasattr(found[name], "chunks"):
                raise ValueError(f"{name!r} in {path} is a group, and no array")
        return found
    metadata = getattr(root, "metadata", None)
    if getattr(metadata, "consolidated_metadata", None) is None and not scan:
        raise ValueError(
            f"{path} has no consolidated metadata. Name the arrays (array_paths), consolidate the metadata with "
            "zarr.consolidate_metadata, or give allow_full_metadata_scan=True to look for all"
        )
    found = {name: item for name, item in root.members(max_depth=None) if hasattr(item, "chunks")}
    return dict(sorted(found.items()))


def chunks_of(name: str, array: Any, shapes: Any) -> tuple[int, ...]:
    """The chunks that an array is read in: its own, but for the first axes that the caller gives."""
    own = tuple(array.chunks)
    given = shapes.get(name) if isinstance(shapes, dict) else shapes
    if given is None:
        return own
    if len(given) > len(own) or any(not isinstance(size, int) or size <= 0 for size in given):
        raise ValueError(f"chunk_shapes of {name!r} are at most {len(own)} numbers above 0, and not {list(given)}")
    return (*given, *own[len(given) :])

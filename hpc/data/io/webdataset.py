"""Samples in tar archives: neighbouring members that share a name up to its first dot are one row."""

from __future__ import annotations

import fnmatch
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.block import build
from hpc.data.io import tar_index
from hpc.data.io.formats import Format
from hpc.data.io.grouping import Piece
from hpc.data.io.opened import OpenFile
from hpc.data.io.tar import members

#: A table has at most so many samples, and about so many bytes.
SAMPLES = 512
TABLE = 8 << 20
#: Set in the environment of the workers to let files be read that can run code.
UNPICKLE = "HPC_DATA_WEBDATASET_ALLOW_UNSAFE_DESERIALIZATION"
PARTS = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)")
TEXTS = ("txt", "text")
CLASSES = ("cls", "cls2")
IMAGES = ("jpg", "png", "ppm", "pgm", "pbm", "pnm")


@dataclass(frozen=True)
class WebDatasetFormat(Format):
    """``decoder``: True for the usual one, None for bytes, a function of a sample, or a list of such.

    ``fileselect`` keeps members by their names, ``suffixes`` by what follows the first dot: patterns or functions.
    ``filerename`` gives members other names. ``expand_json``: keys of the json of a sample become columns.
    """

    decoder: Any = True
    fileselect: Any = None
    filerename: Any = None
    suffixes: Any = None
    expand_json: bool = False

    name = "WebDataset"
    has_parts = True
    few_files = 16

    def tables(self, file: OpenFile, piece: Piece, columns: list[str] | None) -> Iterator[pa.Table]:
        rows: list[dict[str, Any]] = []
        size = 0
        is_whole = piece.first == 0 and piece.end is None
        with file.stream() if is_whole else file.random() as stream:
            if not is_whole:
                stream.seek(piece.first)
            for sample, nbytes in self.samples(members(stream, piece.first, piece.end), file.path):
                row = self.row(sample)
                rows.append(row)
                # Decoded images have many times the bytes that they have in the archive.
                size += max(nbytes, sum(one.nbytes for one in row.values() if isinstance(one, np.ndarray)))
                if len(rows) >= SAMPLES or size >= TABLE:
                    yield build.from_rows(rows)
                    rows, size = [], 0
        if rows:
            yield build.from_rows(rows)

    def parts(self, file: OpenFile) -> list[Piece] | None:
        return tar_index.parts(file, self.named, (self.fileselect, self.filerename, self.suffixes))

    def named(self, member: str) -> tuple[str, str, bool] | None:
        """The sample of a member, what it is there, and whether that is wanted; None where it is of none."""
        renamed = applied(self.filerename, member)
        found = PARTS.fullmatch(renamed) if matches(renamed, self.fileselect) else None
        return None if found is None else (found[1], found[2], matches(found[2], self.suffixes))

    def samples(self, files: Iterable[tuple[str, bytes]], path: str) -> Iterator[tuple[dict[str, Any], int]]:
        """The samples as bytes, with their sizes."""
        current: dict[str, Any] = {}
        size = 0
        seen: set[str] = set()
        for member, data in files:
            found = self.named(member)
            if found is None:
                continue
            key, suffix, is_wanted = found
            if not current or key != current["__key__"]:
                if len(current) > 1:
                    yield {**current, "__url__": path}, size
                if current:
                    seen.add(current["__key__"])
                if key in seen:
                    raise ValueError(f"the members of the sample {key!r} do not follow each other: sort them by name")
                current, size = {"__key__": key}, 0
            if suffix in current:
                raise ValueError(f"the member {f'{key}.{suffix}'!r} is there twice")
            if is_wanted:
                current[suffix] = data
                size += len(data)
        if len(current) > 1:
            yield {**current, "__url__": path}, size

    def row(self, sample: dict[str, Any]) -> dict[str, Any]:
        """A sample as a row, decoded."""
        key = sample["__key__"]
        try:
            if self.decoder is not None:
                sample = applied(self.decoder, sample, decoded)
        except Exception as error:
            raise ValueError(f"the sample {key!r} cannot be decoded: {error}") from error
        if self.expand_json:
            value = sample["json"]
            for name, cell in (json.loads(value) if isinstance(value, (bytes, str)) else value).items():
                sample.setdefault(name, cell)
        return {name: cell[0] if isinstance(cell, list) and len(cell) == 1 else cell for name, cell in sample.items()}


def applied(functions: Any, value: Any, usual: Callable[..., Any] | None = None) -> Any:
    """A value after some functions. What is no function is a way for the usual one: True, or "PIL"."""
    if functions is None:
        return value
    for function in functions if isinstance(functions, list) else [functions]:
        value = function(value) if callable(function) or usual is None else usual(value, function)
    return value


def matches(text: str, patterns: Any) -> bool:
    """Whether a name is wanted: by a function, or by patterns. A pattern with * or ? is one of file names."""
    if patterns is None:
        return True
    if callable(patterns):
        return bool(patterns(text))
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if "*" in pattern or "?" in pattern:
            if fnmatch.fnmatch(f".{text}", pattern) or fnmatch.fnmatch(text, pattern):
                return True
        elif pattern in (text, f".{text}"):
            return True
    return False


def decoded(sample: dict[str, Any], way: Any = True) -> dict[str, Any]:
    """A sample whose values are decoded by what their names end with."""
    return {name: value if name.startswith("__") else decode(name, value, way) for name, value in sample.items()}


def decode(name: str, value: Any, way: Any = True) -> Any:
    kind = name.rpartition(".")[2]
    if kind in TEXTS:
        return value.decode("utf-8")
    if kind in CLASSES:
        return int(value)
    if kind in IMAGES:
        from PIL import Image

        image = Image.open(io.BytesIO(value))
        return image if way == "PIL" else np.asarray(image)
    if kind == "json":
        return json.loads(value)
    if kind == "npy":
        return np.load(io.BytesIO(value), allow_pickle=False)
    if kind == "mp":
        import msgspec

        return msgspec.msgpack.decode(value)
    if kind in ("pt", "pth", "pickle", "pkl"):
        return unpickled(kind, name, value)
    return value


def unpickled(kind: str, name: str, value: bytes) -> Any:
    if os.environ.get(UNPICKLE) != "1":
        raise ValueError(f"{name!r} may run any code when it is read: give a decoder, or set {UNPICKLE}=1")
    if kind in ("pt", "pth"):
        import torch

        return torch.load(io.BytesIO(value), weights_only=False)
    import pickle

    return pickle.loads(value)


def encoded(sample: dict[str, Any], way: Any = True) -> dict[str, Any]:
    """A row whose values are bytes, by what the names of its columns end with."""
    return {name: value if name.startswith("__") else encode(name, value) for name, value in sample.items()}


def encode(name: str, value: Any) -> Any:
    kind = name.rpartition(".")[2]
    if value is None:
        return None
    stream = io.BytesIO()
    if kind in (*TEXTS, *CLASSES):
        return value if isinstance(value, bytes) else str(value).encode()
    if kind in (*IMAGES, "jpeg"):
        if isinstance(value, bytes):
            return value
        from PIL import Image

        image = Image.fromarray(np.asarray(value)) if isinstance(value, np.ndarray) else value
        image.save(stream, format={"jpg": "jpeg", "pgm": "ppm", "pbm": "ppm", "pnm": "ppm"}.get(kind, kind))
    elif kind == "json":
        return value if isinstance(value, bytes) else json.dumps(value).encode()
    elif kind == "npy":
        np.save(stream, value, allow_pickle=False)
    elif kind == "mp":
        import msgspec

        return msgspec.msgpack.encode(value)
    elif kind in ("pt", "pth"):
        import torch

        torch.save(value, stream)
    elif kind in ("pickle", "pkl"):
        import pickle

        pickle.dump(value, stream)
    else:
        return value
    return stream.getvalue()

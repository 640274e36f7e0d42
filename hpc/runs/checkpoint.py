"""A checkpoint: a directory with whatever the training function wrote into it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

METADATA_FILE = ".metadata.json"


class Checkpoint:
    """A reference to a directory. Whoever opens it must see the file system that it is on."""

    def __init__(self, path: str | os.PathLike[str], filesystem: Any = None) -> None:
        if filesystem is not None:
            raise NotImplementedError("Checkpoint(filesystem=...) is not supported yet: checkpoints are directories")
        self.path = os.path.abspath(os.fspath(path))

    @classmethod
    def from_directory(cls, path: str | os.PathLike[str]) -> Checkpoint:
        """The checkpoint that this directory is."""
        return cls(path)

    def to_directory(self, path: str | os.PathLike[str] | None = None) -> str:
        """Copy the checkpoint's files to ``path``, or to a new temporary directory; returns where they are."""
        target = os.fspath(path) if path is not None else tempfile.mkdtemp(prefix="checkpoint-")
        shutil.copytree(self.path, target, dirs_exist_ok=True)
        return target

    @contextmanager
    def as_directory(self) -> Iterator[str]:
        """The checkpoint's own directory, to read from: ``with checkpoint.as_directory() as path:``."""
        yield self.path

    def get_metadata(self) -> dict[str, Any]:
        """What set_metadata and update_metadata have stored with it."""
        try:
            with open(os.path.join(self.path, METADATA_FILE)) as file:
                data: dict[str, Any] = json.load(file)
        except FileNotFoundError:
            return {}
        return data

    def set_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Store these values with it, instead of those there are."""
        text = json.dumps(dict(metadata))
        temporary = os.path.join(self.path, f"{METADATA_FILE}.{os.getpid()}")
        with open(temporary, "w") as file:
            file.write(text)
        os.replace(temporary, os.path.join(self.path, METADATA_FILE))

    def update_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Add these values to those stored with it."""
        self.set_metadata({**self.get_metadata(), **metadata})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Checkpoint) and other.path == self.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __repr__(self) -> str:
        return f"Checkpoint({self.path!r})"

"""Paths as users write them (relative, with ~, as URIs, one or many) become absolute ones of one file system."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import pyarrow.fs as pafs

#: Schemes of Arrow's own file systems; all others go through fsspec.
ARROW_SCHEMES = ("s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss", "file")


def resolve(paths: Any, filesystem: Any = None) -> tuple[list[str], pafs.FileSystem | None]:
    """Absolute paths and their file system; None stands for files that the operating system opens.

    Raises ValueError for what is no path, for no path at all and for paths of several file systems.
    """
    texts = given(paths)
    if filesystem is not None:
        system = arrow_filesystem(filesystem)
        return [without_scheme(text) if system is not None else local(text) for text in texts], system
    schemes = {scheme(text) for text in texts}
    if len(schemes) > 1:
        raise ValueError(f"paths of one dataset are on one file system, but these have the schemes {sorted(schemes)}")
    (kind,) = schemes
    if kind in ("", "local", "file"):
        return [local(text) for text in texts], None
    if kind in ARROW_SCHEMES:
        systems = [pafs.FileSystem.from_uri(text) for text in texts[:1]]
        system = systems[0][0]
        return [systems[0][1], *(without_scheme(text) for text in texts[1:])], system
    try:
        import fsspec
    except ImportError:
        raise ImportError(f"paths with {kind}:// are read by fsspec: pip install fsspec") from None
    system = pafs.PyFileSystem(pafs.FSSpecHandler(fsspec.filesystem(kind)))
    keeps = kind in ("http", "https")
    return [text if keeps else without_scheme(text) for text in texts], system


def given(paths: Any) -> list[str]:
    """One path or many, as texts. Raises ValueError."""
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    if not isinstance(paths, Iterable):
        raise ValueError(f"paths are a path or a list of them, and not {type(paths).__name__}: {paths!r}")
    texts = []
    for path in paths:
        if not isinstance(path, (str, os.PathLike)):
            raise ValueError(f"a path is a str or a Path, and not {type(path).__name__}: {path!r}")
        texts.append(os.fspath(path))
    if not texts:
        raise ValueError("there must be at least one path")
    return texts


def is_local_scheme(paths: Any) -> bool:
    """Whether paths begin with ``local://``: only the driver's node has them. Raises ValueError if only some do."""
    found = {scheme(text) == "local" for text in given(paths)}
    if len(found) > 1:
        raise ValueError("either all paths begin with local:// or none does")
    return found.pop()


def scheme(text: str) -> str:
    head, separator, _ = text.partition("://")
    return head.lower() if separator and head.replace("+", "").isalnum() else ""


def without_scheme(text: str) -> str:
    return text.partition("://")[2] if scheme(text) else text


def local(text: str) -> str:
    """An absolute path without a trailing slash: tasks run in other folders than the driver."""
    return os.path.abspath(os.path.expanduser(without_scheme(text)))


def arrow_filesystem(filesystem: Any) -> pafs.FileSystem | None:
    """What the caller calls a file system (Arrow's, or fsspec's) as Arrow's; None for the local one."""
    if isinstance(filesystem, pafs.LocalFileSystem):
        return None
    if isinstance(filesystem, pafs.FileSystem):
        return filesystem
    if callable(getattr(filesystem, "open", None)) and callable(getattr(filesystem, "ls", None)):
        if getattr(filesystem, "protocol", None) in ("file", ("file", "local")):
            return None
        return pafs.PyFileSystem(pafs.FSSpecHandler(filesystem))
    raise TypeError(f"filesystem is one of pyarrow.fs or of fsspec, and not {type(filesystem).__name__}")

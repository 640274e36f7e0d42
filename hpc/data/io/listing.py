"""What files there are below some paths: names in sorted order, while later folders are still being read.

One ``scandir`` for each folder and no ``stat`` of a file: on a parallel file system each of these asks a server.
Folders are read ahead by threads. Names that begin with "." or "_" are left out, except for paths that are named
themselves.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow.fs as pafs

#: How many folders are read at a time, and how many may wait to be used.
THREADS = 16
AHEAD = 64


class Entry(NamedTuple):
    """A file that was found. ``size`` is None where the listing does not tell it."""

    path: str
    size: int | None = None


@dataclass(frozen=True)
class Listing:
    """The recipe of a listing; each iteration reads the folders again."""

    roots: tuple[str, ...]
    filesystem: pafs.FileSystem | None = None
    extensions: tuple[str, ...] | None = None
    ignore_missing: bool = False

    def __iter__(self) -> Iterator[Entry]:
        """The files, root by root and sorted by path in each. Raises FileNotFoundError for a root that is missing."""
        entries = self.remote() if self.filesystem is not None else self.local()
        if self.extensions is None:
            return entries
        endings = tuple(f".{ending.lower().lstrip('.')}" for ending in self.extensions)
        return (entry for entry in entries if entry.path.lower().endswith(endings))

    def local(self) -> Iterator[Entry]:
        with ThreadPoolExecutor(THREADS, "hpc-listing") as pool:
            kinds = of_roots(self.roots)
            for root in self.roots:
                kind = kinds(root)
                if kind is None:
                    if not self.ignore_missing:
                        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), root)
                elif kind == "file":
                    yield Entry(root)
                else:
                    yield from walk(root, pool)

    def remote(self) -> Iterator[Entry]:
        assert self.filesystem is not None
        for root in self.roots:
            info = self.filesystem.get_file_info(root)
            if info.type == pafs.FileType.NotFound:
                if not self.ignore_missing:
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), root)
            elif info.type != pafs.FileType.Directory:
                yield Entry(info.path, info.size)
            else:
                selector = pafs.FileSelector(info.path, recursive=True)
                files = [one for one in self.filesystem.get_file_info(selector) if one.type == pafs.FileType.File]
                base = len(info.path.rstrip("/")) + 1
                for one in sorted(files, key=lambda one: one.path):
                    if not any(hidden(part) for part in one.path[base:].split("/")):
                        yield Entry(one.path, one.size)


def hidden(name: str) -> bool:
    return name[0] in "._" if name else False


def of_roots(roots: tuple[str, ...]) -> Callable[[str], str | None]:
    """A function that says "file", "folder" or None of a root. Many roots of one folder cost one look at it."""
    if len(roots) < AHEAD:
        return kind_of
    known: dict[str, dict[str, bool]] = {}

    def kind(root: str) -> str | None:
        folder, name = os.path.split(root)
        if folder not in known:
            try:
                with os.scandir(folder) as entries:
                    known[folder] = {entry.name: entry.is_dir() for entry in entries}
            except OSError:
                known[folder] = {}
        is_folder = known[folder].get(name)
        return kind_of(root) if is_folder is None else "folder" if is_folder else "file"

    return kind


def kind_of(path: str) -> str | None:
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    return "folder" if (mode & 0o170000) == 0o040000 else "file"


def walk(root: str, pool: ThreadPoolExecutor) -> Iterator[Entry]:
    """The files below a folder, sorted by path: its next folders are read while earlier ones are used."""
    yield from inside(root, read_folder(root), pool)


def inside(folder: str, content: tuple[list[str], list[str]], pool: ThreadPoolExecutor) -> Iterator[Entry]:
    files, folders = content
    if not folders:
        for name in sorted(files):
            yield Entry(os.path.join(folder, name))
        return
    # A folder sorts as the paths below it do: with its slash.
    names = sorted([*files, *(f"{name}/" for name in folders)])
    coming = iter([name for name in names if name.endswith("/")])
    ahead: deque[Future[tuple[list[str], list[str]]]] = deque()
    for name in names:
        path = os.path.join(folder, name)
        if not name.endswith("/"):
            yield Entry(path)
            continue
        while len(ahead) < AHEAD and (following := next(coming, None)) is not None:
            ahead.append(pool.submit(read_folder, os.path.join(folder, following)))
        yield from inside(path[:-1], ahead.popleft().result(), pool)


def read_folder(folder: str) -> tuple[list[str], list[str]]:
    """The names of files and of folders in a folder. A link to a folder that holds this one is no folder."""
    files, folders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name[0] in "._":
                continue
            if not entry.is_dir():
                files.append(name)
            elif not entry.is_symlink() or not f"{os.path.realpath(folder)}/".startswith(
                f"{os.path.realpath(entry.path)}/"
            ):
                folders.append(name)
    return files, folders

"""A job's folder that is carried over the network, where the nodes share no file system: what both of its ends know.

The command that submitted the job has the folder itself (porter.py). A process on a node has another of the same
content, and sees to it that it stays so (carrier.py). Each file has one writer, is replaced as a whole, or only grows
(`LOGS`). So it is enough to compare when files were changed. What is in them is not looked into.
"""

from __future__ import annotations

import os
from pathlib import Path

#: Of a file: when it was written, in nanoseconds, and its size.
Version = tuple[int, int]

#: Files that only grow: their ends alone are carried.
OUTPUT, EVENTS = "driver.log", "events.jsonl"
LOGS = (OUTPUT, EVENTS)
#: The user's own files; the script runs there.
FILES = "files"
CHUNK_BYTES = 1 << 20


def scan(folder: Path) -> dict[str, Version]:
    """All files of a folder but the hidden ones, by their names in it (`files/a.py`)."""
    found: dict[str, Version] = {}
    for top, folders, names in os.walk(folder):
        inside = "" if top == str(folder) else f"{os.path.relpath(top, folder)}/"
        folders[:] = [name for name in folders if not name.startswith(".") or inside.startswith(FILES)]
        for name in names:
            if name.startswith(".") and not inside.startswith(FILES):
                continue
            version = version_of(Path(top, name))
            if version is not None:
                found[inside + name] = version
    return found


def version_of(path: Path) -> Version | None:
    """None where there is no such file (any more)."""
    try:
        facts = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return (facts.st_mtime_ns, facts.st_size) if os.path.isfile(path) else None


def within(folder: Path, name: str) -> Path:
    """The file of that name; ValueError for a name that leads out of the folder."""
    parts = name.split("/")
    if not name or any(part in ("", ".", "..") for part in parts) or "\0" in name:
        raise ValueError(f"not a name in a job's folder: {name!r}")
    return folder.joinpath(*parts)


class Writing:
    """A file that comes in pieces and is there once it is whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = path.parent / f".{path.name}.{os.getpid()}.part"

    def piece(self, offset: int, data: bytes, *, last: bool, mode: int) -> Version | None:
        """Write one piece; the file's version once it is whole."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(self.part, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | (os.O_TRUNC if offset == 0 else 0), 0o600)
        try:
            os.pwrite(fd, data, offset)
            if last:
                os.fchmod(fd, mode & 0o700)
        finally:
            os.close(fd)
        if not last:
            return None
        os.replace(self.part, self.path)
        return version_of(self.path)


def append(path: Path, offset: int, data: bytes) -> int:
    """Write where a file that only grows is to go on; how long it is then. What would leave a gap is not written."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        size = os.fstat(fd).st_size
        if offset > size:
            return size
        os.pwrite(fd, data, offset)
        return max(size, offset + len(data))
    finally:
        os.close(fd)


def forget(folder: Path, name: str) -> None:
    """Remove a file, and its folder if that was the last in it."""
    path = within(folder, name)
    path.unlink(missing_ok=True)
    if path.parent != folder and path.parent.is_dir() and not any(path.parent.iterdir()):
        path.parent.rmdir()

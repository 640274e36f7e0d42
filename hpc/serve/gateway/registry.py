"""The registry of a gateway: a folder on the file system that jobs and the gateway share, with a file for each job.

Each job replaces its own file in one step, so no lock is needed where a shared file system has none that works. The
folder and the files are the user's alone; a file of somebody else, or that others may write, is not read.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import tempfile
from pathlib import Path

import msgspec

from hpc.serve.gateway.backends import JobRow

logger = logging.getLogger("hpc.serve")
ENDING = ".job"
#: The file of the next job, which a gateway has submitted.
NEXT = "next.json"
#: A job that has told nothing for this long has no service any more, and its file is removed.
FORGET_S = 600.0
MOST_BYTES = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class RegistryError(Exception):
    """The registry cannot be used; the text says what to do."""


def registry_folder(name: str) -> Path:
    """The folder of a registry: ``name`` is a path if it has a slash, else one of ~/.hpc/serve. It is made if it is not
    there. Raises RegistryError unless it is the user's alone."""
    if "/" in name:
        folder = Path(name).expanduser()
    elif _NAME.fullmatch(name):
        folder = Path("~/.hpc/serve").expanduser() / name
    else:
        raise RegistryError(f"{name!r} is no name of a gateway: letters, digits, '-', '_' and '.', or a path")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.stat()
    except OSError as error:
        raise RegistryError(f"the registry {folder} cannot be made: {error.strerror}") from None
    if facts.st_uid != os.getuid() or stat.S_IMODE(facts.st_mode) & 0o077:
        raise RegistryError(f"the registry {folder} is open to others: chmod 700 it")
    return folder


def tell(folder: Path, row: JobRow) -> None:
    """Note a job, in one step. Raises OSError."""
    _write(folder, row.name + ENDING, row)


def _write(folder: Path, name: str, what: msgspec.Struct) -> None:
    fd, path = tempfile.mkstemp(prefix=".", dir=folder)
    try:
        with os.fdopen(fd, "wb") as file:  # mkstemp has made it 0600
            file.write(msgspec.json.encode(what))
        os.replace(path, folder / name)
    except BaseException:
        Path(path).unlink(missing_ok=True)
        raise


class Submitted(msgspec.Struct, frozen=True):
    """The next job, which was submitted and has not told of itself yet. ``ident``: as its command has said; ``known``:
    the jobs that there were before it."""

    ident: str
    known: list[str]
    at: float


def submitted(folder: Path) -> Submitted | None:
    """What `note_submitted` has noted last; None where there is nothing, or it cannot be read."""
    try:
        return msgspec.json.decode((folder / NEXT).read_bytes(), type=Submitted)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        logger.warning("%s is not read: %s", folder / NEXT, error)
        return None


def note_submitted(folder: Path, found: Submitted | None) -> None:
    """Have a gateway that is started again know of the next job; None: there is none that waits. Raises OSError."""
    if found is None:
        (folder / NEXT).unlink(missing_ok=True)
    else:
        _write(folder, NEXT, found)


def forget(folder: Path, name: str) -> None:
    """Remove a job. It may be gone already."""
    (folder / (name + ENDING)).unlink(missing_ok=True)


def told(folder: Path, now: float) -> list[JobRow]:
    """The jobs that are there; those that have told nothing for long are removed. Raises OSError."""
    rows = []
    for path in sorted(folder.glob(f"*{ENDING}")):
        row = _read(path)
        if row is not None and now - row.at > FORGET_S:
            forget(folder, row.name)
        elif row is not None:
            rows.append(row)
    return rows


def _read(path: Path) -> JobRow | None:
    """A job's file; None for one that is no such file, or that somebody else may have written."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as file:
            facts = os.fstat(fd)
            if facts.st_uid != os.getuid() or not stat.S_ISREG(facts.st_mode) or facts.st_mode & 0o022:
                logger.warning("%s is not read: others may have written it", path)
                return None
            row = msgspec.json.decode(file.read(MOST_BYTES), type=JobRow)
    except FileNotFoundError:
        return None  # it was removed just now
    except (OSError, msgspec.MsgspecError) as error:
        logger.warning("%s is not read: %s", path, error)
        return None
    return row if row.name + ENDING == path.name else None

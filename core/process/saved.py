"""States that outlive a job: values of the user's in files of one folder, by name, for the job that goes on.

A file has a line that describes it, then the pickled value. It is written beside, put on the disk, and renamed: who
reads finds the old one or the new one. The one before is kept, and counts where the newest cannot be read. The folder
is on a file system that all nodes share; a name is written by one process at a time.

Rejected: the head's key-value store (it ends with the session), one file for all (writers would wait for each other).
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from typing import Any

from hpc.core import serialization
from hpc.core.exceptions import HpcError, NoStateError

#: Longer names of files are shortened: file systems allow 255 bytes.
MAX_NAME_BYTES = 180
#: Namespaces that begin so are one driver's own, and another in the next job.
ANONYMOUS = "anonymous-"


def file_name(text: str) -> str:
    """A name for a file: readable, and another one for another text."""
    import hashlib  # few actors save anything
    from urllib.parse import quote

    name = quote(text, safe=" ()[]=,+") or "%"
    if len(name) > MAX_NAME_BYTES or name.startswith("."):
        name = f"{name[:MAX_NAME_BYTES].lstrip('.')}%{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return name


class SavedStates:
    """The states in a folder. ``group`` keeps those of actors apart from the script's: "actors/NAMESPACE", "script"."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def path(self, group: str, name: str) -> str:
        """Where a state is."""
        return os.path.join(self.folder, *map(file_name, group.split("/")), file_name(name))

    def save(self, group: str, name: str, value: Any) -> str:
        """Write a state; returns the file's path. NoStateError where that is impossible: what was there then stays."""
        packed = serialization.dumps(value, "the state")
        if packed.refs:
            raise NoStateError(
                f"the state {name!r} has references to objects in it, which end with the session: put their values "
                "into it (hpc.get)"
            )
        data = packed.to_bytes()
        head = json.dumps({"hpc_state": 1, "name": name, "bytes": len(data), "crc32": zlib.crc32(data)})
        path = self.path(group, name)
        beside = f"{path}.new"
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            with open(beside, "wb") as file:
                file.write(head.encode() + b"\n")
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileNotFoundError):
                os.replace(path, f"{path}.old")
            os.replace(beside, path)
        except OSError as error:
            raise NoStateError(f"the state {name!r} cannot be written: {error}") from None
        return path

    def load(self, group: str, name: str) -> tuple[bool, Any]:
        """Whether there is such a state, and it. NoStateError where neither of its versions can be read."""
        path = self.path(group, name)
        problems: list[str] = []
        for each in (path, f"{path}.old"):
            try:
                with open(each, "rb") as file:
                    return True, _unpack(file.readline(), file.read())
            except FileNotFoundError:
                continue
            except (OSError, ValueError, KeyError, TypeError, HpcError) as error:
                problems.append(f"{each}: {error}")
        if problems:
            raise NoStateError(f"the state {name!r} cannot be read: {'; '.join(problems)}")
        return False, None


def _unpack(head: bytes, data: bytes) -> Any:
    facts = json.loads(head)
    if facts["hpc_state"] != 1:
        raise ValueError(f"it was written by another version ({facts['hpc_state']})")
    if len(data) != facts["bytes"] or zlib.crc32(data) != facts["crc32"]:
        raise ValueError("it is damaged")
    return serialization.loads(data)


def states_in(folder: str) -> SavedStates:
    """The states of a session; NoStateError where it has no folder for them."""
    if not folder:
        raise NoStateError(
            "this session has no folder for saved states: --state-dir=DIR (HPC_STATE_DIR), on a file system that all "
            "nodes share"
        )
    return SavedStates(folder)


def actor_group(namespace: str) -> str:
    """Where the states of a namespace's actors are. A driver's own namespace has another name in each job."""
    return f"actors/{'' if namespace.startswith(ANONYMOUS) else namespace}"

"""The owner of a folder that is written with ``resume=True``: two writes would take
each other's files for rests.

The owner puts a file beside the ledger, and writes it anew every few seconds. A write that finds such a file of a
process of this machine knows at once whether that lives. Of other machines it waits for a sign of life: either that
comes, or the owner has ended. A user who knows better may remove it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import hpc
from hpc import spi

#: The owner writes its file anew this often, and has ended when that was not seen for so long.
BEAT_S, GONE_S = 5.0, 30.0
#: Whoever waits for a sign of life looks this often.
LOOK_S = 0.5
NAME = "owner"

logger = logging.getLogger("hpc.data")


def machine() -> str:
    """What tells the processes that see each other: the machine since it started, and its space of process numbers."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"


def began(pid: int) -> str:
    """When a process of this machine began, in ticks; "" if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()


class Ownership:
    """The right of this process to write to the folder of a ledger, from its ``with`` on and until that ends.

    Raises RuntimeError where another write has it, or has taken it meanwhile."""

    def __init__(self, ledger: Any) -> None:
        self._ledger = ledger
        pid = os.getpid()
        self._own: dict[str, Any] = {
            "write": uuid.uuid4().hex,
            "host": socket.gethostname(),
            "machine": machine(),
            "pid": pid,
            "began": began(pid),
            "session": spi.whoami().session if hpc.is_initialized() else "",
            "beat": 0,
        }
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="hpc-data-owner", daemon=True)

    def __enter__(self) -> Ownership:
        ledger = self._ledger
        ledger.folder.make(ledger.path)
        other = self._read()
        if other is not None and self._lives(other):
            raise RuntimeError(self._refusal(other))
        if other is not None:
            logger.warning(
                "the write of process %s on %s to %s has ended before its end: this one goes on",
                other["pid"], other["host"], ledger.folder.path,
            )  # fmt: skip
            self._remove(other)
        self._take()
        self._thread.start()
        return self

    def __exit__(self, kind: Any, *error: object) -> None:
        self._over.set()
        self._thread.join()
        if self._is_mine():
            with contextlib.suppress(FileNotFoundError):
                self._ledger.delete(NAME)
        elif kind is None:
            raise RuntimeError(
                f"another write has taken {self._ledger.folder.path} while this one wrote to it (its file "
                f"{self._ledger.path}/{NAME} was removed): write again with resume=True when all others have ended"
            )

    def _read(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._ledger.read(NAME)
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return found

    def _is_mine(self) -> bool:
        found = self._read()
        return found is not None and found["write"] == self._own["write"]

    def _remove(self, other: dict[str, Any]) -> None:
        """Remove the file of an owner that has ended, and not that of one which was quicker to take its place."""
        path = f"{self._ledger.path}/{NAME}"
        with contextlib.suppress(FileNotFoundError):
            if self._ledger.folder.filesystem is not None:
                self._ledger.delete(NAME)
                return
            aside = f"{path}-{self._own['write']}"
            os.rename(path, aside)
            if json.loads(Path(aside).read_text()) == other:
                os.unlink(aside)
            else:
                os.rename(aside, path)

    def _take(self) -> None:
        """Of two that come at the same time one has it: no file system gives a name twice; object stores tell the
        last one."""
        ledger = self._ledger
        if ledger.folder.filesystem is None:
            part = f"{ledger.path}/{NAME}-{self._own['write']}"
            Path(part).write_text(json.dumps(self._own))
            try:
                os.link(part, f"{ledger.path}/{NAME}")
            except FileExistsError:
                pass
            finally:
                os.unlink(part)
        else:
            ledger.put(NAME, self._own)
        if not self._is_mine():
            raise RuntimeError(self._refusal(self._read() or self._own))

    def _lives(self, other: dict[str, Any]) -> bool:
        """Whether the process of another owner lives: known at once on this machine, else by its signs of life."""
        if other["machine"] == self._own["machine"]:
            return began(other["pid"]) == other["began"]
        until = time.monotonic() + GONE_S
        while time.monotonic() < until:
            time.sleep(LOOK_S)
            now = self._read()
            if now is None:
                return False
            if now != other:
                return True
        return False

    def _refusal(self, other: dict[str, Any]) -> str:
        return (
            f"process {other['pid']} on {other['host']} (session {other['session']}) writes to "
            f"{self._ledger.folder.path} now: two writes with resume=True would remove each other's files. Wait until "
            f"it has ended. If you know that it has, remove {self._ledger.path}/{NAME}"
        )

    def _beat(self) -> None:
        while not self._over.wait(BEAT_S):
            with contextlib.suppress(OSError):  # the next one may get through
                if not self._is_mine():
                    return
                self._own["beat"] += 1
                self._ledger.put(NAME, self._own)

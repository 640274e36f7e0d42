"""The logs of workers that ended unexpectedly, kept in a job's folder: one archive, written once, when the job ends.

    <job folder>/logs.zip   index.json          why each ended; the nodes that died
                            worker-2.7.out/.err the end of what each wrote

The hpc-launch that runs the script asks the raylets that still live, just before the session ends. It is bounded in
bytes and in time, and nothing at all is written when nothing failed. Rejected: files written by each node as it happens
(thousands of small files on the shared file system, and raylets that wait for it).
"""

from __future__ import annotations

import json
import os
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = "logs.zip"
#: Bytes of logs in one archive, before compression, and of each file.
MAX_BYTES = 4 << 20
FILE_BYTES = 64 << 10
#: Workers that an archive tells of.
MAX_WORKERS = 1000
#: Asking the nodes and reading their logs may take so long.
COLLECT_S = 5.0
#: The same where the job's time is over, or the user cannot wait.
HURRY_S = 1.0


@dataclass
class Archive:
    """What was kept."""

    path: Path
    index: dict[str, Any]

    def text(self, worker: str, suffix: str) -> bytes:
        """The end of what a worker wrote; empty if it wrote nothing."""
        with zipfile.ZipFile(self.path) as packed:
            try:
                return packed.read(f"worker-{worker}.{suffix}")
            except KeyError:
                return b""


def read(folder: Path) -> Archive | None:
    """The archive of a job; None where there is none."""
    path = folder / NAME
    try:
        with zipfile.ZipFile(path) as packed:
            return Archive(path, json.loads(packed.read("index.json")))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None


def collect(node_dir: str, folder: Path, timeout_s: float = COLLECT_S) -> int:
    """Ask the session's nodes for workers that failed, and write the archive; returns how many there were.

    Raises what a session that does not answer, or a folder that cannot be written, leads to.
    """
    from hpc.core.owner.shell.client import Client
    from hpc.core.process.current import current
    from hpc.state import gather

    end_s = time.monotonic() + timeout_s
    before = current.client
    client = Client(node_dir, "driver", b"", spin_s=0.0)
    current.client = client
    try:
        client.start()
        found = gather.from_raylets("ended", timeout_s=timeout_s, head_s=timeout_s)
        failed = [row for row in found.rows if row["failed"]]
        dead = [row for row in gather.node_rows(timeout_s) if not row["alive"]]
        if failed or dead:
            _write(folder, sorted(failed, key=lambda row: row["end_time_ms"]), dead, end_s)
        return len(failed)
    finally:
        current.client = before
        client.close()


def _write(folder: Path, failed: list[dict[str, Any]], dead: list[dict[str, Any]], end_s: float) -> None:
    """The first to fail come first: those after them often follow from it."""
    scratch = folder / f".{NAME}.{os.getpid()}"
    kept, room = [], MAX_BYTES
    try:
        with zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED) as packed:
            for row in failed[:MAX_WORKERS]:
                left_s = end_s - time.monotonic()
                if room <= 0 or left_s <= 0:
                    break
                for suffix in ("err", "out"):
                    data = _end_of_log(row["worker_id"], suffix, min(FILE_BYTES, room), left_s)
                    room -= len(data)
                    if data:
                        packed.writestr(f"worker-{row['worker_id']}.{suffix}", data)
                kept.append(row)
            index = {
                "workers": kept,
                "left_out": len(failed) - len(kept),
                "nodes": [{name: row[name] for name in ("node", "host", "why")} for row in dead],
            }
            packed.writestr("index.json", json.dumps(index))
        os.replace(scratch, folder / NAME)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def _end_of_log(worker: str, suffix: str, size: int, timeout_s: float) -> bytes:
    from hpc.core.exceptions import GetTimeoutError
    from hpc.core.node.marks import without
    from hpc.state import gather, worker_logs

    at = gather.address(worker)
    try:
        piece = worker_logs.ask(at.node, f"worker-{at.proc}.{suffix}", -size, size, timeout_s)
    except (FileNotFoundError, GetTimeoutError):
        return b""
    cut = piece.data.find(b"\n") + 1 if piece.at > piece.first else 0
    return without(piece.data[cut:])

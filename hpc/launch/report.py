"""How a run stands, told in three places at once: the status line, status.json and events.jsonl of its folder.

A folder that can no longer be written (quota, a removed directory) never ends a run: it is said once.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from hpc.launch.jobdir import JobDir, birth
from hpc.launch.status_line import StatusLine, line

HEARTBEAT_S = 15.0


class Reporter:
    """Tells the state; `job` is None when there is no folder. output: the file that the job writes to, if any."""

    def __init__(self, status: StatusLine, job: JobDir | None, output: str = "") -> None:
        self.status = status
        self.job = job
        self._content: dict[str, Any] = {"host": socket.gethostname(), "pid": os.getpid(), "born": birth(os.getpid())}
        self._content |= {"log": output} if output else {}
        self._written_at = float("-inf")
        self._key = ""

    def state(self, state: str, *parts: str, key: str = "", show: bool = True, **fields: Any) -> None:
        """Tell the state; the file is written when `key` (or the state) changes, or as a sign of life."""
        text = line(state, *parts)
        now = time.monotonic()
        changed = f"{state} {key}" != self._key
        if changed or now - self._written_at > HEARTBEAT_S:
            self._key, self._written_at = f"{state} {key}", now
            self._content |= {"state": state, "text": text, "updated": round(time.time(), 1), **fields}
            self._save()
        if show:
            self.status.show(text, key=f"{state} {key}")

    def final(self, exit_code: int, *parts: str, show: bool = True, **fields: Any) -> None:
        """The end; nothing comes after it."""
        text = line("ended", *parts)
        self._content |= {
            "state": "ended",
            "text": text,
            "exit_code": exit_code,
            "updated": round(time.time(), 1),
            **fields,
        }
        self._save()
        self.event("ended", exit_code=exit_code)
        if show:
            self.status.final(text)

    def event(self, name: str, **fields: Any) -> None:
        if self.job is not None:
            try:
                self.job.event(name, **fields)
            except OSError as error:
                self._give_up(error)

    def _save(self) -> None:
        if self.job is not None:
            try:
                self.job.write("status.json", self._content)
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        path = self.job.path if self.job is not None else ""
        self.job = None
        self.status.note(f"hpc: the job's folder can no longer be written ({path}: {error.strerror}); the run goes on")

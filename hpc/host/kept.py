"""The folder of a session of `hpc start`, as each job of hpc-launch has one, and the recorder that fills it.

So `hpc ps` shows the session, and `hpc report` says how it ended and what it used. Where no folder can be made the
session runs without one, and its log says so.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from hpc.launch import jobdir
from hpc.launch.granted import granted
from hpc.launch.report import Reporter
from hpc.launch.status_line import StatusLine
from hpc.launchers.registry import Place
from hpc.launchers.session_nodes import SessionNode
from hpc.report.recorder import Recorder
from hpc.settings.errors import CliError

#: How a session of `hpc start` ends: somebody ended it, a signal did, or it was lost.
EndedBy = Literal["normal", "signal", "lost"]
CODES: dict[EndedBy, int] = {"normal": 0, "signal": 0, "lost": 1}


class Kept:
    """What stays of one session. ``base``: the folder of all jobs; "" for none."""

    def __init__(self, base: str, session: str, place: Place | None) -> None:
        self._base, self._session, self._place = base, session, place
        self._recorder = Recorder()
        self._reporter = Reporter(StatusLine(quiet=True), None)
        self._cause: EndedBy = "normal"

    def begin(self, node_dir: str, nodes: Sequence[SessionNode]) -> None:
        """The session is ready: make the folder, and fork the recorder."""
        if not self._base:
            return
        try:
            self._reporter.job = self._make()
        except (CliError, OSError) as error:
            print(f"no report is kept of this session: {error}", file=sys.stderr, flush=True)
            return
        self.stands(node_dir, nodes)
        self._recorder.begin(node_dir, self._reporter.job.path)

    def _make(self) -> jobdir.JobDir:
        base = jobdir.expand(self._base)
        jobdir.prune(base)
        job = jobdir.create(base, "HPC_JOB_DIR")
        alloc = self._place.alloc if self._place is not None else None
        facts = {
            "number": job.number, "name": f"session {self._session}", "kind": jobdir.SESSION,
            "scheduler": self._place.source.name if self._place is not None else "",
            "scheduler_id": alloc.job_id if alloc is not None else "", "script": None, "args": [], "cwd": os.getcwd(),
            "argv": [Path(sys.argv[0]).name, *sys.argv[1:]], "nodes": 1, "created": round(time.time(), 1),
            "host": socket.gethostname(), "log": "",
        }  # fmt: skip
        job.write("job.json", facts)
        return job

    def stands(self, node_dir: str, nodes: Sequence[SessionNode]) -> None:
        """Said again and again while it runs: which nodes it has."""
        if self._reporter.job is not None:
            words = granted(nodes)
            self._reporter.state(
                "running", words, key=words, show=False, nodes_ready=len(nodes), missing=[], node_dir=node_dir
            )

    def last_look(self, cause: EndedBy) -> None:
        """The session is about to end: see how it stands."""
        self._cause = cause
        self._recorder.last_look(cause != "normal")

    def end(self, why: str, lost: str) -> None:
        """It has ended; the page is written before this returns."""
        if self._reporter.job is None:
            return
        cause: EndedBy = "lost" if lost else self._cause
        text = lost or f"it was ended: {why}"
        self._recorder.end(cause, text, CODES[cause])
        self._reporter.final(CODES[cause], text, show=False, why=text, cause=cause)

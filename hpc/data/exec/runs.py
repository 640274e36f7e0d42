"""The runs that share the object stores of a session: those of this process, and of all others.

A run that has lasted a moment sets a key, and deletes it at its end. So each process knows how many there are. Keys
of processes that have died are deleted by whoever finds them.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable
from typing import Any

import hpc
from hpc import spi
from hpc.data.exec.crowded import PATIENCE_S, SOON_S, Crowded
from hpc.exceptions import HpcError
from hpc.util import state

SPACE, RUNS_KEYS = "hpc.data", "runs/"
#: The processes of other runs are looked for this often.
SWEEP_S = 30.0
#: The longest list of processes that can be had.
MOST_WORKERS = 10_000


class Runs:
    """The runs of a session that are not over. Each may use an equal part of what one alone may use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: weakref.WeakSet[Any] = weakref.WeakSet()
        self._session = ""
        self._watch: spi.Watch | None = None
        #: Keys of runs of other processes.
        self._others: set[str] = set()
        self._count = 0
        self._swept_at = 0.0
        #: The last run that has ended had its tasks share CPUs of others.
        self.crowded = False

    def begin(self, run: Any) -> Callable[[], float]:
        """A run begins. What tells its part, while it has not ended."""
        with self._lock:
            self._live.add(run)
        return self._share

    def _share(self) -> float:
        with self._lock:
            return 1.0 / max(1, sum(not run.ended for run in self._live) + len(self._others))

    def prepare(self, crowded: Crowded) -> None:
        """Tell a run that begins what is known of the CPUs: it may share those that this process has."""
        if spi.whoami().kind == "worker":
            crowded.most = max(1, int(hpc.get_runtime_context().get_assigned_resources().get("CPU", 0)))
        crowded.patience_s = SOON_S if self.crowded else PATIENCE_S

    def announce(self) -> str:
        """Tell other processes of a run. Returns its key."""
        me = spi.whoami()
        with self._lock:
            if self._session != me.session:
                self._session, self._watch, self._others = me.session, None, set()
            self._count += 1
            key = f"{RUNS_KEYS}{me.worker.hex()}/{self._count}"
            if self._watch is None:
                self._watch = spi.watch(SPACE, RUNS_KEYS, prefix=True)
        spi.kv_put(SPACE, key, b"1")
        return key

    def withdraw(self, key: str) -> None:
        """A run is over."""
        with contextlib.suppress(HpcError, OSError, RuntimeError):  # the session may be over too
            spi.kv_delete(SPACE, key)

    def look(self) -> bool:
        """Whether runs of other processes have begun or ended since the last look."""
        with self._lock:
            if self._watch is None:
                return False
            changes = self._watch.next(0)
            if not changes:
                return False
            mine = f"{RUNS_KEYS}{spi.whoami().worker.hex()}/"
            before = len(self._others)
            for change in changes:
                if change.value is None:
                    self._others.discard(change.key)
                elif not change.key.startswith(mine):
                    self._others.add(change.key)
            return len(self._others) != before

    def sweep(self, now: float) -> None:
        """Forget the runs of processes that have died, now and then. It does not wait."""
        with self._lock:
            if not self._others or now - self._swept_at < SWEEP_S:
                return
            self._swept_at = now
        threading.Thread(target=self._sweep, name="hpc-data-runs", daemon=True).start()

    def _sweep(self) -> None:
        spi.begin_none()
        with contextlib.suppress(HpcError, OSError, RuntimeError):
            there = {row["worker_id"] for row in state.list_workers([("is_alive", "=", True)], limit=MOST_WORKERS)}
            if len(there) == MOST_WORKERS:
                return  # there may be more
            for key in list(self._others):
                if key.split("/")[1] not in there:
                    spi.kv_delete(SPACE, key)


RUNS = Runs()

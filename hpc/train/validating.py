"""Validates checkpoints beside the training: a task for each, one after another, in the order of the reports."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import hpc
from hpc import spi
from hpc.exceptions import SessionLostError
from hpc.runs.checkpoint import Checkpoint
from hpc.runs.ranking import PENDING_VALIDATION, Stored
from hpc.runs.storage import RunStorage, say
from hpc.runs.validation import ReportedCheckpoint, ReportedCheckpointStatus, ValidationConfig

#: How long the wait for a validation lasts before its time limit is looked at.
LOOK_S = 1.0


class Validator:
    """The validations of one run. What is not done when a run ends early is done when it goes on."""

    def __init__(self, storage: RunStorage, config: ValidationConfig | None) -> None:
        self._storage = storage
        self._config = config
        self._queue: deque[Stored] = deque()
        self._running: tuple[Any, Stored, float] | None = None

    def open(self) -> None:
        """Take up what an earlier run of this name has left."""
        for stored in sorted(self._storage.ranking.kept, key=lambda one: one.manifest.number):
            if stored.manifest.status == PENDING_VALIDATION:
                if self._config is None:
                    say(f"{stored.manifest.name} is not validated any more: the trainer has no validation_config")
                    self._storage.change(stored, "COMMITTED", {})
                else:
                    self.add(stored)

    def add(self, stored: Stored) -> None:
        """Validate a checkpoint, if that was asked for."""
        if stored.manifest.validation is not None:
            self._queue.append(stored)
            self._start()

    @property
    def refs(self) -> list[Any]:
        """What is to be waited for."""
        return [self._running[0]] if self._running is not None else []

    @property
    def is_busy(self) -> bool:
        """Whether there is a checkpoint that is not validated yet."""
        return self._running is not None or bool(self._queue)

    def poll(self) -> None:
        """Take the result that is there, and start the next one."""
        if self._running is None:
            return
        ref, stored, deadline = self._running
        if hpc.wait([ref], timeout=0)[0]:
            self._running = None
            self._take(ref, stored)
        elif time.monotonic() >= deadline:
            self._running = None
            hpc.cancel(ref, force=True)
            say(f"the validation of {stored.manifest.name} took too long, and was given up")
            self._storage.change(stored, "VALIDATION_TIMEOUT", {})
        self._start()

    def finish(self) -> None:
        """Wait for all of them."""
        while self.is_busy:
            hpc.wait(self.refs, timeout=LOOK_S)
            self.poll()

    def close(self) -> None:
        """Do not go on: what is not validated is when the run goes on."""
        if self._running is not None:
            hpc.cancel(self._running[0], force=True)
        self._running = None
        self._queue.clear()

    def reported(self) -> list[ReportedCheckpoint]:
        """All checkpoints that are kept, best last; oldest first without a score."""
        return [
            ReportedCheckpoint(one.checkpoint, one.metrics, ReportedCheckpointStatus(one.manifest.status))
            for one in self._storage.ranking.kept
        ]

    def _start(self) -> None:
        if self._running is not None or not self._queue or self._config is None:
            return
        stored = self._queue.popleft()
        task = stored.manifest.validation or {}
        limit = task.get("timeout_s")
        made: Any = hpc.remote(_validate)
        if self._config.ray_remote_kwargs:
            made = made.options(**self._config.ray_remote_kwargs)
        ref = made.remote(self._config.fn, stored.checkpoint, task.get("kwargs") or {})
        self._running = (ref, stored, time.monotonic() + limit if limit is not None else float("inf"))

    def _take(self, ref: Any, stored: Stored) -> None:
        try:
            metrics = hpc.get(ref)
        except SessionLostError:
            raise
        except Exception as error:
            say(f"the validation of {stored.manifest.name} failed: {spi.said(error)}")
            self._storage.change(stored, "VALIDATION_FAILED", {})
            return
        self._storage.change(stored, "VALIDATED", metrics)


def _validate(function: Callable[..., Any], checkpoint: Checkpoint, kwargs: dict[str, Any]) -> dict[str, Any]:
    metrics = function(checkpoint, **kwargs)
    if not isinstance(metrics, dict):
        raise TypeError(f"a validation function must return a dict of metrics, not {type(metrics).__name__}")
    return metrics

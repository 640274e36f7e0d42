"""The keys that each result has without being told: iteration, times, and where it comes from."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from numbers import Real
from typing import Any


class AutoKeys:
    """Counts the results of one trial in this process. Times are seconds.

    ``node_ip``, ``config`` and ``experiment_tag`` are added by the driver: they need not travel with each result.
    """

    def __init__(self, trial_id: str) -> None:
        self.iteration = 0
        self.time_total_s = 0.0
        self.timesteps_total: int | None = None
        self.episodes_total: int | None = None
        self._since_restore_s = 0.0
        self._iterations_since_restore = 0
        self._timesteps_since_restore = 0
        self._second, self._date = 0, ""
        self._where = {"pid": os.getpid(), "hostname": platform.node()}
        self._trial_id = trial_id

    def restored(self, metrics: Mapping[str, Any]) -> None:
        """The trial goes on from the checkpoint of this result."""
        self.iteration = int(metrics.get("training_iteration") or 0)
        self.time_total_s = float(metrics.get("time_total_s") or 0.0)
        self.timesteps_total = metrics.get("timesteps_total")
        self.episodes_total = metrics.get("episodes_total")
        self._since_restore_s = 0.0
        self._iterations_since_restore = self._timesteps_since_restore = 0

    def fill(self, given: Mapping[str, Any], took_s: float) -> dict[str, Any]:
        """The result with all keys. took_s: since the last one; a program may say otherwise by time_this_iter_s."""
        result = dict(given)
        self.iteration += 1
        self._iterations_since_restore += 1
        told = result.get("time_this_iter_s")
        took_s = took_s if told is None else told
        self.time_total_s += took_s
        self._since_restore_s += took_s
        self._count_steps(result)
        now = int(time.time())
        stamp = result.get("timestamp")
        result.setdefault("done", False)
        told = result.setdefault("training_iteration", self.iteration)
        if type(told) is not int and not isinstance(told, Real):
            raise TypeError(f"training_iteration is counted, or reported as a number: not as {told!r:.60}")
        result["trial_id"] = self._trial_id
        result["date"] = self._date_of(now)
        result["timestamp"] = stamp or now
        result["time_this_iter_s"] = took_s
        result["time_total_s"] = self.time_total_s
        result.update(self._where)
        result["time_since_restore"] = self._since_restore_s
        result["iterations_since_restore"] = self._iterations_since_restore
        if self._timesteps_since_restore:
            result["timesteps_since_restore"] = self._timesteps_since_restore
        return result

    def _count_steps(self, result: dict[str, Any]) -> None:
        """Totals of what a program counts by itself."""
        steps, episodes = result.get("timesteps_this_iter"), result.get("episodes_this_iter")
        if steps is not None:
            self.timesteps_total = (self.timesteps_total or 0) + steps
            self._timesteps_since_restore += steps
        if episodes is not None:
            self.episodes_total = (self.episodes_total or 0) + episodes
        if self.timesteps_total is not None:
            result.setdefault("timesteps_total", self.timesteps_total)
        if self.episodes_total is not None:
            result.setdefault("episodes_total", self.episodes_total)

    def _date_of(self, now: int) -> str:
        if now != self._second:
            self._second, self._date = now, time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(now))
        return self._date


def check_metrics(value: Any, where: str = "metrics") -> None:
    """Raise ValueError for tensors, which would drag their library, and their device, into the driver."""
    if isinstance(value, dict):
        for key, one in value.items():
            kind = type(one)
            if kind is not float and kind is not int and kind is not str:
                check_metrics(one, f"{where}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for index, one in enumerate(value):
            check_metrics(one, f"{where}[{index}]")
    elif type(value).__module__.split(".")[0] == "torch":
        raise ValueError(f"{where} is a {type(value).__name__}: report numbers, as value.item() gives them")

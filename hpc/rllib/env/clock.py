"""Where a runner's time goes: seconds of a call of each of its parts."""

from __future__ import annotations

import time

from hpc.rllib.utils.metrics import ENV_STEP_TIMER, RLMODULE_INFERENCE_TIMER, TIME_BETWEEN_SAMPLING


class Clock:
    """Sums seconds and calls between two samples."""

    def __init__(self) -> None:
        self._acting = self._stepping = 0.0
        self._rows = 0
        self._last = self._returned = 0.0

    def start(self) -> None:
        """A row begins."""
        self._last = time.perf_counter()

    def acted(self) -> None:
        """The module's actions are there."""
        now = time.perf_counter()
        self._acting += now - self._last
        self._last = now

    def stepped(self) -> None:
        """The environments have stepped."""
        now = time.perf_counter()
        self._stepping += now - self._last
        self._last = now
        self._rows += 1

    def take(self, begin: float) -> dict[str, float]:
        """Seconds a call since the last sample, which ``begin`` follows."""
        rows = max(self._rows, 1)
        out = {RLMODULE_INFERENCE_TIMER: self._acting / rows, ENV_STEP_TIMER: self._stepping / rows}
        if self._returned:
            out[TIME_BETWEEN_SAMPLING] = begin - self._returned
        self._acting = self._stepping = 0.0
        self._rows = 0
        self._returned = time.perf_counter()
        return out

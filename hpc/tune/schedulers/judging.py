"""What schedulers that judge trials by a metric share: its name, its direction, and a random generator of their own."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from typing import Any

import numpy as np

from hpc.tune.result import DEFAULT_METRIC
from hpc.tune.schedulers.trial_scheduler import FIFOScheduler
from hpc.tune.trial import Controller, Trial


def own_generator() -> random.Random:
    """A generator of one's own. `random.seed` and `numpy.random.seed` before it is made set what it gives."""
    return random.Random(random.getrandbits(64) << 32 | int(np.random.randint(2**32, dtype=np.uint32)))


def need_mode(mode: str | None) -> None:
    """AssertionError, as with Ray, for anything but "min", "max" and None."""
    if mode and mode not in ("min", "max"):
        raise AssertionError(f'mode must be "min" or "max", not {mode!r}')


def need(fits: bool, message: str) -> None:
    """AssertionError, as with Ray, for an argument that does not fit."""
    if not fits:
        raise AssertionError(message)


class JudgingScheduler(FIFOScheduler):
    """A scheduler that compares trials by one metric, the larger the better once it is multiplied by `_metric_op`.

    kept: the attributes that are its state.
    """

    kept: tuple[str, ...] = ()

    def __init__(self, metric: str | None, mode: str | None) -> None:
        super().__init__()
        need_mode(mode)
        self._metric = metric
        self._mode = mode

    @property
    def _metric_op(self) -> float | None:
        return {"max": 1.0, "min": -1.0}.get(self._mode or "")

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Take the metric and the mode of the whole experiment. False: this scheduler has one of its own already."""
        if (self._metric and metric) or (self._mode and mode):
            return False
        need_mode(mode)
        self._metric = metric or self._metric
        self._mode = mode or self._mode
        if self._mode:
            self._metric = self._metric or DEFAULT_METRIC
        return True

    def on_trial_add(self, controller: Controller, trial: Trial) -> None:
        """Take in a new trial. ValueError without a metric and a mode."""
        if not self._metric or not self._metric_op:
            raise ValueError(
                f"{type(self).__name__} needs a metric and a mode, and has metric={self._metric!r}, "
                f"mode={self._mode!r}: give them to it, or to tune.TuneConfig()"
            )

    def state(self) -> dict[str, Any]:
        """What this scheduler has seen: plain dicts and lists, trials by their ids."""
        own: dict[str, Any] = pickle.loads(pickle.dumps({name: getattr(self, name) for name in self.kept}))
        return own

    def load(self, state: dict[str, Any], get_trial: Callable[[str], Trial | None] | None = None) -> None:
        """Go on from a `state()`."""
        for name in self.kept:
            if name in state:
                setattr(self, name, state[name])

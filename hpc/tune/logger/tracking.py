"""The base of loggers that speak to another program's service: in one thread, so that a slow one holds up no trial."""

from __future__ import annotations

import contextlib
import importlib
import logging
import queue
import sys
import threading
from collections.abc import Callable
from numbers import Number
from typing import TYPE_CHECKING, Any, NamedTuple

from hpc.tune.flat import flatten_dict
from hpc.tune.logger.logger import LoggerCallback
from hpc.tune.result import TIME_TOTAL_S, TIMESTEPS_TOTAL, TRAINING_ITERATION
from hpc.tune.values import as_number

if TYPE_CHECKING:
    from hpc.tune.trial import Trial

logger = logging.getLogger(__name__)

#: How long the end of an experiment waits for what has not been sent yet.
SEND_S = 1800.0
#: What is no curve.
NO_CURVES = ("config", "pid", "timestamp", TIME_TOTAL_S, TRAINING_ITERATION)


def need(package: str, install: str, what: str) -> Any:
    """The package. Raises ImportError that says how to get it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"{what} needs the package {package}: pip install {install} ({error})", name=package
        ) from error


class Here(NamedTuple):
    """The trial that this process runs, or the rank of a training run within it; None outside of trials."""

    experiment: str | None
    trial_name: str | None
    trial_id: str | None
    rank: int


def where_am_i() -> Here:
    """What this process runs."""
    from hpc.tune.context import get_context

    context, rank = get_context(), 0
    loop = sys.modules.get("hpc.train.loop")
    if loop is not None:
        with contextlib.suppress(RuntimeError):  # it is no rank
            rank = loop.get_context().get_world_rank()
    return Here(context.get_experiment_name(), context.get_trial_name(), context.get_trial_id(), rank)


class Nothing:
    """Stands for the library of a service in a process that is to send nothing: whatever is called does nothing."""

    def __getattr__(self, name: str) -> Nothing:
        return Nothing()

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        return None


def experiment_of(trial: Trial) -> str:
    """The name of the experiment's directory."""
    return (trial.path or "").rstrip("/").rpartition("/")[0].rpartition("/")[2]


def step_of(result: dict[str, Any]) -> int:
    """What curves are drawn over."""
    return int(result.get(TIMESTEPS_TOTAL) or result[TRAINING_ITERATION])


def numbers_of(result: dict[str, Any]) -> dict[str, float]:
    """The numbers of a result, flat."""
    flat = flatten_dict({key: value for key, value in result.items() if key not in NO_CURVES})
    return {key: as_number(value) for key, value in flat.items() if isinstance(value, Number)}


class TrackingCallback(LoggerCallback):
    """Calls of a service's library, one after the other in one thread. One that fails is told, and the next follows.

    send_timeout_s: how long the end of the experiment waits for them.
    """

    def __init__(self, send_timeout_s: float = SEND_S) -> None:
        self._send_timeout_s = send_timeout_s
        self._calls: queue.SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._failed: set[str] = set()

    def _later(self, call: Callable[..., Any], *arguments: Any) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=type(self).__name__, daemon=True)
            self._thread.start()
        self._calls.put((call, arguments))

    def _work(self) -> None:
        while (given := self._calls.get()) is not None:
            call, arguments = given
            try:
                call(*arguments)
            except Exception as error:
                what = f"{call.__name__}: {type(error).__name__}"
                level = logging.DEBUG if what in self._failed else logging.WARNING
                self._failed.add(what)
                logger.log(level, "%s.%s failed; the experiment goes on: %s", type(self).__name__, call.__name__, error)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        self.close()

    def close(self) -> None:
        """Wait until all is sent."""
        if self._thread is not None:
            self._calls.put(None)
            self._thread.join(self._send_timeout_s)
            if self._thread.is_alive():
                logger.warning("%s has not sent all within %g s", type(self).__name__, self._send_timeout_s)
            self._thread = None

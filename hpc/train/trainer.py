"""The base of all trainers: a training function, its configuration, and ``fit``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hpc
from hpc.runs.callbacks import UserCallback
from hpc.runs.config import RunConfig
from hpc.runs.result import Result
from hpc.train.config import ScalingConfig
from hpc.train.controller import Backend, Controller
from hpc.train.loop import parameter_count, state
from hpc.train.progress import Progress


class DataParallelTrainer:
    """Runs the same function on every rank."""

    def __init__(
        self,
        train_loop_per_worker: Callable[..., Any],
        *,
        train_loop_config: dict[str, Any] | None = None,
        scaling_config: ScalingConfig | None = None,
        run_config: RunConfig | None = None,
        datasets: dict[str, Any] | None = None,
        dataset_config: Any = None,
        validation_config: Any = None,
    ) -> None:
        kind = type(self).__name__
        if not callable(train_loop_per_worker):
            raise TypeError(f"{kind} takes a function, not {type(train_loop_per_worker).__name__}")
        count = parameter_count(train_loop_per_worker)
        if count > 1:
            raise ValueError(f"the training function takes one argument (its configuration) or none, not {count}")
        if train_loop_config is not None and count == 0:
            raise ValueError("train_loop_config was given, but the training function takes no argument")
        if train_loop_config is not None and not isinstance(train_loop_config, dict):
            raise TypeError(f"train_loop_config must be a dict, not {type(train_loop_config).__name__}")
        for name, value in (("datasets", datasets), ("dataset_config", dataset_config)):
            if value is not None:
                raise NotImplementedError(f"{kind}({name}=...) is not supported yet: there is no hpc.data")
        if validation_config is not None:
            raise NotImplementedError(f"{kind}(validation_config=...) is not supported yet")
        self.train_loop_per_worker = train_loop_per_worker
        self.train_loop_config = train_loop_config
        self.scaling_config = _of(ScalingConfig, "scaling_config", scaling_config)
        self.run_config = _of(RunConfig, "run_config", run_config)

    def backend(self) -> Backend:
        """What makes one group of the workers."""
        raise NotImplementedError

    def fit(self, *, progress: Progress | bool | None = None) -> Result:
        """Train; returns when all ranks have returned.

        progress: True, or a Progress that knows how many steps there are, shows on the driver's terminal what is
        reported. Raises TrainingFailedError when a rank fails more often than FailureConfig allows. Ctrl-C ends the
        workers.
        """
        if state.loop is not None:
            raise RuntimeError("fit() was called in a training function")
        if progress is not None and not isinstance(progress, (bool, Progress)):
            raise TypeError(f"progress must be a bool or a Progress, not {type(progress).__name__}")
        shown = Progress() if progress is True else progress or None
        hpc.get_runtime_context()  # connects, where there is no session yet
        watchers: list[UserCallback] = [shown] if shown else []
        controller = Controller(
            self.train_loop_per_worker,
            self.train_loop_config,
            self.scaling_config,
            self.run_config,
            self.backend(),
            watchers,
        )
        if shown is None:
            return controller.run()
        shown.start()
        try:
            return controller.run()
        finally:
            shown.stop()


def _of(kind: type[Any], name: str, value: Any) -> Any:
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, not {type(value).__name__}")
    return value

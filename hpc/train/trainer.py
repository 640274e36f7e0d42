"""The base of all trainers: a training function, its configuration, and ``fit``."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from typing import Any

import hpc
from hpc.runs.callbacks import UserCallback
from hpc.runs.config import RunConfig
from hpc.runs.result import Result
from hpc.runs.validation import ValidationConfig
from hpc.train.backend import BackendConfig, Hooks
from hpc.train.config import ScalingConfig
from hpc.train.controller import Backend, Controller
from hpc.train.loop import Work, parameter_counts, state, within
from hpc.train.progress import Progress
from hpc.train.shards import DataConfig, check_dataset, is_streamed


class DataParallelTrainer:
    """Runs the same function on every rank. The base of all trainers, and complete by itself: without a
    ``backend_config`` the ranks share nothing that they do not make themselves, as with `hpc.collective`.
    """

    def __init__(
        self,
        train_loop_per_worker: Callable[..., Any],
        *,
        train_loop_config: dict[str, Any] | None = None,
        backend_config: BackendConfig | None = None,
        scaling_config: ScalingConfig | None = None,
        run_config: RunConfig | None = None,
        datasets: dict[str, Any] | None = None,
        dataset_config: Any = None,
        validation_config: Any = None,
    ) -> None:
        kind = type(self).__name__
        if not callable(train_loop_per_worker):
            raise TypeError(f"{kind} takes a function, not {type(train_loop_per_worker).__name__}")
        _check_kind(train_loop_per_worker)
        required, most = parameter_counts(train_loop_per_worker)
        if required > 1:
            raise ValueError(f"the training function takes one argument (its configuration) or none, not {required}")
        if train_loop_config is not None and most == 0:
            raise ValueError("train_loop_config was given, but the training function takes no argument")
        if train_loop_config is not None and not isinstance(train_loop_config, dict):
            raise TypeError(f"train_loop_config must be a dict, not {type(train_loop_config).__name__}")
        self.datasets = _checked(datasets)
        config = _of(DataConfig, "dataset_config", dataset_config)
        self.split = config.split(list(self.datasets))
        is_divided = type(config).configure is not DataConfig.configure or any(map(is_streamed, self.datasets.values()))
        self.own_data_config = config if is_divided else None
        if validation_config is not None:
            _of(ValidationConfig, "validation_config", validation_config)
        self.validation_config = validation_config
        self.backend_config = _of(BackendConfig, "backend_config", backend_config)
        self.train_loop_per_worker = train_loop_per_worker
        self.train_loop_config = train_loop_config
        self.scaling_config = _of(ScalingConfig, "scaling_config", scaling_config)
        self.run_config = _of(RunConfig, "run_config", run_config)

    def _work(self) -> Work:
        return Work(
            within(self.backend_config.train_func_context, self.train_loop_per_worker),
            self.train_loop_config,
            {name: _put(name, data) for name, data in self.datasets.items()},
            self.split,
            self.validation_config,
            self.own_data_config,
        )

    def backend(self) -> Backend:
        """What makes one group of the workers."""
        return Hooks(self.backend_config)

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
            self._work(),
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


def _check_kind(function: Callable[..., Any]) -> None:
    """Raises TypeError for functions of which a call does nothing yet."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError("the training function is an async one: give one that calls asyncio.run(...)")
    if inspect.isgeneratorfunction(function):
        raise TypeError("the training function is a generator, which a call does not run: use report(), and no yield")


def _checked(datasets: Any) -> dict[str, Any]:
    """The datasets by name. What is in the object store already is looked at by the ranks."""
    if datasets is None:
        return {}
    if not isinstance(datasets, dict):
        raise TypeError(f"datasets must be a dict of datasets by name, not {type(datasets).__name__}")
    for name, data in datasets.items():
        if not isinstance(data, hpc.ObjectRef):
            check_dataset(name, data)
    return dict(datasets)


def _put(name: str, data: Any) -> Any:
    if isinstance(data, hpc.ObjectRef):
        return data
    try:
        return hpc.put(data)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise TypeError(f"datasets[{name!r}] cannot be sent to the ranks: {error}") from error


def _of(kind: type[Any], name: str, value: Any) -> Any:
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, not {type(value).__name__}")
    return value

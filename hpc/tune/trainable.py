"""Trainables: classes with a step, as users write them, and functions that report.

Each trial's process imports this, so it imports little.
"""

from __future__ import annotations

import copy
import inspect
import os
import time
from collections.abc import Callable
from numbers import Number
from typing import TYPE_CHECKING, Any, NamedTuple

import cloudpickle

from hpc.tune.autokeys import AutoKeys
from hpc.tune.context import report, state
from hpc.tune.placement import PlacementGroupFactory
from hpc.tune.rendezvous import Ended, Rendezvous, Report
from hpc.tune.result import DEFAULT_METRIC

if TYPE_CHECKING:
    from hpc.runs.checkpoint import Checkpoint

#: A checkpoint that save_checkpoint has returned as a dict is in a file of this name.
DICT_FILE = "_dict_checkpoint.pkl"


class Saving(NamedTuple):
    """What `Trainable.save` returns: the checkpoint, and the result that was the last one then."""

    checkpoint: Checkpoint
    metrics: dict[str, Any]


class Trainable:
    """The base of trainables that are classes. Derive from it; define setup, step, save_checkpoint, load_checkpoint.

    The other methods are called by the trial's process. A trainable can be made and driven by hand, too: its files are
    in a new directory then.
    """

    def __init__(self, config: dict[str, Any] | None = None, storage: Any = None) -> None:
        session = state.session
        self.config: dict[str, Any] = config or {}
        self._session = session
        self._logdir = session.working if session is not None else ""
        self._keys = AutoKeys(self.trial_id)
        self._last_result: dict[str, Any] | None = None
        self.setup(copy.deepcopy(self.config))

    # what users define

    def setup(self, config: dict[str, Any]) -> None:
        """Begin with this configuration. With `hpc.tune.with_parameters` it takes the objects by their names, too."""

    def step(self) -> dict[str, Any]:
        """One iteration; its result. ``{"done": True}`` in it ends the trial, "should_checkpoint" has it save."""
        raise NotImplementedError(f"{type(self).__name__} needs a method step")

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any] | None:
        """Write the state into this directory, or return it as a dict."""
        raise NotImplementedError(f"{type(self).__name__} needs a method save_checkpoint")

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Take up the state: of the directory, or of the dict, that save_checkpoint has made."""
        raise NotImplementedError(f"{type(self).__name__} needs a method load_checkpoint")

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin anew with this configuration, in the same process; whether that can be done."""
        return False

    def cleanup(self) -> None:
        """Called once when the trial ends."""

    def log_result(self, result: dict[str, Any]) -> None:
        """Called with each result, in the trial's process."""

    def _export_model(self, export_formats: list[str], export_dir: str) -> dict[str, str]:
        return {}

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> PlacementGroupFactory | None:
        """The room of a trial with this configuration; None: one CPU."""
        return None

    @classmethod
    def resource_help(cls, config: dict[str, Any]) -> str:
        """What to change for other resources, for people."""
        return ""

    # what drives them

    def train(self) -> dict[str, Any]:
        """Call step; its result with the keys that each result has. Raises TypeError if it is no dict."""
        began = time.monotonic()
        result = self.step()
        if not isinstance(result, dict):
            raise TypeError(f"{type(self).__name__}.step() must return a dict, not {type(result).__name__}")
        filled = self._keys.fill(result, time.monotonic() - began)
        self.log_result(filled)
        self._last_result = filled
        return filled

    def train_buffered(self, buffer_time_s: float, max_buffer_length: int = 1000) -> list[dict[str, Any]]:
        """Call train again and again for so many seconds; at least once, and until it is done or is to be saved."""
        until = time.monotonic() + buffer_time_s
        results = [self.train()]
        while time.monotonic() < until and len(results) < max_buffer_length:
            if results[-1].get("done") or results[-1].get("should_checkpoint"):
                break
            results.append(self.train())
        return results

    def save(self, checkpoint_dir: str | None = None) -> Saving:
        """Save to this directory, or to a new temporary one.

        Raises TypeError or ValueError where save_checkpoint returns anything but None, a dict, or the directory.
        """
        from hpc.runs.checkpoint import Checkpoint

        path = checkpoint_dir or new_directory("checkpoint-")
        os.makedirs(path, exist_ok=True)
        made = self.save_checkpoint(path)
        if isinstance(made, dict):
            with open(os.path.join(path, DICT_FILE), "wb") as file:
                cloudpickle.dump(made, file)
        elif isinstance(made, str) and os.path.abspath(made) != os.path.abspath(path):
            raise ValueError(f"save_checkpoint must write into {path}, and has returned {made}")
        elif made is not None and not isinstance(made, str):
            raise TypeError(f"save_checkpoint must return None or a dict, not {type(made).__name__}")
        return Saving(Checkpoint(path), dict(self._last_result or {}))

    def restore(self, checkpoint_path: Any) -> None:
        """Go on from a checkpoint: a path, a Checkpoint, or what `save` has returned.

        Raises ValueError where there is no such checkpoint.
        """
        from hpc.runs.checkpoint import Checkpoint

        metrics: dict[str, Any] = {}
        if isinstance(checkpoint_path, Saving):
            checkpoint_path, metrics = checkpoint_path
        if not isinstance(checkpoint_path, Checkpoint):
            checkpoint_path = Checkpoint(checkpoint_path)
        try:
            with checkpoint_path.as_directory() as path:
                self._keys.restored(metrics)
                stored = os.path.join(path, DICT_FILE)
                if os.path.exists(stored):
                    with open(stored, "rb") as file:
                        self.load_checkpoint(cloudpickle.load(file))
                else:
                    self.load_checkpoint(path)
        except FileNotFoundError as error:
            if os.path.isdir(checkpoint_path.path):
                raise
            raise ValueError(f"the checkpoint {checkpoint_path.path} is not there any more: {error}") from error

    def reset(self, new_config: dict[str, Any], storage: Any = None) -> bool:
        """Become another trial with this configuration; whether reset_config can do that."""
        self._session = state.session
        self._logdir = state.session.working if state.session is not None else self._logdir
        self.config = new_config
        if not self.reset_config(new_config):
            return False
        self._keys = AutoKeys(self.trial_id)
        self._last_result = None
        return True

    def export_model(self, export_formats: list[str] | str, export_dir: str | None = None) -> dict[str, str]:
        """Export the model in these formats, by ``_export_model``; where each is."""
        formats = [export_formats] if isinstance(export_formats, str) else export_formats
        return self._export_model(formats, export_dir or self.logdir)

    def stop(self) -> None:
        """End: calls cleanup."""
        self.cleanup()

    def get_config(self) -> dict[str, Any]:
        """The configuration."""
        return self.config

    @property
    def logdir(self) -> str:
        """The directory of this trial's own files."""
        if not self._logdir:
            self._logdir = new_directory("trainable-")
        return self._logdir

    @property
    def iteration(self) -> int:
        """How many iterations there were."""
        return self._keys.iteration

    @property
    def training_iteration(self) -> int:
        """How many iterations there were."""
        return self._keys.iteration

    @property
    def trial_id(self) -> str:
        """The trial's id; "default" outside of an experiment."""
        return self._session.trial_id if self._session is not None else "default"

    @property
    def trial_name(self) -> str:
        """The trial's name; "default" outside of an experiment."""
        return self._session.trial_name if self._session is not None else "default"

    @property
    def trial_resources(self) -> PlacementGroupFactory | None:
        """The trial's resources; None outside of an experiment."""
        return self._session.resources if self._session is not None else None


class FunctionTrainable(Trainable):
    """A function as a class: see `wrap_function`. In an experiment the trial's process runs the function directly."""

    _run: Rendezvous | None = None

    @staticmethod
    def function(config: dict[str, Any]) -> Any:
        """The user's function."""
        raise NotImplementedError

    def step(self) -> dict[str, Any]:
        """Have the function go on to its next report."""
        if self._run is None:
            session = state.session
            if session is None:
                raise RuntimeError("a function is driven by a Tuner: to try it, call the function itself")
            run = self._run = Rendezvous(lambda: call_function(self.function, self.config))
            session.report = lambda metrics, checkpoint: run.put(Report(dict(metrics)))
            run.start()
        else:
            self._run.go_on()
        (found,) = self._run.take()
        if isinstance(found, Ended):
            return {**(self._last_result or {}), "done": True}
        return found.metrics

    def cleanup(self) -> None:
        """Have the function end."""
        if self._run is not None:
            self._run.stop(0.0)


def wrap_function(train_func: Callable[..., Any], name: str | None = None) -> type[FunctionTrainable]:
    """The trainable that runs this function. It takes one argument, its configuration.

    Raises ValueError for a function with other arguments.
    """
    named = name or function_name(train_func)
    _check_signature(train_func)
    resources: Any = getattr(train_func, "_resources", None)

    def default_resource_request(cls: type[Any], config: dict[str, Any]) -> Any:
        asks = callable(resources) and not isinstance(resources, PlacementGroupFactory)
        return resources(config) if asks else resources

    members = {
        "function": staticmethod(train_func),
        "default_resource_request": classmethod(default_resource_request),
        "__doc__": getattr(train_func, "__doc__", None),
        "__module__": getattr(train_func, "__module__", __name__),
    }
    return type(named, (FunctionTrainable,), members)


def function_name(function: Any) -> str:
    """The name of a function, of the one that a partial calls, or of the class of another callable object."""
    while not hasattr(function, "__name__") and hasattr(function, "func"):
        function = function.func
    name = str(getattr(function, "__name__", type(function).__name__))
    return "lambda" if name == "<lambda>" else name


def new_directory(prefix: str) -> str:
    """A new temporary directory."""
    import tempfile

    return tempfile.mkdtemp(prefix=prefix)


def call_function(function: Callable[..., Any], config: dict[str, Any]) -> None:
    """Call a trial's function; report what it returns or yields."""
    made = function(config)
    if inspect.isgenerator(made):
        for one in made:
            _report_value(one)
    else:
        _report_value(made)


def _report_value(value: Any) -> None:
    if isinstance(value, dict):
        if value:
            report(value)
    elif isinstance(value, Number) and not isinstance(value, bool):
        if value:
            report({DEFAULT_METRIC: value})
    elif value is not None and value is not False:
        raise ValueError(
            f"the trial's function has returned or yielded a {type(value).__name__}: it may be a dict of metrics, a "
            "number, or nothing"
        )


def _check_signature(function: Callable[..., Any]) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # made elsewhere, without one: it is called with its configuration
    try:
        signature.bind({})
    except TypeError:
        raise ValueError(
            f"the function of a trial takes one argument, its configuration, and this one is called with {signature}"
        ) from None

"""What an experiment tells its user's objects: `Callback` with Ray's methods, and `CallbackList`, which tells many."""

from __future__ import annotations

import inspect
import os
import pickle
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import hpc.cloudpickle as cloudpickle

if TYPE_CHECKING:
    from hpc.runs.checkpoint import Checkpoint
    from hpc.tune.trial import Trial


class Callback:
    """An object of the user's that is told how an experiment goes. Its methods are called in the driver, in the order
    in which things happen. An error that one of them raises ends the experiment.

    iteration: the number of the driver's turn. trials: all of the experiment. trial: the one that it is about.
    """

    def setup(
        self,
        stop: Any = None,
        num_samples: int | None = None,
        total_num_samples: int | None = None,
        **info: Any,
    ) -> None:
        """Before the first trial.

        stop: the stopper of the experiment. total_num_samples: how many trials there will be, grids counted.
        """

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """A turn of the driver begins."""

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """A turn of the driver has ended."""

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial runs."""

    def on_trial_restore(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial goes on from a checkpoint."""

    def on_trial_save(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial has a new checkpoint."""

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial has reported; the searcher and the scheduler know it. What is changed in ``result`` stays changed."""

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial has ended well."""

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial has failed and is started again."""

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial has failed for good."""

    def on_checkpoint(
        self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Checkpoint, **info: Any
    ) -> None:
        """A trial's checkpoint is on the storage."""

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """All trials have ended."""

    def get_state(self) -> dict[str, Any] | None:
        """What is to be there again when the experiment is continued. None: nothing."""
        return None

    def set_state(self, state: dict[str, Any]) -> None:
        """The experiment is continued: this is what ``get_state`` returned."""


#: The methods that are called for what happens.
HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))


class CallbackList(Callback):
    """Tells each thing to all of its callbacks that have a method for it, in their order.

    What has no method of its own costs nothing: 10,000 reports a second are told to those that want to know of them.
    """

    CKPT_FILE_TMPL = "callback-states-{}.pkl"

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = list(callbacks)
        self._listeners = {hook: [getattr(one, hook) for one in callbacks if _has(one, hook)] for hook in HOOKS}

    def setup(self, **info: Any) -> None:  # type: ignore[override]
        """Tell all callbacks. One with a ``setup`` that takes no arguments is called without."""
        for one in self._callbacks:
            _setup(one, info)

    def on_step_begin(self, **info: Any) -> None:  # type: ignore[override]
        self._tell("on_step_begin", info)

    def on_step_end(self, **info: Any) -> None:  # type: ignore[override]
        self._tell("on_step_end", info)

    def on_trial_start(self, **info: Any) -> None:  # type: ignore[override]
        self._tell("on_trial_start", info)

    def on_trial_restore(self, **info: Any) -> None:  # type: ignore[override]
        self._tell("on_trial_restore", info)

    def on_trial_save(self, **info: Any) -> None:  # type: ignore[override]
        self._tell("on_trial_save", info)

    def on_trial_result(self, **info: Any) -> None:  # type: ignore[override]
        self._tell("on_trial_result", info)

    def on_trial_complete(self, **info: Any) -> None:  # type: ignore[override]
        self._tell("on_trial_complete", info)

    def on_trial_recover(self, **info: Any) -> None:  # type: ignore[override]
        self._tell("on_trial_recover", info)

    def on_trial_error(self, **info: Any) -> None:  # type: ignore[override]
        self._tell("on_trial_error", info)

    def on_checkpoint(self, **info: Any) -> None:  # type: ignore[override]
        self._tell("on_checkpoint", info)

    def on_experiment_end(self, **info: Any) -> None:  # type: ignore[override]
        self._tell("on_experiment_end", info)

    def hears(self, hook: str) -> bool:
        """Whether anybody wants to know of it ("on_trial_result")."""
        return bool(self._listeners[hook])

    def get_state(self) -> dict[Any, Any] | None:
        """The states of the callbacks by their place; None where none has one."""
        states = {place: one.get_state() for place, one in enumerate(self._callbacks)}
        return states if any(states.values()) else None

    def set_state(self, state: dict[Any, Any]) -> None:
        """Give each callback what it had."""
        for place, one in enumerate(self._callbacks):
            if state.get(place):
                one.set_state(state[place])

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Write the states to a file of this directory; no file where there are none."""
        state = self.get_state()
        if state is None:
            return
        path = os.path.join(checkpoint_dir, self.CKPT_FILE_TMPL.format(session_str))
        with open(f"{path}.part", "wb") as file:
            file.write(cloudpickle.dumps(state))
        os.replace(f"{path}.part", path)

    def restore_from_dir(self, checkpoint_dir: str) -> None:
        """Read the states from the newest file of this directory. Raises RuntimeError where there is none."""
        names = self._state_files(checkpoint_dir)
        if not names:
            raise RuntimeError(f"there is no {self.CKPT_FILE_TMPL.format('*')} in {checkpoint_dir}")
        with open(os.path.join(checkpoint_dir, names[-1]), "rb") as file:
            self.set_state(pickle.load(file))

    def can_restore(self, checkpoint_dir: str) -> bool:
        """Whether the directory has a file with states."""
        return bool(self._state_files(checkpoint_dir))

    def _state_files(self, folder: str) -> list[str]:
        before, after = self.CKPT_FILE_TMPL.split("{}")
        return sorted(name for name in os.listdir(folder) if name.startswith(before) and name.endswith(after))

    def _tell(self, hook: str, info: dict[str, Any]) -> None:
        for call in self._listeners[hook]:
            call(**info)

    def __len__(self) -> int:
        return len(self._callbacks)

    def __getitem__(self, place: int) -> Callback:
        return self._callbacks[place]

    def __iter__(self) -> Iterator[Callback]:
        return iter(self._callbacks)


def _has(one: Callback, hook: str) -> bool:
    own: Callable[..., Any] | None = getattr(type(one), hook, None)
    return hook in vars(one) or own is not getattr(Callback, hook)


def _setup(one: Callback, info: dict[str, Any]) -> None:
    try:
        inspect.signature(one.setup).bind(**info)
    except TypeError:
        warnings.warn(
            f"{type(one).__name__}.setup should take keywords as hpc.tune.Callback.setup does (stop, num_samples, "
            "total_num_samples, **info); it is called without",
            FutureWarning,
            stacklevel=2,
        )
        info = {}
    one.setup(**info)

"""What a searcher is: it suggests configurations, and is told what became of them."""

from __future__ import annotations

import contextlib
import glob
import inspect
import os
import tempfile
import warnings
from collections.abc import Mapping
from typing import Any

import cloudpickle

from hpc.tune.trial import Trial

__all__ = ["Searcher", "check_goal", "told_properties"]

MODES = ("min", "max")


def check_goal(metric: Any, mode: Any) -> None:
    """Raise ValueError where a metric and a mode cannot be, alone or together. None is not known yet."""
    for one in mode if isinstance(mode, list) else [mode]:
        if one is not None and one not in (*MODES, *(["obs"] if isinstance(mode, list) else [])):
            raise ValueError(f"mode has to be 'min' or 'max', or a list of them, not {mode!r}")
    if not metric or not mode:
        return
    if isinstance(metric, list) is not isinstance(mode, list):
        raise ValueError(f"metric and mode have to be two texts or two lists, not {metric!r} and {mode!r}")
    if isinstance(metric, list) and len(metric) != len(mode):
        raise ValueError(
            f"metric and mode have to be lists of one length: {metric!r} has not one mode each in {mode!r}"
        )


class Searcher:
    """Suggests configurations. A program's own searcher extends this class and calls its `__init__`.

    metric: the key of results that counts; mode: "min" or "max". Both may be lists where the searcher has several aims.
    """

    FINISHED = "FINISHED"
    CKPT_FILE_TMPL = "searcher-state-{}.pkl"

    def __init__(self, metric: str | list[str] | None = None, mode: str | list[str] | None = None):
        check_goal(metric, mode)
        self._metric = metric
        self._mode = mode

    @property
    def metric(self) -> Any:
        """The key of results that counts, or a list of them."""
        return self._metric

    @property
    def mode(self) -> Any:
        """Whether the metric is to be small or large: "min" or "max", or a list."""
        return self._mode

    def set_search_properties(self, metric: Any, mode: Any, config: dict[str, Any], **spec: Any) -> bool:
        """What is searched for, and where, if the searcher was not told when it was made.

        Returns whether the searcher took the space `config`; False where it has one of its own.
        """
        return False

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The configuration of a new trial. None: none for now. `Searcher.FINISHED`: none any more."""
        raise NotImplementedError

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A result of a trial that goes on. The metric may be missing, or NaN."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A trial has ended, with its last result (there may be none), or with an error."""
        raise NotImplementedError

    def on_pause(self, trial_id: str) -> None:
        """A trial waits for others, its scheduler says. Only some searchers (BOHB) want to know."""

    def on_unpause(self, trial_id: str) -> None:
        """A trial that waited goes on."""

    def add_evaluated_point(
        self,
        parameters: dict[str, Any],
        value: float,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: list[float] | None = None,
    ) -> None:
        """Learn from a configuration that was tried elsewhere: its value, or that it failed, or was given up early."""
        raise NotImplementedError

    def add_evaluated_trials(self, trials_or_analysis: Any, metric: str) -> None:
        """Learn from trials of another experiment, or from its ExperimentAnalysis.

        Trials without the metric are left out. Raises NotImplementedError where the searcher cannot learn so.
        """
        if type(self).add_evaluated_point is Searcher.add_evaluated_point:
            raise NotImplementedError(f"{type(self).__name__} cannot learn from points that were tried elsewhere")
        trials = getattr(trials_or_analysis, "trials", trials_or_analysis)
        if isinstance(trials, Trial):
            trials = [trials]
        if not isinstance(trials, list | tuple):
            raise NotImplementedError(f"expected trials or an ExperimentAnalysis, not {trials_or_analysis!r}")
        known = False
        for trial in trials:
            if metric not in trial.last_result:
                continue
            done = bool(trial.last_result.get("done"))
            ended = trial.status == Trial.TERMINATED
            known = known or (ended and done)
            value = trial.last_result[metric]
            self.add_evaluated_point(trial.config, value, error=trial.status == Trial.ERROR, pruned=ended and not done)
        if not known:
            warnings.warn(f"no trial that is complete has the metric {metric!r}: is its name right?", stacklevel=2)

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """How many trials may run at a time. Returns whether the searcher sees to that itself."""
        return False

    def adopt(self, trial_id: str, parameters: Mapping[str, Any]) -> bool:
        """A trial that the searcher suggested after its state was saved. False: its state cannot know of the trial.

        `parameters` are those of the suggestion, flat: `{"a/b": 1}`. Where the answer is False, the trial's value comes
        by `add_evaluated_point`.
        """
        return False

    def forget(self, trial_id: str) -> None:
        """A trial has ended for which `adopt` answered False."""

    # -------------------------------------------------------------- state

    def save(self, checkpoint_path: str) -> None:
        """Write the state of the search into a file."""
        raise NotImplementedError

    def restore(self, checkpoint_path: str) -> None:
        """Read the state of the search from a file."""
        raise NotImplementedError

    def state(self) -> Any:
        """The state of the search, which can be pickled; by default what `save` writes.

        None: it cannot be saved, as where `save` is not there, or writes nothing.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "state")
            try:
                self.save(path)
                with open(path, "rb") as file:
                    return file.read()
            except (NotImplementedError, FileNotFoundError):
                return None

    def load(self, state: Any) -> None:
        """Go on from what `state` has given."""
        if state is None:
            return
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "state")
            with open(path, "wb") as file:
                file.write(state)
            self.restore(path)

    def get_state(self) -> dict[str, Any]:
        """Ray's name for the state of a searcher around another one."""
        raise NotImplementedError

    def set_state(self, state: dict[str, Any]) -> None:
        """Ray's name: go on from what `get_state` has given."""
        raise NotImplementedError

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Write the state into a file of a directory, in one step."""
        path = os.path.join(checkpoint_dir, self.CKPT_FILE_TMPL.format(session_str))
        unfinished = f"{path}.{os.getpid()}"
        try:
            self.save(unfinished)
            os.replace(unfinished, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(unfinished)

    def restore_from_dir(self, checkpoint_dir: str) -> None:
        """Read the newest state in a directory. Raises RuntimeError where there is none."""
        found = glob.glob(os.path.join(glob.escape(checkpoint_dir), self.CKPT_FILE_TMPL.format("*")))
        if not found:
            raise RuntimeError(
                f"no state of a searcher is in {checkpoint_dir}: there is no {self.CKPT_FILE_TMPL.format('*')}"
            )
        self.restore(max(found))


class SavingSearcher(Searcher):
    """A searcher whose state is one object: `state` and `load` are given, and files are made of them."""

    def state(self) -> Any:
        raise NotImplementedError

    def load(self, state: Any) -> None:
        raise NotImplementedError

    def save(self, checkpoint_path: str) -> None:
        with open(checkpoint_path, "wb") as file:
            cloudpickle.dump(self.state(), file)

    def restore(self, checkpoint_path: str) -> None:
        with open(checkpoint_path, "rb") as file:
            self.load(cloudpickle.load(file))


def told_properties(searcher: Searcher, metric: Any, mode: Any, config: dict[str, Any], **spec: Any) -> bool:
    """`set_search_properties` of a searcher, which may be one of a program that takes no further arguments."""
    taken = inspect.signature(searcher.set_search_properties).parameters
    if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in taken.values()):
        spec = {name: value for name, value in spec.items() if name in taken}
    return searcher.set_search_properties(metric, mode, config, **spec)

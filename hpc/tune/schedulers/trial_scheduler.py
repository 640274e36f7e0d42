"""What every trial scheduler is, and the plainest one: first come, first served.

A scheduler is pure: it is told what happens to trials, and answers. It has no clock, opens no sockets and starts
nothing. What it has seen is its state, which the journal of an experiment keeps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hpc.tune.result import DEFAULT_METRIC
from hpc.tune.schedulers import keeping
from hpc.tune.trial import Controller, Trial


class TrialScheduler:
    """Base of all schedulers, with Ray's methods. One that was written for Ray runs as it is.

    `on_trial_result` answers CONTINUE, PAUSE, STOP, or NOOP where the scheduler has paused the trial itself.
    """

    CONTINUE = "CONTINUE"
    PAUSE = "PAUSE"
    STOP = "STOP"
    NOOP = "NOOP"

    _metric: str | None = None
    _supports_buffered_results = True

    @property
    def metric(self) -> str | None:
        """The metric that this scheduler looks at; None: none has been named yet, or it looks at none."""
        return self._metric

    @property
    def supports_buffered_results(self) -> bool:
        """Whether a trial may send several results at once, and so run ahead of decisions."""
        return self._supports_buffered_results

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Take the metric and the mode of the whole experiment. False: this scheduler has one of its own already."""
        if self._metric and metric:
            return False
        self._metric = metric or self._metric or DEFAULT_METRIC
        return True

    def on_trial_add(self, controller: Controller, trial: Trial) -> None:
        """Note a new trial, or one that begins again after a failure."""
        raise NotImplementedError

    def on_trial_error(self, controller: Controller, trial: Trial) -> None:
        """Note that a running trial has failed."""
        raise NotImplementedError

    def on_trial_result(self, controller: Controller, trial: Trial, result: dict[str, Any]) -> str:
        """Say how a running trial goes on after this result. Names of nested values are joined with a slash."""
        raise NotImplementedError

    def on_trial_complete(self, controller: Controller, trial: Trial, result: dict[str, Any]) -> None:
        """Note that a running trial has ended well, by itself or because it was stopped."""
        raise NotImplementedError

    def on_trial_remove(self, controller: Controller, trial: Trial) -> None:
        """Note that a trial that waits or is paused was ended."""
        raise NotImplementedError

    def choose_trial_to_run(self, controller: Controller) -> Trial | None:
        """The trial that is PENDING or PAUSED and is to run next; None: none. Asking twice changes nothing."""
        raise NotImplementedError

    def debug_string(self) -> str:
        """A few words for people on how it stands."""
        raise NotImplementedError

    # -------------------------------------------------------------- what it has seen

    def state(self) -> Any:
        """What this scheduler has seen, to be pickled. The arguments that it was made with are no part of it.

        A scheduler that does not say it otherwise gives all its attributes, with ids in place of trials.
        """
        return keeping.pack(vars(self))

    def load(self, state: Any, get_trial: Callable[[str], Trial | None] | None = None) -> None:
        """Go on from a `state()`. get_trial: the trial of an id, for schedulers that hold trials themselves."""
        vars(self).update(keeping.unpack(state, get_trial))

    def save(self, checkpoint_path: str) -> None:
        """Write this scheduler, with its arguments, to a file."""
        keeping.write(checkpoint_path, vars(self))

    def restore(self, checkpoint_path: str) -> None:
        """Become the scheduler that was written to a file."""
        vars(self).update(keeping.read(checkpoint_path))


class FIFOScheduler(TrialScheduler):
    """Trials run in the order in which they came, to their end. Paused ones go on when none waits."""

    def on_trial_add(self, controller: Controller, trial: Trial) -> None:
        """Nothing is kept of a trial."""

    def on_trial_error(self, controller: Controller, trial: Trial) -> None:
        """Nothing is kept of a trial."""

    def on_trial_result(self, controller: Controller, trial: Trial, result: dict[str, Any]) -> str:
        """Trials always go on."""
        return TrialScheduler.CONTINUE

    def on_trial_complete(self, controller: Controller, trial: Trial, result: dict[str, Any]) -> None:
        """Nothing is kept of a trial."""

    def on_trial_remove(self, controller: Controller, trial: Trial) -> None:
        """Nothing is kept of a trial."""

    def choose_trial_to_run(self, controller: Controller) -> Trial | None:
        """The first that waits, else the first that is paused."""
        return controller.next_waiting()

    def debug_string(self) -> str:
        """The name of the algorithm."""
        return "Using FIFO scheduling algorithm."

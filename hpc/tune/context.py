"""What a trial can call and ask: report, get_checkpoint, get_context.

Each trial's process imports this, so it imports little.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import hpc

if TYPE_CHECKING:
    from hpc.runs.checkpoint import Checkpoint
    from hpc.tune.placement import PlacementGroupFactory

#: Where experiments say to their trials that they wind down.
NAMESPACE = "tune"
#: A trial that asks whether it should save has the head asked so often at most.
ASK_S = 1.0


@dataclass
class TrialSession:
    """The trial that this process runs. ``directory``: where its results are; ``working``: where its files go.

    report: what becomes of a function's report; None for class trainables, whose results are what ``step`` returns.
    ends: the key of the session that is set when the experiment winds down.
    """

    experiment_name: str
    trial_name: str
    trial_id: str
    resources: PlacementGroupFactory
    directory: str
    working: str = ""
    filesystem: Any = None
    checkpoint: Checkpoint | None = None
    checkpoint_metrics: dict[str, Any] = field(default_factory=dict)
    report: Callable[[dict[str, Any], Checkpoint | None], None] | None = None
    ends: str = ""
    _asked_s: float = float("-inf")
    _ends: bool = False

    def ends_soon(self) -> bool:
        """Whether the session of this process drains, or the experiment winds down."""
        if not self._ends and hpc.get_runtime_context().draining() is not None:
            self._ends = True
        now_s = time.monotonic()
        if not self._ends and self.ends and now_s > self._asked_s + ASK_S:
            self._asked_s = now_s
            from hpc import spi

            self._ends = spi.kv_get(NAMESPACE, self.ends) is not None
        return self._ends


class _State:
    """The session of this process, if it runs a trial."""

    session: TrialSession | None = None


state = _State()


def report(metrics: dict[str, Any], *, checkpoint: Checkpoint | None = None) -> None:
    """Report the metrics of one iteration, and a checkpoint if there is one: its files are copied to the trial's
    directory.

    It returns when the scheduler and the stoppers have decided that the trial goes on; where they cannot decide
    otherwise it goes on at once. A trial that is stopped ends here, by SystemExit. Outside of a function that
    a Tuner runs it does nothing, and warns.

    Raises TypeError for metrics that are no dict, ValueError for tensors among them, and StorageError, an OSError,
    where the checkpoint cannot be stored.
    """
    session = state.session
    if session is None or session.report is None:
        import warnings

        warnings.warn("tune.report() does nothing here: it is for a function that a Tuner runs", stacklevel=2)
        return
    if not isinstance(metrics, dict):
        raise TypeError(f"report() takes a dict of metrics, not {type(metrics).__name__}")
    if checkpoint is not None:
        from hpc.runs.checkpoint import Checkpoint

        if not isinstance(checkpoint, Checkpoint):
            raise TypeError(f"report(checkpoint=...) takes a Checkpoint, not {type(checkpoint).__name__}")
    session.report(metrics, checkpoint)


def get_checkpoint() -> Checkpoint | None:
    """The checkpoint from which this trial is to go on: that of its latest report, or of the trial that it is a copy
    of. None if there is none, and outside of trials."""
    return state.session.checkpoint if state.session is not None else None


class TuneContext:
    """What a trial can ask about itself. Outside of trials the answers are None."""

    def get_experiment_name(self) -> str | None:
        """The experiment's name."""
        return state.session.experiment_name if state.session is not None else None

    def get_trial_name(self) -> str | None:
        """The trial's name."""
        return state.session.trial_name if state.session is not None else None

    def get_trial_id(self) -> str | None:
        """The trial's id."""
        return state.session.trial_id if state.session is not None else None

    def get_trial_resources(self) -> PlacementGroupFactory | None:
        """The resources of the trial."""
        return state.session.resources if state.session is not None else None

    def get_trial_dir(self) -> str | None:
        """The trial's directory, where its results are: it is made if there is none yet. On a file system of pyarrow's
        it is the path there."""
        session = state.session
        if session is None:
            return None
        if session.filesystem is None:
            os.makedirs(session.directory, exist_ok=True)
        return session.directory

    def should_checkpoint(self) -> bool:
        """Whether the next report should have a checkpoint, because the session ends soon: the experiment goes on with
        it in the next one."""
        return state.session is not None and state.session.ends_soon()

    def get_world_size(self) -> int:
        """Raises RuntimeError: a trial has no ranks. A trainer inside of it does."""
        raise RuntimeError(_NO_RANKS.format("get_world_size"))

    def get_world_rank(self) -> int:
        """Raises RuntimeError: see `get_world_size`."""
        raise RuntimeError(_NO_RANKS.format("get_world_rank"))

    def get_local_rank(self) -> int:
        """Raises RuntimeError: see `get_world_size`."""
        raise RuntimeError(_NO_RANKS.format("get_local_rank"))

    def get_local_world_size(self) -> int:
        """Raises RuntimeError: see `get_world_size`."""
        raise RuntimeError(_NO_RANKS.format("get_local_world_size"))

    def get_node_rank(self) -> int:
        """Raises RuntimeError: see `get_world_size`."""
        raise RuntimeError(_NO_RANKS.format("get_node_rank"))


_NO_RANKS = "tune.get_context().{}(): a trial has no ranks; in the function of a trainer use hpc.train.get_context()"
_context = TuneContext()


def get_context() -> TuneContext:
    """What is known about this trial."""
    return _context

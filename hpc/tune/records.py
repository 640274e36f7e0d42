"""The facts that an experiment's journal has. Pure.

A trial's whole state follows from its facts, in their order. at: seconds since 1970. Paths of
checkpoints and trials are relative to the experiment's directory where they are in it, so that it can be moved.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from hpc.tune.trial import Status

VERSION = 1


By = Literal["scheduler", "stop", "stopper", "done", "nobody"]


class Record(msgspec.Struct, array_like=True, gc=False):
    """One fact."""


class Began(Record, tag="began"):
    """A driver takes the experiment up: the first time, or again. All that ran before runs no more."""

    at: float
    trainable_name: str
    version: int = VERSION


class Added(Record, tag="added"):
    """A trial was made. restart_of: the trial that it takes the place of."""

    at: float
    trial_id: str
    config: Any
    evaluated_params: Any
    experiment_tag: str
    name: str | None
    path: str | None
    shape: Any
    restart_of: str | None = None


class Changed(Record, tag="status"):
    """The trial has this status. interrupted: it was ended with the experiment, and is unfinished for the next run."""

    at: float
    trial_id: str
    status: Status
    interrupted: bool = False


class Result(Record, tag="result"):
    """The trial reported this, without the keys that the engine sets. decision: what was decided then, and by which
    part. The trainable itself says that it is "done". Where a part raised an error, "nobody" has decided. checkpoint:
    what came with it."""

    at: float
    trial_id: str
    metrics: Any
    decision: str
    by: By = "scheduler"
    checkpoint: str | None = None


class Saved(Record, tag="saved"):
    """The trial has made a checkpoint, with the metrics of its last result."""

    at: float
    trial_id: str
    checkpoint: str


class Dropped(Record, tag="dropped"):
    """The trial's checkpoint is not kept any more."""

    at: float
    trial_id: str
    checkpoint: str


class Cloned(Record, tag="cloned"):
    """The trial goes on from the donor's checkpoint with this config."""

    at: float
    trial_id: str
    donor_id: str
    config: Any
    experiment_tag: str
    checkpoint: str


class Shaped(Record, tag="shaped"):
    """The trial needs another room from its next start on."""

    at: float
    trial_id: str
    shape: Any


class Failure(Record, tag="failure"):
    """The trial failed. num_failures: with this one, if it counts."""

    at: float
    trial_id: str
    error: Any
    num_failures: int


class Removed(Record, tag="removed"):
    """The trial is started anew under another id, and this one is forgotten."""

    at: float
    trial_id: str


class Noted(Record, tag="noted"):
    """What the runner or a front wants to find again: the spaces, metric and mode, the name of the searcher."""

    at: float
    key: str
    value: Any


#: The key of which checkpoints trials keep, as `hpc.tune.retention.Rule` takes it.
RETENTION = "retention"
AnyRecord = Began | Added | Changed | Result | Saved | Dropped | Cloned | Shaped | Failure | Removed | Noted
#: Keys of a result that the engine sets: they are not stored with each.
SET_BY_ENGINE = ("trial_id", "experiment_tag", "config")

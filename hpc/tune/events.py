"""What the engine of an experiment is told (events), and what it wants done (commands).

The engine takes events and gives commands; the runner does the commands, in their order, and tells events. A
trial that has a room runs in it as one actor, from `Start` to `Stopped`. At most one command is under way for a trial:
the next comes after the event that answers it. Answers:

    Reserve      Reserved, Unschedulable, or nothing for as long as there is no room
    Start        Started, then Reported, Returned or Failed
    Continue     Reported, Returned or Failed
    Save         Saved, SaveFailed or Failed
    Stop         Stopped; it also comes after Failed, and may come at any time
    Ask          Suggested, NothingNow or Exhausted

`ReservationLost` may come at any time, and answers whatever was under way in that room. Events about a trial that has
no room any more are ignored.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    from hpc.runs.checkpoint import Checkpoint
    from hpc.tune.trial import Trial

# ---------------------------------------------------------------- events


class Suggestion(msgspec.Struct):
    """One trial to be made. resources: the shape of its room; None: the experiment's."""

    trial_id: str
    config: dict[str, Any]
    evaluated_params: dict[str, Any] = {}
    experiment_tag: str = ""
    resources: Hashable = None


class Suggested(msgspec.Struct):
    """Answers `Ask`: at least one trial, and at most as many as were asked for."""

    suggestions: Sequence[Suggestion]


class NothingNow(msgspec.Struct):
    """Answers `Ask`: the searcher waits for results. It is asked again after the next one, or a second later."""


class Exhausted(msgspec.Struct):
    """Answers `Ask`: there are no further trials."""


class Reserved(msgspec.Struct):
    """The room of this number is there."""

    reservation: int


class ReservationLost(msgspec.Struct):
    """The room of this number is gone, and what ran in it. preempted: a node was taken away, and nobody is to blame."""

    reservation: int
    why: str
    preempted: bool = True


class Unschedulable(msgspec.Struct):
    """No node could ever have a room of this shape: trials that wait for one fail, and why is their error."""

    shape: Hashable
    why: str


class Started(msgspec.Struct):
    """The trial's actor is there, has its config and checkpoint, and trains."""

    trial_id: str
    pid: int | None = None
    host: str | None = None
    node_ip: str | None = None


class Reported(msgspec.Struct):
    """A result; the trial waits for a decision.

    metrics: with Ray's automatic keys, but for trial_id, experiment_tag and config, which the engine sets. checkpoint:
    what a function reported with it, already in the trial's directory.
    """

    trial_id: str
    metrics: dict[str, Any]
    checkpoint: Checkpoint | None = None


class Returned(msgspec.Struct):
    """The trial's function has returned: the trial is complete with its last result."""

    trial_id: str


class Saved(msgspec.Struct):
    """Answers `Save`: the checkpoint, in the trial's directory; None: the trainable had nothing to save."""

    trial_id: str
    checkpoint: Checkpoint | None


class SaveFailed(msgspec.Struct):
    """Answers `Save`: ``save_checkpoint`` raised this, or its files could not be stored. Counts as a failure."""

    trial_id: str
    error: BaseException


class Failed(msgspec.Struct):
    """The trial's function, step or restore raised, or its actor died. error: what users get to see, with its
    traceback as text. preempted: it died because its node was taken away, which is not counted."""

    trial_id: str
    error: BaseException
    preempted: bool = False


class Stopped(msgspec.Struct):
    """Answers `Stop`: nothing of the trial runs any more, and its room is free for another one."""

    trial_id: str


class WindDown(msgspec.Struct):
    """The session ends soon (walltime, a signal, Ctrl-C): nothing new starts, and trials save and stop.

    until: by this time, of the engine's clock, all of them are to have stopped. A trial that has not saved by then is
    stopped all the same, and goes on from an older checkpoint the next time.
    """

    why: str
    until: float


Event = (
    Suggested | NothingNow | Exhausted | Reserved | ReservationLost | Unschedulable | Started | Reported | Returned
    | Saved | SaveFailed | Failed | Stopped | WindDown
)  # fmt: skip

# ---------------------------------------------------------------- commands


class Ask(msgspec.Struct):
    """Ask the searcher for up to this number of trials. At most one is under way."""

    count: int


class Reserve(msgspec.Struct):
    """Get a room of this shape. The number is the engine's, and new."""

    reservation: int
    shape: Hashable


class Release(msgspec.Struct):
    """Give the room back, or no longer wait for it. Nothing of a trial runs in it; an actor kept for reuse ends."""

    reservation: int


class Start(msgspec.Struct):
    """Run the trial in this room, from the checkpoint if there is one. An actor that waits in the room may be reused.

    config: as it is now; a clone has another one than at its first start. checkpoint: of the trial, or of the one that
    it clones."""

    trial_id: str
    reservation: int
    config: dict[str, Any]
    checkpoint: Checkpoint | None = None


class Continue(msgspec.Struct):
    """Let the trial go on from its report."""

    trial_id: str


class Save(msgspec.Struct):
    """Have the trial make a checkpoint. It waits in a report."""

    trial_id: str


class Stop(msgspec.Struct):
    """End the trial's actor, or keep it for the next trial of the room. Its function may be anywhere."""

    trial_id: str


class Warn(msgspec.Struct):
    """Tell the trial's function that the session ends soon, so that it reports a checkpoint: see `WindDown`."""

    trial_id: str


class Delete(msgspec.Struct):
    """Delete the checkpoint's files. Only once all `Write` before it are on disk: else a driver that is killed would
    come back to a checkpoint that is gone."""

    checkpoint: Checkpoint


#: What callbacks, loggers and reporters are told: Ray's ``on_trial_start``, and so on; "add" of a new trial.
Kind = Literal["add", "start", "restore", "result", "save", "checkpoint", "recover", "complete", "error", "pause"]


class Note(msgspec.Struct):
    """Tell callbacks, loggers and reporters. They may change the result in place.

    result: of kind "result", the trial's ``last_result``. checkpoint: of kinds "checkpoint" and "restore".
    """

    kind: Kind
    trial: Trial
    result: dict[str, Any] | None = None
    checkpoint: Checkpoint | None = None


class Write(msgspec.Struct):
    """Append the record to the journal; callbacks have seen it by then."""

    record: Any


#: Why an experiment ends. "stopped": a stopper, or its time. "failed": fail_fast. "suspended": it is to be continued.
Ending = Literal["finished", "stopped", "failed", "suspended"]


class End(msgspec.Struct):
    """The experiment has ended: nothing runs, and no room is held. No further command comes.

    error: of the trial that failed first, where ending is "failed".
    """

    ending: Ending
    error: BaseException | None = None


Command = Ask | Reserve | Release | Start | Continue | Save | Stop | Warn | Delete | Note | Write | End

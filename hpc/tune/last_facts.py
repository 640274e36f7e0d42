"""An error of a scheduler, stopper, searcher or callback ends the driver: what trials had told is recorded. Pure.

Nobody is asked about it any more. So a trial that has reported, returned or failed by then does not do that again when
the experiment goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from hpc.tune import events, records
from hpc.tune.error import TrialDrained, TuneError
from hpc.tune.flat import flatten_dict
from hpc.tune.metrics import is_over
from hpc.tune.stage import Stage
from hpc.tune.trial import Status, Trial

if TYPE_CHECKING:
    from hpc.tune.training import Training


def last_facts(
    engine: Training, commands: Iterable[events.Command], unheard: Iterable[events.Event]
) -> Iterator[records.AnyRecord]:
    """The facts of the commands that nobody got, and of events; the first of these may be handled in part."""
    told = [command.record for command in commands if isinstance(command, events.Write)]
    yield from told
    left = _Left(engine, told)
    for event in unheard:
        yield from left.facts(event)


class _Left:
    """told: the facts of the event that is handled in part are among these."""

    def __init__(self, engine: Training, told: list[records.AnyRecord]) -> None:
        self._engine = engine
        self._told = told
        self._ended: set[str] = set()

    def facts(self, event: events.Event) -> Iterator[records.AnyRecord]:
        """What there is to be recorded of an event."""
        engine, name = self._engine, getattr(event, "trial_id", "")
        actor = engine.actors.get(name)
        if actor is None or name in engine.clones or name in self._ended:
            return
        trial = actor.trial
        if actor.stage is Stage.STOPPING and not self._is_half_told(trial, event):
            return
        if isinstance(event, events.Reported):
            yield from self._result(trial, event)
        elif isinstance(event, events.Saved) and event.checkpoint is not None and actor.stage is Stage.SAVING:
            yield records.Saved(engine.now, name, engine.path_of(event.checkpoint))
        elif isinstance(event, events.Returned):
            yield from self._end(trial, Trial.TERMINATED)
        elif isinstance(event, events.Failed | events.SaveFailed) and not isinstance(event.error, TrialDrained):
            yield from self._failure(trial, event)

    def _is_half_told(self, trial: Trial, event: events.Event) -> bool:
        """Whether the trial is stopped for this failure, which is recorded, and what becomes of it is not."""
        return isinstance(event, events.Failed | events.SaveFailed) and trial.error is event.error

    def _result(self, trial: Trial, event: events.Reported) -> Iterator[records.AnyRecord]:
        engine = self._engine
        for record in self._told:
            if isinstance(record, records.Result) and record.metrics is event.metrics:
                break
        else:
            if engine.missing(flatten_dict({**event.metrics, "trial_id": trial.trial_id})):
                return
            record = records.Result(engine.now, trial.trial_id, event.metrics, "CONTINUE")
            if event.checkpoint is not None:
                record.checkpoint = engine.path_of(event.checkpoint)
            if event.metrics.get("done"):
                record.by, record.decision = "done", "STOP"
            elif self._is_over(event):
                record.by, record.decision = "stop", "STOP"
            yield record
        # A class that saves goes on from what it has saved: its last checkpoint is still to come.
        if record.decision == "STOP" and not engine.settings.saves:
            yield from self._end(trial, Trial.TERMINATED)

    def _is_over(self, event: events.Reported) -> bool:
        try:
            return is_over(flatten_dict(event.metrics), self._engine.settings.stop)
        except TuneError:
            return False

    def _failure(self, trial: Trial, event: events.Failed | events.SaveFailed) -> Iterator[records.AnyRecord]:
        preempted = isinstance(event, events.Failed) and event.preempted
        failures = trial.num_failures
        if trial.error is not event.error:  # else it is recorded, and counted
            failures += not preempted
            yield records.Failure(self._engine.now, trial.trial_id, event.error, failures)
        again = preempted or not 0 <= self._engine.settings.max_failures < failures
        yield from self._end(trial, Trial.PENDING if again else Trial.ERROR)

    def _end(self, trial: Trial, status: Status) -> Iterator[records.AnyRecord]:
        self._ended.add(trial.trial_id)
        if trial.status == Trial.RUNNING:  # else it is recorded
            yield records.Changed(self._engine.now, trial.trial_id, status)

"""The trials of an experiment that run: what their actors tell, and what is decided then. Pure.

A trial's actor lives from `Start` to `Stopped`. The status changes with the decision, and the trial does not start
again before its actor has ended. A result is checked for its metrics, then stoppers and the stop dict see it, else the
scheduler. The searcher and callbacks come next, then a checkpoint if one is due, and last the decision.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from hpc.tune import events, records
from hpc.tune.checkpoints import Checkpoints
from hpc.tune.cohort import Cohort
from hpc.tune.error import TrialDrained, TuneError
from hpc.tune.events import Command, Ending, Note, Write
from hpc.tune.flat import flatten_dict
from hpc.tune.metrics import is_over, missing_metric, no_number
from hpc.tune.settings import Settings
from hpc.tune.stage import Actor, Stage
from hpc.tune.stopper import NoopStopper, Stopper
from hpc.tune.trial import Status, Trial

if TYPE_CHECKING:
    from hpc.runs.checkpoint import Checkpoint

CONTINUE, PAUSE, STOP, NOOP = "CONTINUE", "PAUSE", "STOP", "NOOP"
SAVE = "SAVE"


class Training:
    """The trials, their actors and checkpoints. It is the `hpc.tune.trial.Controller` that schedulers get."""

    def __init__(
        self, settings: Settings, scheduler: Any, search: Any, stopper: Stopper | None = None, updater: Any = None
    ) -> None:
        self.settings = settings
        self.scheduler = scheduler
        self.search_alg = search
        self.stopper = stopper or NoopStopper()
        self.resource_updater = updater
        self.cohort = Cohort()
        self.actors: dict[str, Actor] = {}
        self.checkpoints = Checkpoints(settings.retention)
        #: Trials that wait for their donor's checkpoint: the donor, and the config and tag that they had.
        self.clones: dict[str, tuple[Trial, dict[str, Any], str]] = {}
        self.now = 0.0
        #: Trials that the searcher knows nothing of, or has been told the end of: they run once more.
        self.returned: set[str] = set()
        self.ending: Ending | None = None
        self.error: BaseException | None = None
        #: The failure with which all is to end, once what is told with it is handled.
        self.failure: BaseException | None = None
        #: Whether trials or rooms have changed, so that another one may start.
        self.moved = True
        #: Not before this time the searcher is asked again.
        self.ask_at = float("-inf")
        self._leaving: set[str] = set()
        self._commands: list[Command] = []

    # -------------------------------------------------------------- what schedulers ask for

    @property
    def experiment_path(self) -> str:
        """The experiment's directory, if it is on a file system of this machine; else ""."""
        return self.settings.root if self.settings.is_local else ""

    def get_trials(self) -> list[Trial]:
        """All trials, in the order in which they wait."""
        return list(self.cohort.all.values())

    def get_live_trials(self) -> Collection[Trial]:
        """The trials that have not finished."""
        return self.cohort.live.values()

    def get_trial(self, tid: str) -> Trial | None:
        """The trial of this id."""
        return self.cohort.all.get(tid)

    def next_waiting(self) -> Trial | None:
        """The first trial that is pending, else the first that is paused."""
        return self.cohort.first_waiting(self.busy())

    def pause_trial(self, trial: Trial, should_checkpoint: bool = True) -> None:
        """See `hpc.tune.trial.Controller`."""
        actor = self.actors.get(trial.trial_id)
        if actor is None or trial.status != Trial.RUNNING or actor.stage is Stage.STOPPING:
            return
        amid = actor.stage in (Stage.STARTING, Stage.STEPPING)
        if should_checkpoint and (amid or (self.settings.saves and actor.stage is Stage.DECIDING)):
            actor.wish = PAUSE
        elif should_checkpoint and actor.stage is Stage.SAVING:
            actor.then = PAUSE
        elif should_checkpoint and self.settings.saves:
            self._save(actor, PAUSE)
        else:
            self._pause(actor)

    def save_trial(self, trial: Trial) -> None:
        """See `hpc.tune.trial.Controller`."""
        actor = self.actors.get(trial.trial_id)
        if actor is None or not self.settings.saves or actor.stage in (Stage.SAVING, Stage.STOPPING):
            return
        trial.is_saving = True
        if actor.stage is Stage.HELD:
            self._save(actor, NOOP)
        else:
            actor.wish = actor.wish or SAVE

    def stop_trial(self, trial: Trial) -> None:
        """See `hpc.tune.trial.Controller`."""
        if trial.is_finished() or trial.trial_id in self._leaving:
            return
        self._leaving.add(trial.trial_id)
        self.clones.pop(trial.trial_id, None)
        if trial.status == Trial.RUNNING:
            last = flatten_dict(trial.last_result)
            self.scheduler.on_trial_complete(self, trial, last)
            self._tell_search(trial, last)
        else:
            self.scheduler.on_trial_remove(self, trial)
            self._tell_search(trial)
        self._leaving.discard(trial.trial_id)
        self._finish(trial, Trial.TERMINATED)

    def exploit(self, trial: Trial, donor: Trial, new_config: dict[str, Any], tag: str) -> bool:
        """See `hpc.tune.trial.Controller`."""
        if trial.is_finished() or not (donor.is_saving or donor.checkpoint):
            return False
        self.clones[trial.trial_id] = (donor, trial.config, trial.experiment_tag)
        trial.config, trial.experiment_tag = new_config, tag
        actor = self.actors.get(trial.trial_id)
        self.move(trial, Trial.PAUSED)
        if actor is not None and actor.stage is Stage.DECIDING:
            actor.stage = Stage.HELD
        if not donor.is_saving:
            self._found_for_clones(donor)
        return True

    # -------------------------------------------------------------- what actors tell

    def _started(self, event: events.Started) -> None:
        actor = self.actors.get(event.trial_id)
        if actor is None or actor.stage is not Stage.STARTING:
            return
        trial = actor.trial
        actor.stage = Stage.STEPPING
        trial.pid, trial.host, trial.node_ip = event.pid, event.host, event.node_ip
        if trial.start_time is None:
            trial.start_time = self.now
        self.emit(Note("start", trial))
        if actor.began_from is not None:
            self.emit(Note("restore", trial, checkpoint=actor.began_from))

    def _reported(self, event: events.Reported) -> None:
        actor = self.actors.get(event.trial_id)
        if actor is None or actor.stage is not Stage.STEPPING:
            return
        trial = actor.trial
        if trial.trial_id in self.clones:  # what it has done since is dropped
            actor.stage = Stage.HELD
            return
        result = event.metrics
        result["trial_id"] = trial.trial_id
        if trial.experiment_tag:
            result["experiment_tag"] = trial.experiment_tag
        result["config"] = trial.config
        flat = flatten_dict(result)
        if missing := self.missing(flat):
            raise TuneError(missing)
        actor.stage = Stage.DECIDING
        actor.fresh = event.checkpoint is not None
        record = records.Result(self.now, trial.trial_id, result, CONTINUE, by="nobody")
        self.emit(Note("result", trial, result))
        self.emit(Write(record))  # what the scheduler does to others comes after it
        if event.checkpoint is not None:
            record.checkpoint = self.path_of(event.checkpoint)
            self._keep(trial, event.checkpoint, result)
        if self.stopper(trial.trial_id, result):
            record.by, decision = "stopper", STOP
        elif result.get("done"):
            record.by, decision = "done", STOP
        elif is_over(flat, self.settings.stop):
            record.by, decision = "stop", STOP
        else:
            decision = self._judged(trial, flat)
            record.by = "scheduler"
        record.decision = decision
        if decision == STOP:
            result["done"] = True
        elif trial.trial_id not in self.returned:
            self.search_alg.on_trial_result(trial.trial_id, flat)
            self.ask_at = float("-inf")
        trial.update_last_result(result, self.now)
        self.moved = self.moved or bool(self.cohort.paused)
        if actor.stage is Stage.DECIDING:
            self._decided(actor, decision)

    def missing(self, flat: dict[str, Any]) -> str:
        """Why this is not enough for a result of the experiment; "" if it is."""
        return missing_metric(flat, (self.settings, self.scheduler, self.search_alg)) if self.settings.strict else ""

    def _judged(self, trial: Trial, flat: dict[str, Any]) -> str:
        try:
            decision: str = self.scheduler.on_trial_result(self, trial, flat)
            return decision
        except (TypeError, ValueError) as error:
            if why := no_number(flat, self.scheduler):
                raise TuneError(why) from error
            raise

    def _decided(self, actor: Actor, decision: str) -> None:
        wish, actor.wish = actor.wish, ""
        if wish == PAUSE and decision in (CONTINUE, NOOP):
            decision = PAUSE
        if self.settings.saves and (wish == SAVE or decision == PAUSE or self._is_save_due(actor.trial, decision)):
            self._save(actor, decision)
        else:
            self._act(actor, decision)

    def _returned(self, event: events.Returned) -> None:
        actor = self.actors.get(event.trial_id)
        if actor is None or actor.stage is not Stage.STEPPING:
            return
        if event.trial_id in self.clones:
            actor.stage, actor.then = Stage.HELD, STOP
            return
        actor.trial.last_result["done"] = True
        self.stop_trial(actor.trial)

    def _saved(self, event: events.Saved) -> None:
        actor = self.actors.get(event.trial_id)
        if actor is None or actor.stage is not Stage.SAVING:
            return
        trial = actor.trial
        if event.checkpoint is not None:
            self.emit(Write(records.Saved(self.now, trial.trial_id, self.path_of(event.checkpoint))))
            self._keep(trial, event.checkpoint, trial.last_result)
        self.emit(Note("save", trial))
        actor.fresh = True
        actor.stage = Stage.DECIDING
        self._saving_is_over(trial)
        self._act(actor, actor.then)

    def _fails(self, event: events.Failed | events.SaveFailed) -> None:
        actor = self.actors.get(event.trial_id)
        if actor is None or actor.stage is Stage.STOPPING:
            return
        if isinstance(event.error, TrialDrained):
            self.suspend(actor)
        else:
            self._stop(actor)
            self._failed(actor.trial, event.error, isinstance(event, events.Failed) and event.preempted)

    # -------------------------------------------------------------- what is done then

    def _act(self, actor: Actor, decision: str) -> None:
        """Do what was decided for an actor that waits in a report."""
        trial = actor.trial
        if trial.trial_id in self.clones:
            actor.stage, actor.then = Stage.HELD, decision
        elif trial.is_finished():
            self._stop(actor)
        elif decision == CONTINUE and self.ending and (actor.fresh or self.settings.saves):
            self.suspend(actor)
        elif decision == CONTINUE:
            actor.stage = Stage.STEPPING
            self.emit(events.Continue(trial.trial_id))
        elif decision == PAUSE:
            self._pause(actor)
        elif decision == STOP:
            self.stop_trial(trial)
        elif decision == NOOP:
            actor.stage = Stage.HELD
        else:
            raise ValueError(
                f"{type(self.scheduler).__name__} decided {decision!r} on a result: it is to return "
                "TrialScheduler.CONTINUE, PAUSE, STOP or NOOP"
            )

    def _save(self, actor: Actor, then: str) -> None:
        actor.stage, actor.then = Stage.SAVING, then
        actor.trial.is_saving = True
        self.emit(events.Save(actor.trial.trial_id))

    def _pause(self, actor: Actor) -> None:
        self.move(actor.trial, Trial.PAUSED)
        self.emit(Note("pause", actor.trial))
        self._stop(actor)

    def suspend(self, actor: Actor) -> None:
        """End the actor, so that its trial goes on another time."""
        if actor.stage is Stage.STOPPING:
            return
        if actor.trial.status == Trial.RUNNING:
            self.move(actor.trial, Trial.PENDING)
        self._stop(actor)

    def _stop(self, actor: Actor) -> None:
        actor.stage = Stage.STOPPING
        self.moved = True
        self.emit(events.Stop(actor.trial.trial_id))
        self._saving_is_over(actor.trial)

    def _finish(self, trial: Trial, status: Status, interrupted: bool = False) -> None:
        self.move(trial, status, interrupted)
        self.emit(Note("error" if status == Trial.ERROR else "complete", trial))
        actor = self.actors.get(trial.trial_id)
        if actor is not None and actor.stage not in (Stage.SAVING, Stage.STOPPING):
            self._stop(actor)

    def _failed(self, trial: Trial, error: BaseException, preempted: bool) -> None:
        """Its actor has failed, and ends or is gone."""
        if trial.status != Trial.RUNNING:  # it was to end, or to become a clone
            return
        trial.error = error
        trial.num_failures += not preempted
        self.emit(Write(records.Failure(self.now, trial.trial_id, error, trial.num_failures)))
        if preempted or self.settings.max_failures < 0 or trial.num_failures <= self.settings.max_failures:
            trial.status = Trial.ERROR
            self.scheduler.on_trial_error(self, trial)
            self.cohort.add(trial)
            self.move(trial, Trial.PENDING)
            self.scheduler.on_trial_add(self, trial)
            self.emit(Note("recover", trial))
        else:
            self.fail(trial, error)
        if self.settings.fail_fast and not preempted:
            self.failure = self.failure or error

    def fail(self, trial: Trial, error: BaseException) -> None:
        """It ends with this error."""
        trial.error = error
        self.scheduler.on_trial_error(self, trial)
        self._tell_search(trial, error=True)
        self._finish(trial, Trial.ERROR)

    def _tell_search(self, trial: Trial, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The trial has ended."""
        if trial.trial_id in self.returned:
            return
        self.ask_at = float("-inf")
        if error:
            self.search_alg.on_trial_complete(trial.trial_id, error=True)
        else:
            self.search_alg.on_trial_complete(trial.trial_id, result=result)

    def end(self, ending: Ending, error: BaseException | None = None) -> None:
        """Begin no more trials, and end those that run."""
        if self.ending in ("stopped", "failed"):
            return
        self.ending, self.error, self.moved = ending, error, True
        if ending in ("stopped", "failed"):
            for trial in list(self.cohort.live.values()):
                self._finish(trial, Trial.TERMINATED, interrupted=ending == "failed")

    # -------------------------------------------------------------- checkpoints and clones

    def _keep(self, trial: Trial, checkpoint: Checkpoint, metrics: dict[str, Any]) -> None:
        self.emit(Note("checkpoint", trial, checkpoint=checkpoint))
        for old, was_own in self.checkpoints.keep(trial, checkpoint, metrics):
            if was_own:
                self.emit(Write(records.Dropped(self.now, trial.trial_id, self.path_of(old))))
            if not was_own or self.checkpoints.may_delete(old):
                self.emit(events.Delete(old))

    def _saving_is_over(self, donor: Trial) -> None:
        if donor.is_saving:
            donor.is_saving = False
            self._found_for_clones(donor)

    def _found_for_clones(self, donor: Trial) -> None:
        """Begin clones of the donor, which has a checkpoint now; or let them go on as they were."""
        for name in [name for name, (one, _, _) in self.clones.items() if one is donor]:
            _, config, tag = self.clones.pop(name)
            trial, actor = self.cohort.all[name], self.actors.get(name)
            self.moved = True
            if donor.checkpoint is not None:
                path = self.path_of(donor.checkpoint)
                new = (trial.config, trial.experiment_tag)
                self.emit(Write(records.Cloned(self.now, name, donor.trial_id, *new, path)))
                for old in self.checkpoints.borrow(trial, donor.checkpoint):
                    self.emit(events.Delete(old))
                if actor is not None and actor.stage is not Stage.STOPPING:
                    self._stop(actor)
                continue
            trial.config, trial.experiment_tag = config, tag
            if actor is None or actor.stage is Stage.STOPPING:
                continue
            self.move(trial, Trial.RUNNING)
            if actor.stage is Stage.HELD:
                self._act(actor, actor.then or CONTINUE)

    def path_of(self, checkpoint: Checkpoint) -> str:
        """As it is recorded."""
        return self.settings.relative(checkpoint.path)

    # -------------------------------------------------------------- small things

    def emit(self, command: Command) -> None:
        """Have this done, after what was there before."""
        self._commands.append(command)

    def move(self, trial: Trial, status: Status, interrupted: bool = False) -> None:
        """Give the trial this status, and record it."""
        self.cohort.move(trial, status)
        self.moved = True
        self.emit(Write(records.Changed(self.now, trial.trial_id, status, interrupted)))

    def busy(self) -> Collection[str]:
        """Trials that cannot start: their actors have not ended, or they wait for a donor's checkpoint."""
        return self.actors.keys() | self.clones.keys() if self.clones else self.actors.keys()

    def _is_save_due(self, trial: Trial, decision: str) -> bool:
        if self.ending and decision == CONTINUE:
            return True
        if self.settings.checkpoint_at_end and trial.last_result.get("done"):
            return True
        frequency = self.settings.checkpoint_frequency
        return frequency > 0 and trial.last_result.get("training_iteration", 0) % frequency == 0

"""Puts an experiment together and runs it: search, scheduler, engine, journal, callbacks, and the actors of trials."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Any

import hpc
from hpc.runs.drained import Drained
from hpc.runs.files import files_of, join
from hpc.runs.uploading import MARKER_FILE, Place, why_not_own
from hpc.tune import events as ev
from hpc.tune.analysis import ExperimentAnalysis
from hpc.tune.analysis.sources import Known
from hpc.tune.default_callbacks import ToldList, callbacks_for
from hpc.tune.engine import Engine
from hpc.tune.error import TuneError
from hpc.tune.ledger import PLAN, Ledger, Reports, packed
from hpc.tune.mirror import Mirror
from hpc.tune.naming import custom_dirname, trial_dirname
from hpc.tune.placement import PlacementGroupFactory
from hpc.tune.plan import Plan, described, make_directory
from hpc.tune.records import RETENTION, Noted
from hpc.tune.reporter.output import About
from hpc.tune.reporter.trials import usage_text
from hpc.tune.runner import Runner
from hpc.tune.schedulers import FIFOScheduler, create_scheduler
from hpc.tune.searching import Searching
from hpc.tune.seats import Seats, why_never
from hpc.tune.settings import Settings
from hpc.tune.stopper import NoopStopper, stopper_of
from hpc.tune.telling import TuneTelling
from hpc.tune.trial import Trial
from hpc.tune.variants import split_space
from hpc.tune.walltime import Walltime
from hpc.tune.worker import Experiment

#: "1": a result without the metric of the experiment is no error.
NOT_STRICT_VARIABLE = "TUNE_DISABLE_STRICT_METRIC_CHECKING"
#: The key of the callbacks' states.
CALLBACKS = "callbacks"
#: In the session's directory: the journals of experiments whose results are on a file system of pyarrow's.
JOURNALS = "tune-journals"
#: The session's resources are asked for again, to be shown, after this time.
TOTAL_EVERY_S = 10.0
#: For at least, and at most, so many rooms trials wait at a time.
LEAST_ROOMS, MOST_ROOMS = 2, 32


@dataclass
class Fitted:
    """What came of an experiment. history: finds all reports of a trial."""

    trials: list[Trial]
    end: ev.End
    history: Callable[[Trial], list[dict[str, Any]]] | None = None

    def analysis(self, plan: Plan) -> ExperimentAnalysis:
        """It as tables."""
        return ExperimentAnalysis(
            plan.path,
            storage_filesystem=plan.filesystem,
            default_metric=plan.tune.metric,
            default_mode=plan.tune.mode,
            _source=Known(self.trials, self.history, plan.filesystem, plan.retention),
        )


class Fitting:
    """One run of a plan."""

    def __init__(self, plan: Plan) -> None:
        """Raises TuneError or ValueError for what could never run, with nothing begun."""
        self.plan = plan
        self._described = packed(described(plan))  # as it was given: scheduler and search are told of the metric below
        self.stop, self.stopper = stopper_of(plan.run.stop)
        self.scheduler = _scheduler(plan)
        self.searching = Searching(plan)
        _check_room(plan)
        make_directory(plan)
        run = plan.run
        self.experiment = Experiment(
            plan.storage_path,
            str(run.name),
            secrets.token_hex(8),
            plan.filesystem,
            plan.chdir,
            self._runs_ahead(),
            self.stop,
            run.log_files(),
            run.sync_config.sync_artifacts,
            run.sync_config.sync_artifacts_on_checkpoint,
            ends=f"{run.name}-{secrets.token_hex(4)}",
        )
        self._resources = Resources()
        self.engine = Engine(self._settings(), self.scheduler, self.searching, self.stopper, self._resources)
        self.walltime = Walltime(time.time, hpc.get_runtime_context())
        self.ledger = self._ledger()
        self.telling = TuneTelling(plan, self.engine, self.scheduler, self.searching)
        self._turns = 0
        self._trials: list[Trial] = []
        self._told = ToldList([])
        self._taken: set[str] | None = None

    def _ledger(self) -> Ledger:
        plan = self.plan
        if plan.filesystem is None:
            return Ledger(plan.path, self._states)
        local = os.path.join(hpc.get_runtime_context().get_temp_dir(), JOURNALS, self.experiment.token)
        return Ledger(local, self._states, Mirror(self._place(), local), plan.filesystem)

    def _place(self) -> Place:
        plan = self.plan
        return Place(plan.storage_path, str(plan.run.name), self.experiment.token, plan.filesystem)

    def _mark(self) -> None:
        """From now on the directory is of this driver. Raises TuneError where that cannot be written."""
        path = join(self.plan.path, MARKER_FILE)
        try:
            files_of(self.plan.filesystem).write(path, self.experiment.token.encode())
        except OSError as error:
            raise TuneError(
                f"{path} cannot be written: {error}. Set RunConfig(storage_path=...) to another place"
            ) from None

    def _runs_ahead(self) -> bool:
        """Whether nothing but RunConfig.stop can end a trial."""
        plain = type(self.scheduler) is FIFOScheduler and type(self.stopper) is NoopStopper
        return plain and self.plan.is_function and not self.searching.learns

    def _settings(self) -> Settings:
        plan = self.plan
        failures, checkpoints = plan.run.failure_config, plan.run.checkpoint_config
        return Settings(
            plan.name,
            metric=plan.tune.metric,
            strict=os.environ.get(NOT_STRICT_VARIABLE, "0") != "1",
            stop=self.stop,
            max_failures=failures.max_failures,
            fail_fast=bool(failures.fail_fast),
            retention=plan.retention,
            saves=not plan.is_function,
            checkpoint_frequency=checkpoints.checkpoint_frequency,
            checkpoint_at_end=plan.checkpoint_at_end,
            time_budget_s=plan.tune.budget_s(),
            ahead=self.searching.ahead,
            asking=_rooms_at_a_time(),
            root=plan.path,
            is_local=plan.filesystem is None,
            name=self._name,
        )

    def _name(self, trial: Trial) -> None:
        """Give a new trial its name and directory."""
        tune = self.plan.tune
        if tune.trial_name_creator is not None:
            trial.custom_trial_name = str(tune.trial_name_creator(trial))
        if tune.trial_dirname_creator is not None:
            name = self._not_taken(custom_dirname(tune.trial_dirname_creator(trial)))
        else:
            name = trial_dirname(str(trial), trial.experiment_tag, datetime.now())
        trial.path = join(self.plan.path, name)
        trial.is_local = self.plan.filesystem is None

    def _not_taken(self, name: str) -> str:
        """The name of a directory that no trial has, so that none replaces another one's checkpoints."""
        if self._taken is None:
            self._taken = {str(one.path).rpartition("/")[2] for one in self.engine.cohort.all.values() if one.path}
        free = name
        while free in self._taken:
            free = f"{name}_{secrets.token_hex(2)}"
        self._taken.add(free)
        return free

    def run(self) -> Fitted:
        """Until all trials have ended.

        Raises TuneError where another driver runs the experiment, and Drained when the session ends before.
        """
        plan, ledger = self.plan, self.ledger
        if plan.filesystem is not None:  # without locks a driver that still runs learns by this that it is not alone
            self._mark()
        before = ledger.take_up(self.engine, plan.resume)
        ledger.open()
        try:
            self._told = self._callbacks()
            if not ledger.has_plan:
                ledger.write(Noted(time.time(), PLAN, self._described))
            ledger.write(Noted(time.time(), RETENTION, list(astuple(plan.retention))))
            if before is not None:
                self._trials.extend(before[0].made)
                self._told.set_state(before[1].get(CALLBACKS) or {})
            self._mark()
            seats = Seats(plan.data, self.experiment, plan.is_function, plan.tune.reuse_actors)
            runner = Runner(
                self.engine, seats, self.experiment, self.searching, self.walltime, ledger, self._note, self._turn,
                self.telling.written,
            )  # fmt: skip
            runner.adopt(self.engine.get_trials())
            self._step_begins()
            end = self._run(runner)
            self._told.on_experiment_end(trials=self._trials)
        finally:
            self._told.close()
            self.searching.close()
            ledger.close()
            self._give_up_directory()
        fitted = Fitted(self._trials, end, Reports(plan.path, plan.filesystem))
        self._end(end)
        return fitted

    def _run(self, runner: Runner) -> ev.End:
        """Have others know of it meanwhile."""
        self.telling.begin()
        try:
            end = runner.run()
        except BaseException as error:
            self.telling.end("", error)
            raise
        self.telling.end(end.ending, end.error)
        return end

    def _give_up_directory(self) -> None:
        """Trials store no more, unless another driver has the directory by now: then it is no more of ours."""
        if not why_not_own(self._place()):
            files_of(self.plan.filesystem).delete(join(self.plan.path, MARKER_FILE))

    def _states(self) -> dict[str, Any] | None:
        """What is kept beside the journal; None where that has to wait for the search."""
        if self.engine.asking and not self.engine.ended:
            return None
        return {**self.engine.states(), CALLBACKS: self._told.get_state()}

    def _callbacks(self) -> ToldList:
        plan, run = self.plan, self.plan.run
        about = About(
            str(run.name), plan.path, type(self.searching.algorithm).__name__, type(self.scheduler).__name__,
            self.searching.total, plan.tune.metric, plan.tune.mode, list(plan.space),
            resources=self._usage,
        )  # fmt: skip
        told = callbacks_for(run.callbacks, about=about, verbose=run.verbose, progress_reporter=run.progress_reporter)
        told.setup(
            stop=run.stop, num_samples=plan.tune.num_samples, total_num_samples=self.searching.total,
            storage_filesystem=plan.filesystem,
        )  # fmt: skip
        return told

    def _usage(self) -> str:
        """What the running trials hold of what the session has, as Ray says it."""
        shapes = (one.placement_group_factory for one in self.engine.get_live_trials() if one.status == Trial.RUNNING)
        held = [shape.required_resources for shape in shapes if isinstance(shape, PlacementGroupFactory)]
        return usage_text(held, self._resources.total())

    def _note(self, note: ev.Note) -> None:
        """Tell callbacks."""
        if note.kind == "add":
            self._trials.append(note.trial)
        elif note.kind == "result":
            self.telling.result(note.trial, note.result)
        hook = _HOOKS.get(note.kind)
        if hook is None or not self._told.hears(hook):
            return
        info: dict[str, Any] = {"iteration": self._turns, "trials": self._trials, "trial": note.trial}
        if note.kind == "result":
            info["result"] = note.result
        elif note.kind == "checkpoint":
            info["checkpoint"] = note.checkpoint
        getattr(self._told, hook)(**info)

    def _turn(self) -> None:
        self._turns += 1
        if self._told.hears("on_step_end"):
            self._told.on_step_end(iteration=self._turns, trials=self._trials)
        self._step_begins()

    def _step_begins(self) -> None:
        if self._told.hears("on_step_begin"):
            self._told.on_step_begin(iteration=self._turns + 1, trials=self._trials)

    def _end(self, end: ev.End) -> None:
        run = self.plan.run
        if end.ending == "suspended":
            say(
                f"the experiment {run.name} has ended before it is complete. It goes on by the same script with this "
                f"name, or by tune.Tuner.restore({self.plan.path!r}, trainable).fit()"
            )
            if self.walltime.drains and self.plan.named:
                raise Drained(f"the session ends; the experiment {run.name} goes on from {self.plan.path}")
        if end.ending == "failed" and end.error is not None and run.failure_config.fail_fast == "raise":
            raise end.error


#: The methods of callbacks for what the engine notes.
_HOOKS: dict[str, str] = {
    "start": "on_trial_start",
    "restore": "on_trial_restore",
    "result": "on_trial_result",
    "save": "on_trial_save",
    "checkpoint": "on_checkpoint",
    "recover": "on_trial_recover",
    "complete": "on_trial_complete",
    "error": "on_trial_error",
}


def _check_room(plan: Plan) -> None:
    """Raise TuneError for trials that no node could ever hold, where that is known beforehand."""
    try:
        shape = plan.resources({path[0]: value for path, value in split_space(plan.space)[0] if len(path) == 1})
    except Exception:
        return  # it follows from each trial's configuration, and is looked at then
    why = why_never(shape)
    if why:
        raise TuneError(f"no node will ever have room for a trial of {plan.name} with {shape}: {why}")


class Resources:
    """What the session has, for schedulers that give it to trials, and for people."""

    def __init__(self) -> None:
        self._total: dict[str, float] = {}
        self._asked = float("-inf")

    def total(self) -> dict[str, float]:
        """All resources of all nodes, as they were at most so many seconds ago: reporters ask for it often."""
        now = time.monotonic()
        if now - self._asked > TOTAL_EVERY_S:
            self._asked = now
            self._total = hpc.cluster_resources()
        return self._total

    def get_num_cpus(self) -> float:
        """The CPUs of all nodes."""
        return float(hpc.cluster_resources().get("CPU", 0.0))

    def get_num_gpus(self) -> float:
        """The GPUs of all nodes."""
        return float(hpc.cluster_resources().get("GPU", 0.0))


def _scheduler(plan: Plan) -> Any:
    """The scheduler, told of the metric. Raises ValueError where it has one of its own already, as Ray does."""
    given = plan.tune.scheduler
    scheduler = create_scheduler(given) if isinstance(given, str) else given or FIFOScheduler()
    if not scheduler.set_search_properties(plan.tune.metric, plan.tune.mode):
        raise ValueError("metric and mode were given to TuneConfig and to the scheduler: give them to TuneConfig alone")
    return scheduler


def _rooms_at_a_time() -> int:
    """For so many rooms trials wait at a time: more than the nodes could give at once is of no use."""
    return max(LEAST_ROOMS, min(MOST_ROOMS, int(hpc.cluster_resources().get("CPU", 0))))


def say(text: str) -> None:
    """A message about an experiment, on the driver's terminal."""
    print(f"tune: {text}", file=sys.stderr, flush=True)

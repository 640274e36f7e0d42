"""An experiment that goes on: the engine gets the trials of the journal, and its scheduler and searcher what they saw.

Pure. The scheduler and the searcher begin with the states that were kept last, if they can. They are then told the
later facts in their order. What they decide then does not count: the decisions are facts, too. A scheduler without a
kept state is told all facts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from hpc.tune import records
from hpc.tune.engine import Engine
from hpc.tune.error import TuneError
from hpc.tune.events import Suggestion, Write
from hpc.tune.flat import flatten_dict
from hpc.tune.history import History
from hpc.tune.kinds import KINDS, kind_of
from hpc.tune.metrics import is_over
from hpc.tune.retention import Rule
from hpc.tune.stopper import FunctionStopper, NoopStopper
from hpc.tune.trial import Trial

logger = logging.getLogger(__name__)

RESUME, RESTART, SKIP = "resume", "restart", "skip"
SCHEDULER, SEARCH = "scheduler", "search"


def resume(
    engine: Engine,
    facts: Iterable[tuple[int, records.AnyRecord]],
    now: float,
    *,
    kept: tuple[int, Mapping[str, Any]] = (0, {}),
    finished: str = SKIP,
    unfinished: str = RESUME,
    errored: str = SKIP,
    filesystem: Any = None,
    new_id: Callable[[], str] | None = None,
) -> History:
    """Bring the engine, which is new, to where the facts end. Call it before its first step.

    facts: records with the positions of their ends. kept: a position, and the states of "scheduler" and "search" as
    they were there. finished, unfinished, errored: what becomes of such trials: "resume" from the latest checkpoint,
    "restart" under a new id, or "skip". new_id: makes the ids of those. A trial that ended by the stop dict goes on if
    the dict wants more of it now.
    """
    history = History(engine.settings.root, filesystem)
    told = _Told(engine, history, *kept)
    for end, record, ended in _with_ends(facts):
        told.may_end = ended
        told.tell(end, record)
        history.apply(record)
        told.tell_after(end, record)
    told.load()
    history.stop_clock()
    history.interrupt()
    engine.used_s = history.used_s
    engine.begin(now)
    ways = {Trial.TERMINATED: finished, Trial.ERROR: errored}
    ranked = Rule(None, engine.settings.retention.attribute, engine.settings.retention.order)
    for trial in history.made:
        order: list[Any] = []
        for one in trial.checkpoints:
            order, _ = ranked.add(order, one)
        trial.checkpoints = order
    trials = [trial for trial in history.made if trial.is_finished()]
    trials += sorted(history.cohort.live.values(), key=lambda trial: trial.last_result_time, reverse=True)
    for trial in trials:
        engine.cohort.add(trial)
    engine.checkpoints.load(trials)
    for trial in trials:
        cut_off = trial.trial_id in history.interrupted
        way = unfinished if cut_off or not trial.is_finished() else ways[trial.status]
        if (
            way == SKIP
            and trial.trial_id in history.stopped
            and not is_over(flatten_dict(trial.last_result), engine.settings.stop)
        ):
            way = RESUME
        if way == RESTART:
            _restart(engine, history, trial, new_id)
        elif way == RESUME and trial.is_finished():
            _go_on(engine, trial, cut_off)
        elif way == SKIP and not trial.is_finished():
            engine.stop_trial(trial)
    return history


def _go_on(engine: Engine, trial: Trial, cut_off: bool) -> None:
    trial.error = None
    trial.last_result = {**trial.last_result, "done": False}
    engine.cohort.add(trial)
    engine.move(trial, Trial.PENDING)
    if not cut_off:  # the scheduler was told that it has ended
        engine.scheduler.on_trial_add(engine, trial)
        engine.returned.add(trial.trial_id)


def _restart(engine: Engine, history: History, old: Trial, new_id: Callable[[], str] | None) -> None:
    if new_id is None:
        raise TuneError("trials that restart need new ids")
    if not old.is_finished():
        engine.stop_trial(old)
    engine.cohort.remove(old)
    removed = records.Removed(engine.now, old.trial_id)
    engine.emit(Write(removed))
    history.apply(removed)
    new = Trial(
        old.trainable_name,
        trial_id=new_id(),
        config=old.config,
        evaluated_params=old.evaluated_params,
        experiment_tag=old.experiment_tag,
        placement_group_factory=old.placement_group_factory,
    )
    engine.settings.name(new)
    engine.returned.add(new.trial_id)
    engine.add(new, restart_of=old.trial_id)


def _with_ends(
    facts: Iterable[tuple[int, records.AnyRecord]],
) -> Iterator[tuple[int, records.AnyRecord, Collection[str]]]:
    """The facts, each result with the trials that ended at once with it."""
    held: list[tuple[int, records.AnyRecord]] = []
    for fact in facts:
        if held and isinstance(fact[1], records.Result):
            yield from _group(held)
            held = []
        held.append(fact)
    yield from _group(held)


def _group(
    held: list[tuple[int, records.AnyRecord]],
) -> Iterator[tuple[int, records.AnyRecord, Collection[str]]]:
    ended = {
        record.trial_id
        for _, record in held
        if isinstance(record, records.Changed) and record.status == Trial.TERMINATED and record.at == held[0][1].at
    }
    for end, record in held:
        yield end, record, ended


class _Told:
    """Tells a scheduler, a searcher and a stopper the facts of a journal. It is their controller meanwhile."""

    def __init__(self, engine: Engine, history: History, at: int, states: Mapping[str, Any]) -> None:
        self._engine = engine
        self._history = history
        self._at = at
        self._states = {name: states[name] for name in (SCHEDULER, SEARCH) if self._is_its_own(name, states)}
        self._loaded = False
        self._since = {name: at if name in self._states else 0 for name in (SCHEDULER, SEARCH)}
        self._ended: set[str] = set()
        self._end_now = 0
        #: The trials that ended with the result that is told now.
        self.may_end: Collection[str] = ()
        self._errors: set[str] = set()
        stopper = engine.stopper
        self._stopper = None if type(stopper) in (NoopStopper, FunctionStopper) else stopper

    def _is_its_own(self, name: str, states: Mapping[str, Any]) -> bool:
        """Whether there is a state of the scheduler, or of the search, that it has made itself."""
        part = self._engine.scheduler if name == SCHEDULER else self._engine.search_alg
        made_by, kind = states.get(KINDS, {}).get(name), kind_of(part)
        if states.get(name) is None or made_by in (None, kind):
            return states.get(name) is not None
        logger.warning(
            "the experiment goes on with the %s %s, and had %s: it is told all results anew", name, kind, made_by
        )
        return False

    def load(self) -> None:
        """Give the states that were kept."""
        if self._loaded:
            return
        self._loaded = True
        try:
            if SCHEDULER in self._states:
                self._engine.scheduler.load(self._states[SCHEDULER], self._history.cohort.all.get)
            if SEARCH in self._states:
                self._engine.search_alg.load(self._states[SEARCH])
        except Exception as error:
            raise TuneError(
                f"what the scheduler or the search had seen cannot be loaded: {type(error).__name__}: {error}. Delete "
                "the file experiment.state: they are told all results anew then"
            ) from error

    def tell(self, end: int, record: records.AnyRecord) -> None:
        """Before the history has this fact."""
        self._end_now = end
        if end > self._at:
            self.load()
        if isinstance(record, records.Result):
            self._result(end, record)
        elif isinstance(record, records.Changed):
            self._changed(end, record)
        elif isinstance(record, records.Failure):
            self._errors.add(record.trial_id)

    def tell_after(self, end: int, record: records.AnyRecord) -> None:
        """Now that the history has it."""
        if isinstance(record, records.Added):
            trial = self._history.cohort.all[record.trial_id]
            if record.restart_of is not None:
                self._engine.returned.add(trial.trial_id)
            elif end > self._since[SEARCH]:
                self._engine.search_alg.adopt(
                    Suggestion(trial.trial_id, trial.config, trial.evaluated_params, trial.experiment_tag)
                )
            if end > self._since[SCHEDULER]:
                self._engine.scheduler.on_trial_add(self, trial)

    def _result(self, end: int, record: records.Result) -> None:
        trial = self._history.cohort.all[record.trial_id]
        wanted = end > min(self._since.values())
        if not wanted and self._stopper is None:
            return
        result = {**record.metrics, "trial_id": trial.trial_id, "config": trial.config}
        flat = flatten_dict(result)
        if self._stopper is not None and record.by != "nobody":
            self._stopper(trial.trial_id, result)
        if end > self._since[SCHEDULER] and record.by == "scheduler":
            self._engine.scheduler.on_trial_result(self, trial, flat)
        if end > self._since[SEARCH] and record.decision != "STOP" and trial.trial_id not in self._engine.returned:
            self._engine.search_alg.on_trial_result(trial.trial_id, flat)

    def _changed(self, end: int, record: records.Changed) -> None:
        trial = self._history.cohort.all[record.trial_id]
        name = trial.trial_id
        if record.status == Trial.RUNNING or record.interrupted:
            return
        if record.status == Trial.PENDING:
            again = trial.is_finished() and name not in self._history.interrupted
            if end > self._since[SCHEDULER] and (name in self._errors or again):
                if name in self._errors:
                    trial.status = Trial.ERROR
                    self._engine.scheduler.on_trial_error(self, trial)
                trial.status = Trial.PENDING
                self._engine.scheduler.on_trial_add(self, trial)
            if again:
                self._engine.returned.add(name)
            self._errors.discard(name)
            self._ended.discard(name)
        elif record.status == Trial.TERMINATED:
            self._end(end, trial)
        elif record.status == Trial.ERROR:
            self._errors.discard(name)
            if end > self._since[SCHEDULER]:
                self._engine.scheduler.on_trial_error(self, trial)
            if end > self._since[SEARCH] and name not in self._engine.returned:
                self._engine.search_alg.on_trial_complete(name, error=True)

    def _end(self, end: int, trial: Trial) -> None:
        if trial.trial_id in self._ended:
            return
        self._ended.add(trial.trial_id)
        last = flatten_dict(trial.last_result) if trial.status == Trial.RUNNING else None
        if end > self._since[SCHEDULER]:
            if last is not None:
                self._engine.scheduler.on_trial_complete(self, trial, last)
            else:
                self._engine.scheduler.on_trial_remove(self, trial)
        if end > self._since[SEARCH] and trial.trial_id not in self._engine.returned:
            self._engine.search_alg.on_trial_complete(trial.trial_id, result=last)

    # -------------------------------------------------------------- what a scheduler may ask for meanwhile

    @property
    def search_alg(self) -> Any:
        """Where trials come from."""
        return self._engine.search_alg

    @property
    def resource_updater(self) -> Any:
        """What the session has."""
        return self._engine.resource_updater

    def get_trials(self) -> list[Trial]:
        """All trials so far."""
        return list(self._history.cohort.all.values())

    def get_live_trials(self) -> Collection[Trial]:
        """The trials that had not finished then."""
        return self._history.cohort.live.values()

    def get_trial(self, tid: str) -> Trial | None:
        """The trial of this id."""
        return self._history.cohort.all.get(tid)

    def next_waiting(self) -> Trial | None:
        """The first that waits."""
        return self._history.cohort.first_waiting(())

    def pause_trial(self, trial: Trial, should_checkpoint: bool = True) -> None:
        """What came of it is a fact of its own."""

    def save_trial(self, trial: Trial) -> None:
        """What came of it is a fact of its own."""

    def stop_trial(self, trial: Trial) -> None:
        """The scheduler hears of the end at once, as it did then; if it did."""
        if not trial.is_finished() and trial.trial_id in self.may_end:
            self._end(self._end_now, trial)

    def exploit(self, trial: Trial, donor: Trial, new_config: dict[str, Any], tag: str) -> bool:
        """Whether there was something to go on from."""
        return donor.checkpoint is not None or donor.is_saving

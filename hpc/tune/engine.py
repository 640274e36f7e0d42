"""An experiment as a pure machine: it is told events, and says what is to be done. No clock, no I/O, no actors.

    PENDING --Start--> RUNNING --Stop--> TERMINATED, ERROR, PAUSED, or PENDING again
    PAUSED --Start--> RUNNING

`hpc.tune.training` has what happens to trials that run. Here is what is around them: where trials come from, the rooms
that they run in, and the end.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any

from hpc.tune import events, records
from hpc.tune.error import TuneError
from hpc.tune.events import Command, Event, Note, Write
from hpc.tune.kinds import KINDS, kind_of
from hpc.tune.last_facts import last_facts
from hpc.tune.records import AnyRecord
from hpc.tune.rooms import Rooms
from hpc.tune.settings import Settings
from hpc.tune.stage import Actor, Stage
from hpc.tune.stopper import Stopper
from hpc.tune.training import Training
from hpc.tune.trial import Trial

#: A searcher that had nothing is asked again after so many seconds.
ASK_AGAIN_S = 1.0


class Engine(Training):
    """The experiment. scheduler: Ray's methods. search: where trials come from, and what is told of results.

    updater: what the session has, for schedulers: see `hpc.tune.trial.Controller`.
    """

    def __init__(
        self, settings: Settings, scheduler: Any, search: Any, stopper: Stopper | None = None, updater: Any = None
    ) -> None:
        super().__init__(settings, scheduler, search, stopper, updater)
        self.rooms = Rooms()
        #: Seconds that the experiment has taken, all drivers together.
        self.used_s = 0.0
        self.ended = False
        self._began = False
        self._exhausted = False
        self._most_at_once = 0  # trials that ran or waited for room
        #: Whether the searcher has a question to answer.
        self.asking = False
        self._until = float("inf")
        #: Events that are not handled yet; the first one is being handled.
        self._heard: deque[Event] = deque()
        self._handlers: dict[type, Callable[[Any], None]] = {
            events.Suggested: self._suggested,
            events.NothingNow: self._nothing_now,
            events.Exhausted: self._is_exhausted,
            events.Reserved: self._reserved,
            events.ReservationLost: self._room_lost,
            events.Unschedulable: self._unschedulable,
            events.Started: self._started,
            events.Reported: self._reported,
            events.Returned: self._returned,
            events.Saved: self._saved,
            events.SaveFailed: self._fails,
            events.Failed: self._fails,
            events.Stopped: self._stopped,
            events.WindDown: self._wind_down,
        }

    def step(self, found: Iterable[Event], now: float) -> list[Command]:
        """What is to be done after these events, in order. now: seconds since 1970.

        Without events it tells the time: call it so at least once a second. Nothing comes after `End`.
        """
        if self.ended:
            return []
        if not self._began:
            self.begin(now)
        elif now > self.now:
            self.used_s += now - self.now
        self.now = now
        heard = self._heard
        heard.extend(found)
        events_found = bool(heard)
        while heard:
            event = heard[0]
            self._handlers[type(event)](event)
            heard.popleft()
        self._look_for_the_end()
        self._ask()
        if self.moved or not events_found:  # a scheduler may decide by the time
            self.moved = False
            self._arrange()
        self._maybe_end()
        commands, self._commands = self._commands, []
        return commands

    def last_facts(self, found: Iterable[Event]) -> Iterator[AnyRecord]:
        """An error was raised, by `step` or else: the facts that no command had yet. The engine is of no use then.

        found: what it has not been told. Nobody is asked about them: no scheduler, stopper or searcher.
        """
        return last_facts(self, self._commands, [*self._heard, *found])

    def begin(self, now: float) -> None:
        """A driver takes the experiment up."""
        self._began = True
        self.now = now
        self.emit(Write(records.Began(now, self.settings.trainable_name)))

    def states(self) -> dict[str, Any]:
        """What the scheduler and the searcher have seen, for `hpc.tune.resume`. It holds for the facts so far.

        Take it while no answer of the searcher is on its way. Trials that it has made, and that no fact tells of, would
        be lost.
        """
        parts = {"scheduler": self.scheduler, "search": self.search_alg}
        states: dict[str, Any] = {name: part.state() for name, part in parts.items() if hasattr(part, "state")}
        return {**states, KINDS: {name: kind_of(parts[name]) for name in states}}

    # -------------------------------------------------------------- new trials

    def _suggested(self, event: events.Suggested) -> None:
        self.asking = False
        if self.ending not in (None, "suspended"):
            return
        for one in event.suggestions:
            trial = Trial(
                self.settings.trainable_name,
                trial_id=one.trial_id,
                config=one.config,
                evaluated_params=one.evaluated_params,
                experiment_tag=one.experiment_tag,
                placement_group_factory=self.settings.shape if one.resources is None else one.resources,
            )
            self.settings.name(trial)
            self.add(trial)

    def add(self, trial: Trial, restart_of: str | None = None) -> None:
        """A new trial. restart_of: the one that it takes the place of."""
        self.cohort.add(trial)
        # The record has what the scheduler changes in the config: it is written after this.
        path = None if trial.path is None else self.settings.relative(trial.path)
        record = records.Added(
            self.now, trial.trial_id, trial.config, trial.evaluated_params, trial.experiment_tag,
            trial.custom_trial_name, path, trial.placement_group_factory, restart_of,
        )  # fmt: skip
        self.emit(Write(record))
        self.emit(Note("add", trial))
        self.scheduler.on_trial_add(self, trial)
        self.moved = True

    def _nothing_now(self, event: events.NothingNow) -> None:
        self.asking = False
        self.ask_at = self.now + ASK_AGAIN_S

    def _is_exhausted(self, event: events.Exhausted) -> None:
        self.asking = False
        self._exhausted = self.moved = True

    def _ask(self) -> None:
        count = self.settings.ahead - len(self.cohort.pending)
        if count > 0 and not self.ending and not self._exhausted and not self.asking and self.now >= self.ask_at:
            self.asking = True
            self.emit(events.Ask(count))

    # -------------------------------------------------------------- rooms

    def _reserved(self, event: events.Reserved) -> None:
        if self.rooms.got(event.reservation):
            self.moved = True

    def _room_lost(self, event: events.ReservationLost) -> None:
        name = self.rooms.lose(event.reservation)
        self.moved = True
        if name is not None:
            actor = self.actors.pop(name)
            if actor.stage is not Stage.STOPPING:
                self._saving_is_over(actor.trial)
                self._failed(actor.trial, TuneError(event.why), event.preempted)

    def _stopped(self, event: events.Stopped) -> None:
        actor = self.actors.pop(event.trial_id, None)
        if actor is None:
            return
        self.rooms.leave(actor.room)
        self.moved = True
        if actor.trial.is_finished():
            actor.trial.settle()
        if actor.stage is not Stage.STOPPING:
            self._saving_is_over(actor.trial)
            self._failed(actor.trial, TuneError(f"the actor of trial {event.trial_id} has ended"), False)

    def _unschedulable(self, event: events.Unschedulable) -> None:
        for number, shape in list(self.rooms.asked.items()):
            if shape == event.shape:
                self.rooms.lose(number)
                self.emit(events.Release(number))
        for trial in [*self.cohort.pending.values(), *self.cohort.paused.values()]:
            if trial.placement_group_factory == event.shape and trial.trial_id not in self.busy():
                self.fail(trial, TuneError(event.why))
        self.moved = True

    def _arrange(self) -> None:
        """Start the trials for which there is room, and see that there is as much of it as is wanted."""
        if self.ending:
            for number in self.rooms.release_all():
                self.emit(events.Release(number))
            return
        chosen = self._choose()
        while self.rooms.any_idle and ((chosen is not None and self._start(chosen)) or self._start_a_pending()):
            chosen = self._choose()
        wanted: Counter[Hashable] = Counter()
        for trial in self.cohort.ready(self.busy(), self.settings.asking):
            wanted[trial.placement_group_factory] += 1
        if chosen is not None and chosen.status == Trial.PAUSED:
            wanted[chosen.placement_group_factory] += 1
        may_come = set(self.cohort.shapes()) if self._exhausted else None
        self._most_at_once = max(self._most_at_once, len(self.cohort.live) - len(self.cohort.paused))
        soon = 0 if self._exhausted else self._most_at_once
        for number, asked in self.rooms.adjust(wanted, self.settings.asking, may_come, soon):
            if asked:
                self.emit(events.Reserve(number, self.rooms.asked[number]))
            else:
                self.emit(events.Release(number))

    def _choose(self) -> Trial | None:
        """The trial that the scheduler wants to run next, if it can start."""
        if not self.cohort.pending and not self.cohort.paused:
            return None
        trial: Trial | None = self.scheduler.choose_trial_to_run(self)
        if trial is None and not self.actors and not self.cohort.pending and not self.asking:
            # Nothing runs that a paused trial could wait for, and no trial comes: the pause would have no end.
            trial = self.next_waiting()
        if trial is None or trial.trial_id in self.busy():
            return None
        return trial if trial.status in (Trial.PENDING, Trial.PAUSED) else None

    def _start_a_pending(self) -> bool:
        """Start the first pending trial for which there is room, whichever the scheduler wants."""
        ready = self.cohort.ready(self.busy(), len(self.cohort.pending))
        return any(self._start(trial) for trial in ready)

    def _start(self, trial: Trial) -> bool:
        """Start it, if there is room."""
        room = self.rooms.take(trial.placement_group_factory, trial.trial_id)
        if room is None:
            return False
        self.actors[trial.trial_id] = Actor(trial, room)
        if trial.resized:
            trial.resized = False
            self.emit(Write(records.Shaped(self.now, trial.trial_id, trial.placement_group_factory)))
        self.move(trial, Trial.RUNNING)
        self.emit(events.Start(trial.trial_id, room, trial.config, trial.checkpoint))
        return True

    # -------------------------------------------------------------- the end

    def _wind_down(self, event: events.WindDown) -> None:
        self._until = event.until
        if self.ending:
            return
        self.end("suspended")
        for actor in list(self.actors.values()):
            if actor.stage is Stage.STARTING:
                self.suspend(actor)
            elif actor.stage is Stage.HELD and actor.trial.trial_id not in self.clones:
                self._decided(actor, "CONTINUE")
            elif actor.stage is Stage.STEPPING and not self.settings.saves:
                self.emit(events.Warn(actor.trial.trial_id))

    def _look_for_the_end(self) -> None:
        if self.ending == "suspended" and self.now >= self._until:
            for actor in list(self.actors.values()):
                self.suspend(actor)
        if self.failure is not None:
            self.end("failed", self.failure)
        if self.ending:
            return
        budget = self.settings.time_budget_s
        if self.stopper.stop_all() or (budget is not None and self.used_s >= budget):
            self.end("stopped")

    def _maybe_end(self) -> None:
        over = self._exhausted and not self.cohort.live
        if self.actors or not (self.ending or over):
            return
        if self.ending == "suspended" and not over and self.asking and self.now < self._until:
            return  # trials that the searcher makes just now are not lost
        for number in self.rooms.release_all():
            self.emit(events.Release(number))
        self.ended = True
        if self.ending is None or (over and self.ending == "suspended"):
            self.end("finished")
        assert self.ending is not None
        self.emit(events.End(self.ending, self.error))

"""A world in virtual time for the engine of an experiment: rooms that come and go, trials that fail, slow searchers.

``python -m tests.unit.tune_simulator 0:1000`` runs these seeds, and says which are bad.
"""

from __future__ import annotations

import heapq
import pickle
import random
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hpc.runs.checkpoint import Checkpoint
from hpc.tune import events
from hpc.tune.engine import Engine
from hpc.tune.journal import MAGIC, encode, parse
from hpc.tune.resume import resume
from hpc.tune.retention import Rule
from hpc.tune.schedulers import ASHAScheduler, HyperBandScheduler, MedianStoppingRule, PopulationBasedTraining
from hpc.tune.settings import Settings
from hpc.tune.stage import Stage
from hpc.tune.trial import Trial

#: Steps of the engine after which an experiment counts as stuck.
MOST_STEPS = 20_000
#: A driver is not killed more often: else nothing would ever end.
MOST_KILLS = 15


class Fifo:
    """The first trial that waits is the next; each result: go on."""

    metric = None

    def on_trial_add(self, controller, trial): ...
    def on_trial_error(self, controller, trial): ...
    def on_trial_complete(self, controller, trial, result): ...
    def on_trial_remove(self, controller, trial): ...

    def on_trial_result(self, controller, trial, result):
        return "CONTINUE"

    def choose_trial_to_run(self, controller):
        return controller.next_waiting()


class Wild(Fifo):
    """Decides at random: pauses, stops, clones, and asks for saves, of this trial and of others."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)

    def on_trial_result(self, controller, trial, result):
        other = self.draw.choice(list(controller.get_live_trials()))
        what = self.draw.random()
        if what < 0.05:
            controller.pause_trial(other, should_checkpoint=self.draw.random() < 0.5)
        elif what < 0.07:
            controller.stop_trial(other)
        elif what < 0.25:
            controller.save_trial(other)
        elif what < 0.45 and other is not trial:
            one, donor = (trial, other) if self.draw.random() < 0.7 else (other, trial)
            controller.exploit(one, donor, {**donor.config, "clone_of": donor.trial_id}, f"clone{self.draw.random()}")
        if trial.status != Trial.RUNNING:
            return "NOOP"
        return self.draw.choices(["CONTINUE", "PAUSE", "STOP"], [0.9, 0.09, 0.01])[0]

    def choose_trial_to_run(self, controller):
        waiting = [t for t in controller.get_live_trials() if t.status in (Trial.PENDING, Trial.PAUSED)]
        return self.draw.choice(waiting) if waiting and self.draw.random() < 0.8 else None


class Boom(Exception):
    """Raised by a scheduler of a user's."""


class Faulty:
    """Any scheduler; its hooks raise at random, before or after they are done."""

    def __init__(self, scheduler: Any, draw: random.Random, errors: float) -> None:
        self.inner, self.draw, self.errors, self.armed = scheduler, draw, errors, False

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self.inner, name)
        if not self.armed or not name.startswith("on_trial_") or self.draw.random() >= self.errors:
            return inner
        after = self.draw.random() < 0.5

        def fails(*given: Any) -> None:
            if after:
                inner(*given)
            raise Boom(name)

        return fails


@dataclass
class Plan:
    """One experiment: what it has, and what goes wrong."""

    trials: int = 8
    length: int = 5
    rooms: int = 3
    saves: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    fail: float = 0.0
    lose: float = 0.0
    kill: float = 0.0
    slow_search: bool = False
    reports_checkpoint: float = 0.5
    wild: bool = False
    scheduler: Callable[[], Any] = Fifo
    wind_down: float = 0.0
    errors: float = 0.0


class Search:
    """Trials of numbers, some at a time."""

    metric = None

    def __init__(self, plan: Plan, draw: random.Random) -> None:
        self.plan, self.draw, self.made, self.told = plan, draw, 0, {}
        self.finished = False

    def answer(self, count: int) -> events.Event:
        left = self.plan.trials - self.made
        if left <= 0 or self.finished:
            return events.Exhausted()
        if self.plan.slow_search and self.draw.random() < 0.3:
            return events.NothingNow()
        take = min(left, self.draw.randint(1, count))
        names = range(self.made, self.made + take)
        self.made += take
        return events.Suggested([events.Suggestion(f"t{n:05d}", {"n": n}, {"n": n}, f"n={n}") for n in names])

    def set_finished(self):
        self.finished = True

    def adopt(self, suggestion):
        self.made = max(self.made, int(suggestion.trial_id[1:]) + 1)

    def state(self):
        return self.made, dict(self.told)

    def load(self, state):
        self.made, self.told = state[0], dict(state[1])

    def on_trial_result(self, trial_id, result): ...

    def on_trial_complete(self, trial_id, result=None, error=False):
        assert trial_id not in self.told, f"{trial_id} is complete twice"
        self.told[trial_id] = result


class World:
    """Does what the engine says, in virtual time, and checks that it says nothing wrong."""

    def __init__(self, seed: int, plan: Plan) -> None:
        self.draw = random.Random(seed)
        self.seed, self.plan = seed, plan
        self.now = 1000.0
        self.queue: list[tuple[float, int, Any, events.Event]] = []
        self.number = 0
        self.held: set[int] = set()
        self.wanted: list[int] = []
        self.capacity = plan.rooms
        self.running: dict[str, dict[str, Any]] = {}
        self.files: dict[str, int] = {}
        self.worth: dict[str, int] = {}  # of one step; a clone has that of its donor
        self.deleted: set[str] = set()
        self.ended: events.End | None = None
        self.notes: list[tuple[str, str]] = []
        self.journal = bytearray(MAGIC)
        self.ends: list[int] = []  # of records that are not on disk yet
        self.synced = len(MAGIC)
        self.doomed: list[Checkpoint] = []
        self.kept: tuple[int, dict[str, Any]] = (0, {})
        self.kills = 0
        self.begin()

    def begin(self) -> None:
        plan = self.plan
        self.search = Search(plan, self.draw)
        settings = Settings("train", saves=plan.saves, **plan.settings)
        scheduler = Wild(self.seed + self.kills) if plan.wild else plan.scheduler()
        scheduler = Faulty(scheduler, self.draw, plan.errors) if plan.errors else scheduler
        self.engine = Engine(settings, scheduler, self.search)
        if len(self.journal) > len(MAGIC):
            facts = list(parse(bytes(self.journal), "the journal"))
            resume(self.engine, facts, self.now, kept=self.kept)
        if plan.errors:
            scheduler.armed = self.kills < MOST_KILLS

    def kill(self) -> None:
        """The driver is killed, and another one goes on: all that ran is gone, and what was not on disk, in part."""
        self.kills += 1
        del self.journal[self.draw.choice([self.synced, *self.ends]) :]
        if self.draw.random() < 0.5:
            self.journal += self.journal[-7:-2]  # the torn start of a record
        whole = [len(MAGIC), *(end for end, _ in parse(bytes(self.journal), "the journal"))]
        del self.journal[whole[-1] :]
        self.synced, self.ends = len(self.journal), []
        self.go_on()

    def step(self) -> list[events.Command]:
        """What the engine says. If its scheduler raises an error, what was told is recorded, and another goes on."""
        found = self.due()
        stepping = {name for name, actor in self.engine.actors.items() if actor.stage is Stage.STEPPING}
        try:
            return self.engine.step(found, self.now)
        except Boom:
            self.kills += 1
            for record in self.engine.last_facts([]):
                self.write(events.Write(record))
            self.sync(keep=False)
            self.go_on()
            if not self.plan.wild and self.plan.scheduler is Fifo:
                self.check_told([one for one in found if getattr(one, "trial_id", None) in stepping])
            return []

    def check_told(self, told: list[events.Event]) -> None:
        """Whether the journal has all of this."""
        for one in told:
            if isinstance(one, events.Returned):
                assert self.engine.cohort.all[one.trial_id].is_finished(), (
                    f"{one.trial_id} has returned, and runs again"
                )
            elif isinstance(one, events.Reported):
                last = self.engine.cohort.all[one.trial_id].last_result
                assert last["training_iteration"] == one.metrics["training_iteration"], f"{one.trial_id}: a lost result"
            elif isinstance(one, events.Failed):
                assert self.engine.cohort.all[one.trial_id].error is not None, f"{one.trial_id}: a lost failure"

    def go_on(self) -> None:
        """Another driver takes the experiment up."""
        self.queue, self.running, self.held, self.wanted, self.doomed = [], {}, set(), [], []
        self.ended = None
        self.begin()

    def sync(self, keep: bool = True) -> None:
        """What was written is on disk; so what was to be deleted after that is. keep: the states may be kept."""
        self.synced, self.ends = len(self.journal), []
        for checkpoint in self.doomed:
            path = checkpoint.path
            assert path not in self.deleted, f"{path} is deleted twice"
            self.deleted.add(path)
            self.files.pop(path, None)
        self.doomed = []
        if keep and self.draw.random() < 0.3 and not self.engine.asking:
            self.kept = (self.synced, pickle.loads(pickle.dumps(self.engine.states())))

    def later(self, delay: float, event: events.Event) -> None:
        self.number += 1
        actor = self.running.get(getattr(event, "trial_id", ""))
        heapq.heappush(self.queue, (self.now + delay, self.number, actor, event))

    def run(self) -> World:
        for _ in range(MOST_STEPS):
            for command in self.step():
                getattr(self, type(command).__name__.lower())(command)
            if self.ended:
                assert not self.running and not self.held and not self.wanted
                if self.ended.ending != "suspended":
                    return self
                self.sync()
                self.go_on()
            if self.draw.random() < self.plan.wind_down and not self.engine.ending:
                self.later(0, events.WindDown("walltime", self.now + self.draw.random() * 10))
            if self.draw.random() < 0.5:
                self.sync()
            if self.draw.random() < self.plan.kill and self.kills < MOST_KILLS:
                self.kill()
            self.disturb()
        raise AssertionError(f"stuck: {[(t.trial_id, t.status) for t in self.engine.get_live_trials()]}")

    def due(self) -> list[events.Event]:
        """Let time pass until the next event, and take those that come at about the same time."""
        found: list[events.Event] = []
        if not self.queue:
            self.now += 1.0
            return found
        self.now = max(self.now, min(self.queue[0][0], self.now + 1.0))
        while self.queue and self.queue[0][0] <= self.now + 0.01:
            _, _, actor, event = heapq.heappop(self.queue)
            if self.is_real(event, actor):
                found.append(event)
        return found

    def is_real(self, event: events.Event, actor: dict[str, Any] | None) -> bool:
        """Whether it can still happen; an actor that was stopped or lost reports nothing any more."""
        name = getattr(event, "trial_id", None)
        if isinstance(event, events.Reserved):
            return event.reservation in self.held
        if name is None:
            return True
        if actor is None or self.running.get(name) is not actor:
            return False
        if isinstance(event, events.Stopped):
            del self.running[name]
            return True
        if actor["stopping"]:
            return self.draw.random() < 0.5  # it was under way when the actor was stopped
        actor["busy"] = False
        if isinstance(event, (events.Reported, events.Saved)) and event.checkpoint is not None:
            self.files[event.checkpoint.path] = actor["step"]
            self.worth[event.checkpoint.path] = actor["worth"]
        return True

    def disturb(self) -> None:
        if self.draw.random() < self.plan.lose and self.held:
            number = self.draw.choice(sorted(self.held))
            self.held.discard(number)
            for name in [name for name, actor in self.running.items() if actor["room"] == number]:
                del self.running[name]
            self.capacity -= 1
            self.later(0, events.ReservationLost(number, "its node is gone", True))
            self.serve()
        if self.capacity < self.plan.rooms and self.draw.random() < 0.2:
            self.capacity += 1
            self.serve()

    def serve(self) -> None:
        while self.wanted and len(self.held) < self.capacity:
            number = self.wanted.pop(0)
            self.held.add(number)
            self.later(self.draw.random(), events.Reserved(number))

    # -------------------------------------------------------------- commands

    def ask(self, command: events.Ask) -> None:
        self.later(self.draw.random() * (20 if self.plan.slow_search else 0.1), self.search.answer(command.count))

    def reserve(self, command: events.Reserve) -> None:
        assert command.reservation not in self.held
        engine = self.engine
        wait = [
            one for one in engine.get_live_trials() if one.status != Trial.RUNNING and one.trial_id not in engine.busy()
        ]
        assert len(engine.rooms.asked) <= len(wait), "more rooms are asked for than trials wait"
        self.wanted.append(command.reservation)
        self.serve()

    def release(self, command: events.Release) -> None:
        assert all(actor["room"] != command.reservation for actor in self.running.values())
        self.held.discard(command.reservation)
        if command.reservation in self.wanted:
            self.wanted.remove(command.reservation)
        self.serve()

    def start(self, command: events.Start) -> None:
        name = command.trial_id
        assert name not in self.running, f"{name} runs twice at once"
        if command.reservation not in self.held:
            return  # it was lost just now, and the engine will be told
        assert all(actor["room"] != command.reservation for actor in self.running.values()), "two trials in a room"
        path = command.checkpoint.path if command.checkpoint else None
        assert path is None or path in self.files, f"{name} begins from {path}, which is deleted"
        step = self.files[path] if path else 0
        worth = self.worth[path] if path else 1 + int(name[1:]) % 3
        self.running[name] = {
            "room": command.reservation, "step": step, "worth": worth, "busy": True, "stopping": False,
        }  # fmt: skip
        if self.draw.random() < self.plan.fail:
            self.later(self.draw.random(), events.Failed(name, RuntimeError("no start")))
        else:
            self.later(self.draw.random(), events.Started(name, 1, "host", "ip"))
            self.train(name, 1.0)

    def train(self, name: str, after: float = 0.0) -> None:
        actor = self.running[name]
        actor["busy"] = True
        delay = after + self.draw.random() * self.draw.choice([0.1, 1, 3])
        if self.draw.random() < self.plan.fail:
            return self.later(delay, events.Failed(name, RuntimeError("boom"), self.draw.random() < 0.2))
        actor["step"] += 1
        step = actor["step"]
        if not self.plan.saves and step > self.plan.length:
            return self.later(delay, events.Returned(name))
        checkpoint = None
        if not self.plan.saves and self.draw.random() < self.plan.reports_checkpoint:
            checkpoint = self.checkpoint(name)
        metrics = {
            "training_iteration": step,
            "score": float(step * actor["worth"]),
            "done": self.plan.saves and step >= self.plan.length,
        }
        return self.later(delay, events.Reported(name, metrics, checkpoint))

    def checkpoint(self, name: str) -> Checkpoint:
        self.number += 1
        return Checkpoint(f"/sim/{name}/checkpoint_{self.number:06d}")

    def actor(self, name: str) -> dict[str, Any] | None:
        actor = self.running.get(name)
        if actor is not None:
            assert not actor["busy"], f"{name} has a command under way"
            assert not actor["stopping"], f"{name} is stopped already"
        return actor

    def free(self, name: str) -> dict[str, Any] | None:
        """The actor, which waits for a command; None if it is lost and the engine does not know yet."""
        return self.actor(name)

    def save(self, command: events.Save) -> None:
        name = command.trial_id
        actor = self.free(name)
        if actor is None:
            return
        actor["busy"] = True
        if self.draw.random() < self.plan.fail:
            self.later(self.draw.random(), events.SaveFailed(name, RuntimeError("disk full")))
        else:
            nothing = self.draw.random() < 0.05
            self.later(self.draw.random(), events.Saved(name, None if nothing else self.checkpoint(name)))

    def stop(self, command: events.Stop) -> None:
        actor = self.running.get(command.trial_id)
        if actor is not None:
            assert not actor["stopping"], f"{command.trial_id} is stopped twice"
            actor["stopping"] = True
            self.later(self.draw.random(), events.Stopped(command.trial_id))

    def warn(self, command: events.Warn) -> None: ...

    def delete(self, command: events.Delete) -> None:
        self.doomed.append(command.checkpoint)

    def note(self, command: events.Note) -> None:
        self.notes.append((command.kind, command.trial.trial_id))

    def write(self, command: events.Write) -> None:
        data = encode(command.record)
        self.journal += struct.pack("<II", len(data), zlib.crc32(data)) + data
        self.ends.append(len(self.journal))

    def end(self, command: events.End) -> None:
        self.ended = command


setattr(World, "continue", lambda self, command: self.free(command.trial_id) and self.train(command.trial_id))


OF_SCORE: dict[str, Any] = {"time_attr": "training_iteration", "metric": "score", "mode": "max"}


def asha() -> Any:
    return ASHAScheduler(max_t=5, grace_period=1, reduction_factor=2, **OF_SCORE)


def hyperband() -> Any:
    return HyperBandScheduler(max_t=4, reduction_factor=2, **OF_SCORE)


def median() -> Any:
    return MedianStoppingRule(grace_period=1, min_samples_required=2, hard_stop=False, **OF_SCORE)


def pbt(interval: int = 1, synch: bool = False) -> Any:
    return PopulationBasedTraining(
        perturbation_interval=interval, synch=synch, hyperparam_mutations={"lr": [0.1, 0.2, 0.4]}, log_config=False,
        **OF_SCORE,
    )  # fmt: skip


def pbt_synch() -> Any:
    return pbt(2, synch=True)


def plan_of(seed: int) -> Plan:
    """An experiment at random."""
    draw = random.Random(f"plan {seed}")
    rule = Rule(draw.choice([None, 1, 2]), draw.choice([None, "score"]), draw.choice(["max", "min"]))
    settings: dict[str, Any] = {"retention": rule, "max_failures": -1, "ahead": draw.choice([1, 3, 200])}
    settings["checkpoint_frequency"] = draw.choice([0, 1, 2])
    settings["checkpoint_at_end"] = draw.random() < 0.5
    return Plan(
        trials=draw.randint(1, 12), length=draw.randint(1, 6), rooms=draw.randint(1, 5), saves=draw.random() < 0.6,
        settings=settings, fail=draw.choice([0, 0, 0.05, 0.15]), lose=draw.choice([0, 0, 0.03]),
        kill=draw.choice([0, 0.02, 0.1]), wind_down=draw.choice([0, 0, 0.03]), slow_search=draw.random() < 0.3,
        wild=draw.random() < 0.4, scheduler=draw.choice([Fifo, Fifo, asha, hyperband, median, pbt, pbt_synch]),
        errors=draw.choice([0, 0, 0, 0.02, 0.1]),
    )  # fmt: skip


def check(seed: int) -> World:
    """Run the experiment of this seed, and check what came of it."""
    plan = plan_of(seed)
    world = World(seed, plan).run()
    assert world.ended is not None and world.ended.ending == "finished", world.ended
    trials = world.engine.get_trials()
    assert sorted(trial.trial_id for trial in trials) == [f"t{n:05d}" for n in range(plan.trials)]
    assert all(trial.status == Trial.TERMINATED for trial in trials)
    assert len(world.search.told) == plan.trials
    kept = {one.path for trial in trials for one, _ in trial.checkpoints}
    assert kept <= set(world.files), "a checkpoint that is kept was deleted"
    if not plan.wild and plan.scheduler is Fifo:
        assert all(trial.last_result["training_iteration"] >= plan.length for trial in trials)
    return world


def main() -> None:
    """Run the seeds of the command line."""
    first, last = map(int, sys.argv[1].split(":"))
    bad = 0
    for seed in range(first, last):
        try:
            check(seed)
        except Exception as error:
            bad += 1
            print(f"seed {seed}: {type(error).__name__}: {error}", flush=True)
            if "-x" in sys.argv:
                raise
    print(f"{last - first} seeds, {bad} bad")


if __name__ == "__main__":
    main()

"""Plays a seeded experiment against a scheduler, Ray's or this package's, and notes what the scheduler decides.

The experiment is a function of the seed and of the scheduler's decisions, so that schedulers that decide the same see
the same. It needs neither Ray nor this package: what belongs to one of them comes from a `Side`.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class Draw:
    """Random numbers that are the same under every version of Python."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed).random

    def below(self, count: int) -> int:
        return int(self.random() * count)

    def of(self, values: Any) -> Any:
        return values[self.below(len(values))]

    def chance(self, share: float) -> bool:
        return self.random() < share


@dataclass(eq=False)
class PlayedTrial:
    """A trial with the attributes that schedulers of Ray and of this package look at."""

    trial_id: str
    saves: bool
    config: dict[str, Any]
    placement_group_factory: Any = None
    status: str = "PENDING"
    experiment_tag: str = ""
    evaluated_params: dict[str, Any] = field(default_factory=dict)
    last_result: dict[str, Any] = field(default_factory=dict)
    checkpoint: Any = None
    is_saving: bool = False
    time: float = 0
    level: float = 0

    def __post_init__(self) -> None:
        self.temporary_state = SimpleNamespace(saving_to=None)
        manager = _LatestCheckpoint(self)
        self.run_metadata = SimpleNamespace(checkpoint_manager=manager)

    def is_finished(self) -> bool:
        return self.status in ("TERMINATED", "ERROR")

    def set_config(self, config: dict[str, Any]) -> None:
        self.config = config

    def set_experiment_tag(self, tag: str) -> None:
        self.experiment_tag = tag

    def update_resources(self, resources: Any) -> None:
        self.placement_group_factory = resources

    def save(self) -> Any:
        if self.saves:
            self.checkpoint = f"{self.trial_id} at {self.time}"
        return self.checkpoint

    def __repr__(self) -> str:
        return self.trial_id


class _LatestCheckpoint:
    """Where Ray's schedulers put the checkpoint of a clone."""

    def __init__(self, trial: PlayedTrial) -> None:
        self.checkpoint_config = SimpleNamespace(num_to_keep=None)
        self.trial = trial

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_latest_checkpoint_result":
            self.trial.checkpoint = value.checkpoint
        else:
            super().__setattr__(name, value)


@dataclass
class Side:
    """What differs between Ray and this package.

    make: a scheduler, by the name of its family, its arguments and a seed for its random numbers. future: what Ray's
    `_schedule_trial_save` returns. stuck: whether the scheduler will never let the paused trials go on.
    shape: a PlacementGroupFactory. reload: another scheduler that goes on from the state of this one.
    """

    make: Callable[..., Any]
    shape: Callable[..., Any]
    future: Callable[[PlayedTrial], Any] = lambda trial: trial.checkpoint
    stuck: Callable[[Any, Any], bool] = lambda scheduler, controller: False
    reload: Callable[[Any], Any] | None = None


class PlayedController:
    """The experiment as a scheduler sees it."""

    def __init__(self) -> None:
        self.scheduler: Any = None
        self.trials: list[PlayedTrial] = []
        self.noted: list[str] = []
        self.future: Callable[[PlayedTrial], Any] = lambda trial: trial.checkpoint
        searcher = SimpleNamespace(
            on_pause=lambda trial_id: self.noted.append(f"p{trial_id}"),
            on_unpause=lambda trial_id: self.noted.append(f"u{trial_id}"),
        )
        self.search_alg: Any = SimpleNamespace(searcher=searcher, is_finished=lambda: True)
        self.cpus, self.gpus = 8.0, 0.0
        self.resource_updater = self._resource_updater = SimpleNamespace(
            get_num_cpus=lambda: self.cpus, get_num_gpus=lambda: self.gpus
        )

    def get_trials(self) -> list[PlayedTrial]:
        return self.trials

    def get_live_trials(self) -> list[PlayedTrial]:
        return [trial for trial in self.trials if not trial.is_finished()]

    def get_trial(self, trial_id: str) -> PlayedTrial | None:
        return next((trial for trial in self.trials if trial.trial_id == trial_id), None)

    def next_waiting(self) -> PlayedTrial | None:
        live = self.get_live_trials()
        return next((t for status in ("PENDING", "PAUSED") for t in live if t.status == status), None)

    def pause_trial(self, trial: PlayedTrial, should_checkpoint: bool = True) -> None:
        if should_checkpoint:
            trial.save()
        trial.status = "PAUSED"

    def stop_trial(self, trial: PlayedTrial) -> None:
        if trial.is_finished():
            return
        self.noted.append(f"x{trial.trial_id}")
        if trial.status == "RUNNING":
            self.scheduler.on_trial_complete(self, trial, trial.last_result)
        else:
            self.scheduler.on_trial_remove(self, trial)
        trial.status = "TERMINATED"

    def save_trial(self, trial: PlayedTrial) -> None:
        trial.save()

    def _schedule_trial_save(self, trial: PlayedTrial, result: Any = None) -> Any:
        trial.save()
        return self.future(trial)

    def exploit(self, trial: PlayedTrial, donor: PlayedTrial, new_config: dict[str, Any], tag: str) -> bool:
        if donor.checkpoint is None:
            return False
        trial.status, trial.config, trial.experiment_tag = "PAUSED", new_config, tag
        trial.checkpoint = donor.checkpoint
        return True


@dataclass
class Rules:
    """How an experiment goes: the scheduler's arguments, how many trials it has, and how often what happens to them."""

    arguments: dict[str, Any]
    trials: int
    slots: int
    steps: int
    jump: int = 1
    nan: float = 0.0
    missing: float = 0.0
    error: float = 0.0
    complete: float = 0.0
    config: Callable[[Draw], dict[str, Any]] = lambda draw: {}
    bundles: tuple[Any, ...] | None = None
    no_searcher: bool = False


def code(value: Any) -> str:
    """Three digits for a value."""
    number = zlib.crc32(repr(value).encode())
    return "".join(DIGITS[number // 36**place % 36] for place in range(3))


class Play:
    """One experiment. notes: for each step what the scheduler decided."""

    def __init__(self, family: str, rules: Rules, seed: int, side: Side) -> None:
        self.rules, self.side, self.draw, self.seed = rules, side, Draw(seed), seed
        self.controller = PlayedController()
        self.controller.future = side.future
        if rules.no_searcher:
            self.controller.search_alg = None
        self.controller.scheduler = side.make(family, rules.arguments, seed)
        self.mode = rules.arguments.get("mode", "max")
        self.notes: list[str] = []

    @property
    def scheduler(self) -> Any:
        return self.controller.scheduler

    def run(self, steps: int | None = None) -> list[str]:
        """Play so many steps, or as many as the scheduler stands; returns the notes of each."""
        for number in range(self.rules.steps if steps is None else steps):
            self.controller.noted = []
            if self.side.reload is not None and number % 10 == 9 and self.seed % 8 == 0:
                self.controller.scheduler = self.side.reload(self.scheduler)
            try:
                self._step()
            except Exception:
                if steps is not None:
                    raise
                break
            if self.side.stuck(self.scheduler, self.controller):
                break
            self.notes.append("".join(self.controller.noted))
            if len(self.controller.trials) == self.rules.trials and not self.controller.get_live_trials():
                break
        return self.notes

    def _note(self, text: str) -> None:
        self.controller.noted.append(text)

    def _step(self) -> None:
        draw, controller = self.draw, self.controller
        if len(controller.trials) < self.rules.trials and (draw.chance(0.3) or not controller.get_live_trials()):
            self._add()
        self._fill_slots()
        running = [trial for trial in controller.trials if trial.status == "RUNNING"]
        if not running:
            return
        trial = draw.of(running)
        what = draw.random()
        if what < self.rules.error:
            self._error(trial)
        elif what < self.rules.error + self.rules.complete and trial.last_result:
            controller.stop_trial(trial)
        else:
            self._result(trial)

    def _add(self) -> None:
        trial_id = DIGITS[len(self.controller.trials)]
        bundles = self.rules.bundles
        shape = self.side.shape(bundles) if bundles else None
        trial = PlayedTrial(trial_id, not self.draw.chance(0.2), self.rules.config(self.draw), shape)
        trial.experiment_tag = f"tag{trial_id}"
        trial.level = self.draw.below(40) / 8
        if bundles:
            trial.last_result = {"score": trial.level}
        self.controller.trials.append(trial)
        self.scheduler.on_trial_add(self.controller, trial)
        if trial.config:
            self._note("c" + code(sorted(trial.config.items(), key=str)))

    def _fill_slots(self) -> None:
        controller = self.controller
        while sum(trial.status == "RUNNING" for trial in controller.trials) < self.rules.slots:
            shapes = [trial.placement_group_factory for trial in controller.trials]
            trial = self.scheduler.choose_trial_to_run(controller)
            changed = [
                other
                for other, shape in zip(controller.trials, shapes)
                if shape is not None and other.placement_group_factory is not shape
            ]
            for other in changed:
                self._note(f"b{other.trial_id}{code(sorted(map(str, other.placement_group_factory.bundles)))}")
            if trial is None:
                self._note("-")
                break
            self._note(f"r{trial.trial_id}")
            trial.status = "RUNNING"

    def _result(self, trial: PlayedTrial) -> None:
        draw, rules = self.draw, self.rules
        trial.time += 1 + draw.below(rules.jump)
        trial.level += (draw.below(17) - 8) / 8
        result = {"time": trial.time, "score": trial.level, "training_iteration": int(trial.time)}
        if draw.chance(rules.nan):
            result["score"] = float("nan")
        if draw.chance(rules.missing):
            del result[draw.of(["time", "score"])]
        configs, shape = (
            {other.trial_id: other.config for other in self.controller.trials},
            trial.placement_group_factory,
        )
        decision = self.scheduler.on_trial_result(self.controller, trial, result)
        trial.last_result = result
        self._note(decision[0])
        for other in self.controller.trials:
            if other.config is not configs[other.trial_id]:
                # Ray adds to the tag of a clone that had failed; ours begins with the trial's first tag again.
                tag = other.experiment_tag.rpartition("@")[2]
                self._note(code((other.trial_id, sorted(other.config.items(), key=str), tag)))
        assert trial.placement_group_factory is shape
        if decision == "STOP":
            self.controller.stop_trial(trial)
        elif decision == "PAUSE" and trial.status == "RUNNING":
            self.controller.pause_trial(trial)

    def _error(self, trial: PlayedTrial) -> None:
        self.scheduler.on_trial_error(self.controller, trial)
        if self.draw.chance(0.5):
            trial.status = "ERROR"
            self._note("E")
            return
        trial.status = "PENDING"
        self.controller.trials.remove(trial)
        self.controller.trials.append(trial)
        self.scheduler.on_trial_add(self.controller, trial)
        self._note("e")

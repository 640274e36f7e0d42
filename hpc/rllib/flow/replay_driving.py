"""The replay machine with real runners, shards and learners: it does what the machine says, and tells it what comes.

Fragments go from runners to shards, and batches from shards to learners, by reference.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import hpc
from hpc.exceptions import ActorError, HpcError, ObjectLostError, SessionLostError
from hpc.rllib.core.learner.learner_group import LearnerGroup
from hpc.rllib.env.env_runner_group import EnvRunnerGroup
from hpc.rllib.env.fragment import Sample
from hpc.rllib.flow import machine as m
from hpc.rllib.flow.driving import LOOK_S, Progress
from hpc.rllib.flow.replaying import Replaying, ReplaySettings
from hpc.rllib.flow.shards import ReplayShard

_log = logging.getLogger(__name__)
#: Batches are asked for by the rows that they have.
Errors = Callable[[list[dict[str, Any]]], Mapping[str, Any]]


@dataclass
class _Shard:
    actor: Any
    life: int = 0


class ReplayDriver:
    """Runners, shards and learners of an algorithm side by side. ``arguments``: of each shard. ``errors`` takes TD
    errors by module out of results."""

    def __init__(
        self,
        runners: EnvRunnerGroup,
        learners: LearnerGroup,
        settings: ReplaySettings,
        shards: int,
        arguments: tuple[Any, ...],
        keywords: Callable[[], Mapping[str, Any]],
        errors: Errors,
        amount: Mapping[str, int],
    ) -> None:
        assert runners.remote is not None
        self._runners, self._remote, self._learners = runners, runners.remote, learners
        self._keywords, self._errors, self._amount = keywords, errors, dict(amount)
        self._arguments = arguments
        self._made: Any = hpc.remote(num_cpus=0)(ReplayShard)
        self._shards = {index: _Shard(self._made.remote(*arguments)) for index in range(shards)}
        self._held: dict[int, tuple[Sample, Any]] = {}
        self._batches: dict[int, Any] = {}
        """draw: reference to the batches"""
        self._learning: dict[int, tuple[int, int, int]] = {}
        """number of the learners: (number of the machine, shard, draw)"""
        self._progress = Progress()
        self._wrong: Exception | None = None
        """What learners have raised"""
        self.shards_died = 0
        runners.is_streaming = True
        learners.use_answers(self._remote.answers)
        self.flow = Replaying(settings, tuple(self._remote.members.up()), tuple(self._shards))
        runners.stream_tally = self.flow.tally
        self._has_begun = self._is_paused = False
        self._waiting: list[m.Command] = []

    def advance(self, updates: int, timeout_s: float | None) -> Progress:
        """Go on until there were so many updates, or for this long. What has happened since the last time."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        if not self._has_begun:
            self._has_begun = True
            self._apply(self.flow.begin())
        if self._is_paused:
            self._is_paused = False
            self.flow.freshen()
            waiting, self._waiting = self._waiting, []
            self._apply(waiting)
        while self._progress.updates < updates:
            left = LOOK_S if until is None else min(LOOK_S, until - time.monotonic())
            if left <= 0:
                break
            self._once(left)
        progress, self._progress = self._progress, Progress()
        return progress

    def settle(self) -> None:
        """Wait until learners have done what they were asked for, and begin no update until the next `advance`."""
        self._is_paused = True
        while self._learning:
            self._once(LOOK_S)

    def _once(self, wait_s: float) -> None:
        events, answers = self._remote.events(wait_s)
        began = time.thread_time()
        for event in events:
            if isinstance(event, m.SampleDone):
                brief, fragments = self._remote.take(event.request)
                self._held[event.request] = (brief, fragments)
                self._progress.samples.append(brief)
            self._apply(self.flow.step(event))
        for key, value in answers:
            self._answer(key, value)
        self._progress.busy_s += time.thread_time() - began
        wrong, self._wrong = self._wrong, None
        if wrong is not None:
            raise wrong
        if not len(self.flow.pool) and not self._remote.members.any_coming:
            raise RuntimeError(
                f"all {len(self._remote.members)} env runners have failed, and none is made anew: see the warnings "
                "above, and config.fault_tolerance(restart_failed_env_runners=, max_num_env_runner_restarts=)"
            )

    def _answer(self, key: Hashable, value: Any) -> None:
        kind = key[0] if isinstance(key, tuple) else None
        if kind in ("stored", "drawn", "rated"):
            self._of_shard(key, value)
            return
        try:
            for done in self._learners.finish(key, value):
                self._updated(done)
        except SessionLostError:
            raise
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        """Learners have raised: updates that have ended by that are lost. A lost batch costs these updates and no
        more; other errors are raised, and nothing new begins before."""
        if isinstance(error, ObjectLostError):
            _log.warning("the batch of an update was lost with its node: %s", error)
        else:
            self._wrong, self._is_paused = self._wrong or error, True
        for number in [number for number in self._learning if number not in self._learners.under_way]:
            self._apply(self.flow.step(m.UpdateDone(self._learning.pop(number)[0], is_lost=True)))

    # -------------------------------------------------------------- shards

    def _of_shard(self, key: Any, ref: Any) -> None:
        kind, shard, life, number = key
        if self._shards[shard].life != life:
            if kind == "drawn":
                self._batches.pop(number, None)
            return
        try:
            value = hpc.get(ref)
        except SessionLostError:
            raise
        except Exception as error:
            self._shard_failed(kind, shard, number, error)
            return
        if kind == "stored":
            self._held.pop(number, None)
            self._apply(self.flow.step(m.Stored(shard, number, value)))
        elif kind == "drawn":
            if not value:
                self._batches.pop(number, None)
            self._apply(self.flow.step(m.Drawn(shard, number, value)))

    def _shard_failed(self, kind: str, shard: int, number: int, error: Exception) -> None:
        if kind == "stored" and isinstance(error, ObjectLostError):
            _log.warning("a fragment was lost with its node: %s", error)
            self._held.pop(number, None)
            self._apply(self.flow.step(m.StoreFailed(shard, number)))
            return
        if kind == "drawn":
            self._batches.pop(number, None)
        self._lose(shard, error)

    def _lose(self, shard: int, error: Exception) -> None:
        """A shard has ended, with its steps: an empty one takes its place."""
        if not isinstance(error, ActorError) or error.actor_init_failed:
            raise error
        _log.warning("replay shard %d has died with all that it held: a new one begins empty (%s)", shard, error)
        self.shards_died += 1
        row = self._shards[shard]
        row.actor, row.life = self._made.remote(*self._arguments), row.life + 1
        self._apply(self.flow.step(m.ShardDied(shard)))
        self._apply(self.flow.step(m.ShardUp(shard)))

    # -------------------------------------------------------------- commands

    def _apply(self, commands: Iterable[m.Command]) -> None:
        for command in commands:
            if isinstance(command, m.Sample):
                self._remote.ask(command.runner, command.request, self._amount, takes_weights=command.takes_weights)
            elif isinstance(command, m.Store):
                self._store(command)
            elif isinstance(command, m.Draw):
                self._draw(command)
            elif isinstance(command, m.Learn):
                self._learn(command)
            elif isinstance(command, m.Drop):
                self._held.pop(command.request, None)

    def _store(self, command: m.Store) -> None:
        row = self._shards[command.shard]
        held = row.actor.add.remote([self._held[command.request][1]])
        self._remote.answers.expect(("stored", command.shard, row.life, command.request), held)

    def _draw(self, command: m.Draw) -> None:
        row = self._shards[command.shard]
        steps, batches = row.actor.draw.remote(command.draw, self.flow.settings.batch_steps)
        self._batches[command.draw] = batches
        self._remote.answers.expect(("drawn", command.shard, row.life, command.draw), steps)

    def _learn(self, command: m.Learn) -> None:
        if self._is_paused:
            self._waiting.append(command)
            return
        batch = self._batches.pop(command.draw)
        number = self._learners.begin(batch=batch, wants_weights=True, **self._keywords())
        self._learning[number] = (command.number, command.shard, command.draw)

    def _updated(self, done: Any) -> None:
        number, shard, draw = self._learning.pop(done.number)
        errors = self._errors(done.results)
        row = self._shards[shard]
        if errors:
            rated = row.actor.set_priorities.remote(draw, dict(errors))
            self._remote.answers.expect(("rated", shard, row.life, draw), rated)
        self._progress.results.extend(done.results)
        self._progress.updates += 1
        if done.weights is not None:
            self._remote.set_weights(done.weights, self._learners.weights_version)
        self._apply(self.flow.step(m.UpdateDone(number)))

    # -------------------------------------------------------------- what there is to know

    def report(self) -> dict[str, float]:
        """Counts for results: fragments by what became of them, and how much was trained for each step."""
        tally = self.flow.tally
        return {
            "num_fragments_received_lifetime": tally.fragments_received,
            "num_fragments_stored_lifetime": tally.fragments_trained,
            "num_fragments_queued": self.flow.held_fragments,
            "num_fragments_lost_lifetime": tally.fragments_lost,
            "num_fragments_dropped_lifetime": tally.fragments_lost_with_shards,
            "num_env_runners_died_lifetime": tally.runners_died,
            "num_shards_died_lifetime": self.shards_died,
            "num_env_steps_stored_lifetime": self.flow.stored_steps,
            "replay_ratio": self.flow.ratio,
        }

    def shard_metrics(self) -> list[dict[str, Any]]:
        """Counts of each shard's buffer."""
        return self._of_each("get_metrics")

    def _of_each(self, method: str) -> list[dict[str, Any]]:
        """What a method of each shard returns; that of a new one where a shard has died."""
        found: list[dict[str, Any]] = []
        for shard, ref in [(shard, getattr(row.actor, method).remote()) for shard, row in self._shards.items()]:
            try:
                found.append(hpc.get(ref))
            except ActorError as error:
                self._lose(shard, error)
                found.append(hpc.get(getattr(self._shards[shard].actor, method).remote()))
        return found

    def get_state(self) -> list[dict[str, Any]]:
        """The contents of all shards."""
        return self._of_each("get_state")

    def set_state(self, states: list[dict[str, Any]]) -> None:
        """Fill the shards. Raises ValueError unless there are as many states as shards."""
        if len(states) != len(self._shards):
            raise ValueError(
                f"the checkpoint has {len(states)} replay shards, and there are {len(self._shards)}: set "
                "num_replay_buffer_shards as it was"
            )
        kept = [hpc.put(state) for state in states]
        held = hpc.get([row.actor.set_state.remote([one]) for row, one in zip(self._shards.values(), kept)])
        self.flow.take_over(dict(zip(self._shards, held)))

    def end(self) -> None:
        """End the shards."""
        for row in self._shards.values():
            with contextlib.suppress(HpcError, OSError):
                hpc.kill(row.actor)
        self._shards.clear()

"""The asynchronous machine with real runners and learners: it does what the machine says, and tells it what comes.

Fragments go from runners to learners by reference. This process sees how many steps each has, and which episodes ended.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hpc.exceptions import ObjectLostError, SessionLostError
from hpc.rllib.core.learner.learner_group import LearnerGroup
from hpc.rllib.env.env_runner_group import EnvRunnerGroup
from hpc.rllib.env.fragment import Sample
from hpc.rllib.flow import machine as m
from hpc.rllib.flow.stream import Stream, StreamSettings

_log = logging.getLogger(__name__)
#: The longest wait for something to happen until it is looked around.
LOOK_S = 0.25


@dataclass
class Progress:
    """What has happened since it was asked last: samples without fragments, results of updates, seconds of this
    thread's own work."""

    samples: list[Sample] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    updates: int = 0
    busy_s: float = 0.0


class StreamDriver:
    """Runners and learners of an algorithm side by side. ``keywords`` gives what `Learner.update` gets each time."""

    def __init__(
        self,
        runners: EnvRunnerGroup,
        learners: LearnerGroup,
        settings: StreamSettings,
        keywords: Callable[[], Mapping[str, Any]],
        amount: Mapping[str, int],
    ) -> None:
        assert runners.remote is not None
        self._runners, self._remote, self._learners = runners, runners.remote, learners
        self._keywords, self._amount = keywords, dict(amount)
        self._held: dict[int, tuple[Sample, Any]] = {}
        self._numbers: dict[int, int] = {}
        """number of the learners: that of the machine"""
        self._progress = Progress()
        self._wrong: Exception | None = None
        """What learners have raised"""
        runners.is_streaming = True
        learners.use_answers(self._remote.answers)
        self.stream = Stream(settings, tuple(self._remote.members.up()))
        runners.stream_tally = self.stream.tally
        self._has_begun = False

    def advance(self, updates: int, timeout_s: float | None) -> Progress:
        """Go on until there were so many updates, or for this long. What has happened since the last time.

        Raises what learners raise, and what runners do if failures are neither mended nor ignored."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        if not self._has_begun or self.stream.is_paused:
            self._has_begun, self.stream.is_paused = True, False
            self._apply(self.stream.go_on())
        while self._progress.updates < updates:
            left = LOOK_S if until is None else min(LOOK_S, until - time.monotonic())
            if left <= 0:
                break
            self._once(left)
        progress, self._progress = self._progress, Progress()
        return progress

    def _once(self, wait_s: float) -> None:
        events, answers = self._remote.events(wait_s)
        began = time.thread_time()
        for event in events:
            if isinstance(event, m.SampleDone):
                self._keep(event.request)
                event = self._as_here(event)
            self._apply(self.stream.step(event))
        for key, value in answers:
            self._answer(key, value)
        self._progress.busy_s += time.thread_time() - began
        wrong, self._wrong = self._wrong, None
        if wrong is not None:
            raise wrong
        if not len(self.stream.pool) and not self._remote.members.any_coming:
            raise RuntimeError(
                f"all {len(self._remote.members)} env runners have failed, and none is made anew: see the warnings "
                "above, and config.fault_tolerance(restart_failed_env_runners=, max_num_env_runner_restarts=)"
            )

    def _keep(self, request: int) -> None:
        brief, fragments = self._remote.take(request)
        self._held[request] = (brief, fragments)
        self._progress.samples.append(brief)

    def _as_here(self, event: m.SampleDone) -> m.SampleDone:
        """The version as the machine counts it: learners go on counting after a checkpoint, which may be of another
        run."""
        before = self._learners.weights_version - self.stream.version
        return replace(event, version=min(event.version - before, self.stream.version))

    def _answer(self, key: Hashable, value: Any) -> None:
        try:
            for done in self._learners.finish(key, value):
                self._updated(done)
        except SessionLostError:
            raise
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        """Learners have raised: updates that have ended by that are lost, and those that go on are waited for. Lost
        data cost these updates and no more; other errors are raised, and nothing new begins before."""
        if isinstance(error, ObjectLostError):
            _log.warning("fragments of an update were lost with their node: %s", error)
        else:
            self._wrong, self.stream.is_paused = self._wrong or error, True
        for number in [number for number in self._numbers if number not in self._learners.under_way]:
            self._apply(self.stream.step(m.UpdateDone(self._numbers.pop(number), is_lost=True)))

    def _updated(self, done: Any) -> None:
        self._progress.results.extend(done.results)
        self._progress.updates += 1
        if done.weights is not None:
            self._remote.set_weights(done.weights, self._learners.weights_version)
        self._apply(self.stream.step(m.UpdateDone(self._numbers.pop(done.number))))

    def _apply(self, commands: Iterable[m.Command]) -> None:
        for command in commands:
            if isinstance(command, m.Sample):
                self._remote.ask(command.runner, command.request, self._amount)
            elif isinstance(command, m.Update):
                self._update(command)
            elif isinstance(command, m.Push):
                self._remote.push(command.runner)
            elif isinstance(command, m.Drop):
                del self._held[command.request]

    def _update(self, command: m.Update) -> None:
        samples = [self._held[request] for request in command.requests]
        wants = command.number % self.stream.settings.broadcast_interval == 0
        number = self._learners.begin(samples=samples, wants_weights=wants, **self._keywords())
        self._numbers[number] = command.number

    def settle(self) -> None:
        """Wait until learners have done what they were asked for, and begin nothing until the next `advance`. Their
        state can be read or set meanwhile."""
        self.stream.is_paused = True
        while self._numbers:
            self._once(LOOK_S)

    def report(self) -> dict[str, float]:
        """Counts for results: fragments and steps by what became of them, and how old weights were."""
        tally = self.stream.tally
        return {
            "num_fragments_received_lifetime": tally.fragments_received,
            "num_fragments_trained_lifetime": tally.fragments_trained,
            "num_fragments_queued": self.stream.held_fragments,
            "num_fragments_lost_lifetime": tally.fragments_lost,
            "num_fragments_dropped_lifetime": tally.fragments_lost_with_learners,
            "num_env_steps_dropped_lifetime": tally.steps_lost_with_learners,
            "num_env_runners_died_lifetime": tally.runners_died,
            "policy_lag_mean": tally.lag_mean,
            "policy_lag_max": tally.lag_max,
            "num_fragments_allowed": self.stream.allowed,
        }

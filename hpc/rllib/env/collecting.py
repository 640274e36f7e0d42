"""Synchronous sampling with a group's remote runners: one round after the other."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

import hpc
from hpc.exceptions import ObjectLostError
from hpc.rllib.env.fragment import Sample
from hpc.rllib.env.remote_runners import LOOK_S, RemoteRunners
from hpc.rllib.flow.machine import Command, Pool, RunnerDied, RunnerUp, SampleDone, Tally
from hpc.rllib.flow.machine import Sample as Ask
from hpc.rllib.flow.rounds import Round

_log = logging.getLogger(__name__)
#: A runner's share of a round comes in so many pieces at most, each with this many rows at least: fast runners do more.
MOST_PIECES, LEAST_ROWS = 4, 32


class Collector:
    """Rounds of a group. ``tally`` counts over all of them."""

    def __init__(self, config: Any, remote: RemoteRunners) -> None:
        self._config, self._remote = config, remote
        self._pool, self.tally = Pool(), Tally()
        self._per_row = 1.0
        """Steps for each row of an environment: less than 1, since rows at which it is reset are none"""

    def collect(
        self, steps: int | None, episodes: int | None, rows: int | None, count_by: str,
        timeout_s: float | None, kwargs: Mapping[str, Any],
    ) -> list[Sample]:  # fmt: skip
        """Samples with so many steps, or episodes. A round ends by the count, not by the runner."""
        self.hear()
        pieces = self._pieces(steps, episodes, rows)
        now = time.monotonic()
        one = Round(self._pool, self.tally, len(pieces), now, steps or 0)
        try:
            self._run(one, pieces, kwargs, count_by, None if timeout_s is None else now + timeout_s)
            return self._fragments_of(one.accepted())
        finally:
            self._remote.forget_arrived()

    def hear(self, timeout_s: float = 0.0) -> None:
        """What has happened to runners since the last round. It waits so long for the first news."""
        while True:
            events = self._remote.events(timeout_s)[0]
            timeout_s = 0.0
            if not events:
                return
            for event in events:
                if isinstance(event, RunnerUp):
                    self._pool.add(event.runner)
                elif isinstance(event, RunnerDied) and event.runner in self._pool:
                    self.tally.runners_died += 1
                    self.tally.fragments_lost += len(self._pool.remove(event.runner))
                elif isinstance(event, SampleDone):
                    self._came_late(event)

    def _came_late(self, event: SampleDone) -> None:
        if not self._pool.answer(event.runner, event.request):
            self.tally.fragments_lost -= 1  # it was counted as such when the runner failed
        self._remote.forget(event.request)
        self.tally.fragments_received += 1
        self.tally.fragments_stale += 1
        self.tally.steps_received += event.steps
        self.tally.steps_stale += event.steps

    @property
    def _width(self) -> int:
        return max(1, int(self._config.num_envs_per_env_runner))

    def _pieces(self, steps: int | None, episodes: int | None, rows: int | None) -> list[dict[str, int]]:
        """What each piece asks for. All are the same, but the last one of episodes."""
        runners = max(1, len(self._remote.members.up()))
        if episodes is not None:
            share = math.ceil(episodes / runners)
            each = max(1, min(share, max(self._width, math.ceil(share / MOST_PIECES))))
            full, rest = divmod(episodes, each)
            return [{"episodes": each}] * full + ([{"episodes": rest}] if rest else [])
        assert steps is not None
        if self._config.batch_mode == "complete_episodes":
            return [{"episodes": self._width}] * runners
        width = self._width * self._per_row
        share = max(1, math.ceil(steps / (runners * width)))
        if rows is None:
            rows = math.ceil(share / max(1, min(MOST_PIECES, share // LEAST_ROWS)))
        return [{"rows": rows}] * max(1, math.ceil(steps / (rows * width) - 0.05))

    def _run(
        self, one: Round, pieces: list[dict[str, int]], kwargs: Mapping[str, Any], count_by: str,
        deadline: float | None,
    ) -> None:  # fmt: skip
        commands, begun = one.begin(), set[int]()
        while not one.is_done:
            for command in commands:
                assert isinstance(command, Ask)
                amount = {**pieces[min(command.piece, len(pieces) - 1)], **kwargs}
                if "rows" in amount and command.runner in begun:
                    # A piece goes on where the runner's last one ended: episodes that are longer would never end.
                    amount["force_reset"] = False
                begun.add(command.runner)
                self._remote.ask(command.runner, command.request, amount)
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                self._remote.late += len(one.waits_for)
                _log.warning(
                    "%d samples have not come within sample_timeout_s: raise it, or lower the fragment's length",
                    len(one.waits_for),
                )
                return
            if one.is_stuck and not self._remote.members.any_coming:
                raise RuntimeError(
                    f"all {len(self._remote.members)} env runners have failed, and none is made anew: see the warnings "
                    "above, and config.fault_tolerance(restart_failed_env_runners=, max_num_env_runner_restarts=)"
                )
            commands = self._wait_for(one, LOOK_S if deadline is None else min(LOOK_S, deadline - now), count_by)

    def _wait_for(self, one: Round, timeout_s: float, count_by: str) -> list[Command]:
        commands: list[Command] = []
        events = self._remote.events(timeout_s)[0]
        for event in events:
            if isinstance(event, SampleDone):
                event = self._counted(event, count_by)
            commands.extend(one.step(event, time.monotonic()))
        return commands if events else one.look(time.monotonic())

    def _counted(self, event: SampleDone, count_by: str) -> SampleDone:
        brief = self._remote.look_at(event.request)
        assert brief is not None
        steps = count_steps(brief, count_by)
        if brief.rows:
            self._per_row += (steps / (brief.rows * self._width) - self._per_row) / 8
        return SampleDone(event.runner, event.request, steps, event.version)

    def _fragments_of(self, requests: Iterable[int]) -> list[Sample]:
        taken = [self._remote.take(request) for request in requests]
        try:
            wholes = hpc.get([ref for _, ref in taken])
        except ObjectLostError:
            wholes = [self._unless_lost(ref) for _, ref in taken]
        for (brief, _), whole in zip(taken, wholes):
            brief.modules = whole.modules if whole is not None else {}
        return [brief for (brief, _), whole in zip(taken, wholes) if whole is not None]

    def _unless_lost(self, ref: Any) -> Any:
        try:
            return hpc.get(ref)
        except ObjectLostError as error:
            _log.warning("a sample was lost with the node that it lay on: %s", error)
            self.tally.fragments_trained -= 1
            self.tally.fragments_stale += 1
            return None


def count_steps(sample: Sample, count_by: str) -> int:
    """The steps of a sample, of the environment or of its agents."""
    return sample.env_steps if count_by == "env_steps" else sum(sample.agent_steps.values())

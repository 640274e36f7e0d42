"""How many replicas a deployment shall have, over time: what callers told, a policy, and how long its word must hold.

Times are seconds since 1970, so that they mean the same to the controller that comes after this one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hpc import cloudpickle
from hpc.serve.autoscaling_policy import AutoscalingContext
from hpc.serve.config import AggregationFunction, AutoscalingConfig
from hpc.serve.control.rollout import in_gangs
from hpc.serve.messages import DeploymentID, HandleMetrics

Policy = Callable[[AutoscalingContext], Any]

#: A caller that has told nothing for two of its intervals, and this long at least, has ended without a word.
SILENT_S = 10.0
#: How often a decision is made anew while there is a load: it changes with time alone.
LOOK_EVERY_S = 0.5


@dataclass
class Load:
    """What the callers of one deployment have told: (time, queued, running) of each, the oldest first."""

    routers: dict[str, deque[tuple[float, int, int]]] = field(default_factory=dict)
    running: dict[str, dict[str, int]] = field(default_factory=dict)

    def note(self, metrics: HandleMetrics, now: float) -> None:
        """A caller tells."""
        if metrics.is_leaving:
            self.routers.pop(metrics.router, None)
            self.running.pop(metrics.router, None)
            return
        row = (now, metrics.queued, sum(metrics.running.values()))
        self.routers.setdefault(metrics.router, deque()).append(row)
        self.running[metrics.router] = metrics.running

    def forget(self, now: float, look_back_s: float, interval_s: float) -> None:
        """What is too old counts no more. The last word of a caller counts as long as it is not silent."""
        silent = max(SILENT_S, 2 * interval_s)
        for router, rows in list(self.routers.items()):
            if rows[-1][0] <= now - silent:
                del self.routers[router]
                self.running.pop(router, None)
                continue
            while len(rows) > 1 and rows[0][0] < now - look_back_s:
                rows.popleft()

    def ongoing(self, replica: str) -> int:
        """How many requests a replica has, as far as callers said."""
        return sum(running.get(replica, 0) for running in self.running.values())

    def totals(self, how: AggregationFunction) -> tuple[float, float]:
        """Requests that wait and requests that run, of all callers."""
        queued = sum(_of([row[1] for row in rows], how) for rows in self.routers.values())
        running = sum(_of([row[2] for row in rows], how) for rows in self.routers.values())
        return queued, running

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return sum(rows[-1][1] for rows in self.routers.values())


def _of(values: list[int], how: AggregationFunction) -> float:
    if how is AggregationFunction.MAX:
        return max(values)
    return min(values) if how is AggregationFunction.MIN else sum(values) / len(values)


@dataclass
class Scaler:
    """The decisions of one deployment. ``direction``: 1 up, -1 down, since ``since``; 0: it stays. ``deaf_until``:
    callers have not all told yet, so nothing ends."""

    direction: int = 0
    since: float = 0.0
    policy_state: dict[str, Any] = field(default_factory=dict)
    last_up: float | None = None
    last_down: float | None = None
    wrong: str = ""
    next_at: float | None = None
    deaf_until: float = 0.0

    def look_again(self, now: float, is_deaf: bool = False) -> None:
        """Decide at the next tick, whoever calls. ``is_deaf``: what callers have told another controller is lost."""
        self.next_at = now
        if is_deaf:
            self.deaf_until = now + SILENT_S

    def decide(
        self,
        ident: DeploymentID,
        config: AutoscalingConfig,
        policy: Policy,
        load: Load,
        serving: list[str],
        target: int,
        share: float,
        now: float,
        stats: dict[str, dict[str, float]] | None = None,
        size: int = 1,
    ) -> int:
        """The number of replicas from now on. ``share``: the target capacity, of 1. ``serving``: replicas that take
        requests. ``stats``: by the replica, what its own metrics are. ``size``: how many are a gang."""
        ctx = self.context(ident, config, load, serving, target, share, now, stats)
        return self.settled(ctx, self._asked(policy, ctx, target), load, config.policy.is_default, size)

    def context(
        self,
        ident: DeploymentID,
        config: AutoscalingConfig,
        load: Load,
        serving: list[str],
        target: int,
        share: float,
        now: float,
        stats: dict[str, dict[str, float]] | None = None,
    ) -> AutoscalingContext:
        """What a policy is told."""
        least, most = bounds(config, share)
        load.forget(now, config.look_back_period_s, config.metrics_interval_s)
        queued, running = load.totals(AggregationFunction(config.aggregation_function))
        if target == 0 and load.waiting:
            queued = max(queued, load.waiting)
        return AutoscalingContext(
            ident, ident.name, ident.app_name, target, target, serving, queued + running, queued, running,
            _by_metric(stats or {}), {}, least, most, dict(self.policy_state), self.last_up, self.last_down, now,
            config, policy_kwargs=dict(config.policy.policy_kwargs),
        )  # fmt: skip

    def settled(self, ctx: AutoscalingContext, wanted: int, load: Load, is_default: bool, size: int = 1) -> int:
        """The number of replicas from now on, where a policy has said this one."""
        config, target, now = ctx.config, ctx.target_num_replicas, ctx.current_time
        wanted = min(max(wanted, ctx.capacity_adjusted_min_replicas), ctx.capacity_adjusted_max_replicas)
        wanted = in_gangs(size if wanted == 0 and target > size else wanted, size)
        decided = self._held(config, wanted, target, now)
        if decided > target:
            self.last_up = now
        elif decided < target:
            self.last_down = now
        self._set_next(load, is_default, now)
        return decided

    def _asked(self, policy: Policy, ctx: AutoscalingContext, target: int) -> int:
        """What the policy says. One that fails changes nothing."""
        try:
            said = policy(ctx)
            wanted, state = said if isinstance(said, tuple) else (said, ctx.policy_state)
            count, self.policy_state = int(wanted), keepable(state)
        except Exception as error:
            self.wrong = f"the autoscaling policy failed: {type(error).__name__}: {error}"
            return target
        self.wrong = ""
        return count

    def _held(self, config: AutoscalingConfig, wanted: int, target: int, now: float) -> int:
        """A decision counts when it has held as long as the configuration demands."""
        direction = (wanted > target) - (wanted < target)
        if direction < 0 and now < self.deaf_until:
            return target
        if direction != self.direction:
            self.direction, self.since = direction, now
        if not direction or now - self.since < self._delay(config, wanted, target) - 1e-9:
            return target
        self.direction = 0
        return wanted

    def _delay(self, config: AutoscalingConfig, wanted: int, target: int) -> float:
        if wanted > target:
            return 0.0 if target == 0 else config.upscale_delay_s
        if wanted == 0 and config.downscale_to_zero_delay_s is not None:
            return config.downscale_to_zero_delay_s
        return config.downscale_delay_s

    def _set_next(self, load: Load, is_default: bool, now: float) -> None:
        self.next_at = None
        if self.direction or load.routers or not is_default or now < self.deaf_until:
            self.next_at = now + LOOK_EVERY_S


def keepable(state: Any) -> dict[str, Any]:
    """What a policy wants to be told the next time. It is written with the controller's state, so it has to be pickled.

    Raises what pickling it raises."""
    kept = dict(state or {})
    cloudpickle.dumps(kept)
    return kept


def bounds(config: AutoscalingConfig, share: float) -> tuple[int, int]:
    """The fewest and the most replicas at this share of the capacity."""
    return capacity_of(config.min_replicas, share), max(capacity_of(config.max_replicas, share), 0)


def capacity_of(count: int, share: float) -> int:
    """A number of replicas at a share of the capacity: at least one of it stays, unless the share is 0."""
    if share >= 1 or not count:
        return count
    return max(math.floor(count * share + 0.5), 1) if share > 0 else 0


def _by_metric(stats: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    turned: dict[str, dict[str, float]] = {}
    for replica, values in stats.items():
        for name, value in values.items():
            turned.setdefault(name, {})[replica] = value
    return turned

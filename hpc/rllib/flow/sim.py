"""The machines of the flow under virtual time: runners of all speeds that die and come back, learners, shards.

    python -m hpc.rllib.flow.sim --seeds 0:200

Each seed is one run of each policy, and the same each time. Each fragment that was asked for ends in exactly one way.
No runner is asked after its death, or for more than it takes at a time. Learners never idle while a batch is ready.
A death costs the fragments of that runner and no others. The mean lag and the replay ratio are what the settings
say.
"""

from __future__ import annotations

import argparse
import heapq
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpc.rllib.flow import machine as m
from hpc.rllib.flow.replaying import Replaying, ReplaySettings
from hpc.rllib.flow.rounds import Round
from hpc.rllib.flow.stream import Stream, StreamSettings

#: Virtual seconds of a run of streams and replays.
RUN_S = 60.0
#: Virtual seconds from a death until it is seen, and until the runner is back.
SEEN_S, BACK_S = 0.05, 2.0


class Wrong(AssertionError):
    """A machine did what it must not."""


def hold(truth: bool, text: str) -> None:
    """Raise Wrong with the text unless it is true."""
    if not truth:
        raise Wrong(text)


@dataclass
class World:
    """Virtual time: what happens when, and in which order where it is the same moment."""

    random: random.Random
    now: float = 0.0
    _heap: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _count: int = 0

    def after(self, seconds: float, happens: Callable[[], None]) -> None:
        """Have this happen after so many seconds."""
        self._count += 1
        heapq.heappush(self._heap, (self.now + seconds, self._count, happens))

    def run(self, until: float, is_over: Callable[[], bool] = lambda: False) -> None:
        """Go on until this moment, or until it is over."""
        while self._heap and self._heap[0][0] <= until and not is_over():
            self.now, _, happens = heapq.heappop(self._heap)
            happens()
        if not is_over():
            self.now = until


@dataclass
class Runner:
    """A simulated runner: does its requests in order, each in about ``seconds``."""

    number: int
    seconds: float
    life: int = 0
    is_alive: bool = True
    queue: list[m.Sample] = field(default_factory=list)
    version: int = 0
    weights: int = 0
    asked: int = 0


class Runners:
    """All simulated runners. ``tell`` gets their events."""

    def __init__(self, world: World, count: int, steps: int, tell: Callable[[Any], None], in_flight: int) -> None:
        self.world, self.steps, self.tell, self.in_flight = world, steps, tell, in_flight
        slow = world.random.choice([1.0, 1.0, 4.0])
        base = world.random.uniform(0.02, 0.3)
        self.rows = {n: Runner(n, base * world.random.uniform(1.0, slow)) for n in range(1, count + 1)}
        self.deaths = self.lost = 0
        self.seen: set[int] = set()
        """Runners whose death has been told, and that are not back."""

    def ask(self, command: m.Sample) -> None:
        """A request has come."""
        runner = self.rows[command.runner]
        hold(command.runner not in self.seen, f"runner {command.runner} is asked after its death was told")
        if not runner.is_alive:
            self.lost += 1
            return
        runner.asked += 1
        runner.queue.append(command)
        hold(len(runner.queue) <= self.in_flight, f"runner {runner.number} has {len(runner.queue)} requests")
        if len(runner.queue) == 1:
            self._begin(runner)

    def check_turns(self) -> None:
        """Hold that all runners were asked, and a fast one not much less often than a slow one."""
        if self.deaths:
            return
        rows = list(self.rows.values())
        least, most = min(row.asked for row in rows), max(row.asked for row in rows)
        slowest, fastest = max(row.seconds for row in rows), min(row.seconds for row in rows)
        fair = most * fastest / slowest / 2 - 2 * self.in_flight
        hold(least >= fair, f"a runner was asked {least} times, another one {most} times")

    def push(self, command: m.Push) -> None:
        """Weights have come in the middle of a fragment."""
        self.rows[command.runner].weights = max(self.rows[command.runner].weights, command.version)

    def _begin(self, runner: Runner) -> None:
        command = runner.queue[0]
        runner.weights = max(runner.weights, command.version)
        runner.version = runner.weights
        life = runner.life
        took = runner.seconds * self.world.random.uniform(0.8, 1.3)
        self.world.after(took, lambda: self._end(runner, life))

    def _end(self, runner: Runner, life: int) -> None:
        if runner.life != life:
            return
        command = runner.queue.pop(0)
        mean = (runner.version + runner.weights) / 2
        if runner.queue:
            self._begin(runner)
        self.tell(m.SampleDone(runner.number, command.request, self.steps, mean))

    def kill(self, number: int) -> None:
        """A runner dies now; this is seen a little later, and it is back after a while."""
        runner = self.rows[number]
        if not runner.is_alive:
            return
        runner.is_alive = False
        runner.life += 1
        self.deaths += 1
        self.lost += len(runner.queue)
        runner.queue.clear()
        self.world.after(SEEN_S, lambda: self._seen(runner))
        self.world.after(SEEN_S + BACK_S, lambda: self._back(runner))

    def _seen(self, runner: Runner) -> None:
        self.seen.add(runner.number)
        self.tell(m.RunnerDied(runner.number))

    def _back(self, runner: Runner) -> None:
        runner.is_alive, runner.weights = True, 0
        self.seen.discard(runner.number)
        self.tell(m.RunnerUp(runner.number))


def schedule_deaths(world: World, runners: Runners, per_second: float, until: float) -> None:
    """Have runners die now and then."""

    def one() -> None:
        runners.kill(world.random.choice(sorted(runners.rows)))
        world.after(world.random.expovariate(per_second), one)

    if per_second > 0:
        world.after(min(until, world.random.expovariate(per_second)), one)


# ---------------------------------------------------------------- the policies


def run_rounds(seed: int) -> dict[str, float]:
    """Ten rounds; what they took beside the time that a perfect division would have taken."""
    world = World(random.Random(seed))
    count, pieces = world.random.randint(1, 16), world.random.randint(1, 64)
    pool, tally = m.Pool(range(1, count + 1)), m.Tally()
    rounds: list[Round] = []

    def tell(event: Any) -> None:
        apply(rounds[-1].step(event, world.now))

    def apply(commands: Sequence[m.Command]) -> None:
        for command in commands:
            if isinstance(command, m.Sample):
                runners.ask(command)

    runners = Runners(world, count, 10, tell, 1)
    if count > 1 and seed % 2:
        schedule_deaths(world, runners, world.random.uniform(0.05, 0.5), 1e9)
    slack = 0.0
    for _ in range(10):
        began, deaths, all_here = world.now, runners.deaths, all(row.is_alive for row in runners.rows.values())
        rounds.append(Round(pool, tally, pieces, world.now))
        apply(rounds[-1].begin())
        _watch(world, rounds[-1], apply)
        world.run(began + 1e4, lambda: rounds[-1].is_done)
        hold(rounds[-1].is_done, f"a round of {pieces} pieces does not end with {count} runners")
        hold(len(set(rounds[-1].accepted())) == pieces, "a piece is missing or counts twice")
        slowest = max(runner.seconds for runner in runners.rows.values()) * 1.3
        rate = sum(1 / runner.seconds for runner in runners.rows.values())
        if all_here and deaths == runners.deaths and len(pool) == count:
            late = world.now - began - 1.3 * pieces / rate
            hold(
                late <= 2 * slowest + 1e-9, f"a round takes {late:.2f} s longer than the work, {slowest:.2f} s a piece"
            )
            slack = max(slack, late)
    hold(tally.fragments_trained == 10 * pieces, "fragments that count are not those of the rounds")
    _balance(tally, pool.asked, 0)
    return {"rounds_slack_s": slack}


def _watch(world: World, one: Round, apply: Callable[[Sequence[m.Command]], None]) -> None:
    def look() -> None:
        if not one.is_done:
            apply(one.look(world.now))
            world.after(0.25, look)

    world.after(0.25, look)


def _balance(tally: m.Tally, asked: int, held: int) -> None:
    used = (
        tally.fragments_trained + tally.fragments_stale + tally.fragments_lost_with_learners
        + tally.fragments_lost_with_shards + held
    )  # fmt: skip
    hold(tally.fragments_received == used, f"{tally.fragments_received} fragments came, {used} are accounted for")
    gone = tally.fragments_received + tally.fragments_lost + asked
    hold(tally.fragments_requested == gone, f"{tally.fragments_requested} were asked for, {gone} are accounted for")


class Learners:
    """Simulated learners: one update after the other."""

    def __init__(self, world: World, seconds: float, loses: float, tell: Callable[[Any], None]) -> None:
        self.world, self.seconds, self.loses, self.tell = world, seconds, loses, tell
        self.queue: list[int] = []
        self.busy_s = 0.0
        self.numbers: list[int] = []

    def ask(self, number: int) -> None:
        """An update has come."""
        hold(not self.numbers or number > self.numbers[-1], "updates are not in order")
        self.numbers.append(number)
        self.queue.append(number)
        if len(self.queue) == 1:
            self._begin()

    def _begin(self) -> None:
        took = self.seconds * self.world.random.uniform(0.9, 1.2)
        self.busy_s += took
        self.world.after(took, self._end)

    def _end(self) -> None:
        number = self.queue.pop(0)
        if self.queue:
            self._begin()
        self.tell(m.UpdateDone(number, self.world.random.random() < self.loses))


def run_stream(seed: int) -> dict[str, float]:
    """A minute of asynchronous sampling; the mean lag, and how busy the learners were."""
    world = World(random.Random(seed))
    count, in_flight = world.random.randint(1, 16), world.random.choice([1, 1, 2])
    steps = world.random.choice([50, 200, 800])
    uses = world.random.choice([1, 1, 2])
    settings = StreamSettings(500, in_flight=in_flight, push_lag=world.random.choice([0, 1, 1]), uses=uses)
    stream = Stream(settings, tuple(range(1, count + 1)))
    used: dict[int, int] = {}

    def tell(event: Any) -> None:
        apply(stream.step(event))

    def apply(commands: Sequence[m.Command]) -> None:
        for command in commands:
            if isinstance(command, m.Sample):
                runners.ask(command)
            elif isinstance(command, m.Drop):
                hold(used.pop(command.request) >= 1, "a fragment is dropped that was not trained with")
            elif isinstance(command, m.Update):
                for request in command.requests:
                    used[request] = used.get(request, 0) + 1
                hold(all(used[request] <= uses for request in command.requests), "a fragment is used too often")
                hold(len(set(command.requests)) == len(command.requests), "a fragment is in an update twice")
                learners.ask(command.number)
            elif isinstance(command, m.Push):
                runners.push(command)
        hold(
            not (stream.ready_steps >= settings.batch_steps and not learners.queue),
            "learners have nothing to do while a batch is ready",
        )

    runners = Runners(world, count, steps, tell, in_flight)
    learners = Learners(world, world.random.choice([0.005, 0.05, 0.2]), 0.01 if seed % 5 == 4 else 0.0, tell)
    if seed % 2:
        schedule_deaths(world, runners, world.random.uniform(0.02, 0.3), RUN_S)
    apply(stream.begin())
    world.run(RUN_S)
    _balance(stream.tally, stream.pool.asked, stream.held_fragments)
    runners.check_turns()
    hold(stream.tally.runners_died in (runners.deaths, runners.deaths - 1), "a death was counted twice or not at all")
    hold(stream.tally.fragments_lost <= runners.deaths * in_flight, "a death costs more than its runner's fragments")
    rate = sum(1 / runner.seconds for runner in runners.rows.values()) * steps / max(steps, settings.batch_steps)
    needed = min(1.0, rate * learners.seconds * uses)
    busy = learners.busy_s / RUN_S
    if not runners.deaths:
        hold(busy >= 0.8 * needed, f"learners are busy {busy:.0%} of the time, and could be {needed:.0%}")
    by_itself = _inherent_lag(runners, in_flight, bool(settings.push_lag), stream.tally.updates / RUN_S)
    lag = stream.tally.lag_mean
    hold(
        lag <= 3 * uses - 1 + 1.25 * by_itself,
        f"the mean lag is {lag:.2f}, and {by_itself:.2f} of it lie in the fragments' length",
    )
    return {"stream_lag": lag, "stream_by_itself": by_itself, "stream_busy": busy, "stream_needed": needed}


def _inherent_lag(runners: Runners, in_flight: int, pushes: bool, updates_per_s: float) -> float:
    """How many updates go by while a fragment is sampled. All count where weights come at its beginning, or before
    it, since requests wait for each other. Half count where weights come meanwhile."""
    rows = list(runners.rows.values())
    took = sum(1.05 * row.seconds / row.seconds for row in rows) / sum(1 / row.seconds for row in rows)
    return took * updates_per_s * (0.5 if pushes else in_flight)


def run_replay(seed: int) -> dict[str, float]:
    """A minute of replay; the ratio."""
    world = World(random.Random(seed))
    count, shards = world.random.randint(1, 16), world.random.randint(1, 4)
    steps = world.random.choice([50, 100, 800])
    settings = ReplaySettings(
        512, intensity=world.random.choice([0.5, 1.0, 4.0]), starts=world.random.choice([0, 2000, 20_000])
    )
    flow = Replaying(settings, tuple(range(1, count + 1)), tuple(range(shards)))
    held = dict.fromkeys(range(shards), 0)

    def tell(event: Any) -> None:
        apply(flow.step(event))

    def apply(commands: Sequence[m.Command]) -> None:
        for command in commands:
            if isinstance(command, m.Sample):
                runners.ask(command)
            elif isinstance(command, m.Store):
                world.after(world.random.uniform(0.001, 0.01), lambda c=command: store(c))  # type: ignore[misc]
            elif isinstance(command, m.Draw):
                world.after(world.random.uniform(0.001, 0.01), lambda c=command: draw(c))  # type: ignore[misc]
            elif isinstance(command, m.Learn):
                learners.ask(command.number)

    def store(command: m.Store) -> None:
        if seed % 7 == 6 and world.random.random() < 0.02:
            if command.shard in held:
                tell(m.StoreFailed(command.shard, command.request))
        elif command.shard in held:
            held[command.shard] += steps
            tell(m.Stored(command.shard, command.request, held[command.shard]))

    def draw(command: m.Draw) -> None:
        if command.shard in held:
            rows = settings.batch_steps if held[command.shard] >= settings.batch_steps else 0
            tell(m.Drawn(command.shard, command.draw, rows))

    def lose_shard(shard: int) -> None:
        del held[shard]
        tell(m.ShardDied(shard))
        world.after(1.0, lambda: gain_shard(shard))

    def gain_shard(shard: int) -> None:
        held[shard] = 0
        tell(m.ShardUp(shard))

    runners = Runners(world, count, steps, tell, settings.in_flight)
    learners = Learners(world, world.random.choice([0.005, 0.05]), 0.01 if seed % 5 == 4 else 0.0, tell)
    if seed % 2:
        schedule_deaths(world, runners, world.random.uniform(0.02, 0.3), RUN_S)
    if seed % 3 == 2:
        world.after(20.0, lambda: lose_shard(world.random.randrange(shards)))
    apply(flow.begin())
    world.run(RUN_S)
    _balance(flow.tally, flow.pool.asked, flow.held_fragments)
    runners.check_turns()
    updates, ratio = flow.tally.updates, flow.ratio / settings.intensity
    if updates > 200:
        hold(0.95 <= ratio <= 1.0 + 1e-9, f"the ratio is {ratio:.3f} of what it should be after {updates} updates")
    return {"replay_ratio": ratio, "replay_updates": updates}


def run(seed: int) -> dict[str, float]:
    """All three policies with one seed."""
    return {**run_rounds(seed), **run_stream(seed), **run_replay(seed)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run seeds; 1 if one is bad."""
    parser = argparse.ArgumentParser(prog="hpc.rllib.flow.sim", description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--seeds", default="0:100", help="from:to")
    parser.add_argument("--show", action="store_true", help="print what each seed has measured")
    options = parser.parse_args(arguments)
    first, last = (int(part) for part in options.seeds.split(":"))
    bad, lags = 0, []
    for seed in range(first, last):
        try:
            found = run(seed)
        except Wrong as error:
            bad += 1
            print(f"seed {seed}: {error}")
            continue
        lags.append(found["stream_lag"])
        if options.show:
            print(seed, {name: round(value, 3) for name, value in found.items()})
    middle = sorted(lags)[len(lags) // 2] if lags else 0.0
    print(
        f"{last - first} seeds, {bad} bad; lag of streams: {middle:.2f} in the middle, "
        f"{max(lags, default=0):.2f} at most"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

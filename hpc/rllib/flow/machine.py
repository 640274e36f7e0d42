"""The coordinator of experience as state machines: events in, commands out. No clock, no I/O, no session.

Three policies share the events, the commands and the `Pool`:

* `rounds.Round`: synchronous. A number of pieces, all from the same weights; it ends by their count, not by the runner.
* `stream.Stream`: asynchronous. Runners sample all the time, learners update with what is there; staleness is held down
  by holding runners back, never by dropping what they bring.
* `replaying.Replaying`: fragments go to shards, learners draw from them, and the ratio of the two is held.

A fragment is known by the number of the request that it answers. Whoever drives a machine keeps what belongs to the
number. Each request ends in exactly one of: trained (or stored), lost, or dropped; the `Tally` counts each.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

# ---------------------------------------------------------------- events


@dataclass(frozen=True)
class RunnerUp:
    """A runner takes requests: it is new, or back."""

    runner: int


@dataclass(frozen=True)
class RunnerDied:
    """A runner has ended. Its requests are not answered any more."""

    runner: int


@dataclass(frozen=True)
class SampleDone:
    """A request is answered. ``version``: of the weights that it was sampled with, the mean over its rows."""

    runner: int
    request: int
    steps: int
    version: float = 0.0


@dataclass(frozen=True)
class SampleFailed:
    """The runner is well, but the request has no answer: an environment raised, for example."""

    runner: int
    request: int


@dataclass(frozen=True)
class UpdateDone:
    """An update of the learners is done; the weights have the version ``number`` now. ``is_lost``: it was not applied
    and will not be: a learner has raised, or its data were lost with their node."""

    number: int
    is_lost: bool = False


@dataclass(frozen=True)
class ShardUp:
    """A shard takes fragments."""

    shard: int


@dataclass(frozen=True)
class ShardDied:
    """A shard has ended, with all that it held."""

    shard: int


@dataclass(frozen=True)
class Stored:
    """A shard has taken a fragment; ``held`` is how many steps it holds now."""

    shard: int
    request: int
    held: int


@dataclass(frozen=True)
class StoreFailed:
    """A shard is well, but the fragment was lost on its way: with the node that it lay on, for example."""

    shard: int
    request: int


@dataclass(frozen=True)
class Drawn:
    """A shard has drawn a batch of so many steps; 0 where it had too few."""

    shard: int
    draw: int
    steps: int


Event = (
    RunnerUp | RunnerDied | SampleDone | SampleFailed | UpdateDone | ShardUp | ShardDied | Stored | StoreFailed | Drawn
)

# ---------------------------------------------------------------- commands


@dataclass(frozen=True)
class Sample:
    """Ask a runner for a fragment. ``version``: of the weights that it is to have first. ``piece``: of a round.
    ``takes_weights``: whether it gets newer ones, where there are some."""

    runner: int
    request: int
    version: int = 0
    piece: int = 0
    takes_weights: bool = True


@dataclass(frozen=True)
class Push:
    """Give a runner the newest weights in the middle of its fragment."""

    runner: int
    version: int


@dataclass(frozen=True)
class Update:
    """Update the learners with these fragments; the version after it is ``number``."""

    number: int
    requests: tuple[int, ...]


@dataclass(frozen=True)
class Store:
    """Bring a fragment to a shard."""

    shard: int
    request: int


@dataclass(frozen=True)
class Draw:
    """Draw a batch from a shard."""

    shard: int
    draw: int


@dataclass(frozen=True)
class Learn:
    """Update the learners with a batch that was drawn, and tell its shard the new priorities."""

    number: int
    shard: int
    draw: int


@dataclass(frozen=True)
class Drop:
    """Forget a fragment; the tally has why."""

    request: int


Command = Sample | Push | Update | Store | Draw | Learn | Drop

# ---------------------------------------------------------------- parts


@dataclass
class Tally:
    """Counts of a machine's whole life. Fragments received are those trained (or stored), stale, lost with learners or
    shards, and those that are held still. The lost ones were never received, since their runner died or failed."""

    fragments_requested: int = 0
    fragments_received: int = 0
    fragments_trained: int = 0
    fragments_lost: int = 0
    fragments_stale: int = 0
    fragments_lost_with_learners: int = 0
    fragments_lost_with_shards: int = 0
    steps_received: int = 0
    steps_trained: int = 0
    steps_stale: int = 0
    steps_lost_with_learners: int = 0
    runners_died: int = 0
    updates: int = 0
    updates_lost: int = 0
    lag_sum: float = 0.0
    lag_steps: int = 0
    lag_max: float = 0.0

    def note_lag(self, lag: float, steps: int) -> None:
        """A fragment is used so many versions after it was sampled."""
        self.lag_sum += lag * steps
        self.lag_steps += steps
        self.lag_max = max(self.lag_max, lag)

    @property
    def lag_mean(self) -> float:
        """The mean of the lags of all steps that were trained, in versions."""
        return self.lag_sum / self.lag_steps if self.lag_steps else 0.0

    def as_dict(self) -> dict[str, float]:
        """All counts, and the mean."""
        return {**asdict(self), "lag_mean": self.lag_mean}


@dataclass
class _Row:
    requests: dict[int, int] = field(default_factory=dict)
    """Requests that are not answered, with the version that was newest when they were made."""
    last: int = 0
    """The request that it got last"""


class Pool:
    """Which runners there are, and what each is asked for."""

    def __init__(self, runners: Iterable[int] = (), in_flight: int = 1) -> None:
        if in_flight < 1:
            raise ValueError(f"a runner takes 1 request at a time or more, not {in_flight}")
        self._rows: dict[int, _Row] = {runner: _Row() for runner in runners}
        self._in_flight = in_flight
        self._next = 0

    def __contains__(self, runner: int) -> bool:
        return runner in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def asked(self) -> int:
        """How many requests are not answered."""
        return sum(len(row.requests) for row in self._rows.values())

    @property
    def room(self) -> int:
        """How many requests there may be at a time."""
        return len(self._rows) * self._in_flight

    def add(self, runner: int) -> None:
        """A runner is there."""
        self._rows.setdefault(runner, _Row())

    def remove(self, runner: int) -> list[int]:
        """A runner is gone. Returns what it was asked for."""
        row = self._rows.pop(runner, None)
        return list(row.requests) if row is not None else []

    def ask(self, runner: int, version: int = 0) -> int:
        """A new request to this runner; its number."""
        self._next += 1
        row = self._rows[runner]
        row.requests[self._next] = version
        row.last = self._next
        return self._next

    def answer(self, runner: int, request: int) -> bool:
        """A request is over. False where nobody waits for it any more."""
        row = self._rows.get(runner)
        return row is not None and row.requests.pop(request, None) is not None

    def free(self) -> list[int]:
        """Runners that may be asked, one entry for each request they may get. Those with the fewest requests are
        first, of these the one that was asked the longest time ago. So all take turns where few may be asked."""
        found = [
            (taken, row.last, runner)
            for runner, row in self._rows.items()
            for taken in range(len(row.requests), self._in_flight)
        ]
        return [runner for _, _, runner in sorted(found)]

    def behind(self, version: int, by: int) -> list[int]:
        """Runners that sample with weights older than this version by so much. They count as up to date then."""
        found = []
        for runner, row in self._rows.items():
            first = next(iter(row.requests), None)
            if first is not None and version - row.requests[first] >= by:
                row.requests = dict.fromkeys(row.requests, version)
                found.append(runner)
        return found


class Throttle:
    """How many fragments may be outstanding: asked for, on their way, or waiting to be trained with. They are few,
    and yet so many that learners find work. The number begins low and doubles until they do. From then on it is one
    less each few times that they found work ready. It is one more each time that they did not, and a runner was
    held."""

    #: After this many updates that found the next one ready, one fragment less is allowed.
    PATIENCE = 4

    def __init__(self) -> None:
        self._allowed = 0.0
        self._found = 0
        self._is_new = True

    def allowed(self, least: float) -> float:
        """How many, if it is to be at least so many."""
        return max(self._allowed, least)

    def found_work(self, least: float) -> None:
        """Learners have ended an update, and the next one was ready."""
        self._is_new = False
        self._found += 1
        if self._found >= self.PATIENCE:
            self._found = 0
            self._allowed = max(least, self._allowed) - 1

    def found_none(self, is_holding: bool, least: float, most: float) -> None:
        """Learners have nothing to do; ``is_holding``: a runner has, but may not."""
        self._found = 0
        if is_holding:
            now = self.allowed(least)
            self._allowed = min(most, 2 * now if self._is_new else now + 1)

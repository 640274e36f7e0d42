"""How requests of one route are divided between applications: weights, sticky keys, a shadow, and a canary's end.

All of it is pure. Proxies choose by `choose`, and count with `Outcomes`; the controller judges by `Judge`.
"""

from __future__ import annotations

import bisect
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from hpc.serve.checks import number, text, whole

#: Upper bounds of the counts of latencies: 1 ms, and each is twice the one before. Longer ones are in the last count.
LATENCY_BOUNDS_S = tuple(0.001 * 2**power for power in range(18))
#: Of a split without other numbers: requests that a canary needs before it is judged, and the time that is looked at.
MIN_REQUESTS = 20
WINDOW_S = 60.0


class AppOutcomes(msgspec.Struct, frozen=True, array_like=True):
    """What a proxy has seen of an application since it told last. errors: answers of 500 and above, and none at all.
    latencies: how many there were up to each of `LATENCY_BOUNDS_S`, and above."""

    app: str
    requests: int
    errors: int
    latencies: list[int]


class Outcomes:
    """Counts the answers of one application, for `AppOutcomes`."""

    __slots__ = ("_app", "_errors", "_latencies", "_requests")

    def __init__(self, app: str) -> None:
        self._app = app
        self._begin()

    def _begin(self) -> None:
        self._requests = self._errors = 0
        self._latencies = [0] * (len(LATENCY_BOUNDS_S) + 1)

    def note(self, is_error: bool, latency_s: float) -> None:
        """An answer."""
        self._requests += 1
        self._errors += is_error
        self._latencies[bisect.bisect_left(LATENCY_BOUNDS_S, latency_s)] += 1

    def take(self) -> AppOutcomes | None:
        """What there was since the last time; None: nothing."""
        if not self._requests:
            return None
        told = AppOutcomes(self._app, self._requests, self._errors, self._latencies)
        self._begin()
        return told


@dataclass(kw_only=True)
class Split:
    """How the requests of an application's route are divided.

    weights: of applications; the requests of each are in proportion. shadow: an application that gets a copy of each
    request; nobody sees its answers. sticky: "header:NAME", "cookie:NAME" or "session": the same value goes to the
    same application. max_error_rate, max_p99_s: a canary, which is any application but ``baseline``, that is worse
    loses its weight. It is judged by the last ``window_s`` seconds, once these have ``min_requests`` of its requests.
    """

    weights: dict[str, float]
    shadow: str = ""
    sticky: str = ""
    baseline: str = ""
    max_error_rate: float | None = None
    max_p99_s: float | None = None
    min_requests: int = MIN_REQUESTS
    window_s: float = WINDOW_S
    rolled_back: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.weights, Mapping) or not self.weights:
            raise ValueError(f"weights must be a dict of applications and their weights, not {self.weights!r}")
        self.weights = {
            text("the name of an application", app): float(number(f"the weight of {app!r}", weight))
            for app, weight in self.weights.items()
        }
        if not sum(self.weights.values()):
            raise ValueError("at least one weight must be above 0")
        check_sticky(self.sticky)
        self.min_requests = whole("min_requests", self.min_requests, 1)
        number("window_s", self.window_s, above=True)
        if self.max_error_rate is not None:
            number("max_error_rate", self.max_error_rate, 0, 1)
        if self.max_p99_s is not None:
            number("max_p99_s", self.max_p99_s, above=True)
        if not self.baseline:
            self.baseline = max(self.weights, key=lambda app: self.weights[app])
        elif self.baseline not in self.weights:
            raise ValueError(f"the baseline {self.baseline!r} has no weight: {', '.join(self.weights)} have")

    @property
    def rows(self) -> list[tuple[str, float]]:
        """The weights as routes have them: without those of 0."""
        return [(app, weight) for app, weight in self.weights.items() if weight]

    def forget(self, app: str) -> None:
        """An application is deleted: its requests go to the others, or to the route's own."""
        self.weights.pop(app, None)
        if self.shadow == app:
            self.shadow = ""
        if self.baseline == app:
            self.baseline = max(self.weights, key=lambda one: self.weights[one], default="")

    def without(self, canary: str, why: str) -> None:
        """A canary has lost its weight, which goes to the baseline."""
        self.weights[self.baseline] += self.weights[canary]
        self.weights[canary] = 0.0
        self.rolled_back = why


def check_sticky(sticky: str) -> None:
    """ValueError for a key that cannot be one."""
    kind, _, name = sticky.partition(":")
    if sticky and sticky != "session" and not (kind in ("header", "cookie") and name):
        raise ValueError(f'sticky must be "header:NAME", "cookie:NAME" or "session", not {sticky!r}')


def choose(split: Sequence[tuple[str, float]], key: bytes | None, draw: float) -> str:
    """The application of a request. ``key``: the value that sticks to one of them; None: ``draw``, in [0, 1), decides.

    A key stays where it is when a weight becomes larger, unless it goes to the application that has gained
    (rendezvous hashing with weights)."""
    if key is not None:
        return max(split, key=lambda row: _score(row[0], row[1], key))[0]
    left = draw * sum(weight for _, weight in split)
    for app, weight in split:
        left -= weight
        if left < 0:
            return app
    return split[-1][0]


def _score(app: str, weight: float, key: bytes) -> float:
    """Of which the largest wins: with probability in proportion to the weight."""
    mixed = zlib.crc32(key, zlib.crc32(app.encode()))
    mixed = ((mixed ^ (mixed >> 16)) * 0x45D9F3B) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 16)) * 0x45D9F3B) & 0xFFFFFFFF
    mixed ^= mixed >> 16
    return float(-weight / math.log((mixed + 1) / 0x100000002)) if weight > 0 else -1.0


@dataclass
class Judge:
    """What was seen of the canaries of one split."""

    seen: dict[str, list[tuple[float, AppOutcomes]]] = field(default_factory=dict)

    def note(self, outcomes: AppOutcomes, now: float) -> None:
        """A proxy has told."""
        self.seen.setdefault(outcomes.app, []).append((now, outcomes))

    def verdict(self, split: Split, now: float) -> tuple[str, str] | None:
        """The canary that is to lose its weight, and why; None: all are well, or not known well enough."""
        for app, weight in split.weights.items():
            rows = self.seen.get(app, [])
            rows[:] = [row for row in rows if row[0] > now - split.window_s]
            if app == split.baseline or not weight:
                continue
            requests = sum(row.requests for _, row in rows)
            if requests < split.min_requests:
                continue
            errors = sum(row.errors for _, row in rows)
            if split.max_error_rate is not None and errors > split.max_error_rate * requests:
                return app, (
                    f"{errors} of {requests} requests of {app} failed in {split.window_s:g} s: more than "
                    f"{split.max_error_rate:.2%}"
                )
            p99 = percentile([row.latencies for _, row in rows], 0.99)
            if split.max_p99_s is not None and p99 > split.max_p99_s:
                return app, f"the 99th percentile of {app}'s latency is {p99:.3g} s: more than {split.max_p99_s:g} s"
        return None


def percentile(counts: Sequence[Sequence[int]], share: float) -> float:
    """The upper bound of the count that has this share of all latencies below or in it; inf: longer than all bounds."""
    sums = [sum(column) for column in zip(*counts)]
    left = share * sum(sums)
    for bound, there in zip((*LATENCY_BOUNDS_S, math.inf), sums):
        left -= there
        if left <= 0:
            return float(bound)
    return 0.0

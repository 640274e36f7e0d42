"""What a process counts of the requests that it answers, by route, method, application and status: Ray Serve's metrics.

A proxy counts what goes through it, a replica what it answers on connections that were lent to it.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import cache

from hpc import spi
from hpc.serve.messages import RouteRow

#: Ray's bounds, in milliseconds.
BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200, 300, 400, 500, 1_000, 2_000, 5_000, 10_000, 60_000, 120_000, 300_000, 600_000)
#: Sums of this many kinds are kept apart: what an application answers is not bounded.
MOST_KINDS = 1000
OTHER = "other"
#: The first status that is an error.
ERRORS = 400
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "WS"})

Kind = tuple[str, str, str, int]


class Numbers:
    """Counts of one protocol. ``methods``: those that are told; clients may call others. ``errors``: the first status
    that is one."""

    def __init__(self, protocol: str, methods: frozenset[str] | None, errors: int) -> None:
        self._protocol, self._methods, self._errors = protocol, methods, errors
        #: Of each kind: requests up to each bound and above the last, and the sum of their milliseconds.
        self._sums: dict[Kind, list[float]] = {}
        self._told: dict[Kind, list[float]] = {}

    def note(self, row: RouteRow | None, app: str, method: str, status: int, latency_s: float) -> None:
        """A request has ended. Where it has no route, the path that a client has made up is no part of the count."""
        if self._methods is not None and method not in self._methods:
            method = OTHER
        kind = ("" if row is None else row.prefix, app, method, status)
        sums = self._sums.get(kind)
        if sums is None:
            if len(self._sums) >= MOST_KINDS:
                kind = (OTHER, "", OTHER, status // 100 * 100)
            sums = self._sums.setdefault(kind, [0.0] * (len(BOUNDS) + 2))
        latency_ms = latency_s * 1e3
        sums[bisect_left(BOUNDS, latency_ms)] += 1
        sums[-1] += latency_ms

    def changes(self) -> list[spi.MetricChange]:
        """What has changed since this was asked last."""
        found: list[spi.MetricChange] = []
        for kind, sums in list(self._sums.items()):
            now = list(sums)
            before = self._told.get(kind)
            if before == now:
                continue
            self._told[kind] = now
            grown = [new - old for new, old in zip(now, before)] if before else now
            found += self._changes_of(kind, grown)
        return found

    def _changes_of(self, kind: Kind, grown: list[float]) -> list[spi.MetricChange]:
        route, app, method, status = kind
        tags = [("route", route), ("method", method), ("application", app)]
        count, name = (sum(grown[:-1]),), self._protocol
        with_status = [*tags, ("status_code", str(status))]
        found: list[spi.MetricChange] = [
            (f"serve_num_{name}_requests", "counter", with_status, (), count),
            (f"serve_{name}_request_latency_ms", "histogram", with_status, BOUNDS, grown),
        ]
        if status >= self._errors:
            found.append(
                (f"serve_num_{name}_error_requests", "counter", [*tags, ("error_code", str(status))], (), count)
            )
        return found


@cache
def http_numbers() -> Numbers:
    """The counts of HTTP in this process."""
    return _told(Numbers("http", METHODS, ERRORS))


@cache
def grpc_numbers() -> Numbers:
    """The counts of gRPC in this process: the services bound its methods."""
    return _told(Numbers("grpc", None, 1))


def _told(numbers: Numbers) -> Numbers:
    spi.tell_metrics(numbers.changes)
    return numbers

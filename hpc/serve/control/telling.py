"""What others are told of the applications of a service: replicas, rates, queues, latencies, splits.

Replicas and proxies tell the controller every two seconds, while they have something to tell. What comes of it is told
as runs are: see `hpc.spi.tell_run`. It is made by another thread, which changes nothing of the machine.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterable

from hpc import spi
from hpc.exceptions import HpcError
from hpc.serve.canary import Split, percentile
from hpc.serve.control.fleet import Deployment
from hpc.serve.control.machine import Machine
from hpc.serve.latency import Counts, quantile, together
from hpc.serve.messages import ProxyLoad, ReplicaLoad
from hpc.serve.schema import ApplicationStatus
from hpc.spi import bulletins

#: What was told longer ago than this says nothing of now.
FRESH_S = 5.0
#: Points of the curves, and the time between two.
MOST_POINTS, POINT_S = 300, 2.0
MOST_REPLICAS, MOST_DOORS = 200, 50


class Loads:
    """What replicas and proxies have told last."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[float, ReplicaLoad, float]] = {}
        self._queued: dict[str, tuple[float, dict[str, int]]] = {}

    def note(self, told: ReplicaLoad | ProxyLoad, now: float) -> None:
        """A replica tells, or a proxy."""
        if isinstance(told, ProxyLoad):
            self._queued[told.proxy] = (now, told.queued)
        else:
            done = sum(told.took.values())  # another controller may have heard of those before
            self.rows[told.replica] = (now, told, done / told.span_s if told.span_s > 0 else 0.0)

    def forget(self, living: Iterable[str]) -> None:
        """Replicas that are not there any more have told nothing."""
        living = set(living)
        for gone in [one for one in self.rows if one not in living]:
            del self.rows[gone]

    def queued(self, key: str, now: float) -> int:
        """How many requests wait for a deployment."""
        return sum(row.get(key, 0) for at, row in self._queued.values() if now - at < FRESH_S)

    def rate(self, replica: str, now: float) -> float:
        """Requests of a replica in a second, lately."""
        found = self.rows.get(replica)
        return found[2] if found is not None and now - found[0] < FRESH_S else 0.0

    def took(self, replica: str, now: float) -> Counts:
        """How long they took."""
        found = self.rows.get(replica)
        return found[1].took if found is not None and now - found[0] < FRESH_S else {}


class AppTelling:
    """Tells of one application."""

    def __init__(self, name: str, machine: Machine, loads: Loads) -> None:
        self._name = name
        self._machine = machine
        self._loads = loads
        self._began_s = time.time()
        self._points: deque[tuple[float, float, float | None, int]] = deque(maxlen=MOST_POINTS)
        self._is_over = False
        self._told = spi.tell_run(self.brief, self.detail)

    def end(self) -> None:
        """It was deleted."""
        self._is_over = True
        with contextlib.suppress(HpcError, OSError):  # the session may be over too
            self._told.end()

    # -------------------------------------------------------------- what is told: in another thread

    def brief(self) -> bulletins.Brief:
        """In short."""
        detail = self.detail()
        state, why = self._standing()
        numbers: dict[str, float] = {
            "replicas": sum(row.replicas for row in detail.deployments),
            "requests": detail.requests,
            "requests_per_second": round(detail.per_second, 1),
            "errors": detail.errors,
            "queued": detail.queued,
        }
        if detail.p99_s is not None:
            numbers["p99_ms"] = round(detail.p99_s * 1e3, 3)
        ended_s = time.time() if self._is_over else None
        return bulletins.Brief("serve", self._name, state, why, self._began_s, ended_s, numbers=numbers)

    def _standing(self) -> tuple[bulletins.RunState, str]:
        app = self._machine.apps.table.get(self._name)
        if self._is_over or app is None:
            return "STOPPED", "it was deleted"
        status, why = self._machine.apps.status(app, self._own())
        if status is ApplicationStatus.DEPLOYING:
            return "WAITING", "its replicas begin"
        if status is ApplicationStatus.DELETING:
            return "RUNNING", "it is being deleted"
        serves = any(one.serving for one in self._own())
        return "FAILED" if status is ApplicationStatus.DEPLOY_FAILED and not serves else "RUNNING", why

    def _own(self) -> list[Deployment]:
        return [one for one in list(self._machine.deployments.values()) if one.id.app_name == self._name]

    def detail(self) -> bulletins.ServeDetail:
        """All that is told."""
        now = time.monotonic()
        app, own = self._machine.apps.table.get(self._name), self._own()
        deployments = [self._deployment(one, now) for one in own]
        replicas = [row for one in own for row in self._replicas(one, now)]
        entry = next((row for row in deployments if app is not None and row.name == app.spec.ingress), None)
        found = bulletins.ServeDetail(
            (app.spec.route_prefix or "") if app is not None else "",
            entry.name if entry is not None else "",
            deployments=deployments,
            replicas=replicas[:MOST_REPLICAS],
            queued=sum(row.queued for row in deployments),
        )
        if entry is not None:
            found.per_second, found.p50_s, found.p99_s = entry.per_second, entry.p50_s, entry.p99_s
            found.ongoing, found.requests, found.errors = entry.ongoing, entry.requests, entry.errors
        split = self._machine.splits.get(self._name)
        if split is not None:
            found.split = self._split(split)
            found.sticky, found.rolled_back = split.sticky, split.rolled_back
        doors = [door for proxy in list(self._machine.proxies.table.values()) for door in proxy.doors]
        found.doors = doors[:MOST_DOORS]
        found.curves = self._curves(found)
        return found

    def _replicas(self, one: Deployment, now: float) -> list[bulletins.ServingRow]:
        rows = []
        for replica in list(one.replicas.values()):
            ident = replica.id.to_full_id_str()
            told = self._loads.rows.get(ident)
            took = self._loads.took(ident, now)
            row = bulletins.ServingRow(
                replica.id.unique_id, one.id.name, replica.state.value, _node(replica.facts.node), replica.facts.pid,
                per_second=round(self._loads.rate(ident, now), 1), p50_s=quantile(took, 0.5),
                p99_s=quantile(took, 0.99),
            )  # fmt: skip
            if told is not None:
                load = told[1]
                row.ongoing, row.requests, row.errors = load.ongoing, load.done, load.errors
                row.rejected, row.cancelled = load.rejected, load.cancelled
            rows.append(row)
        return rows

    def _deployment(self, one: Deployment, now: float) -> bulletins.DeploymentRow:
        rows = self._replicas(one, now)
        took = together(self._loads.took(replica.id.to_full_id_str(), now) for replica in list(one.replicas.values()))
        return bulletins.DeploymentRow(
            one.id.name,
            one.status.value,
            len(one.serving),
            one.wanted_count(self._machine.share),
            sum(row.ongoing for row in rows),
            round(sum(row.per_second for row in rows), 1),
            quantile(took, 0.5),
            quantile(took, 0.99),
            max(self._loads.queued(f"{one.id.app_name}#{one.id.name}", now), one.load.waiting),
            sum(row.requests for row in rows),
            sum(row.errors for row in rows),
            sum(row.rejected for row in rows),
            one.message,
        )

    def _split(self, split: Split) -> list[bulletins.SplitRow]:
        judge = self._machine.judges.get(self._name)
        whole = sum(split.weights.values()) or 1.0
        rows = []
        for app in [*split.weights, *([split.shadow] if split.shadow else [])]:
            is_shadow = app not in split.weights
            seen = [row for _, row in list(judge.seen.get(app, []))] if judge is not None else []
            latency = percentile([row.latencies for row in seen], 0.99) if seen else None
            rows.append(
                bulletins.SplitRow(
                    app, "shadow" if is_shadow else "baseline" if app == split.baseline else "canary",
                    None if is_shadow else split.weights[app] / whole, sum(row.requests for row in seen),
                    sum(row.errors for row in seen), latency,
                )
            )  # fmt: skip
        return rows

    def _curves(self, detail: bulletins.ServeDetail) -> list[bulletins.Curve]:
        """The course of the ingress's rate and latency, and of the queue, by seconds since it was first told."""
        at = time.time() - self._began_s
        if not self._points or at - self._points[-1][0] >= POINT_S / 2:
            self._points.append((at, detail.per_second, detail.p99_s, detail.queued))
        points = list(self._points)
        late = [(one[0], one[2] * 1e3) for one in points if one[2] is not None]
        return [
            bulletins.Curve("requests a second", [one[0] for one in points], [one[1] for one in points]),
            bulletins.Curve("99 % took at most, ms", [one[0] for one in late], [one[1] for one in late]),
            bulletins.Curve("requests that wait", [one[0] for one in points], [float(one[3]) for one in points]),
        ]


def _node(text: str) -> str:
    """The number of a node, as other pages have it."""
    return text.removeprefix("NodeID(").removesuffix(")")


class Telling:
    """Tells of all applications, as they come and go."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._apps: dict[str, AppTelling] = {}
        self.loads = Loads()

    def look(self) -> None:
        """Applications may have come, and others gone."""
        table = self._machine.apps.table
        for name in [name for name in self._apps if name not in table]:
            self._apps.pop(name).end()
        for name in table:
            if name not in self._apps:
                self._apps[name] = AppTelling(name, self._machine, self.loads)
        self.loads.forget(
            replica.id.to_full_id_str()
            for one in self._machine.deployments.values()
            for replica in one.replicas.values()
        )

    def end(self) -> None:
        """The service is over."""
        for one in self._apps.values():
            one.end()
        self._apps.clear()

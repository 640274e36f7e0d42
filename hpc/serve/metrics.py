"""Metrics of users in replicas, tagged with the deployment, the replica and the application; and a replica's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpc import spi
from hpc.serve.context import current_request, replica_context
from hpc.serve.latency import Counts, bucket_of
from hpc.serve.messages import ReplicaID
from hpc.util import metrics

_TAGS = ("deployment", "replica", "application")
ROUTE = "route"


def _keys(tag_keys: tuple[str, ...] | None) -> tuple[str, ...]:
    """The tags of a metric with those of the service, inside of a replica."""
    if tag_keys and not isinstance(tag_keys, tuple):
        raise TypeError(f"tag_keys should be a tuple type, got: {type(tag_keys)}")
    keys = tag_keys or ()
    here = replica_context()
    if here is None:
        return keys
    for tag in _TAGS:
        if tag in keys:
            raise ValueError(f"'{tag}' tag is reserved for Ray Serve metrics")
    return (*(_TAGS if here.app_name else _TAGS[:2]), *keys)


def _defaults(tags: Mapping[str, str]) -> Mapping[str, str]:
    here = replica_context()
    if here is None:
        return tags
    for tag in _TAGS:
        if tag in tags:
            raise ValueError(f"'{tag}' tag is reserved for Ray Serve metrics")
    own = {"deployment": here.deployment, "replica": here.replica_tag}
    if here.app_name:
        own["application"] = here.app_name
    return {**tags, **own}


def _with_route(keys: tuple[str, ...], tags: Mapping[str, str] | None) -> Mapping[str, str] | None:
    if ROUTE in keys and ROUTE not in (tags or {}):
        return {**(tags or {}), ROUTE: current_request.get().route}
    return tags


class Counter(metrics.Counter):
    """A counter of `hpc.util.metrics`, with the tags of the replica; "route" is the running request's."""

    def __init__(self, name: str, description: str = "", tag_keys: tuple[str, ...] | None = None) -> None:
        self._serve_keys = _keys(tag_keys)
        super().__init__(name, description, self._serve_keys)
        self.set_default_tags({})

    def set_default_tags(self, default_tags: Mapping[str, str]) -> Any:
        """Tags of all values from now on."""
        return super().set_default_tags(_defaults(default_tags))

    def inc(self, value: float = 1.0, tags: Mapping[str, str] | None = None) -> None:
        """Count."""
        super().inc(value, _with_route(self._serve_keys, tags))


class Gauge(metrics.Gauge):
    """A gauge of `hpc.util.metrics`, with the tags of the replica; "route" is the running request's."""

    def __init__(self, name: str, description: str = "", tag_keys: tuple[str, ...] | None = None) -> None:
        self._serve_keys = _keys(tag_keys)
        super().__init__(name, description, self._serve_keys)
        self.set_default_tags({})

    def set_default_tags(self, default_tags: Mapping[str, str]) -> Any:
        """Tags of all values from now on."""
        return super().set_default_tags(_defaults(default_tags))

    def set(self, value: float, tags: Mapping[str, str] | None = None) -> None:
        """What it is now."""
        super().set(value, _with_route(self._serve_keys, tags))


class Histogram(metrics.Histogram):
    """A histogram of `hpc.util.metrics`, with the tags of the replica; "route" is the running request's."""

    def __init__(
        self,
        name: str,
        description: str = "",
        boundaries: Sequence[float] | None = None,
        tag_keys: tuple[str, ...] | None = None,
    ) -> None:
        self._serve_keys = _keys(tag_keys)
        super().__init__(name, description, boundaries, self._serve_keys)  # type: ignore[arg-type]
        self.set_default_tags({})

    def set_default_tags(self, default_tags: Mapping[str, str]) -> Any:
        """Tags of all values from now on."""
        return super().set_default_tags(_defaults(default_tags))

    def observe(self, value: float, tags: Mapping[str, str] | None = None) -> None:
        """Add a value."""
        super().observe(value, _with_route(self._serve_keys, tags))


class ReplicaNumbers:
    """What a replica counts. Requests cost an addition; the numbers are told every few seconds."""

    def __init__(self, replica_id: ReplicaID) -> None:
        deployment = replica_id.deployment_id
        self._tags = [
            ("application", deployment.app_name),
            ("deployment", deployment.name),
            ("replica", replica_id.unique_id),
        ]
        self.done = self.errors = self.rejected = self.cancelled = 0
        #: How many requests have ended, by their routes: those of handles have the route of who has begun it.
        self._routes: dict[str, int] = {}
        #: How long requests took since `take` was asked.
        self._took: Counts = {}
        self._told: dict[str, int] = {}
        spi.tell_metrics(self._changes)

    def took(self, seconds: float, route: str = "") -> None:
        """A request has ended."""
        self.done += 1
        self._routes[route] = self._routes.get(route, 0) + 1
        bucket = bucket_of(seconds)
        self._took[bucket] = self._took.get(bucket, 0) + 1

    def take(self) -> Counts:
        """How long requests took since this was asked last."""
        took, self._took = self._took, {}
        return took

    def _changes(self) -> list[spi.MetricChange]:
        changes: list[spi.MetricChange] = []
        counter = "serve_deployment_request_counter"
        for route, count in list(self._routes.items()):
            grown = count - self._told.get(f"{counter} {route}", 0)
            if grown:
                self._told[f"{counter} {route}"] = count
                changes.append((counter, "counter", [*self._tags, (ROUTE, route)], (), (float(grown),)))
        for name, value in (
            ("serve_deployment_error_counter", self.errors),
            ("serve_deployment_rejected_counter", self.rejected),
            ("serve_deployment_cancelled_counter", self.cancelled),
        ):
            grown = value - self._told.get(name, 0)
            if grown:
                self._told[name] = value
                changes.append((name, "counter", self._tags, (), (float(grown),)))
        return changes

"""Counter, Gauge, Histogram: numbers that a program keeps about itself, per process.

Two metrics of one name are one metric with two handles, so that a function that is called again, or arrives pickled,
goes on counting. `snapshot` shows the values of this process. Those of all processes are brought together every few
seconds: `hpc metrics` shows them.
"""

from __future__ import annotations

import math
import os
import threading
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from hpc.spi import tell_metrics

MetricKind = Literal["counter", "gauge", "histogram"]
Tags = tuple[tuple[str, str], ...]
#: Sets of tags of a metric that are told by themselves. The values of all others are told under tags that say OTHER,
#: and counted as DROPPED.
MAX_SETS, OTHER, DROPPED = 100, "other", "hpc_metrics_dropped_total"


@dataclass(slots=True)
class _Series:
    """All values of one metric: by tags a number, or for histograms [count per bucket..., sum]."""

    kind: MetricKind
    description: str
    tag_keys: tuple[str, ...]
    boundaries: tuple[float, ...] = ()
    values: dict[Tags, Any] = field(default_factory=dict)
    #: What is to be told, by the tags under which it is: what a counter or histogram has grown by, what a gauge is.
    news: dict[Tags, Any] = field(default_factory=dict)
    #: The tags that have room of their own, and how often others had none.
    named: dict[Tags, None] = field(default_factory=dict)
    dropped: int = 0

    def told_as(self, tags: Tags) -> Tags:
        """The tags under which a value is told: there is room for some, and one for all others."""
        if tags in self.named:
            return tags
        if len(self.named) < MAX_SETS:
            self.named[tags] = None
            return tags
        self.dropped += 1
        return tuple((key, OTHER) for key, _ in tags)

    def can_be_told(self, number: float) -> bool:
        """Whether this can be added to what all processes have: with NaN or an infinity their sum would be none."""
        if math.isfinite(number):
            return True
        self.dropped += 1
        return False


#: May be taken again by the thread that holds it: finalizers and handlers of signals count too, at any moment.
_lock = threading.RLock()
_series: dict[str, _Series] = {}


def _in_child() -> None:
    """In a forked process nobody is left to give back the lock: another thread may have held it, to tell. What is to
    be told until then is the parent's to tell."""
    global _lock
    _lock = threading.RLock()
    for series in _series.values():
        series.news, series.dropped = {}, 0


os.register_at_fork(after_in_child=_in_child)


class Metric:
    """What the three kinds have in common.

    name: of letters, digits and underscores. description: one sentence. tag_keys: a tuple with the names of the tags
    that each value has. Raises ValueError or TypeError for others, and when the name is in use for another metric.
    """

    _kind: MetricKind

    def __init__(
        self,
        name: str,
        description: str = "",
        tag_keys: tuple[str, ...] | None = None,
        *,
        _boundaries: tuple[float, ...] = (),
    ) -> None:
        if not isinstance(name, str):
            raise TypeError(f"the name of a metric must be a string, not {type(name).__name__}")
        if not name:
            raise ValueError("the name of a metric must not be empty")
        if not name.isascii() or not name.replace(":", "_").isidentifier():
            raise ValueError(f"the name of a metric is made of letters, digits and underscores; {name!r} is not")
        keys = () if tag_keys is None else tag_keys
        if not isinstance(keys, tuple):
            raise TypeError(f"tag_keys must be a tuple of strings, as in ('worker',), not {type(keys).__name__}")
        for key in keys:
            if not isinstance(key, str):
                raise TypeError(f"tag_keys must be strings; {key!r} is not")
        self._name = name
        self._description = description
        self._tag_keys = keys
        self._boundaries = _boundaries
        self._default_tags: dict[str, str] = {}
        self._series = self._join()

    def _join(self) -> _Series:
        with _lock:
            there = _series.get(self._name)
            if there is None:
                there = _Series(self._kind, self._description, self._tag_keys, self._boundaries)
                _series[self._name] = there
        if (there.kind, there.tag_keys, there.boundaries) != (self._kind, self._tag_keys, self._boundaries):
            raise ValueError(
                f"{self._name!r} is in use in this process for a {there.kind} with tag_keys={there.tag_keys}"
                + (f" and boundaries={list(there.boundaries)}" if there.boundaries else "")
            )
        return there

    def set_default_tags(self, default_tags: Mapping[str, str]) -> Metric:
        """Values of tags where a call gives none. Returns the metric. Raises ValueError for tags that are not among
        the tag_keys, TypeError for values that are not strings."""
        self._check_tags(default_tags)
        self._default_tags = dict(default_tags)
        return self

    @property
    def info(self) -> dict[str, Any]:
        """Name, description, tag_keys and default_tags."""
        return {
            "name": self._name,
            "description": self._description,
            "tag_keys": self._tag_keys,
            "default_tags": dict(self._default_tags),
        }

    def _check_tags(self, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            if key not in self._tag_keys:
                raise ValueError(f"{key!r} is no tag of {self._name!r}; its tag_keys are {self._tag_keys}")
            if not isinstance(value, str):
                raise TypeError(f"values of tags must be strings; that of {key!r} is {type(value).__name__}")

    def _tags(self, tags: Mapping[str, str] | None) -> Tags:
        """All tags of a value, in the order of the tag_keys."""
        if not self._tag_keys and not tags:
            return ()
        if tags:
            self._check_tags(tags)
        every = {**self._default_tags, **(tags or {})}
        missing = [key for key in self._tag_keys if key not in every]
        if missing:
            raise ValueError(f"{self._name!r} needs a value for its tags {', '.join(missing)}")
        return tuple((key, every[key]) for key in self._tag_keys)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_series"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._series = self._join()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name!r})"


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"value must be a number, not {type(value).__name__}")
    return float(value)


class Counter(Metric):
    """A number that only grows."""

    _kind = "counter"

    def inc(self, value: float = 1.0, tags: Mapping[str, str] | None = None) -> None:
        """Add ``value``, which must be positive (else ValueError)."""
        number = _number(value)
        if number <= 0:
            raise ValueError(f"a counter only grows: value must be above 0, not {value}")
        key, values = self._tags(tags), self._series.values
        with _lock:
            values[key] = values.get(key, 0.0) + number
            if not self._series.can_be_told(number):
                return
            news, told = self._series.news, self._series.told_as(key)
            news[told] = news.get(told, 0.0) + number


class Gauge(Metric):
    """A number that goes up and down: the last one that was set counts."""

    _kind = "gauge"

    def set(self, value: float, tags: Mapping[str, str] | None = None) -> None:
        """Set the value."""
        key, number = self._tags(tags), _number(value)
        with _lock:
            self._series.values[key] = number
            self._series.news[self._series.told_as(key)] = number


class Histogram(Metric):
    """How often values fell into which range. ``boundaries``: the upper ends of the ranges, positive and ascending
    (else ValueError); above the last there is one more."""

    _kind = "histogram"

    def __init__(
        self,
        name: str,
        description: str = "",
        boundaries: list[float] | None = None,
        tag_keys: tuple[str, ...] | None = None,
    ) -> None:
        if not boundaries:
            raise ValueError("a Histogram needs boundaries, as in Histogram('size', boundaries=[1.0, 10.0])")
        for boundary in boundaries:
            if not _number(boundary) > 0:  # NaN is not
                raise ValueError(f"boundaries must be above 0, which {boundary} is not")
        if any(low >= high for low, high in pairwise(boundaries)):
            raise ValueError(f"boundaries must ascend, which {list(boundaries)} do not")
        super().__init__(name, description, tag_keys, _boundaries=tuple(float(b) for b in boundaries))

    @property
    def info(self) -> dict[str, Any]:
        """Name, description, tag_keys, default_tags and boundaries."""
        return {**super().info, "boundaries": list(self._boundaries)}

    def observe(self, value: float, tags: Mapping[str, str] | None = None) -> None:
        """Count a value."""
        number, key, values = _number(value), self._tags(tags), self._series.values
        with _lock:
            counts = values.get(key)
            if counts is None:
                counts = values[key] = [0] * (len(self._boundaries) + 1) + [0.0]
            self._count(counts, number)
            if not self._series.can_be_told(number):
                return
            told = self._series.told_as(key)
            news = self._series.news.get(told)
            if news is None:
                news = self._series.news[told] = [0] * (len(self._boundaries) + 1) + [0.0]
            self._count(news, number)

    def _count(self, counts: list[float], number: float) -> None:
        counts[bisect_left(self._boundaries, number)] += 1
        counts[-1] += number


def snapshot() -> list[dict[str, Any]]:
    """All metrics of this process, of plain types: dicts with name, kind, description, tag_keys and ``values``.

    Each of the values has its ``tags``. Counters and gauges have a ``value``, and histograms their ``count``, ``sum``
    and ``buckets``. A bucket is a boundary (the last is infinite) and how many values were at most that and above the
    one before.
    """
    with _lock:
        return [
            {
                "name": name,
                "kind": series.kind,
                "description": series.description,
                "tag_keys": list(series.tag_keys),
                "values": [{"tags": dict(tags), **_show(series, value)} for tags, value in series.values.items()],
            }
            for name, series in sorted(_series.items())
        ]


Change = tuple[str, MetricKind, Tags, tuple[float, ...], list[float]]


def changes() -> list[Change]:
    """What has changed since this was called last: (name, kind, tags, boundaries, numbers). Of a counter the number is
    what it has grown by, of a gauge its value. Of a histogram they are the new values in each range, then their sum."""
    found: list[Change] = []
    with _lock:
        for name, series in list(_series.items()):
            news, series.news = series.news, {}  # a finalizer may count meanwhile
            for tags, value in news.items():
                found.append((name, series.kind, tags, series.boundaries, value if series.boundaries else [value]))
            if series.dropped:
                found.append((DROPPED, "counter", (), (), [series.dropped]))
                series.dropped = 0
    return found


def _show(series: _Series, value: Any) -> dict[str, Any]:
    if series.kind != "histogram":
        return {"value": value}
    counts, total = value[:-1], value[-1]
    buckets = [list(pair) for pair in zip((*series.boundaries, float("inf")), counts)]
    return {"count": sum(counts), "sum": total, "buckets": buckets}


tell_metrics(changes)

__all__ = ["Counter", "Gauge", "Histogram", "Metric", "snapshot"]

"""Where metrics are logged: values under nested keys, each with how they become one number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hpc.rllib.utils.metrics.stats import DEFAULT_STATS_CLS_LOOKUP, SmoothedStats, StatsBase

#: Kinds that are always there, beside those that are named.
_ALWAYS: dict[str, type] = {SmoothedStats.stats_cls_identifier: SmoothedStats}
#: A key, or the keys of nested dicts.
Key = str | tuple[Any, ...]
_JOINT = "--"


class MetricsLogger:
    """Values by nested keys.

    root: nothing is above it; sums over a whole life stay. Others are read by ``reduce``, and what they had is merged
    by ``aggregate`` of the logger above.
    """

    def __init__(self, root: bool = False, stats_cls_lookup: dict[str, type] | None = None) -> None:
        self.stats: dict[str, Any] = {}
        self.stats_cls_lookup = {**_ALWAYS, **(stats_cls_lookup or DEFAULT_STATS_CLS_LOOKUP)}
        self._root = root
        self._by_key: dict[Any, StatsBase] = {}

    # logging

    def log_value(
        self,
        key: Key,
        value: Any,
        *,
        reduce: str | None = None,
        window: int | None = None,
        ema_coeff: float | None = None,
        percentiles: Any = None,
        with_throughput: bool | None = None,
        clear_on_reduce: bool | None = None,
        **settings: Any,
    ) -> None:
        """Take a value. How they are reduced is said with the first one.

        reduce: "mean", "ema" (an exponential average), "min", "max", "sum", "lifetime_sum", "percentiles", "item" (the
        last one), "item_series", or a kind of your own. Not given, it is "mean" with a window, and else "ema".
        window: so many of the latest values. with_throughput: of sums: how much is added in a second.
        """
        stats = self._by_key.get(key)
        if stats is None:
            if reduce == "sum" and clear_on_reduce is False:
                reduce = "lifetime_sum"
            given = {"ema_coeff": ema_coeff, "percentiles": percentiles, "with_throughput": with_throughput}
            stats = self._made(key, reduce or ("ema" if window is None else "mean"), {**given, **settings}, window)
        stats.push(value)

    def log_dict(self, value_dict: dict[str, Any], *, key: Key | None = None, **how: Any) -> None:
        """Take all values of a nested dict, under this key; how: as for `log_value`, with the mean if not said."""
        if not isinstance(value_dict, dict):
            raise TypeError(f"log_dict takes a dict, not {type(value_dict).__name__}: use log_value")
        how.setdefault("reduce", "mean")
        for path, value in _leaves(value_dict, _path(key)):
            self.log_value(path, value, **how)

    def log_time(
        self, key: Key, *, reduce: str = "ema", window: int | None = None, ema_coeff: float | None = None, **how: Any
    ) -> StatsBase:
        """A context: the seconds within are logged under this key."""
        stats = self._by_key.get(key)
        if stats is None:
            stats = self._made(key, reduce, {"ema_coeff": ema_coeff, **how}, window)
        return stats

    def aggregate(self, stats_dicts: list[dict[str, Any]], *, key: Key | None = None) -> None:
        """Merge what other loggers' ``reduce()`` has returned, under this key."""
        together: dict[tuple[Any, ...], list[StatsBase]] = {}
        for one in stats_dicts:
            for path, stats in _leaves(one, _path(key)):
                if not isinstance(stats, StatsBase):
                    raise TypeError(f"aggregate takes what MetricsLogger.reduce() returns, and at {path} is {stats!r}")
                together.setdefault(path, []).append(stats)
        for path, several in together.items():
            own = self._find(path)
            if own is None:
                own = self._put(path, several[0].clone({"is_leaf": False, "is_root": self._root}))
            own.merge(several)

    #: The name of `aggregate` in older programs.
    merge_and_log_n_dicts = aggregate

    # reading

    def peek(
        self,
        key: Key | None = None,
        default: Any = None,
        compile: bool = True,
        throughput: bool = False,
        latest_merged_only: bool = False,
    ) -> Any:
        """What is under the key, as it is now: a value, or a nested dict of them.

        throughput: how much was added in a second, as opposed to the value. Raises KeyError without a default.
        """
        found = self.stats if key is None else self._find(_path(key))
        if found is None:
            if default is None:
                raise KeyError(key)
            return default
        if throughput:
            return found.throughputs if isinstance(found, StatsBase) else _throughputs(found, "_throughputs")
        return _mapped(found, lambda stats: stats.peek(compile=compile, latest_merged_only=latest_merged_only))

    def reduce(self, compile: bool = False) -> dict[str, Any]:
        """All values, reduced, and begin anew; compile=False: as Stats for another logger's ``aggregate``."""
        return _mapped(self.stats, lambda stats: stats.reduce(compile=compile))

    def compile(self) -> dict[str, Any]:
        """All values, reduced, and throughputs beside them; and begin anew."""
        rates = _throughputs(self.stats, "_throughput")
        return _together(self.reduce(compile=True), rates)

    @staticmethod
    def peek_results(results: Any, compile: bool = True) -> Any:
        """A nested dict of Stats as one of values."""
        return _mapped(results, lambda stats: stats.peek(compile=compile))

    def has_values(self, key: Key) -> bool:
        """Whether something was logged under the key since the last reduce."""
        found = self._find(_path(key))
        return isinstance(found, StatsBase) and len(found) > 0

    def __contains__(self, key: Key) -> bool:
        return self._find(_path(key)) is not None

    def all_stats(self) -> list[StatsBase]:
        """The Stats of all keys."""
        return [stats for _, stats in _leaves(self.stats, ())]

    # keeping

    def reset(self) -> None:
        """Forget all."""
        self.stats = {}
        self._by_key.clear()

    def delete(self, *key: Any, key_error: bool = True) -> None:
        """Forget what is under this key. Raises KeyError where nothing is, if that is wanted."""
        path = tuple(part for one in key for part in _path(one))
        above = self._find(path[:-1]) if len(path) > 1 else self.stats
        if isinstance(above, dict) and path[-1] in above:
            del above[path[-1]]
            self._by_key.clear()
        elif key_error:
            raise KeyError(path)

    def get_state(self) -> dict[str, Any]:
        """All that is needed to go on."""
        stats: dict[str, Any] = {}
        for path, one in _leaves(self.stats, ()):
            joined = _JOINT.join(map(str, path))
            while joined in stats:  # a key has the joint in it
                joined += _JOINT
            stats[joined] = {**one.get_state(), "path": path}
        return {"stats": stats}

    def set_state(self, state: dict[str, Any]) -> None:
        """Become what get_state has said. Raises ValueError for a kind of Stats that nobody has named."""
        self.reset()
        for joined, one in state["stats"].items():
            kind = self.stats_cls_lookup.get(one["stats_cls_identifier"])
            if kind is None:
                raise ValueError(
                    f"the metric {joined!r} is of the kind {one['stats_cls_identifier']!r}, which is unknown: name it "
                    "by config.reporting(custom_stats_cls_lookup=..)"
                )
            path = one.get("path") or joined.split(_JOINT)
            self._put(tuple(path), kind.from_state(one))  # type: ignore[attr-defined]

    # its parts

    def _made(self, key: Key, reduce: str, given: dict[str, Any], window: int | None) -> StatsBase:
        path = _path(key)
        found = self._find(path)
        if isinstance(found, StatsBase):
            self._by_key[key] = found
            return found
        if found is not None:
            raise ValueError(f"under {path} are further keys: log the value under a key of its own")
        kind = self.stats_cls_lookup.get(reduce)
        if kind is None:
            raise ValueError(f"reduce={reduce!r} is none of {', '.join(self.stats_cls_lookup)}")
        settings = {name: value for name, value in {**given, "window": window}.items() if value is not None}
        stats = kind(**settings, is_root=self._root, is_leaf=True)
        self._by_key[key] = stats
        return self._put(path, stats)

    def _find(self, path: tuple[Any, ...]) -> Any:
        found: Any = self.stats
        for part in path:
            if not isinstance(found, dict) or part not in found:
                return None
            found = found[part]
        return found

    def _put(self, path: tuple[Any, ...], stats: Any) -> Any:
        place = self.stats
        for part in path[:-1]:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ValueError(f"{part!r} of the key {path} has a value already: log under another key")
        place[path[-1]] = stats
        return stats


def _path(key: Key | None) -> tuple[Any, ...]:
    if key is None:
        return ()
    if isinstance(key, (tuple, list)):
        return tuple(part for one in key for part in _path(one))
    return (key,)


def _leaves(values: dict[str, Any], above: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key), value


def _mapped(values: Any, function: Callable[[Any], Any]) -> Any:
    if isinstance(values, dict):
        return {key: _mapped(value, function) for key, value in values.items()}
    return function(values) if isinstance(values, StatsBase) else values


def _throughputs(values: dict[str, Any], suffix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            within = _throughputs(value, suffix)
            if within:
                found[key] = within
        elif isinstance(value, StatsBase) and value.has_throughputs:
            found[f"{key}{suffix}"] = value.throughputs
    return found


def _together(values: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            _together(values[key], value)
        else:
            values[key] = value
    return values

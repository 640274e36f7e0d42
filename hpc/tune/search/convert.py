"""A search space as the libraries of searchers want it: flat, with a bound, a step and a kind for each parameter."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpc.tune.sample import Categorical, Domain, Float, Integer, LogUniform, Normal, Quantized
from hpc.tune.variants import assign_value, fresh, path_name, split_space, value_at

__all__ = ["FlatSpace", "Parameter", "check_points"]


@dataclass(frozen=True)
class Parameter:
    """One parameter. Both bounds are included. values: those of a choice. step: the multiples that are allowed.

    mean, sd: of a normal distribution, which has no bounds. log: the logarithm counts.
    """

    name: str
    low: float = -math.inf
    high: float = math.inf
    step: float | None = None
    log: bool = False
    whole: bool = False
    mean: float = 0.0
    sd: float = 0.0
    values: tuple[Any, ...] | None = None

    @classmethod
    def of(cls, name: str, domain: Domain, searcher: str) -> Parameter:
        """The parameter for a domain. Raises ValueError for a function."""
        sampler = domain.get_sampler()
        step = sampler.q if isinstance(sampler, Quantized) else None
        if isinstance(domain, Categorical):
            return cls(name, values=tuple(domain.categories))
        if not isinstance(domain, Float | Integer):
            raise ValueError(
                f"`{name}` is {domain}, and {searcher} knows no such domain: it searches ranges and choices; "
                "compute what depends on other parameters in the trainable"
            )
        low, high = domain.lower, domain.upper
        if isinstance(sampler, Quantized):
            first, last = sampler.steps(domain)
            low, high = first * sampler.q, last * sampler.q
            sampler = sampler.sampler
        elif isinstance(domain, Integer):
            high -= 1
        whole = isinstance(domain, Integer)
        if isinstance(sampler, Normal):
            return cls(name, step=step, mean=sampler.mean, sd=sampler.sd)
        return cls(name, low, high, step, isinstance(sampler, LogUniform), whole)

    def value(self, found: Any) -> Any:
        """What a library found, as a value of the domain: of its type, on its step, between its bounds."""
        if self.values is not None:
            return found
        if self.step:
            found = round(found / self.step) * self.step
        found = min(max(found, self.low), self.high)
        return round(found) if self.whole else float(found)

    def place(self, value: Any) -> int:
        """Where a value stands among those of a choice. Raises ValueError where it does not."""
        assert self.values is not None
        for place, one in enumerate(self.values):
            if one is value or (type(one) is type(value) and _equal(one, value)):
                return place
        for place, one in enumerate(self.values):
            if _equal(one, value):
                return place
        raise ValueError(f"{value!r} is not among the values of `{self.name}`: {list(self.values)}")

    def _span(self) -> tuple[float, float]:
        """The ends of the range as it is searched: whole numbers have a half on both sides, so that each is as wide."""
        half = 0.5 if self.whole else 0.0
        if self.log:
            return math.log(self.low - half if self.low > half else self.low / 2), math.log(self.high + half)
        return self.low - half, self.high + half

    def of_unit(self, share: float) -> Any:
        """The value at a share of the range, 0 to 1."""
        low, high = self._span()
        found = low + share * (high - low)
        return self.value(math.exp(found) if self.log else found)

    def to_unit(self, value: Any) -> float:
        """The share of the range at which a value stands."""
        low, high = self._span()
        found = math.log(value) if self.log else value
        return (found - low) / (high - low) if high > low else 0.5


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # arrays answer with arrays
        return False


class FlatSpace:
    """The parameters of a nested space by name, `a/b`, and the way back. Constants are left out.

    Raises ValueError for a grid, which no searcher can have, for a function, and for a key with a "/" in it.
    """

    def __init__(self, space: Mapping[str, Any], searcher: str):
        constants, domains, grids = split_space(space)
        if grids:
            raise ValueError(
                f"grid_search of `{path_name(grids[0][0])}` cannot be with {searcher}, which chooses values itself: "
                "write choice([...]), or leave search_alg out"
            )
        for path, _ in domains:
            if any("/" in str(key) for key in path):
                raise ValueError(f"the key of the parameter `{path_name(path)}` has a '/' in it: name it otherwise")
        self.searcher = searcher
        self.parameters = {path_name(path): Parameter.of(path_name(path), domain, searcher) for path, domain in domains}
        self._paths = {path_name(path): path for path, _ in domains}
        self._constants = {path_name(path): value for path, value in constants}
        # Lists and tuples are suggested whole, so their constants are needed too.
        self._lists = {path[0]: space[path[0]] for path, _ in domains if _through_list(space, path)}

    def __bool__(self) -> bool:
        return bool(self.parameters)

    def nested(self, flat: Mapping[str, Any]) -> dict[str, Any]:
        """Values by name as a part of a configuration."""
        config: dict[str, Any] = {key: fresh(value) for key, value in self._lists.items()}
        for name, value in flat.items():
            path = self._paths.get(name) or tuple(name.split("/"))
            there = config
            for key in path[:-1]:
                if not isinstance(there, dict):
                    break
                there = there.setdefault(key, {})
            assign_value(config, path, value)
        return config

    def flat(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a point by name; the point may be nested or flat, and may have constants of the space.

        Raises ValueError for a key that the space lacks, and for another value of a constant.
        """
        found: dict[str, Any] = {}
        for name, path in self._paths.items():
            if name in point:
                found[name] = point[name]
                continue
            with contextlib.suppress(KeyError, IndexError, TypeError):
                found[name] = value_at(point, path)
        parts = tuple(f"{name}/" for name in self.parameters)
        for path, value in split_space(point)[0]:
            name = path_name(path)
            if name in self.parameters or name.startswith(parts):
                continue
            if name not in self._constants or not _equal(self._constants[name], value):
                raise ValueError(
                    f"points_to_evaluate has the value {value!r} for `{name}`, which is no parameter of "
                    f"{self.searcher}: it has {', '.join(self.parameters)}"
                )
        return found


def _through_list(space: Any, path: Sequence[Any]) -> bool:
    for key in path:
        if isinstance(space, list | tuple):
            return True
        space = space[key]
    return False


def check_points(points: Any, rewards: Any = None) -> None:
    """Raise ValueError or TypeError where points to evaluate, or their values, cannot be."""
    if points is None:
        points = []
    if not isinstance(points, list | tuple):
        raise TypeError(f"points_to_evaluate has to be a list of dicts, not {points!r}")
    for point in points:
        if not isinstance(point, Mapping):
            raise TypeError(f"points_to_evaluate has to be a list of dicts: {point!r} is none")
    if rewards is None:
        return
    if not isinstance(rewards, list | tuple):
        raise TypeError(f"evaluated_rewards has to be a list with a value for each point, not {rewards!r}")
    if len(rewards) != len(points):
        raise ValueError(f"evaluated_rewards has {len(rewards)} values for {len(points)} points: give one for each")

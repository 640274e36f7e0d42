"""From a search space to configurations: grids multiplied out, domains drawn, functions called.

A space is a nest of dicts, lists and tuples. Its leaves are constants, domains (hpc.tune.sample) or grids. The order
of the draws is Ray's, so that the same generator gives the same configurations.
"""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .sample import Categorical, Domain, Function, random_source

__all__ = [
    "Path", "RecursiveDependencyError", "Variant", "assign_value", "check_point", "count_variants", "fresh",
    "generate_variants", "is_leaf", "path_name", "preset_variants", "split_space", "unresolved", "value_at",
]  # fmt: skip

Path = tuple[Any, ...]
Variant = tuple[dict[Path, Any], dict[Any, Any]]  # the values that were found, by path, and the whole configuration

logger = logging.getLogger(__name__)

_PASSES = 20  # how often functions are tried again that read what is not drawn yet


class RecursiveDependencyError(Exception):
    """Functions of a space read each other's values, in a circle."""

    def __init__(self, msg: str):
        Exception.__init__(self, msg)


# ---------------------------------------------------------------- the leaves of a space


def _leaf(value: Any) -> Domain | None:
    """The domain that a value of a space stands for; None for a constant or a container."""
    if isinstance(value, Domain):
        return value
    if isinstance(value, dict) and len(value) == 1:
        if "grid_search" in value:
            return Categorical(value["grid_search"]).grid()
        if "eval" in value:
            text = value["eval"]
            return Function(lambda spec: eval(text, {"random": random, "np": np}, {"spec": spec}))
    return None


def is_leaf(value: Any) -> bool:
    """Whether a value of a space is a domain or a grid."""
    return _leaf(value) is not None


def _walk(spec: Any, path: Path, domains: list[tuple[Path, Domain]], constants: list[tuple[Path, Any]] | None) -> None:
    for key, value in spec.items() if isinstance(spec, dict) else enumerate(spec):
        here = (*path, key)
        domain = _leaf(value)
        if domain is not None:
            domains.append((here, domain))
        elif isinstance(value, dict | list | tuple):
            _walk(value, here, domains, constants)
        elif constants is not None:
            constants.append((here, value))


def split_space(spec: Mapping[Any, Any]) -> tuple[list[tuple[Path, Any]], ...]:
    """The leaves of a space with their paths: constants, domains, and grids in the order of their names."""
    found: list[tuple[Path, Domain]] = []
    constants: list[tuple[Path, Any]] = []
    _walk(spec, (), found, constants)
    domains, grids = _apart(found)
    return constants, domains, grids


def unresolved(spec: Mapping[Any, Any]) -> list[tuple[Path, Domain]]:
    """The domains and grids of a space with their paths."""
    found: list[tuple[Path, Domain]] = []
    _walk(spec, (), found, None)
    return found


def _apart(found: list[tuple[Path, Domain]]) -> tuple[list[tuple[Path, Domain]], list[tuple[Path, Any]]]:
    domains = [(path, domain) for path, domain in found if not domain.is_grid()]
    grids = [(path, domain) for path, domain in found if domain.is_grid()]
    return domains, sorted(grids, key=lambda grid: _order(grid[0]))


def _order(path: Path) -> tuple[Any, ...]:
    return tuple((0, part, "") if isinstance(part, int) else (1, 0, str(part)) for part in path)


def fresh(value: Any) -> Any:
    """The same nest with containers of its own; the leaves are shared."""
    kind = type(value)
    if kind is dict:
        return {key: fresh(inner) for key, inner in value.items()}
    if kind is list:
        return [fresh(inner) for inner in value]
    if kind is tuple:
        return tuple([fresh(inner) for inner in value])
    if isinstance(value, dict):
        new = value.copy()
        for key, inner in value.items():
            new[key] = fresh(inner)
        return new
    return value


def assign_value(spec: Any, path: Path, value: Any) -> None:
    """Put `value` at `path` of a nest, in place. Tuples on the way are made anew."""
    key, rest = path[0], path[1:]
    if rest:
        inner = spec[key]
        if not isinstance(inner, tuple):
            assign_value(inner, rest, value)
            return
        parts = list(inner)
        assign_value(parts, rest, value)
        value = type(inner)(*parts) if hasattr(inner, "_fields") else tuple(parts)
    spec[key] = value


def value_at(spec: Any, path: Path) -> Any:
    """What stands at a path. Raises KeyError, IndexError or TypeError where nothing does."""
    for key in path:
        spec = spec[key]
    return spec


def path_name(path: Path) -> str:
    """A path as text, its parts joined by `/`."""
    return "/".join(str(part) for part in path)


# ---------------------------------------------------------------- drawing


class _Known(dict[Any, Any]):
    """The configuration so far, as a function of the space sees it: by attribute or by key.

    `spec.config` is the configuration itself, as programs of old write it. What is not drawn yet raises
    RecursiveDependencyError, and the function is called again later.
    """

    def _seen(self, name: Any, value: Any) -> Any:
        domain = _leaf(value)
        if domain is not None:
            raise RecursiveDependencyError(f"`{name}` recursively depends on {domain}")
        return _Known(value) if isinstance(value, dict) else value

    def __getitem__(self, name: Any) -> Any:
        if name == "config" and name not in self:
            return self
        return self._seen(name, dict.__getitem__(self, name))

    def __getattr__(self, name: str) -> Any:
        if name != "config" and name not in self:
            raise AttributeError(f"the configuration has no parameter {name!r}: it has {sorted(map(str, self))}")
        return self[name]

    def get(self, name: Any, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default

    def values(self) -> Any:
        return [self[name] for name in self]

    def items(self) -> Any:
        return [(name, self[name]) for name in self]


def _resolve(spec: Any, domains: list[tuple[Path, Domain]], source: Any) -> tuple[dict[Path, Any], Exception | None]:
    """Draw what can be drawn, into `spec`; the error says what could not."""
    drawn: dict[Path, Any] = {}
    error: Exception | None = None
    for _ in range(_PASSES):
        error = None
        for path, domain in domains:
            if path in drawn:
                continue
            try:
                value = domain.sample(_Known(spec) if domain.is_function() else None, random_state=source)
            except RecursiveDependencyError as later:
                error = later
                continue
            except Exception as wrong:
                raise ValueError(
                    f"no value could be drawn for `{path_name(path)}` from {domain}: {type(wrong).__name__}: {wrong}"
                ) from wrong
            value = fresh(value)
            assign_value(spec, path, value)
            drawn[path] = value
        if error is None:
            break
    return drawn, error


def _cells(spec: Any, grids: list[tuple[Path, Any]]) -> Iterator[Any]:
    """A copy of `spec` for each combination of the grids' values; the first grid changes fastest."""
    for values in itertools.product(*(grid.categories for _, grid in reversed(grids))):
        cell = fresh(spec)
        for (path, _), value in zip(grids, reversed(values)):
            assign_value(cell, path, fresh(value))
        yield cell


def _expand(spec: Any, constant: bool, source: Any) -> Iterator[Variant]:
    found = unresolved(spec)
    if not found:
        yield {}, spec
        return
    domains, grids = _apart(found)
    common: dict[Path, Any] = {}
    spec = fresh(spec)
    if constant:
        common, _ = _resolve(spec, domains, source)
        domains = [(path, domain) for path, domain in domains if path not in common]
    grid_paths = [path for path, _ in grids]
    for cell in _cells(spec, grids):
        drawn, error = _resolve(cell, domains, source)
        if error is not None:
            raise error
        # A value that was drawn, or of a grid, may have domains and grids of its own.
        for inner, whole in _expand(cell, constant, source):
            variables = {path: value_at(whole, path) for path in (*common, *drawn, *grid_paths)}
            variables.update(inner)
            yield variables, whole


def generate_variants(
    unresolved_spec: Mapping[Any, Any], constant_grid_search: bool = False, random_state: Any = None
) -> Iterator[Variant]:
    """Each variant of a space, one for each combination of its grids: (values by path, configuration).

    Random values are drawn anew for each variant; with `constant_grid_search` once for all. `random_state` is None
    (numpy's global generator), a seed or a numpy generator. Raises ValueError where a value cannot be drawn, and
    RecursiveDependencyError where functions depend on each other in a circle.
    """
    yield from _expand(unresolved_spec, constant_grid_search, random_source(random_state))


# ---------------------------------------------------------------- points to evaluate


def _with_preset(space: Mapping[Any, Any], point: Mapping[Any, Any]) -> dict[Any, Any]:
    """The space with the values of a point in place of its domains. A key that the space lacks raises ValueError."""
    if not isinstance(point, Mapping):
        raise ValueError(f"points_to_evaluate has to be a list of dicts: {point!r} is none")
    values, domains, grids = split_space(point)
    if domains or grids:
        raise ValueError(f"a point of points_to_evaluate has values only, no domains: {dict(point)!r}")
    spec: dict[Any, Any] = fresh(dict(space))
    for path, value in values:
        try:
            value_at(spec, path)
        except (KeyError, IndexError, TypeError):
            raise ValueError(
                f"points_to_evaluate has a value for `{path_name(path)}`, which the search space does not have: "
                f"add it to param_space, or leave it out of the point {dict(point)!r}"
            ) from None
        assign_value(spec, path, value)
    return spec


def check_point(space: Mapping[Any, Any], point: Mapping[Any, Any]) -> None:
    """Warn of each value of a point that its domain does not allow. A key that the space lacks raises ValueError."""
    _with_preset(space, point)
    for path, value in split_space(point)[0]:
        there = value_at(space, path)
        domain = _leaf(there)
        if domain is not None:
            if not domain.is_valid(value):
                text = "points_to_evaluate: %r is not among the values of `%s`: %s"
                logger.warning(text, value, path_name(path), domain.domain_str)
        elif not isinstance(there, dict) and _differs(there, value):
            text = "points_to_evaluate: %r is not the value of `%s`, which is always %r"
            logger.warning(text, value, path_name(path), there)


def _differs(one: Any, other: Any) -> bool:
    try:
        return bool(one != other)
    except Exception:  # arrays answer with arrays
        return False


def preset_variants(
    space: Mapping[Any, Any], point: Mapping[Any, Any], constant_grid_search: bool = False, random_state: Any = None
) -> Iterator[Variant]:
    """The variants of a space in which a point has fixed values. A key that the space lacks raises ValueError."""
    return generate_variants(_with_preset(space, point), constant_grid_search, random_state)


def count_variants(space: Mapping[Any, Any], num_samples: int = 1, points: Sequence[Mapping[Any, Any]] = ()) -> int:
    """How many trials a space makes: each sample, and each point, one for each combination of the grids left."""
    total = sum(_combinations(_with_preset(space, point)) for point in points)
    return total + max(num_samples - len(points), 0) * _combinations(space)


def _combinations(space: Mapping[Any, Any]) -> int:
    combinations = 1
    for path, grid in split_space(space)[2]:
        if not len(grid):
            raise ValueError(f"the grid_search of `{path_name(path)}` has no values: give at least one")
        combinations *= len(grid)
    return combinations

"""Checks of what users give to a service: each raises a ValueError that names the field, its value and the limits."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections.abc import Mapping
from typing import Any, TypeVar

Kind = TypeVar("Kind")
Choice = TypeVar("Choice", bound=enum.Enum)


def whole(where: str, value: Any, least: int, most: int | None = None) -> int:
    """An integer within bounds. Integers that are written as floats, as YAML and JSON have them, are taken."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{where} must be an integer, not {value!r}")
    if value < least or (most is not None and value > most):
        raise ValueError(f"{where} must be {_bounds(least, most)}, not {value}")
    return value


def number(where: str, value: Any, least: float = 0.0, most: float | None = None, *, above: bool = False) -> float:
    """A finite number within bounds; ``above``: more than ``least``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{where} must be a number, not {value!r}")
    if value < least or (above and value == least) or (most is not None and value > most):
        raise ValueError(f"{where} must be {_bounds(least, most, above)}, not {value!r}")
    return value


def _bounds(least: float, most: float | None, above: bool = False) -> str:
    low = f"above {least}" if above else f"at least {least}"
    return low if most is None else f"{low} and at most {most}"


def flag(where: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{where} must be True or False, not {value!r}")
    return value


def text(where: str, value: Any) -> str:
    """A str."""
    if not isinstance(value, str):
        raise ValueError(f"{where} must be a str, not {value!r}")
    return value


def choice(where: str, kind: type[Choice], value: Any) -> Choice:
    """A member of an enum, or its value."""
    try:
        return kind(value)
    except ValueError:
        allowed = ", ".join(repr(one.value) for one in kind)
        raise ValueError(f"{where} must be one of {allowed}, not {value!r}") from None


def mapping(where: str, value: Any) -> dict[str, Any]:
    """A dict with names as keys."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{where} must be a dict with names as keys, not {value!r}")
    return dict(value)


def as_config(where: str, kind: type[Kind], value: Any) -> Kind:
    """An object of a class of options, or a dict of its fields. Unknown fields are named, beside those that exist."""
    if isinstance(value, kind):
        return value
    given = mapping(where, value)
    known = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(f"{where} has no {', '.join(unknown)}; it has {', '.join(known)}")
    missing = [
        field.name
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]
        if field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
        and field.name not in given
    ]
    if missing:
        raise ValueError(f"{where} needs {', '.join(missing)}")
    return kind(**given)


def jsonable(where: str, value: Any) -> Any:
    """A value that JSON can hold."""
    try:
        json.dumps(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} is not JSON-serializable: {error}.") from None
    return value

"""Objects as JSON has them: classes by their paths."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

#: What stands for a function that has no path.
NOT_SERIALIZABLE = "__not_serializable__"


def serialize_type(kind: Any) -> Any:
    """The path of a class, "module.Name"; anything else as it is."""
    return f"{kind.__module__}.{kind.__qualname__}" if isinstance(kind, type) else kind


def deserialize_type(path: Any, module: str | None = None, error: bool = False) -> Any:
    """The class of a path, "module.Name". error: raise ValueError where there is none, as opposed to the path."""
    if not isinstance(path, str):
        return path
    where, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(where or module or ""), name)
    except (ImportError, AttributeError, ValueError) as problem:
        if error:
            raise ValueError(f"there is no class {path!r}: {problem}") from problem
        return path


def jsonable(value: Any) -> Any:
    """The value as JSON has it: functions as text that says so, dataclasses as dicts, other objects by their repr."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {str(key): jsonable(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(one) for one in value]
    if isinstance(value, type):
        return serialize_type(value)
    if dataclasses.is_dataclass(value):
        return jsonable({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    return NOT_SERIALIZABLE if callable(value) else repr(value)

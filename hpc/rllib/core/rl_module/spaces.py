"""Spaces and classes as simple values, and back: what specs write into files."""

from __future__ import annotations

import base64
import importlib
import pickle
from typing import Any

from hpc import cloudpickle


def type_to_name(cls: type | None) -> str | None:
    """A class as "module.Name"."""
    return None if cls is None else f"{cls.__module__}.{cls.__qualname__}"


def type_from_name(name: str | None) -> Any:
    """The class of "module.Name"."""
    if name is None:
        return None
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"there is no class {name!r}: it must be importable by that name ({error})") from error


def space_to_dict(space: Any) -> dict[str, Any] | None:
    """A space as its text and its pickle."""
    if space is None:
        return None
    return {"space": str(space), "pickle": base64.b64encode(cloudpickle.dumps(space)).decode()}


def space_from_dict(d: dict[str, Any] | None) -> Any:
    """The space of what `space_to_dict` gave."""
    return None if d is None else pickle.loads(base64.b64decode(d["pickle"]))

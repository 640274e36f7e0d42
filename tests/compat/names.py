"""Writes recorded_names.json: Ray's public names, and the names of the parameters of each that can be called.

    ../ray/bin/python tests/compat/names.py        with the interpreter of an environment that has Ray

test_public_names.py compares this package with it.
"""

from __future__ import annotations

import importlib
import inspect
import json
import types
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).with_name("recorded_names.json")

MODULES = (
    "ray", "ray.actor", "ray.cluster_utils", "ray.exceptions", "ray.job_submission", "ray.runtime_context",
    "ray.runtime_env", "ray.util", "ray.util.metrics", "ray.util.multiprocessing", "ray.util.placement_group",
    "ray.util.queue", "ray.util.scheduling_strategies", "ray.util.state",
)  # fmt: skip


def parameters(value: Any) -> list[str] | None:
    """The names of the public parameters that have one, without self; None where that is not known."""
    try:
        found = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return None
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in found if p.kind in named and p.name != "self" and not p.name.startswith("_")]


def is_public(module: types.ModuleType, name: str, value: Any) -> bool:
    """Whether a user would take it for the module's: what it says so of, or what Ray itself has made."""
    if name.startswith("_"):
        return False
    if name in getattr(module, "__all__", ()):
        return True
    if hasattr(module, "__all__") and not isinstance(value, types.ModuleType):
        return False
    if isinstance(value, types.ModuleType):
        return value.__name__ == f"{module.__name__}.{name}" and hasattr(module, "__path__")
    return getattr(value, "__module__", None) == module.__name__


def members(cls: type) -> dict[str, list[str] | None]:
    """The public methods and attributes that the class has of its own."""
    return {
        name: parameters(getattr(cls, name)) if callable(getattr(cls, name)) else None
        for name in vars(cls)
        if not name.startswith("_")
    }


def record() -> dict[str, list[str] | None]:
    names: dict[str, list[str] | None] = {}
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in sorted({*vars(module), *getattr(module, "__all__", ())}):
            try:
                value = getattr(module, name)
            except (AttributeError, ImportError, RuntimeError):  # named, and not there or not without other libraries
                continue
            if is_public(module, name, value):
                path = f"{module_name}.{name}"
                names[path] = parameters(value) if callable(value) else None
                if isinstance(value, type) and not issubclass(value, BaseException):
                    names.update({f"{path}.{member}": given for member, given in members(value).items()})
    return names


if __name__ == "__main__":
    lines = [f"{json.dumps(name)}: {json.dumps(given)}" for name, given in sorted(record().items())]
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n")

"""Writes recorded_data_names.json: Ray Data's public names, their parameters, and the defaults that are plain values.

    ../ray/bin/python tests/compat/data_names.py        with the interpreter of an environment that has Ray

test_data_names.py compares this package with it.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from compat.names import defaults, is_public, members, parameters

RECORDED = Path(__file__).with_name("recorded_data_names.json")
#: A class is recorded with its members where it comes first.
MODULES = tuple(
    f"ray.data{name}"
    for name in (
        "", ".context", ".dataset", ".iterator", ".grouped_data", ".aggregate", ".expressions", ".datatype",
        ".datasource", ".preprocessors", ".preprocessor", ".collate_fn", ".checkpoint", ".exceptions", ".stats",
    )
)  # fmt: skip


def facts(value: Any) -> dict[str, Any]:
    """Its parameters (None: not known), and their defaults."""
    if not callable(value):
        return {"takes": None, "defaults": {}}
    return {"takes": parameters(value), "defaults": defaults(value)}


def record(modules: Iterable[str] = MODULES) -> dict[str, dict[str, Any]]:
    """All names of the modules, and the members of their classes."""
    found: dict[str, dict[str, Any]] = {}
    told: set[Any] = set()
    for module_name in modules:
        module = importlib.import_module(module_name)
        for name in sorted({*vars(module), *getattr(module, "__all__", ())}):
            value = getattr(module, name, None)
            if value is None or not is_public(module, name, value):
                continue
            path = f"{module_name}.{name}"
            found[path] = facts(value)
            if _is_rays_class(value) and value not in told:
                told.add(value)
                found.update({f"{path}.{member}": facts(getattr(value, member)) for member in members(value)})
    return found


def write(path: Path, found: dict[str, dict[str, Any]]) -> None:
    """Keep the names, one in each line."""
    lines = [f"{json.dumps(name)}: {json.dumps(given)}" for name, given in sorted(found.items())]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _is_rays_class(value: Any) -> bool:
    is_class = isinstance(value, type) and value.__module__.startswith("ray.")
    return is_class and not issubclass(value, BaseException)


if __name__ == "__main__":
    write(RECORDED, record())

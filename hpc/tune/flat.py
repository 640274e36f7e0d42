"""Nested results as flat ones: {"eval": {"loss": 1}} is {"eval/loss": 1}."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def flatten_dict(result: dict[str, Any]) -> dict[str, Any]:
    """The same values in one dict, with keys joined by "/". Lists stay as they are; empty dicts have no key.

    The values of the first level come first, then those of the second, and so on: so are the columns of progress.csv.
    What is flat already is returned as it is, and not copied.
    """
    for value in result.values():
        if isinstance(value, dict):
            break
    else:
        return result
    flat: dict[str, Any] = {}
    deeper: list[tuple[str, dict[Any, Any]]] = [("", result)]
    while deeper:
        level, deeper = deeper, []
        for prefix, part in level:
            for key, value in part.items():
                if isinstance(value, dict):
                    deeper.append((f"{prefix}{key}/", value))
                else:
                    flat[f"{prefix}{key}"] = value
    return flat


def lookup(path: str, nested: Mapping[Any, Any], default: Any = None) -> Any:
    """The value at "a/b", which may be a key itself; in lists a number is a place."""
    if path in nested:
        return nested[path]
    found: Any = nested
    for key in path.split("/"):
        try:
            if isinstance(found, Mapping):
                found = found[key]
            elif isinstance(found, Sequence) and not isinstance(found, str):
                found = found[int(key)]
            else:
                return default
        except (KeyError, IndexError, ValueError):
            return default
    return found

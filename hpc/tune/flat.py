"""Nested results as flat ones: {"eval": {"loss": 1}} is {"eval/loss": 1}."""

from __future__ import annotations

from typing import Any


def flatten_dict(result: dict[str, Any]) -> dict[str, Any]:
    """The same values in one dict, with keys joined by "/". Lists stay as they are, and so do empty dicts.

    What is flat already is returned as it is, and not copied.
    """
    for value in result.values():
        if isinstance(value, dict):
            break
    else:
        return result
    flat: dict[str, Any] = {}
    _flatten(result, "", flat)
    return flat


def _flatten(part: dict[str, Any], prefix: str, flat: dict[str, Any]) -> None:
    for key, value in part.items():
        if isinstance(value, dict) and value:
            _flatten(value, f"{prefix}{key}/", flat)
        else:
            flat[f"{prefix}{key}"] = value

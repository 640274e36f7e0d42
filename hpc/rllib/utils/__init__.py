"""Small parts that several packages of hpc.rllib, and programs, use."""

from __future__ import annotations

import copy
from typing import Any


def force_list(elements: Any = None, to_tuple: bool = False) -> Any:
    """A list of what is given: of a list, a tuple or a set its items; of None nothing; else the one thing."""
    made = tuple if to_tuple else list
    if elements is None:
        return made()
    return made(elements) if isinstance(elements, (list, tuple, set)) else made((elements,))


def force_tuple(elements: Any = None) -> tuple[Any, ...]:
    """As `force_list`, a tuple."""
    return force_list(elements, to_tuple=True)


def merge_dicts(d1: dict[str, Any], d2: dict[str, Any]) -> dict[str, Any]:
    """A new dict with the values of d2 over those of d1, in dicts of dicts as well."""
    return deep_update(copy.deepcopy(d1), d2, new_keys_allowed=True)


def deep_update(original: dict[str, Any], new_dict: dict[str, Any], new_keys_allowed: bool = False) -> dict[str, Any]:
    """Put new values over those of a dict, in dicts of dicts as well; the first one is changed, and returned.

    Raises KeyError for keys that were not there, unless they are allowed.
    """
    for key, value in new_dict.items():
        if key not in original and not new_keys_allowed:
            raise KeyError(f"unknown key {key!r}: there are {', '.join(map(str, original))}")
        if isinstance(value, dict) and isinstance(original.get(key), dict):
            deep_update(original[key], value, True)
        else:
            original[key] = _own_dicts(value)
    return original


def _own_dicts(value: Any) -> Any:
    """New dicts of the same values: what is put over them later must not get into those that were given."""
    return {key: _own_dicts(one) for key, one in value.items()} if type(value) is dict else value

"""What a user asks of a node, under Ray's names, as the part of the start message that the node reads.

`init`, `Cluster`, `hpc start` and `hpc-launch` each take such wishes from elsewhere; the names of their fields and the
checks of their values are here alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

from hpc.core.policy.labels import check_key, check_value
from hpc.core.resources import to_units
from hpc.launchers.units import memory_bytes

if TYPE_CHECKING:
    from hpc.settings.options import Settings

#: What each option of a node is called in a start message (`hpc.core.node.spec.Overrides`).
FIELDS = {
    "num_cpus": "num_cpus",
    "num_gpus": "num_gpus",
    "memory": "memory_bytes",
    "object_store_memory": "object_store_bytes",
    "resources": "resources",
    "labels": "labels",
}


def overrides(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The node's part of a start message. asked: names of `FIELDS` and values; None and nothing are "as found".

    num_cpus, num_gpus: numbers from 0. memory, object_store_memory: bytes, from 1. resources: names and amounts.
    labels: keys and values. Raises TypeError for another name or type, ValueError for a value out of its range.
    """
    unknown = sorted(set(asked) - set(FIELDS))
    if unknown:
        raise TypeError(f"a node has no argument {', '.join(unknown)}; there are: {', '.join(FIELDS)}")
    return {FIELDS[name]: _checked(name, value) for name, value in asked.items() if value not in (None, {})}


def _checked(name: str, value: Any) -> Any:
    if name in ("memory", "object_store_memory"):
        return whole_bytes(name, value)
    if name in ("resources", "labels") and not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dict, not {type(value).__name__}")
    if name == "resources":
        for key, amount in value.items():
            _check_amount(key, amount)
        return dict(value)
    if name == "labels":
        for key, text in value.items():
            check_key(key), check_value(text)
        return dict(value)
    _check_amount(name, value)
    return value


def _check_amount(name: str, amount: Any) -> None:
    is_number = isinstance(amount, Real)
    if not is_number:
        raise TypeError(f"the amount of resource {name!r} must be a number, not {type(amount).__name__}")
    if not math.isfinite(amount):
        raise ValueError(f"the amount of resource {name!r} is {amount}; it must be finite")
    to_units(name, amount)


def whole_bytes(name: str, value: Any) -> int:
    """A size in bytes: a number from 1 on, 2e9 as well. TypeError or ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of bytes, not {type(value).__name__}")
    if not 1 <= value < 1 << 62:
        raise ValueError(f"{name} must be a number of bytes from 1 on, not {value!r}")
    return int(value)


def overrides_of(settings: Settings) -> dict[str, Any]:
    """What each local node has, where the user said so by the flags that a scheduler takes."""
    gpus, memory = settings["gpus_per_node"], settings["mem"]
    return overrides(
        {
            "num_cpus": settings["cpus_per_task"],
            "num_gpus": None if gpus is None else int(gpus.rpartition(":")[2]),
            "memory": memory_bytes(memory or "0") or None,  # 0 is all that there is, as schedulers have it
        }
    )

"""The numbers that a session can be told: what each may be, and from which variable of the environment it comes.

A number of the configuration ([runtime] of hpc.toml) goes before the environment's HPC_<NAME>, that before Ray's name
for the same. One that is out of its range is an error where the session starts: what it would switch off, or never
reach, is seen when it is needed, and that is too late.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Number:
    """One number: from ``low`` to ``high``, or ``also``, which means something else. ``ray`` is its variable in Ray, in
    which 1 is ``ray_unit`` of ours. ``environ``: whether the environment can say it."""

    what: str
    low: float
    high: float = math.inf
    whole: bool = False
    also: float | None = None
    also_is: str = ""
    environ: bool = False
    ray: str = ""
    ray_unit: float = 1.0

    def allowed(self) -> str:
        """In words."""
        kind = "a whole number of " if self.whole else ""
        span = f"from {self.low:g} to {self.high:g}" if self.high < math.inf else f"from {self.low:g} on"
        return f"{kind}{self.what} {span}" + (f", or {self.also:g} ({self.also_is})" if self.also is not None else "")


def _time(low: float = 0.001, high: float = 1e7, **more: Any) -> Number:
    return Number("seconds", low, high, **more)


def _bytes(low: float = 1, **more: Any) -> Number:
    return Number("bytes", low, whole=True, **more)


NUMBERS = {
    "heartbeat_s": _time(),
    "suspect_s": _time(),
    "dead_s": _time(),
    "fence_s": _time(),
    "head_hang_s": _time(1.0, also=0, also_is="never"),
    "bind_timeout_s": _time(0.1),
    "link_window_bytes": _bytes(),
    "link_wire_window_bytes": _bytes(),
    "link_heartbeat_s": _time(),
    "link_heartbeat_timeout_s": _time(),
    "link_reconnect_s": _time(),
    "link_reconnect_max_s": _time(),
    "link_connect_timeout_s": _time(),
    "link_handshake_s": _time(),
    "link_io_threads": Number("threads", 1, 64, whole=True),
    "machine_share": Number("nodes on one machine", 1, 100_000, whole=True),
    "memory_usage_threshold": Number(
        "a share of the memory", 0.0, 1.0, environ=True, ray="RAY_memory_usage_threshold"
    ),
    "memory_watch_interval_s": _time(
        0.01, 3600.0, also=0, also_is="nobody looks", environ=True, ray="RAY_memory_monitor_refresh_ms", ray_unit=0.001
    ),
    "memory_limit_bytes": _bytes(1 << 20, also=0, also_is="no limit of its own", environ=True),
    "log_bytes": _bytes(64 << 10, also=0, also_is="no limit", environ=True),
    "spill_limit_bytes": _bytes(0, also=-1, also_is="what the disk has room for", environ=True),
    "store_full_timeout_s": _time(0.0, 1e7, environ=True),
    "task_max_retries": Number(
        "retries", 0, 2**31 - 1, whole=True, also=-1, also_is="without end", environ=True, ray="RAY_TASK_MAX_RETRIES"
    ),
}  # fmt: skip


def number(name: str, value: Any, where: str, unit: float = 1.0) -> float:
    """The value as this number. Raises ValueError with its place (``where``) and its range."""
    known = NUMBERS[name]
    try:
        found = float(value) * unit if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        found = math.nan
    fits = known.low <= found <= known.high and not (known.whole and found != int(found) if found < math.inf else True)
    if fits or found == known.also:
        return found
    unit_note = f" (1 is {unit:g} of ours)" if unit != 1.0 else ""
    raise ValueError(f"{where} is {value!r}{unit_note}; it takes {known.allowed()}")


def setting(name: str, config: Mapping[str, Any], default: float, environ: Mapping[str, str] | None = None) -> float:
    """The number from the configuration, else from the environment, else ``default``."""
    if config.get(name) is not None:
        return number(name, config[name], f"{name} of the [runtime] options")
    known = NUMBERS[name]
    environ = os.environ if environ is None else environ
    ours = f"HPC_{name.upper()}"
    if environ.get(ours):
        return number(name, environ[ours], ours)
    if known.ray and environ.get(known.ray):
        return number(name, environ[known.ray], known.ray, known.ray_unit)
    return default


def check(config: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> None:
    """ValueError for a number of the configuration, or of the environment, that is not in its range."""
    for name, known in NUMBERS.items():
        if config.get(name) is not None or known.environ:
            setting(name, config, 0.0, environ)

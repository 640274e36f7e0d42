"""What a searcher aims at: its metric and mode, complete, or an error that says where to give them."""

from __future__ import annotations

from typing import Any

from hpc.tune.result import DEFAULT_METRIC
from hpc.tune.search.searcher import check_goal

__all__ = ["aimed", "loss"]


def aimed(searcher: Any, metric: Any, mode: Any, several: bool = False) -> tuple[Any, Any]:
    """Metric and mode of a searcher that begins. Raises ValueError where they are missing, or are none."""
    name = type(searcher).__name__
    if mode is None:
        raise ValueError(f"{name} has no mode: give mode='min' or mode='max' to it or to TuneConfig")
    if metric is None and isinstance(mode, str):
        metric = DEFAULT_METRIC
    check_goal(metric, mode)
    if not metric:
        raise ValueError(f"{name} has several modes and no metrics: give a list of metrics, one for each mode")
    if isinstance(metric, list) and not several:
        raise ValueError(f"{name} has one aim, not {metric!r}: give one metric, or use OptunaSearch")
    return metric, mode


def loss(result: dict[str, Any] | None, metric: Any, mode: Any) -> float | None:
    """The value of a result, the smaller the better. None: there is none, or it is no number."""
    value = (result or {}).get(metric)
    if value is None or value != value:
        return None
    return -float(value) if mode == "max" else float(value)

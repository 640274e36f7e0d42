"""Whether a result has what is needed of it, and whether it is good enough to stop. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hpc.tune.result import DEFAULT_METRIC
from hpc.tune.settings import Settings
from hpc.tune.trial import DEBUG_METRICS


def is_over(flat: Mapping[str, Any], stop: Mapping[str, float]) -> bool:
    """Whether any metric has reached its bound."""
    for name, bound in stop.items():
        value = flat.get(name)
        if value is not None and value >= bound:
            return True
    return False


def missing_metric(flat: Mapping[str, Any], owners: Iterable[Any]) -> str:
    """Why the result is not enough for the metrics of the owners; "" if it is.

    A result without any value of the user's is enough: the function has reported nothing.
    """
    for owner in owners:
        names = getattr(owner, "metric", None)
        for name in [names] if isinstance(names, str) else names or ():
            if name in flat or name == DEFAULT_METRIC:
                continue
            if sum(key not in DEBUG_METRICS and key != "done" for key in flat) <= 1:
                return ""
            place = "TuneConfig" if isinstance(owner, Settings) else type(owner).__name__
            return (
                f"trial {flat['trial_id']} reported no {name!r}, which is the metric of {place}: report it each time, "
                "name another metric, or set TUNE_DISABLE_STRICT_METRIC_CHECKING=1. It reported "
                f"{', '.join(sorted(key for key in flat if not key.startswith('config')))}"
            )
    return ""

"""Whether a result has what is needed of it, and whether it is good enough to stop. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hpc.tune.error import TuneError
from hpc.tune.result import DEFAULT_METRIC
from hpc.tune.settings import Settings
from hpc.tune.trial import DEBUG_METRICS


def is_over(flat: Mapping[str, Any], stop: Mapping[str, float]) -> bool:
    """Whether any metric has reached its bound."""
    for name, bound in stop.items():
        value = flat.get(name)
        try:
            if value is not None and value >= bound:
                return True
        except (TypeError, ValueError) as error:  # ValueError: an array is not one number
            raise TuneError(
                f"stop={{{name!r}: {bound!r}}} cannot be compared with the {type(value).__name__} that a trial has "
                f"reported as {name!r}: {error}. Report a number, and give one"
            ) from error
    return False


def no_number(flat: Mapping[str, Any], scheduler: Any) -> str:
    """Why a scheduler has failed, if that is because its metric is no number; else ""."""
    name = getattr(scheduler, "metric", None)
    if not isinstance(name, str) or name not in flat:
        return ""
    value = flat[name]
    try:
        float(value)
    except (TypeError, ValueError):
        pass
    else:
        if not isinstance(value, str):
            return ""
    return (
        f"trial {flat['trial_id']} reported {value!r:.60} as {name!r}, which {type(scheduler).__name__} compares: "
        "report a number each time"
    )


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
                f"{', '.join(sorted(str(key) for key in flat if not str(key).startswith('config')))}"
            )
    return ""

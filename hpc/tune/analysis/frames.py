"""Tables of reports: pandas DataFrames, or lists of dicts where there is no pandas."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from hpc.runs.result import as_table
from hpc.runs.trial_directory import flat_record
from hpc.tune.flat import lookup

_NAN = float("nan")


def frame_of(history: Iterable[dict[str, Any]]) -> Any:
    """A row for each report."""
    return as_table([flat_record(one) for one in history])


def table_of(rows: list[dict[str, Any]]) -> Any:
    """Rows that are flat already."""
    return as_table(rows)


def row_of(history: list[dict[str, Any]], metric: str | None, mode: str | None) -> dict[str, Any] | None:
    """The last report, flat; or the one with the best value of a metric, if one has a value. None: there is none.

    It has the columns of all reports: what one of them has not is NaN.
    """
    if not history:
        return None
    chosen = history[-1]
    if metric and mode:
        scored = [(value, one) for one in history if _is_number(value := lookup(metric, one))]
        if scored:
            sign = 1 if mode == "max" else -1
            chosen = max(scored, key=lambda pair: sign * pair[0])[1]
    row = flat_record(chosen)
    if all(one.keys() == chosen.keys() for one in history):
        return row
    return {name: row.get(name, _NAN) for one in history for name in flat_record(one)}


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, str) and not math.isnan(value)
    except OverflowError:
        return True
    except TypeError:
        return False

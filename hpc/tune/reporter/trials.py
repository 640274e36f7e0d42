"""What a reporter shows of trials: how many there are of each status, which is the best, and a row for each."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from datetime import datetime
from numbers import Number
from typing import TYPE_CHECKING, Any

from hpc.tune.flat import lookup
from hpc.tune.result import (
    AUTO_RESULT_KEYS,
    EPISODE_REWARD_MEAN,
    EXPR_ERROR_FILE,
    MEAN_ACCURACY,
    MEAN_LOSS,
    NODE_IP,
    PID,
    TIME_TOTAL_S,
    TIMESTEPS_TOTAL,
    TRAINING_ITERATION,
)
from hpc.tune.values import as_number, as_text

if TYPE_CHECKING:
    from hpc.tune.trial import Trial

#: Metrics that are shown wherever one is reported, and the heads of their columns.
DEFAULT_COLUMNS = {
    MEAN_ACCURACY: "acc",
    MEAN_LOSS: "loss",
    TRAINING_ITERATION: "iter",
    TIME_TOTAL_S: "total time (s)",
    TIMESTEPS_TOTAL: "ts",
    EPISODE_REWARD_MEAN: "reward",
}
#: What nobody wants to read in a result.
HIDDEN_KEYS = frozenset((
    "config", "date", "done", "hostname", "iterations_since_restore", "node_ip", "pid", "time_since_restore",
    "timestamp", "trial_id", "experiment_tag", "should_checkpoint",
))  # fmt: skip

Columns = Sequence[str] | Mapping[str, str]


def by_status(trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    """The trials of each status; statuses in the order in which they come."""
    found: dict[str, list[Trial]] = {}
    for trial in trials:
        found.setdefault(trial.status, []).append(trial)
    return found


def best_trial(trials: Iterable[Trial], metric: str | None, mode: str | None) -> Trial | None:
    """The trial whose last result has the best value; None without a metric, a mode or a number."""
    if not metric or not mode:
        return None
    sign = 1.0 if mode == "max" else -1.0
    best, best_score = None, -math.inf
    for trial in trials:
        value = lookup(metric, trial.last_result) if trial.last_result else None
        score = sign * as_number(value)
        if math.isnan(score):
            continue
        if best is None or score > best_score:
            best, best_score = trial, score
    return best


def infer_metrics(trials: Iterable[Trial], limit: int, hidden: Iterable[str] = ()) -> dict[str, str]:
    """The first numbers that trials report beside the usual ones, with their names as heads."""
    left_out = {*DEFAULT_COLUMNS, *AUTO_RESULT_KEYS, *hidden}
    found: dict[str, str] = {}
    for trial in trials:
        for name, value in (trial.last_result or {}).items():
            if len(found) >= limit:
                return found
            if name not in left_out and not isinstance(value, bool) and (value is None or isinstance(value, Number)):
                found[name] = name
    return found


def names_of(columns: Columns) -> list[str]:
    """Which metrics or parameters the columns are."""
    return list(columns)


def heads_of(columns: Columns, names: Iterable[str], most: int) -> list[str]:
    """The heads of these columns: in two lines of so many characters where one is too short."""
    shown = columns if isinstance(columns, Mapping) else {}
    return [_wrapped(shown.get(name, name), most) for name in names]


def reported(names: Iterable[str], trials: Sequence[Trial]) -> list[str]:
    """The metrics that a trial has a value of."""
    return [name for name in names if any(lookup(name, trial.last_result or {}) is not None for trial in trials)]


def place_of(trial: Trial) -> str:
    """Where the trial runs, or ran: the node's address and the process."""
    result = trial.last_result or {}
    address, pid = result.get(NODE_IP) or trial.node_ip, result.get(PID) or trial.pid
    return f"{address}:{pid}" if pid else ""


def shortened(value: Any, most: int = 20) -> Any:
    """A value for a cell: texts keep their end."""
    if value is None or isinstance(value, Number):
        return value
    text = as_text(value)
    return text if len(text) <= most else f"...{text[3 - most :]}"


def _wrapped(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    if len(text) > 2 * most:
        text = "..." + text[3 - 2 * most :]
    return "\n".join(textwrap.wrap(text, width=most))


def fair_share(trials_by_status: Mapping[str, list[Trial]], most: int, sorted_ones: bool) -> dict[str, list[Trial]]:
    """At most so many trials, as many of each status as of the others; the first by their ids. sorted_ones: the
    TERMINATED ones have an order that is to be kept."""
    counts: MutableMapping[str, int] = dict.fromkeys(sorted(trials_by_status), 0)
    while most > 0 and any(counts[status] < len(trials_by_status[status]) for status in counts):
        for status in counts:
            if counts[status] < len(trials_by_status[status]):
                counts[status] += 1
                most -= 1
    found = {}
    for status, count in counts.items():
        ordered = trials_by_status[status]
        if not (status == "TERMINATED" and sorted_ones):
            ordered = sorted(ordered, key=lambda trial: trial.trial_id)
        found[status] = ordered[:count]
    return found


def failed(trials: Iterable[Trial]) -> list[Trial]:
    """The trials that have failed, and those that did and ended well when they ran again."""
    return [trial for trial in trials if trial.num_failures]


def error_rows(trials: Sequence[Trial]) -> list[list[str]]:
    """Of each failed trial its name, how often it failed, and its file; a star where it ended well."""
    return [[str(one), f"{one.num_failures}{'' if one.status == 'ERROR' else '*'}", error_file(one)] for one in trials]


def error_file(trial: Trial) -> str:
    """Where the errors of a trial are."""
    return f"{trial.path}/{EXPR_ERROR_FILE}" if trial.path else ""


def clock(seconds: float) -> str:
    """A moment, as people write it."""
    return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M:%S}"


def span(seconds: float) -> str:
    """A time in the largest units that it has: ``1hr 2min 3s``."""
    rest = max(int(seconds), 0)
    days, rest = divmod(rest, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    parts = [(days, "d"), (hours, "hr"), (minutes, "min")]
    while parts and not parts[0][0]:
        parts.pop(0)
    return " ".join([*(f"{count}{unit}" for count, unit in parts), f"{rest}s"])


def digital(seconds: float) -> str:
    """A time in hours, minutes and seconds: ``01:02:03.45``."""
    days, rest = divmod(seconds, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{f'{days:.0f} days, ' if days else ''}{hours:02.0f}:{minutes:02.0f}:{rest:05.2f}"


def usage_text(held: Iterable[Mapping[str, float]], total: Mapping[str, float]) -> str:
    """What trials hold of what there is, in a line as Ray's. Others than CPUs and GPUs: where some are held."""
    used: dict[str, float] = {}
    for one in held:
        for name, amount in one.items():
            used[name] = round(used.get(name, 0.0) + amount, 4)
    parts = [f"{used.get(name, 0)}/{total.get(name, 0):g} {name}s" for name in ("CPU", "GPU")]
    named = [name for name in sorted(total) if name not in ("CPU", "GPU") and used.get(name)]
    customs = ", ".join(f"{used[name]}/{total[name]} {name}" for name in named)
    return f"Logical resource usage: {', '.join(parts)}{f' ({customs})' if customs else ''}"

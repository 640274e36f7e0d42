"""The families of schedulers whose decisions are compared with Ray's, and how their experiments go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tune.playing import Draw, Rules

SEQUENCES = 1000


def judged(draw: Draw) -> dict[str, Any]:
    return {"time_attr": "time", "metric": "score", "mode": draw.of(["min", "max"])}


def asha(draw: Draw) -> Rules:
    arguments = {
        **judged(draw),
        "max_t": draw.of([9, 20, 50, 100]),
        "grace_period": draw.of([1, 2, 3]),
        "reduction_factor": draw.of([2, 3, 4, 2.5]),
        "brackets": draw.of([1, 1, 2, 3]),
        "stop_last_trials": draw.chance(0.7),
    }
    return Rules(arguments, 4 + draw.below(9), 1 + draw.below(4), 50, jump=draw.of([1, 3, 7]), **mishaps(draw))


def mishaps(draw: Draw) -> dict[str, float]:
    return {"nan": draw.of([0, 0.1]), "missing": draw.of([0, 0.1]), "error": draw.of([0, 0.03]), "complete": 0.02}


def hyperband(draw: Draw) -> Rules:
    arguments = {
        **judged(draw),
        "max_t": draw.of([4, 9, 16, 27]),
        "reduction_factor": draw.of([2, 3, 4]),
        "stop_last_trials": draw.chance(0.8),
    }
    error, complete = draw.of([(0, 0), (0.02, 0.01)])
    jump = draw.of([1, 2, 4])
    return Rules(arguments, 4 + draw.below(14), 1 + draw.below(5), 80, jump=jump, error=error, complete=complete)


def median(draw: Draw) -> Rules:
    arguments = {
        **judged(draw),
        "grace_period": draw.of([0, 2, 4]),
        "min_samples_required": draw.of([1, 2, 3]),
        "min_time_slice": draw.of([0, 3]),
        "hard_stop": draw.chance(0.6),
    }
    return Rules(arguments, 4 + draw.below(7), 2 + draw.below(4), 45, jump=draw.of([1, 3]), **mishaps(draw))


def pbt(draw: Draw, synch: bool = False) -> Rules:
    arguments = {
        **judged(draw),
        "perturbation_interval": draw.of([1, 2, 3]),
        "burn_in_period": draw.of([0, 0, 4]),
        "quantile_fraction": draw.of([0.25, 0.25, 0.5, 0.1]),
        "resample_probability": draw.of([0.25, 0.5]),
        "require_attrs": False,
        "log_config": False,
        "synch": synch,
        "mutations": draw.of(["few", "all"]),
    }
    return Rules(
        arguments,
        3 + draw.below(6),
        1 + draw.below(6),
        35,
        jump=draw.of([1, 2]),
        nan=draw.of([0, 0.05]),
        missing=draw.of([0, 0.05]),
        error=draw.of([0, 0.02]),
        complete=draw.of([0, 0.01]),
        config=lambda config: {"lr": config.below(100) / 64} if config.chance(0.5) else {},
        no_searcher=True,
    )


def synch(draw: Draw) -> Rules:
    return pbt(draw, synch=True)


def resources(draw: Draw) -> Rules:
    bundles = draw.of([({"CPU": 1},), ({"CPU": 1, "GPU": 1},), ({"CPU": 2},), ({"CPU": 1}, {"CPU": 2})])
    unit = draw.of([None, {"CPU": 1}, {"CPU": 2}, {"CPU": 1, "GPU": 1}])
    top = draw.chance(0.4)
    arguments = {
        "base": draw.of(["fifo", "asha"]),
        "mode": draw.of(["min", "max"]),
        "top": top,
        "add_bundles": len(bundles) > 1 or draw.chance(0.4),
        "increase_by": unit,
        # With bundles of CPUs alone, Ray's TopJob never sees that a trial is at its limit.
        "increase_by_times": -1 if top else draw.of([-1, 2, 3]),
        "reserve_resources": draw.of([None, {"CPU": 1}]),
    }
    return Rules(arguments, 2 + draw.below(5), 1 + draw.below(4), 30, complete=0.05, error=0.02, bundles=bundles)


FAMILIES: dict[str, Callable[[Draw], Rules]] = {
    "asha": asha,
    "hyperband": hyperband,
    "bohb": hyperband,
    "median": median,
    "pbt": pbt,
    "pbt_synch": synch,
    "resources": resources,
}


def rules_of(family: str, seed: int) -> Rules:
    """How the experiment of this seed goes."""
    return FAMILIES[family](Draw(seed ^ 0x5EED))


def mutations(kind: str, space: Any, seed: int) -> dict[str, Any]:
    """Mutations of each kind; `space` has the functions for domains."""
    own = Draw(seed + 77)
    few = {"lr": space.uniform(0.0, 2.0), "size": [1, 2, 4, 8]}
    if kind == "few":
        return few
    return {
        **few,
        "depth": space.randint(1, 20),
        "rate": lambda: own.below(64) / 64,
        "kind": space.choice([1, 2, 3]),
        "nested": {"a": space.loguniform(0.01, 1.0), "deeper": {"b": ("x", "y", "z")}},
    }

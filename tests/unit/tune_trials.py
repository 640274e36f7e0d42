"""Trials for tests of what is told of them: made by hand, and as Ray has recorded them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hpc.tune.trial import Trial

RECORDED = Path(__file__).parent / "ray_experiment" / "recorded"
SAID = json.loads((RECORDED.parent / "said.json").read_text())


def make_trial(folder: Any, number: int = 0, config: dict[str, Any] | None = None) -> Trial:
    """A trial that nothing has happened to."""
    config = {"lr": 0.1 * (number + 1), "opt": {"momentum": 0.9}} if config is None else config
    name = f"trial_{number}"
    path = f"{folder}/{name}"
    lr = {"lr": config["lr"]} if "lr" in config else {}
    return Trial("train", trial_id=f"abcde_{number:05d}", config=config, evaluated_params=lr, path=path)


def tell(callbacks: Any, trial: Trial, results: list[dict[str, Any]], failed: bool = False, turn: int = 0) -> None:
    """A trial's whole life."""
    about = {"iteration": turn, "trials": [trial], "trial": trial}
    trial.status = "RUNNING"
    callbacks.on_trial_start(**about)
    for result in results:
        trial.update_last_result(result, 1.0)
        callbacks.on_trial_result(**about, result=result)
        callbacks.on_step_end(iteration=turn, trials=[trial])
    trial.status = "ERROR" if failed else "TERMINATED"
    (callbacks.on_trial_error if failed else callbacks.on_trial_complete)(**about)


def results_of(folder: Path) -> list[dict[str, Any]]:
    """What a recorded trial has reported."""
    return [json.loads(line) for line in (folder / "result.json").read_text().splitlines()]

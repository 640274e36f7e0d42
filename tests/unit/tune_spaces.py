"""Search spaces, and the configurations that Ray makes of them: run in Ray's environment, this file writes them.

tests/unit/tune_spaces.json holds what Ray 2.60 made. A seed of None is numpy's global generator, seeded with 7.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

RECORD = Path(__file__).with_name("tune_spaces.json")
SEEDS = (None, 3, "state")


def spaces(tune: Any) -> dict[str, tuple[dict, int, dict]]:
    """Name of a space: the space, the number of samples, and the options of the generator."""
    points = [{"a": 2, "b": 2}, {"a": 1}, {"b": 2}]
    grid = {"a": tune.grid_search([1, 2]), "b": tune.randint(0, 30)}
    return {
        "every function": (
            {
                "uniform": tune.uniform(-5, 5),
                "quniform": tune.quniform(0.2, 3.6, 0.2),
                "loguniform": tune.loguniform(1e-4, 1e-1),
                "qloguniform": tune.qloguniform(1e-3, 1, 1e-3),
                "choice": tune.choice(["a", 1, None, (1, 2)]),
                "randint": tune.randint(-3, 300),
                "qrandint": tune.qrandint(3, 20, 4),
                "qrandint1": tune.qrandint(3, 9),
                "lograndint": tune.lograndint(1, 1000),
                "qlograndint": tune.qlograndint(1, 1000, 7),
                "randn": tune.randn(10, 2),
                "qrandn": tune.qrandn(10, 2, 0.2),
                "constant": 7,
            },
            12,
            {},
        ),
        "grids multiply": (
            {
                "b": tune.grid_search([3, 1]),
                "a": {"z": tune.grid_search(["x", "y"]), "r": tune.uniform(0, 1)},
                "c": tune.randint(0, 99),
            },
            3,
            {},
        ),
        "constant grid": (
            {**grid, "c": tune.sample_from(lambda spec: spec.config.a + spec.config.b)},
            3,
            {"constant_grid_search": True},
        ),
        "lists and tuples": (
            {
                "l": [tune.uniform(0, 1), tune.grid_search([1, 2]), [tune.choice([5, 6])]],
                "t": (1, tune.choice([1, 2]), {"q": tune.grid_search([3, 4])}),
            },
            2,
            {},
        ),
        "one depends on another": (
            {
                "late": tune.sample_from(lambda spec: spec.config.middle * 2),
                "middle": tune.sample_from(lambda spec: spec.config.first + 1),
                "first": tune.uniform(0, 1),
                "nested": {"x": tune.sample_from(lambda spec: spec.config.late)},
            },
            3,
            {},
        ),
        "domains inside of values": (
            {
                "b": tune.grid_search([{"x": tune.uniform(0, 1)}, {"x": tune.grid_search([1, 2]), "y": 4}]),
                "c": tune.choice([tune.uniform(0, 1), 5, {"d": 1}]),
            },
            4,
            {},
        ),
        "points first": (grid, 4, {"points_to_evaluate": points}),
        "more points than samples": (grid, 1, {"points_to_evaluate": points}),
        "a text is evaluated": ({"b": {"eval": "spec.config.z * 2"}, "z": tune.uniform(0, 1)}, 2, {}),
        "only constants": ({"a": 1, "b": {"c": [1, 2]}}, 2, {}),
    }


def random_state(seed: Any) -> Any:
    """The generator that a kind of seed stands for."""
    import numpy as np

    np.random.seed(7)
    return np.random.RandomState(5) if seed == "state" else seed


def main() -> None:
    """Write what Ray makes of the spaces."""
    from ray import tune
    from ray.tune.experiment import Experiment
    from ray.tune.search.basic_variant import BasicVariantGenerator

    tune.register_trainable("f", lambda config: None)
    record: dict[str, Any] = {}
    for seed in SEEDS:
        for name, (space, num_samples, options) in spaces(tune).items():
            generator = BasicVariantGenerator(random_state=random_state(seed), **options)
            generator.add_configurations([Experiment("f", run="f", config=space, num_samples=num_samples)])
            rows = []
            while (trial := generator.next_trial()) is not None:
                rows.append([trial.config, trial.evaluated_params, trial.experiment_tag, trial.trial_id[5:]])
            record[f"{name}, {seed}"] = {"total": generator.total_samples, "rows": rows}
    RECORD.write_text(json.dumps(record, separators=(",", ":")) + "\n")
    sys.stdout.write(f"{len(record)} written\n")


if __name__ == "__main__":
    main()

"""Schedulers in experiments with real trials: each decision is carried out, and no trial is left behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpc import tune
from hpc.tune.schedulers import ASHAScheduler, create_scheduler
from runtime.running import one_node

JUDGED = {"metric": "score", "mode": "max"}
EACH = {"time_attr": "training_iteration", "perturbation_interval": 2}


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    with one_node(num_cpus=2):
        yield


class Climbing(tune.Trainable):
    """Gains the more in each step, the nearer its lr is to 0.7."""

    def setup(self, config: dict[str, Any]) -> None:
        self.height = 0.0

    def step(self) -> dict[str, Any]:
        self.height += 1 - (self.config["lr"] - 0.7) ** 2
        return {"score": self.height}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, "height").write_text(str(self.height))

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.height = float(Path(checkpoint, "height").read_text())


def run(folder: Path, scheduler: Any, lrs: tuple[float, ...] = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8)) -> list[dict[str, Any]]:
    tuner = tune.Tuner(
        Climbing,
        param_space={"lr": tune.grid_search(list(lrs))},
        tune_config=tune.TuneConfig(**JUDGED, scheduler=scheduler),
        run_config=tune.RunConfig(name="it", storage_path=str(folder), stop={"training_iteration": 8}, verbose=0),
    )
    found = tuner.fit()
    assert not found.errors
    return [result.metrics for result in found]


def test_clones_go_on_from_the_heights_of_the_best(tmp_path: Path) -> None:
    scheduler = create_scheduler("pbt", **EACH, synch=True, hyperparam_mutations={"lr": tune.uniform(0, 1)})
    results = run(tmp_path, scheduler)
    lines = [json.loads(line) for line in (tmp_path / "it" / "pbt_global.txt").read_text().splitlines()]
    assert len(lines) >= 4
    clones = [metrics for metrics in results if "@perturbed[lr=" in metrics["experiment_tag"]]
    assert clones
    assert all(metrics["training_iteration"] == 8 for metrics in results)
    # With lr 0.1 from beginning to end it is 5.1.
    assert min(metrics["score"] for metrics in results) > 5.2


def test_a_promoting_asha_trains_few_trials_to_the_end(tmp_path: Path) -> None:
    results = run(tmp_path, ASHAScheduler(max_t=8, reduction_factor=2, promote=True))
    ends = sorted(metrics["training_iteration"] for metrics in results)
    assert ends[-1] == 8
    assert sum(ends) < 6 * 8 * 0.8, ends


def test_hyperband_pauses_and_ends_trials_together(tmp_path: Path) -> None:
    results = run(tmp_path, create_scheduler("hb_bohb", max_t=8, reduction_factor=2))
    assert sorted(metrics["training_iteration"] for metrics in results) == [1, 1, 2, 2, 4, 8]


def test_a_trial_alone_goes_on_with_all_cpus(tmp_path: Path) -> None:
    scheduler = create_scheduler("resource_changing", base_scheduler=ASHAScheduler(max_t=8))
    (metrics,) = run(tmp_path, scheduler, (0.7,))
    assert metrics["training_iteration"] == 8
    assert metrics["score"] == 8, "it went on from where it had paused"
    assert [shape.required_resources["CPU"] for shape in scheduler._given.values()] == [2]

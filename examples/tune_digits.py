"""A search for a good network on handwritten digits: Optuna says what to try, and ASHA ends trials that are behind.

    pip install 'hpc[tune,demo]'
    hpc-launch --nodes 4 examples/tune_digits.py
    python examples/tune_digits.py                  # on this machine

Run again, it goes on where it was, and has no work to do once it is complete.
"""

from __future__ import annotations

import argparse

import hpc
from hpc import tune
from hpc.tune.search.optuna import OptunaSearch


def train(config: dict) -> None:
    """One trial: a network with one hidden layer, by numpy alone."""
    import numpy as np
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = images / 16.0
    rng = np.random.default_rng(0)
    order = rng.permutation(len(images))
    held, used = order[:400], order[400:]
    hidden = rng.normal(0, 0.2, (64, config["width"]))
    out = rng.normal(0, 0.2, (config["width"], 10))
    for _ in range(config["epochs"]):
        for batch in np.array_split(rng.permutation(used), len(used) // config["batch"]):
            active = np.maximum(images[batch] @ hidden, 0)
            scores = active @ out
            chances = np.exp(scores - scores.max(1, keepdims=True))
            chances /= chances.sum(1, keepdims=True)
            chances[np.arange(len(batch)), labels[batch]] -= 1
            back = (chances @ out.T) * (active > 0)
            out -= config["lr"] * active.T @ chances / len(batch)
            hidden -= config["lr"] * images[batch].T @ back / len(batch)
        found = (np.maximum(images[held] @ hidden, 0) @ out).argmax(1)
        tune.report({"accuracy": float((found == labels[held]).mean())})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=24, help="(24)")
    parser.add_argument("--epochs", type=int, default=16, help="the most that a trial runs (16)")
    parser.add_argument("--storage", help="where results go: a directory that all nodes see (~/hpc_results)")
    parser.add_argument("--name", default="tune-digits")
    told = parser.parse_args()
    hpc.init()
    grid = tune.Tuner(
        train,
        param_space={
            "lr": tune.loguniform(1e-3, 1.0),
            "width": tune.choice([8, 16, 32, 64]),
            "batch": tune.choice([16, 32, 64]),
            "epochs": told.epochs,
        },
        tune_config=tune.TuneConfig(
            metric="accuracy",
            mode="max",
            num_samples=told.trials,
            search_alg=OptunaSearch(seed=0),
            scheduler=tune.schedulers.ASHAScheduler(max_t=told.epochs, grace_period=2, reduction_factor=2),
        ),
        run_config=tune.RunConfig(name=told.name, storage_path=told.storage),
    ).fit()
    best = grid.get_best_result()
    stopped = sum(one.metrics["training_iteration"] < told.epochs for one in grid)
    print(f"best of {len(grid)}: accuracy {best.metrics['accuracy']:.3f} with {best.config}; {stopped} stopped early")


if __name__ == "__main__":
    main()

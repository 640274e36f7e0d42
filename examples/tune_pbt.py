"""Population based training: networks that are behind go on from better ones, at another learning rate.

    hpc-launch --nodes 4 examples/tune_pbt.py
    python examples/tune_pbt.py                     # on this machine

Run again, it goes on where it was, and has no work to do once it is complete.
"""

from __future__ import annotations

import argparse
import os

import numpy as np

import hpc
from hpc import tune
from hpc.tune.schedulers import PopulationBasedTraining


class Digits(tune.Trainable):
    """A network with one hidden layer, by numpy alone; a step is an epoch."""

    def setup(self, config: dict) -> None:
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        rng = np.random.default_rng(0)
        order = rng.permutation(len(images))
        self.images, self.labels = images[order] / 16.0, labels[order]
        self.reset_config(config)

    def reset_config(self, new_config: dict) -> bool:
        """The same process runs the next trial."""
        self.rng = np.random.default_rng(new_config["seed"])
        self.weights = {"hidden": self.rng.normal(0, 0.2, (64, 32)), "out": self.rng.normal(0, 0.2, (32, 10))}
        return True

    def step(self) -> dict:
        hidden, out = self.weights["hidden"], self.weights["out"]
        rate = self.config["lr"]
        for batch in np.array_split(self.rng.permutation(np.arange(400, len(self.images))), 40):
            active = np.maximum(self.images[batch] @ hidden, 0)
            scores = active @ out
            chances = np.exp(scores - scores.max(1, keepdims=True))
            chances /= chances.sum(1, keepdims=True)
            chances[np.arange(len(batch)), self.labels[batch]] -= 1
            back = (chances @ out.T) * (active > 0)
            out -= rate * active.T @ chances / len(batch)
            hidden -= rate * self.images[batch].T @ back / len(batch)
        found = (np.maximum(self.images[:400] @ hidden, 0) @ out).argmax(1)
        return {"accuracy": float((found == self.labels[:400]).mean()), "lr": rate}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        np.savez(os.path.join(checkpoint_dir, "weights.npz"), **self.weights)

    def load_checkpoint(self, checkpoint: str) -> None:
        with np.load(os.path.join(checkpoint, "weights.npz")) as found:
            self.weights = dict(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--population", type=int, default=8, help="trials (8)")
    parser.add_argument("--epochs", type=int, default=40, help="of each (40)")
    parser.add_argument("--interval", type=int, default=4, help="epochs between two looks at who is behind (4)")
    parser.add_argument("--storage", help="where results go: a directory that all nodes see (~/hpc_results)")
    parser.add_argument("--name", default="tune-pbt")
    told = parser.parse_args()
    hpc.init()
    grid = tune.Tuner(
        Digits,
        param_space={"lr": tune.loguniform(1e-4, 1.0), "seed": tune.randint(0, 1000)},
        tune_config=tune.TuneConfig(
            metric="accuracy",
            mode="max",
            num_samples=told.population,
            reuse_actors=True,
            scheduler=PopulationBasedTraining(
                time_attr="training_iteration",
                perturbation_interval=told.interval,
                hyperparam_mutations={"lr": tune.loguniform(1e-4, 1.0)},
            ),
        ),
        run_config=tune.RunConfig(
            name=told.name,
            storage_path=told.storage,
            stop={"training_iteration": told.epochs},
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=told.interval, num_to_keep=2),
        ),
    ).fit()
    rates = [{report["lr"] for report in history(one)} for one in grid]
    changed = sum(len(found) > 1 for found in rates)
    values = sorted(one.metrics["accuracy"] for one in grid)
    print(f"accuracy {values[0]:.3f} to {values[-1]:.3f}; {changed} of {len(grid)} have changed their learning rate")


def history(result: tune.Result) -> list[dict]:
    """All reports of a trial, whether there is pandas or not."""
    frame = result.metrics_dataframe
    return frame if isinstance(frame, list) else frame.to_dict("records")


if __name__ == "__main__":
    main()

"""A search that is longer than its jobs: each job of a chain goes on where the one before had to end.

    hpc-launch --nodes 4 --time 2h --chain 5 examples/tune_chain.py --pace 60
    python examples/tune_chain.py                   # on this machine, in one go

Near the end of a job no new trial begins, and trials are asked for a checkpoint. Then the script ends, and the next job
runs it again. It has the results of one long job; the program counts the steps that had to be done twice.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time

import hpc
from hpc import tune
from hpc.tune.search.basic_variant import BasicVariantGenerator


def train(config: dict) -> None:
    """One trial: it goes down a valley, and saves when it is asked to."""
    context = tune.get_context()
    step, x = 0, 10.0
    checkpoint = tune.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder, open(os.path.join(folder, "state")) as file:
            step, x = int(file.readline()), float(file.readline())
    while step < config["steps"]:
        x -= config["lr"] * 2 * x
        step += 1
        time.sleep(config["pace"])
        with open(os.path.join(context.get_trial_dir(), "steps"), "a") as file:
            file.write(".")
        metrics = {"step": step, "loss": x * x}
        if not context.should_checkpoint():
            tune.report(metrics)
            continue
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "state"), "w") as file:
                file.write(f"{step}\n{x!r}\n")
            tune.report(metrics, checkpoint=tune.Checkpoint(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=40, help="(40)")
    parser.add_argument("--steps", type=int, default=10, help="of each trial (10)")
    parser.add_argument("--pace", type=float, default=0.02, help="seconds that a step takes (0.02)")
    parser.add_argument("--storage", help="where results go: a directory that all nodes see (~/hpc_results)")
    parser.add_argument("--name", default="tune-chain", help="the experiment; of the same name it goes on")
    told = parser.parse_args()
    hpc.init()
    grid = tune.Tuner(
        train,
        param_space={"lr": tune.loguniform(1e-3, 0.4), "steps": told.steps, "pace": told.pace},
        tune_config=tune.TuneConfig(
            metric="loss", mode="min", num_samples=told.trials, search_alg=BasicVariantGenerator(random_state=0)
        ),
        run_config=tune.RunConfig(name=told.name, storage_path=told.storage),
    ).fit()
    twice = [os.path.getsize(os.path.join(one.path, "steps")) - told.steps for one in grid]
    whole = sum(one.metrics["step"] == told.steps for one in grid)
    total = sum(one.metrics["loss"] for one in grid)
    print(f"{whole} of {len(grid)} trials are complete, sum of losses {total!r}", flush=True)
    print(f"steps that were done twice: {sum(twice)}, at most {max(twice)} of a trial", flush=True)


if __name__ == "__main__":
    main()

"""A search whose trials are distributed training runs: each is a TorchTrainer with ranks of its own.

    hpc-launch --nodes 4 --time 1h examples/tune_train.py --ranks 8
    python examples/tune_train.py                   # on this machine

Each trial has one placement group, which it gets whole or not at all. So as many run at a time as there is room for,
and none waits with a part of its ranks. A trial that the scheduler stops gives its room back.

In a chain of jobs the trainers save when the session drains, and the next job goes on.
"""

from __future__ import annotations

import argparse
import time

import hpc
from hpc import train, tune
from hpc.train.torch import TorchTrainer
from hpc.tune.integration.ray_train import TuneReportCallback


def loop(config: dict) -> None:
    """What every rank runs: a small network learns a curve."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from hpc.train.torch import load_state, prepare_data_loader, prepare_model, report_state

    torch.manual_seed(0)
    x = torch.linspace(-3, 3, 512).unsqueeze(1)
    loader = prepare_data_loader(DataLoader(TensorDataset(x, torch.sin(x)), batch_size=32, shuffle=True))
    model = prepare_model(
        torch.nn.Sequential(torch.nn.Linear(1, config["width"]), torch.nn.Tanh(), torch.nn.Linear(config["width"], 1))
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    state = {"model": model, "optimizer": optimizer, "epoch": 0}
    load_state(state)  # if the trial was begun in an earlier job
    for epoch in range(state["epoch"], config["epochs"]):
        loader.sampler.set_epoch(epoch)
        total = 0.0
        for batch, wanted in loader:
            loss = (model(batch) - wanted).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        time.sleep(config["pace"])
        state["epoch"] = epoch + 1
        report_state({"loss": total / len(loader), "epoch": epoch + 1}, state)


def trial(config: dict) -> None:
    """One trial: the trainer's ranks are in the trial's placement group. Of the same name the run goes on."""
    TorchTrainer(
        loop,
        train_loop_config=config,
        scaling_config=train.ScalingConfig(num_workers=config["ranks"]),
        run_config=train.RunConfig(
            name=f"run-{tune.get_context().get_trial_id()}",
            storage_path=tune.get_context().get_trial_dir(),
            callbacks=[TuneReportCallback()],
            checkpoint_config=train.CheckpointConfig(num_to_keep=1),
        ),
    ).fit()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=8, help="(8)")
    parser.add_argument("--ranks", type=int, default=2, help="of each trial, with a CPU each (2)")
    parser.add_argument("--epochs", type=int, default=16, help="the most that a trial runs (16)")
    parser.add_argument("--pace", type=float, default=0.0, help="seconds to wait after each epoch (0)")
    parser.add_argument("--storage", help="where results go: a directory that all nodes see (~/hpc_results)")
    parser.add_argument("--name", default="tune-train")
    told = parser.parse_args()
    hpc.init()
    # The first bundle is the trial's own: it only waits for its ranks, and holds nothing.
    room = tune.PlacementGroupFactory([{}, *({"CPU": 1} for _ in range(told.ranks))])
    grid = tune.Tuner(
        tune.with_resources(trial, room),
        param_space={
            "lr": tune.loguniform(1e-4, 1e-1),
            "width": tune.choice([8, 16, 32]),
            "ranks": told.ranks,
            "epochs": told.epochs,
            "pace": told.pace,
        },
        tune_config=tune.TuneConfig(
            metric="loss",
            mode="min",
            num_samples=told.trials,
            scheduler=tune.schedulers.ASHAScheduler(
                time_attr="epoch", max_t=told.epochs, grace_period=2, reduction_factor=2
            ),
        ),
        run_config=tune.RunConfig(name=told.name, storage_path=told.storage),
    ).fit()
    best = grid.get_best_result()
    stopped = sum(one.metrics["epoch"] < told.epochs for one in grid)
    print(
        f"best of {len(grid)}: loss {best.metrics['loss']:.4f} with lr {best.config['lr']:.4f}; "
        f"{stopped} stopped early, {grid.num_errors} failed"
    )


if __name__ == "__main__":
    main()

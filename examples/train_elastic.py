"""Train with as many ranks as there is room for: the run shrinks when a node is lost, and grows when one comes.

    hpc-launch --nodes 4 --time 1h examples/train_elastic.py --least 2
    hpc-launch --nodes 4-6 --time 1h examples/train_elastic.py --least 2    (a further job replaces a lost node)
    python examples/train_elastic.py                                        (on the nodes that hpc.init() starts)

After a change the run goes on from its last checkpoint. The sampler deals out the rest of the epoch anew, so that each
sample comes once in each epoch, whatever happens. The program counts that.
"""

from __future__ import annotations

import argparse
import sys
import time

import hpc
from hpc.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from hpc.train.torch import TorchTrainer


def train(config):
    """What every rank runs: a line through points, and how often each point was seen."""
    import torch
    import torch.distributed as dist

    from hpc.train import ElasticSampler, get_context
    from hpc.train.torch import load_state, prepare_model, report_state

    context = get_context()
    x = torch.linspace(-1, 1, config["samples"]).unsqueeze(1)
    y = 3 * x - 1
    torch.manual_seed(0)
    model = prepare_model(torch.nn.Linear(1, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    sampler = ElasticSampler(config["samples"], batch_size=config["batch"])
    state = {"model": model, "optimizer": optimizer, "sampler": sampler.state_dict(), "seen": torch.zeros(len(x))}
    if load_state(state):
        sampler.load_state_dict(state["sampler"])
        if context.get_world_rank() == 0:
            print(f"goes on with {context.get_world_size()} ranks", flush=True)
    for epoch in sampler.epochs(config["epochs"]):
        for batch in sampler:
            seen = torch.zeros(len(x)).index_add_(0, torch.tensor(batch), torch.ones(len(batch)))
            dist.all_reduce(seen)
            state["seen"] += seen
            loss = (model(x[batch]) - y[batch]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            time.sleep(config["pace"])
            sampler.step()
            state["sampler"] = sampler.state_dict()
            report_state({"epoch": epoch, "loss": loss.item(), "ranks": context.get_world_size()}, state)
    return {"least": state["seen"].min().item(), "most": state["seen"].max().item()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--least", type=int, default=1, help="the fewest ranks with which to train (1)")
    parser.add_argument("--epochs", type=int, default=3, help="(3)")
    parser.add_argument("--samples", type=int, default=600, help="points (600)")
    parser.add_argument("--batch", type=int, default=20, help="points of a rank in a step (20)")
    parser.add_argument("--pace", type=float, default=0.0, help="seconds to wait after each step, to try a loss (0)")
    parser.add_argument("--look", type=float, default=5.0, help="seconds between two looks for room for more ranks (5)")
    parser.add_argument("--name", default=None, help="the run; of the same name it goes on")
    parser.add_argument("--storage", default=None, help="where checkpoints go (~/hpc_results)")
    options = parser.parse_args()
    hpc.init()
    most = max(options.least, int(hpc.cluster_resources()["CPU"]))
    result = TorchTrainer(
        train,
        train_loop_config={name: getattr(options, name) for name in ("epochs", "samples", "batch", "pace")},
        scaling_config=ScalingConfig(num_workers=(options.least, most), elastic_resize_monitor_interval_s=options.look),
        run_config=RunConfig(
            name=options.name,
            storage_path=options.storage,
            failure_config=FailureConfig(max_failures=5),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    ).fit()
    frame = result.metrics_dataframe
    sizes = [row["ranks"] for row in (frame if isinstance(frame, list) else frame.to_dict("records"))]
    changes = [size for size, before in zip(sizes, [0, *sizes]) if size != before]
    counts = result.return_value
    print(f"ranks {changes} each sample seen {counts['least']:g} to {counts['most']:g} times", flush=True)
    return 0 if counts["least"] == counts["most"] == options.epochs else 1


if __name__ == "__main__":
    sys.exit(main())

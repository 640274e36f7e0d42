"""Steps of DistributedDataParallel on two ranks with gloo, started in one of several ways.

    torchrun --nproc-per-node=2 train.py STEPS       also for hpc-launch --ranks-per-node 2
    python train.py trainer STEPS EVERY              by TorchTrainer, with a report every so many steps (0: none)

Rank 0 prints ``@bench {"step_ms": ...}``: the time of all steps by their number, after the warm-up.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.probes.network import BATCH, INPUTS, network

WARM = 20


def steps(count: int, rank: int, wrap: Any, report: Any = None, every: int = 0) -> float:
    """Milliseconds for a step of a small network with 3.7 million parameters, batches of 16."""
    import torch

    model = wrap(network())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    torch.manual_seed(rank + 1)
    began = 0.0
    for step in range(WARM + count):
        if step == WARM:
            began = time.perf_counter()
        optimizer.zero_grad()
        loss = model(torch.randn(BATCH, INPUTS)).square().mean()
        loss.backward()
        optimizer.step()
        if every and step % every == 0:
            report({"loss": loss.item(), "step": step})
    return (time.perf_counter() - began) / count * 1e3


def say(step_ms: float) -> None:
    print("@bench " + json.dumps({"step_ms": step_ms}), flush=True)


def plain(count: int) -> None:
    """A script that knows nothing of us."""
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    dist.init_process_group("gloo")
    found = steps(count, dist.get_rank(), DistributedDataParallel)
    if dist.get_rank() == 0:
        say(found)
    dist.destroy_process_group()


def loop(config: dict[str, int]) -> float:
    """What each rank of the trainer runs."""
    from hpc import train
    from hpc.train.torch import prepare_model

    rank = train.get_context().get_world_rank()
    return steps(config["count"], rank, prepare_model, train.report, config["every"])


def by_trainer(count: int, every: int) -> None:
    import hpc
    from hpc.train import RunConfig, ScalingConfig
    from hpc.train.torch import TorchTrainer

    hpc.init(address="local", num_cpus=2)
    with tempfile.TemporaryDirectory() as folder:
        found = TorchTrainer(
            loop,
            train_loop_config={"count": count, "every": every},
            scaling_config=ScalingConfig(num_workers=2),
            run_config=RunConfig(storage_path=folder),
        ).fit()
    say(found.return_value)
    hpc.shutdown()


if __name__ == "__main__":
    if "RANK" in os.environ:
        plain(int(sys.argv[1]))
    else:
        by_trainer(int(sys.argv[2]), int(sys.argv[3]))

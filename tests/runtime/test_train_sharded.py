"""States that lie on all ranks: saved by four, loaded by two; and saved beside the training."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import hpc.train
from hpc.train import CheckpointUploadMode, RunConfig, ScalingConfig
from hpc.train.torch import TorchTrainer
from runtime.running import one_node
from runtime.test_train import needs_torch

#: What the workers of these tests import.
WORKER_IMPORTS = "torch torch._dynamo"


def train(config):
    """Six steps of a sharded model, a checkpoint after each second one; the sums of the weights by step."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    from hpc.train.torch import load_state, report_state

    torch.manual_seed(1)
    world = hpc.train.get_context().get_world_size()
    model = torch.nn.Sequential(torch.nn.Linear(8, 13), torch.nn.Linear(13, 1))
    if config["kind"] == "fsdp":
        fully_shard(model, mesh=init_device_mesh("cpu", (world,)))
    else:
        model = torch.nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    state = {"model": model, "optimizer": optimizer, "step": 0, "seen": torch.zeros(3)}
    found = {"from": state["step"] if load_state(state) else None}
    for step in range(state["step"], 6):
        optimizer.zero_grad()
        model(torch.ones(4, 8) * (step + 1)).square().mean().backward()
        optimizer.step()
        state["step"] = step + 1
        state["seen"] += 1
        values = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in model.parameters()]
        found[step] = (round(sum(v.double().sum().item() for v in values), 5), state["seen"].sum().item())
        if step % 2 == 1:
            report_state({"step": step}, state, checkpoint_upload_mode=config["mode"])
        if step + 1 == config["stop"]:
            break
    return found


def fit(tmp_path, workers, kind, mode, stop):
    return TorchTrainer(
        train,
        train_loop_config={"kind": kind, "mode": mode, "stop": stop},
        scaling_config=ScalingConfig(num_workers=workers, resources_per_worker={"CPU": 0.5}),
        run_config=RunConfig(name=kind, storage_path=tmp_path),
    ).fit()


@needs_torch
@pytest.mark.skipif(not os.environ.get("HPC_TEST_SLOW"), reason="takes 30 s each: HPC_TEST_SLOW=1 runs it")
@pytest.mark.parametrize("kind", ["fsdp", "ddp"])
def test_a_state_that_four_ranks_saved_is_loaded_by_two(tmp_path, kind):
    mode = CheckpointUploadMode.ASYNC if kind == "fsdp" else CheckpointUploadMode.SYNC
    with one_node(num_cpus=2):
        first = fit(tmp_path, 4, kind, mode, 4)
        files = os.listdir(first.checkpoint.path)
        assert ".metadata" in files
        if kind == "fsdp":
            assert sum(name.endswith(".distcp") for name in files) == 4
        second = fit(tmp_path, 2, kind, mode, 6)
        whole = fit(tmp_path / "whole", 2, kind, mode, 6)
    assert first.return_value["from"] is None
    assert second.return_value["from"] == 4
    both = {**first.return_value, **second.return_value}
    del both["from"], whole.return_value["from"]
    assert both == {step: pytest.approx(value, rel=1e-4) for step, value in whole.return_value.items()}
    assert not [one for one in Path(first.path).iterdir() if one.name.startswith(".")]

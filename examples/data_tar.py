"""Training from tar shards that goes on in the middle of an epoch, in the next job, with another number of ranks.

    hpc-launch --nodes 4 --time 1h --chain 3 examples/data_tar.py --folder /scratch/me/shards
    python examples/data_tar.py                     # on this machine

The order of the samples depends on the seed and the epoch alone. A checkpoint has the model and the position in the
data, some hundred bytes. The next job skips what has been seen, whatever its number of ranks is: all ranks together
take the same batches. The last line has a hash of the order of all samples; it is that of a run without a break.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
import tarfile
import time
from pathlib import Path

import numpy as np

import hpc
from hpc.train import CheckpointConfig, DataConfig, RunConfig, ScalingConfig
from hpc.train.torch import TorchTrainer

SIDE, CLASSES = 16, 4


def make_shards(folder: Path, shards: int, samples: int) -> list[str]:
    """Tar files with an array and a class for each sample, as WebDataset has them; made once."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"train-{number:04d}.tar" for number in range(shards)]
    for number, path in enumerate(paths):
        if path.exists():
            continue
        rng = np.random.default_rng(number)
        with tarfile.open(path, "w") as archive:
            for sample in range(samples):
                label = int(rng.integers(CLASSES))
                pixels = rng.random((SIDE, SIDE), dtype=np.float32)
                pixels[SIDE // 4 * label : SIDE // 4 * (label + 1)] += 0.3
                array = io.BytesIO()
                np.save(array, pixels)
                for name, data in (("npy", array.getvalue()), ("cls", str(label).encode())):
                    member = tarfile.TarInfo(f"{number * samples + sample:08d}.{name}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    return list(map(str, paths))


def sample(row: dict) -> dict:
    """What the model needs of a sample."""
    return {"number": int(row["__key__"]), "image": row["npy"], "label": row["cls"]}


def train(config: dict) -> None:
    """What every rank runs."""
    import torch
    import torch.distributed as dist

    from hpc.train import get_context, get_dataset_shard, report
    from hpc.train.torch import load_state, prepare_model, report_state

    context = get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    shard = get_dataset_shard("train")
    torch.manual_seed(0)
    model = prepare_model(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(SIDE * SIDE, CLASSES)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    state = {"model": model, "optimizer": optimizer, "data": shard, "step": 0, "order": ""}
    if load_state(state) and rank == 0:
        print(f"goes on with {world} ranks at step {state['step']}: {shard.state_dict()}", flush=True)

    while shard.state_dict()["epoch"] < config["epochs"]:
        for batch in shard.iter_torch_batches(batch_size=config["batch"] // world, drop_last=True):
            loss = torch.nn.functional.cross_entropy(model(batch["image"]), batch["label"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            parts: list[list[int]] = [[] for _ in range(world)]
            dist.all_gather_object(parts, batch["number"].tolist())
            seen = [number for part in parts for number in part]
            state["order"] = hashlib.sha256(f"{state['order']} {seen}".encode()).hexdigest()
            state["step"] += 1
            time.sleep(config["pace"])
            metrics = {"step": state["step"], "loss": loss.item(), "order": state["order"]}
            if state["step"] % config["every"] == 0 or state["step"] == config["stop"] or context.should_checkpoint():
                report_state(metrics, state)
            else:
                report(metrics)
            if state["step"] == config["stop"]:
                return
    report_state({"step": state["step"], "loss": loss.item(), "order": state["order"]}, state)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where the shards are, or are made (STORAGE/shards)")
    parser.add_argument("--shards", type=int, default=8, help="(8)")
    parser.add_argument("--samples", type=int, default=256, help="of each shard (256)")
    parser.add_argument("--epochs", type=int, default=2, help="(2)")
    parser.add_argument("--batch", type=int, default=64, help="samples of all ranks in a step (64)")
    parser.add_argument("--every", type=int, default=20, help="steps between checkpoints (20)")
    parser.add_argument("--stop", type=int, default=0, help="end behind this step, as a job that has no more time (0)")
    parser.add_argument("--pace", type=float, default=0.0, help="seconds to wait after each step, to try a chain (0)")
    parser.add_argument("--ranks", type=int, default=0, help="how many ranks (one for each node)")
    parser.add_argument("--cpus", type=float, default=0.25, help="of each rank (0.25)")
    parser.add_argument("--name", default="tar", help="the run; of the same name it goes on")
    parser.add_argument("--storage", type=Path, default=Path.home() / "hpc_results", help="(~/hpc_results)")
    told = parser.parse_args()
    hpc.init()
    nodes = [node for node in hpc.nodes() if node["Alive"]]
    shards = make_shards(told.folder or told.storage / "shards", told.shards, told.samples)
    result = TorchTrainer(
        train,
        train_loop_config={name: getattr(told, name) for name in ("epochs", "batch", "every", "pace", "stop")},
        scaling_config=ScalingConfig(
            num_workers=told.ranks or len(nodes),
            placement_strategy="SPREAD",
            resources_per_worker={"CPU": told.cpus},  # the tasks that read need CPUs that the ranks leave
        ),
        run_config=RunConfig(
            name=told.name, storage_path=str(told.storage), checkpoint_config=CheckpointConfig(num_to_keep=2)
        ),
        datasets={"train": hpc.data.read_webdataset(shards).map(sample)},
        dataset_config=DataConfig(shuffle_seed=1, shuffle_window=512),
    ).fit()
    print(
        f"steps {result.metrics['step']} loss {result.metrics['loss']:.4f} order {result.metrics['order']}", flush=True
    )
    return 0 if result.metrics["loss"] < 1.3 else 1


if __name__ == "__main__":
    sys.exit(main())

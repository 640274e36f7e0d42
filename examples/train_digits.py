"""Train a model on handwritten digits, one rank on each node, and check the result.

    hpc-launch --nodes 4 examples/train_digits.py          (or plain python: then on the nodes that hpc.init() starts)

torch is imported in the training function only: the driver needs none of it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
import time

import hpc
from hpc.train import Checkpoint, CheckpointConfig, Progress, RunConfig, ScalingConfig, TrainingFailedError
from hpc.train.torch import TorchTrainer

STARTED_AT = time.time()
GLOBAL_BATCH = 128
LEAST_ACCURACY = 0.96


def read_digits():
    """1797 images of 8x8 pixels, a quarter of them for the test."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    return train_test_split((images / 16).astype("float32"), labels, test_size=0.25, stratify=labels, random_state=0)


def train(config):
    """What every rank runs."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from hpc.train import get_context, report
    from hpc.train.torch import get_device, prepare_data_loader, prepare_model

    device, rank, world = get_device(), get_context().get_world_rank(), get_context().get_world_size()
    x_train, x_test, y_train, y_test = (torch.tensor(part) for part in hpc.get(config["digits"]))
    x_test, y_test = x_test.to(device), y_test.to(device)
    torch.manual_seed(0)
    loader = prepare_data_loader(
        DataLoader(TensorDataset(x_train, y_train), batch_size=config["batch_size"], shuffle=True)
    )
    model = prepare_model(torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)

    def accuracy():
        with torch.no_grad():
            return (model(x_test).argmax(1) == y_test).float().mean().item()

    def average(value):
        if world > 1:
            torch.distributed.all_reduce(value)
        return value.item() / world

    step = 0
    while step < config["steps"]:
        if world > 1:
            loader.sampler.set_epoch(step)
        for x, y in loader:
            loss = torch.nn.functional.cross_entropy(model(x.to(device)), y.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if step % 5 == 0 and step < config["steps"]:
                report({"step": step, "loss": average(loss.detach().clone())})
            if step == config["steps"]:
                break

    places = [None] * world
    torch.distributed.all_gather_object(places, (hpc.get_runtime_context().get_node_id(), fingerprint(model)))
    last = {
        "step": step,
        "loss": average(loss.detach().clone()),
        "accuracy": accuracy(),
        "nodes": [node for node, _ in places],
        "fingerprints": [weights for _, weights in places],
    }
    with tempfile.TemporaryDirectory() as folder:
        if rank == 0:
            torch.save(getattr(model, "module", model).state_dict(), f"{folder}/model.pt")
        report(last, checkpoint=Checkpoint.from_directory(folder) if rank == 0 else None)


def fingerprint(model):
    """A hash of all weights: equal only if every bit is."""
    digest = hashlib.sha256()
    for value in model.parameters():
        digest.update(value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, help="so many ranks, dealt out over the nodes (default: one on each)")
    parser.add_argument("--gpu", action="store_true", help="a GPU for each rank")
    parser.add_argument("--steps", type=int, default=300, help="gradient steps (default: %(default)s)")
    parser.add_argument("--storage", help="where the run's directory goes (default: ~/hpc_results)")
    parser.add_argument("--keep", action="store_true", help="keep the run's directory")
    args = parser.parse_args()

    before = time.monotonic()
    hpc.init()
    ready_s = float(os.environ.get("HPC_READY_S") or time.monotonic() - before)
    nodes = [node for node in hpc.nodes() if node["Alive"]]
    world = args.workers or len(nodes)
    trainer = TorchTrainer(
        train,
        train_loop_config={
            "digits": hpc.put(read_digits()),
            "batch_size": max(1, GLOBAL_BATCH // world),
            "steps": args.steps,
        },
        scaling_config=ScalingConfig(
            num_workers=world,
            use_gpu=args.gpu,
            placement_strategy="SPREAD" if args.workers else "STRICT_SPREAD",
        ),
        run_config=RunConfig(storage_path=args.storage, checkpoint_config=CheckpointConfig(num_to_keep=1)),
    )
    result = trainer.fit(progress=Progress(total=args.steps, key="step", description="gradient steps"))

    got = result.metrics
    check(got["accuracy"] >= LEAST_ACCURACY, f"test accuracy {got['accuracy']:.3f} is below {LEAST_ACCURACY}")
    check(len(got["fingerprints"]) == world, f"{len(got['fingerprints'])} ranks instead of {world}")
    check(len(set(got["fingerprints"])) == 1, f"the ranks' weights differ: {got['fingerprints']}")
    if not args.workers:
        check(len(set(got["nodes"])) == len(nodes), f"ranks on nodes {got['nodes']}, not one on each of {len(nodes)}")
    check(os.path.isfile(f"{result.checkpoint.path}/model.pt"), f"no model in {result.checkpoint}")
    if args.keep:
        print(f"results: {result.path}")
    else:
        shutil.rmtree(result.path)
    launched_at = float(os.environ.get("HPC_LAUNCHED_AT") or STARTED_AT - float(os.environ.get("HPC_READY_S") or 0))
    print(
        f"demo: ok nodes={len(nodes)} world={world} accuracy={got['accuracy']:.3f} ready={ready_s:.1f}s "
        f"total={time.time() - launched_at:.1f}s",
        flush=True,
    )


def check(good, message):
    """Exits with the message unless all is well."""
    if not good:
        sys.exit(f"demo: FAILED: {message}")


if __name__ == "__main__":
    try:
        main()
    except TrainingFailedError as error:
        sys.exit(f"demo: FAILED: {error}")

"""Train a small network with JAX, its batches shared out over the devices of all ranks.

    hpc-launch --nodes 4 examples/train_jax.py           (or plain python: then on the nodes that hpc.init() starts)

On each rank jax.devices() has the devices of all: GPUs, TPUs or CPUs. One jitted step is a program of all ranks.
"""

from __future__ import annotations

import argparse
import sys
import tempfile

import numpy as np

import hpc
from hpc.train import RunConfig, ScalingConfig
from hpc.train.jax import JaxTrainer

BATCH, WIDTH = 64, 32


def train(config):
    """What every rank runs."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from hpc.train import get_context, report

    mesh = Mesh(np.array(jax.devices()), ("data",))
    shared, equal = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
    random = np.random.default_rng(0)  # the same on all ranks: each puts its own part on its devices

    def place(array, sharding):
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    shapes = [(2, WIDTH), (WIDTH, 1)]
    weights = [place(random.normal(size=s).astype("float32") / np.sqrt(s[0]), equal) for s in shapes]

    @jax.jit
    def step(weights, inputs, targets):
        def loss(weights):
            return jnp.mean((jnp.tanh(inputs @ weights[0]) @ weights[1] - targets) ** 2)

        value, gradients = jax.value_and_grad(loss)(weights)
        return [w - 0.1 * g for w, g in zip(weights, gradients)], value

    rows = BATCH * len(jax.devices())
    for number in range(config["steps"]):
        inputs = random.normal(size=(rows, 2)).astype("float32")
        targets = np.sin(inputs[:, :1]) * inputs[:, 1:]
        weights, value = step(weights, place(inputs, shared), place(targets, shared))
        if (number + 1) % 50 == 0:
            report({"step": number + 1, "loss": float(value)})
    return {"devices": len(jax.devices()), "ranks": get_context().get_world_size()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300, help="(300)")
    parser.add_argument("--ranks", type=int, default=0, help="how many ranks (one for each node)")
    options = parser.parse_args()
    hpc.init()
    ranks = options.ranks or sum(node["Alive"] for node in hpc.nodes())
    with tempfile.TemporaryDirectory() as folder:
        result = JaxTrainer(
            train,
            train_loop_config={"steps": options.steps},
            scaling_config=ScalingConfig(num_workers=ranks, placement_strategy="SPREAD"),
            run_config=RunConfig(storage_path=folder),
        ).fit()
    frame = result.metrics_dataframe
    losses = [row["loss"] for row in (frame if isinstance(frame, list) else frame.to_dict("records"))]
    found = result.return_value
    print(f"{found['ranks']} ranks, {found['devices']} devices, loss {losses[0]:.3f} to {losses[-1]:.3f}", flush=True)
    return 0 if losses[-1] < losses[0] else 1


if __name__ == "__main__":
    sys.exit(main())

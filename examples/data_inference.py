"""Batch inference: a model in a pool of actors reads pictures, and what it says of them is written as parquet.

    hpc-launch --nodes 4 --time 1h examples/data_inference.py --pictures 200000 --results /scratch/me/said
    python examples/data_inference.py               # on this machine

Each actor makes its model once. Reading, decoding, the model and writing go on at the same time, on whatever nodes have
room, with no more data in memory than a part of each node's store. With GPUs give each actor one: num_gpus=1.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

import hpc

SIDE = 64


def picture(row: dict) -> dict:
    """A made picture: a bright square on noise. A real program reads files: hpc.data.read_images(folder)."""
    rng = np.random.default_rng(row["id"])
    pixels = rng.integers(0, 100, (SIDE, SIDE, 3), dtype=np.uint8)
    corner = 8 * (row["id"] % 4)
    pixels[corner : corner + 24, corner : corner + 24] = 255
    return {"id": row["id"], "image": pixels}


def normalize(batch: dict) -> dict:
    """What the model wants: floats, channels first."""
    return {"id": batch["id"], "image": batch["image"].transpose(0, 3, 1, 2).astype(np.float32) / 255.0}


class Model:
    """A network that finds where the square is; made once in each actor of the pool."""

    def __init__(self, patch: int) -> None:
        import torch

        torch.set_num_threads(1)
        self._torch = torch
        self._brightness = torch.nn.AvgPool2d(patch)

    def __call__(self, batch: dict) -> dict:
        with self._torch.inference_mode():
            found = self._brightness(self._torch.from_numpy(batch["image"])).mean(dim=1)
            place = found.flatten(1).argmax(dim=1)
        return {"id": batch["id"], "place": place.numpy()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=4_000, help="(4000)")
    parser.add_argument("--batch", type=int, default=64, help="pictures that the model gets at a time (64)")
    parser.add_argument("--actors", type=int, default=0, help="at most so many models (as many as CPUs)")
    parser.add_argument("--results", help="the directory of the results (a temporary one)")
    told = parser.parse_args()
    hpc.init()
    results = Path(told.results or tempfile.mkdtemp(prefix="said-"))
    actors = told.actors or max(1, int(hpc.cluster_resources()["CPU"]) // 2)
    began = time.perf_counter()
    said = (
        hpc.data.range(told.pictures)
        .map(picture)
        .map_batches(normalize, batch_size=told.batch)
        .map_batches(
            Model,
            fn_constructor_kwargs={"patch": 8},
            batch_size=told.batch,
            compute=hpc.data.ActorPoolStrategy(min_size=1, max_size=actors),
        )
    )
    said.write_parquet(str(results))
    took = time.perf_counter() - began
    found = hpc.data.read_parquet(str(results))
    places = {row["place"]: row["count()"] for row in found.groupby("place").count().take_all()}
    print(f"{found.count()} pictures in {took:.1f} s ({told.pictures / took:.0f}/s)")
    print("brightest places:", dict(sorted(places.items())))


if __name__ == "__main__":
    main()

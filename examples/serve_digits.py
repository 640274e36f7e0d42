"""A model of handwritten digits that is asked for one picture, and works on batches.

    hpc-launch --time 1h examples/serve_digits.py --serve
    python examples/serve_digits.py                 # on this machine: some requests, and the end

Requests that come within 5 ms of the first one are predicted together. scikit-learn is fast at 32 pictures as at one.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import hpc
from hpc import serve


@serve.deployment(max_ongoing_requests=64)
class Digits:
    """Trains at its start, so that the example needs no file; a real one loads what was trained."""

    def __init__(self) -> None:
        pictures, digits = load_digits(return_X_y=True)
        self.model = LogisticRegression(max_iter=200).fit(pictures[:1200] / 16, digits[:1200])
        self.sizes: list[int] = []

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.005)
    async def predict(self, pictures: list[np.ndarray]) -> list[int]:
        self.sizes.append(len(pictures))
        return self.model.predict(np.stack(pictures) / 16).tolist()

    async def batches(self) -> list[int]:
        return self.sizes

    async def __call__(self, request) -> dict:
        """POST a list of 64 numbers from 0 to 16."""
        return {"digit": await self.predict(np.array(await request.json(), float))}


app = Digits.bind()

if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--serve", action="store_true", help="serve until Ctrl-C")
    options.add_argument("--requests", type=int, default=597)
    given = options.parse_args()
    hpc.init()
    handle = serve.run(app, blocking=given.serve)
    pictures, digits = load_digits(return_X_y=True)
    pictures, digits = pictures[1200:][: given.requests], digits[1200:][: given.requests]
    began = time.perf_counter()
    responses = [handle.predict.remote(picture) for picture in pictures]
    said = [response.result() for response in responses]
    took_s = time.perf_counter() - began
    sizes = handle.batches.remote().result()
    right = sum(a == b for a, b in zip(said, digits, strict=True))
    print(f"{right} of {len(said)} right, in {len(sizes)} batches of up to {max(sizes)}")
    print(f"{len(said) / took_s:.0f} per second")
    serve.shutdown()

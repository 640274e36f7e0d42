"""One round of microbenchmarks against one library, in a process and environment of its own; prints JSON.

The same code runs against every module with Ray's API. Names are those of `ray microbenchmark`. This file imports
nothing of the project besides what is measured.

    python child.py hpc|ray|futures SECONDS [NAME ...]
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

BATCH = 1000


def rate(run: Callable[[], Any], count: float, seconds: float) -> float:
    """Operations per second: ``run`` does ``count`` of them and is repeated for ``seconds``, after one warm-up."""
    run()
    done = 0.0
    start = time.perf_counter()
    while True:
        run()
        done += count
        took = time.perf_counter() - start
        if took >= seconds:
            return done / took


def ray_like(module: str, seconds: float, wanted: set[str]) -> dict[str, float]:
    """All measurements of a module with Ray's API."""
    start = time.perf_counter()
    if module == "ray":
        import logging

        import ray

        ray.init(num_cpus=2, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    else:
        import hpc as ray  # type: ignore[no-redef]

        ray.init(num_cpus=2, address="local")

    @ray.remote
    def small():
        return b"ok"

    out: dict[str, float] = {}
    ray.get(small.remote())
    out["init to first result"] = time.perf_counter() - start

    def measure(name: str, run: Callable[[], Any], count: float = 1) -> None:
        if not wanted or name in wanted:
            out[name] = rate(run, count, seconds)

    measure("single client tasks sync", lambda: ray.get(small.remote()))
    measure("single client tasks async", lambda: ray.get([small.remote() for _ in range(BATCH)]), BATCH)
    actors(ray, measure)
    objects(ray, measure, out, wanted)
    start = time.perf_counter()
    ray.shutdown()
    out["shutdown"] = time.perf_counter() - start
    return out


def actors(ray: Any, measure: Callable[..., None]) -> None:
    """Calls to actors, and their creation."""

    @ray.remote(num_cpus=0)
    class Sync:
        def ok(self):
            return b"ok"

    @ray.remote(num_cpus=0)
    class Async:
        async def ok(self):
            return b"ok"

    @ray.remote(num_cpus=0)
    class Client:
        def __init__(self, servers):
            self.servers = servers

        def run(self, count):
            ray.get([server.ok.remote() for _ in range(count) for server in self.servers])

    actor = Sync.remote()
    ray.get(actor.ok.remote())
    measure("1:1 actor calls sync", lambda: ray.get(actor.ok.remote()))
    measure("1:1 actor calls async", lambda: ray.get([actor.ok.remote() for _ in range(BATCH)]), BATCH)
    coroutine = Async.remote()
    ray.get(coroutine.ok.remote())
    measure("1:1 async-actor calls sync", lambda: ray.get(coroutine.ok.remote()))
    measure("1:1 async-actor calls async", lambda: ray.get([coroutine.ok.remote() for _ in range(BATCH)]), BATCH)
    servers = [Sync.remote() for _ in range(2)]
    clients = [Client.remote(servers) for _ in range(2)]
    measure("n:n actor calls async", lambda: ray.get([c.run.remote(250) for c in clients]), 1000)

    def create() -> None:
        ray.get([a.ok.remote() for a in [Sync.remote() for _ in range(4)]])

    measure("actors created", create, 4)


def objects(ray: Any, measure: Callable[..., None], out: dict[str, float], wanted: set[str]) -> None:
    """put, get and wait."""
    import numpy as np

    measure("single client put calls", lambda: ray.put(0))
    ref = ray.put(0)
    measure("single client get calls", lambda: ray.get(ref))
    large = np.zeros(100 << 20, np.uint8)
    start = time.perf_counter()
    first = ray.put(large)
    out["first put of 100 MiB, GB/s"] = large.nbytes / 1e9 / (time.perf_counter() - start)
    del first

    def put_large() -> None:
        ray.put(large)

    measure("single client put gigabytes", put_large, large.nbytes / 1e9)
    ten = ray.put(np.zeros(10 << 20, np.uint8))
    measure("get 10 MiB array, per s", lambda: ray.get(ten))

    @ray.remote
    def small():
        return b"ok"

    def wait_1k() -> None:
        left = [small.remote() for _ in range(1000)]
        while left:
            _, left = ray.wait(left)

    measure("single client wait 1k refs", wait_1k)


def futures(seconds: float, wanted: set[str]) -> dict[str, float]:
    """concurrent.futures.ProcessPoolExecutor, where the operation exists."""
    from concurrent.futures import ProcessPoolExecutor

    out: dict[str, float] = {}
    with ProcessPoolExecutor(2) as pool:
        pool.submit(_ok).result()
        runs: dict[str, tuple[Callable[[], Any], float]] = {
            "single client tasks sync": (lambda: pool.submit(_ok).result(), 1),
            "single client tasks async": (
                lambda: [f.result() for f in [pool.submit(_ok) for _ in range(BATCH)]],
                BATCH,
            ),
        }
        for name, (run, count) in runs.items():
            if not wanted or name in wanted:
                out[name] = rate(run, count, seconds)
    return out


def _ok() -> bytes:
    return b"ok"


def main() -> None:
    """Run one round and print its figures."""
    module, seconds, names = sys.argv[1], float(sys.argv[2]), set(sys.argv[3:])
    result = futures(seconds, names) if module == "futures" else ray_like(module, seconds, names)
    print("\nRESULT " + json.dumps(result), flush=True)


if __name__ == "__main__":
    main()

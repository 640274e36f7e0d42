"""Calls of deployments through handles, under one module with Ray's API: one line ``@bench {json}``.

    python calls.py hpc|ray|ray-throughput SECONDS

One replica without work, with 100 requests at a time: calls/s of a driver with 100 in flight, and the latency of one at
a time. A chain of three deployments, each of which awaits the next. Batches of 32 whose work takes 5 ms: rows/s with
128 in flight, and how long a lone request takes with a wait of 10 ms. Items/s of a stream.
"""

from __future__ import annotations

import asyncio
import collections
import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from services import MODES

IN_FLIGHT = 100
WORK_S, WAIT_S, MOST = 0.005, 0.01, 32


def app(serve: Any) -> dict[str, Any]:
    """The applications that are measured, by their names."""

    @serve.deployment(max_ongoing_requests=1000)
    class Noop:
        async def __call__(self) -> bytes:
            return b"ok"

        async def items(self, count: int) -> Any:
            for number in range(count):
                yield number

    @serve.deployment(max_ongoing_requests=1000)
    class Step:
        def __init__(self, following: Any) -> None:
            self.following = following

        async def __call__(self) -> Any:
            return await self.following.remote()

    @serve.deployment(max_ongoing_requests=1000)
    class Batched:
        @serve.batch(max_batch_size=MOST, batch_wait_timeout_s=WAIT_S, max_concurrent_batches=4)
        async def __call__(self, rows: list[int]) -> list[int]:
            await asyncio.sleep(WORK_S)
            return rows

    chain = Step.options(name="First").bind(Step.options(name="Second").bind(Noop.options(name="Third").bind()))
    return {"noop": Noop.bind(), "chain": chain, "batch": Batched.bind()}


def rate(call: Callable[[], Any], seconds: float, in_flight: int) -> float:
    """Calls per second with so many at a time."""
    underway: collections.deque[Any] = collections.deque()
    done, until, began = 0, 0.0, 0.0
    for warm in (True, False):
        began = time.perf_counter()
        until, done = began + (seconds * 0.4 if warm else seconds), 0
        while time.perf_counter() < until:
            underway.append(call())
            if len(underway) >= in_flight:
                underway.popleft().result()
                done += 1
    took = time.perf_counter() - began
    while underway:
        underway.popleft().result()
    return done / took


def latencies_ms(call: Callable[[], Any], seconds: float) -> list[float]:
    """How long calls take, one at a time."""
    found: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        call().result()
        found.append((time.perf_counter() - began) * 1e3)
    return sorted(found)


def measured(ray: Any, serve: Any, seconds: float) -> dict[str, float]:
    handles = {}
    for name, one in app(serve).items():
        handles[name] = serve.run(one, name=name, route_prefix=None)
    noop, chain, batched = handles["noop"], handles["chain"], handles["batch"]
    found: dict[str, float] = {}
    lone = latencies_ms(noop.remote, seconds)
    found["p50_us"] = statistics.median(lone) * 1e3
    found["p99_us"] = lone[int(len(lone) * 0.99)] * 1e3
    found["calls"] = rate(noop.remote, seconds, IN_FLIGHT)
    found["chain"] = rate(chain.remote, seconds, IN_FLIGHT)
    found["chain_p50_us"] = statistics.median(latencies_ms(chain.remote, seconds)) * 1e3
    found["batch_rows"] = rate(lambda: batched.remote(1), seconds, 128)
    alone = latencies_ms(lambda: batched.remote(1), seconds)
    found["batch_lone_p99_ms"] = alone[int(len(alone) * 0.99)]
    stream = noop.options(stream=True).items
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        count += sum(1 for _ in stream.remote(1000))
    found["stream_items"] = count / (time.perf_counter() - began)
    return found


def main() -> None:
    module, seconds = sys.argv[1].partition("-")[0], float(sys.argv[2])
    os.environ.update(MODES.get(sys.argv[1], {}))
    ray, serve = importlib.import_module(module), importlib.import_module(f"{module}.serve")
    options: dict[str, Any] = {} if module == "hpc" else {"include_dashboard": False, "log_to_driver": False}
    ray.init(num_cpus=8, **options)
    try:
        serve.start(proxy_location="Disabled")
        print("@bench " + json.dumps(measured(ray, serve, seconds)), flush=True)
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()

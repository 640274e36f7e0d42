"""How fast a service changes: 0 to 1 replica, 1 to 8 under load, an update of 4 under load; what failed meanwhile.

python bench/probes/serve_changes.py [rounds]

Plain Python deployments by handles, on one node. Medians of the rounds, in seconds. A request fails when it raises.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from typing import Any

import hpc
from hpc import serve

SCALING = {
    "min_replicas": 0,
    "max_replicas": 8,
    "target_ongoing_requests": 1,
    "upscale_delay_s": 0,
    "downscale_delay_s": 0.1,
    "look_back_period_s": 0.2,
    "metrics_interval_s": 0.1,
}


@serve.deployment(max_ongoing_requests=2, autoscaling_config=SCALING)
class Scaled:
    """Takes as long as it is told."""

    def __call__(self, seconds: float) -> None:
        time.sleep(seconds)


@serve.deployment(num_replicas=4, max_surge_percent=25)
class Version:
    """Says which one it is."""

    def __init__(self, version: int) -> None:
        self.version = version

    async def __call__(self) -> int:
        return self.version


def count(name: str) -> int:
    """The replicas that run."""
    states = serve.status().applications[name].deployments[name].replica_states
    return states.get(serve.schema.ReplicaState.RUNNING, 0)


def wait(is_so: Any) -> float:
    """Seconds until it is so."""
    began = time.perf_counter()
    while not is_so():
        time.sleep(0.005)
    return time.perf_counter() - began


def from_zero() -> float:
    """A first request of a deployment without replicas."""
    handle = serve.get_app_handle("Scaled")
    wait(lambda: count("Scaled") == 0)
    began = time.perf_counter()
    handle.remote(0.0).result()
    return time.perf_counter() - began


def under_load() -> tuple[float, int]:
    """16 callers at once: until 8 replicas run, and the requests that failed."""
    handle, over, failed = serve.get_app_handle("Scaled"), threading.Event(), [0]

    def call() -> None:
        while not over.is_set():
            try:
                handle.remote(0.05).result()
            except Exception:
                failed[0] += 1

    threads = [threading.Thread(target=call) for _ in range(16)]
    for thread in threads:
        thread.start()
    took = wait(lambda: count("Scaled") == 8)
    over.set()
    for thread in threads:
        thread.join()
    return took, failed[0]


def update(version: int) -> tuple[float, int, int]:
    """A new version of 4 replicas: how long it takes, requests meanwhile, and those that failed."""
    handle, over, failed, done = serve.get_app_handle("Version"), threading.Event(), [0], [0]

    def call() -> None:
        while not over.is_set():
            try:
                handle.remote().result()
                done[0] += 1
            except Exception:
                failed[0] += 1

    thread = threading.Thread(target=call)
    thread.start()
    began = time.perf_counter()
    serve.run(Version.bind(version), name="Version", route_prefix=None)
    took = time.perf_counter() - began
    over.set()
    thread.join()
    return took, done[0], failed[0]


def main(rounds: int = 5) -> None:
    hpc.init(num_cpus=32)
    serve.start(proxy_location="Disabled")
    serve.run(Scaled.bind(), name="Scaled", route_prefix=None)
    serve.run(Version.bind(0), name="Version", route_prefix=None)
    zero, eight, updates = [], [], []
    for number in range(1, rounds + 1):
        zero.append(from_zero())
        eight.append(under_load())
        updates.append(update(number))
    failed, meanwhile = sum(row[2] for row in updates), sum(row[1] for row in updates)
    print(f"0 -> 1: {statistics.median(zero):.3f} s until the first answer")
    print(f"-> 8 under load: {statistics.median(row[0] for row in eight):.2f} s, failed={sum(row[1] for row in eight)}")
    print(f"update of 4: {statistics.median(row[0] for row in updates):.2f} s, {meanwhile} requests, failed={failed}")
    serve.shutdown()
    hpc.shutdown()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

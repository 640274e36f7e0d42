"""How fast a service changes: 0 to 1 replica, 1 to 8 under load, an update of 4 under load; what failed meanwhile.

    python changes.py hpc|ray ROUNDS

Plain Python deployments by handles, on one node, under one module with Ray's API: one line ``@bench {json}`` with the
medians of the rounds, in seconds, and the sums of requests. A request fails when it raises.
"""

from __future__ import annotations

import importlib
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SCALING = {
    "min_replicas": 0,
    "max_replicas": 8,
    "target_ongoing_requests": 1,
    "upscale_delay_s": 0,
    "downscale_delay_s": 0.1,
    "look_back_period_s": 0.2,
    "metrics_interval_s": 0.1,
}
#: A peer that never comes so far shall not hang the bench.
PATIENCE_S = 60.0
#: How long the callers go on at 8 replicas.
STEADY_S = 0.5


def applications(serve: Any) -> tuple[Any, Callable[[int], Any]]:
    """One that scales by itself, and one of which each number is another version."""

    @serve.deployment(max_ongoing_requests=2, autoscaling_config=SCALING, graceful_shutdown_wait_loop_s=0.1)
    class Scaled:
        def __call__(self, seconds: float) -> None:
            time.sleep(seconds)

    @serve.deployment(num_replicas=4, max_surge_percent=25, graceful_shutdown_wait_loop_s=0.1)
    class Version:
        def __init__(self, version: int) -> None:
            self.version = version

        async def __call__(self) -> int:
            return self.version

    return Scaled.bind(), Version.bind


class Changes:
    """The changes of one service."""

    def __init__(self, serve: Any) -> None:
        self.serve = serve
        scaled, self.version = applications(serve)
        self.scaled = serve.run(scaled, name="Scaled", route_prefix=None)
        self.versions = serve.run(self.version(0), name="Version", route_prefix=None)

    def count(self, name: str) -> int:
        """The replicas that there are, in whatever state."""
        states = self.serve.status().applications[name].deployments[name].replica_states
        return int(sum(states.values()))

    def running(self, name: str) -> int:
        """The replicas that run."""
        states = self.serve.status().applications[name].deployments[name].replica_states
        return int(sum(number for state, number in states.items() if getattr(state, "value", state) == "RUNNING"))

    def from_zero(self) -> float:
        """A first request of a deployment without replicas."""
        wait(lambda: self.count("Scaled") == 0)
        time.sleep(0.3)  # the caller knows it, too
        began = time.perf_counter()
        self.scaled.remote(0.0).result()
        return time.perf_counter() - began

    def under_load(self) -> tuple[float, int]:
        """16 callers at once: seconds until 8 replicas run, and the requests that failed."""
        with callers(16, lambda: self.scaled.remote(0.05).result()) as outcome:
            took = wait(lambda: self.running("Scaled") == 8)
            time.sleep(STEADY_S)
        return took, outcome["failed"]

    def update(self, version: int) -> tuple[float, int, int]:
        """A new version of 4 replicas: how long it takes, requests meanwhile, and those that failed."""
        with callers(1, lambda: self.versions.remote().result()) as outcome:
            began = time.perf_counter()
            self.serve.run(self.version(version), name="Version", route_prefix=None)
            took = time.perf_counter() - began
        return took, outcome["asked"], outcome["failed"]


@contextmanager
def callers(count: int, call: Callable[[], Any]) -> Iterator[dict[str, int]]:
    """Threads that call one after the other, as long as the block runs; what they have asked, and what failed."""
    outcome, over, lock = {"asked": 0, "failed": 0}, threading.Event(), threading.Lock()

    def work() -> None:
        while not over.is_set():
            try:
                call()
                has_failed = False
            except Exception:
                has_failed = True
            with lock:
                outcome["asked"] += 1
                outcome["failed"] += has_failed

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield outcome
    finally:
        over.set()
        for thread in threads:
            thread.join()


def wait(is_so: Callable[[], bool]) -> float:
    """Seconds until it is so."""
    began = time.perf_counter()
    while not is_so():
        if time.perf_counter() - began > PATIENCE_S:
            raise SystemExit(f"it did not come to be within {PATIENCE_S:g} s")
        time.sleep(0.005)
    return time.perf_counter() - began


def measured(serve: Any, rounds: int) -> dict[str, float]:
    changes = Changes(serve)
    zero, eight, updates = [], [], []
    for number in range(1, rounds + 1):
        zero.append(changes.from_zero())
        eight.append(changes.under_load())
        updates.append(changes.update(number))
    return {
        "zero_s": statistics.median(zero),
        "eight_s": statistics.median(took for took, _ in eight),
        "eight_failed": sum(failed for _, failed in eight),
        "update_s": statistics.median(row[0] for row in updates),
        "update_asked": sum(row[1] for row in updates),
        "update_failed": sum(row[2] for row in updates),
    }


def main(who: str, rounds: str = "5") -> None:
    ray, serve = importlib.import_module(who), importlib.import_module(f"{who}.serve")
    options: dict[str, Any] = {} if who == "hpc" else {"include_dashboard": False, "log_to_driver": False}
    ray.init(num_cpus=32, **options)
    try:
        serve.start(proxy_location="Disabled")
        print("@bench " + json.dumps(measured(serve, int(rounds))), flush=True)
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])

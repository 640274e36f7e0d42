"""Measures operations of one module with Ray's API; runs as a script under that module's own interpreter.

    python micro.py hpc|ray|dask|parsl|futures SECONDS NAME [NAME ...]

Prints one line ``@bench {json}`` for each name. It needs the standard library only (numpy where an operation does),
because peers live in environments of their own. The same code runs for all of them: ``ray`` is the module under test.
What each name does follows ``ray microbenchmark``; where that would run for very long (10,000 tasks from each of four
clients) the count is smaller, and equal for all.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

WARM_SHARE = 0.4  # of the measured time
SLOW = 4.0  # times the measured time: a single turn that takes longer is the measurement
BATCH = 1000
CLIENTS = 4
GROUPS = 100
LARGE_BYTES = 100 * 1000 * 1000
ARRAY_BYTES = 10 * 1000 * 1000


class Prepared:
    """An operation ready to be run again and again; ``per_run`` units of work each time."""

    def __init__(self, run: Callable[[], Any], per_run: float = 1, extra: dict[str, float] | None = None) -> None:
        self.run = run
        self.per_run = per_run
        self.extra = extra or {}


def small_value(*_: Any) -> bytes:
    return b"ok"


class Actor:
    def small_value(self) -> bytes:
        return b"ok"


class AsyncActor:
    async def small_value(self) -> bytes:
        return b"ok"


# ---------------------------------------------------------------- tasks


def tasks_sync(ray: Any) -> Prepared:
    task = ray.remote(small_value)
    return Prepared(lambda: ray.get(task.remote()))


def tasks_async(ray: Any) -> Prepared:
    task = ray.remote(small_value)
    return Prepared(lambda: ray.get([task.remote() for _ in range(BATCH)]), BATCH)


def tasks_with_bytes(size: int) -> Callable[[Any], Prepared]:
    def prepare(ray: Any) -> Prepared:
        task, arg = ray.remote(small_value), b"x" * size
        return Prepared(lambda: ray.get([task.remote(arg) for _ in range(BATCH)]), BATCH)

    return prepare


def multi_client_tasks(ray: Any) -> Prepared:
    task = ray.remote(small_value)

    class Submitter:
        def batch(self, n: int) -> None:
            ray.get([task.remote() for _ in range(n)])

    remote = ray.remote(num_cpus=0)(Submitter)
    clients = [remote.remote() for _ in range(CLIENTS)]
    return Prepared(lambda: ray.get([c.batch.remote(BATCH) for c in clients]), BATCH * CLIENTS)


# ---------------------------------------------------------------- actors


def actor_calls_sync(ray: Any) -> Prepared:
    actor = ray.remote(num_cpus=0)(Actor).remote()
    return Prepared(lambda: ray.get(actor.small_value.remote()))


def actor_calls_async(ray: Any) -> Prepared:
    actor = ray.remote(num_cpus=0)(Actor).remote()
    return Prepared(lambda: ray.get([actor.small_value.remote() for _ in range(BATCH)]), BATCH)


def async_actor_calls_sync(ray: Any) -> Prepared:
    actor = ray.remote(AsyncActor).remote()
    return Prepared(lambda: ray.get(actor.small_value.remote()))


def async_actor_calls_async(ray: Any) -> Prepared:
    actor = ray.remote(AsyncActor).remote()
    return Prepared(lambda: ray.get([actor.small_value.remote() for _ in range(BATCH)]), BATCH)


def n_n_actor_calls(ray: Any) -> Prepared:
    count = max(2, cores() // 2)
    actors = [ray.remote(num_cpus=0)(Actor).remote() for _ in range(count)]

    def work(actors: list[Any]) -> None:
        ray.get([actors[i % count].small_value.remote() for i in range(BATCH)])

    task = ray.remote(work)
    return Prepared(lambda: ray.get([task.remote(actors) for _ in range(CLIENTS)]), BATCH * CLIENTS)


def actors_created(ray: Any) -> Prepared:
    cls = ray.remote(num_cpus=0)(Actor)

    def run() -> None:
        actor = cls.remote()
        ray.get(actor.small_value.remote())

    return Prepared(run)


def placement_groups(ray: Any) -> Prepared:
    module = importlib.import_module(f"{ray.__name__}.util.placement_group")

    def run() -> None:
        groups = [module.placement_group([{"custom": 0.001}]) for _ in range(GROUPS)]
        for group in groups:
            if not group.wait(30):
                raise TimeoutError("a placement group was not made within 30 s")
        for group in groups:
            module.remove_placement_group(group)

    return Prepared(run, GROUPS)


# ---------------------------------------------------------------- objects


def put_small(ray: Any) -> Prepared:
    return Prepared(lambda: ray.put(0))


def get_small(ray: Any) -> Prepared:
    ref = ray.put(0)
    return Prepared(lambda: ray.get(ref))


def wait_1k_refs(ray: Any) -> Prepared:
    task = ray.remote(small_value)

    def run() -> None:
        left = [task.remote() for _ in range(BATCH)]
        for _ in range(BATCH):
            _, left = ray.wait(left)

    return Prepared(run)


def put_gigabytes(ray: Any) -> Prepared:
    import numpy as np

    array = np.arange(LARGE_BYTES // 8, dtype=np.int64)  # touched: reading pages of zeros would cost less
    size_gb = array.nbytes / 1e9
    copy = np.empty_like(array)
    copy[:] = array
    start = time.perf_counter()
    for _ in range(5):
        copy[:] = array
    memcpy = 5 * size_gb / (time.perf_counter() - start)
    del copy
    start = time.perf_counter()
    ray.put(array)
    first = size_gb / (time.perf_counter() - start)
    return Prepared(lambda: ray.put(array), size_gb, {"first put GB/s": first, "warm memcpy GB/s": memcpy})


def get_array(ray: Any) -> Prepared:
    import numpy as np

    ref = ray.remote(np.ones).remote(ARRAY_BYTES // 8)
    ray.wait([ref])
    start = time.perf_counter()
    array = ray.get(ref)
    first_us = (time.perf_counter() - start) * 1e6
    extra = {"first get µs": first_us, "writeable (a copy)": float(array.flags.writeable)}
    del array
    return Prepared(lambda: ray.get(ref), 1, extra)


OPERATIONS: dict[str, Callable[[Any], Prepared]] = {
    "single client tasks sync": tasks_sync,
    "single client tasks async": tasks_async,
    "single client tasks async, 1 KB arg": tasks_with_bytes(1000),
    "single client tasks async, 10 KB arg": tasks_with_bytes(10_000),
    "multi client tasks async": multi_client_tasks,
    "1:1 actor calls sync": actor_calls_sync,
    "1:1 actor calls async": actor_calls_async,
    "1:1 async-actor calls sync": async_actor_calls_sync,
    "1:1 async-actor calls async": async_actor_calls_async,
    "n:n actor calls async": n_n_actor_calls,
    "actors created until first reply": actors_created,
    "placement group create/removal": placement_groups,
    "single client put calls": put_small,
    "single client get calls": get_small,
    "single client wait 1k refs": wait_1k_refs,
    "single client put gigabytes": put_gigabytes,
    "get 10 MB numpy on the node": get_array,
    "busy: single client tasks": tasks_sync,
    "busy: 1:1 actor calls": actor_calls_sync,
}
#: Names that begin so are measured while something else has this share of each core.
UNDER_LOAD, LOAD_SHARE = "busy: ", 0.5


def cores() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def measure(prepared: Prepared, seconds: float) -> tuple[float, int]:
    """Units of work per second, and how often it ran, after a first turn and a warm-up."""
    run, clock = prepared.run, time.perf_counter
    run()
    warm_until, count, start = seconds * WARM_SHARE, 0, clock()
    while True:
        run()
        count += 1
        elapsed = clock() - start
        if count == 1 and elapsed > SLOW * seconds:
            return prepared.per_run / elapsed, 1
        if elapsed >= warm_until:
            break
    step = max(1, int(count / elapsed * seconds / 20))
    count, start = 0, clock()
    while True:
        for _ in range(step):
            run()
        count += step
        elapsed = clock() - start
        if elapsed >= seconds:
            return prepared.per_run * count / elapsed, count


def main() -> None:
    from busy import burning  # the folder of a script is where it finds its modules

    peer, seconds, names = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
    cpus = max(2, cores())
    if peer in ("hpc", "ray"):
        ray: Any = importlib.import_module(peer)
        ray.init(
            address="local", num_cpus=cpus, resources={"custom": 100}, include_dashboard=False, log_to_driver=False
        )
    else:
        from others import OTHERS

        ray = OTHERS[peer]()
        ray.init(cpus)
    for name in names:
        prepared = OPERATIONS[name](ray)
        with burning(LOAD_SHARE) if name.startswith(UNDER_LOAD) else contextlib.nullcontext():
            rate, runs = measure(prepared, seconds)
        record = {"name": name, "rate": rate, "runs": runs, "extra": prepared.extra}
        print("@bench " + json.dumps(record), flush=True)
        del prepared
        gc.collect()
    ray.shutdown()


if __name__ == "__main__":
    main()

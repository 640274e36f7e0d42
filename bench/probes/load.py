"""hpc under load, or with its processes placed: one line ``@bench {json}`` for each figure.

    python load.py workers N SECONDS            sync and async tasks with N workers of this node
    python load.py outstanding N                N tasks submitted, then all results; memory of the driver shown
    python load.py placed free|same|split SECONDS   tasks and actor calls; driver and worker on the same core, or not

A worker is put on its core by a task or call of its own. HPC_SPIN_US of the environment is the spin setting of both.
"""

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hpc

BATCH = 1000


@hpc.remote
def noop() -> bytes:
    return b"ok"


@hpc.remote
def occupied(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


@hpc.remote
def move(cpus: list[int]) -> int:
    return go(cpus)


@hpc.remote
class Actor:
    def small_value(self) -> bytes:
        return b"ok"

    def move(self, cpus: list[int]) -> int:
        return go(cpus)


def go(cpus: list[int]) -> int:
    """All threads of this process to these CPUs."""
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), cpus)
    return os.getpid()


def memory_mb(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1000
    return 0.0


def say(**found: Any) -> None:
    print("@bench " + json.dumps(found), flush=True)


def rate(run: Callable[[], Any], per_run: int, seconds: float) -> float:
    """Per second, after a warm-up of a third of the time."""
    for limit in (seconds / 3, seconds):
        count, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < limit or not count:
            run()
            count += 1
    return count * per_run / elapsed


def both(call: Any, seconds: float) -> dict[str, float]:
    return {
        "sync": rate(lambda: hpc.get(call.remote()), 1, seconds),
        "async": rate(lambda: hpc.get([call.remote() for _ in range(BATCH)]), BATCH, seconds),
    }


def workers(count: int, seconds: float) -> None:
    hpc.init(address="local", num_cpus=count)
    pids = hpc.get([occupied.remote(0.5) for _ in range(count)])
    say(workers=len(set(pids)), **both(noop, seconds))


def outstanding(count: int) -> None:
    hpc.init(address="local", num_cpus=max(2, len(os.sched_getaffinity(0))))
    hpc.get([noop.remote() for _ in range(BATCH)])
    gc.collect()
    before, start = memory_mb("VmRSS"), time.perf_counter()
    refs = [noop.remote() for _ in range(count)]
    submitted, at_submit = time.perf_counter(), memory_mb("VmRSS")
    values = hpc.get(refs)
    ended = time.perf_counter()
    assert len(values) == count and values[-1] == b"ok"
    peak = memory_mb("VmHWM")
    del refs, values
    start_drop = time.perf_counter()
    gc.collect()
    noop.remote()
    say(
        outstanding=count, rate=count / (ended - start), submit_rate=count / (submitted - start), before_mb=before,
        submitted_mb=at_submit, peak_mb=peak, after_mb=memory_mb("VmRSS"), bytes_each=(peak - before) * 1e6 / count,
        drop_s=time.perf_counter() - start_drop,
    )  # fmt: skip


def placed(how: str, seconds: float) -> None:
    hpc.init(address="local", num_cpus=1)
    cpus = sorted(os.sched_getaffinity(0))
    mine, theirs = {"free": (cpus, cpus), "same": (cpus[:1], cpus[:1]), "split": (cpus[:1], cpus[1:2])}[how]
    actor = Actor.options(num_cpus=0).remote()
    assert hpc.get(actor.move.remote(theirs)) != hpc.get(move.remote(theirs))
    go(mine)
    tasks, calls = both(noop, seconds), both(actor.small_value, seconds)
    say(placement=how, **{f"task {k}": v for k, v in tasks.items()}, **{f"call {k}": v for k, v in calls.items()})


if __name__ == "__main__":
    if sys.argv[1] == "workers":
        workers(int(sys.argv[2]), float(sys.argv[3]))
    elif sys.argv[1] == "outstanding":
        outstanding(int(sys.argv[2]))
    else:
        placed(sys.argv[2], float(sys.argv[3]))
    hpc.shutdown()

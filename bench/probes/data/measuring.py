"""What a work costs: CPU time and memory of this process and all below it."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

SAMPLE_S = 0.2
TICKS = os.sysconf("SC_CLK_TCK")


def tree() -> list[int]:
    """This process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                stat = open(f"/proc/{entry.name}/stat").read()
            except OSError:
                continue
            children.setdefault(int(stat[stat.rindex(")") + 2 :].split()[1]), []).append(int(entry.name))
    found, todo = [], [os.getpid()]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def cpu_s() -> float:
    """CPU seconds of the tree, with those of children that have ended and were waited for."""
    total = 0
    for pid in tree():
        try:
            stat = open(f"/proc/{pid}/stat").read()
        except OSError:
            continue
        total += sum(map(int, stat[stat.rindex(")") + 2 :].split()[11:15]))
    return total / TICKS


def pss_mb() -> float:
    """Proportional set size of the tree: memory that processes share counts once."""
    total = 0
    for pid in tree():
        try:
            lines = open(f"/proc/{pid}/smaps_rollup").read().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


class Memory:
    """The largest proportional set size while the block runs, where it is wanted."""

    def __init__(self, wanted: bool) -> None:
        self.peak_mb = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True) if wanted else None

    def _sample(self) -> None:
        while not self._end.is_set():
            self.peak_mb = max(self.peak_mb, pss_mb())
            time.sleep(SAMPLE_S)

    def __enter__(self) -> Memory:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join()


def side_by_side(make: Callable[[Any], Any], work: Callable[[Any], None], argument: Any, count: int = 2) -> float:
    """Seconds of the slower of so many bare processes that work at the same time on what each has made before."""
    fork = multiprocessing.get_context("fork")
    ready, took = fork.Barrier(count), fork.SimpleQueue()

    def one() -> None:
        there = make(argument)
        ready.wait()
        began = time.perf_counter()
        work(there)
        took.put(time.perf_counter() - began)

    processes = [fork.Process(target=one) for _ in range(count)]
    for process in processes:
        process.start()
    found = max(took.get() for _ in processes)
    for process in processes:
        process.join()
    return found

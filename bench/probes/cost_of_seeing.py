"""What it costs tasks that processes count, and that pages of a dashboard are open, in turns within one session.

    python cost_of_seeing.py SECONDS ROUNDS     (for each way in each round; one record for each)

In sessions of their own the ways differ by 1 to 3 % whatever they are, as two sessions that are alike do: how tasks
are shared among workers, and where memory lies, stays for a session. So one session goes from way to way. For the way
without metrics its driver and workers stop counting. What its raylet and head count by themselves goes on: that is
compared by sessions (``looking.py tasks``).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from looking import BATCH, OPEN, Dashboard, a_dashboard, run_tasks, say

import hpc
from hpc.core.node.reap import descendants
from hpc.core.process.current import need_client

WORKERS = 2
#: To open five pages takes the dashboard 30 ms of CPU, once. A page stays open for longer than a measurement.
SETTLE_S, WARM_S = 1.0, 0.03
#: Ways by name: whether driver and workers count, and how many pages are open.
WAYS = {"off": (False, 0), "nobody": (True, 0), "one": (True, 1), "five": (True, len(OPEN))}
#: Reads a number for each line, and has as many pages open from then on.
FOLLOWER = """
import http.client, sys, threading
port, cookie, pages = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
def read(answer):
    try:
        while line := answer.fp.readline():
            if line.startswith(b"data: "):
                seen.release()
    except (OSError, ValueError):
        pass
for wanted in sys.stdin:
    open_now, seen = [], threading.Semaphore(0)
    for page in pages[:int(wanted)]:
        connection = http.client.HTTPConnection("localhost", port, timeout=120)
        connection.request("GET", f"/api/feed/{page}", headers={"cookie": cookie})
        at = connection.sock
        open_now.append((at, connection.getresponse()))
        threading.Thread(target=read, args=(open_now[-1][1],), daemon=True).start()
    for _ in open_now:
        seen.acquire()
    print("follows", flush=True)
    sys.stdin.readline()
    for at, answer in open_now:
        at.shutdown(2)
    print("closed", flush=True)
"""


@hpc.remote
def count(on: bool) -> int:
    """Whether the worker that runs this counts from now on; its process."""
    client = need_client()
    worker = client.hooks
    client.telling.on = on
    worker.tally = client.telling.tally if on else None
    worker._entitle(worker.title.now)
    time.sleep(0.02)
    return os.getpid()


def switch(on: bool) -> None:
    """Let the driver and all workers count, or not."""
    told: set[int] = set()
    while len(told) < WORKERS:
        told.update(hpc.get([count.remote(on) for _ in range(WORKERS)]))
    need_client().telling.on = on


@contextmanager
def a_follower(dashboard: Dashboard) -> Iterator[subprocess.Popen[str]]:
    """A process that has as many pages open as it is told to."""
    command = [sys.executable, "-c", FOLLOWER, str(dashboard.port), dashboard.cookie, *OPEN]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def pages_open(follower: subprocess.Popen[str], pages: int) -> Iterator[None]:
    """As many pages are open inside of it."""
    ask(follower, str(pages), "follows")
    yield
    ask(follower, "close", "closed")


def ask(follower: subprocess.Popen[str], line: str, answer: str) -> None:
    """Tell the follower something, and wait until it is so."""
    assert follower.stdin is not None and follower.stdout is not None
    print(line, file=follower.stdin, flush=True)
    assert follower.stdout.readline() == answer + "\n"


def ran_s(pid: int) -> float:
    """The CPU time of a process, by the clock of the scheduler: that of `times` has steps of 10 ms."""
    found = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        found += int((thread / "schedstat").read_text().split()[0])
    return found / 1e9


def run_for(seconds: float) -> int:
    """Run tasks for some seconds; how many."""
    done, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        run_tasks()
        done += BATCH
    return done


def measure(way: str, seconds: float, ours: list[int], lookers: list[int]) -> None:
    """Run tasks for some seconds, and say what they took. Pages that have just been opened are settled before."""
    run_for(SETTLE_S if WAYS[way][1] else WARM_S)
    began = time.monotonic()
    before, looked = sum(map(ran_s, ours)), sum(map(ran_s, lookers))
    done = run_for(seconds)
    took = time.monotonic() - began
    cpu_us = 1e6 * (sum(map(ran_s, ours)) - before) / done
    say(way=way, rate=done / took, cpu_us=cpu_us, dashboard_share=(sum(map(ran_s, lookers)) - looked) / took)


def main(seconds: float, rounds: int) -> None:
    """All ways in turns, forth and back."""
    hpc.init(address="local", num_cpus=WORKERS)
    for _ in range(50):
        run_tasks()
    with a_dashboard() as dashboard:
        dashboard.enter()
        with a_follower(dashboard) as follower:
            lookers = [dashboard.process.pid, follower.pid]
            ours = [os.getpid(), *(pid for pid in descendants(os.getpid()) if pid not in lookers)]
            for turn in range(rounds):
                for way, (counts, pages) in WAYS.items() if turn % 2 == 0 else reversed(WAYS.items()):
                    switch(counts)
                    with pages_open(follower, pages):
                        measure(way, seconds, ours, lookers)
    hpc.shutdown()


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))

"""How long a session is without a head, and what calls of a detached actor notice: ``heads.py KILLS ACTORS MIB``.

The head of a session with so many detached actors, each made from an argument in its message, all of so many MiB
together, is killed again and again. Each time a name is looked up at once: "answer" is the time from the kill until
that is answered. Meanwhile one thread calls an actor: "slowest call" and how many failed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from statistics import median

import hpc
from hpc.core.node.reap import descendants
from hpc.core.process.current import need_client

INLINE_BYTES = 100_000


@hpc.remote(num_cpus=0, lifetime="detached")
class Kept:
    """It answers."""

    def __init__(self, given: bytes) -> None:
        self.given = given

    def pid(self) -> int:
        """Its process."""
        return os.getpid()


def head_of(supervisor: int) -> int:
    """The process that is the head now, or 0."""
    for pid in descendants(supervisor):
        try:
            if Path(f"/proc/{pid}/comm").read_text().strip() == "hpc-head":
                return pid
        except OSError:
            continue
    return 0


def main(kills: int, actors: int, mib: float) -> dict[str, object]:
    """Run it and say what was measured."""
    hpc.init(address="local", num_cpus=2, object_store_memory=128 << 20, namespace="heads")
    supervisor = int(json.loads(Path(need_client().node_dir, "session.json").read_text())["pid"])
    given = bytes(min(INLINE_BYTES, int(mib * (1 << 20) / actors)))
    made = [Kept.options(name=f"kept {n}").remote(given) for n in range(actors)]
    pids = hpc.get([actor.pid.remote() for actor in made])
    calls: list[float] = []
    failed = 0
    stop = threading.Event()

    def call() -> None:
        nonlocal failed
        while not stop.is_set():
            begin = time.perf_counter()
            try:
                hpc.get(made[0].pid.remote(), timeout=60)
            except hpc.exceptions.HpcError:
                failed += 1
            calls.append(time.perf_counter() - begin)
            time.sleep(0.001)

    caller = threading.Thread(target=call)
    caller.start()
    answers = []
    for n in range(kills):
        time.sleep(0.1)
        begin = time.perf_counter()
        os.kill(head_of(supervisor), signal.SIGKILL)
        hpc.get_actor(f"kept {n % actors}")
        answers.append(time.perf_counter() - begin)
    stop.set()
    caller.join()
    same = hpc.get([actor.pid.remote() for actor in made]) == pids
    hpc.shutdown()
    return {
        "kills": kills, "actors": actors, "answer_s": round(median(answers), 3), "slowest_s": round(max(answers), 3),
        "calls": len(calls), "failed": failed, "slowest_call_s": round(max(calls), 3), "same_processes": same,
    }  # fmt: skip


if __name__ == "__main__":
    words = (sys.argv[1:] + ["20", "10", "1"][len(sys.argv) - 1 :])[:3]
    print("@bench " + json.dumps(main(int(words[0]), int(words[1]), float(words[2]))), flush=True)

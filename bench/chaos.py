"""A checking workload while parts of the session are killed: ``python -m bench.chaos --minutes 10``.

Every few seconds something gets SIGKILL: a worker anywhere, the head, or the raylet, zygote or supervisor of a node
that the driver is not on; a node that is lost is replaced by a new one. Meanwhile tasks with retries, actors that are
restarted (one of them detached), and objects are checked for what is promised: each task gives its one value; an actor
runs each call at least once, and for the first time in order; objects have their content. The exit code is 1 if
anything was lost.

Real processes and real kills: the simulator has the interleavings, this has what it does not model.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hpc
from hpc.core.node.head_restart import MAX_KILLS, RESTART_WINDOW_S
from hpc.core.node.reap import descendants
from hpc.core.wire import KvGet, KvPut
from hpc.launchers.local.group import LocalGroup
from hpc.launchers.session import Session
from hpc.launchers.session_nodes import SessionNode

KINDS = ("worker", "worker", "head", "raylet", "zygote", "supervisor")
#: Longest time that one batch of checks may take; longer counts as lost.
PATIENCE_S = 60.0
CALLS_A_BATCH = 10


@dataclass
class Tally:
    """What was done, killed and lost."""

    kills: collections.Counter[str] = field(default_factory=collections.Counter)
    checks: collections.Counter[str] = field(default_factory=collections.Counter)
    lost: list[str] = field(default_factory=list)
    nodes_replaced: int = 0

    def report(self, seconds: float) -> str:
        """A few lines for people."""
        kills = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kills.items())) or "none"
        checks = ", ".join(f"{count} {kind}" for kind, count in sorted(self.checks.items()))
        lines = [
            f"{seconds:.0f} s: killed {sum(self.kills.values())} ({kills}); {self.nodes_replaced} nodes replaced",
            f"checked: {checks}",
            f"lost: {len(self.lost)}",
            *(f"  {what}" for what in self.lost[:20]),
        ]
        return "\n".join(lines)


def named(root: int, prefix: str) -> list[int]:
    """The processes below one whose name begins so."""
    found = []
    for pid in descendants(root):
        try:
            name = Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            continue
        if name.startswith(prefix):
            found.append(pid)
    return found


class Killer(threading.Thread):
    """Serves the session's channels, kills, and replaces nodes: all in one thread, as `Session` wants it."""

    def __init__(
        self, session: Session, nodes: int, overrides: dict[str, Any], every_s: float, seed: int, tally: Tally
    ) -> None:
        super().__init__(name="killer", daemon=True)
        self.session = session
        self.nodes = nodes
        self.overrides = overrides
        self.every_s = every_s
        self.rng = random.Random(seed)
        self.tally = tally
        self.ending = threading.Event()
        self.pausing = threading.Event()
        self._heads: collections.deque[float] = collections.deque(maxlen=MAX_KILLS - 1)

    def run(self) -> None:
        next_at = time.monotonic() + self.every_s
        while not self.ending.is_set():
            self.session.pump(0.05)
            if self.session.lost:
                self.tally.lost.append(f"the session: {self.session.lost}")
                return
            self._replace()
            if time.monotonic() >= next_at and not self.pausing.is_set():
                self._kill(self.rng.choice(KINDS))
                next_at = time.monotonic() + self.every_s * (0.5 + self.rng.random())

    def _replace(self) -> None:
        there = [n for n in self.session.nodes.values() if n.state != "gone"]
        for _ in range(self.nodes - len(there)):
            self.session.add_group(LocalGroup(1), overrides=self.overrides)
            self.tally.nodes_replaced += 1

    def _kill(self, kind: str) -> None:
        ready = self.session.ready()
        others = [n for n in ready if n is not self.session.head]
        pids: list[int]
        if kind == "worker":
            pids = [pid for n in ready for pid in named(self._supervisor(n), "hpc::")]
        elif kind == "head":
            now = time.monotonic()
            if len(self._heads) == self._heads.maxlen and now - self._heads[0] < RESTART_WINDOW_S:
                return
            assert self.session.head is not None
            pids = named(self._supervisor(self.session.head), "hpc-head")
            self._heads.append(now)
        elif len(others) < self.nodes - 1:
            return  # one node at a time: enough are to be left for the work
        elif kind == "supervisor":
            pids = [self._supervisor(n) for n in others]
        else:
            pids = [pid for n in others for pid in named(self._supervisor(n), f"hpc-{kind}")]
        if pids:
            try:
                os.kill(self.rng.choice(pids), signal.SIGKILL)
            except ProcessLookupError:
                return
            self.tally.kills[kind] += 1

    def _supervisor(self, node: SessionNode) -> int:
        return int(node.hello["pid"])


@hpc.remote(max_retries=-1)
def square(n: int, seconds: float) -> int:
    """A task with a value that can be checked."""
    time.sleep(seconds)
    return n * n


@hpc.remote(max_retries=-1)
def block(n: int) -> bytes:
    """A value that lies in the arena of the node that made it."""
    return bytes([n % 251]) * 300_000


@hpc.remote(max_retries=-1)
def total(data: bytes) -> int:
    """What is in a block."""
    return len(data) * data[0]


@hpc.remote(max_restarts=-1, max_task_retries=-1, num_cpus=0)
class Log:
    """An actor that writes down each call in a file, which outlives it."""

    def __init__(self, path: str) -> None:
        self.file = open(path, "a", buffering=1)

    def add(self, n: int) -> int:
        """Write a line."""
        self.file.write(f"{n}\n")
        return n


class Workload:
    """Batches of work, each checked."""

    def __init__(self, folder: str, seed: int, tally: Tally) -> None:
        self.tally = tally
        self.rng = random.Random(seed)
        self.paths = [os.path.join(folder, name) for name in ("log", "detached")]
        detached = Log.options(name="detached", lifetime="detached")  # the head owns it, which is killed as well
        self.logs = [Log.options(name="log").remote(self.paths[0]), detached.remote(self.paths[1])]
        self.short = Log.options(lifetime="detached")
        self.calls = 0
        self.batch_number = 0
        self.kept = [(hpc.put(bytes([n]) * 200_000), 200_000 * n) for n in range(4)]

    def batch(self) -> None:
        """A second or so of work."""
        self.batch_number += 1
        try:
            self._batch()
        except Exception as error:
            self.tally.lost.append(f"batch {self.batch_number}: {type(error).__name__}: {str(error)[:300]}")

    def _batch(self) -> None:
        rng, tally = self.rng, self.tally
        numbers = [rng.randrange(1000) for _ in range(20)]
        tasks = [square.remote(n, rng.choice([0.0, 0.01, 0.1])) for n in numbers]
        calls = [log.add.remote(self.calls + k) for log in self.logs for k in range(CALLS_A_BATCH)]
        short = self.short.remote(os.devnull)
        once = short.add.remote(self.batch_number)
        blocks = [rng.randrange(1, 250) for _ in range(4)]
        totals = [total.remote(block.remote(n)) for n in blocks]
        kept = [(total.remote(ref), expected) for ref, expected in self.kept]
        key = b"%d" % self.batch_number
        client = hpc.api.connection.ensure_client()
        put = client.conversation.ask_head(lambda req: KvPut(req, "chaos", key, key, False))
        self._same("keys", int(put.data) > 0, True)  # the version of a key that is new
        self._same("tasks", hpc.get(tasks, timeout=PATIENCE_S), [n * n for n in numbers])
        self._same("blocks", hpc.get(totals, timeout=PATIENCE_S), [300_000 * (n % 251) for n in blocks])
        self._same("kept objects", hpc.get([r for r, _ in kept], timeout=PATIENCE_S), [e for _, e in kept])
        expected = list(range(self.calls, self.calls + CALLS_A_BATCH))
        self.calls += CALLS_A_BATCH
        self._same("calls", hpc.get(calls, timeout=PATIENCE_S), expected * len(self.logs))
        self._same("short lives", hpc.get(once, timeout=PATIENCE_S), self.batch_number)
        hpc.kill(short)
        self._same("keys", client.conversation.ask_head(lambda req: KvGet(req, "chaos", key)).data, key)
        found = [hpc.get_actor(name).add.remote(-1) for name in ("log", "detached")]
        self._same("names", hpc.get(found, timeout=PATIENCE_S), [-1, -1])
        tally.checks["batches"] += 1

    def _same(self, what: str, found: Any, expected: Any) -> None:
        self.tally.checks[what] += len(expected) if isinstance(expected, list) else 1
        if found != expected:
            self.tally.lost.append(f"{what}: {str(found)[:200]} instead of {str(expected)[:200]}")

    def check_log(self) -> None:
        """Each call of each actor at least once, and for the first time in order."""
        for path in self.paths:
            self._check_log(path)

    def _check_log(self, path: str) -> None:
        lines = [int(line) for line in Path(path).read_text().split()]
        first = list(dict.fromkeys(n for n in lines if n >= 0))
        if first != sorted(first):
            early = [n for n, right in zip(first, sorted(first)) if n != right]
            self.tally.lost.append(f"the order of calls in {path}, from {early[:5]} on")
        missing = set(range(self.calls)) - set(first)
        if missing and not self.tally.lost:
            self.tally.lost.append(f"calls {sorted(missing)[:10]} in {path}")


def chaos(seconds: float, nodes: int = 3, every_s: float = 3.0, seed: int = 0, least: int = 0) -> Tally:
    """Run it, for longer where a slow machine has not come to ``least`` kills and batches by then; the tally says what
    came of it."""
    tally = Tally()
    overrides = {"num_cpus": 2, "object_store_bytes": 128 << 20}
    session = Session(LocalGroup(nodes), overrides=overrides, config={"loopback": True})
    session.start()
    try:
        session.wait_ready(60.0)
        hpc.init(address=session.local_dir())
        killer = Killer(session, nodes, overrides, every_s, seed, tally)
        with tempfile.TemporaryDirectory(prefix="hpc-chaos-") as folder:
            work = Workload(folder, seed, tally)
            work.batch()
            killer.start()
            deadline = time.monotonic() + seconds
            while killer.is_alive() and len(tally.lost) < 20:
                few = min(tally.kills.total(), tally.checks["batches"]) < least
                if time.monotonic() > deadline + few * PATIENCE_S:
                    break
                work.batch()
            killer.pausing.set()
            work.batch()
            work.check_log()
            killer.ending.set()
            killer.join(30.0)
    finally:
        hpc.shutdown()
        session.stop(2.0)
    return tally


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description="Kill parts of a session that works.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--every", type=float, default=3.0, help="seconds between two kills, on average")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    given = parser.parse_args(argv)
    begin = time.monotonic()
    print(f"seed {given.seed}", flush=True)
    tally = chaos(given.minutes * 60, given.nodes, given.every, given.seed)
    print(tally.report(time.monotonic() - begin))
    return 1 if tally.lost else 0


if __name__ == "__main__":
    sys.exit(main())

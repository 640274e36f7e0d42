"""The object store under hostile conditions: ``python -m bench.arena --minutes 5``.

A session in a memory cgroup of 512 MB of its own (where this user may make one) keeps its arena full. Tasks and the
driver put and read objects of 1 KB to 64 MB with checksums, while workers get SIGSTOP and SIGCONT, or SIGKILL, at any
time, also while they write; some tasks fork children that go on reading views after their worker was killed. Wrong
are: a checksum that differs, SIGBUS, a process that the kernel ended for want of memory, an error that no kill
explains, and bytes in use at the end. The exit code is 1 then.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import hpc
from bench.cgroup import Watch, memory_cgroup, run_inside
from hpc import exceptions
from hpc.core.ids import raylet_of
from hpc.core.node.reap import descendants
from hpc.state.gather import ask

MIB = 1 << 20
CGROUP_BYTES = 512 * MIB
STORE_BYTES = 128 * MIB
#: Bytes of objects that are kept: so much more than the store has that it is always full.
KEPT_BYTES = 400 * MIB
#: Bytes that the driver reads all the time: at times more is read than the store has memory.
VIEWED_BYTES = 70 * MIB
PATIENCE_S = 60.0
#: What a kill explains.
EXPLAINED = (exceptions.WorkerCrashedError, exceptions.OwnerDiedError, exceptions.OutOfMemoryError)


@dataclass
class Tally:
    """What was done, and what was wrong."""

    done: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    full_share: float = 0.0
    #: Why there is no cgroup; empty if there is one.
    no_cgroup: str = ""
    peak_bytes: int = 0
    kernel_kills: int = 0

    def report(self, seconds: float) -> str:
        """A few lines for people."""
        limit = (
            f"no cgroup: {self.no_cgroup}"
            if self.no_cgroup
            else (
                f"at most {self.peak_bytes // MIB} of {CGROUP_BYTES // MIB} MiB in the cgroup, "
                f"{self.kernel_kills} ended by the kernel"
            )
        )
        lines = [
            f"{seconds:.0f} s: {', '.join(f'{count} {what}' for what, count in sorted(self.done.items()))}",
            f"{self.full_share:.1%} of the store in use on average; {limit}",
            f"wrong: {len(self.wrong)}",
            *(f"  {what}" for what in self.wrong[:20]),
        ]
        return "\n".join(lines)


def content(seed: int, size: int) -> Any:
    """An array that is known by its seed."""
    return np.frombuffer(np.random.default_rng(seed).bytes(size), np.uint8)


def size_of(seed: int) -> int:
    """1 KB to 64 MB, each order of magnitude equally often up to 8 MB, and seldom more."""
    rng = random.Random(seed)
    return int(2 ** rng.uniform(10, 23 if rng.random() < 0.93 else 26))


# ---------------------------------------------------------------- the tasks


@hpc.remote(max_retries=20)
def make(seed: int) -> Any:
    """A new object, and its checksum."""
    value = content(seed, size_of(seed))
    return value, zlib.crc32(value)


@hpc.remote(max_retries=20)
def check(seed: int, expected: int, value: Any) -> str:
    """What is wrong with an object, read as an argument."""
    found = zlib.crc32(value)
    return "" if found == expected else f"object {seed} of {value.nbytes} bytes: {found} instead of {expected}"


@hpc.remote(max_retries=20)
def hold(seconds: float, refs: list[Any], expected: list[int]) -> str:
    """The same with views of several that are held for a while."""
    values = hpc.get(refs)
    time.sleep(seconds)
    bad = [i for i, value in enumerate(values) if zlib.crc32(value) != expected[i]]
    return f"objects {bad} of {len(refs)} that were held" if bad else ""


@hpc.remote(max_retries=0)
def fork(expected: int, value: Any, path: str, seconds: float) -> None:
    """A child goes on reading the object after this worker was killed."""
    if os.fork():
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        with open(path, "w") as file:
            faulthandler.enable(file)
            file.write("begun\n")
            file.flush()
            until = time.monotonic() + seconds
            while True:
                if zlib.crc32(value) != expected:
                    file.write("differs\n")
                    break
                if time.monotonic() > until:
                    file.write("same\n")
                    break
                time.sleep(0.02)
    finally:
        os._exit(0)


# ---------------------------------------------------------------- who disturbs


class Disturber(threading.Thread):
    """Stops, continues and kills workers."""

    def __init__(self, every_s: float, seed: int, done: collections.Counter[str]) -> None:
        super().__init__(name="disturber", daemon=True)
        self.every_s = every_s
        self.rng = random.Random(seed)
        self.done = done
        self.ending = threading.Event()

    def run(self) -> None:
        while not self.ending.wait(self.every_s * (0.5 + self.rng.random())):
            workers = [pid for pid in descendants(os.getpid()) if _name(pid).startswith("hpc::")]
            if not workers:
                continue
            pid = self.rng.choice(workers)
            if self.rng.random() < 0.6:
                self.done["stops"] += _signal(pid, signal.SIGSTOP)
                self.ending.wait(self.rng.random() * 0.7)
                _signal(pid, signal.SIGCONT)
            else:
                self.done["kills"] += _signal(pid, signal.SIGKILL)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _signal(pid: int, number: int) -> int:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return 0
    return 1


# ---------------------------------------------------------------- the work


class Work:
    """What the driver does: everything that it keeps has a checksum."""

    def __init__(self, folder: str, seed: int, tally: Tally, done: collections.Counter[str]) -> None:
        self.folder = folder
        self.rng = random.Random(seed)
        self.tally = tally
        self.done = done
        self.kept: dict[int, tuple[Any, int]] = {}
        self.kept_bytes = 0
        self.views: list[tuple[int, Any, int]] = []
        self.seed = seed * 1_000_000
        self.shares: list[float] = []
        self.forks: list[str] = []

    def _new_seed(self) -> int:
        self.seed += 1
        return self.seed

    def _explained(self, error: Exception) -> bool:
        """Whether a kill explains it; anything else is wrong."""
        text = str(error)
        fine = isinstance(error, EXPLAINED) and "SIGBUS" not in text and "Bus" not in text
        if not fine:
            self.tally.wrong.append(f"{type(error).__name__}: {text[:300]}")
        return fine

    def batch(self) -> None:
        """Make, put, read, hold and fork a few; forget the oldest."""
        made = {seed: make.options(num_returns=2).remote(seed) for seed in [self._new_seed() for _ in range(4)]}
        for _ in range(2):
            seed = self._new_seed()
            if size_of(seed) <= 16 * MIB:
                value = content(seed, size_of(seed))
                self._keep(seed, hpc.put(value), zlib.crc32(value))
                self.done["puts"] += 1
        reads = self._reads()
        for seed, (ref, crc) in made.items():
            try:
                self._keep(seed, ref, hpc.get(crc, timeout=PATIENCE_S))
                self.done["results"] += 1
            except Exception as error:
                self._explained(error)
        for ref in reads:
            try:
                bad = hpc.get(ref, timeout=PATIENCE_S)
                self.done["reads"] += 1
                if bad:
                    self.tally.wrong.append(bad)
            except Exception as error:
                self.done["explained errors"] += self._explained(error)
        self._read_here()
        self._forget()
        stats = self.stats()
        self.shares.append(stats["used_bytes"] / stats["capacity_bytes"])
        self.done["MiB on disk for readers, at most"] = max(
            self.done["MiB on disk for readers, at most"], stats["overflow_bytes"] // MIB
        )

    def _reads(self) -> list[Any]:
        reads: list[Any] = []
        if not self.kept:
            return reads
        for seed in self.rng.choices(list(self.kept), k=5):
            ref, crc = self.kept[seed]
            reads.append(check.remote(seed, crc, ref))
        some = self.rng.sample(list(self.kept), min(3, len(self.kept)))
        refs, crcs = [self.kept[s][0] for s in some], [self.kept[s][1] for s in some]
        reads.append(hold.remote(self.rng.random() * 0.5, refs, crcs))
        if self.rng.random() < 0.3:
            ref, crc = self.kept[self.rng.choice(list(self.kept))]
            self.forks.append(os.path.join(self.folder, f"fork{len(self.forks)}"))
            reads.append(fork.remote(crc, ref, self.forks[-1], 0.2 + self.rng.random()))
        return reads

    def _read_here(self) -> None:
        for seed in self.rng.sample(list(self.kept), min(3, len(self.kept))):
            ref, crc = self.kept[seed]
            try:
                value = hpc.get(ref, timeout=PATIENCE_S)
                if zlib.crc32(value) != crc:
                    self.tally.wrong.append(f"object {seed} differs in the driver")
                self.views.append((seed, value, crc))
                value = None
                self.done["reads"] += 1
            except Exception as error:
                self._explained(error)

    def _keep(self, seed: int, ref: Any, crc: int) -> None:
        self.kept[seed] = (ref, crc)
        self.kept_bytes += size_of(seed)

    def _forget(self) -> None:
        while sum(value.nbytes for _, value, _ in self.views) > VIEWED_BYTES:
            seed, value, crc = self.views.pop(self.rng.randrange(len(self.views)))
            if zlib.crc32(value) != crc:
                self.tally.wrong.append(f"object {seed} differs after the driver has held it")
            value = None
        while self.kept_bytes > KEPT_BYTES:
            seed = next(iter(self.kept)) if self.rng.random() < 0.5 else self.rng.choice(list(self.kept))
            del self.kept[seed]
            self.kept_bytes -= size_of(seed)

    def fill(self) -> None:
        """Put until the arena is full."""
        while self.kept_bytes < KEPT_BYTES // 2:
            seed = self._new_seed()
            if MIB <= size_of(seed) <= 8 * MIB:
                value = content(seed, size_of(seed))
                self._keep(seed, hpc.put(value), zlib.crc32(value))

    @staticmethod
    def stats() -> dict[str, int]:
        """What the raylet says of its store."""
        hpc.api.connection.ensure_client().flush()
        found: dict[str, int]
        (found,) = ask([raylet_of(1)], "store_totals", timeout_s=30.0).rows
        return found

    def end(self) -> None:
        """All is let go; then nothing may be in use."""
        before = self.stats()
        for what in ("spilled_objects", "restored_objects", "disk_errors"):
            self.done[what.replace("_", " ")] = before[what]
        self.kept.clear()
        self.views.clear()
        deadline = time.monotonic() + 20.0
        while True:
            left = self.stats()
            used = {k: left[k] for k in ("used_bytes", "overflow_bytes", "disk_bytes", "objects", "waiting") if left[k]}
            if not used or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        if used:
            self.tally.wrong.append(f"at the end there are still {used}")
        for path in self.forks:
            text = Path(path).read_text() if os.path.exists(path) else ""
            self.done["forks that read to their end"] += "same" in text
            if text and text not in ("begun\n", "begun\nsame\n"):  # one that was killed has only begun
                self.tally.wrong.append(f"a forked child: {text[:300]}")


def inside(seconds: float, seed: int, every_s: float, least: Mapping[str, int]) -> Tally:
    """The session and its work, in whatever cgroup this process is. It goes on where a slow machine has done less by
    then than ``least``."""
    tally = Tally()
    done: collections.Counter[str] = collections.Counter()
    hpc.init(address="local", num_cpus=2, object_store_memory=STORE_BYTES)
    disturber = Disturber(every_s, seed, done)
    try:
        with tempfile.TemporaryDirectory(prefix="hpc-arena-") as folder:
            work = Work(folder, seed, tally, done)
            work.fill()
            disturber.start()
            deadline = time.monotonic() + seconds
            while len(tally.wrong) < 20:
                few = any(done[what] < count for what, count in least.items())
                if time.monotonic() > deadline + few * PATIENCE_S:
                    break
                work.batch()
            disturber.ending.set()
            disturber.join(5.0)
            work.end()
            tally.full_share = sum(work.shares) / max(1, len(work.shares))
    finally:
        disturber.ending.set()
        hpc.shutdown()
    tally.done = dict(done)
    return tally


# ---------------------------------------------------------------- the session in its cgroup


def arena(seconds: float, seed: int = 0, every_s: float = 0.7, least: Mapping[str, int] | None = None) -> Tally:
    """Run it in a process of its own; the tally says what came of it. ``least``: see `inside`."""
    with memory_cgroup(CGROUP_BYTES) as (version, folder, why):
        command = [sys.executable, "-m", "bench.arena", "--inside", "--minutes", str(seconds / 60)]
        command += ["--seed", str(seed), "--every", str(every_s), "--least", json.dumps(least or {})]
        with Watch(version, folder) as seen:
            result = run_inside(folder, command, timeout_s=seconds + 240)
        lines = result.stdout.splitlines()
        try:
            tally = Tally(**json.loads(lines[-1]))
        except (IndexError, ValueError, TypeError):
            tally = Tally(wrong=[f"the driver ended with {result.returncode}: {lines[-5:]}"])
        tally.no_cgroup, tally.peak_bytes, tally.kernel_kills = why, seen.peak_bytes, seen.kills
        if tally.kernel_kills:
            tally.wrong.append(f"the kernel ended {tally.kernel_kills} processes for want of memory")
    return tally


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.arena", description="The object store when all goes wrong.")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--every", type=float, default=0.7, help="seconds between two disturbances, on average")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000)
    parser.add_argument("--inside", action="store_true", help="in the cgroup that this process is in; prints JSON")
    parser.add_argument("--least", type=json.loads, default={}, help="go on until so much is done; JSON")
    given = parser.parse_args(argv)
    if given.inside:
        tally = inside(given.minutes * 60, given.seed, given.every, given.least)
        print(json.dumps(vars(tally)), flush=True)
        return 0
    begin = time.monotonic()
    print(f"seed {given.seed}", flush=True)
    tally = arena(given.minutes * 60, given.seed, given.every, given.least)
    print(tally.report(time.monotonic() - begin))
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())

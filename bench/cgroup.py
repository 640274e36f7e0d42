"""A memory cgroup for one command, of version 1 or 2, and what the kernel says of it."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hpc.core.node.detect import cgroup_chain

LOOK_S = 0.1


@contextmanager
def memory_cgroup(limit_bytes: int) -> Iterator[tuple[int, str, str]]:
    """A memory cgroup below this process's own: (version, folder, why there is none)."""
    chain = cgroup_chain("memory")
    if not chain:
        yield 0, "", "there is no memory cgroup here"
        return
    version, parent = chain[0]
    folder = os.path.join(parent, f"hpc-bench-{os.getpid()}")
    try:
        if version == 2 and "memory" not in Path(parent, "cgroup.subtree_control").read_text().split():
            Path(parent, "cgroup.subtree_control").write_text("+memory")
        os.mkdir(folder)
    except OSError as error:
        yield 0, "", f"{parent} allows none below it ({error.strerror})"
        return
    try:
        Path(folder, "memory.max" if version == 2 else "memory.limit_in_bytes").write_text(str(limit_bytes))
        yield version, folder, ""
    finally:
        for _ in range(100):  # the kernel lets go of its last processes a little later
            try:
                os.rmdir(folder)
                break
            except OSError:
                time.sleep(0.05)


@dataclass
class Seen:
    """What the kernel says of a cgroup. ``peak_bytes``: the most that was in use, with the cache of files;
    ``used_bytes``: the most without what can be given back at once. ``kills``: processes ended for want of memory."""

    peak_bytes: int = 0
    used_bytes: int = 0
    kills: int = 0


def in_use(version: int, folder: str) -> int:
    """The bytes of a cgroup that cannot be given back at once: all but the cache of files."""
    name, cache = (
        ("memory.current", "inactive_file") if version == 2 else ("memory.usage_in_bytes", "total_inactive_file")
    )
    stat = dict(line.split() for line in Path(folder, "memory.stat").read_text().splitlines())
    active = cache.replace("inactive", "active")
    return max(0, int(Path(folder, name).read_text()) - int(stat.get(cache, 0)) - int(stat.get(active, 0)))


class Watch:
    """Looks at the memory of a cgroup while the block runs."""

    def __init__(self, version: int, folder: str) -> None:
        self.seen = Seen()
        self._version, self._folder = version, folder
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._end.wait(LOOK_S):
            self.seen.used_bytes = max(self.seen.used_bytes, in_use(self._version, self._folder))

    def __enter__(self) -> Seen:
        if self._folder:
            self._thread.start()
        return self.seen

    def __exit__(self, *error: object) -> None:
        if not self._folder:
            return
        self._end.set()
        self._thread.join()
        two = self._version == 2
        words = Path(self._folder, "memory.events" if two else "memory.oom_control").read_text().split()
        self.seen.kills = int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else 0
        peak = Path(self._folder, "memory.peak" if two else "memory.max_usage_in_bytes")
        self.seen.peak_bytes = int(peak.read_text()) if peak.exists() else 0


def run_inside(folder: str, command: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    """A command in a cgroup ("": in this process's own). Its output is taken, what it says to people is not."""

    def enter() -> None:
        if folder:
            Path(folder, "cgroup.procs").write_text(str(os.getpid()))

    return subprocess.run(
        command, stdout=subprocess.PIPE, text=True, preexec_fn=enter, cwd=Path(__file__).parents[1], timeout=timeout_s
    )

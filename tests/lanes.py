"""The tests in several processes side by side: most of them wait most of the time, and leave the processors idle.

    python tests/lanes.py [arguments of pytest]

Each lane is a pytest of its own. It collects all tests, and takes one file after the other that no lane has taken yet.
So lanes end at about the same time. HPC_TEST_LANES says how many there are (two, or one where there is one processor).
With one lane this is pytest and nothing else.

/dev/shm and network namespaces belong to the machine. With several lanes nobody can say whose test has left something
there, so the tests do not look (HPC_TEST_SHARED_MACHINE): it is looked for here, when all lanes have ended.

Rejected: pytest-xdist. Tests would run in a process that has threads and pipes of its own, and what such a process
forks, signals and inherits is the subject of many.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: The folder of the claims of a run; where it is set, this module is a plugin of pytest.
CLAIMS = "HPC_TEST_CLAIMS"
MACHINES = ("/dev/shm", "/run/netns")
PATIENCE_S = float(os.environ.get("HPC_TEST_LEFT_S", 60.0))


class Claims:
    """The files that lanes have taken: an empty file of a folder for each."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self._mine: dict[str, bool] = {}

    def take(self, item: pytest.Item) -> bool:
        """Whether this lane runs the test: it was the first to ask for one of its kind."""
        name = group_of(item)
        if name not in self._mine:
            try:
                (self.folder / name.replace("/", "+")).touch(exist_ok=False)
                self._mine[name] = True
            except FileExistsError:
                self._mine[name] = False
        return self._mine[name]


def group_of(item: pytest.Item) -> str:
    """Tests that share what is dear to make run in one lane: those of a file, and of a scheduler in it."""
    spec = getattr(item, "callspec", None)
    bed = spec.params.get("any_bed", "") if spec is not None else ""
    return f"{item.nodeid.partition('::')[0]} {bed}".strip()


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the tests that no other lane has taken."""
    if CLAIMS not in os.environ or session.testsfailed or session.config.option.collectonly:
        return None
    claims = Claims(os.environ[CLAIMS])
    mine = (item for item in session.items if claims.take(item))
    item = next(mine, None)
    while item is not None:
        after = next(mine, None)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        item = after
    return True


def on_machine() -> set[str]:
    """What could be left on this machine beside processes and folders."""
    return {f"{folder}/{name}" for folder in MACHINES if os.path.isdir(folder) for name in os.listdir(folder)}


def left_on_machine(before: set[str]) -> list[str]:
    """What is there beyond that, after the time that things may take to end."""
    deadline = time.monotonic() + PATIENCE_S
    while (more := on_machine() - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    return sorted(more)


def main(arguments: Sequence[str]) -> int:
    """Run the tests; the exit code of the lane that fared worst."""
    command = [sys.executable, "-m", "pytest", *arguments]
    lanes = int(os.environ.get("HPC_TEST_LANES") or min(2, os.cpu_count() or 1))
    if lanes < 2:
        return subprocess.call(command)
    shared = bool(os.environ.get("HPC_TEST_SHARED_MACHINE"))
    before = on_machine()
    with tempfile.TemporaryDirectory(prefix="hpct-claims-") as claims:
        env = {**os.environ, CLAIMS: claims, "HPC_TEST_SHARED_MACHINE": "1"}
        running = [Lane(number, command, env) for number in range(1, lanes + 1)]
        codes = [lane.end() for lane in running]
    left = [] if shared else left_on_machine(before)
    if left:
        print("left behind by the whole run:\n  " + "\n  ".join(left))
    return max([*codes, int(bool(left))])


class Lane:
    """One pytest; its lines come out as they are written, behind its number."""

    def __init__(self, number: int, command: Sequence[str], env: dict[str, str]) -> None:
        self.number = number
        plugins = ["-p", "tests.lanes", *([] if number == 1 else ["-p", "no:cacheprovider"])]
        self._process = subprocess.Popen(
            [*command, *plugins],
            cwd=ROOT,
            env=env,
            text=True,
            errors="replace",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self._relay)
        self._reader.start()

    def _relay(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            print(f"{self.number}  {line}", end="", flush=True)

    def end(self) -> int:
        """Wait for it; its exit code."""
        code = self._process.wait()
        self._reader.join()
        return 1 if code < 0 else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

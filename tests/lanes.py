"""The tests in several processes side by side: most of them wait most of the time, and leave the processors idle.

    python tests/lanes.py [arguments of pytest]

Each lane is a pytest of its own. It takes one file after the other that no lane has taken yet, and collects it then.
So lanes end at about the same time. HPC_TEST_LANES says how many there are (two, or one where there is one processor).
With one lane this is pytest and nothing else.

Tests with sessions leave a quarter of the processors idle. One lane more, with less priority, takes the files without
sessions meanwhile, the last one first. Those compute, and take what the others leave. When there are none left, a lane
like the first ones comes in its place.

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
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: The folder of the claims of a run; where it is set, this module is a plugin of pytest.
CLAIMS = "HPC_TEST_CLAIMS"
#: Set for the lane with less priority.
BACK = "HPC_TEST_BACK"
NICE = 5
#: The folders whose tests start sessions.
WITH_SESSIONS = frozenset({"runtime", "schedulers", "faults", "compat", "serve", "rllib"})
MACHINES = ("/dev/shm", "/run/netns")
PATIENCE_S = float(os.environ.get("HPC_TEST_LEFT_S", 60.0))


class Claims:
    """What lanes have taken: an empty file of a folder for each."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self._mine: dict[str, bool] = {}

    def take(self, name: str) -> bool:
        """Whether this lane has it: it was the first to ask."""
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


class InLane:
    """The plugin of a lane: it collects a file when it has taken it, so that each is imported in one lane.

    back: from the last one on, and none with sessions.
    """

    def __init__(self, claims: Claims, back: bool = False) -> None:
        self.claims = claims
        self.back = back
        self._files: list[pytest.Item | pytest.Collector] = []

    def pytest_collection(self, session: pytest.Session) -> None:
        """Find the files. With a choice among the tests (-k, -m) all are collected, as pytest does."""
        if session.config.option.keyword or session.config.option.markexpr:
            return
        collect = session.perform_collect

        def keep(node: pytest.Item | pytest.Collector) -> Iterator[pytest.Item]:
            self._files.extend(_files_of(node))
            return iter(())

        def find() -> None:
            # While pytest collects, folders bring the fixtures of their conftest. It forgets those of the others then.
            session.genitems = keep  # type: ignore[method-assign]
            try:
                collect()
            finally:
                del session.genitems
            if self.back:
                self._files = [each for each in reversed(self._files) if WITH_SESSIONS.isdisjoint(each.path.parts)]

        session.perform_collect = find  # type: ignore[assignment]  # the hook itself has other users

    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Run the tests that no other lane has taken."""
        if session.testsfailed:
            return None
        mine = self._mine(session)
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

    def _mine(self, session: pytest.Session) -> Iterator[pytest.Item]:
        chosen = () if self.back else session.items
        yield from (item for item in chosen if self.claims.take(group_of(item)))
        while self._files:
            file = self._files.pop(0)
            if not _is_divided(file) and not self.claims.take(file.nodeid.partition("::")[0]):
                continue
            items = list(session.genitems(file))
            session.config.hook.pytest_collection_modifyitems(session=session, config=session.config, items=items)
            session.testscollected += len(items)
            session.config.hook.pytest_collection_finish(session=session)
            yield from (item for item in items if self.claims.take(group_of(item)))


def _files_of(node: pytest.Item | pytest.Collector) -> Iterator[pytest.Item | pytest.Collector]:
    """The files below it, none of them imported."""
    if isinstance(node, (pytest.Item, pytest.File)):
        yield node
        return
    report = node.ihook.pytest_make_collect_report(collector=node)
    node.ihook.pytest_collectreport(report=report)
    for below in report.result if report.passed else ():
        yield from _files_of(below)


def _is_divided(file: pytest.Item | pytest.Collector) -> bool:
    """Whether lanes share the tests of a file."""
    return "any_bed" in file.path.read_text()


def pytest_configure(config: pytest.Config) -> None:
    """Where this module is a plugin of a lane."""
    if CLAIMS in os.environ and not config.option.collectonly:
        back = BACK in os.environ
        if back:
            os.nice(NICE)
        config.pluginmanager.register(InLane(Claims(os.environ[CLAIMS]), back), "in-lane")


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
        env.pop(BACK, None)
        running = [Lane(number, command, env) for number in range(1, lanes + 1)]
        back = Lane(lanes + 1, command, {**env, BACK: "1"})
        codes = [back.end()]
        if any(lane.runs() for lane in running):
            running.append(Lane(lanes + 2, command, env))
        codes += [lane.end() for lane in running]
    left = [] if shared else left_on_machine(before)
    if left:
        print("left behind by the whole run:\n  " + "\n  ".join(left))
    codes = [code for code in codes if code != pytest.ExitCode.NO_TESTS_COLLECTED] or codes  # others were faster
    return max([*codes, int(bool(left))])


class Lane:
    """One pytest; its lines come out as they are written, behind its number."""

    def __init__(self, number: int, command: Sequence[str], env: dict[str, str]) -> None:
        self.number = number
        plugins = [
            "-p",
            "tests.lanes",
            "-o",
            "console_output_style=count",
            *([] if number == 1 else ["-p", "no:cacheprovider"]),
        ]
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

    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def end(self) -> int:
        """Wait for it; its exit code."""
        code = self._process.wait()
        self._reader.join()
        return 1 if code < 0 else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

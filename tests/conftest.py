"""Every test that starts processes ends them: a leak fails the test that made it.

After each test in runtime/, schedulers/ and faults/, and after each of their modules, there is no new process below
this one, no node directory, no entry in /dev/shm and no network namespace; things get a bounded time to end. A
process below one that was there before belongs to that one: a session of the whole module may start a worker in
any of its tests, and is judged when the module ends. This process becomes a
subreaper, so that orphans stay below it and count. Node directories go to a base directory of this run
(HPC_TMPDIR), so that other people's sessions on the machine do not count.  /dev/shm and namespaces are the
machine's: where other test runs go on beside this one, HPC_TEST_SHARED_MACHINE=1 leaves those two out. The whole run
leaves no new file beside the repository's.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

from hpc.core.node import rundir
from hpc.core.node.process import become_subreaper
from hpc.core.node.reap import descendants, is_running, reap_ended, signal_all
from hpc.launchers.local.group import BEARERS, Bearer
from hpc.launchers.local.nursery import keep_nursery
from hpc.settings.preloaded import PRELOADED
from tests.lanes import WITH_SESSIONS

PATIENCE_S = 60.0
LOOK_AGAIN_S = 0.01
BASE_PREFIX = "hpct-"
IMPORTS = "HPC_WORKER_IMPORTS"
#: What workers import that read functions of files of tests: 0.1 to 0.2 s of each otherwise.
OF_TESTS = (
    "pytest",
    "hpc.launchers.session",
    "hpc.util.scheduling_strategies",
    "hpc.api.init",
    "hpc.serve.calls.replica",
    "hpc.serve.deployments",
    "hpc.train",
)
SHARED = bool(os.environ.get("HPC_TEST_SHARED_MACHINE"))

# Where Python is told to keep no bytecode (containers do), each process that a test starts would compile all of hpc
# anew: a session of one node takes 0.21 s then instead of 0.13 s. Nodes may be forked from here: this process, too.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# What a shell starts in the background ignores SIGINT, and below nohup SIGHUP. All that tests start would do so too,
# and some of it is sent one.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# How long an example takes is the machine's affair, and says nothing of the code.
hypothesis.settings.register_profile(
    "suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
)
hypothesis.settings.load_profile("suite")

ROOT = Path(__file__).resolve().parents[1]

_base = ""
_at_start: Belongings | None = None
_files_at_start: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Belongings:
    """What could leak, at one moment."""

    processes: frozenset[int]
    directories: frozenset[str]
    shared_memory: frozenset[str]
    namespaces: frozenset[str]

    def beyond(self, before: Belongings) -> list[str]:
        """What there is more than before, in words."""
        return [
            *(f"process {pid}: {_command(pid)}" for pid in sorted(self.new_processes(before))),
            *(f"directory {name}" for name in sorted(self.directories - before.directories)),
            *(f"/dev/shm/{name}" for name in sorted(self.shared_memory - before.shared_memory)),
            *(f"network namespace {name}" for name in sorted(self.namespaces - before.namespaces)),
        ]

    def new_processes(self, before: Belongings) -> set[int]:
        """The processes that are new, without those of sessions that were there before."""
        new = set(self.processes - before.processes)
        for pid in before.processes if new else ():
            new.difference_update(descendants(pid))
        return new


def look() -> Belongings:
    """What there is now."""
    return Belongings(
        processes=frozenset(pid for pid in descendants(os.getpid()) if is_running(pid)),
        directories=frozenset(str(path) for path in Path(_base).glob("hpc-*")) if _base else frozenset(),
        shared_memory=frozenset() if SHARED else _names("/dev/shm"),
        namespaces=frozenset() if SHARED else _names("/run/netns"),
    )


def _names(folder: str) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))
    except OSError:
        return frozenset()


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")[:200]
    except OSError:
        return "(gone)"


def wait_for_leaks(before: Belongings) -> list[str]:
    """What is still there after the time that things may take to end."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        leaks = look().beyond(before)
        if not leaks or time.monotonic() >= deadline:
            return leaks
        time.sleep(LOOK_AGAIN_S)


def end_leaks(before: Belongings) -> None:
    """End what a test left, so that the next ones are judged by their own."""
    now = look()
    signal_all(now.new_processes(before), 9)
    for path in now.directories - before.directories:
        shutil.rmtree(path, ignore_errors=True)


def _sweep_killed_runs() -> None:
    """Remove the base directories of test runs that were killed, unless something in them is alive."""
    for path in Path("/tmp").glob(f"{BASE_PREFIX}*"):
        pid = path.name[len(BASE_PREFIX) :].partition("-")[0]
        if pid.isdigit() and not is_running(int(pid)):
            rundir.sweep(str(path))
            with contextlib.suppress(OSError):
                path.rmdir()


def pytest_sessionstart(session: pytest.Session) -> None:
    global _base, _at_start, _files_at_start
    become_subreaper()
    if "HPC_TMPDIR" not in os.environ:
        _sweep_killed_runs()
        _base = tempfile.mkdtemp(prefix=f"{BASE_PREFIX}{os.getpid()}-", dir="/tmp")
        os.chmod(_base, 0o1777)  # tests on real schedulers run as ordinary users
        os.environ["HPC_TMPDIR"] = _base
    else:
        _base = os.environ["HPC_TMPDIR"]
    _at_start, _files_at_start = look(), _files()


def _files() -> frozenset[str]:
    """What lies in the repository's folder; caches of tools have a dot."""
    return frozenset(name for name in _names(str(ROOT)) if not name.startswith("."))


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    """No garbage is collected while a file is read. A finalizer that prints a traceback has Python 3.11 parse the line,
    and `ast.parse` fails in the middle of another one: of 22,000 tests that hit one file once."""
    gc.disable()
    yield
    gc.enable()


def pytest_collection_finish(session: pytest.Session) -> None:
    gc.collect()
    gc.freeze()  # the thousands of tests stay: to look through them again takes each collection 0.2 s


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if _at_start is None:
        return
    BEARERS.clear()
    for nursery in _nurseries.values():
        if nursery is not None:
            nursery.close()
    leaks = wait_for_leaks(_at_start) + [str(ROOT / name) for name in sorted(_files() - _files_at_start)]
    reap_ended()  # orphans that came to this process; in a container the first process may never do it
    if leaks:
        print("\nleft behind by the whole run:\n  " + "\n  ".join(leaks))
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if _base.startswith(f"/tmp/{BASE_PREFIX}{os.getpid()}-"):
        shutil.rmtree(_base, ignore_errors=True)


_nurseries: dict[str, Bearer | None] = {}


def _use_nursery() -> None:
    """Have nodes of this process forked from one that has imported what they, and their workers, need."""
    imports = os.environ.get(IMPORTS, "")
    if imports not in _nurseries:
        _nurseries[imports] = keep_nursery((*PRELOADED, *OF_TESTS, *imports.split()))
    nursery = _nurseries[imports]
    BEARERS[:] = [nursery] if nursery is not None else []


def _watch(path: Path) -> Iterator[None]:
    if WITH_SESSIONS.isdisjoint(path.parts):
        yield
        return
    _use_nursery()
    before = look()
    yield
    leaks = wait_for_leaks(before)
    if leaks:
        end_leaks(before)
        pytest.fail("left behind:\n  " + "\n  ".join(leaks))


@pytest.fixture(autouse=True, scope="module")
def no_leaks_of_module(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a module whose fixtures leave something behind. A module of tests names in WORKER_IMPORTS what its workers
    import: a node does it once then."""
    with pytest.MonkeyPatch.context() as patch:
        names = getattr(request.module, "WORKER_IMPORTS", "").split()
        there = [name for name in names if importlib.util.find_spec(name.partition(".")[0]) is not None]
        if there:
            patch.setenv(IMPORTS, " ".join(there))
        yield from _watch(Path(str(request.node.path)))


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves something behind."""
    yield from _watch(Path(str(request.node.path)))


@pytest.fixture(scope="session")
def base_dir() -> str:
    """Where the node directories of this run are made."""
    return _base

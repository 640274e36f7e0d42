"""Files that decide have no clocks, sockets, random numbers, processes, threads or files, and import none that have.

Every file of core is pure, except the shells that are named here. A new file is either pure or a shell on the list;
a shell that has become pure leaves it.
"""

from __future__ import annotations

import ast

import pytest
from imports import LAZY, ROOT, TOP, graph, modules, needed, outside

IMPURE = {
    "_thread", "asyncio", "cloudpickle", "ctypes", "fcntl", "glob", "logging", "mmap", "multiprocessing", "os", "pty",
    "queue", "random", "resource", "secrets", "select", "selectors", "shutil", "signal", "socket", "subprocess",
    "tempfile", "threading", "time", "uuid", "zmq",
}  # fmt: skip

#: The files of each folder that do something themselves, or need one that does.
SHELLS = {
    "core": "arrow code crashpoints failures idtypes serialization shorten variables",
    "core/head": "journal_file main ports",
    "core/metrics": "",
    "core/net": "accept curve faults links plain reactor stream",
    "core/node": (
        "address apart caches control detect fabric_devices head_restart held_port imports inotify keeper left_names "
        "limits nearness numa nursery orphans output process programs rank_processes rank_recorder rank_site reap "
        "rundir spec supervisor surroundings survey tail uplink usage witness zygote"
    ),
    "core/owner": "generator ref",
    "core/owner/shell": (
        "answers arena_use arrivals buffers callbacks client collecting cuts defects fates fetching forked join latch "
        "messaging polling printed sampler sockets spin stacks telling unhandled values watching"
    ),
    "core/policy": "",
    "core/process": "ending saved",
    "core/raylet": "bulk exit_words files host logfiles logs main pids pressure store_shell watchdog writers",
    "core/runenv": "interpreters once_per_node package setup upload",
    "core/sim": "__main__",
    "core/store": "arena disk overflow_file",
    "core/wire": "",
    "core/worker": (
        "actor aio below deadlock ending exec_worker generators hook hosts interrupt job logformat main "
        "packing record runs saving signals threads title"
    ),
}
#: What the files of a folder may use all the same: the simulator draws random numbers, by its seed.
ALLOWED = {"core/sim": {"random"}}


def folder_files(folder: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / folder).glob("*.py"))


def impurities(folder: str, stem: str) -> list[str]:
    """What the file needs that is not pure, and the file that imports it."""
    path = ROOT / folder / f"{stem}.py"
    (module,) = [name for name, file in modules().items() if file == path]
    found = []
    for name in sorted(needed(module, graph(), (TOP, LAZY))):
        impure = outside(modules()[name]) & IMPURE - ALLOWED.get(folder, set())
        found += [f"{name} imports {one}" for one in sorted(impure)]
    return found


DECIDE = [
    (folder, stem) for folder, shells in SHELLS.items() for stem in folder_files(folder) if stem not in shells.split()
]


@pytest.mark.parametrize(("folder", "stem"), DECIDE)
def test_a_file_that_is_no_shell_is_pure_and_needs_no_shell(folder, stem):
    assert not impurities(folder, stem), f"{folder}/{stem}.py is not pure: {impurities(folder, stem)}"


def writes_to_the_arena(source: str) -> bool:
    """Whether this asks for memory to write to."""
    return any(isinstance(node, ast.Attribute) and node.attr == "writable" for node in ast.walk(ast.parse(source)))


def test_only_shells_place_bytes_in_the_arena():
    assert writes_to_the_arena("self.arena.writable(pull.offset, size)[:] = data")
    for folder, stem in DECIDE:
        if folder != "core/store":
            assert not writes_to_the_arena((ROOT / folder / f"{stem}.py").read_text()), f"{folder}/{stem}.py"


@pytest.mark.parametrize("folder", SHELLS)
def test_the_list_has_the_shells_and_no_others(folder):
    shells = SHELLS[folder].split()
    assert set(shells) <= set(folder_files(folder)), f"{folder}: {set(shells) - set(folder_files(folder))}"
    pure = [stem for stem in shells if not impurities(folder, stem)]
    assert not pure, f"{folder}: {pure} are pure: they are no shells"

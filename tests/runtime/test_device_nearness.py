"""A process with devices runs on the CPUs next to them and has its memory there: real processes, a machine in files."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import textwrap

import pytest

from hpc.core.node import numa

CPUS = sorted(os.sched_getaffinity(0))


@pytest.fixture
def root(tmp_path):
    """A machine whose first CPU is on one NUMA node, and whose others are on another one."""
    for node, cpus in enumerate((CPUS[:1], CPUS[1:])):
        folder = tmp_path / f"sys/devices/system/node/node{node}"
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(",".join(map(str, cpus)) + "\n")
        (folder / "distance").write_text("10 20\n" if node == 0 else "20 10\n")
    return str(tmp_path)


def run(root, code):
    """What a process says that has two devices, one on each node; `use` and `cpus` are there."""
    program = f"""
        import json, os, threading
        from hpc.core.accelerators.base import Device
        from hpc.core.node import numa
        from hpc.core.worker.nearness import Nearness
        near = Nearness([Device("a", "GPU", numa_node=0), Device("b", "GPU", numa_node=1)], {root!r})
        def cpus(task=0):
            return sorted(os.sched_getaffinity(task))
    """
    text = textwrap.dedent(program) + textwrap.dedent(code)
    return json.loads(subprocess.run([sys.executable, "-c", text], capture_output=True, check=True, timeout=60).stdout)


needs_two = pytest.mark.skipif(len(CPUS) < 2, reason="there is one CPU only")


@needs_two
def test_a_process_runs_next_to_its_devices_and_where_it_ran_before_when_it_has_none(root):
    seen = run(
        root,
        """
        seen = []
        for held, share in (("a", 1), ("b", 0), ("a", 2), ("", 1), ("a", 1)):
            near.use({"GPU": [held]} if held else {}, share)
            seen.append(cpus())
        print(json.dumps(seen))
        """,
    )
    assert seen == [CPUS[:1], CPUS[1:], CPUS, CPUS, CPUS[:1]]


@needs_two
def test_all_of_its_threads_do_and_the_processes_that_it_starts(root):
    seen = run(
        root,
        """
        import subprocess, sys
        there, stay = threading.Event(), threading.Event()
        thread = threading.Thread(target=lambda: (there.set(), stay.wait()), daemon=True)
        thread.start()
        there.wait()
        near.use({"GPU": ["b"]}, 1)
        child = subprocess.check_output([sys.executable, "-c", "import os; print(sorted(os.sched_getaffinity(0)))"])
        print(json.dumps([cpus(thread.native_id), json.loads(child)]))
        """,
    )
    assert seen == [CPUS[1:], CPUS[1:]]


def test_its_memory_is_preferred_where_its_device_is_and_a_policy_of_the_users_stays(root):
    try:
        numa.memory_policy()
    except OSError as error:
        pytest.skip(f"this kernel has no memory policies for us: {errno.errorcode[error.errno or 0]}")
    seen = run(
        root,
        """
        seen = []
        for held in ({"GPU": ["a"]}, {}):
            near.use(held, 1)
            seen.append(numa.memory_policy())
        numa.prefer_memory([0])
        near.use({"GPU": ["a"]}, 1)
        near.use({}, 1)
        print(json.dumps([*seen, numa.memory_policy()]))
        """,
    )
    assert seen == [numa.PREFERRED, numa.DEFAULT, numa.PREFERRED]

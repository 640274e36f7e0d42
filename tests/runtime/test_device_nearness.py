"""A process with devices runs on the CPUs next to them and has its memory there: real processes, a machine in files."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import textwrap

import pytest

import hpc
from hpc import spi
from hpc.core.node import numa
from runtime.fake_machine import CPUS, two_numa_nodes
from runtime.running import one_node


@pytest.fixture
def root(tmp_path):
    return two_numa_nodes(tmp_path, 2)


def run(root, code):
    """What a process says that has two devices, one on each node; `use` and `cpus` are there."""
    program = f"""
        import json, os, threading
        from hpc.core.accelerators.base import Device
        from hpc.core.node import numa
        from hpc.core.node.nearness import Nearness
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


# ---------------------------------------------------------------- in a session


@hpc.remote(num_cpus=0)
class Where:
    def cpus(self):
        return sorted(os.sched_getaffinity(0)), os.environ.get("CUDA_VISIBLE_DEVICES")

    def share(self, visible):
        return spi.show_devices("GPU", visible), os.environ["CUDA_VISIBLE_DEVICES"]


@needs_two
def test_tasks_and_actors_with_a_gpu_run_next_to_it_and_others_everywhere(root):
    @hpc.remote
    def everywhere():
        return sorted(os.sched_getaffinity(0))

    @hpc.remote(num_gpus=1, num_cpus=2)
    def large():
        return sorted(os.sched_getaffinity(0))

    with one_node(env={"HPC_PROBE_ROOT": root}):
        actors = [Where.options(num_gpus=1).remote() for _ in range(2)]
        seen = hpc.get([actor.cpus.remote() for actor in actors], timeout=30)
        assert sorted(seen, key=lambda one: one[1]) == [(CPUS[:1], "0"), (CPUS[1:], "1")]
        assert hpc.get(everywhere.remote(), timeout=30) == CPUS
        numbers = hpc.get([actor.share.remote(["1", "0"]) for actor in actors], timeout=30)
        assert sorted(numbers) == [((0,), "1,0"), ((1,), "1,0")]
        for actor in actors:
            hpc.kill(actor)
        assert hpc.get(large.remote(), timeout=30) == CPUS, "its share is more than what is near"
        assert hpc.get(everywhere.remote(), timeout=30) == CPUS


@needs_two
def test_an_option_turns_it_off(root):
    with one_node(env={"HPC_PROBE_ROOT": root, "HPC_DEVICE_AFFINITY": "0"}):
        actor = Where.options(num_gpus=1).remote()
        assert hpc.get(actor.cpus.remote(), timeout=30) == (CPUS, "0")

"""Each node offers what the job has of it, on a real Slurm: CPUs, memory and GPUs, in every form in which they are
asked for, with nodes that are alike and with others, and in heterogeneous jobs."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from desk import SlurmDesk as Desk
from desk import launcher, nothing_left
from slurm_bed import SlurmBed, reason_to_skip

pytestmark = pytest.mark.slurm

#: (CPUs, GPUs) of the four nodes.
SHAPES = [(2, 0), (2, 2), (2, 4), (1, 1)]
MEMORY = ("SelectTypeParameters=CR_Core_Memory",)
CGROUPS = ("TaskPlugin=task/cgroup,task/affinity", "ProctrackType=proctrack/cgroup")

FACTS = """
    import json, os, socket
    import hpc

    hpc.init()

    @hpc.remote(num_cpus=0)
    def devices():
        return os.environ.get("CUDA_VISIBLE_DEVICES")

    found = {}
    for node in hpc.nodes():
        has, name = node["Resources"], node["NodeManagerHostname"]
        gpus = has.get("GPU", 0)
        place = {"num_gpus": gpus, "resources": {f"node:{node['NodeManagerAddress']}": 0.001}}
        seen = hpc.get(devices.options(**place).remote()) if gpus else ""
        memory = (has["memory"] + has["object_store_memory"]) / 2**20
        found[name] = [has["CPU"], gpus, round(memory), len(seen.split(",")) if seen else 0]
    print(json.dumps({"nodes": found, "here": socket.gethostname(), "first": hpc.nodes()[0]["NodeManagerHostname"]}))
"""


def desk_of(bed: SlurmBed) -> Desk:
    work = bed.scratch / "work"
    desk = Desk(bed, work, {"HPC_JOB_DIR": str(work / "jobs"), "HPC_POLL_INTERVAL": "0.3"})
    desk.script("facts.py", FACTS)
    return desk


@pytest.fixture(scope="module")
def uneven() -> Iterator[Desk]:
    """Nodes that differ; Slurm counts CPUs and GPUs, and no memory."""
    why = reason_to_skip()
    if why:
        pytest.skip(why)
    with SlurmBed(shapes=SHAPES) as bed:
        yield desk_of(bed)


@pytest.fixture(scope="module")
def counted() -> Iterator[Desk]:
    """The same; Slurm counts memory too, and holds nobody to it."""
    why = reason_to_skip()
    if why:
        pytest.skip(why)
    with SlurmBed(shapes=SHAPES, options=MEMORY) as bed:
        yield desk_of(bed)


@pytest.fixture(scope="module")
def held() -> Iterator[Desk]:
    """The same; cgroups hold each job to its cores, its memory and its devices."""
    why = reason_to_skip()
    if why:
        pytest.skip(why)
    if not Path("/sys/fs/cgroup/devices").is_dir():
        pytest.skip("this machine has no cgroups of version 1, which Slurm is told to use here")
    constrain, options = ("Cores", "RAMSpace", "Devices"), (*MEMORY, *CGROUPS)
    with SlurmBed(shapes=SHAPES, options=options, constrain=constrain, prefix=f"c{os.getpid()}-") as bed:
        yield desk_of(bed)


def nodes_of(desk: Desk, options: str) -> dict[str, list[int]]:
    """Of each node: CPUs, GPUs, MiB of memory, devices that a task which takes all of them sees."""
    options = options.replace("nid", desk.bed.prefix)
    done = desk.run("salloc", "-Q", "-t5", *options.split(), *launcher(), "facts.py")
    assert done.returncode == 0, (options, done.stderr)
    answer = json.loads(done.stdout)
    assert answer["first"] == min(answer["nodes"])  # the head is on the first node
    return {name[-1]: row for name, row in answer["nodes"].items()}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("-N4 --exclusive", {"1": (2, 0), "2": (2, 2), "3": (2, 4), "4": (1, 1)}),
        ("-N2 -c1 --gpus=3 -w nid[0002-0003]", {"2": (1, 2), "3": (1, 1)}),
        ("-N2 -c1 --gpus=4 -w nid[0002-0003]", {"2": (1, 2), "3": (1, 2)}),
        ("-N2 -c1 --gpus-per-node=1 -w nid[0003-0004]", {"3": (1, 1), "4": (1, 1)}),
        ("-N2 -n2 -c2 --gres=gpu:2", {"2": (2, 2), "3": (2, 2)}),
        ("-N2 -n3 -c1 --gpus-per-task=1 -w nid[0002-0003]", {"2": (2, 2), "3": (1, 1)}),
        ("-N2 -c1 --gpus-per-socket=1 --sockets-per-node=1 -w nid[0002-0003]", {"2": (1, 1), "3": (1, 1)}),
        ("-N2 -c1 -w nid[0002-0003]", {"2": (1, 0), "3": (1, 0)}),
        ("-N1 -c1 -w nid0001 : -N2 -c2 --gpus-per-node=2", {"1": (1, 0), "2": (2, 2), "3": (2, 2)}),
        ("-N1 -c1 -w nid0001 : -N2 --exclusive -w nid[0002-0003]", {"1": (1, 0), "2": (2, 2), "3": (2, 4)}),
    ],
)
def test_each_node_offers_all_that_it_was_granted(
    uneven: Desk, options: str, expected: dict[str, tuple[int, int]]
) -> None:
    found = nodes_of(uneven, options)
    assert {name: tuple(row[:2]) for name, row in found.items()} == expected
    assert all(row[1] == row[3] for row in found.values()), found


def test_a_job_script_of_several_components_is_one_session(uneven: Desk) -> None:
    """The batch host has GPUs of its own, and a node of another component has none: nothing of them gets there."""
    uneven.script("het.sbatch", f"""\
        #!/bin/bash
        #SBATCH -N1 -c1 -t5 -w nid0002 --gpus-per-node=2
        #SBATCH hetjob
        #SBATCH -N2 -c1 -w nid[0001,0003]
        #SBATCH hetjob
        #SBATCH -N1 -w nid0004 --gpus-per-node=1
        exec {' '.join(launcher())} facts.py
    """)  # fmt: skip
    code, out = uneven.batch("het.sbatch")
    answer = json.loads(next(line for line in out.splitlines() if line.startswith("{")))
    assert code == 0 and answer["here"] == answer["first"] == "nid0002"
    assert {name[-1]: row[:2] for name, row in answer["nodes"].items()} == {
        "1": [1, 0], "2": [1, 2], "3": [1, 0], "4": [1, 1],
    }  # fmt: skip


def test_a_component_whose_srun_is_killed_is_lost_alone_and_nothing_stays(uneven: Desk) -> None:
    uneven.script("waits.py", "import os, time; print(os.getpid(), os.getppid(), flush=True); time.sleep(120)")
    step = ["-N1", "-c1", "-t5", "-w", "nid0001", ":", "-N1", "-c1", "-w", "nid0002"]
    process = uneven.start("salloc", "-Q", *step, *launcher(), "--grace=1", "waits.py")
    assert process.stdout is not None
    _driver, launch = map(int, process.stdout.readline().split())
    below = [int(pid) for pid in Path(f"/proc/{launch}/task/{launch}/children").read_text().split()]
    sruns = [pid for pid in below if "--het-group=1" in Path(f"/proc/{pid}/cmdline").read_text().split("\0")]
    os.kill(sruns[0], signal.SIGKILL)
    uneven.wait_status("the node is lost", lambda status: status["nodes_ready"] == 1, 20.0, newest(uneven))
    assert process.poll() is None
    os.kill(launch, signal.SIGTERM)
    _, said = process.communicate(timeout=90)
    assert process.returncode == 128 + signal.SIGTERM and "lost node 2 (nid0002)" in said
    nothing_left(uneven)


def newest(desk: Desk) -> int:
    return max(int(path.name) for path in desk.jobs.iterdir() if path.name.isdigit())


def test_ranks_over_components_are_numbered_through(uneven: Desk) -> None:
    uneven.script(
        "rank.py", "import os, socket; print(os.environ['RANK'], os.environ['WORLD_SIZE'], socket.gethostname())"
    )
    step = ["-N1", "-c1", "-t5", "-w", "nid0003", ":", "-N2", "-c1", "-w", "nid[0001-0002]"]
    done = uneven.run("salloc", "-Q", *step, *launcher(), "-Q", "--ranks-per-node=1", "rank.py")
    assert sorted(done.stdout.splitlines()) == [
        "[rank 0] 0 3 nid0003", "[rank 1] 1 3 nid0001", "[rank 2] 2 3 nid0002",
    ], done.stderr  # fmt: skip


def test_a_dry_run_shows_the_srun_of_each_component(uneven: Desk) -> None:
    step = ["-N1", "-c1", "-t5", "-w", "nid0003", ":", "-N2", "-c1", "-w", "nid[0001-0002]"]
    done = uneven.run("salloc", "-Q", *step, *launcher(), "--dry-run", "facts.py")
    shown = [line for line in done.stdout.splitlines() if line.startswith("srun ")]
    assert ["--nodes=1" in shown[0] and "--het-group=0" in shown[0], "--nodes=2" in shown[1], len(shown)] == [
        True,
        True,
        2,
    ]


def test_several_copies_in_a_step_are_warned_of_once(uneven: Desk) -> None:
    uneven.script("done.py", "print('done', flush=True)")
    copies = ["srun", "--overlap", "-N2", "-n2", "--ntasks-per-node=1"]
    done = uneven.run("salloc", "-Q", "-N2", "-c1", "-t5", *copies, *launcher(), "-Q", "done.py")
    assert done.stdout == "done\ndone\n" and done.stderr.count("runs the program 2 times (srun -n2)") == 1
    one = uneven.run("salloc", "-Q", "-N2", "-c1", "-t5", *copies[:2], "-N1", "-n1", *launcher(), "-Q", "done.py")
    assert one.stdout == "done\n" and "times" not in one.stderr


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("-N2 -c1 --mem=500 -w nid[0001-0002]", {"1": 500, "2": 500}),
        ("-N2 -n3 -c1 --mem-per-cpu=300 -w nid[0001-0002]", {"1": 600, "2": 300}),
        ("-N1 -n1 -c1 --mem-per-gpu=200 --gpus-per-node=2 -w nid0002", {"2": 400}),
        ("-N1 -c1 --mem=400 -w nid0001 : -N2 -c2 --mem=300", {"1": 400, "2": 300, "3": 300}),
        ("-N1 --exclusive --mem=0 -w nid0001", {"1": 2000}),
    ],
)
def test_memory_is_what_was_granted_though_nobody_is_held_to_it(
    counted: Desk, options: str, expected: dict[str, int]
) -> None:
    found = nodes_of(counted, options)
    assert {name: row[2] for name, row in found.items()} == expected


def test_whole_nodes_that_differ_are_used_wholly_where_memory_is_counted_too(counted: Desk) -> None:
    found = nodes_of(counted, "-N4 --exclusive")
    assert {name: row[1] for name, row in found.items()} == {"1": 0, "2": 2, "3": 4, "4": 1}
    found = nodes_of(counted, "-N3 --exclusive --gpus=7 -w nid[0002-0004]")
    assert {name: row[1] for name, row in found.items()} == {"2": 2, "3": 4, "4": 1}


def test_what_cgroups_hold_a_job_to_is_what_its_nodes_offer(held: Desk) -> None:
    found = nodes_of(held, "-N2 -n2 -c1 --mem-per-cpu=300 --gpus=3 -w nid[0002-0003]")
    assert found == {"2": [1, 2, 300, 2], "3": [1, 1, 300, 1]}
    found = nodes_of(held, "-N1 -c2 --mem=400 -w nid0001 : -N1 -c1 --mem=300 --gpus=4 -w nid0003")
    assert found == {"1": [2, 0, 400, 0], "3": [1, 4, 300, 4]}

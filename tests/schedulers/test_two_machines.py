"""`hpc start` on two machines (network namespaces): one begins a session, the other joins by the join file."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import netbed
import pytest

WHY = netbed.missing([])
pytestmark = pytest.mark.skipif(WHY is not None, reason=str(WHY))

PROGRAM = """
import hpc, sys
hpc.init(address=sys.argv[1])
there = hpc.remote(lambda data: (hpc.get_runtime_context().get_node_id(), len(data)))
data = hpc.put(bytes(8 << 20))
print(*hpc.get([there.options(resources={name: 1}).remote(data) for name in ("one", "two")]))
print(*[node["NodeManagerAddress"] for node in hpc.nodes()])
"""


@pytest.fixture
def folders() -> Iterator[dict[str, str]]:
    made = {name: tempfile.mkdtemp(prefix="hpcj-", dir="/tmp") for name in ("alpha", "beta")}
    yield made
    for path in made.values():
        shutil.rmtree(path)


def test_two_machines(folders: dict[str, str], tmp_path: Path) -> None:
    join = tmp_path / "join"
    with netbed.NetBed(["alpha", "beta"]) as bed:

        def on(name: str, *words: str) -> str:
            env = {**os.environ, "HPC_TMPDIR": folders[name]}
            done = subprocess.run(
                bed.inside(name, [sys.executable, *words]), env=env, capture_output=True, text=True, timeout=60
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        begin = [
            "-m",
            "hpc",
            "start",
            "--num-cpus=1",
            "--object-store-memory=80000000",
            f"--join-file={join}",
            "--json",
        ]
        first = json.loads(on("alpha", *begin, "--head", "--resources", '{"one": 1}'))
        try:
            second = json.loads(on("beta", *begin, "--resources", '{"two": 1}'))
            assert second["node"] == 2
            expected = [f"('1', {8 << 20}) ('2', {8 << 20})", f"{bed.address('alpha')} {bed.address('beta')}"]
            for name in ("alpha", "beta"):
                assert on(name, "-c", PROGRAM, first["session"]).splitlines() == expected
        finally:
            on("alpha", "-m", "hpc", "stop")
        netbed.wait_for("the end of beta's node", lambda: not os.listdir(folders["beta"]), 90.0)
        netbed.wait_for("the end of beta's processes", lambda: not bed.pids("beta"), 90.0)
    assert not join.exists()


HOSTS_PROGRAM = """
import os, hpc
hpc.init()
there = hpc.remote(lambda: os.uname().nodename).options(scheduling_strategy="SPREAD", num_cpus=1)
print("ran on", sorted({hpc.get(there.remote()) for _ in range(12)}), len(hpc.nodes()), flush=True)
"""


MPI_PROGRAM = """
from mpi4py import MPI
import os, sys
world = MPI.COMM_WORLD
# In one piece: the manager of the ranks passes on what comes as it comes.
sys.stdout.write(f"rank {world.rank} {world.size} {world.allreduce(world.rank)} {os.uname().nodename}\\n")
"""


@contextmanager
def launched(
    bed: netbed.NetBed, folders: dict[str, str], folder: Path, *words: str
) -> Iterator[tuple[subprocess.Popen[str], Callable[[str], subprocess.CompletedProcess[str]], Path]]:
    """hpc-launch on alpha for alpha and beta; what gives the shown line on a machine; and the join file."""
    (folder / "hosts").write_text("beta\nalpha\n")
    env = {**os.environ, "HPC_JOB_DIR": str(folder / "jobs")}
    options = ["--hosts=hosts", "--cpus-per-task=1", "--mem=300M", "--start-timeout=60"]
    launch = subprocess.Popen(
        bed.inside("alpha", [sys.executable, "-m", "hpc.cli.launch", *options, *words]), cwd=folder,
        env={**env, "HPC_TMPDIR": folders["alpha"]}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert launch.stderr is not None
        line = launch.stderr.readline()
        assert line.startswith("hpc: on beta: ")
        shown = shlex.split(line.removeprefix("hpc: on beta: "))
        join = Path(shown[-1].removeprefix("--join-file="))
        netbed.wait_for("the join file", join.exists, 90.0)
        mine = {**env, "HPC_TMPDIR": folders["beta"]}
        yield (
            launch,
            lambda name: subprocess.run(bed.inside(name, shown), env=mine, capture_output=True, text=True, timeout=60),
            join,
        )
    finally:
        launch.kill()
        launch.wait()
    netbed.wait_for("the end of beta's node", lambda: not os.listdir(folders["beta"]), 90.0)
    netbed.wait_for("the end of beta's processes", lambda: not bed.pids("beta"), 90.0)


def test_machines_without_a_scheduler_are_named_and_the_user_starts_their_nodes(
    folders: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "program.py").write_text(HOSTS_PROGRAM)
    with netbed.NetBed(["alpha", "beta", "gamma"]) as bed:
        with launched(bed, folders, tmp_path, "program.py") as (launch, on, join):
            assert join.stat().st_mode & 0o777 == 0o600
            wrong = on("gamma")
            assert wrong.returncode != 0 and "gamma, is none of those that are waited for: alpha, beta" in wrong.stderr
            assert "first node, on alpha, is there already" in on("alpha").stderr
            joined = on("beta")
            assert joined.returncode == 0 and "node 2 joined session" in joined.stdout, joined.stderr
            out, err = launch.communicate(timeout=60)
            assert (launch.returncode, out) == (0, "ran on ['alpha', 'beta'] 2\n"), err
        assert not join.exists()


@pytest.mark.skipif(importlib.util.find_spec("mpi4py") is None, reason="needs mpi4py and MPICH: pip install 'hpc[mpi]'")
def test_an_mpi_program_runs_on_machines_without_a_scheduler(folders: dict[str, str], tmp_path: Path) -> None:
    """By mpiexec, whose processes the supervisors start."""
    (tmp_path / "program.py").write_text(MPI_PROGRAM)
    words = ("--runtime=mpi", "--ranks-per-node=2", "program.py")
    with netbed.NetBed(["alpha", "beta"]) as bed, launched(bed, folders, tmp_path, *words) as (launch, on, _join):
        assert on("beta").returncode == 0
        out, err = launch.communicate(timeout=60)
        assert launch.returncode == 0, err
        assert sorted(out.splitlines()) == [f"rank {i} 4 6 {'alpha' if i < 2 else 'beta'}" for i in range(4)]


def test_nodes_of_machines_end_with_the_launch_that_is_killed(folders: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("import time\nprint('up', flush=True)\ntime.sleep(600)\n")
    with netbed.NetBed(["alpha", "beta"]) as bed:
        with launched(bed, folders, tmp_path, "program.py") as (launch, on, _join):
            assert on("beta").returncode == 0
            assert launch.stdout is not None and launch.stdout.readline() == "up\n"
            launch.kill()
        netbed.wait_for("the end of alpha's processes", lambda: not bed.pids("alpha"), 90.0)

"""How gangs of MPI ranks end: a rank that dies in any way takes the others along, within seconds, and is named."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hpc
from hpc import mpi
from hpc.core.node import left_names
from hpc.core.node.reap import descendants
from hpc.exceptions import ActorDiedError, GangError, TaskCancelledError
from hpc.util.placement_group import placement_group_table
from runtime.running import eventually, kill9, local_nodes

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mpi4py") is None, reason="needs mpi4py and an MPI library: pip install 'hpc[mpi]'"
)

#: From the death of a rank to the errors of all others, on a busy machine: without help they would wait for ever.
SOON_S = 25.0


@pytest.fixture(scope="module")
def session():
    with local_nodes(3, num_cpus=2) as session:
        yield session


@pytest.fixture
def gang(session):
    with mpi.gang(3, placement_strategy="SPREAD") as gang:
        gang.ready(60)
        pids = hpc.get(gang.run(lambda comm: os.getpid()))
        yield gang
        gang.kill()
    for pid in pids:
        eventually(lambda pid=pid: not Path(f"/proc/{pid}").exists())
    eventually(lambda: not [row for row in placement_group_table().values() if row["state"] != "REMOVED"])
    name = f"mpich_shm_{fnv1a(b'hpc_' + gang._ranks.key.encode()):x}_"
    assert not [file for file in os.listdir("/dev/shm") if file.startswith(name)]


def fnv1a(data):
    """The hash from which MPICH makes the name of a world's shared memory."""
    found = 2166136261
    for byte in data:
        found = (found ^ byte) * 16777619 % (1 << 32)
    return found


def error_of(ref):
    with pytest.raises(Exception) as caught:
        hpc.get(ref, timeout=30)
    return caught.value


def stuck(comm, what, rank=1):
    """All ranks wait in MPI, but for one that does something else."""
    if comm.Get_rank() == rank:
        comm.barrier()
        return what(comm)
    comm.barrier()
    comm.recv(source=rank, tag=99)


def kills_itself(comm):
    os.kill(os.getpid(), signal.SIGKILL)


def aborts(comm):
    comm.Abort(7)


def exits(comm):
    sys.exit(3)


def leaves(comm):
    hpc.actor.exit_actor()


@pytest.mark.parametrize(
    ("what", "why"),
    [(kills_itself, "SIGKILL"), (aborts, "exited with code 7"), (exits, r"exit\(3\)"), (leaves, r"exit_actor\(\)")],
)
def test_a_rank_that_ends_takes_the_gang_along_and_is_named(gang, what, why):
    begun = time.monotonic()
    errors = [error_of(ref) for ref in gang.run(stuck, what)]
    assert time.monotonic() - begun < SOON_S
    for error in errors[::2]:
        assert isinstance(error, GangError) and isinstance(error, ActorDiedError)
        assert error.rank == 1
        assert f"rank 1 ({os.uname().nodename}, process " in str(error)
        assert error.args
    assert any(re.search(why, str(error)) for error in errors), errors
    assert error_of(gang.run(print)[0]).rank == 1, "later calls raise at once"


def test_an_exception_of_one_rank_ends_those_that_wait_for_it(gang):
    def raises(comm):
        raise ValueError("too hot")

    begun = time.monotonic()
    first, cause, last = map(error_of, gang.run(stuck, raises))
    assert time.monotonic() - begun < SOON_S
    assert isinstance(cause, ValueError)
    for error in (first, last):
        assert isinstance(error, GangError) and error.rank == 1
        assert "raised ValueError: too hot" in str(error)


def test_an_exception_of_all_ranks_ends_nothing(gang):
    def raises(comm):
        raise ValueError(comm.Get_rank())

    assert [str(error.cause) for error in map(error_of, gang.run(raises))] == ["0", "1", "2"]
    assert hpc.get(gang.run(lambda comm: comm.allreduce(1)), timeout=30) == [3, 3, 3]


def test_a_call_that_is_cancelled_ends_although_it_waits_in_mpi(gang):
    refs = gang.run(lambda comm: comm.recv(source=(comm.Get_rank() + 1) % 3, tag=5))
    time.sleep(0.5)
    begun = time.monotonic()
    hpc.cancel(refs[2])
    errors = [error_of(ref) for ref in refs]
    assert time.monotonic() - begun < SOON_S
    assert isinstance(errors[2], TaskCancelledError)
    assert isinstance(errors[0], GangError) and errors[0].rank == 2 and "cancelled" in str(errors[0])


def test_a_gang_that_is_killed_says_so(gang):
    refs = gang.run(lambda comm: comm.recv(source=(comm.Get_rank() + 1) % 3, tag=5))
    gang.kill("enough")
    for ref in refs:
        error = error_of(ref)
        assert isinstance(error, GangError) and error.rank == -1 and "enough" in str(error)


def test_an_idle_rank_that_dies_ends_the_gang_and_frees_its_room(gang):
    (pid, *_) = hpc.get(gang.run(lambda comm: os.getpid()))
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not [row for row in placement_group_table().values() if row["state"] != "REMOVED"])
    assert error_of(gang.run(print)[2]).rank == 0


def test_another_gang_can_be_made_after_one_has_died(session):
    for _ in range(2):
        gang = mpi.gang(2)
        assert isinstance(error_of(gang.run(stuck, kills_itself)[0]), GangError)
    with mpi.gang(2) as gang:
        assert hpc.get(gang.run(lambda comm: comm.allreduce(1)), timeout=30) == [2, 2]


def ranks_of_this_machine():
    """The processes of ranks, from the moment in which one is known to be one."""
    found = []
    for pid in descendants(os.getpid()):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"hpc::Rank"):
                found.append(pid)
    return found


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.1, 0.2])
def test_a_rank_that_is_killed_while_the_gang_starts_ends_it(session, after_s):
    gang = mpi.gang(2)
    refs = gang.run(lambda comm: comm.recv(source=1 - comm.Get_rank()))
    pid = eventually(ranks_of_this_machine)[0]
    time.sleep(after_s)
    kill9(pid)
    errors = list(map(error_of, refs))
    assert [type(error) for error in errors] == [GangError, GangError]
    assert errors[0].rank in (0, 1) and "SIGKILL" in str(errors[0])
    gang.kill()
    eventually(lambda: not ranks_of_this_machine())


def test_a_rank_that_dies_before_there_is_a_world_is_named(session):
    environment = {"env_vars": {"MPI4PY_LIBMPI": "/nowhere/libmpi.so", "MPI4PY_MPIABI": "mpich"}}
    gang = mpi.gang(2, runtime_env=environment)
    error = error_of(gang.run(print)[0])
    assert isinstance(error, GangError) and error.rank in (0, 1)
    assert "its constructor failed" in str(error) and "pip install" in str(error)


def test_a_program_that_is_ended_while_its_ranks_wait_for_one_leaves_no_name(tmp_path):
    script = tmp_path / "late.py"
    script.write_text("""
import os, time
if os.environ["PMI_RANK"] == "1":
    time.sleep(300)
print(os.getpid(), flush=True)
from mpi4py import MPI
""")
    command = [sys.executable, "-m", "hpc.cli.launch", "--scheduler=local", "--runtime=mpi", "--ranks-per-node=2", "-Q"]
    with subprocess.Popen([*command, str(script)], stdout=subprocess.PIPE, text=True, cwd=tmp_path) as launch:
        try:
            maps = Path(f"/proc/{int(launch.stdout.readline())}/maps")
            eventually(lambda: "/dev/shm/mpich_shm_" in maps.read_text())
            (name,) = set(re.findall(r"/dev/shm/mpich_shm_\w+", maps.read_text()))
            assert os.path.exists(name)
            eventually(lambda: time.time() - os.stat(name).st_ctime > left_names.YOUNG_S + 0.1)
        finally:
            launch.terminate()
        assert launch.wait(30)
    assert not os.path.exists(name)

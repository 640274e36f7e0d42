"""Gangs of MPI ranks: the communicator, what goes in and comes out, placement, and runs that follow one another."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hpc
from hpc import mpi
from hpc.exceptions import GangError, GetTimeoutError
from hpc.util.placement_group import placement_group_table
from runtime.running import eventually, local_nodes

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mpi4py") is None, reason="needs mpi4py and an MPI library: pip install 'hpc[mpi]'"
)


@pytest.fixture(scope="module")
def two_nodes():
    with local_nodes(2, num_cpus=2, object_store_bytes=128 << 20):
        yield


@pytest.fixture(scope="module")
def pair(two_nodes):
    """A gang that tests share: a rank on each node."""
    with mpi.gang(2, placement_strategy="STRICT_SPREAD") as gang:
        gang.ready(60)
        yield gang


def whole(refs):
    return hpc.get(refs, timeout=60)


def groups():
    return [row for row in placement_group_table().values() if row["state"] != "REMOVED"]


def test_ranks_have_a_communicator_of_mpi4py(pair):
    def who(comm):
        from mpi4py import MPI

        assert type(comm) is MPI.Intracomm
        return comm.Get_rank(), comm.Get_size(), hpc.get_runtime_context().get_node_id()

    assert [found[:2] for found in whole(pair.run(who))] == [(0, 2), (1, 2)]
    assert len({found[2] for found in whole(pair.run(who))}) == 2


def test_arrays_go_between_ranks_without_pickling(pair):
    def ring(comm, size):
        rank = comm.Get_rank()
        mine, other = np.full(size, float(rank)), np.empty(size)
        comm.Sendrecv(mine, 1 - rank, recvbuf=other, source=1 - rank)
        total = np.empty(size)
        comm.Allreduce(mine + 1, total)
        return float(other[-1]), float(total[0])

    for size in (1, 1 << 20):
        assert whole(pair.run(ring, size)) == [(1.0, 3.0), (0.0, 3.0)]


def test_references_arrive_as_views_of_the_nodes_memory(pair):
    data = np.arange(1 << 17, dtype=np.float64)

    def look(comm, array, factor=1.0):
        return not array.flags.writeable, float(array.sum() * factor)

    assert whole(pair.run(look, hpc.put(data), factor=2.0)) == [(True, float(data.sum() * 2))] * 2
    assert whole(pair.run(look, data)) == [(True, float(data.sum()))] * 2, "a plain argument is stored once for all"


def test_what_a_run_returns_is_given_to_the_next(pair):
    def part(comm):
        return np.full(1 << 16, float(comm.Get_rank()))

    def total(comm, mine, offset):
        found = np.empty_like(mine)
        comm.Allreduce(mine + offset, found)
        return float(found[0]), float(mine[0])

    refs = pair.run(part)
    assert whole(pair.run(total, mpi.per_rank(refs), mpi.per_rank([10, 20]))) == [(31.0, 0.0), (31.0, 1.0)]


def test_state_is_kept_between_runs(pair):
    def count(comm):
        mpi.state.count = getattr(mpi.state, "count", 0) + 1
        return mpi.state.count

    assert whole(pair.run(count)) == [1, 1]
    assert whole(pair.run(count)) == [2, 2]
    assert not vars(mpi.state)


def test_a_run_in_which_a_rank_raised_leaves_no_message_for_the_next(pair):
    def send(comm):
        if comm.Get_rank() == 0:
            comm.send("stale", 1, tag=3)
        else:
            raise ValueError("no thanks")

    def receive(comm):
        if comm.Get_rank() == 0:
            comm.send("fresh", 1, tag=3)
            return None
        return comm.recv(source=0, tag=3)

    first, second = pair.run(send), pair.run(receive)
    assert hpc.get(first[0], timeout=60) is None
    with pytest.raises(ValueError, match="no thanks"):
        hpc.get(first[1], timeout=60)
    assert whole(second) == [None, "fresh"]


def test_a_gang_whose_messages_nobody_received_ends_like_any_other(two_nodes):
    def send(comm):
        if comm.Get_rank() == 0:
            comm.isend("small", 1, tag=3)
            comm.isend(bytes(1 << 22), 1, tag=4)

    with mpi.gang(2, placement_strategy="STRICT_SPREAD") as gang:
        assert whole(gang.run(send)) == [None, None]
        assert whole(gang.run(lambda comm: comm.allreduce(1))) == [2, 2]
        gang.shutdown(timeout_s=8.0)  # less than what ranks may take that do not leave MPI by themselves


def test_the_ranks_are_not_told_of_their_process_manager_afterwards(pair):
    def variables(comm):
        return [name for name in os.environ if name.startswith(("PMI_", "PMIX_"))]

    assert whole(pair.run(variables)) == [[], []]


def test_wrong_arguments_are_refused_and_lose_nothing(pair):
    with pytest.raises(TypeError, match="a gang runs a function"):
        pair.run(3)
    with pytest.raises(ValueError, match="3 values for a gang of 2"):
        pair.run(print, mpi.per_rank([1, 2, 3]))
    with pytest.raises(TypeError, match="cannot be passed on"):
        hpc.put(pair)
    assert whole(pair.run(lambda comm: comm.Get_size())) == [2, 2]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"ranks": 0}, ValueError),
        ({"ranks": "2"}, TypeError),
        ({"ranks": 2, "placement_strategy": "SIDEWAYS"}, ValueError),
        ({"ranks": 2, "resources_per_rank": {}}, ValueError),
        ({"ranks": 2, "name": 3}, TypeError),
    ],
)
def test_a_gang_that_makes_no_sense_is_refused(two_nodes, arguments, error):
    before = groups()
    with pytest.raises(error):
        mpi.gang(**arguments)
    assert groups() == before


def test_a_gang_takes_all_its_ranks_or_none(pair):
    """Two of four CPUs are the pair's: a gang of three waits whole, and takes nothing from a gang of two."""
    large = mpi.gang(3)
    with pytest.raises(GetTimeoutError):
        large.ready(0.3)
    with mpi.gang(2) as small:
        small.ready(60)
    large.kill()
    eventually(lambda: len(groups()) == 1)


def test_shutdown_gives_back_what_the_ranks_held(pair):
    eventually(lambda: hpc.available_resources().get("CPU") == 2.0)  # the other two are the pair's
    gang = mpi.gang(1)
    refs = gang.run(lambda comm: os.getpid())
    (pid,) = whole(refs)
    gang.shutdown(timeout_s=30)
    eventually(lambda: hpc.available_resources().get("CPU") == 2.0)
    eventually(lambda: not Path(f"/proc/{pid}").exists())
    with pytest.raises(GangError, match="was shut down"):
        gang.run(print)


def test_a_gang_that_nobody_holds_finishes_what_was_submitted(pair):
    def slow(comm):
        comm.Barrier()
        return comm.Get_rank()

    refs = mpi.gang(2).run(slow)
    assert whole(refs) == [0, 1]
    eventually(lambda: len(groups()) == 1)


def test_a_function_of_a_communicator_is_a_gang_of_its_own(pair):
    @mpi.remote(ranks=2)
    def mean(comm, values):
        from mpi4py import MPI

        mine = values[comm.Get_rank() :: comm.Get_size()].sum()
        return comm.allreduce(mine, MPI.SUM) / len(values)

    assert whole(mean.remote(np.arange(10.0))) == [4.5, 4.5]
    assert whole(mean.options(ranks=1).remote(hpc.put(np.arange(4.0)))) == [1.5]
    with pytest.raises(TypeError, match=r"call \.remote"):
        mean(None, None)
    with pytest.raises(TypeError, match="is not an option of a gang"):
        mpi.remote(size=2)
    eventually(lambda: len(groups()) == 1)


def test_a_task_can_make_a_gang(pair):
    @hpc.remote(num_cpus=0)
    def outer():
        with mpi.gang(2) as gang:
            return sum(hpc.get(gang.run(lambda comm: comm.allreduce(comm.Get_rank() + 1))))

    assert hpc.get(outer.remote(), timeout=60) == 6
    eventually(lambda: len(groups()) == 1)


def test_a_rank_without_a_library_says_what_to_do(pair):
    gang = mpi.gang(2, runtime_env={"env_vars": {"MPI4PY_MPIABI": "openmpi", "MPI4PY_LIBMPI": "/nowhere/libmpi.so"}})
    with pytest.raises(GangError, match=r"rank . on node .: its constructor failed") as caught:
        gang.ready(60)
    assert isinstance(caught.value.cause, mpi.MpiLibraryError)
    assert "pip install" in str(caught.value)


@pytest.mark.parametrize("example", ["mpi_heat.py", "mpi_pi.py"])
def test_the_examples_run(example, tmp_path):
    launch = [sys.executable, "-m", "hpc.cli.launch", "--scheduler", "local", "--nodes", "2"]
    done = run([*launch, str(ROOT / "examples" / example)], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_program_of_the_page_prints_what_stands_beside_it(tmp_path):
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "mpi.md").read_text(), re.S)
    (tmp_path / "program.py").write_text(program)
    done = run([sys.executable, "program.py"], tmp_path)
    assert done.returncode == 0, done.stderr
    (said,) = re.findall(r"print\(.*# (.*)", program)
    assert done.stdout.strip() == said


def test_a_program_that_leaves_its_session_with_a_gang_says_nothing_of_it(tmp_path):
    (tmp_path / "program.py").write_text(LEAVES)
    done = run([sys.executable, "program.py"], tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[2, 2]\n" * 6, "")


LEAVES = """
import time

import hpc
from hpc import mpi

for turn in range(6):
    hpc.init(num_cpus=2, address="local")
    gang = mpi.gang(2)
    print(hpc.get(gang.run(lambda comm: comm.allreduce(1))))
    if turn % 2:
        gang.shutdown(wait=False)
    if turn < 5:
        hpc.shutdown()
        time.sleep(0.2)
        assert not hpc.is_initialized(), "the thread of a gang has started a session"
"""


def run(command, folder):
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder)


def all_collectives(comm):
    """Each operation of the backend mpi, beside what numpy says of it."""
    import numpy as np

    from hpc import collective
    from hpc.collective import ReduceOp

    me, ranks = comm.Get_rank(), comm.Get_size()
    collective.init_collective_group(ranks, ranks - 1 - me, "mpi", "reversed")
    me = collective.get_rank("reversed")
    found = {}
    for op, value in ((ReduceOp.SUM, 3.0), (ReduceOp.PRODUCT, 2.0), (ReduceOp.MAX, 2.0), (ReduceOp.AVERAGE, 1.5)):
        x = np.full((2, 2), me + 1.0, np.float32)[:, :1]
        collective.allreduce(x, "reversed", op)
        found[op.name] = bool((x == value).all())
    x = np.full(3, me + 1)
    collective.reduce(x, 1, "reversed")
    found["reduce"] = x.tolist() == ([3] * 3 if me == 1 else [1] * 3)
    x = np.full(3, me + 1)
    collective.broadcast(x, 1, "reversed")
    found["broadcast"] = x.tolist() == [2] * 3
    parts = [np.zeros(2) for _ in range(ranks)]
    collective.allgather(parts, np.full(2, me + 1.0), "reversed")
    found["allgather"] = [p.tolist() for p in parts] == [[1, 1], [2, 2]]
    x = np.zeros(2)
    collective.reducescatter(x, [np.full(2, r + me) for r in np.arange(2.0)], "reversed")
    found["reducescatter"] = x.tolist() == [2 * me + 1.0] * 2
    collective.alltoall(parts, [np.full(2, 10.0 * me + r) for r in range(ranks)], "reversed")
    found["alltoall"] = [p[0] for p in parts] == [me, 10 + me]
    x = np.zeros(1)
    collective.scatter(x, [np.full(1, r + 5.0) for r in range(ranks)] if me == 0 else None, 0, "reversed")
    found["scatter"] = x[0] == me + 5
    outs = [np.zeros(1) for _ in range(ranks)] if me == 1 else None
    collective.gather(x, outs, 1, "reversed")
    found["gather"] = me == 0 or [o[0] for o in outs] == [5, 6]
    collective.send(x, 1, "reversed") if me == 0 else collective.recv(x, 0, "reversed")
    found["send"] = x[0] == 5
    collective.barrier("reversed")
    try:
        collective.allreduce(np.zeros(2, np.float16), "reversed")
    except ValueError as error:
        found["float16"] = "no arithmetic for float16" in str(error)
    collective.destroy_collective_group("reversed")
    return {name: bool(ok) for name, ok in found.items()}


def test_ranks_of_a_gang_have_the_collectives_of_mpi(pair):
    for found in hpc.get(pair.run(all_collectives), timeout=60):
        assert len(found) == 13 and all(found.values()), found


def test_the_backend_mpi_is_for_ranks_of_a_world(two_nodes):
    @hpc.remote
    def join():
        from hpc import collective

        collective.init_collective_group(1, 0, "mpi")

    with pytest.raises(RuntimeError, match="no rank of an MPI world"):
        hpc.get(join.remote())

"""Gangs of MPI ranks on the nodes of a real Slurm: each has an address of its own, and MPI goes by these."""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections.abc import Iterator

import pytest
from desk import Desk, launcher
from netbed import wait_for

from hpc.core.node import rundir

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(
        importlib.util.find_spec("mpi4py") is None, reason="needs mpi4py and an MPI library: pip install 'hpc[mpi]'"
    ),
]

#: Four ranks on as many nodes; without shared memory, so that all goes by the network between the namespaces.
SPREAD = """
    import json, os, socket
    import numpy as np
    import hpc
    from hpc import mpi, spi
    hpc.init()

    def total(comm):
        mine, found = np.full(1 << 18, comm.Get_rank() + 1.0), np.empty(1 << 18)
        comm.Allreduce(mine, found)
        here = hpc.get_runtime_context().get_node_id()
        address = next(n["NodeManagerAddress"] for n in hpc.nodes() if n["NodeID"] == here)
        return socket.gethostname(), float(found[-1]), os.environ["UCX_NET_DEVICES"] == spi.interface_of(address)

    env = {"env_vars": {"UCX_TLS": "tcp,self"}}
    with mpi.gang(4, placement_strategy="STRICT_SPREAD", runtime_env=env) as gang:
        print(json.dumps(hpc.get(gang.run(total), timeout=60)))
"""
#: Three ranks that wait for ever, and what becomes of them.
STUCK = """
    import time
    import hpc
    from hpc import mpi
    hpc.init()
    gang = mpi.gang(3, placement_strategy="STRICT_SPREAD")
    gang.ready(60)
    refs = gang.run(lambda comm: comm.recv(source=(comm.Get_rank() + 1) % 3))
    open("running", "w").close()
    try:
        hpc.get(refs)
    except mpi.GangError as error:
        print("ended", error.rank, error, flush=True)
    with mpi.gang(2, placement_strategy="STRICT_SPREAD") as again:
        print("again", hpc.get(again.run(lambda comm: comm.allreduce(1)), timeout=60), flush=True)
"""


@pytest.fixture
def nodes(desk: Desk) -> Iterator[Desk]:
    """What killed nodes leave is swept, as the next session there would."""
    desk.script("spread.py", SPREAD)
    desk.script("stuck.py", STUCK)
    yield desk
    desk.bed.cancel_all()
    rundir.sweep(os.environ["HPC_TMPDIR"])


def test_ranks_of_four_nodes_are_one_world_by_the_nodes_own_addresses(nodes: Desk) -> None:
    done = nodes.launch("-N4", "-c2", "-t5", "spread.py")
    assert done.returncode == 0, done.stdout + done.stderr
    ranks = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("[[")))
    assert sorted(host for host, _, _ in ranks) == ["nid0001", "nid0002", "nid0003", "nid0004"]
    assert [(total, named) for _, total, named in ranks] == [(10.0, True)] * 4


def test_a_node_that_is_killed_ends_its_gang_and_is_named_and_another_gang_is_made(nodes: Desk) -> None:
    process = nodes.start(*launcher(), "-N3", "-c2", "-t5", "stuck.py")
    wait_for("ranks that wait", (nodes.folder / "running").exists, 90.0)
    time.sleep(2.5)  # a node is known to the head for some seconds
    nodes.bed.kill_node("nid0002")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    ended = next(line for line in out.splitlines() if line.startswith("ended"))
    assert f"rank {ended.split()[1]} (nid0002, process" in ended, ended
    assert "again [2, 2]" in out

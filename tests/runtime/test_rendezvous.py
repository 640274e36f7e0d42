"""Where ranks meet: the port is theirs from the start, and they have what torchrun would tell them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpc.launchers.local.group import LocalGroup
from hpc.launchers.ranks_run import RanksRun
from hpc.launchers.session import Session

LIMIT_S = 60.0
#: In a network of its own with few ports: all others are taken by programs that ask for any port, and by connections.
ALL_PORTS = """
import os, socket, subprocess, sys
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as file:
    file.write("40000 40049")
from hpc.core.node.held_port import hold_port

held = hold_port("127.0.0.1")
port = held.getsockname()[1]
for reuse in (0, 1):
    taken = []
    try:
        while True:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
            sock.bind(("0.0.0.0", 0))
            sock.listen()
            taken.append(sock)
    except OSError:
        pass
    assert len(taken) > 40 and port not in [sock.getsockname()[1] for sock in taken], (len(taken), port)
    for sock in taken:
        sock.close()
server = socket.create_server(("127.0.0.1", 30000), backlog=200)
mine = []
try:
    while True:
        mine.append(socket.create_connection(("127.0.0.1", 30000)))
except OSError:
    pass
assert len(mine) > 40 and port not in [sock.getsockname()[1] for sock in mine]
for sock in mine:
    sock.close()
with socket.create_server(("0.0.0.0", port)) as rank0:  # as torch's store does
    socket.create_connection(("127.0.0.1", port)).close()
with socket.create_server(("127.0.0.1", port)) as rank0:  # and again, as after a restart
    socket.create_connection(("127.0.0.1", port)).close()
"""
#: torchrun's own bookkeeping, of its version, that no script reads.
BOOKKEEPING = {"TORCHELASTIC_ERROR_FILE", "TORCHELASTIC_RUN_ID"}
MEET = """
import os, socket, sys, time
where = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
if os.environ["RANK"] == "0":
    time.sleep(0.3)  # as long as an import
    with socket.create_server(where) as server:
        server.accept()[0].sendall(b"met")
else:
    while True:
        try:
            with socket.create_connection(where) as sock:
                assert sock.recv(9) == b"met"
            break
        except ConnectionRefusedError:
            time.sleep(0.01)
print("met")
"""


def networks() -> bool:
    """Whether this process may make a network of its own."""
    return subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode == 0


def environment_of_ranks(tmp_path: Path, argv: list[str], folder: str) -> dict[str, dict[str, str]]:
    found = tmp_path / folder
    found.mkdir()
    script = tmp_path / "tell.py"
    script.write_text(
        "import json, os, sys\n"
        "with open(os.path.join(sys.argv[1], os.environ['RANK']), 'w') as f:\n    json.dump(dict(os.environ), f)\n"
    )
    if argv:
        subprocess.run([*argv, str(script), str(found)], check=True, timeout=LIMIT_S, capture_output=True)
    else:
        session = Session(LocalGroup(1), mode="ranks", start_timeout_s=LIMIT_S)
        assert RanksRun(session, [str(script), str(found)], per_node=2).run(LIMIT_S) == 0
    return {path.name: json.loads(path.read_text()) for path in found.iterdir()}


@pytest.mark.skipif(not networks(), reason="a network namespace cannot be made here")
def test_no_other_program_gets_the_port_of_rank_0() -> None:
    done = subprocess.run(["unshare", "-n", sys.executable, "-c", ALL_PORTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_ranks_have_every_variable_of_torchrun(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--nnodes=1", "--standalone"]
    theirs = environment_of_ranks(tmp_path, torchrun, "theirs")
    ours = environment_of_ranks(tmp_path, [], "ours")
    assert theirs.keys() == ours.keys() == {"0", "1"}
    for rank, env in theirs.items():
        set_by_it = {name: value for name, value in env.items() if os.environ.get(name) != value}
        assert len(set_by_it) > 12
        missing = set_by_it.keys() - ours[rank].keys()
        assert not missing
        same = set_by_it.keys() - BOOKKEEPING - {"MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS"}
        differ = {name for name in same if ours[rank][name] != env[name]}
        # rank 0 of ours makes the store by itself; torchrun's agent has one
        assert differ <= {"TORCHELASTIC_USE_AGENT_STORE"}, {n: (env[n], ours[rank][n]) for n in differ}
        assert ours[rank]["NODE_RANK"] == "0"


@pytest.mark.skipif(not os.environ.get("HPC_TEST_SLOW"), reason="forty processes: HPC_TEST_SLOW=1 runs it")
def test_twenty_jobs_that_start_at_once_on_one_machine_all_come_up(tmp_path: Path) -> None:
    script = tmp_path / "meet.py"
    script.write_text(MEET)
    argv = [sys.executable, "-m", "hpc.cli.launch", "--scheduler=local", "--ranks-per-node=2", "-Q", str(script)]
    env = os.environ | {"HPC_JOB_DIR": str(tmp_path / "jobs")}
    jobs = [
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env) for _ in range(20)
    ]
    said = [job.communicate(timeout=4 * LIMIT_S)[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0] * 20, said
    assert all(text.count("met") == 2 for text in said), said

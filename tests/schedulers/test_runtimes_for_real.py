"""Other runtimes on a real Slurm: torchrun and MPI always; Ray and Dask from PyPI where HPC_TEST_SLOW is set.

Their packages go into environments of their own, in $HPC_TEST_VENVS if that is set (they are made once there) or in a
temporary folder. DNS does not answer in the bed, as on many compute nodes: the resolver is told not to wait for it.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from desk import SlurmDesk, launcher, nothing_left
from netbed import wait_for

from hpc.core.node import rundir

SLOW = pytest.mark.skipif(
    not os.environ.get("HPC_TEST_SLOW"), reason="it installs packages and takes a minute: HPC_TEST_SLOW=1 runs it"
)
NO_DNS = {"RES_OPTIONS": "timeout:1 attempts:1"}

ALL_REDUCE = """
    import os, sys, torch, torch.distributed as dist
    dist.init_process_group("gloo")
    values = torch.ones(2) * (dist.get_rank() + 1)
    dist.all_reduce(values)
    print("rank", dist.get_rank(), dist.get_world_size(), values.tolist(), os.uname().nodename, flush=True)
    dist.destroy_process_group()
    if "--fails" in sys.argv and os.environ["RANK"] == "2":
        raise ValueError("on purpose")
"""

DASK = """
    import os, time
    from distributed import Client
    client = Client()
    print("workers", sorted(w["name"] for w in client.scheduler_info(-1)["workers"].values()))
    print("threads", sum(w["nthreads"] for w in client.scheduler_info(-1)["workers"].values()))
    squares = client.map(lambda i: (time.sleep(0.02), os.uname().nodename, i * i)[1:], range(200), pure=False)
    found = client.gather(squares)
    print("sum", sum(square for _, square in found), "on", len({host for host, _ in found}))
    assert client.scheduler.address.startswith("tls://10.77.")
    if os.environ.get("STAYS"):
        print("up", flush=True)
        time.sleep(600)
"""

RAY = """
    import os, ray, time
    ray.init(log_to_driver=False)
    alive = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    print("nodes", sorted(node["NodeManagerHostname"] for node in alive), int(ray.cluster_resources()["CPU"]))

    @ray.remote(num_cpus=1, scheduling_strategy="SPREAD")
    def where(i):
        time.sleep(0.2)
        return os.uname().nodename

    @ray.remote
    class Counter:
        def __init__(self): self.n = 0
        def add(self, k): self.n += k; return self.n

    print("ran on", len(set(ray.get([where.remote(i) for i in range(32)]))))
    counter = Counter.remote()
    print("counted", ray.get([counter.add.remote(i) for i in range(10)])[-1])
"""

#: Somebody else on the network: with no certificate and no token, and with those of another job.
STRANGER_AT_DASK = """
    import os, subprocess, sys
    code = "import sys; from distributed import Client; from distributed.security import Security;" \\
        "security = None if sys.argv[1].startswith('tcp') else Security.temporary();" \\
        "Client(sys.argv[1], security=security, timeout=5)"
    env = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
    for address in (os.environ["DASK_SCHEDULER_ADDRESS"].replace("tls:", "tcp:"), os.environ["DASK_SCHEDULER_ADDRESS"]):
        done = subprocess.run([sys.executable, "-c", code, address], env=env, capture_output=True, timeout=60)
        print("stranger", done.returncode, flush=True)
"""
STRANGER_AT_RAY = """
    import os, subprocess, sys
    code = "import ray; ray.init(log_to_driver=False); ray.get(ray.remote(lambda: 1).remote())"
    for changed in ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "0" * 64}, {}):
        env = {**os.environ, **changed}
        if changed:
            del env["RAY_AUTH_TOKEN_PATH"]
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, timeout=90)
        print("stranger" if changed else "friend", done.returncode, flush=True)
"""

MPI = """
    from mpi4py import MPI
    import os, sys
    world = MPI.COMM_WORLD
    print("rank", world.rank, world.size, world.allreduce(world.rank), os.uname().nodename, flush=True)
    if "--fails" in sys.argv and world.rank == 3:
        world.Abort(9)
    world.barrier()
"""


@pytest.fixture(scope="session")
def python_with(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """A Python with packages from PyPI, and with all that this one has."""

    def make(name: str, *packages: str) -> str:
        base = os.environ.get("HPC_TEST_VENVS") or str(tmp_path_factory.mktemp("venvs"))
        folder = Path(base) / name
        python = folder / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=120)
            subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=True, timeout=900)
        sites = [path for path in sys.path if path.endswith("site-packages")]
        (own,) = folder.glob("lib/python3*/site-packages")
        lines = [f"import site; site.addsitedir({path!r})" for path in sites]
        (own / "all_of_the_tests.pth").write_text("\n".join(lines) + "\n")
        return str(python)

    return make


def said(out: str, word: str) -> str:
    return next(line.partition(" ")[2] for line in out.splitlines() if line.startswith(f"{word} "))


def swept() -> None:
    """A node that was killed whole leaves its folder to the next supervisor on that machine."""
    rundir.sweep(os.environ["HPC_TMPDIR"])


def test_torchrun_reduces_over_four_nodes(desk: SlurmDesk) -> None:
    pytest.importorskip("torch")
    desk.script("reduce.py", ALL_REDUCE)
    done = desk.salloc(4, *launcher(), "--runtime=torchrun", "reduce.py", env=NO_DNS, timeout_s=120)
    assert done.returncode == 0, done.stderr
    ranks = sorted(line.split(" ", 1)[1] for line in done.stdout.splitlines() if line.startswith("rank "))
    assert ranks == [f"{i} 4 [10.0, 10.0] {host}" for i, host in enumerate(desk.bed.hosts)]
    nothing_left(desk)


@SLOW
def test_torchrun_shows_the_first_error_last(desk: SlurmDesk) -> None:
    desk.script("reduce.py", ALL_REDUCE)
    done = desk.salloc(4, *launcher(), "--runtime=torchrun", "reduce.py", "--fails", env=NO_DNS, timeout_s=120)
    assert done.returncode == 1
    assert "rank 2 on node 3 (nid0003)" in done.stderr and "ValueError: on purpose" in done.stderr
    nothing_left(desk)


@SLOW
@pytest.mark.timeout(400)
def test_an_elastic_torchrun_goes_on_without_a_node(desk: SlurmDesk) -> None:
    desk.script("elastic.py", """
        import os, sys, time, torch, torch.distributed as dist
        dist.init_process_group("gloo")
        print("world", dist.get_world_size(), os.environ["TORCHELASTIC_RESTART_COUNT"], flush=True)
        values = torch.ones(1)
        for _ in range(20 if dist.get_world_size() < 3 else 10000):
            dist.all_reduce(values)
            time.sleep(0.1)
        print("finished", dist.get_world_size(), flush=True)
    """)  # fmt: skip
    process = desk.start(
        "salloc", "-Q", "-N3", "-c2", "-t5", *launcher(), "--runtime=torchrun", "--min-nodes=2", "elastic.py",
        env=NO_DNS,
    )  # fmt: skip
    assert process.stdout is not None
    while not (line := process.stdout.readline()).startswith("world 3"):
        assert line, process.communicate(timeout=90)
    desk.bed.kill_node("nid0003")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out.count("finished 2") == 2
    swept()
    nothing_left(desk)


@SLOW
def test_dask_runs_a_program_on_four_nodes(desk: SlurmDesk, python_with: Callable[..., str]) -> None:
    python = python_with("dask", "distributed", "cryptography")
    desk.script("dask_program.py", DASK)
    done = desk.run(
        python, "-m", "hpc.cli.launch", "-N4", "-c2", "-t5", "--mem=400M", "--runtime=dask", "dask_program.py",
        timeout_s=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert said(done.stdout, "workers") == str(desk.bed.hosts) and said(done.stdout, "threads") == "8"
    assert said(done.stdout, "sum") == f"{sum(i * i for i in range(200))} on 4"
    nothing_left(desk)
    assert not list(desk.jobs.glob("*/keys"))


@SLOW
@pytest.mark.parametrize("end", ["scancel", "the node of the scheduler", "another node"])
def test_nothing_of_dask_is_left_however_its_job_ends(
    desk: SlurmDesk, python_with: Callable[..., str], end: str
) -> None:
    python = python_with("dask", "distributed", "cryptography")
    desk.script("dask_program.py", DASK)
    words = ("-m", "hpc.cli.launch", "-N3", "-c2", "-t5", "--runtime=dask", "--env=STAYS=1", "dask_program.py")
    process = desk.start(python, *words)
    assert process.stdout is not None
    while (line := process.stdout.readline()) != "up\n":
        assert line, process.communicate(timeout=90)
    if end == "scancel":
        desk.run("scancel", desk.job_id(), check=True)
    elif end == "another node":
        desk.bed.kill_node("nid0002")
        wait_for("the news of the lost node", lambda: "nid0002" in (desk.jobs / "1" / "driver.log").read_text(), 90.0)
        assert process.poll() is None
        desk.run("scancel", desk.job_id(), check=True)
    else:
        desk.bed.kill_node("nid0001")
        desk.bed.fail_node("nid0001")  # Slurm has noticed
    try:
        process.communicate(timeout=60)
    finally:
        desk.bed.mend_node("nid0001")
    assert process.returncode != 0
    desk.bed.wait_idle()
    swept()
    nothing_left(desk)


@SLOW
@pytest.mark.parametrize("inside", [False, True])
def test_ray_runs_a_program_on_four_nodes(
    desk: SlurmDesk, python_with: Callable[..., str], inside: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Submitted, and from the login node of an allocation, where the script's own machine is one more node."""
    python = python_with("ray", "ray")
    desk.script("ray_program.py", RAY)
    short = {"HPC_TMPDIR": "/tmp"}
    words = ("-m", "hpc.cli.launch", "--runtime=ray", "ray_program.py")
    if inside:
        done = desk.salloc(4, python, *words, env=short, timeout_s=170)
    else:
        done = desk.run(python, *words[:2], "-N4", "-c2", "-t5", "--mem=900M", *words[2:], env=short, timeout_s=170)
    assert done.returncode == 0, done.stdout + done.stderr
    assert said(done.stdout, "nodes") == f"{desk.bed.hosts} 8"
    assert said(done.stdout, "ran") == "on 4" and said(done.stdout, "counted") == "45"
    nothing_left(desk)
    assert not list(Path("/tmp").glob(f"hpc-{os.getuid()}-*-*")) and not list(desk.jobs.glob("*/keys"))


@SLOW
@pytest.mark.parametrize(
    ("runtime", "package", "program", "expected"),
    [
        ("dask", "distributed", STRANGER_AT_DASK, ["stranger 1"] * 2),
        ("ray", "ray", STRANGER_AT_RAY, ["stranger 1", "stranger 1", "friend 0"]),
    ],
)
def test_a_stranger_is_not_let_in(
    desk: SlurmDesk, python_with: Callable[..., str], runtime: str, package: str, program: str, expected: list[str]
) -> None:
    python = python_with(runtime, package, *(["cryptography"] if runtime == "dask" else []))
    desk.script("stranger.py", program)
    words = ("-m", "hpc.cli.launch", "--scheduler=local", "-c1", "--mem=900M", f"--runtime={runtime}", "stranger.py")
    done = desk.run(python, *words, env={"HPC_TMPDIR": "/tmp"}, timeout_s=170)
    assert done.stdout.splitlines() == expected, done.stderr


@SLOW
def test_two_ray_sessions_share_a_machine(desk: SlurmDesk, python_with: Callable[..., str]) -> None:
    python = python_with("ray", "ray")
    desk.script("ray_program.py", RAY)
    words = (python, "-m", "hpc.cli.launch", "--scheduler=local", "-c1", "--mem=900M", "--runtime=ray")
    both = [desk.start(*words, "ray_program.py", env={"HPC_TMPDIR": "/tmp"}) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=150)
        assert process.returncode == 0 and said(out, "counted") == "45", err


@pytest.mark.skipif(importlib.util.find_spec("mpi4py") is None, reason="needs mpi4py and MPICH: pip install 'hpc[mpi]'")
@pytest.mark.parametrize("per_node", [1, 2])
def test_an_mpi_program_runs_on_four_nodes(desk: SlurmDesk, per_node: int) -> None:
    desk.script("mpi_program.py", MPI)
    words = ("--runtime=mpi", f"--ranks-per-node={per_node}", "mpi_program.py")
    done = desk.salloc(4, *launcher(), *words, timeout_s=60)
    assert done.returncode == 0, done.stderr
    ranks = sorted(line.split(" ", 1)[1] for line in done.stdout.splitlines() if line.startswith("rank "))
    world, total = 4 * per_node, sum(range(4 * per_node))
    assert ranks == [f"{i} {world} {total} {desk.bed.hosts[i // per_node]}" for i in range(world)]
    if per_node == 1:
        began = time.monotonic()
        done = desk.salloc(4, *launcher(), *words, "--fails", timeout_s=60)
        assert done.returncode not in (0, 124) and time.monotonic() - began < 30
    nothing_left(desk)

"""The command lines and variables of other runtimes, from the nodes alone."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from hpc.launchers.node_program import NodeProgram
from hpc.launchers.runtimes import files, mpi_run, table
from hpc.launchers.runtimes.dask_cluster import DaskCluster
from hpc.launchers.runtimes.face import PART_ENV, RuntimeFault, RuntimeNode, Wish, missing
from hpc.launchers.runtimes.part import filled
from hpc.launchers.runtimes.ray_cluster import OWN_FOLDERS, RayCluster
from hpc.launchers.runtimes.torchrun import agents

GIB = 1 << 30


def node(number: int, **more: Any) -> RuntimeNode:
    facts = {"cpus": 8, "mem_bytes": 16 * GIB, **more}
    return RuntimeNode(number, f"nid{number}", f"10.0.0.{number}", f"/tmp/hpc-1000-abcdef012345-{number}", **facts)


def order(program: NodeProgram) -> dict[str, Any]:
    return json.loads(str(program.env[PART_ENV]))


def options(program: NodeProgram) -> dict[str, str]:
    words = [word.partition("=") for word in order(program)["argv"] if word.startswith("--")]
    return {name: value for name, _, value in words}


@pytest.fixture
def wish(tmp_path: Path) -> Wish:
    return Wish("s1", (node(1), node(2, gpus=("2", "3"), device_env={"CUDA_VISIBLE_DEVICES": "2,3"})), str(tmp_path))


@pytest.fixture
def new_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpc.launchers.runtimes.ray_cluster.version", lambda: OWN_FOLDERS)


@pytest.mark.usefixtures("new_ray")
def test_ray_gets_what_was_granted_and_ports_that_nobody_has(wish: Wish) -> None:
    steps = RayCluster().steps(wish)
    head = next(steps)[1]
    asked = options(head)
    assert asked["--port"] == "0" and asked["--node-ip-address"] == "10.0.0.1" and asked["--num-cpus"] == "8"
    assert asked["--num-gpus"] == "0" and asked["--include-dashboard"] == "false" and "--block" in asked
    assert asked["--ray-client-server-port"] == "{free_port}"
    assert all(value in ("0", "{free_port}") for name, value in asked.items() if name.endswith("-port"))
    worker = steps.send({1: {"address": "10.0.0.1:4711"}})[2]
    asked = options(worker)
    assert asked["--address"] == "10.0.0.1:4711" and asked["--num-gpus"] == "2" and "--head" not in asked
    assert worker.env["CUDA_VISIBLE_DEVICES"] == "2,3" and "CUDA_VISIBLE_DEVICES" not in head.env
    store = int(asked["--object-store-memory"].removeprefix("{shared:").rstrip("}"))
    assert int(asked["--memory"]) + store == 16 * GIB and store == int(0.3 * 16 * GIB)


@pytest.mark.usefixtures("new_ray")
def test_a_rays_token_is_in_a_file_of_this_user_alone(wish: Wish) -> None:
    steps = RayCluster().steps(wish)
    programs = [*next(steps).values(), *steps.send({1: {"address": "a:1"}}).values()]
    with pytest.raises(StopIteration) as end:
        steps.send({2: {}})
    variables = end.value.value
    path = Path(variables["RAY_AUTH_TOKEN_PATH"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and len(path.read_text()) == 64
    assert variables["RAY_ADDRESS"] == "a:1" and variables["RAY_AUTH_MODE"] == "token"
    for program in programs:
        assert path.read_text() not in json.dumps([program.argv, dict(program.env)])
        assert program.env["RAY_AUTH_TOKEN_PATH"] == str(path) and program.env["RAY_AUTH_TOKEN"] is None


@pytest.mark.usefixtures("new_ray")
def test_a_machine_that_is_no_node_of_the_job_offers_ray_nothing(tmp_path: Path) -> None:
    steps = RayCluster().steps(Wish("s1", (node(1), node(2, offers=False, gpus=("0",))), str(tmp_path)))
    next(steps)
    asked = options(steps.send({1: {"address": "a:1"}})[2])
    assert asked["--num-cpus"] == asked["--num-gpus"] == asked["--memory"] == "0"


@pytest.mark.usefixtures("new_ray")
def test_a_folder_too_long_for_rays_sockets_gives_way_to_a_short_one_or_is_refused(tmp_path: Path) -> None:
    deep = RuntimeNode(1, "nid1", "10.0.0.1", "/scratch/" + "x" * 40 + "/hpc-1000-abcdef012345-1")
    (tmp_path / "a").mkdir()
    program = next(RayCluster().steps(Wish("s1", (deep,), str(tmp_path / "a"))))[1]
    assert options(program)["--temp-dir"] == "{short}" and order(program)["short"] == ["s1", 1]
    with pytest.raises(RuntimeFault, match="too long") as fault:
        next(RayCluster().steps(Wish("s1", (deep,), str(tmp_path), folders_chosen=True)))
    assert fault.value.fix == "--tmpdir=/tmp" and "at most" in fault.value.why


def test_an_old_ray_has_the_heads_folder_on_all_nodes_and_it_goes(wish: Wish, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpc.launchers.runtimes.ray_cluster.version", lambda: (2, 40))
    steps = RayCluster().steps(wish)
    assert "foreign" not in order(next(steps)[1])
    assert order(steps.send({1: {"address": "a:1"}})[2])["foreign"] == wish.nodes[0].folder


def test_the_users_arguments_come_last(tmp_path: Path) -> None:
    steps = RayCluster().steps(Wish("s1", (node(1),), str(tmp_path), ("--num-cpus=1",)))
    assert order(next(steps)[1])["argv"][-1] == "--num-cpus=1"
    with pytest.raises(StopIteration):
        steps.send({1: {"address": "a:1"}})


def test_dask_has_one_worker_a_node_and_one_certificate(wish: Wish) -> None:
    steps = DaskCluster().steps(wish)
    first = next(steps)[1]
    assert order(first)["scheduler"] is None and order(first)["nthreads"] == 8
    second = steps.send({1: {"address": "tls://10.0.0.1:4711"}})[2]
    assert order(second)["scheduler"] == "tls://10.0.0.1:4711" and order(second)["memory_limit"] == 16 * GIB
    assert order(second)["host"] == "10.0.0.2" and order(second)["name"] == "nid2"
    with pytest.raises(StopIteration) as end:
        steps.send({2: {}})
    variables = end.value.value
    assert variables["DASK_SCHEDULER_ADDRESS"] == "tls://10.0.0.1:4711"
    assert variables["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] == "True"
    key = Path(variables["DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY"])
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and "PRIVATE KEY" in key.read_text()
    assert "CERTIFICATE" in Path(variables["DASK_DISTRIBUTED__COMM__TLS__CA_FILE"]).read_text()


def test_dask_takes_no_arguments(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFault, match="--runtime-arg"):
        next(DaskCluster().steps(Wish("s1", (node(1),), str(tmp_path), ("--x",))))


def test_a_certificate_needs_one_of_two_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeFault, match="neither the package cryptography nor a working openssl"):
        files.write_certificate(str(tmp_path))
    assert not os.listdir(tmp_path)


def test_torchruns_agents_meet_at_the_first_node() -> None:
    nodes = [node(1), node(2, gpus=("0", "1"))]
    first, second = agents(nodes, 4711, [sys.executable, "train.py", "--x"], session="s1")
    assert first.argv[:3] == (sys.executable, "-m", "torch.distributed.run")
    assert first.argv[-2:] == ("train.py", "--x")
    both = {"--nnodes=2", "--rdzv-endpoint=10.0.0.1:4711", "--rdzv-id=s1", "--max-restarts=0"}
    assert both <= set(first.argv) and both <= set(second.argv)
    assert {"--rdzv-conf=is_host=1,last_call_timeout=10", "--local-addr=10.0.0.1", "--nproc-per-node=1"} <= set(
        first.argv
    )
    assert {"--rdzv-conf=is_host=0,last_call_timeout=10", "--local-addr=10.0.0.2", "--nproc-per-node=2"} <= set(
        second.argv
    )
    assert first.env == {"OMP_NUM_THREADS": "8"} and second.env == {"OMP_NUM_THREADS": "4"}


def test_torchrun_is_elastic_from_a_least_number_of_nodes() -> None:
    (first, _) = agents([node(1), node(2)], 1, ["/bin/prog"], session="s", least=1, per_node=3, threads_said=True)
    assert {"--nnodes=1:2", "--max-restarts=3", "--nproc-per-node=3"} <= set(first.argv)
    assert first.argv[-2:] == ("--no-python", "/bin/prog") and not first.env
    (module,) = agents([node(1)], 1, [sys.executable, "-m", "pkg", "a"], session="s")
    assert module.argv[-3:] == ("--module", "pkg", "a")


def test_mpiexec_starts_nothing_by_itself() -> None:
    argv = mpi_run.mpiexec_command("/x/mpiexec", [node(1), node(2)], 2, ["prog", "a"], ["-genv", "A", "1"])
    assert argv[0] == "/x/mpiexec" and argv[-5:] == ["-genv", "A", "1", "prog", "a"]
    text = " ".join(argv)
    assert "-launcher manual" in text and "-hosts 10.0.0.1,10.0.0.2" in text and "-ppn 2 -n 4" in text
    assert "-localhost 10.0.0.1" in text


def test_without_an_mpiexec_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeFault, match="no mpiexec") as fault:
        mpi_run.find_mpiexec()
    assert "pip install mpich" in fault.value.fix


def test_a_runtime_whose_package_is_not_here_says_what_to_install() -> None:
    fault = missing("no_such_package", "Nothing", "nothing")
    assert fault is not None and "no module 'no_such_package'" in str(fault)
    assert fault.fix == f"{sys.executable} -m pip install nothing"
    assert missing("json", "JSON", "json") is None and table.why_not(table.OWN) is None


def test_what_only_the_node_knows_is_filled_in_there() -> None:
    assert 1024 <= int(filled("--p={free_port}").removeprefix("--p=")) <= 65535
    assert filled("--m={shared:4096}") == "--m=4096" and filled("--x={y}") == "--x={y}"
    assert int(filled("{shared:999999999999999}")) < 999999999999999

"""The checks of `hpc doctor`, each with a machine that lacks what it looks for; the page that people read."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpc.core.node import address
from hpc.doctor import folders, machine, network, nodes, site
from hpc.doctor.finding import Finding, fail, ok, run, warn, worst
from hpc.doctor.links import Link
from hpc.doctor.page import lines


def levels(findings: Iterator[Finding]) -> list[tuple[str, str]]:
    return [(finding.check, finding.level) for finding in findings]


# ---------------------------------------------------------------- a machine


def test_few_open_files_are_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1024, 1024))
    (found,) = machine.open_files()
    assert found.level == "warn" and "ulimit -Hn 4096" in found.fix and "1024" in found.seen
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1024, resource.RLIM_INFINITY))
    assert levels(machine.open_files()) == [("open files", "ok")]


def test_few_processes_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (200, 200))
    assert levels(machine.processes()) == [("processes", "warn")]
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert levels(machine.processes()) == [("processes", "ok")]


def test_an_interface_that_is_not_there_is_a_failure() -> None:
    (found,) = machine.network("nosuch0")
    assert found.level == "fail" and "nosuch0" in found.seen and "--interface" in found.fix


def test_a_machine_without_a_network_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "list_interfaces", lambda: [address.Interface("lo", "127.0.0.1", True)])
    monkeypatch.setattr(address, "outside_address", lambda: None)
    monkeypatch.setattr(address, "hostname_address", lambda: None)
    assert levels(machine.network(None)) == [("interface", "warn")]


def test_an_address_that_takes_no_connection_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    away = address.Interface("ib0", "198.51.100.7", True)  # reserved for documentation: not this machine's
    monkeypatch.setattr(address, "node_address", lambda **kw: away)
    (found,) = machine.network(None)
    assert found.level == "fail" and "ib0 198.51.100.7" in found.seen


@pytest.mark.parametrize(
    ("env", "level"),
    [
        ({}, "ok"),
        ({"https_proxy": "http://p:3128"}, "warn"),
        ({"https_proxy": "http://p:3128", "no_proxy": "localhost, .site"}, "ok"),
        ({"HTTP_PROXY": "http://p:3128", "NO_PROXY": "*"}, "ok"),
        ({"http_proxy": ""}, "ok"),
    ],
)
def test_a_proxy_that_catches_local_traffic_is_told(env: dict[str, str], level: str) -> None:
    assert [finding.level for finding in machine.proxies(env)] == [level]


@pytest.mark.parametrize(
    ("devices", "env", "wanted"),
    [
        ([], {}, ("ok", "none")),
        (["nvidia0", "nvidia1", "nvidiactl"], {}, ("ok", "2 usable, 2 in the machine")),
        (["nvidia0", "nvidia1"], {"CUDA_VISIBLE_DEVICES": "0"}, ("ok", "1 usable, 2 in the machine")),
        (["nvidia0"], {"CUDA_VISIBLE_DEVICES": ""}, ("warn", "0 usable, 1 in the machine")),
        (["nvidia0"], {"CUDA_VISIBLE_DEVICES": "0,1"}, ("fail", "2 usable, 1 in the machine")),
    ],
)
def test_gpus_that_are_there_and_those_that_may_be_used(
    tmp_path: Path, devices: list[str], env: dict[str, str], wanted: tuple[str, str]
) -> None:
    (tmp_path / "dev").mkdir()
    for name in devices:
        (tmp_path / "dev" / name).touch(mode=0o666)
    found = next(iter(machine.gpus(env, str(tmp_path))))
    assert found.level == wanted[0] and found.seen.startswith(wanted[1])


def test_a_check_that_breaks_keeps_no_other_from_its_turn() -> None:
    def broken() -> list[Finding]:
        raise RuntimeError("oh")

    found = run([("one", broken), ("two", lambda: [ok("two", "fine")])])
    assert [(f.check, f.level) for f in found] == [("one", "warn"), ("two", "ok")] and "RuntimeError: oh" in found[
        0
    ].seen


# ---------------------------------------------------------------- folders

MOUNTS = """\
/dev/a / ext4 rw 0 0
fs:/home /home nfs4 rw 0 0
scr /home/scratch lustre rw 0 0
tmpfs /tmp tmpfs rw 0 0
x /with\\040space gpfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/jobs", "nfs4"),
        ("/home/scratch/me", "lustre"),
        ("/homework", "ext4"),
        ("/tmp", "tmpfs"),
        ("/with space/x", "gpfs"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_the_deepest_mount(tmp_path: Path, path: str, kind: str) -> None:
    (tmp_path / "mounts").write_text(MOUNTS)
    assert folders.kind_of(Path(path), str(tmp_path / "mounts")) == kind


@pytest.mark.parametrize(
    ("kind", "many_nodes", "level"),
    [
        ("lustre", True, "ok"),
        ("ext4", False, "ok"),
        ("ext4", True, "warn"),
        ("tmpfs", True, "fail"),
        ("tmpfs", False, "ok"),
    ],
)
def test_the_folder_of_jobs_has_to_be_shared_where_jobs_run_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, many_nodes: bool, level: str
) -> None:
    monkeypatch.setattr(folders, "kind_of", lambda path: kind)
    monkeypatch.setattr(folders, "_probe", lambda path: (0.001, 0.0))
    found = {finding.check: finding for finding in folders.jobs_folder(tmp_path / "jobs", many_nodes)}
    assert found["job folder"].level == level and kind in found["job folder"].seen


def test_a_slow_file_server_and_one_with_another_clock_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "_probe", lambda path: (0.4, 7.5))
    found = {finding.check: finding for finding in folders.jobs_folder(tmp_path, False)}
    assert found["job folder"].level == "warn" and "400.0 ms" in found["job folder"].seen
    assert found["clock"].level == "warn" and "+7.5 s" in found["clock"].seen


def test_a_folder_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (found,) = folders.jobs_folder(tmp_path / "file" / "jobs", True)
    assert found.level == "fail" and "--job-dir" in found.fix


def test_nothing_of_the_probe_is_left(tmp_path: Path) -> None:
    list(folders.jobs_folder(tmp_path, False))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_for_sockets_with_too_long_a_path_is_a_failure(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    (found,) = folders.local_folder({}, str(deep))
    assert found.level == "fail" and "too long" in found.seen
    (found,) = folders.local_folder({"TMPDIR": str(deep)}, None)
    assert found.level == "ok" and f"TMPDIR={deep} is not usable" in found.seen


# ---------------------------------------------------------------- what is asked once


def test_a_scheduler_that_does_not_answer_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    silent = tmp_path / "squeue"
    silent.write_text("#!/bin/sh\necho 'slurm_load_jobs error: Unable to contact slurm controller' >&2\nexit 1\n")
    silent.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for name in [n for n in os.environ if n.startswith("SLURM")]:
        monkeypatch.delenv(name)
    (found,) = site.scheduler("slurm")
    assert found.level == "fail" and "Slurm does not answer" in found.seen


# ---------------------------------------------------------------- nodes beside each other


def looked(host: str, **other: Any) -> dict[str, Any]:
    row = {"host": host, "python": "3.11.7 /p", "version": "1", "sees_token": True, "skew_s": 0.001}
    return {**row, **other}


@pytest.mark.parametrize(
    ("other", "check", "level", "words"),
    [
        ({}, "same python", "ok", "3.11.7"),
        ({"python": "3.9.2 /usr/bin/python3"}, "same python", "fail", "n2: 3.9.2"),
        ({"version": "0.9"}, "same version", "fail", "n2: 0.9"),
        ({"sees_token": False}, "shared job folder", "fail", "n2"),
        ({"skew_s": -3.0}, "clocks", "warn", "n2 is -3.0 s off"),
    ],
)
def test_what_differs_between_nodes_is_told_with_the_node(
    other: dict[str, Any], check: str, level: str, words: str
) -> None:
    rows = [looked("n1"), looked("n2", **other)]
    found = {finding.check: finding for finding in nodes.compare(rows, {"python": "3.11.7 /p", "version": "1"})}
    assert found[check].level == level and words in found[check].seen
    assert all(finding.level == "ok" for name, finding in found.items() if name != check)


def test_the_network_and_the_gpus_are_told_by_the_nodes_that_lag() -> None:
    hosts = ["n1", "n2", "n3"]
    links = [Link(0, 1, 9e9, 1e-5), Link(0, 2, 4e7, 1e-5), Link(1, 2, 4e7, 1e-5)]
    copies = [{"GPU 0": 5e10}, {"GPU 0": 5e10, "GPU 1": 1e10}, {"GPU 0": 5e10}]
    found = network.findings(hosts, links, copies)
    assert [(f.check, f.level, f.node) for f in found] == [("links", "warn", "n3"), ("gpu copies", "warn", "n2")]
    assert network.unfit(3, links, copies) == [1, 2]
    assert "40.0 MB/s at best, other nodes 9.00 GB/s" in found[0].seen and "leave out n3" in found[0].fix
    assert "GPU 1 copies 10.00 GB/s, others 50.00 GB/s" in found[1].seen
    fine = network.findings(hosts, [links[0]], ["no GPU"] * 3)
    assert [f.level for f in fine] == ["ok", "ok"] and "not measured: no GPU" in fine[1].seen
    far, _ = network.findings(hosts[:2], [Link(0, 1, 7e6, 1e-5)], ["no GPU"] * 2)
    assert far.level == "warn" and "7.0 MB/s (n1 and n2)" in far.seen and "--interface" in far.fix


# ---------------------------------------------------------------- the page


def test_nodes_that_say_the_same_share_a_line() -> None:
    found = [Finding("cpus", "ok", "8 of 8", node=f"n{i}") for i in range(6)]
    found += [
        Finding("gpus", "warn" if i else "ok", "none" if i else "4", "ask" if i else "", f"n{i}") for i in range(6)
    ]
    text = "\n".join(lines(found))
    assert text.count("cpus") == 1 and "[all 6 nodes] 8 of 8" in text
    assert "[n1, n2, n3 and 2 more] none" in text and "-> ask" in text
    assert "0 to mend, 5 to know of" in text


def test_the_worst_counts() -> None:
    assert worst([]) == "ok" and worst([ok("a", "")]) == "ok"
    assert worst([ok("a", ""), warn("b", "", "")]) == "warn"
    assert worst([fail("c", "", ""), warn("b", "", "")]) == "fail"


# ---------------------------------------------------------------- the command


def doctor(*words: str, home: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "HPC_JOB_DIR": str(home / "jobs"), "XDG_CONFIG_HOME": str(home), "HPC_SCHEDULER": "local"}
    command = [sys.executable, "-m", "hpc", "doctor", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_this_machine_is_looked_at(tmp_path: Path) -> None:
    done = doctor("--json", home=tmp_path)
    rows = {row["check"]: row for row in json.loads(done.stdout)}
    assert {"python", "scheduler", "interface", "job folder", "clock", "imports", "gpus", "site"} <= set(rows)
    assert done.returncode == int(any(row["level"] == "fail" for row in rows.values()))
    failing = doctor("--interface=nosuch0", home=tmp_path)
    assert failing.returncode == 1 and "FAIL  interface" in failing.stdout and "1 to mend" in failing.stdout


def test_the_nodes_of_a_job_are_looked_at(tmp_path: Path) -> None:
    done = doctor("-N2", "--json", home=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(done.stdout)
    assert len({row["node"] for row in rows if row["check"] == "cpus"}) == 2, "two local nodes, told apart"
    assert {"same python", "shared job folder", "clocks", "links"} <= {row["check"] for row in rows if not row["node"]}
    assert not [path for path in (tmp_path / "jobs").iterdir() if path.name.startswith(".doctor")]
    assert doctor("-N2", "script.py", home=tmp_path).returncode == 2

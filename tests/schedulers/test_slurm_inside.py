"""hpc-launch inside a real allocation: sbatch scripts, salloc shells, ranks, and every way that it can go wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from desk import SlurmDesk as Desk
from desk import launcher, nothing_left
from netbed import wait_for
from programs import HOSTS, PLAIN, pretend_jupyter

pytestmark = pytest.mark.slurm

ROOT = Path(__file__).resolve().parents[2]

WAITS = """
    import os, signal, sys, time
    print("driver", os.getpid(), flush=True)
    while True:
        time.sleep(0.1)
"""


def answer(text: str) -> dict[str, object]:
    return json.loads(next(line for line in text.splitlines() if line.startswith("{")))


def batch(desk: Desk, nodes: int, command: list[str], *options: str) -> subprocess.CompletedProcess[str]:
    """A batch script of the user's own; its output is returned as stdout."""
    desk.script("own.sbatch", "#!/bin/bash\nexec " + subprocess.list2cmdline(command) + "\n")
    code, out = desk.batch(f"-N{nodes}", "-c2", "-t5", *options, "own.sbatch")
    return subprocess.CompletedProcess(command, code, out, "")


def test_in_an_sbatch_script_the_driver_runs_on_the_first_node(desk: Desk) -> None:
    desk.script("hosts.py", HOSTS)
    done = batch(desk, 4, [*launcher(), "hosts.py", "4"])
    said = answer(done.stdout)
    assert done.returncode == 0, done.stdout
    assert said == {"hosts": desk.bed.hosts, "nodes": desk.bed.hosts, "cpus": 8.0, "here": "nid0001"}
    assert "running   4 nodes, 8 CPUs ready" in done.stdout


def test_in_a_salloc_shell_the_driver_runs_at_the_login_node(desk: Desk) -> None:
    desk.script("hosts.py", HOSTS)
    done = desk.salloc(3, *launcher(), "hosts.py", "3")
    assert done.returncode == 0, done.stderr
    said = answer(done.stdout)
    assert len(said["hosts"]) == 3 and said["cpus"] == 6.0 and said["here"] == os.uname().nodename


def test_init_at_a_prompt_in_a_salloc_shell_uses_the_allocation(desk: Desk) -> None:
    desk.script("hosts.py", HOSTS)
    done = desk.salloc(4, sys.executable, "hosts.py", "4")
    assert done.returncode == 0, done.stderr
    assert answer(done.stdout)["hosts"] == desk.bed.hosts


@pytest.mark.parametrize(("name", "nodes"), [("train", 4), ("tasks", 2), ("hetero", 3)])
def test_a_template_runs_as_it_is(desk: Desk, name: str, nodes: int) -> None:
    desk.script("hosts.py", HOSTS)
    code, out = desk.batch(str(ROOT / "templates" / "slurm" / f"{name}.sbatch"), "hosts.py", str(nodes))
    assert code == 0, out
    hosts = answer(out)["hosts"]
    assert (
        len(hosts) == len(set(hosts)) == nodes and set(hosts) <= set(desk.bed.hosts) and hosts[0] == desk.bed.hosts[0]
    )


def test_the_template_of_an_array_runs_each_of_its_jobs(desk: Desk) -> None:
    desk.script("number.py", "import os, hpc\nhpc.init()\nprint('number', os.environ['SLURM_ARRAY_TASK_ID'])\n")
    template = str(ROOT / "templates" / "slurm" / "array.sbatch")
    job = desk.run("sbatch", "--parsable", "--array=3,5", template, "number.py", check=True).stdout.strip()
    ended = ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"]
    for number in (3, 5):
        desk.bed.wait_job(f"{job}_{number}", ended, 60.0)
        assert f"number {number}\n" in (desk.folder / f"array-{job}_{number}.out").read_text()


def test_the_template_of_a_notebook_says_how_to_reach_it_and_ends_when_cancelled(desk: Desk) -> None:
    pretend_jupyter(desk)
    template = str(ROOT / "templates" / "slurm" / "notebook.sbatch")
    more = {"PYTHONPATH": str(desk.folder)}
    job = desk.run("sbatch", "--parsable", "--time=5", template, env=more, check=True).stdout.strip()
    out = desk.folder / f"notebook-{job}.out"
    wait_for("the notebook", lambda: out.exists() and "open the address in" in out.read_text(), 60.0)
    text, address = out.read_text(), desk.folder / "notebook-url"
    assert "ssh -N -L 8888:127.0.0.1:4711 -J " in text and "@nid0001" in text
    assert address.stat().st_mode & 0o777 == 0o600 and address.read_text().strip().rpartition("=")[2] not in text
    desk.run("scancel", job, check=True)
    desk.bed.wait_job(job, ["CANCELLED"], 60.0)
    wait_for("the address to go", lambda: not address.exists(), 90.0)


def test_a_step_that_slurm_refuses_is_quoted(desk: Desk) -> None:
    desk.script("plain.py", PLAIN)
    done = desk.salloc(2, *launcher(), "--step-arg=--gres=gpu:9", "plain.py")
    assert done.returncode == 122
    assert "Invalid generic resource" in done.stderr


def test_nodes_that_cannot_run_python_are_named(desk: Desk) -> None:
    desk.script("plain.py", PLAIN)
    done = desk.salloc(2, *launcher(), "--start-timeout=20", "--step-arg=/nowhere/python", "plain.py")
    assert done.returncode == 122
    assert "nid0001" in done.stderr and "/nowhere/python" in done.stderr


def test_inside_a_step_the_driver_runs_on_its_node(desk: Desk) -> None:
    desk.script("hosts.py", HOSTS)
    step = ["srun", "--overlap", "-N1", "-n1", "-w", "nid0002"]
    done = desk.salloc(3, *step, *launcher(), "hosts.py", "3")
    assert done.returncode == 0, done.stderr
    said = answer(done.stdout)
    assert said["hosts"] == desk.bed.hosts[:3] and said["here"] == "nid0002"


def test_the_wishes_of_a_job_do_not_shrink_the_nodes(desk: Desk) -> None:
    desk.script("hosts.py", HOSTS)
    done = desk.run("salloc", "-Q", "-N2", "--ntasks-per-node=2", "-c1", "-t5", *launcher(), "hosts.py", "2")
    assert done.returncode == 0, done.stderr
    assert answer(done.stdout)["cpus"] == 4.0


def test_a_node_that_does_not_come_is_named_and_can_be_done_without(desk: Desk) -> None:
    desk.script("hosts.py", HOSTS)
    broken = desk.script("site.sh", """\
        #!/bin/bash
        if [ "$(hostname)" = nid0002 ]; then echo "no license for this node" >&2; exec sleep 200; fi
        exec "$@"
    """)  # fmt: skip
    options = ["--start-timeout=8", f"--step-arg={desk.folder}/{broken}"]
    done = desk.salloc(3, *launcher(), *options, "hosts.py", "2")
    assert done.returncode == 122
    assert "2 of 3 nodes came" in done.stderr and "nid0002" in done.stderr and "--min-nodes=2" in done.stderr
    assert "no license for this node" in done.stderr
    done = desk.salloc(3, *launcher(), *options, "--min-nodes=2", "hosts.py", "2")
    assert done.returncode == 0, done.stderr
    assert answer(done.stdout)["hosts"] == ["nid0001", "nid0003"]


# ---------------------------------------------------------------- sudden deaths


def started(desk: Desk, nodes: int, *options: str) -> tuple[subprocess.Popen[str], int]:
    """A driver that waits, in an allocation at the login node; returns hpc-launch's salloc and the driver's pid."""
    desk.script("waits.py", WAITS)
    process = desk.start("salloc", "-Q", f"-N{nodes}", "-c2", "-t5", *launcher(), "--grace=2", *options, "waits.py")
    assert process.stdout is not None
    word, _, pid = process.stdout.readline().partition(" ")
    assert word == "driver", process.communicate(timeout=90)
    return process, int(pid)


def finish(process: subprocess.Popen[str], timeout_s: float = 90.0) -> tuple[int, str]:
    _, err = process.communicate(timeout=timeout_s)
    return process.returncode, err


def test_srun_killed_is_a_lost_session(desk: Desk) -> None:
    process, driver = started(desk, 2)
    launch = int(Path(f"/proc/{driver}/stat").read_text().rsplit(")", 1)[1].split()[1])
    children = Path(f"/proc/{launch}/task/{launch}/children").read_text().split()
    (srun,) = [int(p) for p in children if Path(f"/proc/{p}/comm").read_text().strip() == "srun"]
    os.kill(srun, signal.SIGKILL)
    code, err = finish(process)
    assert code == 123, err
    nothing_left(desk)


def test_sigterm_ends_the_script_and_everything(desk: Desk) -> None:
    process, driver = started(desk, 2)
    launch = int(Path(f"/proc/{driver}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill(launch, signal.SIGTERM)
    code, _ = finish(process)
    assert code == 128 + signal.SIGTERM
    nothing_left(desk)


SWITCHES = """
    import hpc
    ONE = {"hpc.io/switch": "STRICT_PACK", "ray.io/node-id": "STRICT_SPREAD"}
    hpc.init()
    labels = sorted((node["NodeName"], node["Labels"]) for node in hpc.nodes())
    print("switches", {host: (its["hpc.io/switch"], its["hpc.io/network-path"]) for host, its in labels})
    host = hpc.remote(lambda: __import__("os").uname().nodename).options(label_selector={"hpc.io/switch": "s2"})
    print("ran on", hpc.get(host.remote()))
    groups = [hpc.util.placement_group([{"CPU": 2}] * 2, topology_strategy=ONE) for _ in range(2)]
    assert all(group.wait(30) for group in groups), hpc.util.placement_group_table()
    tables = [hpc.util.placement_group_table(group) for group in groups]
    print("below", sorted(table["topology_assignments"]["hpc.io/switch"] for table in tables))
    for table in tables:
        assert {each["hpc.io/switch"] for each in table["bundles_to_domains"].values()} == {
            table["topology_assignments"]["hpc.io/switch"]
        }
        assert len(set(table["bundles_to_node_id"].values())) == 2
    none = hpc.util.placement_group([{"CPU": 1}] * 3, topology_strategy=ONE)
    assert not none.wait(1)
    print("never:", hpc.util.placement_group_table(none)["why"])
"""


def test_nodes_have_labels_of_their_switches_and_groups_stay_below_one(desk: Desk) -> None:
    """The bed's network has two switches, with half of the nodes each, below one root."""
    desk.script("switches.py", SWITCHES)
    done = desk.salloc(4, sys.executable, "switches.py")
    hosts = desk.bed.hosts
    above = {host: ("s1" if i < 2 else "s2", "root.s1" if i < 2 else "root.s2") for i, host in enumerate(hosts)}
    assert f"switches {above}" in done.stdout, done.stdout + done.stderr
    assert done.stdout.partition("ran on ")[2].split()[0] in hosts[2:]
    assert "below ['s1', 's2']" in done.stdout, done.stdout + done.stderr
    assert "need one hpc.io/switch for all, and the nearest, s1, has room for 2" in done.stdout, done.stdout

"""`hpc status` of a session: nodes alive and dead, what is used, what waits and why; the time that is left."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hpc
from hpc.core.runenv.package import digest_of
from hpc.launchers.local.group import LocalGroup
from hpc.launchers.session import Session
from hpc.state import gather
from hpc.util import placement_group, state
from runtime.running import eventually, kill9, local_nodes, one_node, pid_of


@pytest.fixture
def session(no_leaks: None) -> Iterator[None]:
    with one_node():
        yield


@hpc.remote
def hold(path):
    while not os.path.exists(path):
        time.sleep(0.002)


@hpc.remote
class Anything:
    pass


def cli(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hpc", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **env})


def status() -> dict[str, Any]:
    done = cli("status", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_what_is_used_and_what_waits(session, tmp_path):
    running = [hold.remote(tmp_path / "go") for _ in range(2)]
    eventually(lambda: all(state.get_task(ref.hex()).state == "RUNNING" for ref in running))
    queued = [hold.remote(tmp_path / "go") for _ in range(7)]
    impossible = hold.options(resources={"unicorn": 1}).remote(tmp_path / "go")
    actor = Anything.options(num_gpus=2).remote()
    group = placement_group([{"CPU": 2}] * 2, name="gang")
    large = hpc.put(np.zeros(8 << 20, np.uint8))
    eventually(lambda: "unicorn" in state.get_task(impossible.hex()).why)
    found = eventually(lambda: (s := status())["resources"]["CPU"]["used"] == 2 and len(s["demand"]) == 3 and s)
    (node,) = found["nodes"]
    assert node["state"] == "ALIVE" and node["store_used_bytes"] > 8 << 20 and node["memory_used_bytes"] > 0
    assert found["time_left_s"] is None and found["silent"] == [] and found["failed_workers"] == 0
    waits = {tuple(row["required_resources"]): row for row in found["demand"]}
    assert waits[("CPU",)]["tasks"] >= 6 and waits[("CPU",)]["names"] == ["hold"]
    assert "CPU: 1 free" in waits[("CPU",)]["why"] and not waits[("CPU",)]["is_infeasible"]
    (unicorn,) = [row for row in found["demand"] if "unicorn" in row["required_resources"]]
    assert unicorn["tasks"] == 1 and "no node of the session can run it" in unicorn["why"]
    (gpu,) = [row for row in found["demand"] if "GPU" in row["required_resources"]]
    assert (gpu["tasks"], gpu["actors"], gpu["names"]) == (0, 1, ["Anything"])
    (gang,) = found["placement_groups"]
    assert gang["name"] == "gang" and gang["missing"] == 2 and "cannot be placed" in gang["why"]
    assert [row["pid"] for row in found["drivers"]] == [os.getpid()]
    shown = cli("status").stdout
    for text in ("1 alive", "CPU 2/2", "2 of 2 used", "placement group gang", f"(pid {os.getpid()})", "unicorn"):
        assert text in shown, shown
    assert cli("status", "--address", "nosuchsession").returncode == 2
    (tmp_path / "go").touch()
    hpc.get(running + queued)
    del large, actor, group


def test_a_dead_node_is_shown_with_its_reason():
    with local_nodes(2) as running:
        kill9(pid_of(str(running.nodes[2].hello["dir"]), "raylet"))
        eventually(lambda: running.pump(0.05) or [row for row in state.list_nodes() if row["state"] == "DEAD"])
        dead = [row for row in status()["nodes"] if row["state"] == "DEAD"]
        assert dead[0]["node_id"] == "2" and dead[0]["state_message"]
        shown = cli("status").stdout
        assert "1 alive, 1 dead" in shown and "dead: " in shown


class LimitedGroup(LocalGroup):
    """Local nodes of a job with a time limit."""

    def start_fields(self) -> dict[str, Any]:
        return {**super().start_fields(), "time_left_s": 1000.0}


def check_changed_limits(running: Session) -> None:
    """A limit that changes is seen in every process: those that were there, new ones, and after another head."""

    @hpc.remote
    class Asked:
        def left(self):
            return hpc.get_runtime_context().time_left_s()

    @hpc.remote(runtime_env={"env_vars": {"NEW": "process"}})
    def left():
        return hpc.get_runtime_context().time_left_s()

    actor = Asked.remote()
    hpc.get(actor.left.remote())
    here = hpc.get_runtime_context()
    for limit_s in (5000.0, 300.0):
        running.tell_head({"op": "time", "left_s": limit_s})
        eventually(lambda limit_s=limit_s: limit_s - 60 < here.time_left_s() <= limit_s)
        for told in (hpc.get(actor.left.remote()), hpc.get(left.remote())):
            assert limit_s - 60 < told <= limit_s
    running.tell_head({"op": "time", "left_s": 200.0, "nodes": [1]})
    eventually(lambda: here.time_left_s() <= 200)
    kill9(pid_of(str(running.nodes[1].hello["dir"]), "head"))
    running.tell_head({"op": "time", "left_s": 800.0})
    running.tell_head({"op": "time", "left_s": None, "nodes": [1]})
    eventually(lambda: 700 < here.time_left_s() <= 800)
    kill9(pid_of(str(running.nodes[1].hello["dir"]), "head"))
    eventually(lambda: gather.session_facts()["epoch"] > 2)
    assert 700 < gather.session_facts()["time_left_s"] <= 800
    assert hpc.get(actor.left.remote()) <= 800
    running.tell_head({"op": "time", "left_s": None})
    eventually(lambda: here.time_left_s() is None)
    eventually(lambda: hpc.get(left.remote()) is None)


def test_the_time_that_is_left_and_the_allocation(no_leaks, monkeypatch):
    monkeypatch.setenv("PBS_JOBID", "4711.pbs")
    for name in ("SLURM_JOB_ID",):
        monkeypatch.delenv(name, raising=False)
    running = Session(LimitedGroup(1), overrides={"num_cpus": 1}, config={"loopback": True})
    running.start()
    try:
        running.wait_ready(30.0)
        hpc.init(address=running.local_dir())

        @hpc.remote
        def asked():
            context = hpc.get_runtime_context()
            return context.time_left_s(), context.get_scheduler(), context.get_scheduler_job_id()

        left_s, scheduler, job_id = hpc.get(asked.remote())
        assert 900 < left_s <= 1000 and (scheduler, job_id) == ("pbs", "4711.pbs")
        assert hpc.get_runtime_context().time_left_s() <= 1000
        assert "pbs job 4711.pbs, 16" in cli("status").stdout
        check_changed_limits(running)
    finally:
        hpc.shutdown()
        running.stop(2.0)


def test_without_a_limit_there_is_no_time_left_to_tell(session):
    assert hpc.get_runtime_context().time_left_s() is None


def test_why_a_task_waits_for_its_runtime_environment(session, tmp_path):
    packed = tmp_path / "code.zip"
    with zipfile.ZipFile(packed, "w") as out:
        out.writestr("anything.py", "x = 1\n")
    node_dir = next(row["dir"] for row in gather.node_rows())
    lock = Path(node_dir, "env", digest_of(packed.read_bytes()) + ".lock")
    lock.parent.mkdir(mode=0o700, exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # somebody else makes it, and takes long
        ref = hold.options(runtime_env={"working_dir": f"file://{packed}"}).remote("/")
        task = eventually(lambda: (t := state.get_task(ref.hex())) and "runtime environment" in t.why and t)
        assert task.state == "PENDING_NODE_ASSIGNMENT"
        assert re.search(r"its runtime environment \(working_dir\) is being set up on node 1, for \d+ s now", task.why)
        assert "runtime environment (working_dir)" in status()["demand"][0]["why"]
        said = cli("why", ref.hex()).stdout
        assert "is being set up on node 1" in said and "free now" not in said
    hpc.get(ref)


def test_status_of_a_job_that_runs_here(no_leaks, tmp_path):
    (tmp_path / "x.py").write_text("import hpc, sys; hpc.init(); print('up', flush=True); sys.stdin.read()")
    command = [sys.executable, "-m", "hpc.cli.launch", "--scheduler=local", "-N2", "-c1", "x.py"]
    env = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")} | {"HPC_JOB_DIR": str(tmp_path / "jobs")}
    job = subprocess.Popen(
        command, cwd=tmp_path, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert job.stdout is not None and job.stdout.readline() == "up\n"
        shown = cli("status", "1", HPC_JOB_DIR=str(tmp_path / "jobs"))
        assert "state    running" in shown.stdout and "2 alive" in shown.stdout, shown
        (row,) = json.loads(cli("status", "1", "--json", HPC_JOB_DIR=str(tmp_path / "jobs")).stdout)
        assert row["session"]["resources"]["CPU"]["total"] == 2
    finally:
        job.communicate("", timeout=30)
    assert job.returncode == 0
    assert "state    ended" in cli("status", "1", HPC_JOB_DIR=str(tmp_path / "jobs")).stdout

"""submitit's programs with cluster="hpc": its jobs as tasks of a session."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.running import eventually, local_nodes

submitit = pytest.importorskip("submitit", reason="submitit is not installed")


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    with local_nodes(2, num_cpus=2):
        yield


@pytest.fixture
def executor(session: None, tmp_path: Path) -> Any:
    made = submitit.AutoExecutor(folder=tmp_path / "%j", cluster="hpc")
    made.update_parameters(timeout_min=2, cpus_per_task=1)
    return made


def double(x: int) -> int:
    print("doubling", x, flush=True)
    return 2 * x


def place() -> dict[str, Any]:
    env = submitit.JobEnvironment()
    return {
        "rank": env.global_rank, "local": env.local_rank, "node": env.node, "tasks": env.num_tasks,
        "nodes": env.num_nodes, "hosts": list(env.hostnames), "worker": os.getppid(),
        "variable": os.environ.get("OF_MINE"),
    }  # fmt: skip


def fails() -> None:
    raise ValueError("no luck")


class Counts:
    """Counts until it is interrupted by the time limit, and goes on from there when it runs again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.begun = folder, 0

    def __call__(self) -> int:
        self.begun += 1
        if self.begun == 1:
            (self.folder / "runs").touch()
            time.sleep(120)
        return self.begun

    def checkpoint(self) -> Any:
        return submitit.helpers.DelayedSubmission(self)


def test_the_plugin_is_found_by_submitit_itself(session: None) -> None:
    from submitit.core import plugins

    assert plugins.get_executors()["hpc"].__module__ == "hpc.util.submitit_plugin"
    assert plugins.get_executors()["hpc"].affinity() < 0, "a program that names no cluster goes on with its own"


def test_a_job_and_an_array(executor: Any) -> None:
    job = executor.submit(double, 21)
    assert job.result() == 42 and job.done() and job.state == "COMPLETED"
    assert "doubling 21" in job.stdout() and job.exception() is None
    jobs = executor.map_array(double, range(5))
    assert [job.result() for job in jobs] == [0, 2, 4, 6, 8]
    with executor.batch():
        batched = [executor.submit(double, n) for n in range(2)]
    assert [job.result() for job in batched] == [0, 2]


def test_an_error_comes_with_its_trace_and_the_logs(executor: Any) -> None:
    job = executor.submit(fails)
    with pytest.raises(submitit.core.utils.FailedJobError, match="ValueError: no luck"):
        job.result()
    assert job.state == "FAILED" and "no luck" in job.stderr()


def test_a_job_of_two_nodes_has_its_ranks_on_both(executor: Any) -> None:
    executor.update_parameters(nodes=2, tasks_per_node=2, cpus_per_task=1, hpc_env={"OF_MINE": "yes"})
    job = executor.submit(place)
    rows = job.results()
    assert [row["rank"] for row in rows] == [0, 1, 2, 3] and [row["local"] for row in rows] == [0, 1, 0, 1]
    assert {(row["tasks"], row["nodes"], row["variable"]) for row in rows} == {(4, 2, "yes")}
    assert [row["node"] for row in rows] == [0, 0, 1, 1] and len(rows[0]["hosts"]) == 2
    assert rows[0]["worker"] == rows[1]["worker"] != rows[2]["worker"] == rows[3]["worker"], "one task on each node"
    assert job.num_tasks == 4 and "Job completed" in job.task(3).stdout()


def test_a_job_is_cancelled(executor: Any, tmp_path: Path) -> None:
    job = executor.submit(Counts(tmp_path))
    eventually((tmp_path / "runs").exists)
    job.cancel()
    assert job.done() and job.state == "CANCELLED"
    eventually(lambda: not running_below(job.job_id))


def running_below(job_id: str) -> list[int]:
    """The processes of a job."""
    mark = f"HPC_SUBMITIT_JOB_ID={job_id}".encode()
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if mark in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(int(pid))
        except OSError:
            continue
    return found


def test_at_its_time_limit_a_job_saves_a_checkpoint_and_goes_on(executor: Any, tmp_path: Path) -> None:
    executor.update_parameters(timeout_min=1, hpc_signal_delay_s=55)
    assert executor.submit(Counts(tmp_path)).result() == 2


def test_a_job_without_checkpoint_ends_at_its_limit(executor: Any) -> None:
    executor.update_parameters(timeout_min=1, hpc_signal_delay_s=58)
    job = executor.submit(time.sleep, 100)
    assert isinstance(job.exception(), submitit.core.utils.UncompletedJobError | submitit.core.utils.FailedJobError)


def test_wrong_parameters_are_named(executor: Any) -> None:
    with pytest.raises(NameError, match="hpc_nothing"):
        executor.update_parameters(hpc_nothing=1)


def test_a_program_for_submitit_runs_as_it_is(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import sys, submitit\n"
        "executor = submitit.AutoExecutor(folder=sys.argv[1], cluster=sys.argv[2])\n"
        "executor.update_parameters(timeout_min=1)\n"
        "jobs = executor.map_array(pow, [1, 2, 3], [2, 2, 2])\n"
        "print(sum(job.result() for job in jobs))\n"
    )
    said = [
        subprocess.run(
            [sys.executable, str(script), str(tmp_path / cluster), cluster],
            capture_output=True, text=True, timeout=100, check=True,
        ).stdout
        for cluster in ("local", "hpc")
    ]  # fmt: skip
    assert said == ["14\n", "14\n"]

"""submitit's `AutoExecutor(folder, cluster="hpc")`: its jobs as tasks of a session, instead of as jobs of a scheduler.

Programs for submitit go on as they are. Their jobs start within milliseconds on nodes that are there, instead of
waiting in a queue. Files, logs, results, checkpoints and `JobEnvironment` are submitit's own, since each task of a job
is a process that runs `submitit.core._submit`. The package names this module in its entry points for submitit.

A job of several nodes is a placement group with one bundle on each (STRICT_SPREAD), so that it gets all or waits.
Rejected: calling the function in a worker (submitit sets handlers of signals, and ends its process to be requeued).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from submitit.core import core, job_environment, logger, utils

import hpc
from hpc.util.placement_group import placement_group, remove_placement_group
from hpc.util.scheduling_strategies import PlacementGroupSchedulingStrategy

#: A process of submitit that ends with this code wants to be started again.
REQUEUE = 144
#: Seconds from the signal that the time is over to the end of the processes, where `signal_delay_s` is not given.
SIGNAL_DELAY_S = 30
_VARIABLES = {
    "job_id": "HPC_SUBMITIT_JOB_ID",
    "num_tasks": "HPC_SUBMITIT_NUM_TASKS",
    "num_nodes": "HPC_SUBMITIT_NUM_NODES",
    "node": "HPC_SUBMITIT_NODE",
    "global_rank": "HPC_SUBMITIT_GLOBAL_RANK",
    "local_rank": "HPC_SUBMITIT_LOCAL_RANK",
}


class HpcJobEnvironment(job_environment.JobEnvironment):
    """What a job's function asks of its place: number of tasks, rank, folder."""

    _env = _VARIABLES

    def activated(self) -> bool:
        """Whether this process is one of a job that was submitted here."""
        return _VARIABLES["job_id"] in os.environ

    @property
    def hostnames(self) -> list[str]:
        """The hosts of the job, in the order of its nodes."""
        return os.environ["HPC_SUBMITIT_HOSTNAMES"].split(",")

    def _requeue(self, countdown: int) -> None:
        logger.get_logger().info(f"Requeued job {self.job_id} ({countdown} remaining timeouts)")
        sys.exit(REQUEUE)


# ---------------------------------------------------------------- where a job runs


def _hostname() -> str:
    return os.uname().nodename


def _run_node(job: dict[str, Any], node: int, hosts: list[str]) -> list[int]:
    """Run one node's processes of a job until all have ended; their exit codes."""
    each = job["tasks_per_node"]
    variables = {
        "HPC_SUBMITIT_JOB_ID": job["id"],
        "HPC_SUBMITIT_NUM_TASKS": str(job["nodes"] * each),
        "HPC_SUBMITIT_NUM_NODES": str(job["nodes"]),
        "HPC_SUBMITIT_NODE": str(node),
        "HPC_SUBMITIT_HOSTNAMES": ",".join(hosts),
        "SUBMITIT_EXECUTOR": "hpc",
    }
    processes = []
    try:
        for local in range(each):
            rank = node * each + local
            paths = utils.JobPaths(job["folder"], job_id=job["id"], task_id=rank)
            own = {"HPC_SUBMITIT_GLOBAL_RANK": str(rank), "HPC_SUBMITIT_LOCAL_RANK": str(local)}
            with paths.stdout.open("ab") as out, paths.stderr.open("ab") as err:
                processes.append(
                    subprocess.Popen(
                        [*job["python"], "-u", "-m", "submitit.core._submit", str(job["folder"])],
                        env={**os.environ, **job["env"], **variables, **own},
                        cwd=job["cwd"],
                        stdin=subprocess.DEVNULL,
                        stdout=out,
                        stderr=out if job["stderr_to_stdout"] else err,
                    )
                )
        return _wait(processes, job["timeout_s"], job["signal_delay_s"])
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def _wait(processes: list[subprocess.Popen[bytes]], timeout_s: float, delay_s: float) -> list[int]:
    """Wait for all. At the time limit submitit's signal is sent, which saves a checkpoint; then they are killed."""
    signals = [(max(0.0, timeout_s - delay_s), job_environment.JobEnvironment._usr_sig()), (timeout_s, signal.SIGKILL)]
    begin = time.monotonic()
    for after_s, number in signals:
        for process in processes:
            try:
                process.wait(max(0.0, begin + after_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.send_signal(number)
    return [process.wait() for process in processes]


def _run_alone(job: dict[str, Any]) -> list[int]:
    """A job of one node, again as long as it asks for it."""
    while True:
        codes = _run_node(job, 0, [_hostname()])
        if REQUEUE not in codes:
            return codes


def _run_gang(job: dict[str, Any]) -> list[int]:
    """A job of several nodes: all of them at once, again as long as it asks for it."""
    bundle = {"CPU": job["cpus"], **({"GPU": job["gpus"]} if job["gpus"] else {})}
    bundle |= {"memory": job["memory"]} if job["memory"] else {}
    group = placement_group([bundle] * job["nodes"], strategy="STRICT_SPREAD")
    places = [
        {
            "num_cpus": job["cpus"],
            "num_gpus": job["gpus"],
            "scheduling_strategy": PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index),
        }
        for index in range(job["nodes"])
    ]
    try:
        hpc.get(group.ready())
        while True:
            hosts = hpc.get([hpc.remote(_hostname).options(**place).remote() for place in places])
            node = hpc.remote(_run_node)
            runs = [node.options(**place, max_retries=0).remote(job, i, hosts) for i, place in enumerate(places)]
            codes = [code for of_node in hpc.get(runs) for code in of_node]
            if REQUEUE not in codes:
                return codes
    finally:
        remove_placement_group(group)


# ---------------------------------------------------------------- where it is submitted


class _Watcher(core.InfoWatcher):
    """The states of the jobs that this process has submitted."""

    def __init__(self) -> None:
        super().__init__()
        self.refs: dict[str, Any] = {}
        self.cancelled: set[str] = set()

    def get_info(self, job_id: str, mode: str = "standard") -> dict[str, str]:
        """`{"jobState": ...}`; UNKNOWN for a job of another process."""
        return {"jobState": self.get_state(job_id, mode)}

    def get_state(self, job_id: str, mode: str = "standard") -> str:
        """PENDING or RUNNING, COMPLETED, FAILED, CANCELLED; UNKNOWN for a job of another process."""
        ref = self.refs.get(job_id)
        if ref is None:
            return "UNKNOWN"
        if not hpc.wait([ref], timeout=0)[0]:
            return "RUNNING" if job_id not in self.cancelled else "CANCELLED"
        if job_id in self.cancelled:
            return "CANCELLED"
        try:
            return "FAILED" if any(hpc.get(ref)) else "COMPLETED"
        except Exception:
            return "FAILED"

    def is_done(self, job_id: str, mode: str = "standard") -> bool:
        """Whether the job is over; a job of another process is watched by its files alone."""
        return self.get_state(job_id) in ("COMPLETED", "FAILED", "CANCELLED")

    def register_job(self, job_id: str) -> None:
        """Nothing: a job is known when it is submitted."""


class HpcJob(core.Job[Any]):
    """A job that runs as tasks of the session."""

    watcher = _Watcher()
    _results_timeout_s = 5

    def wait(self) -> None:
        """Wait until the job is over."""
        ref = self.watcher.refs.get(self.job_id)
        if ref is None:
            super().wait()
        elif self.job_id not in self.watcher.cancelled:
            hpc.wait([ref], fetch_local=False)

    def cancel(self, check: bool = True) -> None:
        """End the job, whether it waits or runs."""
        ref = self.watcher.refs.get(self.job_id)
        if ref is None:
            if check:
                raise RuntimeError(f"job {self.job_id} was submitted by another process, which alone can cancel it")
            return
        self.watcher.cancelled.add(self.job_id)
        hpc.cancel(ref, recursive=True)

    def _interrupt(self) -> None:
        raise NotImplementedError("jobs of the session are interrupted at their time limit alone")


class HpcExecutor(core.PicklingExecutor):
    """Runs jobs in the session: `submitit.AutoExecutor(folder, cluster="hpc")`.

    Its own parameters are `hpc_options` (more options of each task, as for `RemoteFunction.options`) and `hpc_env`
    (variables of the processes). `hpc_signal_delay_s` is how long before the time limit a checkpoint is asked for.
    """

    job_class = HpcJob

    def __init__(self, folder: Path | str, max_num_timeout: int = 3, max_pickle_size_gb: float = 1.0) -> None:
        super().__init__(folder, max_num_timeout=max_num_timeout, max_pickle_size_gb=max_pickle_size_gb)
        self._throttling = 0.0
        utils.JobPaths.get_first_id_independent_folder(self.folder).mkdir(parents=True, exist_ok=True)

    @classmethod
    def name(cls) -> str:
        """The value of `cluster`."""
        return "hpc"

    @classmethod
    def affinity(cls) -> int:
        """Never chosen by itself: a program without `cluster` goes on with the scheduler that it was written for."""
        return -1

    @classmethod
    def _valid_parameters(cls) -> set[str]:
        return {"options", "env", "signal_delay_s"}

    def _num_tasks(self) -> int:
        return int(self.parameters.get("nodes", 1)) * int(self.parameters.get("tasks_per_node", 1))

    def _submit_command(self, command: str) -> core.Job[Any]:
        """Start a job. `command` is submitit's placeholder; the function is in a file that has the job's id."""
        if not hpc.is_initialized():
            hpc.init()
        given = self.parameters
        identity = f"hpc{uuid.uuid4().hex[:12]}"
        job = self.job_class(folder=self.folder, job_id=identity, tasks=list(range(self._num_tasks())))
        job.paths.folder.mkdir(parents=True, exist_ok=True)
        each = int(given.get("tasks_per_node", 1))
        delay_s = float(given.get("signal_delay_s", SIGNAL_DELAY_S))
        facts: dict[str, Any] = {
            "id": identity,
            "folder": str(job.paths.folder),
            "nodes": int(given.get("nodes", 1)),
            "tasks_per_node": each,
            "cpus": int(given.get("cpus_per_task", 1)) * each,
            "gpus": int(given.get("gpus_per_node", 0)),
            "memory": int(float(given.get("mem_gb", 0)) * (1 << 30)),
            "timeout_s": float(given.get("timeout_min", 5)) * 60,
            "signal_delay_s": delay_s,
            "stderr_to_stdout": bool(given.get("stderr_to_stdout", False)),
            "python": [sys.executable],
            # What the submitting program can import, its processes can, as the session's workers can.
            "env": {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
            | {name: str(value) for name, value in given.get("env", {}).items()},
            "cwd": os.getcwd(),
        }
        options = {"max_retries": 0, "name": given.get("name", "submitit"), **given.get("options", {})}
        if facts["nodes"] > 1:
            ref = hpc.remote(_run_gang).options(**options, num_cpus=0).remote(facts)
        else:
            amounts = {"num_cpus": facts["cpus"], "num_gpus": facts["gpus"]}
            amounts |= {"memory": facts["memory"]} if facts["memory"] else {}
            ref = hpc.remote(_run_alone).options(**{**amounts, **options}).remote(facts)
        HpcJob.watcher.refs[identity] = ref
        self._set_job_permissions(job.paths.folder)
        return job

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        raise NotImplementedError("a task needs no file")

    def _make_submission_command(self, submission_file_path: Path) -> list[str]:
        raise NotImplementedError("a task needs no command")

    @staticmethod
    def _get_job_id_from_submission_command(string: bytes | str) -> str:
        raise NotImplementedError("the id is made here")

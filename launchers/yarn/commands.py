"""YARN in pure pairs: what is said to it, and what its answers mean. Nothing here runs a command or reads a clock.

A job is an application of the DistributedShell with one container on each of N machines; the first container
is the job's first node. manager.py asks the ResourceManager, container.py runs in each container.
All facts were seen on Hadoop 3.4.2.
Rejected: a master of our own in Java (one more thing to build and to keep), and skein (no release since 2022). Rejected
too: submitting by REST. A classpath would have to be spelled out, and tokens made where there is Kerberos: the client
knows both.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hpc.launchers.jobscript import folder_lines, setup_lines
from hpc.launchers.scheduler import Allocation, BadAllocation, Ending, JobInfo, Phase, Request, StepVariables
from hpc.launchers.units import memory_bytes
from hpc.launchers.yarn.words import first_failure, reason_in_words

#: What container.py tells the processes of the first container.
JOB = "HPC_YARN_JOB"
HOSTS = "HPC_YARN_HOSTS"
END = "HPC_YARN_END"  # seconds since 1970
FOLDER = "HPC_YARN_FOLDER"
RANK = "HPC_YARN_RANK"

#: What it tells the node of every container: what was asked for. YARN tells a container of its memory and CPUs nothing.
GRANT_ENV = {"cpus": ["HPC_YARN_CPUS"], "mem_mb": ["HPC_YARN_MEM_MB"], "gpus": ["HPC_YARN_GPUS"]}

SHELL_ID = "YARN_SHELL_ID"
CONTAINER = "CONTAINER_ID"

#: The join file, in the job's folder.
JOIN_FILE = "join"
#: What each container runs (container.py). Empty entries leave sys.path, as in a node's own program.
CONTAINER_PROGRAM = (
    "import sys; sys.path[:]=[p for p in sys.path if p]; from hpc.launchers.yarn.container import main; main()"
)

CLIENT_CLASS = "org.apache.hadoop.yarn.applications.distributedshell.Client"
FOREVER_MS = 2**31 - 1
#: The option by which files come into the folder of each container.
BRINGS = "-localize_files"
MASTER_MB = 512
DEFAULT_MB = 2048
#: The ResourceManager's own limit is so much later than the job's: it is for jobs that do not keep theirs.
LIMIT_MARGIN_S = 60.0
#: Each of our applications has this tag: they are found by it among all of a cluster.
TAG = "hpc"

#: What says which container of whose application a process is. The application stays known.
STRIP = StepVariables(names=(RANK, SHELL_ID, "JVM_PID", "LOCALIZATION_COUNTERS", "PRELAUNCH_OUT", "PRELAUNCH_ERR"))

#: What each field of a request becomes; the limit is kept, and the output is opened, by the job itself.
COLUMN: Mapping[str, str] = {
    "nodes": "-num_containers",
    "time": "",
    "partition": "-queue",
    "constraint": "-node_label_expression",
    "job_name": "-appname",
    "output": "",
    "gpus_per_node": "-container_resources yarn.io/gpu",
    "cpus_per_task": "-container_resources vcores",
    "mem": "-container_resources memory-mb",
}

# ---------------------------------------------------------------- inside an allocation


def parse_container(container_id: str) -> tuple[str, int] | None:
    """`container_e17_1410901177871_0001_01_000005`: the application's id, and which attempt of it this is."""
    match = re.fullmatch(r"container_(?:e\d+_)?(\d+_\d+)_(\d+)_\d+", container_id)
    return (f"application_{match.group(1)}", int(match.group(2))) if match else None


def allocation(env: Mapping[str, str]) -> Allocation | None:
    """The allocation that container.py has told this environment of."""
    job_id, hosts = env.get(JOB), env.get(HOSTS)
    if not job_id or not hosts:
        return None
    if not re.fullmatch(r"application_\d+_\d+", job_id):
        raise BadAllocation(f"{JOB} is {job_id!r}, which is no application of YARN's", f"unset {JOB}")
    nodes = tuple(hosts.split(","))
    return Allocation(job_id, nodes, nodes[0])


# ---------------------------------------------------------------- submitting


def resources(request: Request) -> dict[str, int]:
    """What each container asks for."""
    found = {"memory-mb": megabytes(request), "vcores": request.cpus_per_task or 1}
    gpus = gpus_of_each(request)
    return {**found, "yarn.io/gpu": gpus} if gpus else found


def resource_words(asked: Mapping[str, int]) -> str:
    return ",".join(f"{name}={value}" for name, value in asked.items())


def grant(words: str) -> dict[str, str]:
    """The variables of `GRANT_ENV` for a container that asked for this. Its GPUs are numbered from 0: where YARN gives
    devices to containers, it hides the others."""
    asked = {name: int(value) for name, _equals, value in (word.partition("=") for word in words.split(","))}
    gpus = ",".join(map(str, range(asked.get("yarn.io/gpu", 0)))) or "none"
    values = {"cpus": str(asked.get("vcores", 1)), "mem_mb": str(asked["memory-mb"]), "gpus": gpus}
    return {GRANT_ENV[name][0]: value for name, value in values.items()}


def megabytes(request: Request) -> int:
    return memory_bytes(request.mem) // 2**20 if request.mem else DEFAULT_MB


def gpus_of_each(request: Request) -> int:
    count = (request.gpus_per_node or "").rpartition(":")[2]
    return int(count) if count.isdigit() else 0


def client_command(
    yarn: str, jar: str, script: str, request: Request, *, extra: Sequence[str] = (), brought: bool = False
) -> list[str]:
    """The DistributedShell, with one container on each of N machines.

    -timeout: the client kills the application after ten minutes otherwise. -placement_spec: two containers may else
    share a machine. -keep_containers...: the loss of the application's master, which only counts containers, does not
    end them. -shell_command and not -shell_script: each container renames the uploaded script. exec: YARN signals the
    process group of a shell, and takes the end of that shell for the container's.
    """
    nodes = request.nodes[1]
    argv = [yarn, "jar", jar, CLIENT_CLASS, "-jar", jar, "-appname", application_name(request.job_name or "hpc")]
    argv += ["-queue", request.partition] if request.partition else []
    argv += ["-node_label_expression", request.constraint] if request.constraint else []
    argv += ["-num_containers", str(nodes)]
    argv += ["-placement_spec", f"hpc({nodes}),NOTIN,NODE,hpc"] if nodes > 1 else []
    argv += ["-container_resources", resource_words(resources(request))]
    argv += ["-master_memory", str(MASTER_MB), "-application_tags", TAG, "-keep_containers_across_application_attempts"]
    there = os.path.basename(script) if brought else script
    argv += ["-shell_command", "exec /bin/bash", "-shell_args", f"'{there}'", "-timeout", str(FOREVER_MS)]
    return [*argv, *([BRINGS, script] if brought else []), *extra]


def application_name(name: str) -> str:
    """A name that the master's command line, which YARN gives to a shell without quotes, takes as one word."""
    return re.sub(r"[^\w.+-]", "_", name)


def unfit(path: str) -> str:
    """The letter of a path that cannot be written in a container's command line, which passes two shells; "": none."""
    return next((letter for letter in "'\"$`\\\n" if letter in path), "")


def job_script(
    request: Request, *, cwd: str, setup: Sequence[str], command: Sequence[str], container: Sequence[str]
) -> str:
    """The script that every container runs, twice: container.py runs it once more when the job's nodes are known.

    exec: hpc-launch becomes the process that gets YARN's signals. HOME is not a container's.
    """
    asked = [f"--nodes={request.nodes[1]}", f"--resources={resource_words(resources(request))}"]
    asked += [f"--time={request.time:g}"] if request.time is not None else []
    output = os.path.join(cwd, request.output or os.devnull)
    asked += [f"--output={output}", f"--name={request.job_name or 'hpc'}"]
    lines = [
        "#!/bin/bash",
        "# Runs in every container of the job; the first of them runs hpc-launch.",
        f'if [ -z "${JOB}" ]; then',
        f'    exec {shlex.join([*container, *asked])} --folder="${{0%/*}}" -- /bin/bash "$0"',
        "fi",
        "unset HOME; HOME=~; export HOME",
        *folder_lines(cwd),
        *setup_lines(setup),
        f'if [ "${RANK}" != 0 ]; then exec {shlex.join([*container, "--node"])}; fi',
        f"exec {shlex.join(command)}",
    ]
    return "\n".join(lines) + "\n"


def output_file(output: str, job_id: str, job_name: str, user: str) -> str:
    """The file of --output once the application's id is known."""
    known = {"%j": job_id, "%A": job_id, "%x": job_name, "%u": user, "%%": "%"}
    return re.sub(r"%[jAxu%]", lambda match: known[match.group()], output)


def parse_submitted(said: str) -> str | None:
    """The application's id, once the client has said that it was taken."""
    match = re.search(r"Submitted application (application_\d+_\d+)", said)
    return match.group(1) if match else None


# ---------------------------------------------------------------- asking about one job


def app_path(job_id: str) -> str:
    return f"/apps/{job_id}"


def apps_path() -> str:
    """All of ours, those of others too: the ResourceManager has no question for several ids."""
    return f"/apps?applicationTags={TAG}&deSelects=resourceRequests"


def waiting_path(queue: str) -> str:
    return f"/apps?states=ACCEPTED&queue={queue.rpartition('.')[2]}&deSelects=resourceRequests"


def apps(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The applications of a list; the ResourceManager says null for none."""
    return list((answer.get("apps") or {}).get("app") or [])


_ENDED = ("FINISHED", "FAILED", "KILLED")


def parse_app(app: Mapping[str, Any]) -> JobInfo:
    """An application in the words of all schedulers."""
    state = str(app.get("state", ""))
    diagnostics = " ".join(str(app.get("diagnostics") or "").split())
    running = int(app.get("runningContainers") or 0)
    waits = state == "RUNNING" and ((running <= 1 and not has_begun_to_end(app)) or _outstanding(app) > 0)
    phase: Phase = "ended" if state in _ENDED else "running" if state == "RUNNING" and not waits else "queued"
    ending, code = _ending(state, str(app.get("finalStatus", "")), diagnostics) if phase == "ended" else ("", 0)
    began_ms = int(app.get("launchTime") or 0)
    run_time_s = int(app.get("elapsedTime") or 0) / 1000
    left_s = _left_s(app)
    return JobInfo(
        job_id=str(app.get("id", "")),
        phase=phase,
        state=state if state != "FINISHED" else str(app.get("finalStatus") or state),
        ending=ending,
        reason="containers" if waits else state if phase == "queued" else "",
        why=first_failure(diagnostics) if phase == "ended" else reason_in_words(state, diagnostics, waits, running),
        exit_code=code,
        partition=str(app.get("queue", "")).rpartition(".")[2],
        start=time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(began_ms / 1000)) if phase == "running" else "",
        run_time_s=run_time_s,
        limit_s=None if left_s is None else run_time_s + left_s,
    )


def has_begun_to_end(app: Mapping[str, Any]) -> bool:
    """Whether containers have ended: their part is the application's progress."""
    return float(app.get("progress") or 0) > 0


def _left_s(app: Mapping[str, Any]) -> float | None:
    """The time that is left: until the ResourceManager kills the application, less what hpc-launch needs to end it."""
    rows = (app.get("timeouts") or {}).get("timeout") or []
    seconds = [int(row.get("remainingTimeInSeconds", -1)) for row in rows if row.get("type") == "LIFETIME"]
    return next((max(0.0, left - LIMIT_MARGIN_S) for left in seconds if left >= 0), None)


def own_limit(info: JobInfo, env: Mapping[str, str], now_s: float) -> JobInfo:
    """With the limit that this very job keeps, where the ResourceManager was not told of it."""
    if info.limit_s is not None or env.get(JOB) != info.job_id or not env.get(END):
        return info
    return replace(info, limit_s=info.run_time_s + max(0.0, float(env[END]) - now_s))


def _outstanding(app: Mapping[str, Any]) -> int:
    """How many containers are still waited for."""
    return sum(int(row.get("numContainers") or 0) for row in app.get("resourceRequests") or [])


def _ending(state: str, final: str, diagnostics: str) -> tuple[Ending, int]:
    if FIRST_IS_LOST in diagnostics or (final == "FAILED" and "on a *lost* node" in diagnostics):
        return "lost", 0
    if state == "KILLED":
        return ("timeout" if "lifetime" in diagnostics.lower() else "cancelled"), 0
    if state == "FINISHED" and final == "SUCCEEDED":
        return "exit", 0
    if state == "FINISHED":
        code = re.search(r"[Ee]xit ?[Cc]ode(?::| is)? ?(\d+)", diagnostics)
        asked = commanded(diagnostics)
        return ("cancelled" if asked else "exit"), int(code.group(1)) if code else 1
    return "lost", 0


def commanded(diagnostics: str) -> bool:
    """Whether the containers of a failed application ended because they were asked to."""
    return f"Sent signal {SIGNALS['TERM']}" in diagnostics


def all_are_there(app: Mapping[str, Any]) -> bool:
    """Whether hpc-launch runs, so that it can be asked to end."""
    return app.get("state") == "RUNNING" and int(app.get("runningContainers") or 0) > 1 and not _outstanding(app)


def queue_position(answer: Mapping[str, Any], job_id: str) -> int | None:
    """Our place (from 1) among those that wait in the queue, by priority and then by age."""
    rows = sorted(apps(answer), key=lambda app: (-int(app.get("priority") or 0), int(app.get("startedTime") or 0)))
    ids = [str(app.get("id")) for app in rows]
    return ids.index(job_id) + 1 if job_id in ids else None


def attempts_path(job_id: str) -> str:
    return f"/apps/{job_id}/appattempts"


def last_attempt(answer: Mapping[str, Any]) -> str:
    rows = list((answer.get("appAttempts") or {}).get("appAttempt") or [])
    return str(max(rows, key=lambda row: int(row.get("id") or 0)).get("appAttemptId", "")) if rows else ""


def containers_path(job_id: str, attempt: str) -> str:
    return f"/apps/{job_id}/appattempts/{attempt}/containers"


def parse_containers(answer: Mapping[str, Any]) -> list[str]:
    """The containers that run, without the master's own, which is each attempt's first."""
    rows = list(answer.get("container") or [])
    ids = [str(row.get("containerId", "")) for row in rows if row.get("containerState") != "COMPLETE"]
    return [each for each in ids if not each.endswith("_000001")]


# ---------------------------------------------------------------- orders


def state_path(job_id: str) -> str:
    return f"/apps/{job_id}/state"


def kill_order(why: str = "") -> str:
    return json.dumps({"state": "KILLED", **({"diagnostics": why} if why else {})})


#: What the other containers give as the reason when they have an application killed.
FIRST_IS_LOST = "the first node of the job is lost"


def signal_path(container: str, command: str) -> str:
    return f"/containers/{container}/signal/{command}"


#: The signals that YARN can send to the processes of a container.
SIGNALS = {"TERM": "GRACEFUL_SHUTDOWN", "QUIT": "OUTPUT_THREAD_DUMP", "KILL": "FORCEFUL_SHUTDOWN"}


def lifetime_path(job_id: str) -> str:
    return f"/apps/{job_id}/timeout"


def lifetime(end_s: float) -> str:
    """The order that the ResourceManager kills the application at this time (seconds since 1970)."""
    when = time.strftime("%Y-%m-%dT%H:%M:%S.000+0000", time.gmtime(end_s))
    return json.dumps({"timeout": {"type": "LIFETIME", "expiryTime": when}})


# ---------------------------------------------------------------- the installed client, where REST wants a login


def status_command(yarn: str, job_id: str) -> list[str]:
    return [yarn, "application", "-status", job_id]


def list_command(yarn: str) -> list[str]:
    return [yarn, "application", "-list", "-appStates", "ALL", "-appTags", TAG]


def kill_command(yarn: str, job_id: str) -> list[str]:
    return [yarn, "application", "-kill", job_id]


def lifetime_command(yarn: str, job_id: str, seconds: int) -> list[str]:
    """From now on."""
    return [yarn, "application", "-appId", job_id, "-updateLifetime", str(seconds)]


def attempts_command(yarn: str, job_id: str) -> list[str]:
    return [yarn, "applicationattempt", "-list", job_id]


def containers_command(yarn: str, attempt: str) -> list[str]:
    return [yarn, "container", "-list", attempt]


def signal_command(yarn: str, container: str, command: str) -> list[str]:
    return [yarn, "container", "-signal", container, command]


def parse_status(out: str) -> dict[str, Any]:
    """What `yarn application -status` says, with REST's names; {} when it is about no application."""
    names = {
        "Application-Id": "id", "State": "state", "Final-State": "finalStatus", "Queue": "queue",
        "Start-Time": "startedTime", "Diagnostics": "diagnostics",
    }  # fmt: skip
    found: dict[str, Any] = {}
    for line in out.splitlines():
        name, colon, value = line.strip().partition(" :")
        if colon and name in names and names[name] not in found:
            found[names[name]] = value.strip()
    if "id" not in found:
        return {}
    return {**found, "runningContainers": 2 if found.get("state") == "RUNNING" else 0}


def parse_applications(out: str) -> list[dict[str, Any]]:
    """The rows of `yarn application -list`: id, name, type, user, queue, state, final state, ..."""
    rows = [[cell.strip() for cell in line.split("\t")] for line in out.splitlines()]
    return [
        {"id": row[0], "queue": row[4], "state": row[5], "finalStatus": row[6], "runningContainers": 2}
        for row in rows
        if len(row) > 6 and row[0].startswith("application_")
    ]


def parse_ids(out: str, kind: str) -> list[str]:
    """The ids (`appattempt_...`, `container_...`) at the beginnings of a table's rows."""
    return [row.group(1) for row in re.finditer(rf"^\s*({kind}_\S+)", out, re.MULTILINE)]


def no_such_app(said: str) -> bool:
    return "NotFoundException" in said or "doesn't exist in RM" in said

"""What is said to YARN and what its answers mean, with answers of Hadoop 3.4.2."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hpc.launchers.scheduler import Allocation, BadAllocation, Request
from hpc.launchers.yarn import commands, site, words

RUNNING: dict[str, Any] = {
    "id": "application_1795957537452_0001", "user": "root", "name": "name", "queue": "root.default", "state": "RUNNING",
    "finalStatus": "UNDEFINED", "diagnostics": "", "priority": 0, "startedTime": 1795957539210,
    "launchTime": 1795957539638, "elapsedTime": 7221, "runningContainers": 4,
    "resourceRequests": [{"numContainers": 0}, {"numContainers": 0}],
}  # fmt: skip
FAILED = (
    "Application Failure: desired = 3, completed = 3, allocated = 3, failed = 1, diagnostics = "
    "[2026-11-29 13:26:47.336]Exception from container-launch.\n"
    "Container id: container_1795958797634_0001_01_000002\nExit code: 7\n\n"
    "[2026-11-29 13:26:47.348]Container exited with a non-zero exit code 7. Error file: prelaunch.err.\n"
    "Last 4096 bytes of prelaunch.err :\nLast 4096 bytes of stderr :\n\n\n"
)
ASKED_TO_END = (
    "Application Failure: desired = 3, completed = 3, allocated = 3, failed = 3, diagnostics = "
    "[2026-11-29 13:28:12.314]Sent signal GRACEFUL_SHUTDOWN (SIGTERM) to pid 22478 as user root for container "
    "container_1795958879194_0001_01_000003, result=success [2026-11-29 13:28:12.317]Container killed on request. Exit "
    "code is 143"
)
STATUS = """\
Application Report :
\tApplication-Id : application_1795958797634_0001
\tApplication-Name : s
\tUser : root
\tQueue : root.default
\tStart-Time : 1795958800664
\tFinish-Time : 1795958809934
\tState : FINISHED
\tFinal-State : FAILED
\tAM Host : yn03/10.77.28.3
\tDiagnostics : Application Failure: desired = 3, completed = 3, allocated = 3, failed = 1, diagnostics = [..]Exception
Container id: container_1795958797634_0001_01_000002
Exit code: 7
"""
LIST = "\n".join(
    "\t".join(f"{cell:>20}" if n else cell for n, cell in enumerate(row))
    for row in (
        ("Total number of applications (application-types: [], states: [NEW, RUNNING] and tags: [hpc]):1",),
        ("      Application-Id", "Application-Name", "Application-Type", "User", "Queue", "State", "Final-State"),
        ("application_1795958797634_0001", "s", "YARN", "root", "root.default", "RUNNING", "UNDEFINED", "0%", "N/A"),
    )
)
CONTAINERS = """\
Total number of containers :2
                  Container-Id\t          Start Time\t         Finish Time\t               State
container_e17_1795959175135_0001_01_000002\tSun Nov 29 13:33:00 +0000 2026\t                 N/A\t             RUNNING
container_e17_1795959175135_0001_01_000001\tSun Nov 29 13:32:57 +0000 2026\t                 N/A\t             RUNNING
"""


def node(mem_mb: int, cpus: int, gpus: int = 0) -> dict[str, Any]:
    infos = [{"name": "memory-mb", "value": mem_mb}, {"name": "vcores", "value": cpus}]
    infos += [{"name": "yarn.io/gpu", "value": gpus}] if gpus else []
    used = {"resourceInformations": {"resourceInformation": [{"name": "yarn.io/gpu", "value": 1}] if gpus else []}}
    return {
        "usedMemoryMB": 256, "availMemoryMB": mem_mb - 256, "usedVirtualCores": 1, "availableVirtualCores": cpus - 1,
        "usedResource": used,
        "availableResource": {"resourceInformations": {"resourceInformation": [*infos[:2], *[
            {"name": "yarn.io/gpu", "value": gpus - 1} for _ in infos[2:]
        ]]}},
    }  # fmt: skip


NODES = {"nodes": {"node": [node(4096, 4, 2), node(4096, 4, 2), node(2048, 8)]}}
QUEUES = {
    "scheduler": {"schedulerInfo": {"type": "capacityScheduler", "queueName": "root", "queues": {"queue": [
        {"queueName": "default", "queuePath": "root.default", "absoluteMaxCapacity": 100.0, "state": "RUNNING"},
        {"queueName": "ml", "queuePath": "root.ml", "queues": {"queue": [
            {"queueName": "small", "absoluteMaxCapacity": 10.0, "state": "RUNNING"},
            {"queueName": "closed", "absoluteMaxCapacity": 10.0, "state": "STOPPED"},
        ]}},
    ]}}}
}  # fmt: skip


def refused(**asked: Any) -> tuple[str, str, dict[str, str]] | None:
    request = Request(**{"nodes": (1, 1), **asked})
    found = words.compare(
        request, commands.resources(request), words.parse_nodes(NODES), words.parse_queues(QUEUES), 512
    )
    return None if found is None else (found.code, found.what, dict(found.fix))


# ---------------------------------------------------------------- requests


def test_what_a_cluster_can_give_is_not_refused() -> None:
    assert refused() is None
    assert refused(nodes=(2, 2), mem="4G", cpus_per_task=4, gpus_per_node="a100:2") is None
    assert refused(partition="small", mem="128M") is None and refused(partition="root.ml.small", mem="128M") is None


@pytest.mark.parametrize(
    ("asked", "code", "says", "fix"),
    [
        ({"partition": "smal"}, "PARTITION", "no queue is called 'smal'", {"--partition": "small"}),
        ({"partition": "closed"}, "PARTITION", "queue closed takes no jobs", {"--partition": "default"}),
        ({"mem": "5G"}, "TOO-MUCH-MEMORY", "more than 4096 MiB of memory", {"--mem": "4096M"}),
        ({"cpus_per_task": 9}, "TOO-MANY-CPUS", "more than 8 CPUs", {"--cpus-per-task": "8"}),
        ({"gpus_per_node": "3"}, "TOO-MANY-GPUS", "more than 2 GPUs", {"--gpus-per-node": "2"}),
        ({"nodes": (4, 4)}, "TOO-MANY-NODES", "this cluster has 3 nodes", {"--nodes": "3"}),
        ({"nodes": (3, 3), "gpus_per_node": "1"}, "TOO-MANY-NODES", "2 nodes with what you ask", {"--nodes": "2"}),
        ({"partition": "small"}, "TOO-MUCH-MEMORY", "queue small may use 1024 MiB", {}),
    ],
)
def test_what_it_can_never_give_is_refused_before(asked: Any, code: str, says: str, fix: dict[str, str]) -> None:
    found = refused(**asked)
    assert found is not None and (found[0], found[2]) == (code, fix) and says in found[1]


def test_nothing_is_refused_where_nothing_is_known() -> None:
    request = Request(nodes=(99, 99), partition="x")
    assert words.compare(request, commands.resources(request), [], [], 512) is None
    assert words.parse_nodes({"nodes": None}) == [] and words.parse_queues({}) == []


def test_the_clients_no() -> None:
    for said, code in (
        ("java.net.ConnectException: Connection refused", "SCHEDULER-DOWN"),
        ("org.apache.hadoop.security.AccessControlException: SIMPLE authentication is not enabled", "ACCOUNT"),
        ("IllegalArgumentException: Queue nowhere not present in scheduler configuration.", "PARTITION"),
        ("AccessControlException: User a does not have permission to submit", "ACCOUNT"),
        ("something else", "REJECTED"),
    ):
        assert words.explain_refusal(said, "why").code == code


# ---------------------------------------------------------------- submitting


def test_the_command_that_submits() -> None:
    request = Request(
        nodes=(3, 3), partition="ml", constraint="a100", job_name="my job; x", mem="4G", cpus_per_task=2,
        gpus_per_node="a100:1",
    )  # fmt: skip
    argv = commands.client_command("yarn", "/s.jar", "/jobs/1/job.yarn", request, extra=["-priority", "3"])
    options = dict(zip(argv[4::2], argv[5::2], strict=False))
    assert argv[:4] == ["yarn", "jar", "/s.jar", commands.CLIENT_CLASS] and argv[-2:] == ["-priority", "3"]
    assert options["-appname"] == "my_job__x"  # YARN gives it to a shell as it is
    assert options["-placement_spec"] == "hpc(3),NOTIN,NODE,hpc" and options["-num_containers"] == "3"
    assert options["-container_resources"] == "memory-mb=4096,vcores=2,yarn.io/gpu=1"
    assert options["-queue"] == "ml" and options["-node_label_expression"] == "a100"
    assert "-timeout" in argv and argv[argv.index("-timeout") + 1] == str(2**31 - 1)
    assert argv[argv.index("-shell_args") + 1] == "'/jobs/1/job.yarn'"
    assert "-placement_spec" not in commands.client_command("yarn", "j", "s", Request())


def test_the_job_script_runs_once_more_when_the_nodes_are_known(tmp_path: Path) -> None:
    request = Request(nodes=(2, 2), time=90, job_name="a b", output="out of %j.txt")
    show = ["/bin/sh", "-c", 'echo "$HOME|$PWD|$A"; for word; do echo "$word"; done', "sh"]
    text = commands.job_script(request, cwd="/usr", setup=["A='b c'"], command=[*show, "run"], container=show)
    script = tmp_path / "my jobs" / "job.yarn"
    script.parent.mkdir()
    script.write_text(f"export A\n{text}")

    def run(**env: str) -> list[str]:
        env = {"HOME": "/home/", "PATH": "/usr/bin:/bin", **env}
        done = subprocess.run(["/bin/bash", script], env=env, capture_output=True, text=True, check=True, timeout=20)
        return done.stdout.splitlines()

    where, *words = run()
    asked = [
        "--nodes=2",
        "--resources=memory-mb=2048,vcores=1",
        "--time=90",
        "--output=/usr/out of %j.txt",
        "--name=a b",
    ]
    assert words == [*asked, f"--folder={script.parent}", "--", "/bin/bash", str(script)]
    assert where.startswith("/home/|") and where.endswith("|")
    for rank, last in (("0", "run"), ("1", "--node")):
        where, *words = run(HPC_YARN_JOB="application_1_2", HPC_YARN_RANK=rank)
        home, folder, setup = where.split("|")
        assert home not in ("", "/home/") and (folder, setup, words) == ("/usr", "b c", [last])
    assert commands.output_file("%j-%x-%u%%.txt", "application_1_2", "n", "u") == "application_1_2-n-u%.txt"


def test_paths_that_two_shells_do_not_pass_on() -> None:
    assert commands.unfit("/a b/job.yarn") == "" and commands.unfit("/a$b") == "$" and commands.unfit("/it's") == "'"


def test_what_a_container_was_granted() -> None:
    grant = commands.grant("memory-mb=2048,vcores=2,yarn.io/gpu=2")
    assert grant == {"HPC_YARN_CPUS": "2", "HPC_YARN_MEM_MB": "2048", "HPC_YARN_GPUS": "0,1"}
    assert commands.grant("memory-mb=1,vcores=1")["HPC_YARN_GPUS"] == "none"


def test_the_applications_id() -> None:
    line = "2026-11-29 13:05:39,484 INFO impl.YarnClientImpl: Submitted application application_1795957537452_0001\n"
    assert commands.parse_submitted(line) == "application_1795957537452_0001" and commands.parse_submitted("no") is None


# ---------------------------------------------------------------- inside


def test_the_allocation_is_what_the_first_container_was_told() -> None:
    env = {"HPC_YARN_JOB": "application_1_0002", "HPC_YARN_HOSTS": "b,a,c"}
    assert commands.allocation(env) == Allocation("application_1_0002", ("b", "a", "c"), "b")
    assert commands.allocation({"CONTAINER_ID": "container_1_2_01_000002", "YARN_SHELL_ID": "1"}) is None
    with pytest.raises(BadAllocation, match="no application"):
        commands.allocation({**env, "HPC_YARN_JOB": "4711"})


def test_containers_say_their_application_and_attempt() -> None:
    assert commands.parse_container("container_1795957537452_0001_01_000004") == ("application_1795957537452_0001", 1)
    assert commands.parse_container("container_e17_1410901177871_0021_02_000005") == (
        "application_1410901177871_0021",
        2,
    )
    assert commands.parse_container("") is None


# ---------------------------------------------------------------- states


def test_a_job_that_runs() -> None:
    info = commands.parse_app(RUNNING)
    assert (info.phase, info.state, info.partition, info.run_time_s) == ("running", "RUNNING", "default", 7.221)
    assert commands.all_are_there(RUNNING)


def test_an_application_that_waits_for_containers_waits() -> None:
    for change in ({"runningContainers": 1}, {"resourceRequests": [{"numContainers": 2}]}):
        info = commands.parse_app({**RUNNING, **change})
        assert info.phase == "queued" and "waiting for nodes to become free" in info.why
        assert not commands.all_are_there({**RUNNING, **change})
    ending = commands.parse_app({**RUNNING, "runningContainers": 1, "progress": 33.3})
    assert ending.phase == "running"  # the others have ended already
    accepted = commands.parse_app({**RUNNING, "state": "ACCEPTED", "runningContainers": 0})
    assert (accepted.phase, accepted.why) == ("queued", "waiting for the application's master to start")


@pytest.mark.parametrize(
    ("state", "final", "diagnostics", "ending", "code", "why"),
    [
        ("FINISHED", "SUCCEEDED", "", "exit", 0, ""),
        ("FINISHED", "FAILED", FAILED, "exit", 7, "a container ended with exit code 7"),
        ("FINISHED", "FAILED", ASKED_TO_END, "cancelled", 143, "a container ended with exit code 143"),
        ("KILLED", "KILLED", "Application killed by user.", "cancelled", 0, "Application killed by user."),
        ("KILLED", "KILLED", "Application is killed by the ResourceManager as it has exceeded the lifetime period.",
         "timeout", 0, "lifetime"),
        ("KILLED", "KILLED", "the first node of the job is lost", "lost", 0, "first node"),
        ("FINISHED", "FAILED", "diagnostics = Container released on a *lost* node", "lost", 0, "lost"),
        ("FAILED", "FAILED", "Application failed 2 times due to AM Container", "lost", 0, "failed 2 times"),
    ],
)  # fmt: skip
def test_how_a_job_ended(state: str, final: str, diagnostics: str, ending: str, code: int, why: str) -> None:
    info = commands.parse_app({**RUNNING, "state": state, "finalStatus": final, "diagnostics": diagnostics})
    assert (info.phase, info.ending, info.exit_code) == ("ended", ending, code) and why in info.why


def test_the_clients_tables_say_the_same() -> None:
    info = commands.parse_app(commands.parse_status(STATUS))
    assert (info.phase, info.state, info.partition, info.ending) == ("ended", "FAILED", "default", "exit")
    assert commands.parse_status("Application with id 'application_1_2' doesn't exist in RM") == {}
    (row,) = commands.parse_applications(LIST)
    assert commands.parse_app(row).phase == "running" and row["id"] == "application_1795958797634_0001"
    assert commands.parse_ids(CONTAINERS, "container")[1].endswith("_000001")


def test_the_place_in_the_queue_is_by_priority_and_age() -> None:
    rows = [{"id": "a", "startedTime": 3}, {"id": "b", "startedTime": 2}, {"id": "c", "startedTime": 9, "priority": 5}]
    assert [commands.queue_position({"apps": {"app": rows}}, each) for each in "abcd"] == [3, 2, 1, None]
    assert commands.queue_position({"apps": None}, "a") is None


def test_the_containers_that_can_be_signalled_are_not_the_masters() -> None:
    rows = [
        {"containerId": f"container_1_1_01_00000{n}", "containerState": state}
        for n, state in ((1, "RUNNING"), (2, "RUNNING"), (3, "COMPLETE"))
    ]
    assert commands.parse_containers({"container": rows}) == ["container_1_1_01_000002"]
    attempts = {"appAttempts": {"appAttempt": [{"id": n, "appAttemptId": f"appattempt_1_1_00000{n}"} for n in (1, 2)]}}
    assert commands.last_attempt(attempts) == "appattempt_1_1_000002" and commands.last_attempt({}) == ""


def test_the_limit_is_a_moment() -> None:
    assert json.loads(commands.lifetime(1795959762.9)) == {
        "timeout": {"type": "LIFETIME", "expiryTime": "2026-11-29T13:42:42.000+0000"}
    }


def test_the_time_that_is_left() -> None:
    limit = {"type": "LIFETIME", "expiryTime": "2026-11-29T13:32:45.000+0000", "remainingTimeInSeconds": 100}
    assert commands.parse_app({**RUNNING, "timeouts": {"timeout": [limit]}}).time_left_s == pytest.approx(40)
    unlimited = commands.parse_app({**RUNNING, "timeouts": {"timeout": [{**limit, "remainingTimeInSeconds": -1}]}})
    assert unlimited.time_left_s is None
    env = {"HPC_YARN_JOB": RUNNING["id"], "HPC_YARN_END": "1000"}
    assert commands.own_limit(unlimited, env, 970.0).time_left_s == pytest.approx(30)
    assert commands.own_limit(unlimited, {}, 970.0) == unlimited


# ---------------------------------------------------------------- the installation


def test_addresses_of_the_resource_manager() -> None:
    name = "yarn.resourcemanager"
    assert site.web_addresses({f"{name}.hostname": "rm"}) == ["http://rm:8088"]
    assert site.web_addresses({f"{name}.webapp.address": "a:1", f"{name}.hostname": "rm"}) == ["http://a:1"]
    secure = {"yarn.http.policy": "HTTPS_ONLY", f"{name}.webapp.https.address": "a:8090"}
    assert site.web_addresses(secure) == ["https://a:8090"] and site.web_addresses({}) == []
    two = {
        f"{name}.ha.enabled": "true", f"{name}.ha.rm-ids": "rm1, rm2", f"{name}.hostname.rm1": "a",
        f"{name}.webapp.address.rm2": "b:9",
    }  # fmt: skip
    assert site.web_addresses(two) == ["http://a:8088", "http://b:9"]


def test_an_installation_is_found_by_its_variables_or_its_command(tmp_path: Path) -> None:
    home = tmp_path / "hadoop-3"
    for path in (
        "bin/yarn",
        "etc/hadoop/yarn-site.xml",
        "share/hadoop/yarn/hadoop-yarn-applications-distributedshell-3.jar",
    ):
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(
            "<configuration><property><name>h</name><value>rm</value></property>"
            "<property><name>yarn.resourcemanager.hostname</name><value>${h}.site</value></property></configuration>"
        )
    (home / "bin/yarn").chmod(0o755)
    by_path = {"PATH": str(home / "bin")}
    for env in (by_path, {**by_path, "HADOOP_HOME": str(home)}, {**by_path, "HADOOP_CONF_DIR": f"{home}/etc/hadoop"}):
        assert site.client(env) == str(home / "bin/yarn")
        assert site.web_addresses(site.properties(env)) == ["http://rm.site:8088"]
        assert str(site.shell_jar(env)).endswith("distributedshell-3.jar")


def test_a_package_manager_of_that_name_is_no_client(tmp_path: Path) -> None:
    (tmp_path / "yarn").write_text("#!/bin/sh\n")
    (tmp_path / "yarn").chmod(0o755)
    assert site.client({"PATH": str(tmp_path)}) is None or site.conf_dir({}) is not None
    assert site.parse_properties("no xml") == {}

"""YARN's face against a web server that answers as its ResourceManager does, and a small script for its client."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hpc.launchers.scheduler import JobNews, NoAnswer, Refused, Reply, Request
from hpc.launchers.yarn import commands
from hpc.launchers.yarn.manager import Manager
from hpc.launchers.yarn.scheduler import Yarn, YarnInquiry

APP = {"id": "application_1_0001", "queue": "root.default", "state": "ACCEPTED", "finalStatus": "UNDEFINED"}
RUNS = {**APP, "state": "RUNNING", "runningContainers": 3, "resourceRequests": [{"numContainers": 0}]}
NODES = {"nodes": {"node": [{"availMemoryMB": 4096, "availableVirtualCores": 4}] * 3}}
QUEUES = {"scheduler": {"schedulerInfo": {"queueName": "root", "queues": {"queue": [{"queueName": "default"}]}}}}
NOT_FOUND = {"RemoteException": {"exception": "NotFoundException", "message": "app with id: x not found"}}


class Cluster:
    """What is asked (`heard`) and what is answered: by path, a status and a body."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.heard: list[tuple[str, str, str]] = []
        self.answers: dict[str, tuple[int, Any]] = {
            "/ws/v1/cluster/nodes": (200, NODES), "/ws/v1/cluster/scheduler": (200, QUEUES),
            "/conf": (200, {"property": {"value": "scheduler"}}),
        }  # fmt: skip
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                path = self.path.partition("?")[0]
                cluster.heard.append((self.command, self.path, body))
                code, said = cluster.answers.get(path, (404, NOT_FOUND))
                self.send_response(code)
                if code == 307:
                    self.send_header("Location", said)
                self.end_headers()
                self.wfile.write(json.dumps(said).encode())

            do_GET = do_PUT = do_POST = _answer

            def log_message(self, *_what: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"

    def app(self, app: dict[str, Any]) -> None:
        self.answers[f"/ws/v1/cluster/apps/{app['id']}"] = (200, {"app": app})

    def orders(self) -> list[tuple[str, str]]:
        """What was not only a question."""
        return [
            (path.partition("?")[0].removeprefix("/ws/v1/cluster"), body)
            for how, path, body in self.heard
            if how != "GET"
        ]

    def client(self, body: str) -> None:
        """The installed client says that; what it was asked is noted."""
        path = self.folder / "bin/yarn"
        path.write_text(f'#!/bin/sh\necho "$@" >> {self.folder}/asked\n{body}\n')
        path.chmod(0o755)

    def asked(self) -> list[str]:
        path = self.folder / "asked"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    found = Cluster(tmp_path)
    for folder in ("bin", "etc/hadoop", "share/hadoop/yarn"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "share/hadoop/yarn/hadoop-yarn-applications-distributedshell-3.4.2.jar").touch()
    (tmp_path / "etc/hadoop/yarn-site.xml").write_text(
        "<configuration><property><name>yarn.resourcemanager.webapp.address</name>"
        f"<value>{found.address}</value></property></configuration>"
    )
    found.client("exit 1")
    for name in ("HADOOP_CONF_DIR", "YARN_CONF_DIR", "HADOOP_YARN_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HADOOP_HOME", str(tmp_path))
    monkeypatch.setenv("HADOOP_USER_NAME", "somebody")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    yield found
    found.server.shutdown()
    found.server.server_close()


def all_news(inquiry: YarnInquiry) -> list[JobNews]:
    found = []
    end_s = time.monotonic() + 10
    while not inquiry.over and time.monotonic() < end_s:
        news = inquiry.poll()
        if news is not None:
            found.append(news)
        time.sleep(0.001)
    return found


def submit(request: Request = Request(nodes=(2, 2))) -> str:  # noqa: B008
    yarn = Yarn()
    return yarn.submit(yarn.submission("/jobs/1/job.yarn", request), request)


# ---------------------------------------------------------------- submitting


def test_the_client_is_let_go_once_the_application_was_taken(cluster: Cluster) -> None:
    cluster.client("echo 'INFO impl.YarnClientImpl: Submitted application application_1_0001' >&2\nexec sleep 300")
    began = time.monotonic()
    assert submit() == "application_1_0001"
    assert time.monotonic() - began < 10
    assert cluster.asked()[0].startswith("jar ") and "-num_containers 2" in cluster.asked()[0]


def test_what_can_never_run_does_not_reach_the_client(cluster: Cluster) -> None:
    for request, code in (
        (Request(nodes=(4, 4)), "TOO-MANY-NODES"), (Request(mem="9G"), "TOO-MUCH-MEMORY"),
        (Request(partition="x"), "PARTITION"),
    ):  # fmt: skip
        with pytest.raises(Refused) as no:
            submit(request)
        assert no.value.diagnosis.code == code
    assert cluster.asked() == []


def test_containers_that_cannot_be_kept_apart_are_refused_but_for_one(cluster: Cluster) -> None:
    cluster.answers["/conf"] = (200, {"property": {"value": "disabled"}})
    with pytest.raises(Refused) as no:
        submit()
    assert "placement constraints are switched off" in no.value.diagnosis.what and cluster.asked() == []
    cluster.client("echo 'Submitted application application_1_0001'")
    assert submit(Request()) == "application_1_0001"


SECURE = (
    "<configuration><property><name>hadoop.security.authentication</name><value>kerberos</value></property>"
    "</configuration>"
)


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ("echo 'klist: No credentials cache found (filename: /tmp/krb5cc_0)' >&2", "there is no Kerberos ticket"),
        ("echo '01/01/26 08:00:00  >>>Expired<<<  krbtgt/A@A'", "your Kerberos ticket has run out"),
    ],
)
def test_without_a_good_ticket_nothing_is_submitted(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, says: str, words: str
) -> None:
    (cluster.folder / "etc/hadoop/core-site.xml").write_text(SECURE)
    klist = cluster.folder / "bin" / "klist"
    klist.write_text(f'#!/bin/sh\n[ "$1" = -s ] || {{ {says}; }}\nexit 1\n')
    klist.chmod(0o755)
    monkeypatch.setenv("PATH", f"{klist.parent}:{os.environ['PATH']}")
    with pytest.raises(Refused) as no:
        submit()
    found = no.value.diagnosis
    assert (found.code, found.hint) == ("ACCOUNT", "kinit") and words in found.what and found.why
    assert cluster.asked() == [] and cluster.heard == []
    klist.write_text("#!/bin/sh\nexit 0\n")
    cluster.client("echo 'Submitted application application_1_0001'")
    assert submit() == "application_1_0001"


def test_a_label_that_no_node_has_is_refused_with_those_there_are(cluster: Cluster) -> None:
    rows = [
        {"availMemoryMB": 4096, "availableVirtualCores": 4, "nodeLabels": [label]} for label in ("fast", "fast", "")
    ]
    cluster.answers["/ws/v1/cluster/nodes"] = (200, {"nodes": {"node": rows}})
    cluster.client("echo 'Submitted application application_1_0001'")
    with pytest.raises(Refused) as no:
        submit(Request(constraint="fats"))
    assert no.value.diagnosis.fix == {"--constraint": "fast"} and "there are: fast" in no.value.diagnosis.valid
    with pytest.raises(Refused) as no:
        submit(Request(nodes=(3, 3), constraint="fast"))
    assert no.value.diagnosis.code == "TOO-MANY-NODES"
    assert submit(Request(nodes=(2, 2), constraint="fast")) == "application_1_0001"
    assert "-node_label_expression fast" in cluster.asked()[-1]


def test_gpus_are_asked_for_as_the_resource_that_yarn_calls_so(cluster: Cluster) -> None:
    infos = {"resourceInformations": {"resourceInformation": [{"name": "yarn.io/gpu", "value": 2}]}}
    row = {"availMemoryMB": 4096, "availableVirtualCores": 4, "availableResource": infos}
    cluster.answers["/ws/v1/cluster/nodes"] = (200, {"nodes": {"node": [row, row]}})
    cluster.client("echo 'Submitted application application_1_0001'")
    with pytest.raises(Refused) as no:
        submit(Request(gpus_per_node="3"))
    assert no.value.diagnosis.code == "TOO-MANY-GPUS" and no.value.diagnosis.fix == {"--gpus-per-node": "2"}
    assert submit(Request(nodes=(2, 2), gpus_per_node="2")) == "application_1_0001"
    assert "yarn.io/gpu=2" in cluster.asked()[-1]


def test_a_script_that_is_brought_to_the_nodes_is_written_for_this_user_alone(cluster: Cluster, tmp_path: Path) -> None:
    yarn, request = Yarn(), Request()
    cluster.client("cat $HADOOP_CONF_DIR/core-site.xml > $0.conf; echo 'Submitted application application_1_0001'")
    command = yarn.submission(str(tmp_path / ".brings.sh"), request, brought=True)
    assert command[-2:] == ["-localize_files", str(tmp_path / ".brings.sh")] and "'.brings.sh'" in command
    assert yarn.submit(command, request) == "application_1_0001"
    conf = cluster.folder / "bin" / "yarn.conf"
    assert "fs.permissions.umask-mode</name><value>077" in conf.read_text() and "core-site.xml" in conf.read_text()


def test_the_clients_refusal_is_explained(cluster: Cluster) -> None:
    cluster.client("echo 'INFO a' >&2; echo 'x.AccessControlException: User u does not have permission' >&2; exit 1")
    with pytest.raises(Refused) as no:
        submit()
    assert no.value.diagnosis.code == "ACCOUNT" and "does not have permission" in no.value.diagnosis.why


def test_a_path_that_cannot_be_passed_on_is_refused(cluster: Cluster) -> None:
    yarn, request = Yarn(), Request()
    with pytest.raises(Refused) as no:
        yarn.submit(yarn.submission("/jobs/$1/job.yarn", request), request)
    assert no.value.diagnosis.code == "JOB-DIR"


def test_a_manager_that_is_down_is_said_before_anything_is_submitted(cluster: Cluster) -> None:
    cluster.server.shutdown()
    cluster.server.server_close()
    with pytest.raises(Refused) as no:
        submit()
    assert no.value.diagnosis.code == "SCHEDULER-DOWN" and cluster.asked() == []


# ---------------------------------------------------------------- questions


def test_a_waiting_job_comes_first_and_its_place_last(cluster: Cluster) -> None:
    cluster.app(APP)
    cluster.answers["/ws/v1/cluster/apps"] = (200, {"apps": {"app": [{"id": "a", "startedTime": -1}, APP]}})
    first, last = all_news(Yarn().inquire(APP["id"], position=True))
    assert first.info == last.info and (first.position, last.position) == (None, 2)
    assert [news.position for news in all_news(Yarn().inquire(APP["id"], position=False))] == [None]
    assert all("user.name=somebody" in path for _, path, _ in cluster.heard)


def test_unknown_and_no_answer_are_two_things(cluster: Cluster) -> None:
    assert all_news(Yarn().inquire("application_9_9999", position=True)) == [JobNews(known=False)]
    assert Yarn().cancel("application_9_9999") == Reply(False, True, "YARN knows no application_9_9999")
    cluster.answers["/ws/v1/cluster/apps/application_9_9999"] = (500, {"RemoteException": {"message": "oops"}})
    assert all_news(Yarn().inquire("application_9_9999", position=True)) == [JobNews()]
    reply = Yarn().cancel("application_9_9999")
    assert not reply.ok and not reply.unknown and "500 oops" in reply.why


def test_many_jobs_by_one_question(cluster: Cluster) -> None:
    cluster.answers["/ws/v1/cluster/apps"] = (200, {"apps": {"app": [APP, {**RUNS, "id": "application_1_0002"}]}})
    found = Yarn().states(["application_1_0002", "application_1_0003"])
    assert {job: info.phase for job, info in found.items()} == {"application_1_0002": "running"}
    cluster.answers["/ws/v1/cluster/apps"] = (503, {})
    with pytest.raises(NoAnswer):
        Yarn().states(["application_1_0002"])


def test_one_that_stands_by_sends_us_on_with_what_we_said(cluster: Cluster) -> None:
    path = "/ws/v1/cluster/apps/application_1_0001/state"
    cluster.answers[path] = (307, f"http://{cluster.address}/active")
    cluster.answers["/active"] = (200, {})
    Manager().kill("application_1_0001")
    assert cluster.heard[-1] == ("PUT", "/active?user.name=somebody", commands.kill_order())


# ---------------------------------------------------------------- orders


def test_a_job_that_waits_is_killed(cluster: Cluster) -> None:
    cluster.app(APP)
    cluster.answers[f"/ws/v1/cluster/apps/{APP['id']}/state"] = (202, {"state": "KILLED"})
    assert Yarn().cancel(str(APP["id"])).ok
    assert cluster.orders() == [(f"/apps/{APP['id']}/state", commands.kill_order())]


def test_a_job_that_runs_is_asked_to_end_and_killed_a_minute_later(cluster: Cluster) -> None:
    root = f"/ws/v1/cluster/apps/{APP['id']}"
    cluster.app(RUNS)
    attempt = "appattempt_1_0001_000001"
    cluster.answers[f"{root}/appattempts"] = (
        200,
        {"appAttempts": {"appAttempt": [{"id": 1, "appAttemptId": attempt}]}},
    )
    names = [f"container_1_0001_01_00000{n}" for n in (1, 2, 3)]
    rows = [{"containerId": name, "containerState": "RUNNING"} for name in names]
    cluster.answers[f"{root}/appattempts/{attempt}/containers"] = (200, {"container": rows})
    cluster.answers[f"{root}/timeout"] = (202, {})
    for name in names[1:]:
        cluster.answers[f"/ws/v1/cluster/containers/{name}/signal/GRACEFUL_SHUTDOWN"] = (200, {})
    assert Yarn().cancel(str(APP["id"])).ok
    (limit, when), *signals = cluster.orders()
    assert limit.endswith("/timeout") and "LIFETIME" in when
    assert [path for path, _ in signals] == [f"/containers/{name}/signal/GRACEFUL_SHUTDOWN" for name in names[1:]]
    reply = Yarn().signal(str(APP["id"]), "INT", "/nowhere")
    assert not reply.ok and "YARN cannot send SIGINT" in reply.why


# ---------------------------------------------------------------- where REST wants a login


def test_the_client_does_what_rest_wants_a_login_for(cluster: Cluster) -> None:
    class Everything(dict[str, tuple[int, Any]]):
        def get(self, path: str, default: Any = None) -> Any:
            return (401, {})

    cluster.answers = Everything()
    job = str(APP["id"])
    cluster.client(
        f"""case "$*" in
  *-status*{job}*) printf '\\tApplication-Id : {job}\\n\\tState : ACCEPTED\\n\\tQueue : root.a\\n' ;;
  *-status*) echo "Application with id 'x' doesn't exist in RM or Timeline Server." >&2; exit 255 ;;
  *-list*) printf '{job}\\tn\\tYARN\\tu\\troot.a\\tRUNNING\\tUNDEFINED\\t0%%\\tN/A\\n' ;;
  jar*) echo 'Submitted application {job}' ;;
esac"""
    )
    (news,) = all_news(Yarn().inquire(job, position=False))
    assert news.info is not None and (news.info.phase, news.info.partition) == ("queued", "a")
    assert all_news(Yarn().inquire("application_1_9999", position=False)) == [JobNews(known=False)]
    assert Yarn().states([job])[job].phase == "running"
    assert Yarn().cancel(job).ok and cluster.asked()[-1] == f"application -kill {job}"
    assert submit() == job

"""`hpc job` and `hpc.job_submission`: commands that run in a session of `hpc start`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hpc
from hpc.core.node.reap import is_running
from hpc.host.ask import kv_get, kv_keys
from hpc.job_submission import JobErrorType, JobStatus, JobSubmissionClient
from runtime.hosting import ENV, hpc_command, started
from runtime.running import eventually, one_node

PYTHON = sys.executable
WAITS = "import time; print('up', flush=True); time.sleep(1000)"


def command(code: str) -> str:
    return f'{PYTHON} -c "{code}"'


@pytest.fixture
def client():
    with started() as facts:
        yield JobSubmissionClient(facts["session"])


def test_a_job_is_a_driver_of_the_session(client: JobSubmissionClient, tmp_path: Path):
    (tmp_path / "helper.py").write_text("def which(): return 'helper in the working directory'\n")
    (tmp_path / "job.py").write_text(
        "import hpc, os, helper\n"
        "hpc.init()\n"
        "@hpc.remote\n"
        "def f(): return helper.which(), os.environ['COLOUR'], os.getcwd()\n"
        "print(*hpc.get(f.remote()), os.environ['COLOUR'], hpc.get_runtime_context().get_job_id())\n"
    )
    runtime_env = {"working_dir": str(tmp_path), "env_vars": {"COLOUR": "blue"}}
    job = client.submit_job(entrypoint="python job.py", runtime_env=runtime_env, metadata={"who": "me"})
    info = client.wait_until_ended(job, 30)
    assert info.status == JobStatus.SUCCEEDED, client.get_job_logs(job)
    assert client.get_job_logs(job) == (
        f"helper in the working directory blue {tmp_path} blue {client.get_address()}\n"
    )
    assert (info.driver_exit_code, info.metadata, info.runtime_env) == (0, {"who": "me"}, runtime_env)
    assert info.start_time and info.end_time and info.start_time <= info.end_time <= time.time() * 1000


def test_a_job_may_submit_jobs(client: JobSubmissionClient):
    code = "from hpc.job_submission import *; JobSubmissionClient().submit_job(entrypoint='true', submission_id='b')"
    assert client.wait_until_ended(client.submit_job(entrypoint=command(code)), 60).status == JobStatus.SUCCEEDED
    assert client.wait_until_ended("b", 60).status == JobStatus.SUCCEEDED


def test_failures_say_how_and_what_was_written_last(client: JobSubmissionClient):
    failing = client.submit_job(entrypoint="echo first; echo last >&2; exit 3", submission_id="failing")
    info = client.wait_until_ended(failing, 60)
    assert failing == "failing"
    assert (info.status, info.driver_exit_code) == (JobStatus.FAILED, 3)
    assert info.error_type is JobErrorType.JOB_ENTRYPOINT_COMMAND_ERROR
    with pytest.raises(NotImplementedError, match="entrypoint_label_selector"):
        client.submit_job(entrypoint="true", entrypoint_label_selector={"zone": "a"})
    assert info.message == "the entrypoint ended with code 3\nfirst\nlast"
    missing = client.wait_until_ended(client.submit_job(entrypoint="no-such-command-here"), 60)
    assert missing.driver_exit_code == 127
    killed = client.wait_until_ended(client.submit_job(entrypoint="kill -9 $$"), 60)
    assert killed.driver_exit_code == -9 and "SIGKILL" in killed.message
    with pytest.raises(RuntimeError, match="there is a job 'failing' already"):
        client.submit_job(entrypoint="true", submission_id="failing")


def test_what_is_no_text_is_refused_and_starts_nothing(client: JobSubmissionClient):
    wrong: list[tuple[dict, str]] = [
        ({"entrypoint": 5}, "entrypoint must be a string"),
        ({"entrypoint": "true", "submission_id": 5}, "submission_id must be a string"),
        ({"entrypoint": "true", "metadata": {"a": 1}}, "metadata must map strings to strings, not 'a' to 1"),
        ({"entrypoint": "true", "metadata": ["a"]}, "metadata must map"),
        ({"entrypoint": "true", "runtime_env": ["a"]}, "runtime_env must be a mapping"),
    ]
    for given, text in wrong:
        with pytest.raises(TypeError, match=text):
            client.submit_job(**given)
    assert client.list_jobs() == []


def test_a_stopped_job_leaves_nothing_behind(client: JobSubmissionClient, tmp_path: Path):
    pids = tmp_path / "pids"
    # A child that has left the job's session and ignores SIGTERM.
    deaf = f"setsid sh -c 'trap : TERM; echo $$ >> {pids}; while true; do sleep 0.1; done'"
    job = client.submit_job(entrypoint=f"echo $$ >> {pids}; {deaf} & wait")
    eventually(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    assert client.get_job_status(job) == JobStatus.RUNNING
    assert client.stop_job(job)
    info = client.wait_until_ended(job, 30)
    assert (info.status, info.driver_exit_code, info.error_type) == (JobStatus.STOPPED, None, None)
    assert not any(is_running(int(pid)) for pid in pids.read_text().split())
    assert not client.stop_job(job)


def test_what_a_job_starts_in_the_background_ends_with_it(client: JobSubmissionClient, tmp_path: Path):
    pid_file = tmp_path / "pid"
    until = f"while [ ! -s {pid_file} ]; do sleep 0.05; done"
    job = client.submit_job(entrypoint=f"setsid sh -c 'echo $$ > {pid_file}; exec sleep 1000' & {until}")
    assert client.wait_until_ended(job, 60).status == JobStatus.SUCCEEDED
    assert not is_running(int(pid_file.read_text()))


def test_logs_can_be_followed(client: JobSubmissionClient, tmp_path: Path):
    async def follow(job: str) -> list[str]:
        seen = []
        async for text in client.tail_job_logs(job):
            seen.append(text)
            (tmp_path / "seen").touch()
        return seen

    job = client.submit_job(entrypoint=f"echo one; while [ ! -e {tmp_path}/seen ]; do sleep 0.05; done; printf two")
    parts = asyncio.run(follow(job))
    assert parts == ["one\n", "two"]
    assert asyncio.run(follow(job)) == ["one\ntwo"]


def test_jobs_are_listed_forgotten_and_kept_in_the_heads_store(client: JobSubmissionClient):
    first = client.submit_job(entrypoint="true", submission_id="first")
    second = client.submit_job(entrypoint=command(WAITS), submission_id="second")
    client.wait_until_ended(first, 60)
    assert [(info.submission_id, str(info.status)) for info in client.list_jobs()] == [
        ("first", "SUCCEEDED"),
        ("second", "RUNNING"),
    ]
    node_dir = client._host.node_dir
    eventually(lambda: json.loads(kv_get(node_dir, "_hpc_jobs", b"first") or b"{}").get("status") == "SUCCEEDED")
    with pytest.raises(RuntimeError, match="stop it before"):
        client.delete_job(second)
    log = client.get_job_info(first).log_path
    assert client.delete_job(first) and not os.path.exists(log)
    eventually(lambda: kv_keys(node_dir, "_hpc_jobs") == [b"second"])
    with pytest.raises(RuntimeError, match="there is no job 'first' in session"):
        client.get_job_status(first)


def test_the_end_of_the_session_ends_its_jobs(tmp_path: Path):
    with started() as facts:
        client = JobSubmissionClient(facts["session"])
        job = client.submit_job(entrypoint=f"echo $$ > {tmp_path}/pid; {command(WAITS)}")
        pid = int(eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip()))
        eventually(lambda: client.get_job_logs(job) == "up\n")
    assert not is_running(pid)


def test_a_host_that_is_killed_takes_its_jobs_along(tmp_path: Path):
    with started() as facts:
        client = JobSubmissionClient(facts["session"])
        client.submit_job(entrypoint=f"echo $$ > {tmp_path}/pid; {command(WAITS)}")
        pid = int(eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip()))
        os.kill(facts["pid"], signal.SIGKILL)
        eventually(lambda: not is_running(pid))
        with pytest.raises(ConnectionError):
            client.list_jobs()
    eventually(lambda: not os.path.exists(facts["node_dir"]))
    with started():  # sweeps the directory of the host that was killed
        pass


def test_the_commands(tmp_path: Path):
    (tmp_path / "job.py").write_text("import hpc; hpc.init(); print(len(hpc.nodes()), 'node'); raise SystemExit(4)\n")
    with started():
        submitted = hpc_command("job", "submit", "--working-dir", str(tmp_path), "--submission-id=j", "--", "python",
                                "job.py")  # fmt: skip
        assert (submitted.returncode, submitted.stdout) == (4, "1 node\n"), submitted.stderr
        assert "job j FAILED: the entrypoint ended with code 4" in submitted.stderr
        detached = hpc_command("job", "submit", "--no-wait", "--submission-id=w", "--", PYTHON, "-c", WAITS)
        assert detached.stdout == "w\n"
        rows = [line.split() for line in hpc_command("job", "list").stdout.splitlines()]
        assert [row[:2] for row in rows] == [["ID", "STATUS"], ["j", "FAILED"], ["w", "RUNNING"]]
        assert json.loads(hpc_command("job", "list", "--json").stdout)[1]["status"] == "RUNNING"
        assert hpc_command("job", "status", "w").stdout == "w  RUNNING: it is running\n"
        assert hpc_command("job", "logs", "j").stdout == "1 node\n"
        assert hpc_command("job", "stop", "w").stdout == "job w was asked to stop: STOPPED\n"
        assert hpc_command("job", "delete", "w").returncode == 0
        assert "there are: j" in hpc_command("job", "status", "w").stderr
        assert hpc_command("job", "logs", "-f", "j").returncode == 4


def test_ctrl_c_leaves_a_followed_job_running():
    with started() as facts:
        words = [PYTHON, "-m", "hpc", "job", "submit", "--submission-id=j", "--", PYTHON, "-c", WAITS]
        env = ENV | {"HPC_TMPDIR": os.environ["HPC_TMPDIR"]}
        with subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stderr is not None
            assert process.stdout.readline() == "up\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
            assert "job j goes on" in process.stderr.read()
        assert JobSubmissionClient(facts["session"]).get_job_status("j") == JobStatus.RUNNING


def test_errors_say_what_to_do(tmp_path: Path):
    with pytest.raises(ConnectionError, match="hpc start --head"):
        JobSubmissionClient()
    with one_node(), pytest.raises(ConnectionError, match="no session"):
        JobSubmissionClient(hpc.get_runtime_context().get_job_id())
    with pytest.raises(ValueError, match="is no session"):
        JobSubmissionClient("http://127.0.0.1:8265")
    with started():
        client = JobSubmissionClient("auto")
        with pytest.raises(ValueError, match="is not there"):
            client.submit_job(entrypoint="true", runtime_env={"working_dir": str(tmp_path / "none")})
        with pytest.raises(RuntimeError, match="not a submission id"):
            client.submit_job(entrypoint="true", submission_id="../up")
        with pytest.raises(RuntimeError, match="needs an entrypoint"):
            client.submit_job(entrypoint=" ")
        with pytest.raises(NotImplementedError, match="holds no resources"):
            client.submit_job(entrypoint="true", entrypoint_num_gpus=1)
        with pytest.raises(TypeError, match="map strings to strings"):
            client.submit_job(entrypoint="true", runtime_env={"env_vars": {"A": 1}})

"""What workers write: found on any node, by worker, actor and task; followed, capped, and kept after their end."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import hpc
from hpc.state import gather, worker_logs
from hpc.util import state
from runtime.running import eventually, local_nodes, one_node


@hpc.remote
def says(text, seconds=0.002, path=None):
    print(text, flush=True)
    print("err", text, file=sys.stderr, flush=True)
    time.sleep(seconds)
    while path is not None and not os.path.exists(path):
        time.sleep(0.002)
    return hpc.get_runtime_context().get_worker_id()


@hpc.remote
def prints_in_c(count, size):
    libc = ctypes.CDLL(None)
    line = b"x" * (size - 1) + b"\n"
    for _ in range(count):
        libc.write(1, line, len(line))
    os.write(1, b"the last line\n")
    return hpc.get_runtime_context().get_worker_id()


@hpc.remote
class Talker:
    def __init__(self):
        print("made")

    def say(self, text):
        print(text)
        time.sleep(0.001)
        return hpc.get_runtime_context().get_worker_id()

    def leave(self):
        hpc.actor.exit_actor()

    def crash(self):
        os._exit(7)


@pytest.fixture
def session(no_leaks: None) -> Iterator[None]:
    with one_node():
        yield


@pytest.fixture
def one_worker(no_leaks: None) -> Iterator[None]:
    with one_node(num_cpus=1):
        yield


def log(**which) -> str:
    return "".join(state.get_log(**which))


def cli(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hpc", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **env})


def node_dir(number: int = 1) -> str:
    return next(row["dir"] for row in gather.node_rows() if row["node"] == number)


def test_logs_of_tasks_and_actors_on_another_node():
    with local_nodes(2):
        other = says.options(
            scheduling_strategy=hpc.util.scheduling_strategies.NodeAffinitySchedulingStrategy("2", False)
        )
        refs = [other.remote(f"text {i}") for i in range(6)]
        (worker,) = set(hpc.get(refs))
        assert worker.startswith("2.")
        assert [log(task_id=ref.hex()) for ref in refs] == [f"text {i}\n" for i in range(6)]
        assert log(task_id=refs[4].hex(), suffix="err") == "err text 4\n"
        pid = state.get_worker(worker).pid
        assert log(pid=pid, node_id="2", tail=2) == "text 4\ntext 5\n"
        files = state.list_logs(node_id="2", glob_filter="worker*")
        name = f"worker-{worker.partition('.')[2]}.out"
        assert name in files["worker_out"] and "raylet" not in files and "gcs_server" in state.list_logs(node_id=1)
        assert log(node_id="2", filename=name).startswith("text 0\n")
        actor = Talker.options(name="parrot").remote()
        calls = [actor.say.remote(i) for i in range(3)]
        assert len(set(hpc.get(calls))) == 1
        assert log(actor_id="parrot").endswith("made\n0\n1\n2\n") and log(task_id=calls[1].hex()) == "1\n"
        assert b"".join(state.get_log(actor_id=actor._actor_id.hex(), tail=1, encoding=None)) == b"2\n"
        assert cli("logs", "--worker", worker, "--tail", "1").stdout == "text 5\n"
        red = other.remote("\x1b[31mred\x1b[0m")
        hpc.get(red)
        assert log(task_id=red.hex(), filter_ansi_code=True) == "red\n" != log(task_id=red.hex())
        shown = cli("logs", "--task", refs[3].hex()[-9:])
        assert shown.stdout == "text 3\n" and shown.stderr == "err text 3\n"
        assert cli("logs", "--actor", "parrot", "--out", "--tail=2").stdout == "1\n2\n"
        assert "worker 2." in cli("logs", "--node", "2", "--out").stdout


def test_what_cannot_be_found_is_said(session):
    with pytest.raises(ValueError, match="one of filename, actor_id, task_id"):
        state.get_log(filename="x", actor_id="y", node_id="1")
    with pytest.raises(ValueError, match="node_id or node_ip"):
        state.get_log(filename="raylet.log")
    with pytest.raises(FileNotFoundError, match="there is no node 7"):
        state.get_log(filename="raylet.log", node_id="7")
    for name in ("../session.json", "nothing.log", ".hidden"):
        with pytest.raises(FileNotFoundError, match="has no log file"):
            log(filename=name, node_id="1")
    with pytest.raises(FileNotFoundError, match="no process of the session knows a task"):
        log(task_id="ab" * 16)
    with pytest.raises(FileNotFoundError, match="is a driver"):
        worker_logs.of_worker(hpc.get_runtime_context().get_worker_id())
    wrong = cli("logs", "--worker", "1.99", "--task", "3")
    assert wrong.returncode == 2 and "one of --worker, --task at a time" in wrong.stderr
    assert "has no log file" in cli("logs", "--worker", "1.99").stderr


def test_short_tasks_share_a_part_of_the_log(session):
    @hpc.remote
    def short(i):
        print("short", i)

    refs = [short.remote(i) for i in range(50)]
    hpc.get(refs)
    with pytest.warns(UserWarning, match="more tasks or calls wrote into this part"):
        assert "short 7\n" in log(task_id=refs[7].hex())


def test_following_a_running_task_ends_with_its_worker(one_worker, tmp_path):
    go = tmp_path / "go"
    ref = says.remote("first", path=str(go))
    eventually(lambda: (task := state.get_task(ref.hex())) and task.state == "RUNNING" and log(task_id=ref.hex()))
    worker = state.get_task(ref.hex()).worker_id
    assert log(task_id=ref.hex()) == "first\n"
    got: list[str] = []
    follower = subprocess.Popen(
        [sys.executable, "-m", "hpc", "logs", "--worker", worker, "-f", "--out"], stdout=subprocess.PIPE, text=True
    )
    assert follower.stdout is not None
    reading = threading.Thread(target=lambda: got.extend(follower.stdout or ()), daemon=True)
    reading.start()
    eventually(lambda: got == ["first\n"])
    go.touch()
    hpc.get(ref)
    again = says.remote("second", seconds=600)
    eventually(lambda: got == ["first\n", "second\n"])
    hpc.cancel(again, force=True)
    assert follower.wait(60) == 0
    reading.join(60)


def capped(no_holes: bool) -> None:
    with one_node(num_cpus=1, env={"HPC_LOG_BYTES": str(256 << 10)}):
        worker = hpc.get(prints_in_c.remote(2000, 1000))  # 2 MB, written by C
        file = Path(node_dir(), "logs", f"worker-{worker.partition('.')[2]}.out")
        eventually(lambda: file.stat().st_blocks * 512 < 300 << 10)
        assert b"bytes of output are missing here: a log may take 262144" in file.read_bytes()[:200]
        text = log(node_id="1", filename=file.name)
        assert text.endswith("\nthe last line\n" if not no_holes else "the last line\n") or no_holes
        assert "are missing here" in text and len(text) < 300 << 10 and "\0" not in text
        assert hpc.get(says.remote("after")) == worker
        assert log(node_id="1", filename=file.name, tail=1) == "after\n"
        (row,) = [row for row in worker_logs.files(1) if row["file"] == file.name]
        assert 0 < row["size_bytes"] < 300 << 10 and row["missing_bytes"] > 1_500_000


def test_a_log_has_a_cap_also_for_c_code(no_leaks):
    capped(no_holes=False)


def test_where_the_file_system_has_no_holes_a_log_is_emptied(no_leaks, monkeypatch):
    from hpc.core.raylet import logfiles

    def none(fd, end):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(logfiles, "punch", none)  # nodes are forked from this very process
    capped(no_holes=True)


def test_a_worker_that_has_ended_is_remembered(session):
    talker = Talker.remote()
    calls = [talker.say.remote(f"call {i}") for i in range(3)]
    (worker,) = set(hpc.get(calls))
    with pytest.raises(hpc.exceptions.ActorDiedError):
        hpc.get(talker.leave.remote())
    row = eventually(lambda: (r := state.get_worker(worker)) and r.state == "ENDED" and r)
    assert not row.failed and row.told and "exit_actor() was called" in row.exit_detail
    assert log(task_id=calls[1].hex()) == "call 1\n"
    assert state.get_task(calls[2].hex()).state == "FINISHED"
    assert "call 2" in log(actor_id=talker._actor_id.hex())
    killed = says.options(max_retries=0).remote("killed soon", seconds=60)
    at = eventually(lambda: (t := state.get_task(killed.hex())) and t.state == "RUNNING" and t.worker_id)
    eventually(lambda: "killed soon" in log(task_id=killed.hex()))
    os.kill(state.get_worker(at).pid, 9)
    with pytest.raises(hpc.exceptions.WorkerCrashedError):
        hpc.get(killed)
    row = eventually(lambda: (r := state.get_worker(at)) and r.state == "ENDED" and r)
    assert row.failed and row.last_task_id == killed.hex() and "SIGKILL" in row.exit_detail
    task = state.get_task(killed.hex())
    assert task.state == "FAILED" and "its worker ended while it ran" in task.why
    with pytest.warns(UserWarning, match="is not known: this is all of worker"):
        assert "killed soon" in log(task_id=killed.hex())
    shown = cli("logs", "--failed")
    assert "killed soon" in shown.stdout and "SIGKILL" in shown.stdout and worker not in shown.stdout


def test_a_task_that_was_given_back_unbegun_is_in_its_first_attempt_when_it_runs(session, recwarn):
    """It was queued behind a long task; whoever asks for the log of its first attempt gets that."""
    whole = says.options(num_cpus=hpc.cluster_resources()["CPU"])

    @hpc.remote(num_cpus=hpc.cluster_resources()["CPU"])
    def quick():
        return None

    hpc.get([quick.remote() for _ in range(200)])
    refs = [whole.remote("long", 0.3), *(whole.remote(f"behind {i}") for i in range(3))]
    hpc.get(refs)
    rows = [state.get_task(ref.hex()) for ref in refs]
    assert [row.attempt_number for row in rows] == [0, 0, 0, 0]
    assert [log(task_id=ref.hex(), attempt_number=0) for ref in refs[1:]] == [f"behind {i}\n" for i in range(3)]
    assert not recwarn.list
    with pytest.raises(FileNotFoundError, match="no attempt 7 is known, but 0"):
        log(task_id=refs[0].hex(), attempt_number=7)


def test_the_last_words_of_a_worker_are_in_its_detail_and_not_in_the_title_of_its_log(session):
    @hpc.remote(max_retries=0)
    def gives_up():
        print("what I know is little", file=sys.stderr, flush=True)
        os._exit(3)

    ref = gives_up.remote()
    with pytest.raises(hpc.exceptions.WorkerCrashedError, match="what I know is little"):
        hpc.get(ref)
    rows = eventually(lambda: [r for r in state.list_workers() if r.get("last_task_id") == ref.hex()])
    assert rows[0].exit_detail == f"{rows[0].exit_brief}; its last words: what I know is little"
    shown = cli("logs", "--failed").stderr.splitlines()
    assert f"==== worker {rows[0].worker_id} stderr: {rows[0].exit_brief}" in shown


def test_a_worker_that_ended_unexpectedly_without_a_word_is_listed_too(session):
    @hpc.remote(max_retries=0)
    def goes():
        os._exit(4)

    ref = goes.remote()
    with pytest.raises(hpc.exceptions.WorkerCrashedError):
        hpc.get(ref)
    (row,) = eventually(lambda: [r for r in state.list_workers() if r.get("last_task_id") == ref.hex()])
    shown = cli("logs", "--failed")
    assert f"==== worker {row.worker_id}: {row.exit_brief}\n(it wrote nothing)\n" in shown.stderr


def test_a_node_keeps_a_bounded_number_of_ended_workers(tmp_path):
    from hpc.core.node.spec import NodeSpec
    from hpc.core.raylet import logfiles
    from hpc.core.raylet.tables import Proc

    (tmp_path / "logs").mkdir()
    spec = NodeSpec(
        session="s", node=3, rank=0, world=1, dir=str(tmp_path), interface="lo", interface_addr="127.0.0.1", cpus=1,
        granted_cpus=1, mem_bytes=1,
    )  # fmt: skip
    files = logfiles.LogFiles(spec)
    for number in range(1, logfiles.MAX_ENDED + 11):
        (tmp_path / "logs" / f"worker-{number}.out").write_text("x" if number % 2 else "")
        files.worker_ended(Proc(number, "worker", "idle"), "over", failed=False)
    assert len(files.ended) == logfiles.MAX_ENDED == len(files.ended_rows(10_000))
    left = sorted(int(p.stem.partition("-")[2]) for p in (tmp_path / "logs").iterdir())
    assert left[0] == 11 and all(number % 2 for number in left)


# ---------------------------------------------------------------- a job's end


def launch(folder: Path, body: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "x.py").write_text(textwrap.dedent(body))
    command = [sys.executable, "-m", "hpc.cli.launch", "--scheduler=local", *options, "x.py"]
    env = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")} | {"HPC_JOB_DIR": str(folder / "jobs")}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60)


def test_the_logs_of_failed_workers_stay_with_the_job(no_leaks, tmp_path):
    done = launch(tmp_path, """
        import os, sys
        import hpc
        hpc.init()
        @hpc.remote(max_retries=0)
        def crash(i):
            print("what it was about to do", i)
            print("its complaint", file=sys.stderr)
            os._exit(7)
        @hpc.remote
        def fine():
            print("all is well")
            return 1
        assert hpc.get(fine.options(num_cpus=2).remote()) == 1
        for i in range(2):
            try:
                hpc.get(crash.remote(i))
            except hpc.exceptions.WorkerCrashedError:
                pass
    """, "-N2", "-c2")  # fmt: skip
    assert done.returncode == 0 and "2 workers ended unexpectedly: hpc logs 1 --failed" in done.stderr, done.stderr
    folder = tmp_path / "jobs"
    assert sorted(p.name for p in (folder / "1").iterdir()) == [
        "events.jsonl", "job.json", "logs.zip", "record.json", "report.html", "status.json",
    ]  # fmt: skip
    shown = cli("logs", "1", "--failed", HPC_JOB_DIR=str(folder))
    assert "what it was about to do 0\n" in shown.stdout and "what it was about to do 1\n" in shown.stdout
    assert shown.stderr.count("its complaint\n") == 2 and "exited with code 7" in shown.stdout
    kept = cli("logs", "1", "--worker", "9.9", HPC_JOB_DIR=str(folder))
    assert kept.returncode == 2 and "only workers that ended unexpectedly" in kept.stderr
    worker = kept.stderr.partition("why:   kept: ")[2].partition(",")[0]
    one = cli("logs", "1", "--worker", worker, "--out", HPC_JOB_DIR=str(folder))
    assert one.stdout.count("what it was about to do") == 1
    assert cli("logs", "1", "--task", "ab", HPC_JOB_DIR=str(folder)).returncode == 2
    events = [json.loads(line)["event"] for line in (folder / "1" / "events.jsonl").read_text().splitlines()]
    assert [event for event in events if event.islower()] == ["ready", "logs", "ended"]
    assert events.count("WORKER_DIED") == events.count("TASK_FAILED") == 2, "what happened in its session is there too"


def test_a_job_in_which_nothing_failed_leaves_no_archive(no_leaks, tmp_path):
    done = launch(tmp_path, "import hpc; hpc.init(); hpc.get(hpc.remote(lambda: print('x')).remote())")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "jobs" / "1" / "logs.zip").exists()
    said = cli("logs", "1", "--failed", HPC_JOB_DIR=str(tmp_path / "jobs"))
    assert said.returncode == 0 and "no worker ended unexpectedly" in said.stderr

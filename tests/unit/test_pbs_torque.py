"""Torque's dialect of PBS, word by word. pbs_answers/torque.txt is written as servers of its releases 4 to 6 answer;
wrappers.txt is what Debian's wrappers in front of Slurm said."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from hpc.core.node.detect import NodeGrant, detect
from hpc.core.node.spec import parse_start
from hpc.launchers.pbs import commands, dialects, torque, words
from hpc.launchers.pbs.scheduler import Pbs
from hpc.launchers.pbs.torque import Processors
from hpc.launchers.registry import find_place
from hpc.launchers.scheduler import NoAnswer, Refused, Request, Share

ANSWERS = Path(__file__).parent / "pbs_answers"
NOW = datetime(2026, 11, 29, 13, 58, 45).timestamp()
VERSION = "Version: 6.1.2\nCommit: 661e092552de43a785c15d39a3634a541d86898e\n"
WRAPPERS_VERSION = "Unknown option: version\nUsage:\n    qsub [-a start_time] [-A account] [script]\n"
JOB = {"PBS_JOBID": "7.s", "PBS_NODENUM": "0", "PBS_VERSION": "TORQUE-6.1.2"}


# ---------------------------------------------------------------- which it is


@pytest.mark.parametrize("said", [VERSION, "version: 2.5.12\n", "welcome\nversion: 4.2.10\n"])
def test_torque_is_told_by_its_version(said: str) -> None:
    assert dialects.of_version(said) is dialects.TORQUE


@pytest.mark.parametrize("said", ["pbs_version = 23.06.06", "pbs_version = PBSPro_13.0.409.180551"])
def test_openpbs_is_told_by_its_version(said: str) -> None:
    assert dialects.of_version(said) is dialects.OPEN_PBS


@pytest.mark.parametrize("said", [WRAPPERS_VERSION, "", "qsub: Unknown option", "SGE 8.1.9\nusage: qsub [options]"])
def test_what_is_neither_is_no_pbs(said: str) -> None:
    assert dialects.of_version(said) is None


def test_a_jobs_dialect_is_in_its_environment() -> None:
    assert dialects.of_job(JOB) is dialects.TORQUE
    assert dialects.of_job({"PBS_JOBID": "7.s"}) is dialects.OPEN_PBS
    assert dialects.of_job({"PBS_VERSION": "TORQUE-6.1.2"}) is None


Says = Callable[[str, str], None]


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Says:
    """Give a command of the PATH a body; each is noted in the file `asked` when it runs."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("PBS_CONF_FILE", "/nowhere")
    for name in ("PBS_EXEC", "PBS_JOBID", "PBS_DEFAULT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def give(name: str, body: str) -> None:
        path = tmp_path / "bin" / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/asked\n{body}\n')
        path.chmod(0o755)

    return give


def is_torque(says: Says, otherwise: str = "exit 1") -> None:
    says("qsub", f'[ "$1" = --version ] && {{ printf "{VERSION}" >&2; exit 0; }}\n{otherwise}')


def test_torque_is_found_by_the_name_of_its_server(says: Says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_torque(says)
    env = {"PATH": f"{tmp_path}/bin", "PBS_CONF_FILE": "/nowhere"}
    assert find_place(env).kind == "local"  # a qsub alone says nothing
    assert find_place({**env, "PBS_DEFAULT": "srv"}).source.name == "pbs"
    (tmp_path / "server_name").write_text("srv\n")
    monkeypatch.setattr(torque, "SERVER_FILES", (str(tmp_path / "server_name"),))
    assert find_place(env).source.name == "pbs"
    assert not Path("asked").exists()  # files and the environment are enough


def test_wrappers_beside_slurm_leave_slurm_first(says: Says, tmp_path: Path) -> None:
    says("qsub", f"printf '{WRAPPERS_VERSION}' >&2; exit 2")
    says("sbatch", "exit 1")
    env = {"PATH": f"{tmp_path}/bin", "PBS_CONF_FILE": "/nowhere"}
    assert find_place({**env, "SLURM_CONF": "/etc/slurm.conf"}).source.name == "slurm"
    assert find_place({**env, "SLURM_CONF": "/etc/slurm.conf", "PBS_DEFAULT": "srv"}).source.name == "slurm"
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n1", "SLURM_CONF": "/etc/slurm.conf"}
    (tmp_path / "nodes").write_text("n1\n")  # sites with wrappers set these, too
    assert find_place({**env, **job, **JOB, "PBS_NODEFILE": str(tmp_path / "nodes")}).source.name == "slurm"


def test_a_wrapper_that_is_asked_for_is_refused(says: Says) -> None:
    says("qsub", f"printf '{WRAPPERS_VERSION}' >&2; exit 2")
    with pytest.raises(Refused) as caught:
        Pbs().submit(["qsub", "-N", "x"], Request())
    assert (
        caught.value.diagnosis.code == "NO-SCHEDULER" and "a wrapper in front of another" in caught.value.diagnosis.hint
    )
    assert Path("asked").read_text().splitlines() == ["qsub --version"]


# ---------------------------------------------------------------- submitting


def test_nodes_have_processors() -> None:
    asked = torque.options(Request(nodes=(2, 2), cpus_per_task=4, time=5400, job_name="train"))
    assert asked[:4] == ["-N", "train", "-l", "nodes=2:ppn=4,walltime=01:30:00"]
    assert asked[4:] == ["-j", "oe", "-o", "/dev/null", "-r", "n"]


def test_all_that_can_be_asked_for_is_in_one_list_of_resources() -> None:
    request = Request(
        nodes=(3, 3), cpus_per_task=8, mem="16G", gpus_per_node="k80:2", constraint="ib", exclusive=True, time=60,
        partition="long", account="acc", dependency="afterok:7.s", mail_type="END,FAIL", job_name="2 nets",
    )  # fmt: skip
    words_ = torque.options(request)
    resources = "nodes=3:ppn=8:gpus=2:k80:ib,walltime=00:01:00,mem=49152mb,naccesspolicy=singlejob"
    assert words_[words_.index("-l") + 1] == resources and words_.count("-l") == 1
    assert words_[:2] == ["-N", "hpc-2_nets"]
    assert " ".join(words_).endswith("-q long -A acc -W depend=afterok:7.s -m ea -j oe -o /dev/null -r n")


def test_the_script_is_a_file_and_what_is_asked_for_beside_is_passed_on() -> None:
    argv = torque.qsub_command("qsub", "/j/job.pbs", Request(submit_arg=["-Wx=QOS:high"]))
    assert argv[0] == "qsub" and argv[-2:] == ["-Wx=QOS:high", "/j/job.pbs"]


def test_the_output_is_where_it_belongs_while_the_job_runs(tmp_path: Path) -> None:
    script = tmp_path / "job.pbs"
    request = Request(output="out of it.txt")
    script.write_text(torque.job_script(request, cwd=str(tmp_path), setup=["export A=b"], command=["env"]))
    done = subprocess.run(["/bin/bash", str(script)], env={"PATH": "/usr/bin:/bin"}, capture_output=True, cwd="/")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert "A=b\n" in (tmp_path / "out of it.txt").read_text()


def test_a_line_of_setup_that_fails_is_named(tmp_path: Path) -> None:
    for text in (
        torque.job_script(Request(output="out"), cwd=str(tmp_path), setup=["false"], command=["echo", "went"]),
        commands.job_script(cwd=str(tmp_path), setup=["false"], command=["echo", "went"]),
    ):
        script = tmp_path / "job.pbs"
        script.write_text(text)
        done = subprocess.run(["/bin/bash", str(script)], capture_output=True, text=True)
        said = done.stderr + (tmp_path / "out").read_text()
        assert done.returncode == 1 and "--setup failed with exit code 1: false" in said and "went" not in said


@pytest.mark.parametrize(
    ("err", "request_", "code", "what"),
    [
        ("qsub: submit error (Unknown queue MSG=cannot locate queue)", Request(partition="work"), "PARTITION",
         "no queue is called 'work'"),
        ("qsub: submit error (Job exceeds queue resource limits MSG=cannot satisfy queue max walltime requirement)",
         Request(time=7200), "TIME-LIMIT", "02:00:00 asked for, but queue workq allows 01:00:00"),
        ("qsub: submit error (Job exceeds queue resource limits MSG=cannot locate feasible nodes (nodes file is empty "
         "or requested nodes exceed all systems))", Request(nodes=(9, 9), cpus_per_task=4), "TOO-MANY-NODES",
         "there are never 9 nodes with 4 processors each"),
        ("qsub: submit error (Unknown resource type  fast)", Request(), "REJECTED",
         "this PBS knows no resource 'fast'"),
        ("qsub: submit error (Invalid Account)", Request(account="x"), "ACCOUNT", "account x cannot be charged"),
        ("qsub: cannot connect to server srv (errno=111) Connection refused", Request(), "SCHEDULER-DOWN",
         "PBS's server does not answer; nothing was submitted"),
    ],
)  # fmt: skip
def test_refusals(err: str, request_: Request, code: str, what: str) -> None:
    queues = commands.parse_queues((ANSWERS / "queues.txt").read_text())
    said = words.explain_refusal(err, request_, queues, why=err)
    assert (said.code, said.what, said.why) == (code, what, err)


# ---------------------------------------------------------------- jobs


def test_jobs_that_run() -> None:
    job, old, *_ = commands.parse_jobs((ANSWERS / "torque.txt").read_text(), NOW).values()
    assert (job.job_id, job.phase, job.nodes) == (
        "812.srv.example.org",
        "running",
        ("n1.example.org", "n2.example.org"),
    )
    assert (job.start, job.run_time_s, job.time_left_s) == ("2026-11-29T13:57:45", 60.0, 240.0)
    assert job.granted == {"n1.example.org": Share(2, 8192), "n2.example.org": Share(1, 4096)}
    assert not job.runs_again
    assert (old.nodes, old.run_time_s, old.limit_s) == (("n3", "n4"), 30.0, 720 * 3600.0)
    assert old.granted == {"n3": Share(0, 2048), "n4": Share(0, 2048)}


def test_jobs_that_wait_or_have_ended() -> None:
    _, _, held, *ended = commands.parse_jobs((ANSWERS / "torque.txt").read_text(), NOW).values()
    assert (held.phase, held.state) == ("queued", "held") and "waits for another job" in held.why
    assert [(job.phase, job.ending) for job in ended] == [
        ("ended", ending) for ending in ("exit", "cancelled", "timeout", "lost", "exit")
    ]
    assert (ended[0].exit_code, ended[1].exit_signal, ended[4].exit_signal) == (3, 15, 9)
    assert (ended[2].why, ended[3].why) == ("exceeded its walltime", "it used more memory than it asked for")


def test_wrappers_in_front_of_slurm_answer_in_the_same_form() -> None:
    running, ended = commands.parse_jobs((ANSWERS / "wrappers.txt").read_text(), NOW).values()
    assert (running.phase, running.nodes, running.limit_s) == ("running", ("nid0001", "nid0002"), 300.0)
    assert running.time_left_s is not None and running.start == "2026-11-29T13:57:45"
    assert (ended.phase, ended.ending) == ("ended", "cancelled")
    queues = commands.parse_queues("Queue:\tbatch\n\tqueue_type = Execution\n\tenabled = yes\n\nQueue:\tdebug\n\n")
    assert queues == {"batch": {"queue_type": "Execution", "enabled": "yes"}, "debug": {}}


def test_a_job_that_is_not_known_and_no_answer_are_two_things(says: Says) -> None:
    is_torque(says)
    says("qstat", "echo 'qstat: Unknown Job Id Error 7.s' >&2; exit 153")
    assert Pbs().states(["7.s"]) == {}
    says("qstat", "exit 153")  # a wrapper has no word for it
    assert Pbs().states(["7"]) == {}
    says("qstat", "echo 'Problem loading jobs.' >&2; exit 153")
    with pytest.raises(NoAnswer, match="Problem loading jobs"):
        Pbs().states(["7"])
    assert "qstat -x" not in Path("asked").read_text()  # that is XML here


# ---------------------------------------------------------------- nodes


NODE_FILE = "n1\nn1\nn1\nn1\nn2\nn2\n"


def test_the_allocation_is_that_of_any_pbs() -> None:
    found = commands.allocation(JOB, NODE_FILE)
    assert found is not None and (found.nodes, found.here) == (("n1", "n2"), "n1")


def test_each_node_has_its_processors_and_its_gpus() -> None:
    processors = Processors.read(NODE_FILE, "n1-gpu2\nn1-gpu3\n")
    (job, *_) = commands.parse_jobs(
        "Job Id: 7.s\n    job_state = R\n    exec_host = n1/0-3+n2/0-1\n    Resource_List.mem = 6gb\n", NOW
    ).values()
    said = torque.grants(["n1", "n2"], job, processors)
    assert said == [
        {"nodes": 1, "cpus": 4, "mem_mb": 4096, "gpus": 2, "devices": ["2", "3"]},
        {"nodes": 1, "cpus": 2, "mem_mb": 2048, "gpus": 0, "devices": []},
    ]
    (without,) = torque.grants(["n2"], None, Processors.read(NODE_FILE))
    assert without == {"nodes": 1, "cpus": 2, "mem_mb": None, "gpus": None, "devices": []}


def ids(grant: NodeGrant) -> list[str]:
    return [device.id for device in grant.devices]


def test_a_node_offers_what_its_launcher_was_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(64)))
    processors = Processors.read("n1\nn1\nn2\n", "n1-gpu1\n")
    start = parse_start({"op": "start", "session": "s", "grants": torque.grants(["n1", "n2"], None, processors)})
    (first, second) = (detect(start, rank, {}, str(tmp_path)) for rank in (0, 1))
    assert (first.cpus, ids(first)) == (2, ["1"]) and (second.cpus, ids(second)) == (1, [])
    shown = detect(start, 0, {"CUDA_VISIBLE_DEVICES": "0"}, str(tmp_path))  # what the node itself says goes first
    assert ids(shown) == ["0"]


def test_a_task_is_started_on_the_first_processor_of_its_node() -> None:
    processors = Processors.read(NODE_FILE)
    command = dialects.TORQUE.task("pbsdsh", "n2", processors, "/j/x.sh", 1, ["wrap"])
    assert command == ["pbsdsh", "-n", "4", "wrap", "/bin/sh", "/j/x.sh", "1"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("exit 0", "task 3 0"),
        ("echo 'pbsdsh(): task 0 exit status 127' >&2; exit 0", "task 3 127"),
        ("echo 'pbsdsh(): spawn failed on node 4 err TM_ESYSTEM' >&2; exit 0", "task 3 254"),
        ("echo 'pbsdsh(): error 17000 on spawn' >&2; exit 0", "task 3 254"),
        ("echo 'pbsdsh(): tm_init failed, rc = TM_ESYSTEM (17000)' >&2; exit 1", "task 3 1"),
    ],
)
def test_how_a_task_ended_is_in_the_words_of_pbsdsh(tmp_path: Path, body: str, said: str) -> None:
    pbsdsh = tmp_path / "pbsdsh"
    pbsdsh.write_text(f"#!/bin/sh\n{body}\n")
    pbsdsh.chmod(0o755)
    done = subprocess.run(["/bin/sh", "-c", torque.WATCH, "3", str(pbsdsh)], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == said


# ---------------------------------------------------------------- before there is a job

PBSNODES = """\
n1
     state = free
     power_state = Running
     np = 8
     properties = ib,k80
     ntype = cluster
     jobs = 0-2,5/812.srv.example.org,6/813.srv.example.org
     status = rectime=1795970971,physmem=16330676kb,availmem=15000000kb,ncpus=8
     gpus = 2

n2
     state = job-exclusive
     np = 8
     jobs = 0-7/812.srv.example.org

n3
     state = free
     np = 8
     status = physmem=4000000kb,ncpus=8

n4
     state = down,offline
     np = 8
"""


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ({}, 2),
        ({"cpus_per_task": 3}, 2),
        ({"cpus_per_task": 4}, 1),  # five of the first one's are in use
        ({"exclusive": True}, 1),
        ({"mem": "8G"}, 1),
        ({"gpus_per_node": "k80:2"}, 1),
        ({"gpus_per_node": "3"}, 0),
        ({"constraint": "ib"}, 1),
    ],
)
def test_free_nodes_are_counted_by_what_is_asked_of_each(asked: dict[str, Any], count: int) -> None:
    assert torque.free_nodes(Request(**asked), commands.parse_nodes(PBSNODES)) == count


def test_jobs_that_wait_are_counted() -> None:
    table = """
srv:
                                                                      Req'd    Req'd       Elap
Job ID                  Username    Queue    Jobname          SessID  NDS   TSK   Memory   Time      S   Time
----------------------- ----------- -------- ---------------- ------ ----- ------ ------ --------- - ---------
814.srv.example.org     ann         batch    Q                   --      1      4    --   00:05:00 Q       --
815.srv.example.org     ann         batch    held                --      1      4    --   00:05:00 H       --
816.srv.example.org     ann         batch    more                --      1      4    --   00:05:00 Q       --
"""
    assert torque.waiting_in_words(table) == "2 jobs wait there"
    assert torque.waiting_in_words("") == "" and torque.waiting_command("batch") == ["qstat", "-i", "batch"]

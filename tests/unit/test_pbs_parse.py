"""What is said to PBS and how its answers are read, word by word. pbs_answers/ has what an OpenPBS 23.06 said."""

from __future__ import annotations

import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from hpc.launchers.pbs import commands, words
from hpc.launchers.scheduler import BadAllocation, JobInfo, Request, Share

ANSWERS = Path(__file__).parent / "pbs_answers"
NOW = datetime(2026, 11, 29, 13, 58, 45).timestamp()


def jobs(name: str) -> dict[str, JobInfo]:
    return commands.parse_jobs((ANSWERS / f"{name}.txt").read_text(), NOW)


def test_a_job_that_runs() -> None:
    (job,) = jobs("running").values()
    assert (job.job_id, job.phase, job.state, job.ending) == ("0.pxs", "running", "running", "")
    assert job.nodes == ("px1", "px2") and job.partition == "workq"
    assert (job.start, job.run_time_s, job.limit_s) == ("2026-11-29T13:57:45", 60.0, 300.0)
    assert (job.left, job.time_left_s) == ("00:04:00", 240.0)
    assert job.granted == {"px1": Share(0, 100), "px2": Share(0, 100)}


def test_jobs_that_wait_say_why() -> None:
    never, held, busy = jobs("waiting").values()
    assert {job.phase for job in (never, held, busy)} == {"queued"}
    assert never.why == "can never run: Not enough total nodes available: will not start as it is"
    assert (held.state, held.why) == ("held", "held (qrls frees it), or it waits for another job")
    assert busy.why == "waiting for nodes to become free" and busy.reason.startswith("Not Running")


def test_jobs_that_have_ended_say_how() -> None:
    deleted, code, walltime, never_ran, killed = jobs("ended").values()
    assert {job.phase for job in (deleted, code, walltime, never_ran, killed)} == {"ended"}
    assert (deleted.ending, deleted.exit_signal, deleted.why) == ("cancelled", 15, "terminated by bed@login")
    assert (code.ending, code.exit_code, code.exit_signal) == ("exit", 3, 0)
    assert (walltime.ending, walltime.why) == ("timeout", "exceeded resource walltime")
    assert (never_ran.ending, never_ran.nodes) == ("cancelled", ())
    assert (killed.ending, killed.exit_code, killed.exit_signal) == ("exit", 0, 9)


@pytest.mark.parametrize(
    ("status", "ending", "why"),
    [
        (-20, "lost", "its first node, where its script ran, was lost"),
        (-27, "lost", "it used more memory than it asked for"),
        (-29, "timeout", "exceeded resource walltime"),
        (0, "exit", "finished"),
    ],
)
def test_pbss_own_exit_codes(status: int, ending: str, why: str) -> None:
    said = "finished" if status != -29 else "exceeded resource walltime"
    text = f"Job Id: 1\n    job_state = F\n    Exit_status = {status}\n    comment = Job run at n1 and {said}\n"
    (job,) = commands.parse_jobs(text, NOW).values()
    assert (job.phase, job.ending, job.why, job.exit_code) == ("ended", ending, why, 0)


def test_an_unknown_job_among_others_hides_none_of_them() -> None:
    assert list(jobs("some")) == ["1.pxs"]
    assert commands.no_such_job("qstat: Unknown Job Id 77.pxs")
    assert not commands.no_such_job("qstat: cannot connect to server pxs (errno=15010)")


def test_what_a_vnode_gives_adds_up_over_its_chunks() -> None:
    text = "(a:ncpus=2:ngpus=1:mem=1gb)+(b:ncpus=2:ngpus=2)+(a:ncpus=1:mem=512mb:ngpus=1)"
    (job,) = commands.parse_jobs(f"Job Id: 1\n    job_state = R\n    exec_vnode = {text}\n", NOW).values()
    assert job.granted == {"a": Share(2, 1536), "b": Share(2, None)}
    assert commands.grants(["a", "c"], job) == [
        {"nodes": 1, "mem_mb": 1536, "gpus": 2},
        {"nodes": 1, "mem_mb": None, "gpus": None},
    ]


def test_without_gpus_in_its_count_pbs_says_nothing_of_them() -> None:
    (job,) = jobs("running").values()
    assert [entry["gpus"] for entry in commands.grants(job.nodes, job)] == [None, None]


# ---------------------------------------------------------------- where we are


def test_the_allocation_is_the_node_file_each_node_once_in_its_order() -> None:
    env = {"PBS_JOBID": "7.s", "PBS_NODENUM": "0"}
    found = commands.allocation(env, "n2\nn2\nn1\nn2\n")
    assert found is not None and (found.job_id, found.nodes, found.here) == ("7.s", ("n2", "n1"), "n2")
    assert commands.allocation({}, "n2\n") is None and commands.allocation(env, "") is None


def test_a_node_that_cannot_start_the_others_says_which_can() -> None:
    with pytest.raises(BadAllocation, match=r"not the first node of job 7.s \(n1\)"):
        commands.allocation({"PBS_JOBID": "7.s", "PBS_NODENUM": "1"}, "n1\nn2\n")


def test_the_configuration_file() -> None:
    text = "# PBS_SERVER=old\nPBS_EXEC=/opt/pbs\nPBS_SERVER='s1'\n\nPBS_HOME = /var/spool/pbs\n"
    assert commands.parse_config(text) == {"PBS_EXEC": "/opt/pbs", "PBS_SERVER": "s1", "PBS_HOME": "/var/spool/pbs"}


# ---------------------------------------------------------------- nodes


def test_the_task_script_brings_the_environment_and_nothing_of_this_node(tmp_path: Path) -> None:
    env = {
        "A": "it's \"$x\"\nb", "PATH": "/usr/bin:/bin", "NCPUS": "4", "TMPDIR": "/t", "CUDA_VISIBLE_DEVICES": "0",
        "PBS_JOBCOOKIE": "s", "BASH_FUNC_m%%": "() { :; }",
    }  # fmt: skip
    script = tmp_path / "s.sh"
    script.write_text(commands.task_script(env, str(tmp_path), ["/usr/bin/env"]))
    assert set(commands.carried(env)) == {"A", "PATH"}
    script.write_text(commands.task_script(env, str(tmp_path), ["/bin/sh", "-c", 'printf %s "$PWD $A $0"']))
    out = subprocess.run(["/bin/sh", str(script), "3"], env={}, capture_output=True, text=True, check=True).stdout
    assert out == f'{tmp_path} it\'s "$x"\nb 3'


# ---------------------------------------------------------------- submitting


def test_all_that_can_be_asked_for() -> None:
    request = Request(
        nodes=(4, 4), time=90061.5, partition="gpu", account="acc", constraint="model=bro", job_name="n", output="/o p",
        dependency="afterok:7", gpus_per_node="a100:2", cpus_per_task=8, mem="16G", exclusive=True,
        mail_type="END,FAIL", submit_arg=["-V"],
    )  # fmt: skip
    assert commands.qsub_command("/opt/pbs/bin/qsub", "/j/job.pbs", request) == [
        "/opt/pbs/bin/qsub", "-f", "-N", "n",
        "-l", "select=4:ncpus=8:mpiprocs=1:mem=16384mb:ngpus=2:gpu_type=a100:model=bro", "-l", "place=scatter:excl",
        "-l", "walltime=25:01:02", "-q", "gpu", "-A", "acc", "-W", "depend=afterok:7", "-m", "ea",
        "-j", "oe", "-k", "oed", "-o", "/o p", "-r", "n", "-V", "--", "/bin/bash", "-l", "/j/job.pbs",
    ]  # fmt: skip


def test_the_job_id_is_found_after_a_banner() -> None:
    assert commands.parse_submitted("welcome to 3.14\n4711.pbs-1.site\n") == "4711.pbs-1.site"
    assert commands.parse_submitted("12[].s\n") == "12[].s"
    with pytest.raises(ValueError, match="no job id"):
        commands.parse_submitted("welcome\n")


@pytest.mark.parametrize(
    ("err", "request_", "code", "what", "fix"),
    [
        ("qsub: Unknown queue", Request(partition="work"), "PARTITION",
         "no queue is called 'work'", {"--partition": "workq"}),
        ("qsub: Job violates queue and/or server resource limits", Request(time=7200), "TIME-LIMIT",
         "02:00:00 asked for, but queue workq allows 01:00:00", {"--time": "01:00:00"}),
        ("qsub: Job violates queue and/or server resource limits", Request(partition="small", nodes=(2, 2)),
         "TOO-MANY-NODES", "2 nodes asked for, but queue small allows 1 per job", {"--nodes": "1"}),
        ("qsub: Unknown resource: fast", Request(), "REJECTED", "this PBS knows no resource 'fast'", {}),
        ("qsub: Bad UID for job execution", Request(), "REJECTED", "PBS takes no jobs of this user", {}),
        ("qsub: cannot connect to server pxs (errno=15010)", Request(), "SCHEDULER-DOWN",
         "PBS's server does not answer; nothing was submitted", {}),
    ],
)  # fmt: skip
def test_refusals(err: str, request_: Request, code: str, what: str, fix: dict[str, str]) -> None:
    queues = commands.parse_queues((ANSWERS / "queues.txt").read_text())
    said = words.explain_refusal(err, request_, queues, why=err)
    assert (said.code, said.what, said.fix, said.why) == (code, what, fix, err)

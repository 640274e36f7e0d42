"""What followers, `hpc ps` and `hpc cancel` make of jobs that stop, run again, lose their first node or end unseen."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from pathlib import Path

import pytest
from unit.fake_scheduler import FakeScheduler
from unit.test_scheduler_face import fake, follower, job, launched, run, says  # noqa: F401

from hpc.cli import main, session
from hpc.core.exceptions import SessionLostError
from hpc.launch import jobdir, submit
from hpc.launch.cancel import cancel_job
from hpc.launch.jobdir import JobDir
from hpc.launch.standing import standing
from hpc.launchers.fate import fate
from hpc.launchers.run import run_command, while_waiting
from hpc.launchers.scheduler import Command, Diagnosis, JobInfo
from hpc.launchers.slurm import abandoned, commands
from hpc.launchers.slurm.words import reason_in_words
from hpc.settings import errors
from hpc.settings.errors import CliError


def the_row(job: JobDir) -> dict:  # noqa: F811
    (row,) = standing([job])
    return row


# ---------------------------------------------------------------- while it has nodes


def test_a_job_that_has_begun_is_not_shown_as_queued_until_the_scheduler_is_asked_again(fake, job, capsys):  # noqa: F811
    """It is asked once a second after the submission, and no more while the job shows signs of life."""
    one = follower(job, interval_s=1000.0)
    one.next_poll_s = 0.0
    one._poll(job.status())
    assert one.phase(job.status()) == "queued"
    says(job, "running")
    one._poll(job.status())
    assert one.phase(job.status()) == "running" and fake.inquiries == 1


def test_a_job_that_is_stopped_is_said_to_be(fake, job, capsys):  # noqa: F811
    says(job, "running")
    fake.change("1", phase="running", stopped=True)
    one = follower(job)
    one.sign_of_life, one.next_poll_s = (float(job.status()["updated"]), time.monotonic() - 1000), 0.0
    one._poll(job.status())
    assert one.phase(job.status()) == "suspended"
    one._show(job.status())
    assert "suspended 1  Fake has stopped it for a while" in capsys.readouterr().err
    row = the_row(job)
    assert (row["state"], row["text"]) == ("suspended", "suspended Fake has stopped it for a while")
    says(job, "running")  # a sign of life again
    one._alive(job.status(), time.monotonic())
    assert one.phase(job.status()) == "running"


# ---------------------------------------------------------------- put back into the queue


def test_a_job_that_was_put_back_into_the_queue_has_not_ended(fake, job):  # noqa: F811
    """Its first run says that it has; the follower goes on, and the exit code is the second one's."""
    says(job, "ended", exit_code=143, runs_again=True)
    fake.story = [
        lambda: fake.change("1", phase="running", state="COMPLETING"),
        lambda: fake.change("1", phase="queued"),
        lambda: says(job, "running", runs_again=True),
        lambda: says(job, "ended", exit_code=3, runs_again=True),
        lambda: fake.change("1", phase="ended"),
    ]
    assert follower(job).follow() == 3


def test_a_job_that_might_have_been_put_back_and_was_not(fake, job):  # noqa: F811
    says(job, "ended", exit_code=143, runs_again=True)
    fake.change("1", phase="ended", state="CANCELLED", ending="cancelled")
    assert follower(job).follow() == 143
    assert the_row(job)["exit_code"] == 143 and jobdir.has_ended(job.status())


def test_a_job_that_waits_again_is_listed_and_can_be_cancelled(fake, job):  # noqa: F811
    says(job, "ended", exit_code=143, runs_again=True)
    row = the_row(job)
    assert (row["state"], row["exit_code"]) == ("queued", None) and not jobdir.has_ended(job.status())
    assert cancel_job(job) == "cancelled (Fake job 1)"
    assert cancel_job(job) == "has ended already"


# ---------------------------------------------------------------- ends that hpc-launch does not tell of


def test_a_job_cancelled_in_the_queue_is_written_down(fake, job):  # noqa: F811
    fake.change("1", phase="ended", state="CANCELLED", ending="cancelled")
    row = the_row(job)
    assert (row["state"], row["exit_code"]) == ("ended", errors.EXIT_CANCELLED)
    fake.jobs.clear()  # the scheduler forgets
    assert the_row(job)["exit_code"] == errors.EXIT_CANCELLED
    age = the_row(job)["age_s"]
    time.sleep(0.15)
    assert the_row(job)["age_s"] == age


def test_a_folder_on_a_full_disk_is_said(fake, job, monkeypatch, capsys):  # noqa: F811
    """What the script wrote last is not there, either: a person would look for the reason in it."""

    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(JobDir, "write", full)
    fake.change("1", phase="ended", ending="exit", state="FAILED", exit_code=1)
    says_running = {"state": "running", "updated": time.time(), "pid": 0}
    (job.path / "status.json").write_text(json.dumps(says_running))
    assert follower(job).follow() == 1
    assert "the folder of job 1 cannot be written (No space left on device)" in capsys.readouterr().err


def test_a_follower_writes_down_what_it_returns(fake, job):  # noqa: F811
    fake.change("1", phase="ended", state="CANCELLED", ending="cancelled")
    with pytest.raises(CliError, match="cancelled before it started"):
        follower(job).follow()
    assert job.status()["exit_code"] == errors.EXIT_CANCELLED


def test_a_job_cancelled_while_it_starts_was_cancelled_before_it_started(fake, job):  # noqa: F811
    says(job, "starting")
    fake.change("1", phase="ended", state="CANCELLED", ending="cancelled", nodes=("n1",))
    with pytest.raises(CliError) as caught:
        follower(job).follow()
    assert caught.value.exit_code == errors.EXIT_CANCELLED


def test_a_job_whose_first_node_is_gone_is_lost_and_gives_up_the_others(fake, job):  # noqa: F811
    says(job, "running")
    fake.change("1", phase="running", ending="lost", why="its first node, n1, has failed", nodes=("n2",))
    assert the_row(job)["state"] == "ended" and "n1" in the_row(job)["why"]
    one = follower(job)
    one.sign_of_life = (float(job.status()["updated"]), time.monotonic() - 1000)
    with pytest.raises(CliError, match="was lost") as caught:
        one.follow()
    assert (caught.value.exit_code, caught.value.why) == (errors.EXIT_SESSION_LOST, "its first node, n1, has failed")
    assert fake.jobs["1"].ending == "cancelled"


# ---------------------------------------------------------------- looking into a session that dies


def dying(fake: FakeScheduler, job: JobDir, monkeypatch, command: str) -> None:  # noqa: F811
    says(job, "running", host="elsewhere", node_name="n7", node_dir="/tmp/hpc-1")
    fake.change("1", phase="running")
    words = ("/bin/sh", "-c", command)
    monkeypatch.setattr(fake, "run_in", lambda *args: Command(words, dict(os.environ)))


def test_a_session_that_dies_while_it_is_looked_into_is_one_line(fake, job, monkeypatch, capsys):  # noqa: F811
    dying(fake, job, monkeypatch, "echo Traceback >&2; echo 'SessionLostError: gone' >&2; exit 1")
    assert main.main(["status", "1"]) == 0
    said = capsys.readouterr()
    assert said.err == "hpc: the session of job 1 cannot be looked into: it did not answer: SessionLostError: gone\n"
    assert "state    running" in said.out


def test_nobody_waits_for_the_answer_of_a_session_whose_job_has_ended(fake, job, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr(session, "LAST_WORDS_S", 0.1)
    last = '{"state": "ended", "exit_code": 7}'
    dying(fake, job, monkeypatch, f"echo '{last}' > {job.path}/status.json; exec sleep 100")
    began = time.monotonic()
    assert main.main(["status", "1"]) == 0
    assert time.monotonic() - began < 50.0
    said = capsys.readouterr()
    assert "it has just ended" in said.err and "exit     7" in said.out


def test_a_connection_that_breaks_within_a_command_is_an_error_in_words(monkeypatch):
    monkeypatch.setattr("hpc.api.init.join_as_guest", lambda address: None)
    monkeypatch.setattr("hpc.shutdown", lambda: None)
    with pytest.raises(CliError, match="has ended in the meantime") as caught, session.connected(None):
        raise SessionLostError("the raylet of this node has ended")
    assert caught.value.exit_code == errors.EXIT_SESSION_LOST and "raylet" in caught.value.why


# ---------------------------------------------------------------- what became of the job


def test_a_lost_session_is_told_what_became_of_its_job(fake, monkeypatch):  # noqa: F811
    monkeypatch.setattr("hpc.launchers.fate.END_S", 0.3)
    monkeypatch.setattr("hpc.launchers.fate.ASK_S", 0.01)
    fake.jobs["9"] = JobInfo("9", "running", "COMPLETING")
    env = {"FAKE_JOB": "9"}
    assert fate(env) == "" and fate({}) == ""  # the job goes on; there is none
    fake.story = [lambda: None, lambda: fake.change("9", phase="ended", state="CANCELLED", ending="cancelled")]
    assert fate(env) == "Fake: job 9 was cancelled (CANCELLED)"
    fake.change("9", ending="lost", state="PREEMPTED", why="for others")
    fake.story = []
    assert fate(env) == "Fake: job 9 was lost (PREEMPTED): for others"


# ---------------------------------------------------------------- submissions


def test_a_submission_that_was_killed_does_not_wait_for_ever(fake, job):  # noqa: F811
    content = {**job.job(), "scheduler_id": ""}
    job.write("job.json", {**content, "pid": os.getpid(), "born": jobdir.birth(os.getpid())})
    assert the_row(job)["state"] == "submitting"
    job.write("job.json", {**content, "pid": 2**22 + 1, "born": 1})
    row = the_row(job)
    assert row["state"] == "ended" and "interrupted" in row["text"] and "Fake may have the job" in row["why"]
    job.write("status.json", {"state": "queued"})
    with pytest.raises(CliError, match="was not submitted"):
        cancel_job(job)
    says(job, "running", scheduler_id="1")  # it was taken all the same, and runs
    fake.change("1", phase="running")
    assert (the_row(job)["state"], the_row(job)["scheduler_id"]) == ("running", "1")


def test_a_scheduler_that_may_have_taken_the_job_leaves_its_folder(fake, launched):  # noqa: F811
    fake.refusal = Diagnosis("SCHEDULER-DOWN", "fsub did not answer", may_be_taken=True)
    with pytest.raises(CliError, match="fsub did not answer"):
        launched("x.py")
    assert "fsub did not answer" in JobDir(Path("jobs/1")).status()["text"]
    fake.refusal = Diagnosis("REJECTED", "no")
    with pytest.raises(CliError, match="no"):
        launched("x.py")
    assert not Path("jobs/2").exists()


def test_an_interrupted_submission_leaves_its_folder(fake, launched, monkeypatch):  # noqa: F811
    monkeypatch.setattr(fake, "submit", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(CliError) as caught:
        launched("x.py")
    assert caught.value.exit_code == errors.EXIT_DETACHED
    assert "interrupted" in JobDir(Path("jobs/1")).status()["text"]


def test_a_submitting_command_that_takes_long_is_said_with_its_words(monkeypatch, capsys):
    monkeypatch.setattr("hpc.launchers.run.WAITING_S", 0.2)
    with submit.waiting_shown("fsub", quiet=False):
        answer = run_command(["/bin/sh", "-c", "echo one >&2; echo 'no answer yet' >&2; sleep 0.7; echo 12"])
    assert (answer.out, answer.err) == ("12\n", "one\nno answer yet\n")
    assert "submitting waiting for fsub, 0 s  no answer yet" in capsys.readouterr().err
    told = []
    with while_waiting(lambda *news: told.append(news)):
        late = run_command(["/bin/sh", "-c", "echo dead >&2; exec sleep 30"], timeout_s=0.3)
    assert late.timed_out and late.err == "dead\n" and told[0][1] == "dead"
    assert run_command([sys.executable, "-c", "print(input())"], text_in="heard").out == "heard\n"


# ---------------------------------------------------------------- Slurm's part


@pytest.mark.parametrize(
    "reason",
    ["PartitionConfig", "DeadLine", "QOSMaxWallDurationPerJobLimit", "QOSMinCpuNotSatisfied", "ReservationDeleted",
     "AssocMaxNodePerJobLimit", "AccountingPolicy", "BadConstraints", "DependencyNeverSatisfied"],
)  # fmt: skip
def test_what_can_never_run_is_said(reason):
    assert reason_in_words(reason).endswith("will not start as it is")


def test_reasons_that_pass():
    assert reason_in_words("(QOSGrpCpuLimit)") == "the QOS's limit is used up for now (QOSGrpCpuLimit)"
    assert reason_in_words("AssocMaxJobsLimit") == "the account's limit is used up for now (AssocMaxJobsLimit)"
    said = "Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved_for_jobs_in_higher_priority_partitions"
    assert reason_in_words(said) == "nodes that it needs are down, drained or reserved for others"
    assert "until it is up" in reason_in_words("PartitionDown") and reason_in_words("Other") == "Other"


LEFT = (
    "JobId=7 JobState={state} Reason=None Requeue={again} BatchFlag={batch} RunTime=00:00:02 TimeLimit=01:00:00 "
    "NodeList={nodes} BatchHost=n1 NumNodes=2"
)


def shown(nodes: str = "n[2-3]", again: int = 0, batch: int = 1, state: str = "RUNNING") -> str:
    return LEFT.format(nodes=nodes, again=again, batch=batch, state=state)


def test_the_node_of_the_script_has_left_the_job():
    found = commands.parse_job(shown())
    assert found is not None and (found.phase, found.ending) == ("running", "lost") and "n1" in found.why
    for text in (shown("n[1-3]"), shown(batch=0), shown("(null)", state="PENDING")):
        info = commands.parse_job(text)
        assert info is not None and info.ending == ""
    (row,) = commands.parse_list("7|RUNNING|None|4:59|n[2-3]|n1\n").values()
    assert row.ending == "lost"
    stopped = commands.parse_job(shown("n[1-3]", state="SUSPENDED", again=1))
    assert stopped is not None and stopped.stopped and stopped.runs_again


class Answers:
    """What scontrol says, one after another, and what it was told to do."""

    def __init__(self, *said: str) -> None:
        self.said, self.done = list(said), []

    def __call__(self, argv):
        if "show" not in argv:
            self.done.append(list(argv))
            return run_command(["true"])
        word = self.said.pop(0)
        return run_command(["/bin/sh", "-c", word if word.startswith(("exit", "echo")) else f"echo '{word}'"])


@pytest.mark.parametrize(
    ("said", "done"),
    [
        ([shown("n[1-3]"), "exit 1", shown()], [["scancel", "7"]]),
        ([shown(again=1)], [["scontrol", "requeue", "7"]]),
        ([shown("n[1-3]"), shown(state="CANCELLED")], []),
        ([shown(state="PENDING", nodes="(null)")], []),
        (["echo Invalid job id specified >&2; exit 1"], []),
    ],
)
def test_the_nodes_that_are_left_give_up_a_job_without_a_first_one(said, done):
    ask = Answers(*said)
    assert abandoned.see_to_it("7", ask, lambda _: None) == bool(done)
    assert ask.done == done and not ask.said


def test_the_nodes_that_are_left_do_not_ask_for_ever():
    waits: list[float] = []
    ask = Answers(*[shown("n[1-3]")] * 200)
    assert not abandoned.see_to_it("7", ask, waits.append)
    assert sum(waits) == pytest.approx(abandoned.GIVE_UP_S, rel=0.05) and max(waits) == abandoned.ASK_MOST_S


def test_only_the_jobs_own_script_has_its_end_seen_to():
    env = {"SLURM_JOB_ID": "7", "SLURM_TASK_PID": str(os.getpid())}
    assert abandoned.watcher(env, os.getpid())[-1] == "7"
    assert abandoned.watcher(env, os.getpid() + 1) == []  # below a script of the user's, which goes on
    assert abandoned.watcher({**env, "SLURM_STEP_ID": "0"}, os.getpid()) == []
    assert abandoned.watcher({"SLURM_JOB_ID": "7"}, os.getpid()) == []


def test_a_row_is_plain_data(fake, job):  # noqa: F811
    assert json.loads(json.dumps(the_row(job)))["state"] == "queued"
    assert isinstance(fake.jobs["1"], JobInfo) and isinstance(fake, FakeScheduler)


def test_what_srun_says_of_a_node_that_refuses():
    said = "srun: error: Task launch for StepId=70.0 failed on node n3: Communication connection failure"
    news = commands.parse_srun_line(said)
    assert (news.nodes, news.refused, news.text) == (("n3",), True, said)
    assert not commands.parse_srun_line("srun: error: Node failure on n3").refused

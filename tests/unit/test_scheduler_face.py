"""Submitting, following, attaching, cancelling and refusals, with a scheduler that has no processes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unit.fake_scheduler import FakeScheduler

from hpc.cli import launch, logs, main, session
from hpc.launch import follow, jobdir
from hpc.launch.cancel import cancel_job
from hpc.launch.chain import Link
from hpc.launch.follow import Follower
from hpc.launch.jobdir import JobDir
from hpc.launch.ourselves import output_name
from hpc.launch.report import Reporter
from hpc.launch.standing import standing
from hpc.launch.status_line import StatusLine
from hpc.launchers import registry
from hpc.launchers.jobscript import FOLDER_FAILED
from hpc.launchers.scheduler import Diagnosis, NodeSource, Request, Scheduler
from hpc.settings import errors
from hpc.settings.errors import CliError


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeScheduler:
    """A folder with a script, on a login node of a Fake; what followers wait for takes no time."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.py").write_text("")
    for name in [*os.environ]:
        if name.startswith(("HPC_", "SLURM_", "SBATCH_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HPC_JOB_DIR", str(tmp_path / "jobs"))
    monkeypatch.setenv("HPC_POLL_INTERVAL", "0.001")
    for name, value in {"FAST_TICK_S": 0.001, "SLOW_TICK_S": 0.001, "SETTLE_S": 0.02, "SECOND_CHANCE_S": 0.05}.items():
        monkeypatch.setattr(follow, name, value)
    scheduler = FakeScheduler()
    monkeypatch.setitem(registry.SCHEDULERS, scheduler.name, scheduler)
    return scheduler


def run(monkeypatch: pytest.MonkeyPatch, line: str) -> int:
    """hpc-launch, as from the command line."""
    argv = ["--scheduler=fake", *shlex.split(line)]
    monkeypatch.setattr(sys, "argv", ["hpc-launch", *argv])
    return launch.launch(argv)


@pytest.fixture
def launched(fake: FakeScheduler, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    return lambda line: run(monkeypatch, line)


@pytest.fixture
def job(fake: FakeScheduler, launched: Callable[[str], int]) -> JobDir:
    """A job that was submitted and left."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert launched("--detach -N2 x.py") == 0
    return JobDir(Path("jobs/1").resolve())


def follower(job: JobDir, *, terminal: bool = False, interval_s: float = 0.001) -> Follower:
    made = Follower(job, interval_s=interval_s, submitted=True)
    made.terminal = terminal
    return made


def wrote(job: JobDir, text: str) -> None:
    with Path(job.job()["log"]).open("a") as log:
        log.write(text)


def says(job: JobDir, state: str, **fields: Any) -> None:
    job.write("status.json", {"state": state, "text": state, "updated": os.stat(job.path).st_mtime_ns, **fields})


# ---------------------------------------------------------------- submitting


def test_a_submitted_job_says_by_data_whose_it_is(job: JobDir, fake: FakeScheduler) -> None:
    content = job.job()
    assert (content["scheduler"], content["scheduler_id"], content["kind"]) == ("fake", "1", "submitted")
    assert content["submit"] == ["fsub", str(job.path / "job.fake")] and content["log"] == str(job.path / "driver.log")
    script = (job.path / "job.fake").read_text().splitlines()
    assert script[:3] == ["#FAKE -n (2, 2)", "#FAKE -N x", f"#FAKE -o {job.path}/driver.log"]
    assert script[-1].endswith(f"--job={job.path} x.py")
    assert job.status()["state"] == "queued" and list(fake.jobs) == ["1"]


def test_what_detach_prints(launched: Callable[[str], int], capsys: pytest.CaptureFixture[str]) -> None:
    assert launched("--detach x.py") == 0 and launched("--detach --json x.py") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "1" and json.loads(second)["scheduler_id"] == "2"


def test_the_schedulers_own_names_of_output_files(launched: Callable[[str], int]) -> None:
    launched("--detach -o out-@.txt x.py")
    launched("--detach -o out-?.txt x.py")
    assert [JobDir(Path(f"jobs/{n}")).output() for n in (1, 2)] == [os.path.abspath("out-1.txt"), ""]


def test_a_job_tells_the_name_of_its_output_that_only_its_scheduler_knew(
    launched: Callable[[str], int], tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    launched("--detach -o out-?.txt x.py")
    assert logs.run(["1"]) == 0 and b"job 1 has not begun" in capfdbinary.readouterr().err
    job, written = JobDir(Path("jobs/1")), tmp_path / "out-n1.txt"
    with written.open("wb") as file:
        file.write(b"all of it\n")
        file.flush()
        Reporter(StatusLine(quiet=True), job, output=output_name(file.fileno())).final(
            0, log_bytes=written.stat().st_size
        )
    assert job.output() == str(written)
    assert logs.run(["1"]) == 0 and capfdbinary.readouterr().out == b"all of it\n"
    assert Follower(job, quiet=True).follow() == 0 and capfdbinary.readouterr().out == b"all of it\n"


def test_what_a_file_of_output_had_before_the_job_is_not_shown(
    launched: Callable[[str], int], tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    path = tmp_path / "out.txt"
    path.write_bytes(b"of yesterday\n")
    assert launched("--detach -o out.txt x.py") == 0 and launched("--detach -o out.txt x.py") == 0
    capfdbinary.readouterr()
    silent, talks = JobDir(Path("jobs/1")), JobDir(Path("jobs/2"))
    says(silent, "ended", exit_code=0, log_bytes=13)
    assert Follower(silent, quiet=True).follow() == 0 and capfdbinary.readouterr().out == b""
    wrote(talks, "of today\n")
    says(talks, "ended", exit_code=0, log_bytes=22)
    assert Follower(talks, quiet=True).follow() == 0 and capfdbinary.readouterr().out == b"of today\n"


def test_a_refusal_names_the_fix_and_leaves_no_folder(fake: FakeScheduler, launched: Callable[[str], int]) -> None:
    fake.refusal = Diagnosis("TIME-LIMIT", "too long", {"--time": "1h"}, "longer: q", why="fsub: no")
    with pytest.raises(CliError) as caught:
        launched("--time=9h x.py 'a b'")
    assert caught.value.text().splitlines() == [
        "error[TIME-LIMIT]: too long",
        "  where: --time (from the command line)",
        "  why:   fsub: no",
        "         longer: q",
        "  fix:   hpc-launch --time=1h --scheduler=fake x.py 'a b'",
    ]
    assert os.listdir("jobs") == [] and caught.value.exit_code == errors.EXIT_REJECTED


def test_a_warning_signal_that_is_none_is_found_before_the_job_waits(launched: Callable[[str], int]) -> None:
    with pytest.raises(CliError, match="neither USR1 nor USR2"):
        launched("--drain-signal=FOO x.py")
    assert os.listdir("jobs") == []


def test_a_refusal_that_no_option_helps_against(fake: FakeScheduler, launched: Callable[[str], int]) -> None:
    fake.refusal = Diagnosis("NO-SCHEDULER", "fsub is not here", hint="--scheduler=local")
    for line in ("x.py", "--test-only x.py"):
        with pytest.raises(CliError) as caught:
            launched(line)
        assert (caught.value.fix, caught.value.where, caught.value.why) == ("--scheduler=local", "", "")


def test_a_folder_that_is_gone_is_said_to_be(fake: FakeScheduler, job: JobDir) -> None:
    says(job, "running")
    one = follower(job)
    shutil.rmtree(job.path)
    fake.change("1", phase="ended", ending="exit", state="OVER", exit_code=0)
    with pytest.raises(CliError) as caught:
        one.follow()
    assert caught.value.code == "JOB-DIR" and "is gone" in str(caught.value)
    assert caught.value.why == "the scheduler says of job 1: OVER, exit code 0"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--scheduler=pbs --dry-run --gpus-per-node=a:1,b:2", "is asked for one kind of GPUs, not for a:1,b:2"),
        ("--gpus-per-node=a:b:2", "not a number of GPUs: 'a:b:2'"),
        ("--gpus-per-node=x", "not a number of GPUs: 'x'"),
        ("--scheduler=local --gpus-per-node=1,2", "one kind of GPUs, not 1,2"),
        ("-o out-%j.txt", "fills nothing into the name of an output file: out-%j.txt"),
    ],
)
def test_what_a_scheduler_would_take_otherwise_than_meant_is_refused(
    launched: Callable[[str], int], words: str, says: str
) -> None:
    with pytest.raises(CliError, match=re.escape(says)) as caught:
        launched(f"{words} x.py")
    assert caught.value.code == "USAGE"


@pytest.mark.parametrize(("words", "refused"), [("--time=5m --drain=5m", True), ("--time=5m --drain=4m", False)])
def test_a_job_that_would_drain_from_its_beginning_is_refused(
    launched: Callable[[str], int], words: str, refused: bool
) -> None:
    with pytest.raises(CliError, match="never begins anything") if refused else contextlib.nullcontext():
        launched(f"--detach {words} x.py")


def test_what_a_scheduler_has_no_word_for_is_refused(fake: FakeScheduler, launched: Callable[[str], int]) -> None:
    with pytest.raises(CliError) as caught:
        launched("--qos=high --submit-arg=--x x.py")
    error = caught.value
    assert (error.code, error.what) == ("USAGE", "--qos cannot be asked of Fake") and "--submit-arg" in error.fix
    assert not fake.jobs and os.listdir("jobs") == []
    assert launched("--no-exclusive --detach x.py") == 0


def test_a_dry_run_shows_its_commands(launched: Callable[[str], int], capsys: pytest.CaptureFixture[str]) -> None:
    assert launched("--dry-run -N2 --submit-arg=--x --step-arg=-v x.py") == 0
    said = capsys.readouterr().out.splitlines()
    assert f"fsub --x {os.getcwd()}/jobs/1/job.fake" in said and "frun -v NODE1 NODE2" in said


def test_an_estimate(launched: Callable[[str], int], capsys: pytest.CaptureFixture[str]) -> None:
    assert launched("--test-only x.py") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "# Fake's estimate: in an hour" and any(line.startswith("fsub --when ") for line in said)
    assert os.listdir("jobs") == []


# ---------------------------------------------------------------- following


def test_a_job_is_followed_from_the_queue_to_its_scripts_exit_code(
    fake: FakeScheduler, launched: Callable[[str], int], capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    job = JobDir(Path("jobs/1").resolve())

    def starts() -> None:
        fake.change("1", phase="running", state="RUNS", nodes=("a", "b"))
        says(job, "running")
        wrote(job, "one\n")

    def ends() -> None:
        wrote(job, "two\n")
        says(job, "ended", exit_code=7, log_bytes=8)

    fake.story = [lambda: None, lambda: None, starts, ends]
    assert launched("x.py") == 7
    said = capsysbinary.readouterr()
    assert said.out == b"one\ntwo\n"
    assert b"queued    1  p  start not estimated yet  Busy: all nodes are busy\n" in said.err


def test_nobody_is_asked_while_the_job_shows_signs_of_life(fake: FakeScheduler, job: JobDir) -> None:
    says(job, "running")
    one = follower(job, interval_s=1000.0)
    one.next_poll_s = 0.0
    for _ in range(3):
        one._poll(job.status())
    assert fake.inquiries == 0
    one.sign_of_life = (one.sign_of_life[0], one.sign_of_life[1] - 1000.0)
    one._poll(job.status())
    assert fake.inquiries == 1


def test_a_place_in_the_queue_is_shown_at_a_terminal(fake: FakeScheduler, job: JobDir) -> None:
    one = follower(job)
    one.line.stream, one.line.terminal = io.StringIO(), True
    one.next_poll_s = 0.0
    one._poll(job.status())
    fake.change("1", start="2099-01-01T10:00:00")
    one._show(job.status())
    assert "queued    1  #3 in p  start not estimated yet" in one.line.stream.getvalue()


@pytest.mark.parametrize(
    ("began", "fields", "expected"),
    [
        (False, {"ending": "cancelled"}, "CANCELLED"),
        (True, {"ending": "cancelled"}, 128 + signal.SIGTERM),
        (True, {"ending": "timeout"}, "WALLTIME"),
        (True, {"ending": "lost", "state": "BROKEN"}, "SESSION-LOST"),
        (True, {"ending": "exit", "exit_code": 3}, 3),
        (True, {"ending": "exit", "exit_signal": 9}, 137),
        (True, {"ending": "exit"}, errors.EXIT_SESSION_LOST),
        (False, {"ending": "exit", "exit_code": 1}, "JOB-DIR"),
    ],
)
def test_a_job_that_could_not_say_how_it_ended(
    fake: FakeScheduler, job: JobDir, began: bool, fields: dict[str, Any], expected: str | int
) -> None:
    if began:
        says(job, "running")
    fake.story = [lambda: fake.change("1", **{"phase": "ended", "state": "OVER", **fields})]
    if isinstance(expected, int):
        assert follower(job).follow() == expected
        return
    with pytest.raises(CliError) as caught:
        follower(job).follow()
    assert caught.value.code == expected


def test_a_job_that_the_scheduler_has_forgotten(fake: FakeScheduler, job: JobDir) -> None:
    fake.jobs.clear()
    with pytest.raises(CliError, match="job 1 is not known to Fake any more"):
        follower(job).follow()


def test_a_scheduler_that_does_not_answer_ends_nothing(fake: FakeScheduler, job: JobDir) -> None:
    fake.down = True
    fake.story = [lambda: None] * 5 + [lambda: says(job, "ended", exit_code=0)]
    assert follower(job).follow() == 0 and fake.inquiries >= 6


@pytest.mark.parametrize("given", ["pipe", "file", "nothing", "an empty pipe"])
def test_what_is_piped_into_a_submission_is_said_to_be_left(
    launched: Callable[[str], int], given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    read, write = os.pipe()
    Path("given.txt").write_text("hello\n")
    if given == "pipe":
        os.write(write, b"hello\n")
    path = {"file": "given.txt", "nothing": os.devnull}.get(given)
    before, source = os.dup(0), read if path is None else os.open(path, os.O_RDONLY)
    os.dup2(source, 0)
    try:
        assert launched("--detach x.py") == 0
    finally:
        os.dup2(before, 0)
        for fd in {before, read, write, source}:
            os.close(fd)
    assert ("standard input is left" in capsys.readouterr().err) == (given in ("pipe", "file"))


def test_a_line_of_setup_that_failed_is_named(fake: FakeScheduler, job: JobDir) -> None:
    wrote(job, "Lmod has detected\nhpc: --setup failed with exit code 1: module load nope\n")
    fake.change("1", phase="ended", ending="exit", state="FAILED", exit_code=1)
    with pytest.raises(CliError) as caught:
        follower(job).follow()
    assert caught.value.code == "SETUP" and caught.value.why == "--setup failed with exit code 1: module load nope"


def test_an_error_of_a_job_that_could_not_be_written_into_its_folder_is_told(fake: FakeScheduler, job: JobDir) -> None:
    wrote(job, "error[CONFIG]: ./hpc.toml is not valid TOML\n  where: ./hpc.toml\n")
    fake.change("1", phase="ended", ending="exit", state="FAILED", exit_code=2)
    with pytest.raises(CliError) as caught:
        follower(job).follow()
    assert (caught.value.code, caught.value.why) == ("CONFIG", "./hpc.toml is not valid TOML")
    assert caught.value.exit_code == errors.EXIT_USAGE


def test_a_job_whose_folder_was_gone_is_told_so(fake: FakeScheduler, job: JobDir) -> None:
    wrote(job, f"slurmstepd: going to /tmp instead\n{FOLDER_FAILED}: /scratch/gone (it was removed)\n")
    fake.change("1", phase="ended", ending="exit", state="FAILED", exit_code=1)
    with pytest.raises(CliError) as caught:
        follower(job).follow()
    assert (
        caught.value.code == "JOB-DIR" and "the folder of the job cannot be entered: /scratch/gone" in caught.value.why
    )


def test_a_job_whose_script_is_gone_says_so_in_its_folder(
    fake: FakeScheduler, job: JobDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own hpc-launch finds that out before there is a session: a follower, or `hpc ps`, has no better word."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert launch.main(["--scheduler=local", f"--job={job.path}", "no_such_script.py"]) == 127
    status = job.status()
    assert (status["state"], status["exit_code"]) == ("ended", 127)
    assert "NO-SCRIPT" in status["why"] and "no_such_script.py" in status["why"]


# ---------------------------------------------------------------- leaving, coming back, ending


def interrupt(signum: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), signum)


def test_who_cancels_the_job_of_a_chain_that_it_follows_takes_the_others_out_of_the_queue(
    fake: FakeScheduler, job: JobDir
) -> None:
    link = Link(1, 3, job.path)
    job.write("job.json", {**job.job(), "chain": link.text})
    link.write_ids(["1", *(fake.submit(["fsub", "x"], Request()) for _ in range(2))])
    fake.story = [interrupt, lambda: None]
    with pytest.raises(CliError, match="cancelled before it started"):
        follower(job).follow()
    assert [info.ending for info in fake.jobs.values()] == ["cancelled"] * 3


def test_without_a_terminal_ctrl_c_cancels(fake: FakeScheduler, job: JobDir) -> None:
    fake.story = [interrupt, lambda: None]
    with pytest.raises(CliError, match="cancelled before it started"):
        follower(job).follow()
    assert fake.jobs["1"].ending == "cancelled"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_who_only_looks_at_a_job_leaves_it_alone(
    fake: FakeScheduler, job: JobDir, signum: int, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.story = [lambda: interrupt(signum), lambda: None]
    assert main.main(["attach", "1"]) == 128 + signum  # without a terminal
    assert fake.jobs["1"].phase == "queued" and "hpc attach 1" in capsys.readouterr().err


def test_at_a_terminal_ctrl_c_leaves_the_job_alone(
    fake: FakeScheduler, job: JobDir, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.story = [interrupt, lambda: None]
    assert follower(job, terminal=True).follow() == errors.EXIT_DETACHED
    assert fake.jobs["1"].phase == "queued" and "hpc attach 1" in capsys.readouterr().err


def test_the_second_ctrl_c_is_for_the_script(fake: FakeScheduler, job: JobDir) -> None:
    says(job, "running")
    fake.change("1", phase="running")
    fake.story = [interrupt, interrupt, lambda: says(job, "ended", exit_code=130) if fake.signals else None]
    assert follower(job, terminal=True).follow() == 130
    assert fake.signals == [("1", "INT")]


def test_a_signal_that_the_scheduler_cannot_send_is_told_of(
    fake: FakeScheduler, job: JobDir, capsys: pytest.CaptureFixture[str]
) -> None:
    says(job, "running")
    fake.change("1", phase="running")
    fake.deaf = True
    fake.story = [interrupt, interrupt, lambda: says(job, "ended", exit_code=0) if fake.signals else None]
    assert follower(job, terminal=True).follow() == 0
    assert "no SIGINT was sent: fsig: no such signal; Ctrl-C again ends the job" in capsys.readouterr().err


def test_a_terminal_that_closes_leaves_the_job_alone(fake: FakeScheduler, job: JobDir) -> None:
    fake.story = [lambda: interrupt(signal.SIGHUP), lambda: None]
    assert follower(job).follow() == 128 + signal.SIGHUP and fake.jobs["1"].phase == "queued"


def test_attach_goes_on_at_the_end_of_the_output(
    fake: FakeScheduler, job: JobDir, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    wrote(job, "".join(f"{n}\n" for n in range(100)))
    fake.story = [lambda: says(job, "ended", exit_code=4)]
    assert main.main(["attach", "1"]) == 4
    assert capsysbinary.readouterr().out.split() == [b"%d" % n for n in range(90, 100)]


def test_a_job_of_an_unknown_scheduler_is_told_of(job: JobDir, capsys: pytest.CaptureFixture[str]) -> None:
    job.write("job.json", {**job.job(), "scheduler": "other"})
    assert main.main(["attach", "1"]) == errors.EXIT_USAGE and main.main(["cancel", "1"]) == errors.EXIT_USAGE
    assert main.main(["ps"]) == 0
    said = capsys.readouterr()
    assert said.err.count("a scheduler that is not known here: 'other'") == 2
    assert "the scheduler 'other' is not known here; states are as last written" in said.err and "queued" in said.out


def test_cancelling(fake: FakeScheduler, job: JobDir) -> None:
    fake.down = True
    with pytest.raises(CliError, match="job 1 could not be cancelled") as caught:
        cancel_job(job)
    assert (caught.value.code, caught.value.why) == ("SCHEDULER-DOWN", "fdel: nobody is there")
    fake.down = False
    assert cancel_job(job) == "cancelled (Fake job 1)" and fake.jobs["1"].ending == "cancelled"
    fake.jobs.clear()
    assert cancel_job(job) == "has ended already"


@pytest.mark.parametrize(
    ("said", "fields", "state", "text"),
    [
        ("queued", {}, "queued", "queued    all nodes are busy"),
        ("running", {"phase": "running", "left": "4:59"}, "running", "running  left 4:59"),
        ("running", {"phase": "ended", "state": "OVER", "why": "it"}, "ended", "ended     OVER  exit code 0  it"),
    ],
)
def test_how_a_job_stands(
    fake: FakeScheduler, job: JobDir, said: str, fields: dict[str, Any], state: str, text: str
) -> None:
    says(job, said)
    fake.change("1", **fields)
    (row,) = standing([job])
    assert (row["state"], row["text"]) == (state, text)


def test_a_job_that_only_its_folder_knows_is_lost(fake: FakeScheduler, job: JobDir) -> None:
    other = jobdir.create(job.path.parent, "")
    other.write("job.json", {**job.job(), "scheduler_id": "forgotten"})
    assert [row["state"] for row in standing([job, other])] == ["queued", "lost"]


def test_a_scheduler_that_does_not_answer_is_said_and_the_rest_is_shown(
    fake: FakeScheduler, job: JobDir, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.down = True
    assert standing([job])[0]["state"] == "queued"
    assert "the scheduler does not answer (fstat: nobody is there)" in capsys.readouterr().err


def test_a_command_is_run_in_the_job_by_its_scheduler(job: JobDir, capfd: pytest.CaptureFixture[str]) -> None:
    says(job, "running", host="elsewhere", node_name="n7", node_dir="/tmp/hpc-1")
    assert session.is_elsewhere(job) and session.run_there(job, ["list", "tasks"]) == 3
    assert capfd.readouterr().out.split()[:2] == ["1", "n7"]


# ---------------------------------------------------------------- the face, places, and what core is told

INSIDE = {"FAKE_JOB": "9", "FAKE_HOSTS": "a b", "FAKE_HOST": "a"}


def test_every_scheduler_has_the_whole_face(fake: FakeScheduler) -> None:
    face = {name for part in (NodeSource, Scheduler) for name in (*vars(part), *part.__annotations__) if name[0] != "_"}
    assert {"here", "submit", "run_in", "column", "title"} <= face
    for scheduler in registry.SCHEDULERS.values():
        assert not [name for name in face if not hasattr(scheduler, name)], scheduler.name


def test_places(fake: FakeScheduler) -> None:
    nowhere = {"PATH": "/nowhere"}
    inside = registry.find_place({**nowhere, **INSIDE})
    assert (inside.kind, inside.source, inside.scheduler) == ("allocation", fake, fake)
    assert inside.alloc is not None and (inside.alloc.job_id, inside.alloc.nodes) == ("9", ("a", "b"))
    assert registry.find_place({**nowhere, "FAKE_CLUSTER": "1"}).kind == "login"
    assert registry.find_place(nowhere).kind == "local" and registry.find_place(nowhere, "fake").kind == "login"
    assert registry.find_place({**nowhere, **INSIDE}, "local").kind == "local"


def test_the_nodes_of_an_allocation_come_from_its_scheduler_all_others_from_this_machine(fake: FakeScheduler) -> None:
    assert registry.make_group(registry.find_place(INSIDE)).size == 2
    assert registry.make_group(registry.find_place({"FAKE_CLUSTER": "1"})).size == 1


def test_the_job_that_a_session_runs_in(fake: FakeScheduler) -> None:
    assert registry.job_of(INSIDE) == {"scheduler": "fake", "job_id": "9"} and registry.job_mark(INSIDE) == "FAKE_JOB=9"
    assert registry.job_of({}) == {} and registry.job_mark({}) == ""


def test_what_nodes_do_not_inherit(fake: FakeScheduler) -> None:
    import msgspec

    from hpc.core.node.rank_processes import without_ranks
    from hpc.core.node.spec import Strip

    env = {"FAKE_STEP_ID": "0", "FAKE_STEP_GPUS": "1", "FAKE_RANK": "0", "FLUX_TASK_RANK": "0", **INSIDE}
    kept = without_ranks(env, msgspec.convert(registry.strip(), Strip))
    assert kept == {"FAKE_STEP_GPUS": "1", **INSIDE}

"""Slurm's face with small scripts in the place of its commands: what is asked when, and what no answer means."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpc.launchers.scheduler import Diagnosis, JobNews, NoAnswer, Refused, Reply, Request
from hpc.launchers.slurm.scheduler import Slurm, SlurmInquiry

WAITS = (
    "JobId=12 JobName=x JobState=PENDING Reason=Priority ExitCode=0:0 RunTime=00:00:00 TimeLimit=UNLIMITED "
    "StartTime=Unknown Partition=batch NodeList= NumNodes=4-4 "
)
Says = Callable[[str, str], None]


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Says:
    """Give a command a body; each is noted in the file `asked` when it runs."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)

    def give(name: str, body: str) -> None:
        path = tmp_path / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/asked\n{body}\n')
        path.chmod(0o755)

    return give


def asked() -> list[str]:
    return [line.split()[0] for line in Path("asked").read_text().splitlines()]


def all_news(inquiry: SlurmInquiry) -> list[JobNews]:
    found = []
    end_s = time.monotonic() + 10
    while not inquiry.over and time.monotonic() < end_s:
        news = inquiry.poll()
        if news is not None:
            found.append(news)
        time.sleep(0.001)
    return found


def test_a_waiting_job_comes_first_and_its_place_last(says: Says) -> None:
    says("scontrol", f"echo '{WAITS}'")
    says("squeue", "echo '11|100'; echo '12|90'")
    first, last = all_news(Slurm().inquire("12", position=True))
    assert first.info == last.info and first.info is not None and first.info.phase == "queued"
    assert (first.position, last.position) == (None, 2)


def test_the_place_is_asked_for_only_where_it_is_shown_and_there_is_one(says: Says) -> None:
    says("scontrol", f"echo '{WAITS}'")
    assert [news.position for news in all_news(Slurm().inquire("12", position=False))] == [None]
    says("scontrol", f"echo '{WAITS.replace('PENDING', 'RUNNING')}'")
    assert len(all_news(Slurm().inquire("12", position=True))) == 1
    assert asked() == ["scontrol", "scontrol"]


def test_unknown_and_no_answer_are_two_things(says: Says) -> None:
    says("scontrol", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert all_news(Slurm().inquire("12", position=True)) == [JobNews(None, known=False)]
    says("scontrol", "echo 'Unable to contact slurm controller' >&2; exit 1")
    assert all_news(Slurm().inquire("12", position=True)) == [JobNews(None, known=True)]


def test_many_jobs_by_one_question(says: Says) -> None:
    says("squeue", "echo '12|RUNNING|None|4:59|n[1-2]|n1'")
    states = Slurm().states(["12", "13"])
    assert list(states) == ["12"] and (states["12"].phase, states["12"].left) == ("running", "4:59")
    says("squeue", "echo 'slurm_load_jobs error: connect failure' >&2; exit 1")
    with pytest.raises(NoAnswer, match="connect failure"):
        Slurm().states(["12"])


def test_orders(says: Says) -> None:
    says("scancel", "")
    assert Slurm().cancel("12") == Reply(True) and Slurm().signal("12", "INT", "") == Reply(True)
    assert Path("asked").read_text() == "scancel 12\nscancel --batch --signal=INT 12\n"
    says("scancel", "echo 'scancel: error: Invalid job id 12' >&2; exit 1")
    assert Slurm().cancel("12") == Reply(False, unknown=True, why="scancel: error: Invalid job id 12")
    says("scancel", "exit 1")
    assert Slurm().cancel("12") == Reply(False, why="scancel ended with 1 and said nothing")


def test_a_submission(says: Says) -> None:
    says("sbatch", "echo banner; echo '4711;cluster'")
    assert Slurm().submit(["sbatch", "x"], Request()) == "4711"
    says("sbatch", "echo 'sbatch: error: Invalid qos specification' >&2; exit 1")
    says("sinfo", "exit 1")
    with pytest.raises(Refused) as caught:
        Slurm().submit(["sbatch", "x"], Request(qos="q"))
    words = "sbatch: error: Invalid qos specification"
    assert caught.value.diagnosis == Diagnosis("ACCOUNT", "the QOS 'q' cannot be used", why=words)


def test_where_slurm_takes_jobs(says: Says, tmp_path: Path) -> None:
    says("sbatch", "")
    assert Slurm().configured({"PATH": str(tmp_path), "SLURM_CONF": "/x"})
    assert not Slurm().configured({"PATH": "/nowhere", "SLURM_CONF": "/x"})

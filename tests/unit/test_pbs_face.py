"""PBS's face with small scripts in the place of its commands: what is asked when, and what no answer means."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpc.launchers.pbs.scheduler import Pbs, PbsInquiry
from hpc.launchers.registry import find_place
from hpc.launchers.scheduler import JobNews, NoAnswer, Refused, Request

ANSWERS = Path(__file__).parent / "pbs_answers"
Says = Callable[[str, str], None]


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Says:
    """Give a command of PBS a body; each is noted in the file `asked` when it runs."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PBS_CONF_FILE", str(tmp_path / "pbs.conf"))
    (tmp_path / "pbs.conf").write_text(f"PBS_EXEC={tmp_path}\nPBS_SERVER=s\n")
    monkeypatch.chdir(tmp_path)

    def give(name: str, body: str) -> None:
        path = tmp_path / "bin" / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/asked\n{body}\n')
        path.chmod(0o755)

    return give


def asked() -> list[str]:
    return Path("asked").read_text().splitlines()


def last_news(inquiry: PbsInquiry) -> JobNews:
    end_s = time.monotonic() + 10
    found = None
    while not inquiry.over and time.monotonic() < end_s:
        found = inquiry.poll() or found
        time.sleep(0.001)
    assert found is not None
    return found


def test_a_job_that_is_known(says: Says) -> None:
    says("qstat", f"cat {ANSWERS}/ended.txt")
    news = last_news(Pbs().inquire("1.pxs", position=False))
    assert news.known and news.info is not None and (news.info.phase, news.info.exit_code) == ("ended", 3)
    assert asked() == ["qstat -x -f 1.pxs"]


def test_a_site_that_keeps_nothing_of_jobs_that_ended_is_asked_for_those_that_have_not(says: Says) -> None:
    none = 'case "$1" in -x) echo "qstat: PBS is not configured to maintain job history" >&2; exit 1;; esac'
    says("qstat", f"{none}\ncat {ANSWERS}/running.txt")
    assert last_news(Pbs().inquire("0.pxs", position=False)).info is not None
    assert list(Pbs().states(["0.pxs"])) == ["0.pxs"]
    assert asked() == ["qstat -x -f 0.pxs", "qstat -f 0.pxs"] * 2


def test_unknown_and_no_answer_are_two_things(says: Says) -> None:
    says("qstat", "echo 'qstat: Unknown Job Id 7.s' >&2; exit 153")
    assert last_news(Pbs().inquire("7.s", position=False)) == JobNews(known=False)
    assert Pbs().states(["7.s"]) == {}
    says("qstat", "echo 'qstat: cannot connect to server s (errno=15010)' >&2; exit 255")
    assert last_news(Pbs().inquire("7.s", position=False)) == JobNews()
    with pytest.raises(NoAnswer, match="cannot connect"):
        Pbs().states(["7.s"])


def test_many_jobs_are_one_question_and_an_unknown_one_hides_no_other(says: Says) -> None:
    says("qstat", f"cat {ANSWERS}/some.txt; echo 'qstat: Unknown Job Id 77.pxs' >&2; exit 153")
    assert list(Pbs().states(["1.pxs", "77.pxs"])) == ["1.pxs"]
    assert asked() == ["qstat -x -f 1.pxs 77.pxs"]


def test_a_job_that_is_over_cannot_be_cancelled_again(says: Says) -> None:
    says("qdel", "echo 'qdel: Job has finished 1.s' >&2; exit 35")
    reply = Pbs().cancel("1.s")
    assert (reply.ok, reply.unknown) == (False, True)


def test_a_qsub_of_others_in_the_path_is_no_pbs(says: Says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says("qsub", "echo 'Unknown option: version' >&2; exit 2")
    env = {"PATH": f"{tmp_path}/bin", "PBS_CONF_FILE": "/nowhere"}
    assert find_place(env).kind == "local"
    assert find_place({**env, "PBS_CONF_FILE": str(tmp_path / "pbs.conf")}).source.name == "pbs"
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    monkeypatch.setenv("PBS_CONF_FILE", "/nowhere")
    with pytest.raises(Refused, match="no qsub of OpenPBS, PBS Pro or Torque"):
        Pbs().submit(["qsub", "-f"], Request())
    assert asked() == ["qsub --version"]

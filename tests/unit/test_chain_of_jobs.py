"""What the jobs of a chain know of each other."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_scheduler import FakeScheduler

from hpc.launch.chain import CANCELLED, Link
from hpc.launch.run import Run
from hpc.launchers.scheduler import JobInfo
from hpc.settings.errors import CliError


def links(folder: Path, count: int = 3) -> list[Link]:
    made = [Link(number, count, folder) for number in range(1, count + 1)]
    made[0].write_ids([str(100 + link.number) for link in made])
    return made


def test_a_link_is_written_as_one_word(tmp_path: Path) -> None:
    link = Link(2, 3, tmp_path / "a b:c")
    assert Link.parse(link.text) == link
    for nonsense in ("2/3", "0/3:x", "4/3:x", "a/b:x"):
        with pytest.raises(CliError):
            Link.parse(nonsense)


def test_the_first_runs_in_any_case(tmp_path: Path) -> None:
    assert links(tmp_path)[0].needless(FakeScheduler()) is None


def test_one_runs_if_the_script_of_the_one_before_is_not_finished(tmp_path: Path) -> None:
    first, second, third = links(tmp_path)
    first.say("continue", 75)
    assert second.needless(FakeScheduler()) is None
    second.say("done", 3)
    assert third.needless(FakeScheduler()) == (3, "the script ended in job 2 of a chain of 3")


@pytest.mark.parametrize("said", [True, False])
def test_of_one_that_was_ended_the_scheduler_says_whether_its_user_wanted_that(tmp_path: Path, said: bool) -> None:
    first, second, _ = links(tmp_path)
    if said:
        first.say("signal", 143)
    scheduler = FakeScheduler()
    assert second.needless(scheduler) is None, "nothing is known of it any more"
    scheduler.jobs["101"] = JobInfo("101", "ended", "PREEMPTED", ending="lost")
    assert second.needless(scheduler) is None
    scheduler.change("101", ending="cancelled")
    assert second.needless(scheduler) == (CANCELLED, "job 1 of a chain of 3 was cancelled")
    scheduler.down = True
    assert second.needless(scheduler) is None


def test_the_one_that_finishes_takes_the_others_out_of_the_queue(tmp_path: Path) -> None:
    _, second, third = links(tmp_path)
    scheduler = FakeScheduler(jobs={job_id: JobInfo(job_id, "queued", "PD") for job_id in ("102", "103")})
    second.withdraw_rest(scheduler)
    assert scheduler.jobs["103"].ending == "cancelled" and scheduler.jobs["102"].phase == "queued"
    third.withdraw_rest(scheduler)


@pytest.mark.parametrize(
    ("code", "cause", "drained", "lost", "left", "outcome"),
    [
        (75, "", False, [], 0, "done"),
        (75, "", True, [], 0, "continue"),
        (75, "", False, ["nid2"], 0, "continue"),
        (75, "", False, [], 1, "continue"),
        (1, "", True, ["nid2"], 1, "done"),
        (124, "walltime", False, [], 0, "continue"),
        (143, "signal", True, ["nid2"], 0, "signal"),
    ],
)
def test_a_script_goes_on_in_the_next_job_where_it_says_so_and_had_a_reason(code, cause, drained, lost, left, outcome):
    run = SimpleNamespace(cause=cause, drained=drained, lost_nodes=lost, left_nodes=left)
    assert Run.outcome(run, code) == outcome

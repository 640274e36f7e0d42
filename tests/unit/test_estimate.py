"""What a smaller job is, when each would start, and what follows from that for somebody who reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_scheduler import FakeScheduler

from hpc.launch.estimate import Shape, advice, as_row, as_text, ask, smaller
from hpc.launchers.pbs import commands as pbs
from hpc.launchers.scheduler import Diagnosis, Forecast, Request
from hpc.launchers.slurm import commands as slurm
from hpc.launchers.slurm import words
from hpc.launchers.yarn import words as yarn
from hpc.settings.errors import CliError
from hpc.settings.options import load

HOUR = 3600.0


def sizes(request: Request) -> list[tuple[int, float | None]]:
    return [(each.nodes[1], each.time) for each in smaller(request)]


def test_smaller_jobs_have_half_and_a_quarter_of_the_nodes_or_of_the_time() -> None:
    wanted = Request(nodes=(8, 8), time=4 * HOUR)
    assert sizes(wanted) == [(8, 14400), (4, 14400), (2, 14400), (8, 7200), (8, 3600), (4, 7200)]


def test_no_smaller_job_is_there_twice_or_shorter_than_a_minute() -> None:
    assert sizes(Request(nodes=(1, 1), time=90.0)) == [(1, 90), (1, 60)]
    assert sizes(Request(nodes=(2, 2))) == [(2, None), (1, None)]


def test_gpus_of_the_whole_job_shrink_with_its_nodes() -> None:
    assert [each.gpus for each in smaller(Request(nodes=(4, 4), gpus="a100:16"))] == ["a100:16", "a100:8", "a100:4"]
    assert [each.nodes for each in smaller(Request(nodes=(3, 8)))] == [(3, 8), (3, 4), (2, 2)]


def shape(nodes: int, start_s: float | None, free: int | None = None, time_s: float = HOUR) -> Shape:
    forecast = Forecast(start_s, "" if start_s is not None else "the scheduler does not tell", 2 * nodes, nodes, free)
    return Shape(Request(nodes=(nodes, nodes), time=time_s), forecast)


def test_the_advice_is_the_largest_of_those_that_gain_the_most() -> None:
    assert (
        advice([shape(8, 7200), shape(4, 30), shape(2, 0)]) == "--nodes=4 --time=01:00:00 would start 1:59:30 earlier."
    )
    assert advice([shape(8, 7200), shape(4, 7190)]) == "None of the smaller ones would start earlier."


def test_what_a_scheduler_does_not_tell_is_not_guessed() -> None:
    assert "does not tell" in advice([shape(8, None), shape(4, None)])
    fits = advice([shape(8, None, free=5), shape(4, None, free=5)])
    assert fits.startswith("--nodes=4 --time=01:00:00 fits into what is free now") and "does not tell" in fits
    row = as_row(shape(8, None, free=5), shape(8, None), 0.0)
    assert (row["start"], row["wait_s"], row["earlier_s"], row["free_nodes"]) == (None, None, None, 5)


def test_the_table_has_starts_and_hours() -> None:
    wanted, half = shape(8, 7200), shape(4, 30)
    text = "\n".join(as_text("Slurm", [wanted, half], 0.0))
    assert "what you asked for" in text and "at once" in text and "1:59:30 earlier" in text
    assert [as_row(wanted, wanted, 0.0)[f"{what}_hours"] for what in ("node", "cpu", "gpu")] == [8.0, 16.0, 8.0]


def test_the_wanted_job_comes_first_and_a_smaller_one_that_is_refused_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scheduler = FakeScheduler(now_s=1e10)
    settings = load(["-N4", "x.py"])
    found = ask(settings, scheduler, Request(nodes=(4, 4)), tmp_path)
    assert [(s.nodes, s.forecast.start_s) for s in found] == [(4, 1e10 + 180), (2, 1e10 + 60), (1, 1e10)]
    scheduler.refusal = Diagnosis("REJECTED", "no")
    with pytest.raises(CliError, match="no"):
        ask(settings, scheduler, Request(nodes=(4, 4)), tmp_path)
    assert scheduler.jobs == {}


def test_what_starts_at_once_is_asked_about_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(ask(load(["x.py"]), FakeScheduler(), Request(nodes=(4, 4)), tmp_path)) == 1


# ---------------------------------------------------------------- what schedulers say


def test_slurms_forecast_is_read() -> None:
    said = "sbatch: Job 8 to start at 2026-11-21T03:54:03 using 4 processors on nodes n[1-2] in partition batch"
    found = slurm.parse_forecast(said)
    assert found.start_s is not None and found.cpus == 4
    assert "does not tell" in slurm.parse_forecast("sbatch: nothing of the kind").why


def test_slurms_queue_in_words() -> None:
    assert slurm.waiting_in_words("") == ""
    assert slurm.waiting_in_words("7|N/A\n") == "1 job waits there, and Slurm has not planned their starts yet"
    assert slurm.waiting_in_words("7|2026-11-21T03:54:03\n8|N/A\n").endswith("of them is 2026-11-21 03:54:03")


def test_gpus_of_a_slurm_job() -> None:
    assert [words.gpus_of(Request(gpus="a100:6")), words.gpus_of(Request(nodes=(2, 2), gpus_per_node="4"))] == [6, 8]
    there = words.parse_partitions("batch*|up|1:00:00|4|1-infinite|2|2000|gpu:2\n")
    assert words.gpus_of_nodes(Request(nodes=(3, 3)), there) == 6


PBSNODES = """\
pxa
     state = free
     resources_available.ncpus = 2
     queue = aside
px1
     state = free
     resources_available.mem = 24683656kb
     resources_available.ncpus = 4
     resources_available.ngpus = 1
     resources_assigned.mem = 1048576kb
     resources_assigned.ncpus = 2

px2
     state = job-busy
     resources_available.ncpus = 4
     resources_assigned.ncpus = 4
"""


@pytest.mark.parametrize(
    ("request_", "free"),
    [
        (Request(cpus_per_task=2), 1),
        (Request(cpus_per_task=3), 0),
        (Request(gpus_per_node="a100:1", mem="20G"), 1),
        (Request(gpus_per_node="2"), 0),
        (Request(mem="23G"), 0),
        (Request(exclusive=True), 0),
        (Request(partition="aside", cpus_per_task=2), 1),
        (Request(partition="workq"), 1),
    ],
)
def test_pbs_nodes_that_have_room(request_: Request, free: int) -> None:
    assert pbs.free_nodes(request_, pbs.parse_nodes(PBSNODES)) == free


def test_the_starts_that_pbs_expects_are_quoted() -> None:
    row = "1.pxs  bed  workq  STDIN  --  4  8  --  00:10 Q  "
    assert pbs.waiting_in_words(f"{row}--\n") == "1 job waits there, and PBS expects no start of any"
    running = "0.pxs  bed  workq  STDIN  123  4  8  --  00:10 R  --\n"
    assert pbs.waiting_in_words(f"{running}{row}--\n{row}14:20\n").startswith("2 jobs wait there")
    assert pbs.waiting_in_words(f"{row}14:20\n").endswith("is 14:20")
    assert pbs.waiting_in_words(running) == ""


def test_yarns_free_nodes_and_its_queue() -> None:
    infos = {"resourceInformations": {"resourceInformation": [{"name": "yarn.io/gpu", "value": 1}]}}
    node = {"availMemoryMB": 2048, "availableVirtualCores": 2, "availableResource": infos}
    free = yarn.parse_free({"nodes": {"node": [node, {"availMemoryMB": 1024, "availableVirtualCores": 2}]}})
    assert yarn.free_nodes({"memory-mb": 1024, "vcores": 2}, free) == 2
    assert yarn.free_nodes({"memory-mb": 2048, "vcores": 1, "yarn.io/gpu": 1}, free) == 1
    queue = {
        "queueName": "default",
        "absoluteUsedCapacity": 25.0,
        "absoluteMaxCapacity": 50.0,
        "numPendingApplications": 1,
    }
    answer = {"scheduler": {"schedulerInfo": {"queueName": "root", "queues": {"queue": [queue]}}}}
    said = yarn.queue_in_words(answer, None)
    assert said == "queue default uses 25% of the cluster and may use 50%; 1 application waits"
    assert yarn.queue_in_words({}, None) == ""

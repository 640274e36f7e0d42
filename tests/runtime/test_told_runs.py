"""Runs of libraries as others see them: while they go on, when they are over, and when their process was killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hpc
import hpc.data
import hpc.train
from hpc import tune
from hpc.report import look
from hpc.report.render import page
from hpc.state.bulletins import DataDetail, TrainDetail, TuneDetail
from hpc.state.overview import own_directory
from hpc.state.runs import rows_of_run, run_detail
from hpc.train import Checkpoint, FailureConfig, RunConfig, ScalingConfig
from hpc.util.state import list_runs
from runtime.hosting import hpc_command
from runtime.running import eventually, one_node
from runtime.test_train import PlainTrainer


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    with one_node(num_cpus=3):
        yield


class Beside(threading.Thread):
    """A function of the driver that goes on beside the test."""

    def __init__(self, run: Callable[[], Any]) -> None:
        super().__init__()
        self.do, self.error = run, None
        self.start()

    def run(self) -> None:
        try:
            self.do()
        except BaseException as error:
            self.error = error


def run_of(name: str, *states: str) -> Any:
    """The run of a name once it is in one of these states."""

    def there() -> Any:
        return next((row for row in list_runs(limit=1000) if row.name == name and row.state in states), None)

    return eventually(there)


def waiting_loop(config: dict[str, Any]) -> None:
    folder = Path(config["folder"])
    for step in range(1_000_000):
        if (folder / "go").exists():
            return
        checkpoint = None
        if step == 3:
            (folder / f"of-rank-{hpc.train.get_context().get_world_rank()}").mkdir(exist_ok=True)
            checkpoint = Checkpoint(folder / f"of-rank-{hpc.train.get_context().get_world_rank()}")
        if step == 5 and (folder / "fails").exists():
            (folder / "fails").unlink(missing_ok=True)
            raise ValueError("once")
        hpc.train.report({"loss": 1 / (1 + step), "name": "text"}, checkpoint=checkpoint)
        time.sleep(0.02)


def test_a_training_is_told_of_while_it_goes_on_and_afterwards(session, tmp_path):
    run = RunConfig(name="told", storage_path=tmp_path / "results", failure_config=FailureConfig(max_failures=1))
    (tmp_path / "fails").touch()

    def fit() -> None:
        scaling = ScalingConfig(num_workers=2)
        PlainTrainer(
            waiting_loop,
            train_loop_config={"folder": str(tmp_path)},
            scaling_config=scaling,
            run_config=run,
        ).fit()

    beside = Beside(fit)
    try:
        row = eventually(lambda: (row := run_of("told", "RUNNING")).attempt == 1 and row)
        detail, live = run_detail(row.run_id)
        assert isinstance(detail, TrainDetail) and live and row.kind == "train"
        eventually(lambda: run_detail(row.run_id)[0].reports > 10)
        detail, _ = run_detail(row.run_id)
        assert [rank.rank for rank in detail.ranks] == [0, 1] and detail.all_ranks == 2 and detail.steps_s > 0
        assert {rank.state for rank in detail.ranks} <= {"RUNNING", "IN REPORT"}
        assert all(rank.node_id == "1" and rank.report_age_s < 30 and rank.reports > 3 for rank in detail.ranks)
        (curve,) = [curve for curve in detail.curves if curve.name == "loss"]
        assert curve.ys[:5] == [1.0, 0.5, 1 / 3, 0.25, 1.0], "what came after the checkpoint is gone"
        assert curve.xs == [float(at + 1) for at in range(len(curve.xs))] and len(detail.curves) == 1
        stored = [(one.name, one.report, one.state) for one in detail.checkpoints]
        assert stored == [("checkpoint_000001", 8, "KEPT"), ("checkpoint_000000", 4, "KEPT")]
        ranks = rows_of_run(row.run_id, "ranks", {"q": "rank=1"})
        assert [one["rank"] for one in ranks["rows"]] == [1] and ranks["total"] == 2
    finally:
        (tmp_path / "go").touch()
        beside.join()
    assert beside.error is None
    ended = run_of("told", "FINISHED")
    detail, live = run_detail(ended.run_id)
    assert not live and isinstance(detail, TrainDetail) and detail.curves[0].name == "loss"
    assert ended.end_time_ms > ended.start_time_ms > 0 and "reports" in ended.words
    with pytest.raises(FileNotFoundError, match="over"):
        rows_of_run(ended.run_id, "ranks", {})


def failing_loop(config: dict[str, Any]) -> None:
    hpc.train.report({"loss": float(config["fails"])})
    raise ValueError("on purpose <b>")


def test_a_training_that_fails_says_why_and_how_often_it_began(session, tmp_path):
    trainer = PlainTrainer(
        failing_loop,
        train_loop_config={"fails": 1},
        run_config=RunConfig(name="fails", storage_path=tmp_path, failure_config=FailureConfig(max_failures=1)),
    )
    with pytest.raises(hpc.train.TrainingFailedError):
        trainer.fit()
    row = run_of("fails", "FAILED")
    assert "on purpose <b>" in row.why and row.attempt == 1
    detail, _ = run_detail(row.run_id)
    assert [(one.number, one.ranks) for one in detail.attempts] == [(1, 1), (0, 1)]
    assert all("on purpose" in one.why for one in detail.attempts)


def test_a_training_that_waits_says_for_what(session, tmp_path):
    trainer = PlainTrainer(
        waiting_loop,
        train_loop_config={"folder": str(tmp_path)},
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(name="waits", storage_path=tmp_path),
    )
    holder = hpc.util.placement_group([{"CPU": 2}])
    hpc.get(holder.ready())
    (tmp_path / "go").touch()
    beside = Beside(trainer.fit)
    try:
        row = eventually(lambda: (row := run_of("waits", "WAITING")).why and row)
        assert "no room yet for 2 workers" in row.why
    finally:
        hpc.util.remove_placement_group(holder)
        beside.join()
    assert run_of("waits", "FINISHED").why == "" and beside.error is None


def test_a_search_has_its_trials_their_curves_and_what_was_decided(session, tmp_path):
    def tried(config: dict[str, Any]) -> None:
        for step in range(4):
            tune.report({"loss": config["x"] / (step + 1)})
        if config["x"] == 3:
            raise ValueError("x is 3")

    space = {"x": tune.grid_search([1, 2, 3, 4, 5, 6]), "other": "text"}
    scheduler = tune.schedulers.AsyncHyperBandScheduler(grace_period=1, max_t=4, reduction_factor=2)
    tune.run(
        tried, name="searched", config=space, metric="loss", mode="min", storage_path=str(tmp_path), verbose=0,
        scheduler=scheduler, raise_on_failed_trial=False,
    )  # fmt: skip
    row = run_of("searched", "FINISHED")
    detail, _ = run_detail(row.run_id)
    assert isinstance(detail, TuneDetail) and row.kind == "tune" and row.done == 1.0 and row.left_s is None
    assert sum(detail.states.values()) == detail.total == 6 and detail.best["parameters"] == "x=1"
    assert detail.best["objective"] == 0.25 and detail.top[0].ys == [1.0, 0.5, pytest.approx(1 / 3), 0.25]
    assert detail.scheduler == "AsyncHyperBandScheduler" and detail.bands and detail.metric == "loss"
    assert sum(detail.decided.values()) >= len(detail.decisions) > 0
    assert {trial["state"] for trial in detail.trials} <= {"TERMINATED", "ERROR"}


def test_a_search_that_goes_on_gives_its_table_in_parts(session, tmp_path):
    folder = tmp_path / "flags"
    folder.mkdir()

    def waits(config: dict[str, Any]) -> None:
        tune.report({"loss": config["x"]})
        while not (folder / "go").exists():
            time.sleep(0.01)

    def search() -> None:
        tune.run(
            waits, name="goes-on", config={"x": tune.grid_search(list(range(8)))}, metric="loss", mode="max",
            storage_path=str(tmp_path), verbose=0,
        )  # fmt: skip

    beside = Beside(search)
    try:
        row = eventually(lambda: (row := run_of("goes-on", "RUNNING")).numbers.get("running") and row)
        found = eventually(
            lambda: (part := rows_of_run(row.run_id, "trials", {"q": "state=running", "sort": "-objective"}))["rows"]
            and all(one["objective"] is not None for one in part["rows"]) and part
        )  # fmt: skip
        assert found["matching"] == 3 and [one["objective"] for one in found["rows"]] == [2.0, 1.0, 0.0]
        assert rows_of_run(row.run_id, "trials", {"limit": "2"})["total"] >= 3
    finally:
        (folder / "go").touch()
        beside.join()
    assert beside.error is None


def test_a_dataset_that_flows_has_operators_and_budgets_and_then_its_statistics(session):
    def slowly(batch: Any) -> Any:
        time.sleep(0.4)
        return batch

    data = hpc.data.range(80, override_num_blocks=16).map_batches(slowly)
    beside = Beside(data.materialize)
    names = {row.run_id for row in list_runs([("kind", "=", "data")])}

    def going() -> Any:
        rows = [row for row in list_runs([("kind", "=", "data")]) if row.run_id not in names]
        return next((row for row in rows if row.state == "RUNNING" and row.numbers["rows"]), None)

    row = eventually(going)
    detail, live = run_detail(row.run_id)
    beside.join()
    assert isinstance(detail, DataDetail) and live and 0 < detail.rows <= 80 and detail.limit_bytes > 0
    assert any("slowly" in one.name and one.tasks for one in detail.operators)
    assert [one.node_id for one in detail.nodes] == ["1"] and detail.nodes[0].store_bytes > 0
    ended = eventually(lambda: next((one for one in list_runs() if one.run_id == row.run_id and one.end_time_ms), None))
    detail, live = run_detail(row.run_id)
    assert ended.state == "FINISHED" and ended.done == 1.0 and not live
    assert detail.rows == 80 and "Operator" in detail.stats and "80" in detail.stats and detail.stands == ""


def test_a_dataset_that_fails_or_is_closed_says_so(session):
    def bad(row: Any) -> Any:
        time.sleep(0.2)
        raise ValueError("a bad row")

    with pytest.raises(Exception, match="a bad row"):
        hpc.data.range(4).map(bad).materialize()
    row = eventually(lambda: next((one for one in list_runs([("state", "=", "FAILED")]) if one.kind == "data"), None))
    assert "a bad row" in row.why


KILLED = """
    import os, signal, sys, time
    import hpc
    from hpc import spi
    from hpc.spi import bulletins

    hpc.init(address=sys.argv[1])
    told = spi.tell_run(
        lambda: bulletins.Brief("train", "killed", "RUNNING", began_s=1.0, numbers={"reports": 7}),
        lambda: bulletins.TrainDetail(reports=7),
    )
    print("there", flush=True)
    time.sleep(600)
"""


def test_what_a_killed_process_told_last_stays_known(session):
    command = [sys.executable, "-c", textwrap.dedent(KILLED), own_directory()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "there\n"
        run_of("killed", "RUNNING")
        process.send_signal(signal.SIGKILL)
    row = run_of("killed", "LOST")
    assert "its process has ended" in row.why and row.numbers == {"reports": 7}
    detail, live = run_detail(row.run_id)
    assert isinstance(detail, TrainDetail) and detail.reports == 7 and not live


@pytest.mark.parametrize("ident", ["", "x", "1.2", "1.2/x", "a.b/1"])
def test_what_is_no_id_of_a_run_is_said(session, ident):
    with pytest.raises(ValueError, match=r"1\.2/3"):
        run_detail(ident)


def test_a_run_that_nobody_knows_is_said(session):
    with pytest.raises(FileNotFoundError, match="hpc list runs"):
        run_detail("1.1/99")


def test_the_commands_and_the_report_have_the_same_runs(session, tmp_path):
    trainer = PlainTrainer(
        failing_loop,
        train_loop_config={"fails": 0.5},
        run_config=RunConfig(name="shown <i>", storage_path=tmp_path),
    )
    with pytest.raises(hpc.train.TrainingFailedError):
        trainer.fit()
    row = run_of("shown <i>", "FAILED")
    listed = hpc_command("list", "runs", f"--address={own_directory()}", "--json", "--filter", "state=failed")
    found = json.loads(listed.stdout)
    assert row.run_id in {one["run_id"] for one in found} and {one["state"] for one in found} == {"FAILED"}
    told = hpc_command("get", "runs", row.run_id, f"--address={own_directory()}")
    assert "shown <i>" in told.stdout and "loss: 0.5 at 1" in told.stdout and "attempts:" in told.stdout
    facts = look.facts_now()
    (fact,) = [run for run in facts.runs if run.name == "shown <i>"]
    assert fact.state == "FAILED" and isinstance(fact.detail, TrainDetail)
    text = page(facts)
    assert "<h2>Trainings</h2>" in text and "shown &lt;i&gt;" in text and "shown <i>" not in text
    assert "on purpose &lt;b&gt;" in text

"""Trainers inside of trials: their ranks are in the trial's own room, so trials wait for each other and never hang."""

from __future__ import annotations

import time

import pytest

import hpc
from hpc import train, tune
from hpc.train import room
from hpc.tune.integration.ray_train import CHECKPOINT_PATH_KEY, TuneReportCallback
from runtime.running import one_node


@pytest.fixture(scope="module", autouse=True)
def session():
    with one_node(num_cpus=4):
        yield


def test_trials_with_trainers_all_end_on_nodes_that_hold_few_of_them_at_a_time(tmp_path):
    def loop(config):
        for step in range(2):
            group = hpc.get_runtime_context().get_placement_group_id()
            train.report({"step": step, "lr": config["lr"], "group": group})

    def trial(config):
        trainer = train.DataParallelTrainer(
            loop,
            train_loop_config=config,
            scaling_config=train.ScalingConfig(num_workers=2),
            run_config=train.RunConfig(
                name=f"t-{tune.get_context().get_trial_id()}",
                storage_path=str(tmp_path),
                callbacks=[TuneReportCallback()],
            ),
        )
        ranks = trainer.fit().metrics["group"]
        tune.report({"same": ranks == hpc.get_runtime_context().get_placement_group_id()})

    room = tune.PlacementGroupFactory([{}, {"CPU": 1}, {"CPU": 1}])
    grid = tune.Tuner(
        tune.with_resources(trial, room),
        param_space={"lr": tune.grid_search([1, 2, 3])},
        run_config=tune.RunConfig(name="e", storage_path=str(tmp_path), verbose=0),
    ).fit()
    assert grid.num_errors == 0, grid.errors[0]
    assert [one.metrics["training_iteration"] for one in grid] == [3, 3, 3]
    assert [one.metrics["same"] for one in grid] == [True] * 3
    assert [one.config["lr"] for one in grid] == [1, 2, 3]


def test_a_trial_that_is_stopped_gives_back_the_room_of_its_ranks(tmp_path):
    def loop():
        while True:
            train.report({"step": 1})

    def trial(config):
        train.DataParallelTrainer(
            loop,
            scaling_config=train.ScalingConfig(num_workers=3),
            run_config=train.RunConfig(
                name=tune.get_context().get_trial_id(), storage_path=str(tmp_path), callbacks=[TuneReportCallback()]
            ),
        ).fit()

    room = tune.PlacementGroupFactory([{}, *[{"CPU": 1}] * 3])  # so one trial runs at a time
    grid = tune.Tuner(
        tune.with_resources(trial, room),
        tune_config=tune.TuneConfig(num_samples=3),
        run_config=tune.RunConfig(name="e", storage_path=str(tmp_path), verbose=0, stop={"training_iteration": 2}),
    ).fit()
    assert grid.num_errors == 0, grid.errors[0]
    assert [one.metrics["training_iteration"] for one in grid] == [2, 2, 2]


def test_the_callback_of_trainers_is_for_trials():
    with pytest.raises(RuntimeError, match="in a function that a Tuner runs"):
        TuneReportCallback()
    assert CHECKPOINT_PATH_KEY == "checkpoint_path"


def test_a_trainer_without_room_says_that_its_trial_is_in_the_way(tmp_path):
    said = tmp_path / "said"

    def trial(config):
        if config["trains"]:
            room.PATIENCE_S, room.say = 0.1, said.write_text
            scaling = train.ScalingConfig(num_workers=1)
            options = train.RunConfig(name="inner", storage_path=str(tmp_path))
            train.DataParallelTrainer(lambda: None, scaling_config=scaling, run_config=options).fit()
        while not said.exists():
            time.sleep(0.05)

    grid = tune.Tuner(
        tune.with_resources(trial, {"cpu": 2}),
        param_space={"trains": tune.grid_search([True, False])},
        run_config=tune.RunConfig(name="e", storage_path=str(tmp_path), verbose=0),
    ).fit()
    assert grid.num_errors == 0, grid.errors[0]
    assert "there is no room yet for 1" in said.read_text()
    assert "which holds {'CPU': 2.0} for itself" in said.read_text() and "[{}, one bundle for" in said.read_text()

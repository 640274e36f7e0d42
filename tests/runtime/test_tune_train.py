"""Trainers inside of trials: their ranks are in the trial's own room, so trials wait for each other and never hang."""

from __future__ import annotations

import pytest

import hpc
from hpc import train, tune
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

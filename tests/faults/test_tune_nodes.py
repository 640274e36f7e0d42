"""Trials on a node that dies go on elsewhere from their latest checkpoint: it is no failure of theirs. A session that
drains has them save, and the experiment goes on in the next one."""

from __future__ import annotations

import os
import tempfile
import time

import pytest

import hpc
from hpc import tune
from runtime.running import eventually, local_nodes
from runtime.test_train_elastic import watched_nodes


def count(config):
    """Counts to its end; each result has a checkpoint, or only where one is asked for."""
    checkpoint = tune.get_checkpoint()
    begin = 0
    if checkpoint:
        with checkpoint.as_directory() as folder, open(os.path.join(folder, "value")) as file:
            begin = int(file.read())
    for value in range(begin + 1, config["to"]):
        folder = None
        if config["always"] or tune.get_context().should_checkpoint():
            folder = tempfile.mkdtemp()
            with open(os.path.join(folder, "value"), "w") as file:
                file.write(str(value))
        time.sleep(0.02)
        node = hpc.get_runtime_context().get_node_id()
        tune.report({"value": value, "node": node}, checkpoint=tune.Checkpoint(folder) if folder else None)


class At(tune.Callback):
    """Does something once, at a result."""

    def __init__(self, when, do):
        self.when, self.do, self.done = when, do, False

    def on_trial_result(self, iteration, trials, trial, result, **info):
        if not self.done and self.when(result):
            self.done = True
            self.do()


def test_a_node_that_dies_is_no_failure_of_its_trials(tmp_path):
    with watched_nodes(2) as nodes:
        kill = At(lambda result: result["node"] == "2" and result["value"] >= 3, lambda: nodes.kill_raylet(2))
        grid = tune.Tuner(
            count,
            param_space={"to": 30, "always": True},
            tune_config=tune.TuneConfig(num_samples=2),
            run_config=tune.RunConfig(name="e", storage_path=str(tmp_path), verbose=0, callbacks=[kill]),
        ).fit()
    assert kill.done and grid.num_errors == 0, grid.errors
    assert [one.metrics["value"] for one in grid] == [29, 29]
    assert [one.metrics["training_iteration"] for one in grid] == [29, 29]
    assert [one.metrics["node"] for one in grid] == ["1", "1"]


def test_an_experiment_in_two_sessions_has_the_results_of_one(tmp_path):
    def fit(drain_at):
        with local_nodes(1, num_cpus=2) as running:

            def drain():
                noticed = hpc.get_runtime_context().draining
                running.tell_head({"op": "time", "left_s": 60.0, "drain": "the test ends"})
                eventually(lambda: noticed() is not None)

            return tune.Tuner(
                count,
                param_space={"to": 40, "always": False, "x": tune.grid_search([1, 2])},
                run_config=tune.RunConfig(
                    name="e",
                    storage_path=str(tmp_path),
                    verbose=0,
                    callbacks=[At(lambda result: result["value"] == drain_at, drain)],
                ),
            ).fit()

    with pytest.raises(SystemExit) as ended:
        fit(5)
    assert ended.value.code == 75, "a script that does not catch it says that it goes on"
    grid = fit(None)
    assert [one.metrics["value"] for one in grid] == [39, 39]
    assert [one.metrics["training_iteration"] for one in grid] == [39, 39]
    assert all(one.metrics["iterations_since_restore"] < 39 for one in grid)
    assert [one.config["x"] for one in grid] == [1, 2]

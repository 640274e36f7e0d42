"""Experiments go on: by their name, or restored from their directory, with what has failed, with more samples."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap

import pytest

from hpc import tune
from runtime.running import eventually, one_node


@pytest.fixture(scope="module", autouse=True)
def session():
    with one_node(num_cpus=4):
        yield


@pytest.fixture
def where(tmp_path):
    """The options of a quiet experiment in a directory of its own."""
    return lambda **more: tune.RunConfig(storage_path=str(tmp_path), verbose=0, **{"name": "e", **more})


def test_an_experiment_is_restored_with_its_configurations_and_what_failed_goes_on(where, tmp_path):
    def train(config):
        checkpoint = tune.get_checkpoint()
        begin = 0
        if checkpoint:
            with checkpoint.as_directory() as folder, open(os.path.join(folder, "value")) as file:
                begin = int(file.read())
        for value in range(begin + 1, 5):
            with tempfile.TemporaryDirectory() as folder:
                with open(os.path.join(folder, "value"), "w") as file:
                    file.write(str(value))
                tune.report({"value": value, "began": begin}, checkpoint=tune.Checkpoint(folder))
            if config["x"] == 1 and value == 2 and not (tmp_path / "mended").exists():
                raise ValueError("broken")

    path = str(tmp_path / "e")
    assert not tune.Tuner.can_restore(path)
    config = tune.TuneConfig(metric="value", mode="max")
    space = {"x": tune.grid_search([0, 1])}
    first = tune.Tuner(train, param_space=space, tune_config=config, run_config=where()).fit()
    assert [one.metrics["value"] for one in first] == [4, 2] and first.num_errors == 1
    assert tune.Tuner.can_restore(path)

    restored = tune.Tuner.restore(path, train)
    seen = restored.get_results()
    assert [one.metrics["value"] for one in seen] == [4, 2] and isinstance(seen[1].error, ValueError)
    assert seen.get_best_result().config == {"x": 0}, "the metric is as it was"
    assert restored.fit()[1].metrics["value"] == 2, "what has failed stays as it is"

    (tmp_path / "mended").touch()
    grid = tune.Tuner.restore(path, train, resume_errored=True).fit()
    assert [(one.metrics["value"], one.error) for one in grid] == [(4, None), (4, None)]
    assert grid[1].metrics["began"] == 2 and grid[1].metrics["training_iteration"] == 4
    assert len(grid[1].metrics_dataframe) == 4


def test_what_is_finished_is_not_run_again_and_more_samples_are(where, tmp_path):
    def train(config):
        with open(tmp_path / "runs", "a") as file:
            file.write("x")
        return {"a": config["x"]}

    def fit(count):
        return tune.Tuner(
            train,
            param_space={"x": tune.uniform(0, 1)},
            tune_config=tune.TuneConfig(num_samples=count),
            run_config=where(),
        ).fit()

    first, again, more = fit(2), fit(2), fit(5)
    assert [one.config for one in first] == [one.config for one in again] == [one.config for one in more][:2]
    assert len(more) == 5 and len({one.config["x"] for one in more}) == 5
    assert (tmp_path / "runs").read_text() == "xxxxx"


class Halving(tune.search.Searcher):
    """Suggests 1, 1/2, 1/4, ..."""

    def __init__(self, metric=None, mode=None):
        super().__init__(metric, mode)
        self.made = 0

    def set_search_properties(self, metric, mode, config, **spec):
        self._metric, self._mode = metric, mode
        return True

    def suggest(self, trial_id):
        self.made += 1
        return {"x": 0.5 ** (self.made - 1)}

    def on_trial_complete(self, trial_id, result=None, error=False):
        pass

    def save(self, checkpoint_path):
        with open(checkpoint_path, "w") as file:
            file.write(str(self.made))

    def restore(self, checkpoint_path):
        with open(checkpoint_path) as file:
            self.made = int(file.read())


def test_a_search_goes_on_where_it_was_and_limits_what_runs_then_too(where):
    def train(config):
        return {"a": config["x"]}

    def fit(count):
        config = tune.TuneConfig(
            metric="a", mode="min", num_samples=count, search_alg=Halving(), max_concurrent_trials=1
        )
        return tune.Tuner(train, tune_config=config, run_config=where()).fit()

    assert [one.metrics["a"] for one in fit(2)] == [1.0, 0.5]
    assert [one.metrics["a"] for one in fit(4)] == [1.0, 0.5, 0.25, 0.125]


def test_what_cannot_be_restored_is_refused(where, tmp_path):
    def train(config):
        return {"a": 1}

    def other(config):
        return {"a": 1}

    path = str(tmp_path / "e")
    with pytest.raises(FileNotFoundError, match="holds no experiment"):
        tune.Tuner.restore(path, train)
    with pytest.raises(RuntimeError, match="no results yet"):
        tune.Tuner(train, run_config=where()).get_results()
    tune.Tuner(train, param_space={"x": 1}, run_config=where()).fit()
    with pytest.raises(ValueError, match=r"the experiment in .* has"):
        tune.Tuner.restore(path, train, param_space={"y": 1})
    with pytest.raises(tune.TuneError, match="is the experiment of the trainable train"):
        tune.Tuner.restore(path, other).fit()


def test_two_experiments_without_a_name_are_two(where):
    def train(config):
        return {"a": config["x"]}

    tuners = [tune.Tuner(train, param_space={"x": x}, run_config=where(name=None)) for x in (1, 2)]
    grids = [tuner.fit() for tuner in tuners]
    assert [grid[0].metrics["a"] for grid in grids] == [1, 2]
    assert grids[0].experiment_path != grids[1].experiment_path


DRIVER = """
    import sys
    import time
    import hpc
    from hpc import tune

    def train(config):
        time.sleep(0.0 if config["x"] < 5 else 0.3)
        with open(config["folder"] + "/runs", "a") as file:
            file.write(f"{config['x']}\\n")
        return {"a": config["x"]}

    hpc.init(num_cpus=1)
    grid = tune.Tuner(
        train,
        param_space={"x": tune.grid_search(list(range(8))), "folder": sys.argv[1]},
        run_config=tune.RunConfig(name="e", storage_path=sys.argv[1], verbose=0),
    ).fit()
    print(sorted(one.metrics["a"] for one in grid))
"""


def test_a_driver_that_is_killed_loses_no_finished_trial(tmp_path):
    script = tmp_path / "driver.py"
    script.write_text(textwrap.dedent(DRIVER))
    runs = tmp_path / "runs"
    command = [sys.executable, str(script), str(tmp_path)]
    first = subprocess.Popen(command)
    try:
        eventually(lambda: runs.exists() and len(runs.read_text().splitlines()) >= 6)
    finally:
        first.kill()
        first.wait()
    done = len(runs.read_text().splitlines())
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert second.stdout.strip() == str(list(range(8)))
    assert len(runs.read_text().splitlines()) <= 8 + (done - 4), "those that had finished did not run again"


def test_what_begins_anew_takes_the_place_of_what_failed(where, tmp_path):
    def train(config):
        if config["x"] == 1 and not (tmp_path / "mended").exists():
            raise ValueError("broken")
        return {"value": config["x"]}

    first = tune.Tuner(train, param_space={"x": tune.grid_search([0, 1])}, run_config=where()).fit()
    assert [one.config for one in first] == [{"x": 0}, {"x": 1}], "what failed before its first report has one, too"
    (tmp_path / "mended").touch()
    grid = tune.Tuner.restore(str(tmp_path / "e"), train, restart_errored=True).fit()
    assert [(one.config, one.error) for one in grid] == [({"x": 0}, None), ({"x": 1}, None)]
    read = tune.Tuner.restore(str(tmp_path / "e"), train).get_results()
    assert [(one.config, one.error) for one in read] == [({"x": 0}, None), ({"x": 1}, None)]


def test_an_experiment_with_a_scheduler_and_a_searcher_is_restored_as_it_was_given(where, tmp_path):
    def train(config):
        for step in range(4):
            tune.report({"value": config["x"] * step})

    kinds: dict[str, dict[str, object]] = {
        "asha": {"scheduler": tune.schedulers.ASHAScheduler(max_t=4)},
        "bohb": {"scheduler": "hb_bohb", "search_alg": "bohb"},
        "limited": {"search_alg": tune.search.ConcurrencyLimiter(tune.search.create_searcher("bohb"), 2)},
    }
    for name, given in kinds.items():
        config = tune.TuneConfig(metric="value", mode="max", num_samples=3, **given)
        space = {"x": tune.uniform(0, 1)}
        first = tune.Tuner(train, param_space=space, tune_config=config, run_config=where(name=name)).fit()
        again = tune.Tuner.restore(str(tmp_path / name), train).fit()
        assert [one.config for one in again] == [one.config for one in first] and len(first) == 3


def test_an_experiment_is_on_a_file_system_of_pyarrows(tmp_path):
    fs = pytest.importorskip("pyarrow.fs", reason="needs pyarrow")
    (tmp_path / "bucket").mkdir()
    remote = fs.SubTreeFileSystem(str(tmp_path / "bucket"), fs.LocalFileSystem())

    def train(config):
        print("x is", config["x"])
        for value in range(3):
            with tempfile.TemporaryDirectory() as folder:
                with open(os.path.join(folder, "value"), "w") as file:
                    file.write(str(value))
                tune.report({"value": value}, checkpoint=tune.Checkpoint(folder))

    def fit(samples):
        keeps = tune.CheckpointConfig(num_to_keep=1)
        return tune.Tuner(
            train,
            param_space={"x": tune.uniform(0, 1)},
            tune_config=tune.TuneConfig(metric="value", mode="max", num_samples=samples),
            run_config=tune.RunConfig("e", "results", remote, checkpoint_config=keeps, verbose=0, log_to_file=True),
        ).fit()

    first, more = fit(2), fit(3)
    assert [one.config for one in more][:2] == [one.config for one in first] and len(more) == 3 and not more.num_errors
    for one in more:
        folder = tmp_path / "bucket" / one.path
        assert (folder / "stdout").read_text() == f"x is {one.config['x']}\n"
        assert len((folder / "result.json").read_text().splitlines()) == 3 == len(one.metrics_dataframe)
        assert [path.name for path in sorted(folder.glob("checkpoint_*"))] == ["checkpoint_000002"]
        with one.checkpoint.as_directory() as inside, open(os.path.join(inside, "value")) as file:
            assert file.read() == "2"
    analysis = tune.ExperimentAnalysis(
        "results/e", storage_filesystem=remote, default_metric="value", default_mode="max"
    )
    assert len(analysis.trials) == 3 and analysis.best_checkpoint is not None
    assert tune.Tuner.can_restore("results/e", remote)
    assert len(tune.Tuner.restore("results/e", train, storage_filesystem=remote).fit()) == 3


def test_an_experiment_goes_on_with_another_scheduler_and_another_search(where):
    def train(config):
        for step in range(1, 5):
            tune.report({"value": config["x"] * step})

    kinds = [
        {"scheduler": tune.schedulers.ASHAScheduler(max_t=4)},
        {"scheduler": tune.schedulers.HyperBandForBOHB(max_t=4), "search_alg": "bohb"},
        {"scheduler": tune.schedulers.MedianStoppingRule()},
        {},
    ]
    found = []
    for samples, given in enumerate(kinds, 2):
        config = tune.TuneConfig(metric="value", mode="max", num_samples=samples, **given)
        grid = tune.Tuner(train, param_space={"x": tune.uniform(0, 1)}, tune_config=config, run_config=where()).fit()
        assert [one.config for one in grid][: len(found)] == found and len(grid) == samples == grid.num_terminated
        found = [one.config for one in grid]


class Renamed(tune.schedulers.FIFOScheduler):
    """Has a state of its own, which its next version cannot load."""

    def state(self):
        return {"seen": 1}

    def load(self, state, trial_of):
        self.noticed = state["noticed"]


def test_a_state_that_cannot_be_loaded_is_an_error_that_says_what_to_do(where, tmp_path):
    def fit():
        config = tune.TuneConfig(scheduler=Renamed(), metric="a", mode="max")
        return tune.Tuner(lambda config: {"a": 1}, tune_config=config, run_config=where()).fit()

    fit()
    with pytest.raises(
        tune.TuneError, match=r"cannot be loaded: KeyError: 'noticed'. Delete the file experiment.state"
    ):
        fit()
    (tmp_path / "e" / "experiment.state").unlink()
    assert not fit().num_errors

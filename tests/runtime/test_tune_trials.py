"""Experiments from their start to their results: functions and classes, checkpoints, failures, resources, and reuse."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time

import pytest

import hpc
from hpc import tune
from hpc.runs.drained import Drained
from hpc.tune.plan import make_plan
from hpc.tune.seats import Answer, Seats
from hpc.tune.worker import Experiment, Work
from runtime.running import eventually, one_node


@pytest.fixture(scope="module", autouse=True)
def session():
    with one_node(num_cpus=4, num_gpus=2):
        yield


@pytest.fixture
def where(tmp_path):
    """The options of a quiet experiment in a directory of its own."""
    return lambda **more: tune.RunConfig(**{"storage_path": str(tmp_path), "verbose": 0, "name": "e", **more})


class Counting(tune.Trainable):
    """Counts up from its configuration."""

    def setup(self, config):
        self.count = config.get("from", 0)
        self.pid = os.getpid()

    def step(self):
        self.count += 1
        return {"count": self.count, "first": self.pid}

    def save_checkpoint(self, checkpoint_dir):
        with open(os.path.join(checkpoint_dir, "count"), "w") as file:
            file.write(str(self.count))

    def load_checkpoint(self, checkpoint):
        with open(os.path.join(checkpoint, "count")) as file:
            self.count = int(file.read())

    def reset_config(self, new_config):
        self.count = new_config.get("from", 0)
        return True


def saved(value):
    """A checkpoint that holds a number."""
    folder = tempfile.mkdtemp()
    with open(os.path.join(folder, "value"), "w") as file:
        file.write(str(value))
    return tune.Checkpoint(folder)


def loaded(checkpoint):
    """The number in it."""
    with checkpoint.as_directory() as folder, open(os.path.join(folder, "value")) as file:
        return int(file.read())


def test_a_function_reports_by_calls_returns_and_yields(where):
    def by_calls(config):
        tune.report({"score": 1})
        tune.report({"score": 2})
        return {"last": config["x"]}

    grid = tune.Tuner(by_calls, param_space={"x": tune.grid_search([5, 6])}, run_config=where()).fit()
    assert [(one.metrics["last"], one.metrics["training_iteration"], one.metrics["done"]) for one in grid] == [
        (5, 3, True), (6, 3, True),
    ]  # fmt: skip
    assert [one.config for one in grid] == [{"x": 5}, {"x": 6}] and grid.num_errors == 0

    def number(config):
        return 7

    def yields(config):
        yield {"a": 1}
        yield 2

    assert tune.Tuner(number, run_config=where(name="n")).fit()[0].metrics["_metric"] == 7
    assert tune.Tuner(yields, run_config=where(name="y")).fit()[0].metrics["_metric"] == 2


def test_a_trial_that_fails_has_its_error_and_others_go_on(where):
    def half(config):
        if config["x"] == 1:
            raise ValueError("broken")
        return {"x": config["x"]}

    grid = tune.Tuner(half, param_space={"x": tune.grid_search([0, 1, 2])}, run_config=where()).fit()
    assert grid.num_errors == 1 and grid.num_terminated == 2
    assert isinstance(grid[1].error, ValueError) and "broken" in str(grid[1].error)
    with pytest.raises(tune.TuneError, match="Trials did not complete"):
        tune.run(half, config={"x": 1}, storage_path=str(where().storage_path), name="r", verbose=0)


def test_a_failed_trial_goes_on_from_its_latest_checkpoint(where, tmp_path):
    def fails_twice(config):
        checkpoint = tune.get_checkpoint()
        begin = loaded(checkpoint) if checkpoint else 0
        for value in range(begin + 1, 6):
            tune.report({"value": value}, checkpoint=saved(value))
            if value in (2, 4) and not os.path.exists(tmp_path / str(value)):
                (tmp_path / str(value)).touch()
                os._exit(1) if value == 2 else int("x")

    config = where(
        failure_config=tune.FailureConfig(max_failures=2), checkpoint_config=tune.CheckpointConfig(num_to_keep=1)
    )
    (result,) = tune.Tuner(fails_twice, run_config=config).fit()
    assert result.error is None and result.metrics["value"] == 5 and result.metrics["training_iteration"] == 5
    assert loaded(result.checkpoint) == 5
    assert [one for one in os.listdir(result.path) if one.startswith("checkpoint_")] == ["checkpoint_000004"]


def test_a_class_saves_at_its_frequency_and_at_its_end(where):
    config = where(stop={"count": 4}, checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=3))
    (result,) = tune.Tuner(Counting, param_space={"from": 0}, run_config=config).fit()
    assert result.metrics["count"] == 4
    names = sorted(one for one in os.listdir(result.path) if one.startswith("checkpoint_"))
    assert names == ["checkpoint_000000", "checkpoint_000001"]
    assert open(os.path.join(result.checkpoint.path, "count")).read() == "4"


def test_actors_are_reused_and_a_class_that_cannot_be_reset_is_an_error(where):
    space, one_at_a_time = {"from": tune.grid_search([0, 10, 20])}, {"max_concurrent_trials": 1}
    grid = tune.Tuner(
        Counting,
        param_space=space,
        tune_config=tune.TuneConfig(reuse_actors=True, **one_at_a_time),
        run_config=where(stop={"training_iteration": 2}),
    ).fit()
    assert [one.metrics["count"] for one in grid] == [2, 12, 22]
    assert len({one.metrics["first"] for one in grid}) == 1

    class Stubborn(Counting):
        """Cannot be reset."""

        def reset_config(self, new_config):
            return False

    grid = tune.Tuner(
        Stubborn,
        param_space=space,
        tune_config=tune.TuneConfig(reuse_actors=True, **one_at_a_time),
        run_config=where(name="s", stop={"training_iteration": 2}),
    ).fit()
    assert "reset_config" in str(grid[1].error)

    def pid(config):
        return {"pid_is": os.getpid()}

    fresh = tune.Tuner(pid, param_space={"x": tune.grid_search([1, 2, 3])}, run_config=where(name="f")).fit()
    assert len({one.metrics["pid_is"] for one in fresh}) == 3


def test_a_trial_knows_itself_and_works_in_a_directory_of_its_own(where, tmp_path):
    def asks(config):
        context = tune.get_context()
        with pytest.raises(RuntimeError, match="has no ranks"):
            context.get_world_size()
        open("mine", "w").close()
        return {
            "experiment": context.get_experiment_name(),
            "name": context.get_trial_name(),
            "id": context.get_trial_id(),
            "directory": context.get_trial_dir(),
            "cpus": context.get_trial_resources().required_resources,
            "cwd": os.getcwd(),
        }

    config = where(sync_config=tune.SyncConfig(sync_artifacts=True))
    grid = tune.Tuner(
        tune.with_resources(asks, {"cpu": 2}), param_space={"x": tune.grid_search([1, 2])}, run_config=config
    ).fit()
    for one in grid:
        assert one.metrics["experiment"] == "e" and one.metrics["name"] == f"asks_{one.metrics['id']}"
        assert one.metrics["directory"] == one.path and os.path.exists(os.path.join(one.path, "mine"))
        assert one.metrics["cpus"] == {"CPU": 2.0}
    assert len({one.metrics["cwd"] for one in grid}) == 2


def test_objects_are_shared_by_reference(where):
    data = list(range(100_000))

    def total(config, data, factor=1):
        return {"sum": sum(data) * factor}

    grid = tune.Tuner(tune.with_parameters(total, data=data), run_config=where()).fit()
    assert grid[0].metrics["sum"] == sum(data)

    class Sums(Counting):
        """Takes the data in setup."""

        def setup(self, config, data=None):
            super().setup(config)
            self.total = sum(data)

        def step(self):
            return {"sum": self.total, "done": True}

    grid = tune.Tuner(tune.with_parameters(Sums, data=data), run_config=where(name="c")).fit()
    assert grid[0].metrics["sum"] == sum(data)


def test_parts_of_a_gpu_are_all_of_one_gpu(where, tmp_path):
    """Six times 0.15 are on each; what is left of two is none of a seventh."""

    def train(config):
        (tmp_path / tune.get_context().get_trial_id()).touch()
        while sum(1 for _ in tmp_path.iterdir()) < 12:
            time.sleep(0.01)
        began = time.time()
        time.sleep(0.3)
        return {"gpu": os.environ["CUDA_VISIBLE_DEVICES"], "began": began, "ended": time.time()}

    grid = tune.Tuner(
        tune.with_resources(train, {"cpu": 0, "gpu": 0.15}),
        tune_config=tune.TuneConfig(num_samples=14),
        run_config=where(storage_path=str(tmp_path.parent / "gpus")),
    ).fit()
    rows = [one.metrics for one in grid]
    for row in rows:
        beside = [other["gpu"] for other in rows if other["began"] <= row["began"] < other["ended"]]
        assert beside.count("0") <= 6 and beside.count("1") <= 6
    assert {row["gpu"] for row in rows} == {"0", "1"}


def test_a_trial_has_the_bundles_of_its_placement_group(where):
    def nested(config):
        @hpc.remote(num_cpus=1)
        def group():
            return hpc.get_runtime_context().get_placement_group_id()

        return {"same": hpc.get(group.remote()) == hpc.get_runtime_context().get_placement_group_id()}

    room = tune.PlacementGroupFactory([{"CPU": 1}, {"CPU": 1}])
    grid = tune.Tuner(
        tune.with_resources(nested, room), tune_config=tune.TuneConfig(num_samples=3), run_config=where()
    ).fit()
    assert [one.metrics["same"] for one in grid] == [True] * 3


def test_what_can_never_run_is_refused_before_anything_runs(where, tmp_path):
    def train(config):
        return {"a": 1}

    with pytest.raises(tune.TuneError, match=r"no node will ever have room for a trial of lambda.*CPU"):
        tune.Tuner(tune.with_resources(lambda config: 1, {"cpu": 99}), run_config=where()).fit()
    lock = threading.Lock()
    with pytest.raises(TypeError, match="cannot be sent to trials"):
        tune.Tuner(lambda config: lock)
    with pytest.raises(ValueError, match="param_space must be a dict"):
        tune.Tuner(train, param_space=[1])
    with pytest.raises(ValueError, match="for class trainables"):
        tune.Tuner(train, run_config=where(checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1)))
    (tmp_path / "file").touch()
    with pytest.raises(tune.TuneError, match="cannot be made"):
        tune.Tuner(train, run_config=tune.RunConfig(storage_path=str(tmp_path / "file"), verbose=0)).fit()
    assert not os.path.exists(tmp_path / "e")


def test_an_unknown_metric_is_an_error_that_names_it(where):
    def train(config):
        return {"a": 1}

    with pytest.raises(tune.TuneError, match="loss"):
        tune.Tuner(train, tune_config=tune.TuneConfig(metric="loss", mode="min"), run_config=where()).fit()


def test_a_function_runs_no_further_than_the_result_at_which_it_stops(where, tmp_path):
    def counts(config):
        for index in range(1000):
            (tmp_path / "count").write_text(str(index))
            tune.report({"i": index})

    (result,) = tune.Tuner(counts, run_config=where(stop={"i": 20})).fit()
    assert result.metrics["i"] == 20 and (tmp_path / "count").read_text() == "20"


def test_callbacks_hear_of_each_turn_and_trial(where):
    heard = []

    class Hears(tune.Callback):
        """Notes what it is told."""

        def on_step_begin(self, iteration, trials, **info):
            heard.append(("begin", iteration))

        def on_step_end(self, iteration, trials, **info):
            heard.append(("end", iteration))

        def on_trial_start(self, iteration, trials, trial, **info):
            heard.append("start")

        def on_trial_result(self, iteration, trials, trial, result, **info):
            heard.append(result["a"])

        def on_trial_complete(self, iteration, trials, trial, **info):
            heard.append("complete")

        def on_experiment_end(self, trials, **info):
            heard.append(len(trials))

    def train(config):
        tune.report({"a": 10})
        return {"a": 20}

    tune.Tuner(train, run_config=where(callbacks=[Hears()])).fit()
    assert [one for one in heard if not isinstance(one, tuple)] == ["start", 10, 20, "complete", 1]
    turns = [one for one in heard if isinstance(one, tuple)]
    count = len(turns) // 2
    assert turns[: 2 * count] == [(what, number) for number in range(1, count + 1) for what in ("begin", "end")]


def test_a_time_budget_ends_what_runs(where):
    def endless(config):
        index = 0
        while True:
            index += 1
            time.sleep(0.01)
            tune.report({"i": index})

    began = time.monotonic()
    grid = tune.Tuner(endless, tune_config=tune.TuneConfig(num_samples=2, time_budget_s=3.0), run_config=where()).fit()
    assert time.monotonic() - began > 3.0 and grid.num_errors == 0 and all(one.metrics["i"] > 1 for one in grid)


def test_ctrl_c_ends_in_order_and_the_same_name_goes_on(where):
    def slow(config):
        checkpoint = tune.get_checkpoint()
        begin = loaded(checkpoint) if checkpoint else 0
        for value in range(begin + 1, 40):
            time.sleep(0.05)
            tune.report({"value": value, "pid_is": os.getpid()}, checkpoint=saved(value))

    third = threading.Event()

    class Hears(tune.Callback):
        def on_trial_result(self, iteration, trials, trial, result, **info):
            if result["value"] == 3:
                third.set()

    interrupt = threading.Thread(target=lambda: third.wait(60) and os.kill(os.getpid(), signal.SIGINT))
    interrupt.start()
    (first,) = tune.Tuner(slow, run_config=where(callbacks=[Hears()])).fit()
    interrupt.join()
    assert 0 < first.metrics["value"] < 39
    (second,) = tune.Tuner(slow, run_config=where()).fit()
    assert second.metrics["value"] == 39 and second.metrics["training_iteration"] == 39
    assert second.metrics["iterations_since_restore"] < 39


def test_no_more_trials_run_than_there_is_room_for(where, tmp_path):
    gate = tmp_path / "gate"

    class Counts(tune.Callback):
        most = 0

        def on_step_end(self, iteration, trials, **info):
            self.most = max(self.most, sum(trial.status == "RUNNING" for trial in trials))
            if self.most == 4:
                gate.touch()

    def train(config):
        eventually(gate.exists)
        time.sleep(0.05)
        return {"a": 1}

    counts = Counts()
    grid = tune.Tuner(train, tune_config=tune.TuneConfig(num_samples=24), run_config=where(callbacks=[counts])).fit()
    assert len(grid) == 24 and grid.num_errors == 0
    assert counts.most == 4


def test_a_trial_whose_process_has_not_come_is_ended_at_once(where, tmp_path):
    @hpc.remote(num_cpus=1)
    class Guest:
        """Takes room that a trial waits for."""

        def here(self):
            return True

    def train(config):
        return {"a": 1}

    plan, shape = make_plan(train, run_config=where()), tune.PlacementGroupFactory([{"CPU": 4}])
    work = Work("0", "train_0", "train_0", {}, shape)
    for is_function in (True, False):
        seats = Seats(plan.data, Experiment(str(tmp_path), "e", ""), is_function, reuse=False)
        seats.reserve(1, shape)
        assert [answer.kind for answer in seats.wait(60)] == ["reserve"]
        seats.start(1, work)
        assert [answer.kind for answer in seats.wait(60)] == ["start"]
        guest = Guest.remote()
        seats.stop(1)
        assert [answer.kind for answer in seats.wait(60)] == ["stop"]
        hpc.get(guest.here.remote(), timeout=60)
        seats.start(1, work)  # of a process for which there is no room
        seats.stop(1)
        assert seats.wait(60) == [Answer(1, "stop")]
        seats.close()
        hpc.kill(guest)


def test_what_ends_with_the_session_is_no_failure_of_its_trial(where, tmp_path):
    def drains_once():
        if (tmp_path / "drained").exists():
            return
        (tmp_path / "drained").touch()
        raise Drained("the session ends, as a trainer in the trial says")

    def train(config):
        drains_once()
        return {"a": 1}

    class Train(tune.Trainable):
        def step(self):
            drains_once()
            return {"a": 1, "done": True}

        def save_checkpoint(self, checkpoint_dir):
            return {}

    for trainable, name in ((train, "function"), (Train, "class")):
        (result,) = tune.Tuner(trainable, run_config=where(name=name)).fit()
        assert result.error is None and result.metrics["a"] == 1
        (tmp_path / "drained").unlink()
    assert not list(tmp_path.rglob("error.*"))


def test_a_process_for_a_trial_finds_what_it_imports_made_by_its_node():
    @hpc.remote
    class Fresh:
        def has(self):
            return "hpc.tune.worker" in sys.modules

    def found():
        fresh = Fresh.remote()
        try:
            return hpc.get(fresh.has.remote())
        finally:
            hpc.kill(fresh)
            time.sleep(0.3)  # the zygote imports it when nothing was asked for so long

    assert eventually(found)

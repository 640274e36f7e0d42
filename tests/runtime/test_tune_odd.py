"""What users give by mistake, or at a bad moment, ends in an error that says what to do, and loses nothing."""

from __future__ import annotations

import threading
import time
from decimal import Decimal

import pytest

from hpc import tune
from hpc.runs import uploading
from hpc.tune import events, journal, ledger, seats, walltime
from hpc.tune.registry import as_class, dumps
from hpc.tune.search import Searcher
from hpc.tune.worker import Experiment, Work
from runtime.running import one_node


@pytest.fixture(scope="module", autouse=True)
def session():
    with one_node(num_cpus=4):
        yield


@pytest.fixture
def where(tmp_path):
    """The options of a quiet experiment in a directory of its own."""
    return lambda **more: tune.RunConfig(storage_path=str(tmp_path), **{"name": "e", "verbose": 0, **more})


def test_a_trial_whose_own_resources_no_node_has_fails_and_the_others_run(where):
    trainable = tune.with_resources(lambda config: {"a": 1}, lambda config: {"cpu": config["cpus"]})
    grid = tune.Tuner(trainable, param_space={"cpus": tune.grid_search([1, 50, 2, 70])}, run_config=where()).fit()
    assert [one.error is None for one in grid] == [True, False, True, False]
    assert "no node will ever have room" in str(grid[1].error)


class Absurd:
    """Has no text."""

    def __repr__(self):
        raise RuntimeError("no")


def test_no_value_that_a_trial_reports_ends_the_experiment(where):
    odd = [10**400, "\ud800", Absurd(), {1: 2, None: {(1, 2): 3}}, 1j, Decimal("0.1"), float("inf")]

    def train(config):
        tune.report({"value": odd[config["which"]], "score": 1})
        tune.report({"value": odd[config["which"]], "score": 2})

    space = {"which": tune.grid_search(list(range(len(odd))))}
    config = tune.TuneConfig(metric="score", mode="max")
    grid = tune.Tuner(train, param_space=space, tune_config=config, run_config=where(verbose=2)).fit()
    assert grid.get_best_result("value", "max", filter_nan_and_inf=False).metrics["value"] == float("inf")
    assert len(grid.get_dataframe()) == len(odd)
    assert [(one.error, one.metrics["score"]) for one in grid] == [(None, 2)] * len(odd)

    def counts(config):
        tune.report({"score": 1, "training_iteration": "first"})

    grid = tune.Tuner(counts, run_config=where(name="counts")).fit()
    assert "training_iteration is counted, or reported as a number" in str(grid[0].error)


def test_a_metric_that_is_no_number_is_an_error_that_names_it(where):
    for number, value in enumerate([None, "good", [1.0]]):

        def train(config, value=value):
            tune.report({"score": value})

        config = tune.TuneConfig(metric="score", mode="max", scheduler=tune.schedulers.ASHAScheduler())
        with pytest.raises(
            tune.TuneError, match=r"as 'score', which AsyncHyperBandScheduler compares: report a number"
        ):
            tune.Tuner(train, tune_config=config, run_config=where(name=f"e{number}")).fit()
    with pytest.raises(tune.TuneError, match=r"stop=\{'score': 1\} cannot be compared with the str"):
        tune.Tuner(lambda config: {"score": "good"}, run_config=where(name="stop", stop={"score": 1})).fit()


def test_what_no_trial_can_be_sent_is_named(where, tmp_path):
    def train(config):
        return {"a": 1}

    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"`a/b` of param_space cannot be sent to trials"):
        tune.Tuner(train, param_space={"a": {"b": lock}}, run_config=where())
    with pytest.raises(ValueError, match=r"grid_search of whole configurations, and 1 is no dict"):
        tune.Tuner(train, param_space=tune.grid_search([{"a": 1}, 1]), run_config=where())
    assert not (tmp_path / "e").exists()
    tuner = tune.Tuner(train, param_space={"a": tune.choice([lock])}, run_config=where())
    with pytest.raises(TypeError, match=r"the configuration of trial train_.* cannot be sent to it"):
        tuner.fit()
    with pytest.raises(tune.TuneError, match=r"cannot go on: its configuration .* another name"):
        tune.Tuner(train, param_space={"a": 1}, run_config=where()).fit()


class Forgetful(Searcher):
    """Written for Ray as its pages show it: nothing is saved."""

    def suggest(self, trial_id):
        return {"x": 1}

    def on_trial_complete(self, trial_id, result=None, error=False):
        pass

    def save(self, checkpoint_path):
        pass

    def restore(self, checkpoint_path):
        raise AssertionError("there is nothing to be restored")


def test_a_searcher_that_saves_nothing_searches_and_goes_on(where):
    for samples in (2, 3):
        config = tune.TuneConfig(metric="a", mode="max", search_alg=Forgetful(), num_samples=samples)
        grid = tune.Tuner(lambda config: {"a": config["x"]}, tune_config=config, run_config=where()).fit()
        assert len(grid) == samples and not grid.num_errors


def test_an_experiment_that_another_driver_ends_meanwhile_keeps_all_its_facts(where, tmp_path, monkeypatch):
    begun, ended = threading.Event(), threading.Event()
    plain = ledger.resume

    def slow(engine, facts, *given, **named):
        facts = list(facts)
        begun.set()
        ended.wait(60)
        return plain(engine, facts, *given, **named)

    def train(config):
        return {"a": 1}

    def fit(samples, found):
        config = tune.TuneConfig(num_samples=samples)
        try:
            found.append(len(tune.Tuner(train, tune_config=config, run_config=where()).fit()))
        except tune.TuneError as error:
            found.append(str(error))

    fit(1, first := [])
    monkeypatch.setattr(ledger, "resume", slow)
    thread = threading.Thread(target=fit, args=(2, second := []))
    thread.start()
    assert begun.wait(60)
    monkeypatch.setattr(ledger, "resume", plain)
    fit(3, third := [])
    ended.set()
    thread.join(60)
    assert first == [1] and second == [2] and "another driver" in third[0]


def test_what_is_told_to_end_when_the_time_is_over_is_killed_soon(where, tmp_path, monkeypatch):
    def hangs(config):
        tune.report({"a": 1})
        (tmp_path / "runs").touch()
        time.sleep(600)

    began = []

    def look(self):
        if self._told or not (tmp_path / "runs").exists():
            return None
        self._told = True
        began.append(time.monotonic())
        return events.WindDown("the session ends", self._clock() + 6.0)

    monkeypatch.setattr(seats, "LAST_S", 0.2)
    monkeypatch.setattr(walltime.Walltime, "look", look)
    grid = tune.Tuner(hangs, run_config=where()).fit()
    assert len(grid) == 1 and not grid.num_terminated
    assert time.monotonic() - began[0] < 11.5, "6 s for the step, and not as many again to end"


def test_an_experiment_whose_first_driver_was_killed_as_it_began_can_be_restored(where, tmp_path):
    def train(config):
        return {"a": config["x"]}

    (tmp_path / "e").mkdir()
    (tmp_path / "e" / journal.FILE).write_bytes(journal.MAGIC)
    assert len(tune.Tuner(train, param_space={"x": 5}, run_config=where()).fit()) == 1
    assert tune.Tuner.restore(str(tmp_path / "e"), train).fit()[0].metrics["a"] == 5


def test_the_mark_of_another_driver_in_the_directory_stays(where, tmp_path):
    mark = tmp_path / "e" / uploading.MARKER_FILE

    def train(config):
        mark.write_text("another driver's")

    assert not tune.Tuner(train, run_config=where()).fit().num_errors
    assert mark.read_text() == "another driver's"
    assert not tune.Tuner(lambda config: None, run_config=where(name="own")).fit().num_errors
    assert not (tmp_path / "own" / uploading.MARKER_FILE).exists()


def test_a_trial_does_not_wait_for_the_room_that_an_idle_process_holds(tmp_path):
    rooms = seats.Seats(
        dumps(as_class(lambda config: {"a": 1})), Experiment(str(tmp_path), "e", "token"), is_function=True, reuse=True
    )
    shape = tune.PlacementGroupFactory([{"CPU": 4}])
    rooms.reserve(1, shape)
    assert [one.kind for one in rooms.wait(60)] == ["reserve"]
    rooms._seats[2] = seats.Seat(2, shape)  # its process has failed, and the first one has got its room
    rooms.start(2, Work("t", "t", "t", {}, shape))
    answers = rooms.wait(60)
    rooms.kill()
    assert [(one.seat, one.kind, one.error) for one in answers] == [(2, "start", None)]


class Raising(tune.Callback):
    """Raises an error at the first result."""

    def on_trial_result(self, iteration, trials, trial, result, **info):
        raise KeyError("a mistake of the user's")


def test_an_error_of_a_callback_loses_no_result(where, tmp_path):
    def train(config):
        with open(tmp_path / "runs", "a") as file:
            file.write("x")
        tune.report({"a": 1})
        return {"a": 2}

    with pytest.raises(KeyError, match="a mistake of the user's"):
        tune.Tuner(train, run_config=where(callbacks=[Raising()])).fit()
    (result,) = tune.Tuner(train, run_config=where()).fit()
    runs = len((tmp_path / "runs").read_text())
    assert list(result.metrics_dataframe["a"]) == {1: [1, 2], 2: [1, 1, 2]}[runs], (
        "the first result is there in any case"
    )


def test_a_thread_that_a_trial_has_left_behind_reports_into_no_other_one(where, tmp_path):
    def train(config):
        if config["x"] == 0:
            threading.Thread(target=late, args=(tmp_path,), daemon=True).start()
            return {"mine": 0}
        tune.report({"mine": 1})
        (tmp_path / "second").touch()
        while not (tmp_path / "late").exists():
            time.sleep(0.01)
        return {"mine": 2}

    def late(folder):
        while not (folder / "second").exists():
            time.sleep(0.01)
        try:
            tune.report({"mine": 99})
        except RuntimeError as error:
            (folder / "late").write_text(str(error))

    config = tune.TuneConfig(reuse_actors=True, max_concurrent_trials=1)
    grid = tune.Tuner(train, param_space={"x": tune.grid_search([0, 1])}, tune_config=config, run_config=where()).fit()
    assert [list(one.metrics_dataframe["mine"]) for one in grid] == [[0], [1, 2]]
    assert "in a thread that a trial has left behind" in (tmp_path / "late").read_text()


def test_the_newest_checkpoint_is_no_best_one_beyond_num_to_keep(where, tmp_path):
    def train(config):
        for score in (5, 4, 3):
            (tmp_path / str(score)).mkdir()
            (tmp_path / str(score) / "score").write_text(str(score))
            tune.report({"score": score}, checkpoint=tune.Checkpoint(str(tmp_path / str(score))))

    keeps = tune.CheckpointConfig(num_to_keep=2, checkpoint_score_attribute="score")
    fitted = tune.Tuner(train, run_config=where(checkpoint_config=keeps)).fit()
    path = str(tmp_path / "e")
    for result in (fitted[0], tune.Tuner.restore(path, train).get_results()[0]):
        assert [metrics["score"] for _, metrics in result.best_checkpoints] == [4, 5]
        assert result.checkpoint.path.endswith("checkpoint_000002")
    analysis = tune.ExperimentAnalysis(path)
    (trial,) = analysis.trials
    assert analysis.get_best_checkpoint(trial, "score", "min").path.endswith("checkpoint_000001")


def test_trials_of_one_directory_name_have_directories_of_their_own(where):
    def fit(samples):
        config = tune.TuneConfig(trial_dirname_creator=lambda trial: "same", num_samples=samples)
        return tune.Tuner(lambda config: {"a": 1}, tune_config=config, run_config=where()).fit()

    paths = [one.path for one in fit(2)] + [one.path for one in fit(3)][2:]
    assert len(set(paths)) == 3 and paths[0].endswith("/same") and paths[2].rpartition("/")[2].startswith("same_")


def test_a_lambda_has_a_name_that_a_directory_can_have(where):
    grid = tune.Tuner(lambda config: {"a": 1}, run_config=where(name=None)).fit()
    assert grid.experiment_path.rpartition("/")[2].startswith("lambda_") and "/lambda_" in grid[0].path

"""OptunaSearch: each sampler, several aims, functions as spaces, points, and a state that goes on as if nothing was."""

from __future__ import annotations

import math
import os
import pickle
import warnings
from typing import Any

import pytest

from hpc.tune import space as tune
from hpc.tune.events import Suggested
from hpc.tune.search.preparing import prepare

optuna = pytest.importorskip("optuna", reason="needs Optuna: pip install optuna")
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

from hpc.tune.search import ConcurrencyLimiter  # noqa: E402
from hpc.tune.search.optuna import OptunaSearch  # noqa: E402

SPACE = {
    "a": tune.uniform(-5, 5),
    "deep": {"lr": tune.loguniform(1e-4, 1e-1), "n": tune.randint(1, 9)},
    "list": [tune.uniform(0, 1), "kept", tune.choice(["x", "y"])],
    "constant": 7,
}


@pytest.fixture(autouse=True)
def quiet():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


def loss(config: dict[str, Any]) -> float:
    return (config["a"] - 1) ** 2 + abs(math.log10(config["deep"]["lr"]) + 2) + abs(config["deep"]["n"] - 4)


def trial_by_trial(search, count: int = 10, value=loss) -> list:
    made = []
    while len(made) < count and isinstance(found := search.suggest_next(1), Suggested):
        (one,) = found.suggestions
        search.on_trial_result(one.trial_id, {"loss": value(one.config), "training_iteration": 1})
        search.on_trial_complete(one.trial_id, {"loss": value(one.config), "training_iteration": 2})
        made.append(one)
    return made


def begun(search, space=SPACE, num_samples: int = 40, metric: Any = "loss", mode: Any = "min"):
    return prepare(search, space, num_samples=num_samples, metric=metric, mode=mode)


SAMPLERS = {
    "TPE": lambda: optuna.samplers.TPESampler(seed=3, n_startup_trials=4),
    "CMA-ES": lambda: optuna.samplers.CmaEsSampler(seed=3, n_startup_trials=2, warn_independent_sampling=False),
    "GP": lambda: optuna.samplers.GPSampler(seed=3, n_startup_trials=3),
    "QMC": lambda: optuna.samplers.QMCSampler(seed=3, warn_independent_sampling=False),
    "random": lambda: optuna.samplers.RandomSampler(seed=3),
}


SLOW = pytest.mark.skipif(not os.environ.get("HPC_TEST_SLOW"), reason="takes seconds: HPC_TEST_SLOW=1 runs it")
#: The Gaussian process fits for a second or more.
QUICK = [pytest.param(name, marks=[SLOW] if name == "GP" else []) for name in SAMPLERS]


def sampler(name: str):
    if name == "CMA-ES":
        pytest.importorskip("cmaes", reason="needs the package cmaes: pip install cmaes")
    if name == "GP":
        pytest.importorskip("torch", reason="the Gaussian process of Optuna needs PyTorch")
    return SAMPLERS[name]()


@pytest.mark.parametrize("name", QUICK)
def test_the_trials_of_a_sampler_are_those_of_optuna_alone(name):
    space = {"a": tune.uniform(-5, 5), "b": tune.randint(0, 9)}
    distributions = {
        "a": optuna.distributions.FloatDistribution(-5, 5),
        "b": optuna.distributions.IntDistribution(0, 8),
    }

    def value(config):
        return config["a"] ** 2 + config["b"]

    count = 6 if name == "GP" else 20
    made = trial_by_trial(begun(OptunaSearch(sampler=sampler(name)), space), count, value)
    study = optuna.create_study(sampler=sampler(name))
    for one in made:
        trial = study.ask(fixed_distributions=distributions)
        assert one.config == trial.params
        study.tell(trial, value(trial.params))


@pytest.mark.parametrize("name", QUICK)
def test_points_come_first_under_each_sampler_and_a_state_goes_on_with_the_same_trials(name):
    points = [{"a": 2.0, "deep": {"lr": 0.01, "n": 3}, "list": [0.5, "kept", "y"]}, {"a": -1.0, "deep/n": 8}]

    def search():
        return begun(OptunaSearch(points_to_evaluate=points, sampler=sampler(name)))

    whole = search()
    made = trial_by_trial(whole, 8)
    assert made[0].config == {"a": 2.0, "deep": {"lr": 0.01, "n": 3}, "list": [0.5, "kept", "y"], "constant": 7}
    assert made[1].config["a"] == -1.0 and made[1].config["deep"]["n"] == 8
    for cut in (1, 5):
        first = search()
        trial_by_trial(first, cut)
        running = first.suggest_next(1).suggestions[0]
        state = pickle.dumps(first.state())
        again = search()
        again.load(pickle.loads(state))
        for one in (first, again):
            one.on_trial_complete(running.trial_id, {"loss": loss(running.config), "training_iteration": 2})
        rest = [one.config for one in trial_by_trial(again, 2)]
        assert rest == [one.config for one in trial_by_trial(first, 2)]
        assert [running.config, *rest] == [one.config for one in made[cut : cut + 3]]


def test_each_domain_becomes_a_distribution_and_values_come_back_in_its_type():
    space = {
        "f": tune.uniform(0, 1),
        "qf": tune.quniform(0, 1, 0.25),
        "log": tune.loguniform(1e-3, 1),
        "qlog": tune.qloguniform(0.1, 1, 0.1),
        "i": tune.randint(0, 5),
        "qi": tune.qrandint(3, 20, 4),
        "logi": tune.lograndint(1, 100),
        "qlogi": tune.qlograndint(2, 100, 2),
        "c": tune.choice(["a", 1, None]),
        "lists": tune.choice([[1, 2], {"k": 3}, (4,)]),
    }
    kinds = OptunaSearch.convert_search_space(space)
    assert kinds["i"] == optuna.distributions.IntDistribution(0, 4)
    assert kinds["qi"] == optuna.distributions.IntDistribution(4, 20, step=4)
    assert kinds["logi"] == optuna.distributions.IntDistribution(1, 99, log=True)
    assert kinds["qf"] == optuna.distributions.FloatDistribution(0, 1, step=0.25)
    search = begun(OptunaSearch(seed=1), space, 60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = trial_by_trial(search, 60, lambda config: config["f"])
    for one in (each.config for each in made):
        assert type(one["i"]) is int and one["i"] <= 4 and one["qi"] in (4, 8, 12, 16, 20)
        assert type(one["qlogi"]) is int and one["qlogi"] % 2 == 0 and 2 <= one["qlogi"] <= 100
        assert math.isclose(one["qlog"] / 0.1, round(one["qlog"] / 0.1)) and 0.1 <= one["qlog"] <= 1
        assert one["qf"] in (0, 0.25, 0.5, 0.75, 1) and one["lists"] in ([1, 2], {"k": 3}, (4,))
    assert {str(one.config["lists"]) for one in made} == {"[1, 2]", "{'k': 3}", "(4,)"}


@pytest.mark.parametrize("kind", ["NSGAIISampler", "NSGAIIISampler", "TPESampler"])
def test_several_aims_find_the_front(kind):
    space = {"x": optuna.distributions.FloatDistribution(0, 2)}
    sampler = getattr(optuna.samplers, kind)(seed=1)
    search = OptunaSearch(space, metric=["one", "two"], mode=["min", "max"], sampler=sampler)
    generator = prepare(search, {"constant": 1}, num_samples=30)
    for _ in range(30):
        (one,) = generator.suggest_next(1).suggestions
        assert one.config["constant"] == 1
        x = one.config["x"]
        generator.on_trial_result(one.trial_id, {"one": x, "two": x, "training_iteration": 1})
        generator.on_trial_complete(one.trial_id, {"one": x**2, "two": -((x - 2) ** 2)})
    assert len(search._study.best_trials) > 5


def test_a_function_is_a_space_and_its_points_are_tried():
    def space(trial):
        kind = trial.suggest_categorical("kind", ["a", "b"])
        if kind == "a":
            trial.suggest_float("deep/x", 0, 1)
        return {"constant": 3}

    points = [{"kind": "a", "deep": {"x": 0.25}}]
    search = OptunaSearch(space, metric="loss", mode="min", points_to_evaluate=points, seed=2)
    made = trial_by_trial(prepare(search, {}, num_samples=12), 12, lambda config: 1.0)
    assert made[0].config == {"kind": "a", "deep": {"x": 0.25}, "constant": 3}
    assert any("deep" not in one.config for one in made)
    search.add_evaluated_point({"kind": "a", "deep": {"x": 0.5}}, 0.1)
    assert search._study.best_trial.params == {"kind": "a", "deep/x": 0.5}
    for returned in (5, {1: 2}):
        wrong = OptunaSearch(lambda trial, returned=returned: returned, metric="loss", mode="min")
        with pytest.raises(TypeError, match="dict with texts as keys"):
            wrong.suggest("a")


def test_points_with_values_are_learnt_and_not_tried():
    points = [{"a": 1.0, "b": "x"}, {"a": 2.0, "b": "y"}]
    space = {"a": tune.uniform(0, 5), "b": tune.choice(["x", "y"])}
    search = OptunaSearch(space, "loss", "min", points, evaluated_rewards=[0.9, 0.4])
    assert search._study.best_value == 0.4 and search.suggest("t") not in points
    search.add_evaluated_point({"a": 3.0, "b": "x"}, 0.1, pruned=True, intermediate_values=[3, 0.1])
    search.add_evaluated_point({"a": 3.0, "b": "x"}, 0.1, error=True)
    states = [one.state.name for one in search._study.trials]
    assert states == ["COMPLETE", "COMPLETE", "RUNNING", "PRUNED", "FAIL"]


def test_what_became_of_a_trial_is_its_state_in_the_study():
    search = begun(OptunaSearch())
    ids = [search.suggest_next(1).suggestions[0].trial_id for _ in range(6)]
    search.on_trial_result(ids[0], {"loss": 3.0, "training_iteration": 1})
    search.on_trial_result(ids[0], {"other": 3.0, "training_iteration": 2})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search.on_trial_result(ids[0], {"loss": 4.0, "training_iteration": 1})
    search.on_trial_complete(ids[0], {"loss": 1.0, "training_iteration": 2})
    search.on_trial_complete(ids[1], {"other": 1.0})
    search.on_trial_complete(ids[2], error=True)
    search.on_trial_complete(ids[3], {"loss": float("nan")})
    search.on_trial_complete(ids[4], {"loss": 1.0}, error=True)
    search.on_trial_complete(ids[0], {"loss": 5.0})
    trials = search.innermost._study.trials
    assert [one.state.name for one in trials] == ["COMPLETE", "PRUNED", "FAIL", "FAIL", "FAIL", "RUNNING"]
    assert trials[0].intermediate_values == {1: 3.0} and trials[0].value == 1.0


def test_a_point_that_was_given_after_the_state_is_not_given_again():
    points = [{"a": 1.0}, {"a": 2.0}]
    first = begun(OptunaSearch(points_to_evaluate=points, seed=1))
    state = pickle.dumps(first.state())
    later = [first.suggest_next(1).suggestions[0] for _ in range(3)]
    again = begun(OptunaSearch(points_to_evaluate=points, seed=1))
    again.load(pickle.loads(state))
    for one in later:
        again.adopt(one)
        again.on_trial_complete(one.trial_id, {"loss": loss(one.config)})
    study = again.innermost._study
    assert [one.state.name for one in study.trials] == ["COMPLETE"] * 3
    assert study.trials[2].params["deep/n"] == later[2].config["deep"]["n"]
    assert again.suggest_next(1).suggestions[0].config["a"] not in (1.0, 2.0)


def test_a_study_of_the_users_own_storage_is_gone_on_with(tmp_path):
    storage = optuna.storages.InMemoryStorage()
    for _ in range(2):
        trial_by_trial(begun(OptunaSearch(storage=storage, study_name="mine", seed=1)), 3)
    assert len(optuna.load_study(study_name="mine", storage=storage).trials) == 6
    path = str(tmp_path / "state")
    search = begun(OptunaSearch(seed=1))
    trial_by_trial(search, 3)
    search.innermost.save(path)
    other = OptunaSearch(seed=1)
    other.restore(path)
    assert len(other._study.trials) == 3


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: OptunaSearch(space=[1]), "dict of distributions"),
        (lambda: OptunaSearch(space={"a": 5}), "no distribution of Optuna"),
        (lambda: OptunaSearch(space={"a": tune.grid_search([1])}), "grid_search of `a` cannot be with OptunaSearch"),
        (lambda: OptunaSearch(space={"a": tune.sample_from(lambda: 1)}), "knows no such domain"),
        (lambda: OptunaSearch(space={"a": tune.randn(0, 1)}), "normal distribution"),
        (lambda: OptunaSearch(space={"a/b": tune.uniform(0, 1)}), "has a '/' in it"),
        (lambda: OptunaSearch(metric=["a", "b"], mode="min"), "two texts or two lists"),
        (lambda: OptunaSearch(metric="a", mode="upwards"), "mode has to be"),
        (lambda: OptunaSearch(sampler="TPE"), "object of optuna.samplers"),
        (lambda: OptunaSearch(storage="sqlite://"), "object of optuna.storages"),
        (lambda: OptunaSearch(evaluated_rewards=[1]), "1 values for 0 points"),
        (lambda: begun(OptunaSearch(points_to_evaluate=[{"zz": 1}])), "value 1 for `zz`"),
        (lambda: begun(OptunaSearch(points_to_evaluate=[{"constant": 8}])), "value 8 for `constant`"),
        (lambda: begun(OptunaSearch(points_to_evaluate=[{"a": 1.0}], evaluated_rewards=[3])), "lacks `deep/lr`"),
        (lambda: begun(OptunaSearch(), mode=None), "has no mode"),
        (lambda: begun(OptunaSearch(), metric=None, mode=["min", "max"]), "no metrics"),
        (lambda: begun(OptunaSearch({"x": tune.uniform(0, 1)}, "loss", "min")), "a space of its own"),
        (lambda: OptunaSearch({"x": tune.choice([[1], [2]])}, "m", "min", [{"x": [3]}]), "not among the values"),
    ],
)
def test_what_cannot_be_is_an_error_before_anything_runs(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_a_search_without_a_space_says_where_to_give_one():
    with pytest.raises(RuntimeError, match="give the Tuner a param_space"):
        OptunaSearch(metric="loss", mode="min").suggest("a")
    with pytest.raises(TypeError, match="list of dicts"):
        OptunaSearch(points_to_evaluate={"a": 1})


def test_metric_and_mode_of_the_experiment_reach_the_study():
    search = ConcurrencyLimiter(OptunaSearch({"x": tune.uniform(0, 1)}), 2)
    generator = prepare(search, {}, num_samples=3, metric="score", mode="max")
    assert generator.metric == "score" and search.searcher._study.direction.name == "MAXIMIZE"
    only_mode = begun(OptunaSearch(), metric=None)
    assert only_mode.metric == "_metric"


def test_sixty_trials_by_tpe_and_by_cma_es_are_as_good_as_optuna_alone():
    pytest.importorskip("cmaes", reason="needs the package cmaes: pip install cmaes")

    def value(config):
        return sum((index + 1) * (config[name] - index) ** 2 for index, name in enumerate("abcd"))

    space = {name: tune.uniform(-5, 5) for name in "abcd"}
    distributions = {name: optuna.distributions.FloatDistribution(-5, 5) for name in "abcd"}
    for seed in range(2):
        for kind in (
            lambda seed: optuna.samplers.TPESampler(seed=seed),
            lambda seed: optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False),
        ):
            ours = [
                value(one.config)
                for one in trial_by_trial(begun(OptunaSearch(sampler=kind(seed)), space, 60), 60, value)
            ]
            study = optuna.create_study(sampler=kind(seed))
            for _ in range(60):
                trial = study.ask(fixed_distributions=distributions)
                study.tell(trial, value(trial.params))
            assert len(ours) == 60 and min(ours) <= study.best_value

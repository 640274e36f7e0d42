"""BOHB, and searchers of other libraries: each learns, keeps its state, tries points, and says what it cannot do."""

from __future__ import annotations

import importlib.util
import math
import os
import pickle
import statistics
import sys
from typing import Any

import numpy as np
import pytest

from hpc.tune import space as tune
from hpc.tune.events import NothingNow, Suggested
from hpc.tune.search import ConcurrencyLimiter, create_searcher
from hpc.tune.search.bohb import TuneBOHB
from hpc.tune.search.preparing import prepare

SPACE = {
    "a": tune.uniform(-5, 5),
    "deep": {"lr": tune.loguniform(1e-4, 1e-1), "n": tune.randint(1, 9)},
    "kind": tune.choice(["x", "y"]),
    "constant": 7,
}
FLOATS = {"a": tune.uniform(-5, 5), "deep": {"b": tune.uniform(0, 1)}, "constant": 7}
POINT = {"a": 2.0, "deep": {"lr": 0.01, "n": 3}, "kind": "y"}
FLOAT_POINT = {"a": 2.0, "deep": {"b": 0.5}}


def loss(config: dict[str, Any]) -> float:
    if "b" in config["deep"]:
        return (config["a"] - 1) ** 2 + config["deep"]["b"]
    return (config["a"] - 1) ** 2 + abs(math.log10(config["deep"]["lr"]) + 2) + abs(config["deep"]["n"] - 4)


def trial_by_trial(search, count: int) -> list:
    made = []
    while len(made) < count and isinstance(found := search.suggest_next(1), Suggested):
        (one,) = found.suggestions
        search.on_trial_result(one.trial_id, {"loss": loss(one.config), "training_iteration": 1})
        search.on_trial_complete(one.trial_id, {"loss": loss(one.config), "training_iteration": 1})
        made.append(one)
    return made


def adapter(name: str, **options):
    """The searcher, its space, and a point of it. Skips where its library is not installed."""
    module = {"bayesopt": "bayes_opt"}.get(name, name)
    if name != "bohb" and importlib.util.find_spec(module) is None:
        pytest.skip(f"needs the library {module}, which is not installed")
    own: dict[str, Any] = {}
    if name == "nevergrad":
        own["optimizer"] = importlib.import_module("nevergrad").optimizers.OnePlusOne
    elif name == "ax":
        pytest.importorskip("ax.api.client", reason="needs ax-platform 1.0 or newer")
        own.update(method="random_search", random_seed=1)
    elif name == "bayesopt":
        own["random_search_steps"] = 3
    elif name == "hyperopt":
        own.update(random_state_seed=1, n_initial_points=4)
    else:
        own["seed"] = 1
    space, point = (FLOATS, FLOAT_POINT) if name == "bayesopt" else (SPACE, POINT)
    return create_searcher(name, **own, **options), space, point


SLOW = pytest.mark.skipif(not os.environ.get("HPC_TEST_SLOW"), reason="takes seconds: HPC_TEST_SLOW=1 runs it")
#: Most of these take seconds to import or to fit.
ADAPTERS = [
    "bohb",
    *(pytest.param(name, marks=SLOW) for name in ("hyperopt", "nevergrad", "bayesopt", "ax")),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_tries_points_keeps_to_the_space_and_goes_on_from_its_state(name):
    searcher, space, point = adapter(name, points_to_evaluate=[adapter(name)[2]])
    search = prepare(searcher, space, num_samples=30, metric="loss", mode="min")
    made = trial_by_trial(search, 6)
    assert made[0].config == {**point, "constant": 7}
    for one in made:
        assert -5 <= one.config["a"] <= 5 and type(one.config["a"]) is float
        if name != "bayesopt":
            assert type(one.config["deep"]["n"]) is int and 1 <= one.config["deep"]["n"] <= 8
            assert 1e-4 <= one.config["deep"]["lr"] <= 1e-1 and one.config["kind"] in ("x", "y")
    # bayes_opt finds one point twice if it learns nothing in between.
    running = [search.suggest_next(1).suggestions[0] for _ in range(1 if name == "bayesopt" else 3)]
    state = pickle.dumps(search.state())
    again = prepare(adapter(name)[0], space, num_samples=30, metric="loss", mode="min")
    again.load(pickle.loads(state))
    ends: list[tuple[Any, bool]] = [({"loss": 0.3}, False), (None, True), ({"loss": math.nan}, False)]
    for one in (search, again):
        for trial, (result, error) in zip(running, ends):
            one.on_trial_complete(trial.trial_id, result, error)
    first, second = trial_by_trial(search, 2), trial_by_trial(again, 2)
    assert len(second) == 2
    assert [one.config for one in first] == [one.config for one in second]
    searcher.add_evaluated_point(point, 0.5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_says_what_cannot_be_before_anything_runs(name):
    def begin(space, **options):
        mode = options.pop("mode", "min")
        return prepare(adapter(name, **options)[0], space, num_samples=3, metric="loss", mode=mode)

    space = adapter(name)[1]
    for wrong, text in [
        ({"a": tune.grid_search([1])}, "grid_search of `a` cannot be with"),
        ({"a": tune.sample_from(lambda: 3)}, "knows no such domain"),
        ({"x/y": tune.uniform(0, 1)}, "has a '/'"),
    ]:
        with pytest.raises(ValueError, match=text):
            begin(wrong)
    with pytest.raises(ValueError, match="no parameter of"):
        begin(space, points_to_evaluate=[{"zz": 1}])
    with pytest.raises(ValueError, match="needs all parameters in a point"):
        begin(space, points_to_evaluate=[{"a": 1.0}])
    with pytest.raises(ValueError, match="not between the bounds of `a`"):
        begin(space, points_to_evaluate=[{**adapter(name)[2], "a": 50.0}])
    with pytest.raises(ValueError, match="has no mode"):
        begin(space, mode=None)
    with pytest.raises(ValueError, match="has one aim"):
        prepare(adapter(name)[0], space, metric=["a", "b"], mode=["min", "max"])
    with pytest.raises(RuntimeError, match="give the Tuner a param_space"):
        adapter(name, metric="loss", mode="min")[0].suggest("t")
    with pytest.raises(ValueError, match="has no domains"):
        adapter(name, metric="loss", mode="min", space={"a": 1})
    with pytest.raises(ValueError, match="dict of domains"):
        adapter(name, metric="loss", mode="min", space=[1])


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [
        ("optuna", "optuna", "optuna"),
        ("hyperopt", "hyperopt", "hyperopt"),
        ("ax", "ax.api.client", "ax-platform"),
        ("nevergrad", "nevergrad", "nevergrad"),
        ("bayesopt", "bayes_opt", "bayesian-optimization"),
    ],
)
def test_a_missing_library_is_named_with_the_command_that_installs_it(name, module, package, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"needs the package {package}, .*: pip install {package}"):
        create_searcher(name, metric="loss", mode="min")


@SLOW
def test_what_an_adapter_does_not_offer_is_an_error():
    pytest.importorskip("nevergrad", reason="needs nevergrad")
    from hpc.tune.search.nevergrad import NevergradSearch

    with pytest.raises(ValueError, match="needs an optimizer"):
        NevergradSearch()
    with pytest.raises(ValueError, match="a class of nevergrad"):
        NevergradSearch("NGOpt")


@SLOW
@pytest.mark.filterwarnings("ignore")
def test_bayesopt_searches_real_numbers_only_and_waits_for_its_random_trials():
    searcher, _, _ = adapter("bayesopt")
    for domain in (tune.choice([1, 2]), tune.randint(0, 5), tune.randn(0, 1)):
        with pytest.raises(ValueError, match="real numbers only"):
            prepare(adapter("bayesopt")[0], {"a": domain}, metric="loss", mode="min")
    search = prepare(searcher, FLOATS, num_samples=30, metric="loss", mode="min")
    ids = [search.suggest_next(1).suggestions[0].trial_id for _ in range(3)]
    assert isinstance(search.suggest_next(1), NothingNow)
    for one in ids:
        search.on_trial_complete(one, {"loss": 1.0})
    assert isinstance(search.suggest_next(1), Suggested)


# ---------------------------------------------------------------- BOHB


def test_bohb_is_better_than_random_values():
    def best(search_alg):
        search = prepare(search_alg, SPACE, num_samples=60, metric="loss", mode="min")
        return min(loss(one.config) for one in trial_by_trial(search, 60))

    np.random.seed(5)
    ours = [best(TuneBOHB(seed=seed)) for seed in range(8)]
    random = [best(None) for _ in range(8)]
    assert statistics.mean(ours) < 0.7 * statistics.mean(random)


def test_bohb_learns_from_the_largest_budget_with_enough_results():
    space = {"x": tune.uniform(0, 1)}
    searcher = TuneBOHB(metric="loss", mode="min", seed=1, bohb_config={"random_fraction": 0})
    search = prepare(searcher, space, num_samples=200, metric="loss", mode="min")
    # The small budget says that a small x is good, the large one that a large x is.
    for _ in range(30):
        (one,) = search.suggest_next(1).suggestions
        x = one.config["x"]
        search.on_trial_result(one.trial_id, {"loss": x, "training_iteration": 1, "hyperband_info": {"budget": 1}})
        search.on_trial_result(one.trial_id, {"loss": 1 - x, "training_iteration": 9, "hyperband_info": {"budget": 9}})
        search.on_trial_complete(one.trial_id, {"loss": 1 - x, "training_iteration": 9})
    assert set(searcher._seen) == {1, 9}
    late = [search.suggest_next(1).suggestions[0].config["x"] for _ in range(20)]
    assert statistics.mean(late) > 0.8


def test_bohb_counts_the_trials_that_run_and_those_that_wait():
    searcher = TuneBOHB(SPACE, metric="loss", mode="max", max_concurrent=5)
    search = prepare(ConcurrencyLimiter(searcher, 2), {}, num_samples=9)
    ids = [search.suggest_next(1).suggestions[0].trial_id for _ in range(2)]
    assert isinstance(search.suggest_next(1), NothingNow)
    search.on_pause(ids[0])
    assert isinstance(search.suggest_next(1), Suggested)
    search.on_unpause(ids[0])
    search.on_trial_result(ids[0], {"loss": 1, "training_iteration": 1})
    assert len(searcher.running) == 3 and not searcher.paused
    for one in list(searcher.running):
        search.on_trial_complete(one, error=True)
    assert isinstance(search.suggest_next(1), Suggested)


def test_a_setting_of_bohb_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="no setting 'eta': it has min_points_in_model"):
        TuneBOHB(bohb_config={"eta": 3})


def test_the_values_of_bohb_cover_each_domain():
    space = {
        "q": tune.quniform(0, 1, 0.5),
        "n": tune.randn(10, 2),
        "i": tune.lograndint(1, 4),
        "qi": tune.qrandint(2, 10, 4),
        "one": tune.choice(["only"]),
        "lists": tune.choice([[1], [2]]),
    }
    search = prepare(TuneBOHB(seed=1), space, num_samples=150, metric="loss", mode="min")
    values: dict[str, list] = {name: [] for name in space}
    for _ in range(150):
        (one,) = search.suggest_next(1).suggestions
        for name, value in one.config.items():
            values[name].append(value)
        search.on_trial_complete(one.trial_id, {"loss": one.config["n"], "training_iteration": 1})
    assert set(values["q"]) == {0, 0.5, 1} and set(values["i"]) == {1, 2, 3} and set(values["qi"]) == {4, 8}
    assert {str(value) for value in values["lists"]} == {"[1]", "[2]"} and set(values["one"]) == {"only"}
    assert min(values["n"]) < 8 and statistics.mean(values["n"][100:]) < 10

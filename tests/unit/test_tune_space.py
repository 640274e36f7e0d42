"""Search spaces: what a domain allows, what is drawn from it, and how grids and domains become configurations."""

from __future__ import annotations

import json
import logging
import pickle
from typing import Any

import numpy as np
import pytest
from unit import tune_spaces

from hpc.tune import space as tune
from hpc.tune.sample import Categorical, Float, Function, Integer, LogUniform, Normal, Quantized, Uniform
from hpc.tune.variants import RecursiveDependencyError, check_point, count_variants, generate_variants, preset_variants

RECORD = json.loads(tune_spaces.RECORD.read_text())


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("seed", tune_spaces.SEEDS)
@pytest.mark.parametrize("name", list(tune_spaces.spaces(tune)))
def test_the_same_seed_gives_the_configurations_of_ray(name, seed):
    space, num_samples, options = tune_spaces.spaces(tune)[name]
    record = RECORD[f"{name}, {seed}"]
    source = tune_spaces.random_state(seed)
    if seed == 3:
        source = np.random.default_rng(seed)
    points = options.pop("points_to_evaluate", [])
    made = []
    for point in points:
        made += preset_variants(space, point, random_state=source, **options)
    for _ in range(num_samples - len(points)):
        made += generate_variants(space, random_state=source, **options)
    assert [plain(config) for _, config in made] == [row[0] for row in record["rows"]]
    named = [{"/".join(map(str, path)): value for path, value in found.items()} for found, _ in made]
    assert plain(named) == [row[1] for row in record["rows"]]
    assert count_variants(space, num_samples, points) == record["total"]


def test_a_space_is_not_changed_and_variants_share_no_containers():
    space = {"a": [1, {"b": tune.grid_search([1, 2])}], "c": tune.choice([[1], [2]])}
    first, second = (config for _, config in generate_variants(space))
    first["a"][1]["b"] = 9
    first["c"].append(0)
    first["a"].append(7)
    assert second["a"] == [1, {"b": 2}] and len(second["c"]) == 1
    assert space["a"] == [1, {"b": {"grid_search": [1, 2]}}] and space["c"].categories == [[1], [2]]


def test_a_function_reads_the_configuration_by_key_and_by_attribute():
    space = {
        "key": tune.sample_from(lambda config: config["x"] + 1),
        "get": tune.sample_from(lambda config: config.get("x", 0) + config.get("none", 5)),
        "old": tune.sample_from(lambda spec: spec.config.x + spec["config"]["x"]),
        "inner": tune.sample_from(lambda config: config.deep.y + config["deep"]["y"]),
        "all": tune.sample_from(lambda config: sorted(config["deep"].items())),
        "none": tune.sample_from(lambda: 3),
        "x": tune.uniform(0, 1),
        "deep": {"y": tune.randint(0, 9)},
    }
    (found, config) = next(generate_variants(space, random_state=1))
    x, y = config["x"], config["deep"]["y"]
    assert config == {
        "key": x + 1, "get": x + 3, "old": 2 * x, "inner": 2 * y, "all": [("y", y)], "none": 3, "x": x,
        "deep": {"y": y},
    }  # fmt: skip
    assert found[("deep", "y")] == y


def test_functions_that_depend_on_each_other_in_a_circle_are_an_error():
    circle = {"a": tune.sample_from(lambda c: c.b), "b": tune.sample_from(lambda c: c.a)}
    with pytest.raises(RecursiveDependencyError, match="recursively depends on"):
        list(generate_variants(circle))


def test_an_error_of_a_function_names_the_parameter():
    with pytest.raises(ValueError, match=r"`deep/a` .*KeyError: 'missing'"):
        list(generate_variants({"deep": {"a": tune.sample_from(lambda c: c["missing"])}}))
    with pytest.raises(ValueError, match="no parameter 'missing'"):
        list(generate_variants({"a": tune.sample_from(lambda c: c.missing)}))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: tune.choice([]), "at least one"),
        (lambda: tune.choice("abc"), "have to be a list"),
        (lambda: tune.choice(5), "have to be a list"),
        (lambda: tune.uniform(2, 1), "above the upper bound"),
        (lambda: tune.uniform(float("nan"), 1), "above the upper bound"),
        (lambda: tune.loguniform(0, 1), "bounds above 0"),
        (lambda: tune.loguniform(-4, -1), "not their logarithms"),
        (lambda: tune.lograndint(0, 5), "bounds above 0"),
        (lambda: tune.randint(3, 3), "no whole number"),
        (lambda: tune.quniform(0.1, 1, 0.25), "the lower bound 0.1 is no multiple of q=0.25"),
        (lambda: tune.quniform(0, 1.1, 0.25), "the upper bound 1.1 is no multiple"),
        (lambda: tune.quniform(0, 1, 0), "above 0"),
        (lambda: tune.qrandint(1, 3, 5), "no multiple of q=5"),
        (lambda: tune.qrandint(1, 3, -1), "above 0"),
        (lambda: tune.randn(0, 0), "standard deviation"),
        (lambda: tune.sample_from(3), "takes a function"),
        (lambda: tune.sample_from(lambda a, b: a), "takes more"),
        (lambda: tune.grid_search(4), "takes a list"),
        (lambda: Float(0, None).uniform(), "needs a lower and an upper bound"),
        (lambda: Float(0, 1).normal(), "has no bounds"),
        (lambda: tune.uniform(0, 1).uniform(), "has a sampler already"),
        (lambda: tune.uniform(0, 1).sample(random_state="seven"), "None, an int or a numpy generator"),
    ],
)
def test_a_domain_that_cannot_be_is_an_error_where_it_is_written(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_domains_say_what_they_are_and_what_they_allow():
    lr = tune.loguniform(1e-4, 1e-1)
    assert (
        isinstance(lr, Float) and isinstance(lr.get_sampler(), LogUniform) and lr.is_valid(1e-3) and not lr.is_valid(1)
    )
    whole = tune.qrandint(0, 8, 4)
    assert isinstance(whole, Integer) and isinstance(whole.sampler, Quantized) and whole.sampler.q == 4
    assert isinstance(whole.sampler.get_sampler(), Uniform) and whole.domain_str == "(0, 8)"
    assert isinstance(tune.randn(1, 2).get_sampler(), Normal) and tune.randn(1, 2).sampler.sd == 2
    kind = tune.choice(["a", "b"])
    assert isinstance(kind, Categorical) and len(kind) == 2 and kind[1] == "b" and not kind.is_valid("c")
    assert isinstance(tune.sample_from(len), Function) and tune.sample_from(len).is_function()
    assert Categorical([1, 2]).grid().is_grid() and not kind.is_grid()
    assert repr(kind) == "Categorical(['a', 'b'], Uniform)"
    assert pickle.loads(pickle.dumps(whole)).sample(random_state=1) == whole.sample(random_state=1)


def test_several_values_can_be_drawn_at_once():
    assert len(tune.uniform(0, 1).sample(size=3, random_state=1)) == 3
    assert set(tune.qrandint(0, 8, 4).sample(size=200, random_state=1)) == {0, 4, 8}
    assert set(tune.choice(["a", "b"]).sample(size=50, random_state=1)) == {"a", "b"}
    assert tune.sample_from(lambda c: c).sample(config=[1, 2], size=2) == [1, 2]


def test_a_grid_may_be_any_iterable():
    assert [c["a"] for _, c in generate_variants({"a": tune.grid_search(x * x for x in range(3))})] == [0, 1, 4]
    with pytest.raises(ValueError, match="`a/b` has no values"):
        count_variants({"a": {"b": tune.grid_search([])}})


def test_grids_below_keys_of_several_kinds_are_multiplied():
    space = {"l": [tune.grid_search([1, 2])], 3: tune.grid_search([5]), "l2": {"x": tune.grid_search([0])}}
    assert [c["l"] for _, c in generate_variants(space)] == [[1], [2]]


def test_a_point_with_a_key_that_the_space_lacks_is_an_error():
    space = {"a": {"b": tune.uniform(0, 1)}, "l": [tune.uniform(0, 1)]}
    for point, key in [
        ({"zz": 1}, "zz"),
        ({"a": {"q": 1}}, "a/q"),
        ({"l": [1, 2]}, "l/1"),
        ({"a": {"b": {"c": 1}}}, "a/b/c"),
    ]:
        with pytest.raises(ValueError, match=f"value for `{key}`"):
            check_point(space, point)
    with pytest.raises(ValueError, match="values only"):
        check_point(space, {"a": {"b": tune.uniform(0, 1)}})
    with pytest.raises(ValueError, match="list of dicts"):
        check_point(space, 5)


def test_a_value_of_a_point_outside_of_its_domain_is_used_with_a_warning(caplog):
    space = {"a": tune.uniform(0, 1), "b": 3, "c": [tune.grid_search([1, 2]), 4], "d": np.zeros(3)}
    with caplog.at_level(logging.WARNING):
        check_point(space, {"a": 5, "b": 4, "c": [1, 4]})
    assert [line.split(": ")[1][:30] for line in caplog.messages] == [
        "5 is not among the values of `",
        "4 is not the value of `b`, whi",
    ]
    assert [c["a"] for _, c in preset_variants(space, {"a": 5, "c": [2]})] == [5]


def test_a_large_grid_costs_no_memory_before_it_is_needed():
    space = {str(i): tune.grid_search(range(100)) for i in range(6)}
    assert count_variants(space) == 100**6
    first = [config["0"] for _, (_, config) in zip(range(3), generate_variants(space))]
    assert first == [0, 1, 2]

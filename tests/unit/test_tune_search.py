"""Search algorithms: which trials they make, in which order, and what their state holds."""

from __future__ import annotations

import json
import logging
import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from unit import tune_spaces

from hpc.tune import space as tune
from hpc.tune.events import Exhausted, NothingNow, Suggested
from hpc.tune.search import (
    BasicVariantGenerator,
    ConcurrencyLimiter,
    Repeater,
    Searcher,
    SearchGenerator,
    create_searcher,
)
from hpc.tune.search.preparing import prepare
from hpc.tune.search.repeater import TRIAL_INDEX

RECORD = json.loads(tune_spaces.RECORD.read_text())


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def everything(search, step: int = 3) -> list:
    made: list = []
    while isinstance(found := search.suggest_next(step), Suggested):
        made += found.suggestions
    assert isinstance(found, Exhausted)
    return made


class Counting(Searcher):
    """Suggests 0, 1, 2 and so on, and knows what it was told."""

    def __init__(self, end: int = 99, **options):
        super().__init__(**options)
        self.next, self.end, self.told = 0, end, []
        self.space = None

    def set_search_properties(self, metric, mode, config):
        self._metric, self._mode, self.space = metric or self._metric, mode or self._mode, config
        return True

    def suggest(self, trial_id):
        if self.next >= self.end:
            return self.FINISHED
        self.next += 1
        return {"deep": {"x": self.next - 1}}

    def on_trial_complete(self, trial_id, result=None, error=False):
        self.told.append((result or {}).get("loss", "error" if error else None))

    def add_evaluated_point(self, parameters, value, error=False, pruned=False, intermediate_values=None):
        self.told.append((parameters["deep/x"], value))

    def state(self):
        return (self.next, list(self.told))

    def load(self, state):
        self.next, self.told = state[0], list(state[1])


# ---------------------------------------------------------------- grids and random values


@pytest.mark.parametrize("seed", tune_spaces.SEEDS)
@pytest.mark.parametrize("name", list(tune_spaces.spaces(tune)))
def test_trials_are_those_of_ray_with_their_tags_and_ids(name, seed):
    space, num_samples, options = tune_spaces.spaces(tune)[name]
    record = RECORD[f"{name}, {seed}"]
    search = BasicVariantGenerator(random_state=tune_spaces.random_state(seed), **options)
    search = prepare(search, space, num_samples=num_samples)
    made = [[one.config, one.evaluated_params, one.experiment_tag, one.trial_id[5:]] for one in everything(search)]
    assert plain(made) == record["rows"]
    assert search.total_samples == record["total"] and search.is_finished()
    assert len({one[3] for one in made}) == len(made)


@pytest.mark.parametrize("seed", tune_spaces.SEEDS)
@pytest.mark.parametrize("name", ["every function", "grids multiply", "constant grid", "points first"])
def test_a_search_goes_on_from_its_state_with_the_same_trials(name, seed):
    space, num_samples, options = tune_spaces.spaces(tune)[name]

    def begun():
        return prepare(
            BasicVariantGenerator(random_state=tune_spaces.random_state(seed), **options),
            space,
            num_samples=num_samples,
        )

    whole = everything(begun())
    for after in (0, 1, 3, len(whole)):
        search = begun()
        first = search.suggest_next(after).suggestions if after else []
        state = pickle.dumps(search.state())
        again = begun()
        np.random.seed(99)
        again.load(pickle.loads(state))
        rest = everything(again)
        assert [one.config for one in (*first, *rest)] == [one.config for one in whole]
        ids = [one.trial_id for one in (*first, *rest)]
        assert len(set(ids)) == len(ids) and (not first or ids[0][:5] == ids[-1][:5])


def test_trials_that_were_made_after_the_state_are_not_made_again():
    space = {"a": tune.uniform(0, 1), "g": tune.grid_search([1, 2])}
    search = prepare(BasicVariantGenerator(random_state=5), space, num_samples=5)
    search.suggest_next(3)
    state = search.state()
    later = search.suggest_next(4).suggestions
    again = prepare(BasicVariantGenerator(random_state=8), space, num_samples=5)
    again.load(state)
    for one in later:
        again.adopt(one)
    assert everything(again) == everything(search)


def test_more_samples_can_be_wanted_when_a_search_goes_on():
    search = prepare(BasicVariantGenerator(random_state=5), {"a": tune.uniform(0, 1)}, num_samples=2)
    made = everything(search)
    again = prepare(BasicVariantGenerator(random_state=5), {"a": tune.uniform(0, 1)}, num_samples=5)
    again.load(search.state())
    rest = everything(again)
    whole = everything(prepare(BasicVariantGenerator(random_state=5), {"a": tune.uniform(0, 1)}, num_samples=5))
    assert [one.config for one in made + rest] == [one.config for one in whole]


def test_only_so_many_trials_run_at_a_time():
    search = prepare(None, {"a": tune.grid_search([1, 2, 3])}, max_concurrent_trials=2)
    first = search.suggest_next(9).suggestions
    assert len(first) == 2 and isinstance(search.suggest_next(1), NothingNow)
    search.on_trial_complete(first[0].trial_id)
    assert len(search.suggest_next(9).suggestions) == 1
    search.on_trial_complete(first[1].trial_id)
    assert isinstance(search.suggest_next(1), Exhausted)


def test_samples_without_an_end_go_on():
    search = prepare(None, {"a": tune.uniform(0, 1)}, num_samples=-1)
    assert search.total_samples == float("inf") and len(search.suggest_next(500).suggestions) == 500


# ---------------------------------------------------------------- searchers


def test_the_suggestion_of_a_searcher_goes_over_the_constants_of_the_space():
    space = {"deep": {"x": tune.uniform(0, 1), "y": 5}, "list": [1, [2]], "z": "text"}
    search = prepare(Counting(), space, num_samples=2, metric="loss", mode="min")
    first, second = everything(search)
    assert first.config == {"deep": {"x": 0, "y": 5}, "list": [1, [2]], "z": "text"}
    assert first.evaluated_params == {"deep/x": 0} and len(first.trial_id) == 8
    assert first.experiment_tag == "1_x=0,y=5,list=1_2,z=text" and second.experiment_tag.startswith("2_x=1,")
    second.config["list"][1].append(3)
    assert space["list"] == [1, [2]] and search.searcher.metric == "loss" and search.searcher.space is not None


def test_a_searcher_that_has_nothing_now_or_no_more_says_so():
    search = prepare(ConcurrencyLimiter(Counting(end=2), 1), {}, num_samples=9, metric="loss", mode="min")
    (first,) = search.suggest_next(5).suggestions
    assert isinstance(search.suggest_next(5), NothingNow) and not search.is_finished()
    search.on_trial_complete(first.trial_id, {"loss": 1})
    (second,) = search.suggest_next(5).suggestions
    search.on_trial_complete(second.trial_id, error=True)
    assert isinstance(search.suggest_next(5), Exhausted) and search.is_finished()
    assert search.innermost.told == [1, "error"]


def test_a_batch_is_told_when_all_of_it_has_ended():
    limiter = ConcurrencyLimiter(Counting(metric="loss", mode="min"), 2, batch=True)
    limiter.suggest("a"), limiter.suggest("b")
    limiter.on_trial_complete("a", {"loss": 1})
    limiter.on_trial_complete("a", {"loss": 5})
    assert limiter.suggest("c") is None and limiter.searcher.told == []
    again = ConcurrencyLimiter(Counting(metric="loss", mode="min"), 2, batch=True)
    again.load(pickle.loads(pickle.dumps(limiter.state())))
    for one in (limiter, again):
        one.on_trial_complete("b", {"loss": 2})
        assert one.searcher.told == [1, 2] and one.suggest("c") == {"deep": {"x": 2}}


def test_a_searcher_that_counts_its_trials_itself_is_told_the_limit():
    class Own(Counting):
        most = 0

        def set_max_concurrency(self, max_concurrent):
            self.most = max_concurrent
            return True

    limiter = ConcurrencyLimiter(Own(), 1)
    assert limiter.searcher.most == 1 and limiter.suggest("a") and limiter.suggest("b")


def test_a_suggestion_is_repeated_and_the_mean_is_told():
    repeater = Repeater(Counting(metric="loss", mode="min"), repeat=3)
    configs = [repeater.suggest(name) for name in "abcd"]
    assert [one["deep"]["x"] for one in configs] == [0, 0, 0, 1] and [one[TRIAL_INDEX] for one in configs] == [
        0,
        1,
        2,
        0,
    ]
    repeater.on_trial_complete("a", {"loss": 1})
    repeater.on_trial_complete("b", error=True)
    again = Repeater(Counting(metric="loss", mode="min"), repeat=3)
    again.load(pickle.loads(pickle.dumps(repeater.state())))
    for one in (repeater, again):
        assert one.searcher.told == []
        one.on_trial_complete("c", {"loss": 4})
        assert one.searcher.told == [2.5] and one.suggest("e")["deep"]["x"] == 1
    assert Repeater(Counting(), repeat=2, set_index=False).suggest("a") == {"deep": {"x": 0}}


def test_a_group_that_failed_wholly_is_told_as_failed():
    repeater = Repeater(Counting(metric="loss", mode="min"), repeat=2)
    repeater.suggest("a"), repeater.suggest("b")
    repeater.on_trial_complete("a", error=True)
    repeater.on_trial_complete("b", {"loss": float("nan")})
    assert repeater.searcher.told == ["error"]


def test_trials_that_the_saved_searcher_does_not_know_are_learnt_as_points():
    search = prepare(Counting(), {}, num_samples=9, metric="loss", mode="min")
    search.suggest_next(1)
    state = pickle.dumps(search.state())
    (later,) = search.suggest_next(1).suggestions
    again = prepare(Counting(), {}, num_samples=9, metric="loss", mode="min")
    again.load(pickle.loads(state))
    again.adopt(later)
    again.on_trial_result(later.trial_id, {"loss": 9})
    again.on_trial_complete(later.trial_id, {"loss": 3})
    assert again.searcher.told == [(1, 3)]
    assert len(everything(again)) == 7


@pytest.mark.parametrize("batch", [False, True])
def test_a_trial_that_the_saved_searcher_does_not_know_counts_for_the_limit_until_it_ends(batch):
    search = prepare(ConcurrencyLimiter(Counting(), 2, batch), {}, num_samples=9, metric="loss", mode="min")
    state = pickle.dumps(search.state())
    (later,) = search.suggest_next(1).suggestions
    again = prepare(ConcurrencyLimiter(Counting(), 2, batch), {}, num_samples=9, metric="loss", mode="min")
    again.load(pickle.loads(state))
    again.adopt(later)
    assert len(again.suggest_next(5).suggestions) == 1 and isinstance(again.suggest_next(1), NothingNow)
    again.on_trial_complete(later.trial_id, {"loss": 1})
    assert isinstance(again.suggest_next(1), Suggested)


def test_a_searcher_of_a_program_is_saved_by_its_own_file(tmp_path):
    class Filed(Searcher):
        value = 1

        def save(self, checkpoint_path):
            with open(checkpoint_path, "w") as file:
                file.write(str(self.value))

        def restore(self, checkpoint_path):
            with open(checkpoint_path) as file:
                self.value = int(file.read())

    one, other = Filed(), Filed()
    one.value = 7
    other.load(one.state())
    assert other.value == 7
    one.save_to_dir(str(tmp_path), "2026-01-01")
    other.value = 0
    other.restore_from_dir(str(tmp_path))
    assert other.value == 7 and [path.name for path in tmp_path.iterdir()] == ["searcher-state-2026-01-01.pkl"]
    with pytest.raises(RuntimeError, match="no state of a searcher"):
        other.restore_from_dir(str(tmp_path / "none"))
    assert Searcher().state() is None
    with pytest.raises(NotImplementedError):
        Searcher().suggest("a")


def test_trials_of_another_experiment_are_learnt():
    searcher = Counting(metric="loss", mode="min")
    trials = [
        SimpleNamespace(config={"deep/x": 1}, last_result={"loss": 4, "done": True}, status="TERMINATED"),
        SimpleNamespace(config={"deep/x": 2}, last_result={}, status="ERROR"),
    ]
    searcher.add_evaluated_trials(trials, "loss")
    assert searcher.told == [(1, 4)]
    with pytest.warns(UserWarning, match="is its name right"):
        searcher.add_evaluated_trials(trials, "other")
    with pytest.raises(NotImplementedError, match="cannot learn"):
        Repeater(searcher).add_evaluated_trials(trials, "loss")


# ---------------------------------------------------------------- errors before anything runs


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            {"search_alg": Counting(), "space": {"a": {"b": tune.grid_search([1])}}},
            "grid_search of `a/b` cannot be with Counting",
        ),
        ({"search_alg": 5}, "has to be a searcher"),
        ({"search_alg": "nothing"}, "there is no searcher 'nothing': the names are variant_generator"),
        ({"mode": "best"}, "mode has to be 'min' or 'max'"),
        ({"metric": ["a"], "mode": "min"}, "two texts or two lists"),
        ({"metric": ["a"], "mode": ["min", "max"]}, "lists of one length"),
        ({"num_samples": -2}, "num_samples has to be"),
        ({"num_samples": 1.5}, "num_samples has to be"),
        ({"max_concurrent_trials": -1}, "max_concurrent_trials has to be"),
        ({"max_concurrent_trials": 2, "search_alg": ConcurrencyLimiter(Counting(), 3)}, "ConcurrencyLimiter has 3"),
        ({"space": {"a": tune.grid_search([])}}, "`a` has no values"),
        ({"space": [1]}, "param_space has to be a dict"),
        ({"search_alg": BasicVariantGenerator([{"z": 1}]), "space": {"a": 1}}, "value for `z`"),
        ({"search_alg": Searcher(), "space": {"a": tune.uniform(0, 1)}}, "a space of its own"),
    ],
)
def test_what_cannot_be_is_an_error_before_anything_runs(given, text):
    with pytest.raises(ValueError, match=text):
        prepare(given.pop("search_alg", None), given.pop("space", {}), **given)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: BasicVariantGenerator({"a": 1}), "list of dicts"),
        (lambda: BasicVariantGenerator(max_concurrent=-1), "max_concurrent has to be"),
        (lambda: ConcurrencyLimiter(Counting(), 0), "1 trial or more"),
        (lambda: Repeater(Counting(), 0), "1 trial or more"),
        (lambda: Repeater(3), "takes a Searcher"),
        (lambda: Searcher("a", "up"), "mode has to be"),
        (lambda: SearchGenerator(3), "has to be a Searcher"),
    ],
)
def test_a_search_that_cannot_be_is_an_error_where_it_is_made(make, text):
    with pytest.raises(ValueError, match=text):
        make()
    with pytest.raises(RuntimeError, match="a max_concurrent of its own"):
        ConcurrencyLimiter(BasicVariantGenerator(), 1)


def test_a_wrong_suggestion_is_an_error_that_names_the_searcher():
    class Wrong(Counting):
        def suggest(self, trial_id):
            return 5

    with pytest.raises(TypeError, match=r"suggest\(\) of Wrong has to return a dict"):
        prepare(Wrong(), {}, num_samples=1).suggest_next(1)


def test_searchers_have_names(caplog):
    assert isinstance(create_searcher("random", max_concurrent=3, metric="x"), BasicVariantGenerator)
    assert create_searcher("Variant_Generator", max_concurrent=3).max_concurrent == 3
    assert isinstance(prepare("random", {}), BasicVariantGenerator)
    for name in ("zoopt", "hebo"):
        with pytest.raises(NotImplementedError, match="use OptunaSearch"):
            create_searcher(name, metric="x", mode="min")
    with caplog.at_level(logging.WARNING):
        prepare(BasicVariantGenerator(), {}, max_concurrent_trials=2)
        prepare(Repeater(Counting(), 2), {}, num_samples=3, metric="loss", mode="min")
    assert "limits its trials itself" in caplog.messages[0] and "of 3 the last 1" in caplog.messages[1]


def test_a_space_that_is_a_grid_itself_has_whole_configurations():
    grid = {"grid_search": [{"a": 1}, {"b": {"grid_search": [2, 3]}, "c": tune.uniform(0, 1)}]}
    search = prepare(None, grid, num_samples=2)
    made = search.suggest_next(9).suggestions
    assert search.total_samples >= 4 and len(made) == 6
    assert [set(one.config) for one in made[:3]] == [{"a"}, {"b", "c"}, {"b", "c"}]
    assert made[0].experiment_tag == "0_config=a_1" and made[1].experiment_tag.endswith(
        ",b=2,c=" + f"{made[1].config['c']:.4f}"
    )
    assert made[1].evaluated_params["b"] == 2 and made[1].evaluated_params["c"] == made[1].config["c"]
    with pytest.raises(ValueError, match=r"grid_search of `param_space` cannot be with TuneBOHB"):
        prepare("bohb", grid, metric="a", mode="min")

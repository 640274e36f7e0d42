"""Population based training, its replay and PB2, where traces of Ray's do not reach."""

from __future__ import annotations

import json
import math
import pickle
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpc.tune import space
from hpc.tune.error import TuneError
from hpc.tune.schedulers import PopulationBasedTraining, PopulationBasedTrainingReplay, create_scheduler, pbt_explore
from tune.playing import PlayedController, PlayedTrial

JUDGED = {"time_attr": "training_iteration", "metric": "score", "mode": "max", "perturbation_interval": 1}


class Population(PlayedController):
    """Trials that are told by hand how good they are; each has a checkpoint if it saves."""

    def __init__(self, scheduler: Any, configs: list[dict[str, Any]], saves: bool = True) -> None:
        super().__init__()
        self.scheduler = scheduler
        self.search_alg = None
        for number, config in enumerate(configs):
            trial = PlayedTrial(f"t{number}", saves, config)
            trial.experiment_tag = f"{number}_lr"
            self.trials.append(trial)
            scheduler.on_trial_add(self, trial)

    def report(self, trial: PlayedTrial, time: float, score: float) -> str:
        trial.status = "RUNNING"
        result = {"training_iteration": time, "score": score}
        decision = self.scheduler.on_trial_result(self, trial, result)
        trial.last_result = result
        if decision == "PAUSE":
            self.pause_trial(trial)
        return decision


def population(count: int = 4, saves: bool = True, configs: Any = None, **arguments: Any) -> Population:
    given = {**JUDGED, "hyperparam_mutations": {"lr": space.uniform(0, 1)}, **arguments}
    configs = configs or [{"lr": 0.5} for _ in range(count)]
    made = Population(PopulationBasedTraining(**given), configs, saves)
    for trial in made.trials:
        trial.status = "RUNNING"
    return made


# ---------------------------------------------------------------- who is cloned


def test_the_worst_goes_on_as_a_changed_copy_of_the_best() -> None:
    made = population(2)
    best, worst = made.trials
    assert made.report(best, 1, 2.0) == "CONTINUE"
    assert made.report(worst, 1, 1.0) == "CONTINUE", "the other one has not saved as the best one"
    assert made.report(best, 2, 2.0) == "CONTINUE"
    assert made.report(worst, 2, 1.0) == "NOOP"
    assert worst.checkpoint == best.checkpoint == "t0 at 0"
    assert worst.config["lr"] != 0.5
    assert worst.experiment_tag.startswith("1_lr@perturbed[lr=")
    assert made.scheduler.debug_string() == "PopulationBasedTraining: 1 checkpoints, 1 perturbs"


def test_a_trial_that_never_saved_is_not_cloned() -> None:
    made = population(2, saves=False)
    best, worst = made.trials
    for time in (1, 2, 3):
        assert made.report(best, time, 2.0) == "CONTINUE"
        assert made.report(worst, time, 1.0) == "CONTINUE"
    assert worst.config == {"lr": 0.5}
    best.is_saving = True  # as an experiment has it, while a save is under way
    made.exploit = lambda *_: False  # the save is one that gives no checkpoint
    assert made.report(worst, 4, 1.0) == "CONTINUE"
    assert made.scheduler.debug_string().endswith("0 perturbs")


def test_a_clone_gets_the_latest_checkpoint_of_the_other_trial() -> None:
    """What it saved as one of the best may be deleted by then; the latest never is."""
    made = population(2)
    best, worst = made.trials
    for trial, score in ((best, 2.0), (worst, 1.0), (best, 2.0)):
        made.report(trial, 1 + (trial is best and best.checkpoint is not None), score)
    made.report(best, 2, 2.0)
    best.checkpoint = "a later one"
    assert made.report(worst, 2, 1.0) == "NOOP"
    assert worst.checkpoint == "a later one"


def test_with_synch_the_end_of_the_last_trial_lets_the_others_go_on() -> None:
    made = population(3, synch=True)
    first, second, third = made.trials
    assert made.report(first, 1, 3.0) == "PAUSE"
    assert made.report(second, 1, 1.0) == "PAUSE"
    assert made.scheduler.choose_trial_to_run(made) is None, "the third one runs"
    made.stop_trial(third)
    assert made.scheduler.choose_trial_to_run(made) in (first, second)
    assert second.config["lr"] != 0.5, "they were compared"


def test_a_score_of_nan_is_neither_good_nor_bad() -> None:
    made = population(3)
    first, second, third = made.trials
    for time in (1, 2):
        for trial, score in ((first, 2.0), (second, math.nan), (third, 1.0)):
            decision = made.report(trial, time, score)
            assert decision == ("NOOP" if (trial, time) == (third, 2) else "CONTINUE")


def test_a_searcher_is_refused() -> None:
    made = Population(PopulationBasedTraining(**JUDGED, hyperparam_mutations={"lr": [1]}), [])
    made.search_alg = PlayedController().search_alg
    with pytest.raises(ValueError, match="search_alg"):
        made.scheduler.on_trial_add(made, PlayedTrial("t", True, {}))


@pytest.mark.parametrize("name", ["score", "training_iteration"])
def test_a_result_without_what_is_compared_is_an_error_that_names_it(name: str) -> None:
    made = population(2)
    result = {"score": 1.0, "training_iteration": 1}
    del result[name]
    with pytest.raises(RuntimeError, match=rf"no '{name}'.*require_attrs"):
        made.scheduler.on_trial_result(made, made.trials[0], result)


# ---------------------------------------------------------------- new configurations


def dice() -> pbt_explore.Dice:
    return pbt_explore.Dice(random.Random(3))


def explored(mutation: Any, value: Any, **more: Any) -> set[Any]:
    """All values that a value becomes in a hundred explorations without resampling."""
    found, rolled = set(), dice()
    for _ in range(100):
        arguments = {"resample_probability": 0.0, "factors": (1.2, 0.8), **more}
        found.add(pbt_explore.explore({"x": value}, {"x": mutation}, rolled, **arguments)[0]["x"])
    return found


def test_numbers_are_multiplied_and_keep_their_kind() -> None:
    assert explored(space.uniform(0, 1), 0.5) == {0.6, 0.4}
    assert explored(space.randint(1, 30), 10) == {12, 8}
    assert explored(lambda: 3.0, np.int64(10)) == {12, 8}
    assert explored(lambda: True, True) == {True}
    assert explored([1, 2, 4], 2) == {1, 4}
    assert explored([1, 2, 4], 4) == {2, 4}
    assert explored([1, 2, 4], 3) <= {1, 2, 4}, "a value that is not in the list is drawn anew"


def test_products_leave_their_domain_unless_they_are_told_to_stay() -> None:
    for mutation, value, leaves, stays in (
        (space.uniform(0, 1), 1.0, {1.2, 0.8}, {1.0, 0.8}),
        (space.randint(1, 10), 9, {11, 7}, {9, 7}),
        (space.qrandint(2, 10, 2), 10, {12, 8}, {10, 8}),
        (space.quniform(0, 1, 0.25), 1.0, {1.2, 0.8}, {1.0, 0.75}),
        (space.choice([1, 2, 4]), 2, {2}, {1, 4}),
        (space.randn(), 5.0, {6.0, 4.0}, {6.0, 4.0}),
    ):
        assert explored(mutation, value) == leaves
        assert explored(mutation, value, stay_in_domain=True) == stays


def test_values_that_are_no_numbers_move_or_are_drawn_anew() -> None:
    assert explored(space.choice(["a", "b", "c"]), "b") == {"a", "c"}
    assert explored(lambda: "new", "old") == {"new"}


def test_nested_values_that_are_missing_are_drawn() -> None:
    mutations = {"lr": space.uniform(0, 1), "net": {"width": [1, 2], "depth": lambda: 3}}
    made = population(configs=[{"net": {"width": 2}}, {}], hyperparam_mutations=mutations)
    first, second = made.trials
    assert first.config["net"] == {"width": 2, "depth": 3}
    assert set(first.evaluated_params) == set(second.evaluated_params) == {"lr", "net"}
    assert set(second.config["net"]) == {"width", "depth"}


def test_the_users_function_has_the_last_word() -> None:
    made = population(2, custom_explore_fn=lambda config: {**config, "lr": 7})
    for time in (1, 2):
        for trial, score in zip(made.trials, (2.0, 1.0)):
            made.report(trial, time, score)
    assert made.trials[1].config == {"lr": 7}
    with pytest.raises(AssertionError, match="must return"):
        pbt_explore.explored({}, lambda config: None)  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({}, TuneError, "hyperparam_mutations"),
        ({"hyperparam_mutations": {"lr": 3}}, TypeError, "'lr'.*not int"),
        ({"hyperparam_mutations": {"a": {"b": "text"}}}, TypeError, "'a/b'"),
        ({"hyperparam_mutations": {"lr": []}}, ValueError, "empty"),
        ({"hyperparam_mutations": {"lr": space.sample_from(lambda: 1)}}, ValueError, "sample_from"),
        ({"hyperparam_mutations": {"lr": [1]}, "quantile_fraction": 0.6}, ValueError, "quantile_fraction"),
        ({"hyperparam_mutations": {"lr": [1]}, "perturbation_interval": 0}, ValueError, "perturbation_interval"),
    ],
)
def test_bad_arguments_are_named(arguments: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        PopulationBasedTraining(**arguments)


def test_a_population_goes_on_with_the_same_random_numbers() -> None:
    made = population(2, hyperparam_mutations={"lr": space.uniform(0, 1), "size": [1, 2, 3]})
    state = pickle.loads(pickle.dumps(made.scheduler.state()))
    configs = []
    for again in (False, True):
        if again:
            made.scheduler = PopulationBasedTraining(
                **JUDGED, hyperparam_mutations={"lr": space.uniform(0, 1), "size": [1, 2, 3]}
            )
            made.scheduler.load(state)
        for trial in made.trials:
            trial.config = {"lr": 0.5, "size": 2}
        for time in range(1, 9):
            for trial, score in zip(made.trials, (2.0, 1.0)):
                made.report(trial, time, score)
        configs.append(made.trials[1].config)
    assert configs[0] == configs[1]


# ---------------------------------------------------------------- the files, and their replay


def written(folder: Path) -> Population:
    """A population of which one trial is cloned twice, and its files."""
    made = population(2)
    made.experiment_path = str(folder)  # type: ignore[attr-defined]
    for time in (1, 2, 3):
        for trial, score in zip(made.trials, (2.0, 1.0)):
            made.report(trial, time, score)
    return made


def test_the_files_say_who_became_whom(tmp_path: Path) -> None:
    made = written(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "pbt_global.txt").read_text().splitlines()]
    assert [line[:4] for line in lines] == [["1_lr", "0_lr", 1, 2], ["1_lr", "0_lr", 2, 3]]
    assert lines[-1][4:] == [{"lr": 0.5}, made.trials[1].config]
    assert (tmp_path / "pbt_policy_t1.txt").read_text() == (tmp_path / "pbt_global.txt").read_text()
    assert not (tmp_path / "pbt_policy_t0.txt").exists()


def test_a_replay_gives_each_configuration_in_its_time(tmp_path: Path) -> None:
    policy = tmp_path / "pbt_policy_x.txt"
    rows = [
        ["1_b", "2_c", 3, 4, {"lr": 9}, {"lr": 8}],  # overwritten by the next one
        ["1_b", "0_a", 3, 5, {"lr": 1}, {"lr": 2}],
        ["1_b", "1_b", 7, 8, {"lr": 2}, {"lr": np.float64(3)}],
    ]
    policy.write_text("".join(json.dumps(row) + "\n" for row in rows))
    scheduler = create_scheduler("pbt_replay", policy_file=str(policy))
    made = Population(scheduler, [{}])
    (trial,) = made.trials
    assert trial.config == {"lr": 1}, "the chain begins with the trial that was cloned first"
    assert made.report(trial, 5, 0.0) == "PAUSE"
    assert scheduler.choose_trial_to_run(made) is trial
    assert trial.config == {"lr": 2}
    assert made.report(trial, 7, 0.0) == "CONTINUE"
    assert made.report(trial, 8, 0.0) == "PAUSE"
    other = PopulationBasedTrainingReplay(str(policy))
    other.load(pickle.loads(pickle.dumps(scheduler.state())))
    assert other.choose_trial_to_run(made) is trial
    assert trial.config == {"lr": 3}
    assert trial.experiment_tag == "replay_pbt_policy_x.txt@perturbed[lr=3.0000]"
    made.scheduler = other
    assert made.report(trial, 20, 0.0) == "CONTINUE"
    assert other.debug_string() == "PopulationBasedTraining replay: Step 8, perturb 2"
    with pytest.raises(ValueError, match="num_samples"):
        other.on_trial_add(made, PlayedTrial("second", True, {}))


def test_a_replay_needs_checkpoints_and_a_file_of_its_kind(tmp_path: Path) -> None:
    policy = tmp_path / "pbt_policy_x.txt"
    policy.write_text(json.dumps(["a", "b", 1, 2, {"lr": 1}, {"lr": 2}]) + "\n")
    made = Population(PopulationBasedTrainingReplay(str(policy)), [{}], saves=False)
    made.report(made.trials[0], 2, 0.0)
    with pytest.raises(RuntimeError, match="save"):
        made.scheduler.choose_trial_to_run(made)
    policy.write_text("{}\nnothing\n")
    with pytest.raises(ValueError, match="no policy file"):
        PopulationBasedTrainingReplay(str(policy))
    with pytest.raises(ValueError, match="not there"):
        PopulationBasedTrainingReplay(str(tmp_path / "none"))


# ---------------------------------------------------------------- PB2


def bandits(**arguments: Any) -> Population:
    pytest.importorskip("sklearn", reason="PB2 needs scikit-learn")
    bounds = {"lr": [0.0, 1.0], "net": {"width": [1, 9]}}
    given = {**JUDGED, "hyperparam_bounds": bounds, "synch": True, **arguments}
    return Population(create_scheduler("pb2", **given), [{"net": {"width": 4}} for _ in range(6)])


def played(made: Population, rounds: int) -> list[float]:
    """Each round a trial gains the more, the nearer its lr is to 0.7; returns the values that clones got."""
    scores, found = [0.0] * len(made.trials), []
    for time in range(1, rounds + 1):
        configs = [trial.config for trial in made.trials]
        for number, trial in enumerate(made.trials):
            scores[number] += 1 - (trial.config["lr"] - 0.7) ** 2
            made.report(trial, time, scores[number])
        clones = [number for number, trial in enumerate(made.trials) if trial.config is not configs[number]]
        for number in clones:
            scores[number] = scores[int(made.trials[number].checkpoint.split()[0][1:])]
            found.append(made.trials[number].config["lr"])
    return found


def test_pb2_finds_what_brings_most() -> None:
    random.seed(1)
    np.random.seed(1)
    made = bandits()
    assert all(0 <= trial.config["lr"] <= 1 for trial in made.trials)
    assert all(set(trial.evaluated_params) == {"lr"} for trial in made.trials)
    found = played(made, 9)
    assert len(found) > 10
    assert all(0 <= lr <= 1 for lr in found)
    late = found[len(found) // 2 :]
    assert sum(abs(lr - 0.7) for lr in late) / len(late) < 0.15, late
    assert all(isinstance(trial.config["net"]["width"], int) for trial in made.trials)


def test_pb2_goes_on_from_its_state() -> None:
    made = bandits()
    played(made, 3)
    other = create_scheduler(
        "pb2", **JUDGED, synch=True, hyperparam_bounds={"lr": [0.0, 1.0], "net": {"width": [1, 9]}}
    )
    other.load(pickle.loads(pickle.dumps(made.scheduler.state())))
    best, worst = made.trials[:2]
    assert other._get_new_config(worst, best) == made.scheduler._get_new_config(worst, best)


@pytest.mark.parametrize(
    ("bounds", "error", "said"),
    [
        (None, TuneError, "hyperparam_bounds"),
        ({"a": {"b": [1]}}, ValueError, "'a/b'"),
        ({"a": [2, 1]}, ValueError, "2 is above 1"),
    ],
)
def test_bounds_of_pb2_are_checked(bounds: Any, error: Any, said: str) -> None:
    pytest.importorskip("sklearn", reason="PB2 needs scikit-learn")
    with pytest.raises(error, match=said):
        create_scheduler("pb2", hyperparam_bounds=bounds)


def test_pb2_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"pip install hpc\[pb2\]"):
        create_scheduler("pb2", hyperparam_bounds={"lr": [0, 1]})


def test_importing_the_schedulers_does_not_load_scikit_learn() -> None:
    import subprocess

    line = "import sys, hpc.tune.schedulers, hpc.tune.schedulers.pb2; print('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, timeout=60).stdout == "False\n"

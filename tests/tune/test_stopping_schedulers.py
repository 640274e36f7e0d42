"""ASHA, HyperBand and the median rule, where they do more than Ray's; traces compare the rest."""

from __future__ import annotations

import math
import pickle
import random
import threading
from typing import Any

import numpy as np
import pytest

from hpc.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    HyperBandForBOHB,
    HyperBandScheduler,
    MedianStoppingRule,
    TrialScheduler,
)
from hpc.tune.trial import Trial
from tune.playing import PlayedController, PlayedTrial

JUDGED = {"metric": "score", "mode": "max"}
ALL = (ASHAScheduler, HyperBandScheduler, HyperBandForBOHB, MedianStoppingRule)


class Experiment(PlayedController):
    """Trials that are told by hand how good they are."""

    def __init__(self, scheduler: Any, trials: int = 0) -> None:
        super().__init__()
        self.scheduler = scheduler
        for _ in range(trials):
            self.add()

    def add(self) -> PlayedTrial:
        trial = PlayedTrial(f"t{len(self.trials)}", True, {})
        self.trials.append(trial)
        self.scheduler.on_trial_add(self, trial)
        return trial

    def report(self, trial: PlayedTrial, time: float, **metrics: Any) -> str:
        trial.status = "RUNNING"
        trial.last_result = {"training_iteration": time, **metrics}
        decision = self.scheduler.on_trial_result(self, trial, trial.last_result)
        if decision == "STOP":
            self.stop_trial(trial)
        elif decision == "PAUSE":
            trial.status = "PAUSED"
        return decision

    def fail(self, trial: PlayedTrial) -> None:
        self.scheduler.on_trial_error(self, trial)
        trial.status = "ERROR"

    @property
    def statuses(self) -> str:
        return " ".join(trial.status for trial in self.trials)


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("kind", ALL)
def test_a_metric_and_a_mode_are_needed_before_trials_come(kind: Any) -> None:
    scheduler = kind()
    with pytest.raises(ValueError, match="TuneConfig"):
        Experiment(scheduler).add()
    assert scheduler.set_search_properties("score", "max", stop={})
    Experiment(scheduler).add()
    assert not scheduler.set_search_properties("loss", None), "it has a metric already"
    assert not scheduler.set_search_properties(None, "min"), "it has a mode already"
    assert kind(mode="min").set_search_properties(None, None)


@pytest.mark.parametrize("kind", ALL)
def test_only_a_mode_means_the_anonymous_metric(kind: Any) -> None:
    scheduler = kind()
    assert scheduler.set_search_properties(None, "min")
    assert scheduler.metric == "_metric"


@pytest.mark.parametrize("kind", ALL)
def test_a_wrong_mode_is_refused(kind: Any) -> None:
    with pytest.raises(AssertionError, match="mode"):
        kind(mode="best")


@pytest.mark.parametrize("arguments", [{"max_t": 0}, {"grace_period": 0}, {"reduction_factor": 1}, {"brackets": 0}])
def test_wrong_numbers_are_refused_by_asha(arguments: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match=next(iter(arguments))):
        ASHAScheduler(**arguments)


@pytest.mark.parametrize("kind", ALL)
def test_a_file_holds_the_whole_scheduler_with_its_arguments(kind: Any, tmp_path: Any) -> None:
    experiment = Experiment(kind(**JUDGED), 3)
    for trial in experiment.trials:
        experiment.report(trial, 1, score=2.0)
    experiment.scheduler.save(str(tmp_path / "scheduler"))
    other = kind()
    other.restore(str(tmp_path / "scheduler"))
    assert other.metric == "score"
    # A random generator is equal to none but itself: what it would give next is compared.
    assert pickle.dumps(other.state()) == pickle.dumps(pickle.loads(pickle.dumps(experiment.scheduler.state())))


def test_seeds_set_before_make_the_draws_of_brackets_repeatable() -> None:
    def drawn() -> list[int]:
        random.seed(3)
        np.random.seed(4)
        experiment = Experiment(ASHAScheduler(**JUDGED, brackets=3))
        random.seed(5)
        for _ in range(30):
            experiment.add()
            np.random.random()
        return list(experiment.scheduler._rungs_of_trials.values())

    assert drawn() == drawn()
    assert len(set(drawn())) == 3


# ---------------------------------------------------------------- ASHA


def test_rungs_stay_when_a_run_goes_on_with_a_larger_max_t() -> None:
    first = Experiment(ASHAScheduler(**JUDGED, max_t=10, reduction_factor=3), 4)
    for trial, score in zip(first.trials, (1.0, 2.0, 3.0, 4.0)):
        first.report(trial, 1, score=score)
    longer = ASHAScheduler(**JUDGED, max_t=100, reduction_factor=3)
    longer.load(pickle.loads(pickle.dumps(first.scheduler.state())))
    then = Experiment(longer, 5)
    assert then.report(then.trials[4], 1, score=2.9) == "STOP"
    assert "81.000" in longer.debug_string()


def test_a_promoting_asha_pauses_trials_and_lets_the_best_go_on() -> None:
    experiment = Experiment(ASHAScheduler(**JUDGED, max_t=16, reduction_factor=2, promote=True), 4)
    first, second, third, fourth = experiment.trials
    assert experiment.report(first, 1, score=1.0) == "PAUSE", "one of one is no half"
    assert experiment.scheduler.choose_trial_to_run(experiment) is second
    assert experiment.report(second, 1, score=2.0) == "CONTINUE", "the better half needs no pause"
    assert experiment.report(third, 1, score=0.0) == "PAUSE"
    assert experiment.report(fourth, 1, score=1.5) == "CONTINUE"
    assert experiment.report(second, 2, score=2.0) == "PAUSE"
    assert experiment.report(fourth, 2, score=3.0) == "CONTINUE"
    assert experiment.statuses == "PAUSED PAUSED PAUSED RUNNING"


def test_a_promotion_comes_before_a_new_trial() -> None:
    experiment = Experiment(ASHAScheduler(**JUDGED, max_t=16, reduction_factor=2, promote=True), 3)
    first, second, third = experiment.trials
    experiment.report(first, 1, score=5.0)
    experiment.report(second, 1, score=1.0)
    assert third.status == "PENDING"
    assert experiment.scheduler.choose_trial_to_run(experiment) is first
    assert experiment.scheduler.choose_trial_to_run(experiment) is first, "asking twice changes nothing"


def test_no_trial_is_paused_for_ever_by_a_promoting_asha() -> None:
    draw = random.Random(7)
    experiment = Experiment(ASHAScheduler(**JUDGED, max_t=30, reduction_factor=3, promote=True, brackets=2), 20)
    scheduler, times, turns = experiment.scheduler, dict.fromkeys(range(20), 0), 0
    while any(not trial.is_finished() for trial in experiment.trials):
        turns += 1
        assert turns < 2000, experiment.statuses
        running = [trial for trial in experiment.trials if trial.status == "RUNNING"]
        if len(running) < 3 and (chosen := scheduler.choose_trial_to_run(experiment)) is not None:
            chosen.status = "RUNNING"
        elif running:
            trial = draw.choice(running)
            number = experiment.trials.index(trial)
            times[number] += draw.choice([1, 1, 4])
            score = math.nan if draw.random() < 0.1 else number + draw.random()
            experiment.report(trial, times[number], score=score)
    full = [number for number, time in times.items() if time >= 30]
    assert full, "some trial trains to the end"
    assert sum(times.values()) < 20 * 30 / 2, "most do not"


def test_a_waiting_searcher_does_not_stop_paused_trials() -> None:
    experiment = Experiment(ASHAScheduler(**JUDGED, max_t=16, reduction_factor=4, promote=True), 2)
    experiment.search_alg.is_finished = lambda: False
    for trial, score in zip(experiment.trials, (1.0, 2.0)):
        experiment.report(trial, 1, score=score)
    assert experiment.scheduler.choose_trial_to_run(experiment) is experiment.trials[1], "the better one goes on"
    experiment.search_alg.is_finished = lambda: True
    assert experiment.scheduler.choose_trial_to_run(experiment) is None
    assert experiment.statuses == "TERMINATED TERMINATED"


def test_a_promoting_asha_goes_on_from_its_state() -> None:
    arguments = {**JUDGED, "max_t": 16, "reduction_factor": 2, "promote": True}
    experiment = Experiment(ASHAScheduler(**arguments), 3)
    experiment.report(experiment.trials[0], 1, score=5.0)
    experiment.report(experiment.trials[1], 1, score=1.0)
    other = ASHAScheduler(**arguments)
    other.load(pickle.loads(pickle.dumps(experiment.scheduler.state())))
    assert other.choose_trial_to_run(experiment) is experiment.trials[0]


# ---------------------------------------------------------------- HyperBand


def at_milestone(count: int = 4, **more: Any) -> Experiment:
    """A bracket of 4 trials that are halved at 1 and 2, up to 4. The first two have been let on."""
    scheduler = HyperBandForBOHB if more.pop("bohb", False) else HyperBandScheduler
    experiment = Experiment(scheduler(**JUDGED, max_t=4, reduction_factor=2, **more))
    # The brackets with fewer trials are filled first.
    others = 0 if scheduler is HyperBandForBOHB else 6
    for _ in range(others + count):
        experiment.add()
    for trial in experiment.trials[:others]:
        trial.status = "RUNNING"
        experiment.stop_trial(trial)
    del experiment.trials[:others]
    return experiment


def test_a_failure_after_a_halving_leaves_no_trial_paused_for_ever() -> None:
    experiment = at_milestone()
    for trial, score in zip(experiment.trials, (4.0, 3.0, 2.0, 1.0)):
        experiment.report(trial, 1, score=score)
    assert experiment.statuses == "PAUSED PAUSED TERMINATED TERMINATED"
    first, second = experiment.trials[:2]
    assert experiment.report(first, 2, score=4.0) == "PAUSE", "it waits for the second one"
    second.status = "RUNNING"
    experiment.fail(second)
    assert experiment.scheduler.choose_trial_to_run(experiment) is first


def test_a_failure_at_the_end_of_a_bracket_ends_trials_that_are_done() -> None:
    experiment = at_milestone(3)
    for trial, score in zip(experiment.trials, (4.0, 3.0, 2.0)):
        experiment.report(trial, 1, score=score)
    first, second = experiment.trials[:2]
    experiment.report(first, 4, score=4.0)
    second.status = "RUNNING"
    experiment.fail(second)
    assert experiment.scheduler.choose_trial_to_run(experiment) is None
    assert first.status == "TERMINATED"


def test_trials_that_jump_over_a_milestone_are_halved_again() -> None:
    experiment = at_milestone()
    decisions = [experiment.report(trial, 3, score=score) for trial, score in zip(experiment.trials, (4, 3, 2, 5))]
    assert decisions == ["PAUSE", "PAUSE", "PAUSE", "CONTINUE"]
    assert experiment.statuses == "TERMINATED TERMINATED TERMINATED RUNNING"


def test_nan_is_the_worst_score() -> None:
    experiment = at_milestone()
    for trial, score in zip(experiment.trials, (math.nan, 1.0, math.nan, 2.0)):
        experiment.report(trial, 1, score=score)
    assert [trial.trial_id for trial in experiment.trials if not trial.is_finished()] == ["t7", "t9"]


@pytest.mark.parametrize("missing", ["score", "training_iteration"])
def test_a_result_without_the_metric_or_the_time_decides_nothing(missing: str) -> None:
    experiment = at_milestone()
    trial = experiment.trials[0]
    trial.status = "RUNNING"
    result = {"score": 1.0, "training_iteration": 1}
    del result[missing]
    assert experiment.scheduler.on_trial_result(experiment, trial, result) == "CONTINUE"
    assert experiment.report(trial, 1, score=1.0) == "PAUSE"


def test_bohb_works_without_a_searcher_that_counts_paused_trials() -> None:
    experiment = at_milestone(2, bohb=True)
    experiment.search_alg = None
    first, second = experiment.trials
    assert experiment.report(first, 1, score=1.0) == "PAUSE"
    assert first.last_result["hyperband_info"] == {"budget": 1}
    assert experiment.report(second, 1, score=2.0) == "PAUSE"
    assert experiment.scheduler.choose_trial_to_run(experiment) is not None, "nothing runs: the bracket is halved"


# ---------------------------------------------------------------- the median rule


def test_results_of_a_trial_that_began_again_count_by_their_time() -> None:
    rule = MedianStoppingRule(time_attr="training_iteration", **JUDGED, grace_period=1, min_samples_required=1)
    experiment = Experiment(rule, 2)
    first, second = experiment.trials
    for time, score in ((1, 1.0), (2, 5.0), (3, 9.0), (2, 3.0), (3, 7.0)):
        experiment.report(first, time, score=score)
    # Up to 2 the mean is that of 1, 5 and 3.
    assert experiment.report(second, 2, score=3.0) == "CONTINUE"
    assert rule._results["t0"].mean_until(2) == 3.0
    assert experiment.report(second, 3, score=3.0) == "STOP"


# ---------------------------------------------------------------- schedulers of users


class Picky(FIFOScheduler):
    """As one would write it for Ray: it calls no __init__ of its base, and holds trials."""

    def __init__(self) -> None:
        self.best: PlayedTrial | None = None
        self.seen: dict[PlayedTrial, float] = {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        self.seen[trial] = result["score"]
        if self.best is None or self.seen[trial] >= self.seen[self.best]:
            self.best = trial
            return TrialScheduler.CONTINUE
        return TrialScheduler.STOP


def test_a_scheduler_written_for_ray_runs_as_it_is() -> None:
    experiment = Experiment(Picky(), 3)
    assert experiment.scheduler.set_search_properties("score", "max", stop={})
    assert [experiment.report(trial, 1, score=score) for trial, score in zip(experiment.trials, (2, 1, 3))] == [
        "CONTINUE",
        "STOP",
        "CONTINUE",
    ]
    assert experiment.scheduler.choose_trial_to_run(experiment) is None
    assert experiment.scheduler.debug_string() == "Using FIFO scheduling algorithm."


class Holding(TrialScheduler):
    """Holds trials, and something that cannot be pickled."""

    def __init__(self) -> None:
        self.trials: list[Trial] = []
        self.ages = {"a": lambda: 3}
        self.lock = threading.Lock()


def test_the_state_of_any_scheduler_is_kept_with_its_trials() -> None:
    trials = [Trial("f", trial_id=f"t{number}") for number in range(3)]
    scheduler = Holding()
    scheduler.trials = [trials[2], trials[0]]
    with pytest.warns(RuntimeWarning, match="'lock' cannot be pickled"):
        state = pickle.loads(pickle.dumps(scheduler.state()))
    assert len(state) < 3000, "a trial is kept by its id"
    other = Holding()
    lock = other.lock
    other.load(state, {trial.trial_id: trial for trial in trials}.get)
    assert other.trials == [trials[2], trials[0]]
    assert other.ages["a"]() == 3
    assert other.lock is lock
    with pytest.raises(ValueError, match="get_trial"):
        other.load(state)

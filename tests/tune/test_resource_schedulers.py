"""Schedulers that change what trials hold, beyond what traces of Ray's compare."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest

from hpc.tune.placement import PlacementGroupFactory
from hpc.tune.schedulers import ResourceChangingScheduler, create_scheduler
from hpc.tune.schedulers.resource_changing_scheduler import DistributeResources, DistributeResourcesToTopJob
from tune.playing import PlayedController, PlayedTrial


def cluster(scheduler: Any, trials: int = 2, bundles: Any = ({"CPU": 1},)) -> PlayedController:
    """8 CPUs, and so many trials."""
    made = PlayedController()
    made.scheduler = scheduler
    for number in range(trials):
        trial = PlayedTrial(f"t{number}", True, {}, PlacementGroupFactory(list(bundles)))
        made.trials.append(trial)
        scheduler.on_trial_add(made, trial)
        trial.status = "RUNNING"
    return made


def report(made: PlayedController, trial: PlayedTrial, **result: Any) -> str:
    trial.status = "RUNNING"
    trial.last_result = {"training_iteration": 1, **result}
    decision = made.scheduler.on_trial_result(made, trial, trial.last_result)
    if decision == "PAUSE":
        made.pause_trial(trial)
    return decision


def cpus(trial: PlayedTrial) -> float:
    return trial.placement_group_factory.required_resources["CPU"]


def test_trials_share_what_is_free_and_pause_for_it() -> None:
    made = cluster(ResourceChangingScheduler())
    first, second = made.trials
    assert report(made, first) == "PAUSE"
    assert cpus(first) == 1, "it holds what it held until it has ended"
    assert made.scheduler.choose_trial_to_run(made) is first
    assert cpus(first) == 4
    assert report(made, first) == "CONTINUE", "it has what it is to have"
    assert report(made, second) == "PAUSE"
    made.scheduler.choose_trial_to_run(made)
    assert cpus(second) == 4
    made.stop_trial(first)
    assert report(made, second) == "PAUSE"
    made.scheduler.choose_trial_to_run(made)
    assert cpus(second) == 8


def test_a_trial_that_still_saves_keeps_what_it_holds() -> None:
    made = cluster(ResourceChangingScheduler())
    first = made.trials[0]
    report(made, first)
    first.status = "RUNNING"
    made.scheduler.choose_trial_to_run(made)
    assert cpus(first) == 1
    first.status = "PAUSED"
    made.scheduler.choose_trial_to_run(made)
    assert cpus(first) == 4


def test_what_trials_hold_is_given_again_from_the_state() -> None:
    made = cluster(ResourceChangingScheduler())
    first, second = made.trials
    report(made, first)
    made.scheduler.choose_trial_to_run(made)
    report(made, second)
    other = ResourceChangingScheduler()
    other.load(pickle.loads(pickle.dumps(made.scheduler.state())))
    for trial in made.trials:
        trial.placement_group_factory, trial.status = PlacementGroupFactory([{"CPU": 1}]), "PENDING"
    other.choose_trial_to_run(made)
    assert [cpus(trial) for trial in made.trials] == [4, 4]
    other.on_trial_add(made, first)


def test_trials_with_other_resources_are_refused() -> None:
    made = cluster(ResourceChangingScheduler(), 1)
    with pytest.raises(RuntimeError, match="begin with the same resources"):
        made.scheduler.on_trial_add(made, PlayedTrial("x", True, {}, PlacementGroupFactory([{"CPU": 2}])))


def test_a_function_of_the_user_decides() -> None:
    asked = []

    def share(controller: Any, trial: Any, result: Any, scheduler: Any) -> Any:
        asked.append((trial.trial_id, result["score"], scheduler.metric))
        return PlacementGroupFactory([{"CPU": 3}]) if result["score"] > 1 else None

    base = create_scheduler("asha", metric="score", mode="max") if False else None
    scheduler = create_scheduler("resource_changing", base_scheduler=base, resources_allocation_function=share)
    made = cluster(scheduler)
    scheduler.set_search_properties("score", "max")
    assert report(made, made.trials[0], score=1) == "CONTINUE"
    assert report(made, made.trials[0], score=2) == "PAUSE"
    made.scheduler.choose_trial_to_run(made)
    assert cpus(made.trials[0]) == 3
    assert asked == [("t0", 1, "score"), ("t0", 2, "score")]
    assert (share.metric, share.mode) == ("score", "max")  # type: ignore[attr-defined]


def test_without_a_function_nothing_changes_and_it_is_said() -> None:
    with pytest.warns(UserWarning, match="no resources change"):
        scheduler = ResourceChangingScheduler(resources_allocation_function=None)
    made = cluster(scheduler)
    assert report(made, made.trials[0]) == "CONTINUE"


def top(times: int = -1, bundles: Any = ({"CPU": 1},), **scores: Any) -> PlayedController:
    share = DistributeResourcesToTopJob(len(bundles) > 1, {"CPU": 1}, times, metric="score", mode="max")
    made = cluster(ResourceChangingScheduler(None, share), len(scores), bundles)
    for trial, score in zip(made.trials, scores.values()):
        trial.last_result = {} if score is None else {"score": score}
    return made


def given(made: PlayedController, number: int) -> float:
    trial = made.trials[number]
    made.scheduler.on_trial_result(made, trial, {"training_iteration": 1, **trial.last_result})
    trial.status = "PAUSED"
    made.scheduler.choose_trial_to_run(made)
    return cpus(trial)


def test_the_best_trial_gets_all_that_is_free() -> None:
    made = top(a=1.0, b=2.0, c=0.0)
    assert [given(made, number) for number in (0, 1, 2)] == [1, 6, 1]


def test_a_trial_without_a_result_or_with_nan_is_not_the_best() -> None:
    made = top(a=None, b=math.nan, c=0.0)
    assert [given(made, number) for number in (0, 1, 2)] == [1, 1, 6]


def test_what_the_best_trial_may_not_have_goes_to_the_next() -> None:
    for bundles in (({"CPU": 1},), ({"CPU": 1}, {"CPU": 1})):
        made = top(2, bundles, a=1.0, b=2.0)
        base = len(bundles)
        assert [given(made, number) for number in (1, 0)] == [base + 2, base + min(2, 8 - 2 * base - 2)]


def test_more_than_there_is_is_given_back() -> None:
    made = cluster(ResourceChangingScheduler(), 1)
    assert given(made, 0) == 8
    made.cpus = 5
    assert given(made, 0) == 5
    made.cpus = 0
    assert given(made, 0) == 1, "not less than it began with"


@pytest.mark.parametrize("unit", [{"CPU": 0}, {"memory": 1}, {"CPU": -1}])
def test_a_unit_needs_cpus_or_gpus(unit: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="increase_by"):
        DistributeResources(increase_by=unit)


def test_several_bundles_need_add_bundles() -> None:
    made = cluster(ResourceChangingScheduler(), 1, ({"CPU": 1}, {"CPU": 1}))
    with pytest.raises(ValueError, match="add_bundles"):
        report(made, made.trials[0])


def test_an_empty_first_bundle_stays_empty() -> None:
    made = cluster(ResourceChangingScheduler(None, DistributeResources(add_bundles=True)), 1, ({}, {"CPU": 2}))
    given(made, 0)
    assert made.trials[0].placement_group_factory == PlacementGroupFactory([{}] + [{"CPU": 2}] * 4)


def test_the_scheduler_behind_it_goes_on_from_its_state_too() -> None:
    base = {"metric": "score", "mode": "max", "reduction_factor": 2, "time_attr": "training_iteration"}
    made = cluster(ResourceChangingScheduler(create_scheduler("async_hyperband", **base), DistributeResources()))
    assert made.scheduler.metric == "score"
    report(made, made.trials[0], score=2.0)
    other = ResourceChangingScheduler(create_scheduler("async_hyperband", **base), DistributeResources())
    other.load(pickle.loads(pickle.dumps(made.scheduler.state())))
    made.scheduler = other
    assert report(made, made.trials[1], score=1.0) == "STOP"


def test_a_name_that_is_no_scheduler_lists_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"'nothing'.*hyperband.*pb2"):
        create_scheduler("nothing")

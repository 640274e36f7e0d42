"""A trial knows its metrics as Ray's does, in little memory."""

from __future__ import annotations

import sys

import pytest

from hpc.tune.flat import flatten_dict
from hpc.tune.trial import Trial


def trial(**more):
    return Trial("train", trial_id="a1b2c_00000", **more)


def test_a_trial_has_rays_name():
    assert str(trial()) == "train_a1b2c_00000"
    assert str(trial(config={"env": "Cart/Pole"})) == "train_Cart_Pole_a1b2c_00000"
    assert str(trial(custom_trial_name="mine")) == "mine"


def test_metrics_are_analysed_as_ray_does():
    one = trial()
    for step in range(1, 13):
        one.update_last_result({"training_iteration": step, "eval": {"loss": float(step % 7)}, "pid": 5}, now=step)
    found = one.metric_analysis
    assert set(found) == {"training_iteration", "eval/loss"}
    values = [float(step % 7) for step in range(1, 13)]
    assert found["eval/loss"] == {
        "max": 6.0, "min": 0.0, "last": 5.0, "avg": pytest.approx(sum(values) / 12),
        "last-5-avg": sum(values[-5:]) / 5, "last-10-avg": sum(values[-10:]) / 10,
    }  # fmt: skip
    one.settle()
    assert one.metric_analysis == found


def test_what_a_callback_changes_in_a_result_is_analysed():
    one = trial()
    result = {"loss": 3}
    one.update_last_result(result, now=1.0)
    result["loss"] = 1
    assert one.metric_analysis["loss"]["max"] == 1


def test_resources_do_not_change_while_it_runs():
    one = trial()
    one.update_resources(("cpu", 2))
    assert one.placement_group_factory == ("cpu", 2)
    one.status = Trial.RUNNING
    with pytest.raises(ValueError, match="runs"):
        one.update_resources(("cpu", 1))


def test_a_flat_result_is_not_copied():
    result = {"a": 1, "b": [1, 2]}
    assert flatten_dict(result) is result
    assert flatten_dict({"a": {"b": {"c": 1}, "d": {}}, "e": 2}) == {"a/b/c": 1, "e": 2}


def test_a_trial_has_no_dict_of_its_own():
    assert not hasattr(trial(), "__dict__") and sys.getsizeof(trial()) < 300


def test_a_trial_says_where_its_files_are_and_makes_its_directory(tmp_path):
    trial = Trial("f", trial_id="1", path=f"{tmp_path}/sweep/trial_1")
    assert (trial.local_path, trial.experiment_dir_name) == (trial.path, "sweep")
    assert trial.local_experiment_path == trial.remote_experiment_path == f"{tmp_path}/sweep"
    assert trial.error_file is None and trial.pickled_error_file is None
    trial.error = ValueError("diverged")
    assert trial.error_file == f"{trial.path}/error.txt" and trial.pickled_error_file == f"{trial.path}/error.pkl"
    trial.init_local_path()
    trial.init_local_path()
    assert (tmp_path / "sweep" / "trial_1").is_dir()
    nowhere = Trial("f", trial_id="2")
    nowhere.init_local_path()
    assert (nowhere.local_path, nowhere.local_experiment_path, nowhere.experiment_dir_name) == (None, None, None)


def test_one_metric_of_a_trial_is_what_the_analysis_of_all_has_of_it():
    trial = Trial("f", trial_id="1")
    for step, loss in enumerate((3.0, 1.0, 2.0), 1):
        trial.update_last_result({"training_iteration": step, "loss": loss, "eval": {"acc": -loss}}, step)
    for settled in (False, True):
        if settled:
            trial.settle()
        for name, values in trial.metric_analysis.items():
            assert {which: trial.metric_value(name, which) for which in values} == values
    assert trial.metric_value("none", "last") is None and trial.metric_value("loss", "none") is None

"""Callbacks are told what happens in order, cost nothing where they do not listen, and are found in a variable."""

from __future__ import annotations

import json

import pytest
from tune_trials import make_trial, tell

from hpc.tune.callback import HOOKS, Callback, CallbackList
from hpc.tune.default_callbacks import ErrorFiles, callbacks_for
from hpc.tune.logger import CSVLoggerCallback, JsonLoggerCallback, LoggerCallback, TBXLoggerCallback, pretty_print
from hpc.tune.logger.logger import FewTrials
from hpc.tune.reporter.output import About, ExperimentOutput


def about(**changes):
    return About("sweep", "/storage/sweep", "search", "FIFOScheduler", 1)._replace(**changes)


class Recording(LoggerCallback):
    def __init__(self, name="a", log=None):
        self.name = name
        self.log = [] if log is None else log

    def setup(self, stop=None, num_samples=None, total_num_samples=None, **info):
        self.log.append((self.name, "setup", total_num_samples))

    def log_trial_start(self, trial):
        self.log.append((self.name, "start", str(trial)))

    def log_trial_result(self, iteration, trial, result):
        self.log.append((self.name, "result", result["training_iteration"]))
        result[self.name] = iteration

    def log_trial_end(self, trial, failed=False):
        self.log.append((self.name, "end", failed))

    def on_experiment_end(self, trials, **info):
        self.log.append((self.name, "over", len(trials)))


def test_all_hooks_of_ray_are_there():
    assert set(HOOKS) == {
        "on_step_begin", "on_step_end", "on_trial_start", "on_trial_restore", "on_trial_save", "on_trial_result",
        "on_trial_complete", "on_trial_recover", "on_trial_error", "on_checkpoint", "on_experiment_end",
    }  # fmt: skip
    told = CallbackList([Callback()])
    for hook in HOOKS:
        getattr(told, hook)(anything=1)


def test_each_is_told_in_order_and_may_change_a_result(tmp_path):
    log = []
    told = CallbackList([Recording("a", log), Recording("b", log)])
    told.setup(stop=None, num_samples=1, total_num_samples=4)
    trial = make_trial(tmp_path)
    result = {"training_iteration": 1}
    tell(told, trial, [result], failed=True, turn=5)
    told.on_experiment_end(trials=[trial])
    events = [("setup", 4), ("start", "train_abcde_00000"), ("result", 1), ("end", True), ("over", 1)]
    assert log == [(name, *event) for event in events for name in "ab"]
    assert result["a"] == result["b"] == 5


def test_what_nobody_listens_to_is_not_told():
    told = CallbackList([Recording()])
    assert told.hears("on_trial_result") and not told.hears("on_step_begin")


def test_a_method_of_one_object_counts_too():
    one, seen = Callback(), []
    one.on_step_end = lambda **info: seen.append(info["iteration"])
    CallbackList([one]).on_step_end(iteration=3, trials=[])
    assert seen == [3]


def test_a_setup_without_arguments_is_called_and_warned_of():
    class Old(Callback):
        called = 0

        def setup(self):
            self.called += 1

    old = Old()
    with pytest.warns(FutureWarning, match="should take keywords"):
        CallbackList([old]).setup(stop=None)
    assert old.called == 1


def test_states_are_kept_for_those_that_have_one(tmp_path):
    class Counting(Callback):
        def __init__(self, count=0):
            self.count = count

        def get_state(self):
            return {"count": self.count}

        def set_state(self, state):
            self.count = state["count"]

    assert CallbackList([Callback()]).get_state() is None
    told = CallbackList([Callback(), Counting(7)])
    assert not told.can_restore(str(tmp_path))
    with pytest.raises(RuntimeError, match="callback-states"):
        told.restore_from_dir(str(tmp_path))
    told.save_to_dir(str(tmp_path), "2026")
    again = CallbackList([Callback(), Counting()])
    assert again.can_restore(str(tmp_path))
    again.restore_from_dir(str(tmp_path))
    assert again[1].count == 7 and len(again) == 2


def test_loggers_are_there_by_themselves_unless_the_user_has_one_of_the_kind(monkeypatch):
    kinds = [type(one) for one in callbacks_for(None, about=about(), verbose=0)]
    assert kinds == [ExperimentOutput, ErrorFiles, CSVLoggerCallback, JsonLoggerCallback, TBXLoggerCallback]
    mine = CSVLoggerCallback()
    told = callbacks_for([mine], about=about(), verbose=0)
    assert [type(one) for one in told].count(CSVLoggerCallback) == 1 and told[0] is mine
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    assert [type(one) for one in callbacks_for(None, about=about(), verbose=0)] == [ExperimentOutput, ErrorFiles]


def test_a_variable_names_callbacks_that_each_experiment_has(monkeypatch):
    monkeypatch.setenv("RAY_TUNE_CALLBACKS", f"{__name__}.Recording, ,{__name__}.Recording")
    users = Callback()
    given = [users]
    told = callbacks_for(given, about=about(), verbose=0)
    assert [type(one) for one in told][:3] == [Callback, Recording, Recording] and given == [users]
    for wrong in ("nothing.Here", f"{__name__}.Nothing", f"{__name__}.about", "justaname"):
        monkeypatch.setenv("RAY_TUNE_CALLBACKS", wrong)
        with pytest.raises(ValueError, match="RAY_TUNE_CALLBACKS"):
            callbacks_for(None, about=about())


def test_what_is_no_callback_is_refused():
    with pytest.raises(TypeError, match=r"hpc\.tune\.Callback objects, not int"):
        callbacks_for([3], about=about())


def test_a_failure_is_in_the_directory_of_its_trial(tmp_path):
    told = callbacks_for(None, about=about(), verbose=0)
    told.setup(total_num_samples=1)
    trial = make_trial(tmp_path)
    for number in (1, 2):
        trial.num_failures, trial.error = number, ValueError(f"failure {number}")
        hook = told.on_trial_recover if number == 1 else told.on_trial_error
        hook(iteration=0, trials=[trial], trial=trial)
    told.close()
    text = (tmp_path / "trial_0" / "error.txt").read_text()
    assert text.count("Failure # ") == 2 and "failure 2" in text
    few = FewTrials(1)
    few.expect(2)
    other = make_trial(tmp_path, 1)
    other.num_failures, other.error = 1, ValueError("no")
    ErrorFiles(few).on_trial_error(0, [other], other)
    assert not (tmp_path / "trial_1").exists(), "an experiment of many trials has no files"


def test_an_experiment_is_closed_however_it_ends(tmp_path):
    class Bad(Callback):
        def close(self):
            raise OSError("no room")

    told = callbacks_for([Bad()], about=about(), verbose=0)
    told.setup(total_num_samples=1)
    trial = make_trial(tmp_path)
    told.on_trial_start(iteration=0, trials=[trial], trial=trial)
    told.on_trial_result(iteration=0, trials=[trial], trial=trial, result={"training_iteration": 1, "x": 1.0})
    told.close()
    told.close()
    assert json.loads((tmp_path / "trial_0" / "result.json").read_text())["x"] == 1.0
    assert (tmp_path / "trial_0" / "progress.csv").exists() and list((tmp_path / "trial_0").glob("events.*"))


def test_a_result_is_printed_in_yaml():
    text = pretty_print({"b": {"c": 1.5, "d": "text"}, "a": [1, 2], "config": {"x": 1}, "n": None, "e": "a: b"}, {"q"})
    assert text == 'a:\n- 1\n- 2\nb:\n  c: 1.5\n  d: text\ne: "a: b"\n'

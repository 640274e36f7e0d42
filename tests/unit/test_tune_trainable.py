"""Trainables driven by hand, functions as trainables, and what a program gives for one."""

from __future__ import annotations

import functools
import os
import threading

import pytest

from hpc import tune
from hpc.tune.config import CheckpointConfig, FailureConfig, ResumeConfig, RunConfig, TuneConfig
from hpc.tune.error import TuneError
from hpc.tune.registry import as_class, asks_for_resources, dumps, name_of, register_trainable, resources_of
from hpc.tune.sharing import with_resources
from hpc.tune.trainable import DICT_FILE, Trainable


class Counting(Trainable):
    """Counts; saves into a directory."""

    def setup(self, config):
        self.count = config.get("from", 0)

    def step(self):
        self.count += 1
        return {"count": self.count}

    def save_checkpoint(self, checkpoint_dir):
        with open(os.path.join(checkpoint_dir, "count"), "w") as file:
            file.write(str(self.count))

    def load_checkpoint(self, checkpoint):
        with open(os.path.join(checkpoint, "count")) as file:
            self.count = int(file.read())


class CountingDicts(Counting):
    """The same with dicts."""

    def save_checkpoint(self, checkpoint_dir):
        return {"count": self.count}

    def load_checkpoint(self, checkpoint):
        self.count = checkpoint["count"]


@pytest.mark.parametrize("kind", [Counting, CountingDicts])
def test_a_trainable_goes_on_from_what_it_has_saved(kind, tmp_path):
    first = kind({"from": 10})
    assert [first.train()["count"] for _ in range(2)] == [11, 12]
    saved = first.save(str(tmp_path / "saved"))
    assert os.listdir(tmp_path / "saved") == ["count" if kind is Counting else DICT_FILE]
    second = kind({})
    second.restore(saved)
    result = second.train()
    assert (result["count"], result["training_iteration"], result["iterations_since_restore"]) == (13, 3, 1)
    third = kind({})
    third.restore(str(tmp_path / "saved"))
    assert third.train()["count"] == 13


def test_each_result_has_the_keys_that_nobody_reports():
    result = Counting({}).train()
    assert result["done"] is False and result["training_iteration"] == 1 and result["trial_id"] == "default"
    assert result["pid"] == os.getpid() and result["time_this_iter_s"] == result["time_total_s"]


def test_results_come_in_batches_until_one_is_done():
    class Done(Counting):
        """Is done with its third step."""

        def step(self):
            return {**super().step(), "done": self.count == 3}

    assert [result["count"] for result in Done({}).train_buffered(60.0)] == [1, 2, 3]
    assert len(Counting({}).train_buffered(60.0, max_buffer_length=2)) == 2


def test_what_a_step_or_a_save_may_not_return_is_refused(tmp_path):
    class Wrong(Trainable):
        """Returns what it may not."""

        def step(self):
            return 3

        def save_checkpoint(self, checkpoint_dir):
            return self.config["saves"]

    with pytest.raises(TypeError, match="must return a dict, not int"):
        Wrong({}).train()
    with pytest.raises(ValueError, match="has returned /elsewhere"):
        Wrong({"saves": "/elsewhere"}).save(str(tmp_path))
    with pytest.raises(TypeError, match="None or a dict, not int"):
        Wrong({"saves": 3}).save(str(tmp_path))
    with pytest.raises(NotImplementedError, match="needs a method step"):
        Trainable({}).train()
    with pytest.raises(ValueError, match="not there any more"):
        Counting({}).restore(str(tmp_path / "nothing"))


def test_a_trainable_is_a_class_a_function_of_one_argument_or_a_registered_name():
    def train(config):
        return {"loss": config["x"]}

    assert as_class(Counting) is Counting
    assert as_class(train).__name__ == "train" == name_of(train)
    assert as_class(functools.partial(train)).__name__ == "train" == name_of(functools.partial(train))
    register_trainable("mine", train)
    assert as_class("mine").__name__ == "train" and name_of("mine") == "mine"
    with pytest.raises(TuneError, match=r"no trainable is registered as 'other': call tune\.register_trainable"):
        as_class("other")
    with pytest.raises(TypeError, match="derive it from"):
        as_class(dict)
    with pytest.raises(TypeError, match="a function, a class or a registered name, not int"):
        as_class(3)
    for wrong in (lambda: None, lambda a, b: None, lambda *, config: None):
        with pytest.raises(ValueError, match="takes one argument"):
            as_class(wrong)


def test_what_cannot_be_sent_to_trials_is_named():
    lock = threading.Lock()

    def train(config):
        return lock

    with pytest.raises(TypeError, match=r"the trainable train cannot be sent to trials(.|\n)*lock"):
        dumps(as_class(train))


def test_resources_are_those_of_the_trainable_else_one_cpu():
    def train(config):
        pass

    assert resources_of(as_class(train), {}).bundles == [{"CPU": 1.0}]
    assert not asks_for_resources(as_class(train)) and not asks_for_resources(Counting)
    by_config = with_resources(Counting, lambda config: tune.PlacementGroupFactory([{"CPU": config["cpus"]}]))
    assert resources_of(by_config, {"cpus": 3}).bundles == [{"CPU": 3.0}] and by_config.__name__ == "Counting"
    asking = as_class(with_resources(train, {"cpu": 2}))
    assert resources_of(asking, {}).bundles == [{"CPU": 2.0}] and asks_for_resources(asking)
    with pytest.raises(ValueError, match="a dict, a PlacementGroupFactory or a function, not int"):
        with_resources(train, 3)
    with pytest.raises(ValueError, match="takes a function or a class"):
        with_resources(dict, {"cpu": 1})
    with pytest.raises(TuneError, match="asks for 5 as its resources"):
        resources_of(as_class(with_resources(lambda config: None, lambda config: 5)), {})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TuneConfig(mode="best"), 'mode must be "min" or "max"'),
        (lambda: TuneConfig(num_samples=-2), "num_samples must be at least -1"),
        (lambda: TuneConfig(time_budget_s=0), "time_budget_s must be a number of seconds above 0"),
        (lambda: FailureConfig(max_failures=2, fail_fast=True), "max_failures must be 0"),
        (lambda: FailureConfig(fail_fast="maybe"), 'True, False or "raise"'),
        (lambda: CheckpointConfig(num_to_keep=0), "num_to_keep must be at least 1"),
        (lambda: CheckpointConfig(checkpoint_frequency=-1), "checkpoint_frequency must be at least 0"),
        (lambda: RunConfig(name="a/b"), "the name of a directory"),
        (lambda: RunConfig(log_to_file=("a",)), "a bool, a name or two names"),
        (lambda: ResumeConfig(errored="AGAIN"), "RESUME, RESTART or SKIP"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_resume_config_takes_rays_names():
    config = ResumeConfig(finished="RESTART", errored=ResumeConfig.ResumeType.RESUME)
    assert config.finished is ResumeConfig.ResumeType.RESTART and config.unfinished is ResumeConfig.ResumeType.RESUME

"""Evaluation beside training, as long as training, and without env runners: with groups that are made up."""

from __future__ import annotations

import math
import threading

import pytest

from hpc.rllib.algorithms.algorithm_config import AlgorithmConfig
from hpc.rllib.algorithms.parts.evaluating import Evaluator
from hpc.rllib.env.fragment import EpisodeRecord, Sample
from hpc.rllib.utils.metrics.metrics_logger import MetricsLogger


class Group:
    """Env runners that answer at once, if they are there."""

    def __init__(self, healthy=2):
        self.asked, self.synced, self.healthy, self.probed = [], 0, healthy, []
        self.first = threading.Event()

    def collect(self, **asked):
        self.asked.append(asked)
        self.first.set()
        count = asked.get("episodes", 1)
        return [Sample({}, 10 * count, episodes=[EpisodeRecord(5.0, 10, 0.1)] * count)]

    def num_remote_env_runners(self):
        return 2

    def num_healthy_remote_env_runners(self):
        return self.healthy

    def probe_unhealthy_env_runners(self, timeout_seconds=None):
        self.probed.append(timeout_seconds)
        return []

    def sync_weights(self, **given):
        self.synced += 1


class Algorithm:
    """What an evaluator needs of an algorithm."""

    def __init__(self, **settings):
        self.config = AlgorithmConfig().evaluation(evaluation_num_env_runners=2, evaluation_interval=2, **settings)
        self.callbacks, self.learner_group, self.env_runner_group, self.steps_sampled = [], None, None, 0
        self.metrics = MetricsLogger(root=True)

    def restore_env_runners(self, group):
        return group.probe_unhealthy_env_runners()


def made(healthy=2, **settings):
    evaluator = Evaluator(Algorithm(**settings), None, 1)
    evaluator.group = Group(healthy)
    return evaluator, evaluator.group


def test_an_evaluation_asks_for_what_is_set():
    evaluator, group = made(evaluation_duration=7, evaluation_config={"explore": False})
    assert [evaluator.is_due(iteration) for iteration in (1, 2, 3, 4)] == [False, True, False, True]
    result = evaluator.evaluate()["env_runners"]
    assert group.asked == [{"episodes": 7, "explore": False, "force_reset": True, "timeout_s": 120.0}]
    assert (result["num_episodes"], result["episode_return_mean"], group.synced) == (7, 5.0, 1)
    evaluator, group = made(evaluation_duration=70, evaluation_duration_unit="timesteps")
    evaluator.evaluate()
    assert group.asked[0]["steps"] == 70


def test_an_evaluation_beside_training_goes_on_until_training_ends():
    evaluator, group = made(
        evaluation_parallel_to_training=True, evaluation_duration="auto", evaluation_duration_unit="timesteps"
    )
    again = threading.Event()

    def train():
        assert group.first.wait(30), "it evaluates while this trains"
        while len(group.asked) < 3:
            again.wait(0.001)
        return "trained"

    trained, result = evaluator.beside(train)
    assert trained == "trained" and len(group.asked) >= 3
    steps = [asked["steps"] for asked in group.asked]
    assert steps[0] == 200 and steps[1] == 4000, "fast rounds become longer, up to the most of each runner"
    assert group.asked[0]["force_reset"] and not group.asked[1]["force_reset"]
    assert result["env_runners"]["num_episodes"] == len(group.asked)


def test_an_error_of_training_ends_the_evaluation_beside_it():
    evaluator, group = made(
        evaluation_parallel_to_training=True, evaluation_duration="auto", evaluation_duration_unit="timesteps"
    )

    def train():
        group.first.wait(30)
        raise RuntimeError("training")

    with pytest.raises(RuntimeError, match="training"):
        evaluator.beside(train)


def test_evaluations_without_env_runners_are_left_out_and_then_an_error():
    evaluator, group = made(healthy=0, evaluation_error_after_n_consecutive_skips=2)
    result = evaluator.evaluate()["env_runners"]
    assert group.asked == [] and result["episode_return_mean"] != result["episode_return_mean"]
    group.healthy = 1
    evaluator.evaluate()
    group.healthy = 0
    evaluator.evaluate()
    with pytest.raises(RuntimeError, match="in 2 evaluations"):
        evaluator.evaluate()


def test_env_runners_are_waited_for():
    evaluator, group = made(healthy=0, evaluation_unhealthy_workers_timeout_s=60.0)

    def probe(timeout_seconds=None):
        group.healthy = 1 if timeout_seconds else 0
        return []

    group.probe_unhealthy_env_runners = probe
    evaluator.evaluate()
    assert len(group.asked) == 1


def test_waiting_for_env_runners_leaves_the_processor_to_them():
    evaluator, group = made(healthy=0, evaluation_unhealthy_workers_timeout_s=0.2)
    evaluator.evaluate()
    assert group.asked == [] and 2 <= len(group.probed) <= 10


def test_an_evaluation_without_a_limit_of_time_has_none():
    evaluator, group = made(evaluation_sample_timeout_s=None)
    evaluator.evaluate()
    assert group.asked[0]["timeout_s"] == math.inf

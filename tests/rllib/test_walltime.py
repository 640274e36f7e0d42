"""Training over the ends of jobs: a signal saves all, and the next program goes on."""

from __future__ import annotations

import os
import signal

import pytest

import hpc
from hpc.rllib.agent import Agent
from hpc.rllib.algorithms.algorithm import Algorithm
from hpc.rllib.algorithms.ppo import PPOConfig
from hpc.rllib.core.rl_module.default_model_config import DefaultModelConfig
from hpc.rllib.walltime import keep_training, last_checkpoint


def config_of(**settings):
    return (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(num_env_runners=0, num_envs_per_env_runner=2)
        .training(train_batch_size_per_learner=40, minibatch_size=40, num_epochs=1)
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[4]))
        .update_from_dict(settings)
    )


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_signal_saves_and_the_next_program_goes_on(tmp_path, number):
    seen = []

    def leave(algorithm, result):
        seen.append(result["training_iteration"])
        if len(seen) == 2:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    first = keep_training(config_of(), tmp_path, stop={"training_iteration": 5}, on_result=leave)
    assert not first.complete and number.name in first.reason and first.path.endswith("checkpoint_000002")
    assert signal.getsignal(number) is before
    again = keep_training(config_of(), tmp_path, stop={"training_iteration": 5}, on_result=leave)
    assert again.complete and again.reason == "" and seen == [1, 2, 3, 4, 5]
    assert again.result["num_env_steps_sampled_lifetime"] >= 5 * 40
    assert not hpc.is_initialized()


def test_checkpoints_are_made_now_and_then_and_the_newest_stay(tmp_path):
    keep_training(config_of(), tmp_path, stop=lambda result: result["training_iteration"] == 4, save_every_s=0, keep=2)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint_000003", "checkpoint_000004"]
    (tmp_path / "checkpoint_000009.unfinished").mkdir()
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint_000004")
    assert last_checkpoint(tmp_path / "nothing") is None
    assert Agent.from_checkpoint(last_checkpoint(tmp_path)).act([0.0] * 4) in (0, 1)


def test_an_iteration_is_saved_once_and_only_checkpoints_of_its_own_are_touched(tmp_path, monkeypatch):
    saved, save = [], Algorithm.save_to_path

    def counted(self, path, **kwargs):
        saved.append(str(path))
        return save(self, path, **kwargs)

    monkeypatch.setattr(Algorithm, "save_to_path", counted)
    (tmp_path / "checkpoint_best").mkdir()
    (tmp_path / "checkpoint_000001.unfinished").mkdir()

    def leave(algorithm, result):
        os.kill(os.getpid(), signal.SIGUSR1)

    found = keep_training(config_of(), tmp_path, stop={"training_iteration": 9}, save_every_s=0, on_result=leave)
    assert not found.complete and len(saved) == 1, "before the end nothing is written twice"
    assert sorted(os.listdir(tmp_path)) == ["checkpoint_000001", "checkpoint_best"]
    for number in (999999, 1000000):
        (tmp_path / f"checkpoint_{number}").mkdir()
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint_1000000")
    with pytest.raises(ValueError, match="keep=0"):
        keep_training(config_of(), tmp_path, stop={"training_iteration": 1}, keep=0)


def test_the_next_program_may_have_other_settings(tmp_path):
    keep_training(config_of(), tmp_path, stop={"training_iteration": 1})
    found = keep_training(config_of(num_envs_per_env_runner=3), tmp_path, stop={"training_iteration": 2})
    assert found.result["config"]["num_envs_per_env_runner"] == 3 and found.result["training_iteration"] == 2

"""CartPole by one of the algorithms: how long until the pole stays up.

pip install 'hpc[rllib]'
python examples/rl_cartpole.py                          # PPO, all in this process
python examples/rl_cartpole.py --algo DQN
hpc-launch --nodes 2 examples/rl_cartpole.py --algo APPO --runners 8
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from hpc.rllib.algorithms.registry import get_algorithm_class


def ppo(config: Any) -> None:
    config.env_runners(num_envs_per_env_runner=8)
    config.training(
        train_batch_size_per_learner=512, minibatch_size=256, num_epochs=10, lr=1e-3, gamma=0.98, lambda_=0.9,
        clip_param=0.2, vf_clip_param=10_000.0, vf_loss_coeff=0.5, grad_clip=0.5, use_kl_loss=False,
    )  # fmt: skip
    config.rl_module(model_config={"fcnet_hiddens": [64, 64], "vf_share_layers": False})


def dqn(config: Any) -> None:
    config.env_runners(num_envs_per_env_runner=8, rollout_fragment_length=8)
    config.training(
        lr=1e-3, train_batch_size_per_learner=64, training_intensity=32, n_step=3, epsilon=[(0, 1.0), (8000, 0.04)]
    )
    config.rl_module(model_config={"fcnet_hiddens": [256, 256], "fcnet_activation": "relu"})


def sac(config: Any) -> None:
    config.training(actor_lr=1e-3, critic_lr=1e-3, alpha_lr=1e-3, lr=None, num_steps_sampled_before_learning_starts=500)
    config.reporting(min_sample_timesteps_per_iteration=500, min_time_s_per_iteration=0)
    config.rl_module(model_config={"fcnet_hiddens": [128, 128], "fcnet_activation": "relu"})


def asynchronous(config: Any) -> None:
    config.env_runners(num_envs_per_env_runner=16, rollout_fragment_length=50)
    config.learners(num_learners=0, num_gpus_per_learner=0)
    config.training(lr=5e-4, train_batch_size_per_learner=500, vf_loss_coeff=0.05, entropy_coeff=0.0)
    config.reporting(min_time_s_per_iteration=0, min_sample_timesteps_per_iteration=10_000)
    config.rl_module(model_config={"vf_share_layers": True})


def apex(config: Any) -> None:
    config.env_runners(num_envs_per_env_runner=4)
    config.training(
        lr=1e-3, train_batch_size_per_learner=64, num_steps_sampled_before_learning_starts=1000, n_step=3,
        target_network_update_freq=2000, training_intensity=8,
    )  # fmt: skip
    config.reporting(min_sample_timesteps_per_iteration=2000, min_time_s_per_iteration=1)
    config.rl_module(model_config={"fcnet_hiddens": [256, 256], "fcnet_activation": "relu"})


SETTINGS: dict[str, Callable[[Any], None]] = {
    "PPO": ppo, "DQN": dqn, "SAC": sac, "IMPALA": asynchronous, "APPO": asynchronous, "APEX": apex,
}  # fmt: skip
#: Algorithms that learn while their runners go on: they need processes.
PROCESSES = {"IMPALA": 2, "APPO": 2, "APEX": 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--algo", choices=sorted(SETTINGS), default="PPO", help="(PPO)")
    parser.add_argument("--runners", type=int, help="processes that play (0, or 2 of those that need them)")
    parser.add_argument("--goal", type=float, default=450, help="the mean return of 20 episodes that ends it (450)")
    parser.add_argument("--steps", type=int, default=2_000_000, help="of the environment, at most")
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    _, config = get_algorithm_class(told.algo, return_config=True)
    config.environment("CartPole-v1").debugging(seed=told.seed)
    config.reporting(metrics_num_episodes_for_smoothing=20)
    SETTINGS[told.algo](config)
    config.env_runners(num_env_runners=PROCESSES.get(told.algo, 0) if told.runners is None else told.runners)
    algo = config.build_algo()
    steps = 0
    mean = 0.0
    while mean < told.goal and steps < told.steps:
        result = algo.train()
        steps = result["num_env_steps_sampled_lifetime"]
        mean = result["env_runners"].get("episode_return_mean", 0.0)
        print(f"{steps:8.0f} steps {result['time_total_s']:6.1f} s: return {mean:.1f}", flush=True)
    algo.stop()
    print(
        f"{told.algo}: return {mean:.0f} after {steps:.0f} steps"
        + ("" if mean >= told.goal else ", which is not enough")
    )


if __name__ == "__main__":
    main()

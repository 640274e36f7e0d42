"""What is learned: a configuration for each task, made of hpc.rllib's or RLlib's classes, with what ends it.

Both libraries have the same lines: `library` is ``hpc`` or ``ray``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: Episodes that a return is the mean of, for all libraries: the default of 100 lags by up to 50,000 steps of CartPole.
WINDOW = 20
#: Steps between two looks at the return where iterations are as long as one likes.
LOOK = 10_000
#: Minibatches of modules with memory are counted in sequences, of up to 20 steps, by both libraries. With 512 of them a
#: minibatch was the whole batch, so that an epoch was one step of gradients.
SEQUENCES = 32
RETURN = ("env_runners", "episode_return_mean")
EVALUATED = ("evaluation", "env_runners", "episode_return_mean")


@dataclass(frozen=True)
class Task:
    """goal: the mean return that ends it; steps: of environments, at most; metric: where the return is."""

    make: Callable[[str], Any]
    goal: float
    steps: int
    metric: tuple[str, ...] = RETURN


def algorithm(library: str, name: str) -> Any:
    """A new configuration of an algorithm, by the name of its folder and class."""
    module = importlib.import_module(f"{library}.rllib.algorithms.{name.lower()}")
    config = getattr(module, f"{name}Config")()
    return config.reporting(metrics_num_episodes_for_smoothing=WINDOW, min_time_s_per_iteration=0)


def classes(library: str, name: str) -> Any:
    """A module of environments for examples."""
    return importlib.import_module(f"{library}.rllib.examples.envs.classes.{name}")


def cartpole_ppo(library: str) -> Any:
    config = algorithm(library, "PPO").environment("CartPole-v1")
    config.env_runners(num_env_runners=0, num_envs_per_env_runner=8)
    config.training(
        train_batch_size_per_learner=512, minibatch_size=256, num_epochs=10, lr=1e-3, gamma=0.98, lambda_=0.9,
        clip_param=0.2, vf_clip_param=10_000.0, vf_loss_coeff=0.5, grad_clip=0.5, use_kl_loss=False,
    )  # fmt: skip
    return config.rl_module(model_config={"fcnet_hiddens": [64, 64], "vf_share_layers": False})


def _dqn(library: str, **how: Any) -> Any:
    config = algorithm(library, "DQN").environment("CartPole-v1")
    config.env_runners(num_env_runners=0, num_envs_per_env_runner=8, rollout_fragment_length=8)
    config.training(
        lr=1e-3, train_batch_size_per_learner=64, training_intensity=32, num_steps_sampled_before_learning_starts=1000,
        target_network_update_freq=500, epsilon=[(0, 1.0), (8000, 0.04)], **how,
    )  # fmt: skip
    config.reporting(min_sample_timesteps_per_iteration=1000)
    return config.rl_module(model_config={"fcnet_hiddens": [256, 256], "fcnet_activation": "relu"})


def cartpole_dqn(library: str) -> Any:
    plain = {"type": "EpisodeReplayBuffer", "capacity": 50_000}
    return _dqn(library, double_q=False, dueling=False, n_step=1, replay_buffer_config=plain)


def cartpole_rainbow(library: str) -> Any:
    buffer = {"type": "PrioritizedEpisodeReplayBuffer", "capacity": 50_000, "alpha": 0.6, "beta": 0.4}
    return _dqn(library, double_q=True, dueling=True, n_step=3, replay_buffer_config=buffer)


def pendulum_sac(library: str) -> Any:
    config = algorithm(library, "SAC").environment("Pendulum-v1")
    config.training(
        actor_lr=2e-4 * 4, critic_lr=8e-4, alpha_lr=9e-4, lr=None, train_batch_size_per_learner=256, n_step=1,
        num_steps_sampled_before_learning_starts=256, target_entropy="auto", tau=0.005,
        replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": 100_000},
    )  # fmt: skip
    return config.reporting(min_sample_timesteps_per_iteration=500, min_time_s_per_iteration=0)


def _asynchronous(library: str, name: str) -> Any:
    """The settings of RLlib's own examples, with two runners: an update has one fragment, of 50 rows of 16."""
    config = algorithm(library, name).environment("CartPole-v1")
    config.env_runners(num_env_runners=2, num_envs_per_env_runner=16, rollout_fragment_length=50)
    config.learners(num_learners=0, num_gpus_per_learner=0)
    config.training(lr=5e-4, train_batch_size_per_learner=500, grad_clip=40.0, vf_loss_coeff=0.05, entropy_coeff=0.0)
    # Equal looks: by steps. By seconds a fast library would be looked at less often.
    config.reporting(min_sample_timesteps_per_iteration=LOOK)
    return config.rl_module(model_config={"vf_share_layers": True})


def cartpole_impala(library: str) -> Any:
    return _asynchronous(library, "IMPALA")


def cartpole_appo(library: str) -> Any:
    return _asynchronous(library, "APPO")


def cartpole_apex(library: str, runners: int = 2) -> Any:
    config = algorithm(library, "APEX").environment("CartPole-v1")
    config.env_runners(num_env_runners=runners, num_envs_per_env_runner=4)
    config.training(
        lr=1e-3, train_batch_size_per_learner=64, num_steps_sampled_before_learning_starts=1000, n_step=3,
        target_network_update_freq=2000, training_intensity=8,
    )  # fmt: skip
    config.reporting(min_sample_timesteps_per_iteration=2000, min_time_s_per_iteration=1)
    return config.rl_module(model_config={"fcnet_hiddens": [256, 256], "fcnet_activation": "relu"})


def stateless_ppo(library: str) -> Any:
    config = algorithm(library, "PPO").environment(classes(library, "stateless_cartpole").StatelessCartPole)
    # Observations are near 0.05: normalised, they are learned from three times as fast.
    normal = importlib.import_module(f"{library}.rllib.connectors.env_to_module").MeanStdFilter
    config.env_runners(
        num_env_runners=0, num_envs_per_env_runner=16, env_to_module_connector=lambda env, spaces, device: normal()
    )
    config.training(
        train_batch_size_per_learner=2048, minibatch_size=SEQUENCES, num_epochs=8, lr=1e-3, gamma=0.98, lambda_=0.95,
        vf_clip_param=10_000.0, vf_loss_coeff=0.01, grad_clip=0.5, use_kl_loss=False, clip_param=0.2,
    )  # fmt: skip
    model = {"fcnet_hiddens": [64], "use_lstm": True, "lstm_cell_size": 64, "max_seq_len": 20, "vf_share_layers": True}
    return config.rl_module(model_config=model)


def truncated_ppo(library: str) -> Any:
    """Episodes of 50 steps; it is evaluated on those of 500."""
    import gymnasium as gym

    registry = importlib.import_module(f"{library}.tune.registry")
    registry.register_env("short_cartpole", lambda _: gym.make("CartPole-v1", max_episode_steps=50))
    config = cartpole_ppo(library).environment("short_cartpole")
    config.evaluation(
        evaluation_interval=2, evaluation_duration=10, evaluation_config={"env": "CartPole-v1", "explore": False}
    )
    return config


def two_agents_ppo(library: str) -> Any:
    config = cartpole_ppo(library)
    config.environment(classes(library, "multi_agent").MultiAgentCartPole, env_config={"num_agents": 2})
    config.multi_agent(policies={"p0", "p1"}, policy_mapping_fn=lambda agent, episode, **_: f"p{agent}")
    return config


TASKS = {
    "cartpole_ppo": Task(cartpole_ppo, 450, 100_000),
    "cartpole_dqn": Task(cartpole_dqn, 450, 200_000),
    "cartpole_rainbow": Task(cartpole_rainbow, 450, 200_000),
    "pendulum_sac": Task(pendulum_sac, -250, 20_000),
    "cartpole_impala": Task(cartpole_impala, 450, 2_000_000),
    "cartpole_appo": Task(cartpole_appo, 450, 2_000_000),
    "cartpole_apex": Task(cartpole_apex, 450, 500_000),
    "stateless_ppo": Task(stateless_ppo, 350, 2_000_000),
    "truncated_ppo": Task(truncated_ppo, 80, 500_000, EVALUATED),
    "two_agents_ppo": Task(two_agents_ppo, 900, 400_000),
}

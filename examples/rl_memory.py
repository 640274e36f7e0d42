"""CartPole without its velocities: an LSTM remembers what the observations leave out.

    pip install 'hpc[rllib]'
    python examples/rl_memory.py

At the end the policy acts by itself, out of a checkpoint: `Agent` has its connectors and its memory.
"""

from __future__ import annotations

import argparse
import tempfile

from hpc.rllib import Agent
from hpc.rllib.algorithms.ppo import PPOConfig
from hpc.rllib.connectors.env_to_module import MeanStdFilter
from hpc.rllib.examples.envs.classes.stateless_cartpole import StatelessCartPole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--goal", type=float, default=350, help="the mean return of 20 episodes that ends it (350)")
    parser.add_argument("--steps", type=int, default=1_000_000, help="of the environment, at most")
    told = parser.parse_args()
    config = (
        PPOConfig()
        .environment(StatelessCartPole)
        .env_runners(
            num_env_runners=0, num_envs_per_env_runner=16,
            env_to_module_connector=lambda env, spaces, device: MeanStdFilter(),  # observations are near 0.05
        )
        .training(  # a minibatch has 32 sequences of up to 20 steps
            train_batch_size_per_learner=2048, minibatch_size=32, num_epochs=8, lr=1e-3, gamma=0.98, lambda_=0.95,
            vf_clip_param=10_000.0, vf_loss_coeff=0.01, grad_clip=0.5, use_kl_loss=False, clip_param=0.2,
        )
        .rl_module(model_config={"fcnet_hiddens": [64], "use_lstm": True, "lstm_cell_size": 64, "max_seq_len": 20})
        .reporting(metrics_num_episodes_for_smoothing=20)
        .debugging(seed=0)
    )  # fmt: skip
    algo = config.build_algo()
    steps, mean = 0, 0.0
    while mean < told.goal and steps < told.steps:
        result = algo.train()
        steps, mean = result["num_env_steps_sampled_lifetime"], result["env_runners"]["episode_return_mean"]
        print(f"{steps:8.0f} steps: return {mean:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        algo.save_to_path(folder)
        algo.stop()
        print(f"by the checkpoint alone: return {play(Agent.from_checkpoint(folder)):.0f}")


def play(agent: Agent) -> float:
    """One episode; the agent remembers what its LSTM needs until its next `reset`."""
    env = StatelessCartPole()
    observation, _ = env.reset(seed=1)
    agent.reset()
    total, over = 0.0, False
    while not over and total < 500:
        observation, reward, terminated, truncated, _ = env.step(agent.act(observation))
        total, over = total + reward, terminated or truncated
    return total


if __name__ == "__main__":
    main()

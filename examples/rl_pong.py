"""Pong by APPO: processes play the Atari game, one learns from what they have seen, with or without a GPU.

pip install 'hpc[rllib]' ale-py opencv-python-headless
hpc-launch --nodes 4 examples/rl_pong.py --runners 32 --gpus 1
python examples/rl_pong.py --steps 20000                    # a beginning: Pong takes millions of steps
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import gymnasium as gym

from hpc.rllib.algorithms.appo import APPOConfig

FRAMES = 4


def pong(config: Any) -> gym.Env:
    """Grey images of 64 x 64, four frames together, each action for four of them."""
    import ale_py

    gym.register_envs(ale_py)
    game = gym.make("ALE/Pong-v5", frameskip=1)
    game = gym.wrappers.AtariPreprocessing(game, frame_skip=4, screen_size=64)
    stacked = gym.wrappers.FrameStackObservation(game, FRAMES)
    space = gym.spaces.Box(0, 255, (64, 64, FRAMES), "uint8")
    return gym.wrappers.TransformObservation(stacked, lambda seen: seen.transpose(1, 2, 0), space)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runners", type=int, default=2, help="processes that play (2)")
    parser.add_argument("--envs", type=int, default=4, help="games of each (4)")
    parser.add_argument("--gpus", type=float, default=0, help="of the learner (0)")
    parser.add_argument("--goal", type=float, default=20, help="the mean return that ends it (20)")
    parser.add_argument("--steps", type=int, default=10_000_000, help="at most")
    told = parser.parse_args()
    config = (
        APPOConfig()
        .environment(pong)
        .env_runners(num_env_runners=told.runners, num_envs_per_env_runner=told.envs, rollout_fragment_length=50)
        .learners(num_learners=1 if told.gpus else 0, num_gpus_per_learner=told.gpus)
        .training(lr=5e-4, train_batch_size_per_learner=500, vf_loss_coeff=1.0, entropy_coeff=0.01, grad_clip=30.0)
        .rl_module(
            model_config={"conv_filters": [[16, 4, 2], [32, 4, 2], [64, 4, 2], [128, 4, 2]], "fcnet_hiddens": [256]}
        )
        .reporting(min_time_s_per_iteration=5)
        .debugging(seed=0)
    )
    algo = config.build_algo()
    steps, mean = 0.0, -21.0
    while mean < told.goal and steps < told.steps:
        result = algo.train()
        steps = result["num_env_steps_sampled_lifetime"]
        found = result["env_runners"].get("episode_return_mean", math.nan)
        mean = mean if math.isnan(found) else found  # no game has ended yet
        rate = steps / result["time_total_s"]
        print(f"{steps:9.0f} steps, {rate:.0f} per second: return {mean:.1f}", flush=True)
    algo.stop()


if __name__ == "__main__":
    main()

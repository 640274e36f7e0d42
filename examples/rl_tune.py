"""A search for good settings of PPO: ASHA ends the trials that learn slowly.

    pip install 'hpc[rllib]'
    hpc-launch --nodes 4 examples/rl_tune.py --trials 64
    python examples/rl_tune.py --trials 8

Run again, it goes on where it was, also after a kill.
"""

from __future__ import annotations

import argparse

import hpc
from hpc import tune
from hpc.rllib.algorithms.ppo import PPOConfig

RETURN = "env_runners/episode_return_mean"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=16, help="(16)")
    parser.add_argument("--iterations", type=int, default=32, help="the most that a trial runs (32)")
    parser.add_argument("--storage", help="where results go: a directory that all nodes see (~/hpc_results)")
    parser.add_argument("--name", default="rl-tune")
    told = parser.parse_args()
    hpc.init()
    config = (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(num_env_runners=0, num_envs_per_env_runner=8)
        .training(
            lr=tune.loguniform(1e-4, 1e-2),
            gamma=tune.choice([0.95, 0.98, 0.99]),
            num_epochs=tune.choice([4, 10]),
            train_batch_size_per_learner=512,
            minibatch_size=256,
            vf_clip_param=10_000.0,
        )
        .rl_module(model_config={"fcnet_hiddens": [64, 64], "vf_share_layers": False})
        .reporting(metrics_num_episodes_for_smoothing=20)
    )
    grid = tune.Tuner(
        "PPO",
        param_space=config,
        tune_config=tune.TuneConfig(
            metric=RETURN,
            mode="max",
            num_samples=told.trials,
            scheduler=tune.schedulers.ASHAScheduler(
                max_t=told.iterations, grace_period=min(4, told.iterations), reduction_factor=2
            ),
        ),
        run_config=tune.RunConfig(
            name=told.name,
            storage_path=told.storage,
            stop={"training_iteration": told.iterations, RETURN: 450.0},
            verbose=0,
        ),
    ).fit()
    best = grid.get_best_result()
    found = {name: best.config[name] for name in ("lr", "gamma", "num_epochs")}
    mean = best.metrics["env_runners"]["episode_return_mean"]
    early = sum(one.metrics["training_iteration"] < told.iterations for one in grid)
    print(f"best of {len(grid)}: return {mean:.0f} with {found}; {early} ended early")


if __name__ == "__main__":
    main()

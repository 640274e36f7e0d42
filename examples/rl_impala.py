"""IMPALA over the nodes of a job: runners on all of them, one learner, and a run that goes on in the next job.

    hpc-launch --nodes 4 --time 1h examples/rl_impala.py
    sbatch examples/rl_impala.sbatch                       # the same as a script for Slurm
    python examples/rl_impala.py --runners 2               # on this machine

Before the job's end all is saved; run again with the same --storage it goes on from there.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

import hpc
from hpc.rllib.algorithms.impala import IMPALAConfig
from hpc.rllib.walltime import keep_training


def shown(algorithm: Any, result: dict[str, Any]) -> None:
    runners = result["env_runners"]
    mean, steps = runners.get("episode_return_mean", 0.0), result["num_env_steps_sampled_lifetime"]
    print(f"{steps:9.0f} steps: return {mean:.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runners", type=int, help="processes that play (all CPUs but two)")
    parser.add_argument("--env", default="CartPole-v1", help="(CartPole-v1)")
    parser.add_argument("--goal", type=float, default=450, help="the mean return that ends it (450)")
    parser.add_argument("--steps", type=int, default=5_000_000, help="at most")
    parser.add_argument("--storage", default="~/hpc_results/rl-impala", help="a directory that all nodes see")
    told = parser.parse_args()
    hpc.init()
    runners = told.runners or max(1, int(hpc.cluster_resources()["CPU"]) - 2)
    config = (
        IMPALAConfig()
        .environment(told.env)
        .env_runners(num_env_runners=runners, num_envs_per_env_runner=16, rollout_fragment_length=50)
        .learners(num_learners=1, num_gpus_per_learner=0)
        .training(lr=5e-4, train_batch_size_per_learner=500, vf_loss_coeff=0.05, entropy_coeff=0.0)
        .rl_module(model_config={"vf_share_layers": True})
        .reporting(min_time_s_per_iteration=1, metrics_num_episodes_for_smoothing=20)
        .resources(placement_strategy="SPREAD")
    )
    stop = {"env_runners/episode_return_mean": told.goal, "num_env_steps_sampled_lifetime": told.steps}
    done = keep_training(config, os.path.expanduser(told.storage), stop=stop, on_result=shown)
    said = "reached its end" if done.complete else f"saved for the next job: {done.reason}"
    print(f"{runners} runners: {said}; {done.path}")


if __name__ == "__main__":
    main()

"""APEX on CartPole with some runners: steps a second, and the ratio of trained to sampled steps.

    python replay.py RUNNERS SECONDS

Prints ``@bench {...}``. Everything is of the time after learning has started.
"""

from __future__ import annotations

import json
import sys
import time

import hpc
from hpc.rllib.algorithms.apex_dqn import ApexDQNConfig

STARTS, CAPACITY, ENVS = 2_000, 200_000, 16


def main() -> None:
    runners, seconds = int(sys.argv[1]), float(sys.argv[2])
    hpc.init(num_cpus=runners + 2)
    config = ApexDQNConfig().environment("CartPole-v1")
    config.env_runners(num_env_runners=runners, num_envs_per_env_runner=ENVS)
    config.training(
        num_steps_sampled_before_learning_starts=STARTS,
        num_replay_buffer_shards=2,
        replay_buffer_config={"capacity": CAPACITY},
        training_intensity=1,
    )
    config.reporting(min_time_s_per_iteration=0, min_sample_timesteps_per_iteration=0)
    algo = config.rl_module(model_config={"fcnet_hiddens": [256, 256]}).debugging(seed=0).build_algo()
    result = algo.train()
    while not result["flow"]["replay_ratio"]:
        result = algo.train()
    first, begin = result["num_env_steps_sampled_lifetime"], time.perf_counter()
    while time.perf_counter() - begin < seconds:
        result = algo.train()
    rate = (result["num_env_steps_sampled_lifetime"] - first) / (time.perf_counter() - begin)
    flow = result["flow"]
    algo.stop()
    hpc.shutdown()
    said = {"rate": rate, "ratio": flow["replay_ratio"], "dropped": flow["num_fragments_dropped_lifetime"]}
    print("@bench", json.dumps(said), flush=True)


if __name__ == "__main__":
    main()

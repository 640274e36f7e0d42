"""Kills in the middle of a run: of 2 of 8 runners, and the longest pause between two iterations before and after.

    python deaths.py

Prints ``@bench {...}``: seconds of the longest iteration before the kill and from it on, and what was lost.
"""

from __future__ import annotations

import json
import os
import signal
import time

import hpc
from hpc.rllib.algorithms.impala import IMPALAConfig

KILLED, RUNNERS, EACH = 2, 8, 12


def main() -> None:
    hpc.init(num_cpus=RUNNERS + 2)
    config = (
        IMPALAConfig()
        .environment("CartPole-v1")
        .env_runners(num_env_runners=RUNNERS, num_envs_per_env_runner=8, rollout_fragment_length=50)
        .learners(num_learners=0, num_gpus_per_learner=0)
        .training(train_batch_size_per_learner=1000)
        .fault_tolerance(restart_failed_env_runners=True, delay_between_env_runner_restarts_s=0)
        .reporting(min_time_s_per_iteration=0.1)
        .debugging(seed=0, log_level="ERROR")
    )
    algo = config.build_algo()
    pids = algo.env_runner_group.foreach_env_runner(lambda runner: os.getpid(), local_env_runner=False)
    longest = [0.0, 0.0]
    for turn in range(2):
        if turn:
            for pid in pids[:KILLED]:
                os.kill(pid, signal.SIGKILL)
        for _ in range(EACH):
            begin = time.perf_counter()
            result = algo.train()
            longest[turn] = max(longest[turn], time.perf_counter() - begin)
    said = {key: value for key, value in result["fault_tolerance"].items() if isinstance(value, (int, float))}
    algo.stop()
    hpc.shutdown()
    print("@bench", json.dumps({"before_s": longest[0], "after_s": longest[1], **said}), flush=True)


if __name__ == "__main__":
    main()

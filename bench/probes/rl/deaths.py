"""Kills in the middle of a run: the longest time between two updates before and after, and what was lost.

    python deaths.py runners            2 of 8 runners, IMPALA
    python deaths.py learners PPO       1 of 2 learners, of PPO or IMPALA

Prints ``@bench {...}``. It goes on until those that were killed have come back.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from typing import Any

import hpc

KILLED, RUNNERS = 2, 8
#: How long it is watched before the kill; and at least, and at most, from it on.
BEFORE_S, AFTER_S, MOST_S = 5.0, 5.0, 60.0


def configured(name: str, runners: int, learners: int) -> Any:
    """CartPole with remote runners, an iteration for each update."""
    config = getattr(importlib.import_module(f"hpc.rllib.algorithms.{name.lower()}"), f"{name}Config")()
    config.environment("CartPole-v1")
    config.env_runners(num_env_runners=runners, num_envs_per_env_runner=8, rollout_fragment_length=50)
    config.learners(num_learners=learners, num_gpus_per_learner=0)
    config.training(train_batch_size_per_learner=1000)
    if name == "PPO":
        config.training(minibatch_size=250, num_epochs=2).env_runners(rollout_fragment_length="auto")
    config.rl_module(model_config={"fcnet_hiddens": [64, 64]})
    config.fault_tolerance(delay_between_env_runner_restarts_s=0)
    config.reporting(min_time_s_per_iteration=0, min_sample_timesteps_per_iteration=0)
    return config.debugging(seed=0, log_level="ERROR")


def longest(algo: Any, is_over: Any) -> tuple[float, float, dict[str, Any]]:
    """Seconds of the longest iteration, and of all until it is over; the last result."""
    began, most, result = time.perf_counter(), 0.0, {}
    while not is_over(time.perf_counter() - began, result):
        begin = time.perf_counter()
        result = algo.train()
        most = max(most, time.perf_counter() - begin)
    return most, time.perf_counter() - began, result


class Back:
    """When those that were killed were back, as a condition for the end of a run."""

    def __init__(self, are_back: Any) -> None:
        self._are_back, self.after_s = are_back, float("nan")

    def __call__(self, spent: float, result: dict[str, Any]) -> bool:
        if result and self.after_s != self.after_s and self._are_back(result):
            self.after_s = spent
        return spent > MOST_S or (self.after_s == self.after_s and spent > AFTER_S)


def of_runners() -> dict[str, Any]:
    """Kill runners of IMPALA."""
    algo = configured("IMPALA", RUNNERS, 0).build_algo()
    before, _, _ = longest(algo, lambda spent, _: spent > BEFORE_S)
    for pid in algo.env_runner_group.foreach_env_runner(lambda runner: os.getpid(), local_env_runner=False)[:KILLED]:
        os.kill(pid, signal.SIGKILL)

    def are_back(result: dict[str, Any]) -> bool:
        counts = result["fault_tolerance"]
        return counts["num_remote_worker_restarts"] >= KILLED and counts["num_healthy_workers"] == RUNNERS

    back = Back(are_back)
    after, _, result = longest(algo, back)
    counts = result["fault_tolerance"]
    lost = counts["num_fragments_lost_lifetime"]
    algo.stop()
    return {
        "before_s": before, "after_s": after, "lost": lost, "back_s": back.after_s,
        "healthy": counts["num_healthy_workers"],
    }  # fmt: skip


def of_learners(name: str) -> dict[str, Any]:
    """Kill one of two learners."""
    algo = configured(name, 2, 2).build_algo()
    before, _, _ = longest(algo, lambda spent, _: spent > BEFORE_S)
    first, second = algo.learner_group.foreach_learner(lambda learner: os.getpid())
    os.kill(second, signal.SIGKILL)

    def are_back(result: dict[str, Any]) -> bool:
        return len(algo.learner_group._ranks.members) == 2

    died = False

    def is_over(result: dict[str, Any]) -> bool:
        nonlocal died
        died = died or algo.learner_group.get_stats()["num_learners_died_lifetime"] >= 1
        return died and are_back(result)

    back = Back(is_over)
    after, _, result = longest(algo, back)
    if hasattr(algo, "settle"):
        algo.settle()
    weights = algo.learner_group.foreach_learner(lambda learner: sum_of(learner.get_weights()))
    pids = algo.learner_group.foreach_learner(lambda learner: os.getpid())
    flow = result.get("flow", {})
    lost = flow.get("num_fragments_dropped_lifetime", 0) + flow.get("num_fragments_lost_lifetime", 0)
    algo.stop()
    return {
        "before_s": before, "after_s": after, "lost": lost, "back_s": back.after_s, "learners": len(set(pids)),
        "equal": len(weights) == 2 and weights[0] == weights[1] and first in pids and second not in pids,
    }  # fmt: skip


def sum_of(weights: Any) -> float:
    """A number that two learners share only where all their weights are equal, but for an accident."""
    return float(sum(abs(leaf.astype("float64")).sum() for module in weights.values() for leaf in module.values()))


def main() -> None:
    hpc.init(num_cpus=RUNNERS + 4)
    record = of_runners() if sys.argv[1] == "runners" else of_learners(sys.argv[2])
    hpc.shutdown()
    print("@bench", json.dumps(record), flush=True)


if __name__ == "__main__":
    main()

"""Rates of single parts, for each second of CPU time: steps of a runner, samples of a learner, a fragment's way.

    python rates.py hpc|ray runner VECTOR SECONDS     VECTOR: native, sync or envpool (hpc only)
    python rates.py hpc|ray learner LAYERS SECONDS    PPO, minibatches of 128, 2 x 256; LAYERS: separate or shared
    python rates.py hpc coordinator SECONDS           IMPALA: CPU time of its process for a fragment of 50 x 16

Prints ``@bench {...}``. The network is one of 2 x 256, and a runner has 64 environments; one thread.
"""

from __future__ import annotations

import copy
import importlib
import json
import os
import statistics
import sys
import time
from typing import Any

ENVS = 64
ROWS, EPOCHS, MINIBATCH = 4096, 4, 128


def configured(library: str, shared: bool = False) -> Any:
    """PPO on CartPole with the network of all measurements."""
    module = importlib.import_module(f"{library}.rllib.algorithms.ppo")
    config = module.PPOConfig().environment("CartPole-v1").env_runners(num_env_runners=0)
    config.rl_module(model_config={"fcnet_hiddens": [256, 256], "vf_share_layers": shared})
    return config.debugging(seed=0, log_level="ERROR")


def runner(library: str, vector: str, seconds: float) -> dict[str, Any]:
    """Steps per second of one runner, after a first sample."""
    config = configured(library).env_runners(num_envs_per_env_runner=ENVS, rollout_fragment_length=50)
    if vector == "envpool":
        config.environment("envpool:CartPole-v1")
    elif library == "hpc" and vector == "sync":
        import gymnasium as gym

        config.environment(lambda _: gym.make("CartPole-v1"))  # a function: the own vector class is not looked for
    kind = importlib.import_module(f"{library}.rllib.env.single_agent_env_runner").SingleAgentEnvRunner
    one = kind(config=config, worker_index=0)
    if library == "hpc":
        sample = lambda: one.sample_fragment(rows=50).env_steps  # noqa: E731
    else:
        sample = lambda: sum(len(part) for part in one.sample(num_timesteps=50 * ENVS))  # noqa: E731
    sample()
    steps, begin, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begin < seconds:
        steps += sample()
    return {"rate": steps / (time.perf_counter() - begin), "cpu_rate": steps / (time.process_time() - cpu)}


def learner(library: str, layers: str, seconds: float) -> dict[str, Any]:
    """Samples per second of whole updates, from what runners bring: 4,096 rows, 4 epochs; the median."""
    config = configured(library, layers == "shared").env_runners(num_envs_per_env_runner=ENVS)
    config.training(train_batch_size_per_learner=ROWS, minibatch_size=MINIBATCH, num_epochs=EPOCHS)
    algo = config.build_algo()
    how = {"num_epochs": EPOCHS, "minibatch_size": MINIBATCH, "shuffle_batch_per_epoch": True, "timesteps": {}}
    if library == "hpc":
        whole = {"samples": algo.env_runner_group.collect(steps=ROWS)}
    else:
        how["timesteps"] = {"num_env_steps_sampled_lifetime": 0}
        whole = {"episodes": algo.env_runner.sample(num_timesteps=ROWS)}
    algo.learner_group.update(**copy.deepcopy(whole), **how)
    rates, begin = [], time.perf_counter()
    while time.perf_counter() - begin < seconds:
        given = copy.deepcopy(whole)  # connectors of RLlib lengthen the episodes that they get
        cpu = time.process_time()
        algo.learner_group.update(**given, **how)
        rates.append(EPOCHS * ROWS / (time.process_time() - cpu))
    algo.stop()
    return {"cpu_rate": statistics.median(rates), "best_cpu_rate": max(rates)}


def coordinator(seconds: float) -> dict[str, Any]:
    """CPU time of IMPALA's process for each fragment, all its threads counted; the learner is an actor."""
    import hpc
    from hpc.rllib.algorithms.impala import IMPALAConfig

    hpc.init(num_cpus=8)
    config = IMPALAConfig().environment("CartPole-v1").env_runners(num_env_runners=2, num_envs_per_env_runner=16)
    config.learners(num_learners=1).rl_module(model_config={"fcnet_hiddens": [64, 64]}).debugging(seed=1)
    algo = config.build_algo()
    driver = algo._driver
    for _ in range(30):
        driver.advance(1, 5)
    fragments, own, begin, cpu = 0, 0.0, time.perf_counter(), time.process_time()
    thread = time.thread_time()
    while time.perf_counter() - begin < seconds:
        progress = driver.advance(1, 5)
        fragments, own = fragments + len(progress.samples), own + progress.busy_s
    took, thread = time.process_time() - cpu, time.thread_time() - thread
    rate = fragments / (time.perf_counter() - begin)
    algo.stop()
    hpc.shutdown()
    ms = {"own_ms": own / fragments * 1e3, "cpu_ms": thread / fragments * 1e3, "all_ms": took / fragments * 1e3}
    return {**ms, "rate": rate}


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    library, what, *rest = sys.argv[1:]
    if what == "runner":
        record = runner(library, rest[0], float(rest[1]))
    elif what == "learner":
        record = learner(library, rest[0], float(rest[1]))
    else:
        record = coordinator(float(rest[0]))
    print("@bench", json.dumps(record), flush=True)


if __name__ == "__main__":
    main()

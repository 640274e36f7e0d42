"""Rates of single parts: steps of a runner, samples of a learner, actions that are masked, what a checkpoint keeps.

    python rates.py hpc|ray runner VECTOR SECONDS     VECTOR: native, sync or envpool (hpc only)
    python rates.py hpc|ray learner SECONDS           PPO, minibatches of 128, 2 x 256
    python rates.py hpc masks STEPS                   actions against the mask, of so many steps
    python rates.py hpc restore                       returns and counters before and after, on half the runners

Prints ``@bench {...}``. The network is one of 2 x 256, and a runner has 64 environments; one thread.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import time
from typing import Any

ENVS = 64


def configured(library: str) -> Any:
    """PPO on CartPole with the network of all measurements."""
    module = importlib.import_module(f"{library}.rllib.algorithms.ppo")
    config = module.PPOConfig().environment("CartPole-v1").env_runners(num_env_runners=0)
    config.rl_module(model_config={"fcnet_hiddens": [256, 256], "vf_share_layers": False})
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


def learner(library: str, seconds: float) -> dict[str, Any]:
    """Samples per second of whole updates: a batch of 4,096 rows, 4 epochs."""
    config = configured(library).env_runners(num_envs_per_env_runner=ENVS)
    config.training(train_batch_size_per_learner=4096, minibatch_size=128, num_epochs=4)
    algo = config.build_algo()
    result = algo.train()
    trained, begin, cpu = 0.0, time.perf_counter(), time.process_time()
    timer = 0.0
    while time.perf_counter() - begin < seconds:
        before = time.process_time()
        result = algo.train()
        trained += 4 * 4096
        timer += time.process_time() - before
    took, cpu = time.perf_counter() - begin, time.process_time() - cpu
    algo.stop()
    share = result["timers"]["learner_update_timer"] / result["timers"]["training_step"]
    return {"rate": trained / took / share, "cpu_rate": trained / cpu / share}


def masks(steps: int) -> dict[str, Any]:
    """An environment that raises at an action against its mask."""
    import gymnasium as gym

    from hpc.rllib.examples.envs.classes.action_mask_env import ActionMaskEnv

    settings = {"action_space": gym.spaces.Discrete(20), "observation_space": gym.spaces.Box(-1.0, 1.0, (5,))}
    config = configured("hpc").environment(ActionMaskEnv, env_config=settings)
    config.env_runners(num_envs_per_env_runner=16).training(train_batch_size_per_learner=4096, num_epochs=1)
    algo = config.build_algo()
    done = 0
    while done < steps:
        done = algo.train()["num_env_steps_sampled_lifetime"]
    algo.stop()
    return {"steps": done, "invalid": 0}  # one more would have raised


def restore() -> dict[str, Any]:
    """Saved with four runners, restored with two: mean return of 100 episodes, counters, and the next update."""
    import hpc

    hpc.init(num_cpus=6)
    config = configured("hpc").env_runners(num_env_runners=4, num_envs_per_env_runner=4)
    config.training(train_batch_size_per_learner=2000, minibatch_size=250, num_epochs=6, lr=1e-3)
    config.evaluation(evaluation_duration=100, evaluation_config={"explore": False})
    algo = config.build_algo()
    for _ in range(8):
        result = algo.train()
    before = algo.evaluate()["env_runners"]["episode_return_mean"]
    with tempfile.TemporaryDirectory() as folder:
        algo.save_to_path(folder)
        steps = result["num_env_steps_sampled_lifetime"]
        algo.stop()
        kind = importlib.import_module("hpc.rllib.algorithms.algorithm").Algorithm
        half = config.copy(copy_frozen=False).env_runners(num_env_runners=2)
        again = kind.from_checkpoint(folder, config=half)
    after = again.evaluate()["env_runners"]["episode_return_mean"]
    sampled = again.train()["num_env_steps_sampled_lifetime"]
    again.stop()
    hpc.shutdown()
    return {"before": before, "after": after, "steps": steps, "next": sampled}


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    library, what, *rest = sys.argv[1:]
    if what == "runner":
        record = runner(library, rest[0], float(rest[1]))
    elif what == "learner":
        record = learner(library, float(rest[0]))
    elif what == "masks":
        record = masks(int(rest[0]))
    else:
        record = restore()
    print("@bench", json.dumps(record), flush=True)


if __name__ == "__main__":
    main()

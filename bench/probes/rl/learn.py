"""One run of a task of tasks.py: seconds and steps until its goal, under hpc.rllib, RLlib or Stable-Baselines3.

    python learn.py hpc|ray|sb3 TASK SEED LIMIT_S

Prints ``@bench {...}``: seconds and steps (None where the goal was not reached in time), start (seconds until the
first iteration began), the curve as [steps, seconds, return, seconds of this process's CPU time], and what the
algorithm says of lag and drops. Where no other process samples, ``cpu`` is the CPU time until the goal: other work
beside hardly changes it.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
import time
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from tasks import TASKS, WINDOW, Task  # probes are scripts: their folder comes first

BEGAN = time.monotonic()
POINTS = 60
#: Where a point of the curve has what.
SECONDS, CPU = 1, 3
#: Of the result, what is kept beside the curve.
SAID = ("flow", "fault_tolerance")


def found(result: Any, path: tuple[str, ...]) -> Any:
    """The value at a path of the result, or None."""
    for key in path:
        result = result.get(key) if isinstance(result, dict) else None
    return result


def with_rllib(library: str, task: Task, seed: int, limit_s: float) -> dict[str, Any]:
    """Train until the goal, the limit of steps or that of time: of CPU time where no other process samples."""
    session = importlib.import_module(library)
    more = {"include_dashboard": False, "log_to_driver": False} if library == "ray" else {}
    session.init(num_cpus=max(4, os.cpu_count() or 1), **more)
    config = task.make(library).debugging(seed=seed, log_level="ERROR")
    algo = config.build_algo()
    clock = Clock()
    curve: list[list[float]] = []
    result: Any = {}
    alone = config.num_env_runners == 0
    while not curve or (curve[-1][0] < task.steps and curve[-1][CPU if alone else SECONDS] < limit_s):
        result = algo.train()
        value = found(result, task.metric)
        value = math.nan if value is None else float(value)
        curve.append(clock.point(result["num_env_steps_sampled_lifetime"], value))
        if value >= task.goal:
            break
    numbers = ((key, value) for part in SAID for key, value in result.get(part, {}).items())
    said = {key: value for key, value in numbers if isinstance(value, (int, float))}
    algo.stop()
    session.shutdown()
    return summary(task, curve, clock, said, alone=alone)


def with_sb3(task_name: str, task: Task, seed: int, limit_s: float) -> dict[str, Any]:
    """The same sizes as far as Stable-Baselines3 has them."""
    import torch
    from stable_baselines3 import DQN, PPO, SAC
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env

    torch.set_num_threads(1)
    shared: dict[str, Any] = {"seed": seed, "device": "cpu", "stats_window_size": WINDOW}
    if task_name == "cartpole_ppo":
        model: Any = PPO(
            "MlpPolicy", make_vec_env("CartPole-v1", 8, seed=seed), n_steps=64, batch_size=256, n_epochs=10,
            learning_rate=1e-3, gamma=0.98, gae_lambda=0.9, clip_range=0.2, **shared,
        )  # fmt: skip
    elif task_name == "cartpole_dqn":
        model = DQN(
            "MlpPolicy", make_vec_env("CartPole-v1", 8, seed=seed), learning_rate=1e-3, batch_size=64, train_freq=8,
            gradient_steps=32, learning_starts=1000, target_update_interval=500, buffer_size=50_000,
            exploration_fraction=8000 / task.steps, exploration_final_eps=0.04,
            policy_kwargs={"net_arch": [256, 256]}, **shared,
        )  # fmt: skip
    else:
        model = SAC(
            "MlpPolicy", make_vec_env("Pendulum-v1", 1, seed=seed), learning_rate=8e-4, batch_size=256,
            learning_starts=256, buffer_size=100_000, **shared,
        )  # fmt: skip
    clock = Clock()
    curve: list[list[float]] = []

    class Watch(BaseCallback):
        """A point of the curve for each 500 steps; stops at the goal."""

        def _on_step(self) -> bool:
            if self.n_calls % max(1, 500 // self.training_env.num_envs):
                return True
            episodes = [one["r"] for one in self.model.ep_info_buffer]
            value = sum(episodes) / len(episodes) if len(episodes) >= WINDOW // 2 else math.nan
            curve.append(clock.point(self.num_timesteps, value))
            return not value >= task.goal and curve[-1][CPU] < limit_s

    model.learn(task.steps, callback=Watch())
    return summary(task, curve, clock, {}, alone=True)


class Clock:
    """Seconds since training began, on the wall and of this process's CPU time."""

    def __init__(self) -> None:
        self.began, self._cpu = time.monotonic(), time.process_time()

    def point(self, steps: float, value: float) -> list[float]:
        """A point of the curve, now."""
        return [float(steps), time.monotonic() - self.began, value, time.process_time() - self._cpu]


def summary(
    task: Task, curve: list[list[float]], clock: Clock, said: dict[str, float], *, alone: bool
) -> dict[str, Any]:
    """What is printed: at most 60 points of the curve, those at which the return was known."""
    steps, seconds, value, cpu = curve[-1]
    reached = value >= task.goal
    known = [point for point in curve if not math.isnan(point[2])]
    every = max(1, math.ceil(len(known) / POINTS))
    points = [[a, round(b, 2), round(c, 1), round(d, 2)] for a, b, c, d in (*known[:-1:every], *known[-1:])]
    return {
        "reached": reached, "seconds": seconds if reached else None,
        "steps": steps if reached else None, "cpu": cpu if reached and alone else None, "start": clock.began - BEGAN,
        "rate": steps / seconds, "alone": alone, "load": os.getloadavg()[0],
        "best": max((point[2] for point in known), default=None),
        "curve": points, "said": said,
    }  # fmt: skip


def main() -> None:
    peer, name, seed, limit_s = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    task = TASKS[name]
    record = with_sb3(name, task, seed, limit_s) if peer == "sb3" else with_rllib(peer, task, seed, limit_s)
    print("@bench", json.dumps(record), flush=True)


if __name__ == "__main__":
    main()

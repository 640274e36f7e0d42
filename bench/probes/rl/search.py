"""A search whose driver is killed and goes on; scripts for RLlib with other imports.

    python search.py killed TRIALS     16 trials of PPO with ASHA: killed in the middle, then begun again
    python search.py drive TRIALS FOLDER SECOND    the driver of that
    python search.py script NAME       a script of tests/rllib/scripts, until its goal

Prints ``@bench {...}``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).resolve().parents[3] / "tests" / "rllib" / "scripts"
#: The goal of each script here, and its arguments beside that. Those on CartPole have an easier one than their own.
GOALS = {
    "cartpole_ppo": (150.0, ["--num-env-runners=1", "--stop-timesteps=100000"]),
    "cartpole_dqn": (60.0, ["--stop-timesteps=20000"]),
    "pendulum_sac": (-250.0, []),
}
NAME, ITERATIONS, RETURN = "search", 8, "env_runners/episode_return_mean"
#: Iterations of all trials, as a share of the most, after which the driver is killed.
KILLED_AT = 0.2
LIMIT_S = 400.0


def drive(trials: int, folder: str, is_second: bool) -> None:
    """The search. Its second driver goes on with what the first has left."""
    import hpc
    from hpc import tune
    from hpc.rllib.algorithms.ppo import PPOConfig

    hpc.init(num_cpus=4)
    config = PPOConfig().environment("CartPole-v1").env_runners(num_env_runners=0, num_envs_per_env_runner=8)
    config.training(
        lr=tune.loguniform(1e-4, 1e-2), gamma=tune.choice([0.95, 0.98, 0.99]), train_batch_size_per_learner=1024,
        minibatch_size=256, num_epochs=8, vf_clip_param=10_000.0,
    )  # fmt: skip
    config.rl_module(model_config={"fcnet_hiddens": [64, 64], "vf_share_layers": False})
    path = os.path.join(folder, NAME)
    if is_second:
        tuner = tune.Tuner.restore(path, "PPO", param_space=config)
    else:
        scheduler = tune.schedulers.ASHAScheduler(max_t=ITERATIONS, grace_period=2, reduction_factor=2)
        tuner = tune.Tuner(
            "PPO", param_space=config,
            tune_config=tune.TuneConfig(metric=RETURN, mode="max", num_samples=trials, scheduler=scheduler),
            run_config=tune.RunConfig(
                name=NAME, storage_path=folder, stop={"training_iteration": ITERATIONS}, verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
            ),
        )  # fmt: skip
    grid = tuner.fit()
    best = grid.get_best_result()
    done = sum(one.error is None and bool(one.metrics) for one in grid)
    record = {"done": done, "best": best.metrics["env_runners"]["episode_return_mean"]}
    hpc.shutdown()
    print("@drive", json.dumps(record), flush=True)


def iterations(folder: str) -> dict[str, list[int]]:
    """The iterations that each trial has reported, in the order in which it did."""
    found: dict[str, list[int]] = {}
    for path in Path(folder, NAME).glob("*/result.json"):
        lines = [text for text in path.read_text().splitlines() if text.endswith("}")]
        found[path.parent.name] = [json.loads(text)["training_iteration"] for text in lines]
    return found


def killed(trials: int) -> dict[str, Any]:
    """Kill the first driver, run the second, and look what was done twice."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, os.path.abspath(__file__), "drive", str(trials), folder]
        first = subprocess.Popen([*command, "0"], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + LIMIT_S
        while sum(map(len, iterations(folder).values())) < KILLED_AT * trials * ITERATIONS:
            if first.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the first driver has ended, or takes too long: {iterations(folder)}")
            time.sleep(0.05)
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        time.sleep(1.0)  # trials that were at it may have written another line
        before = iterations(folder)
        done = subprocess.run([*command, "1"], capture_output=True, text=True, timeout=LIMIT_S)
        found = [text for text in done.stdout.splitlines() if text.startswith("@drive ")]
        if done.returncode or not found:
            raise SystemExit(f"the second driver failed: {done.stdout[-500:]} {done.stderr[-1500:]}")
        after = iterations(folder)
    again = sum(len(numbers) - len(set(numbers)) for numbers in after.values())
    record: dict[str, Any] = json.loads(found[0].removeprefix("@drive "))
    return {**record, "before": sum(map(len, before.values())), "after": sum(map(len, after.values())), "again": again}


def script(name: str) -> dict[str, Any]:
    """Run a script until its goal; it fails where that is not reached."""
    text = (SCRIPTS / f"{name}.py").read_text()
    for words in ("from ray.", "import ray"):
        text = text.replace(words, words.replace("ray", "hpc"))
    goal, more = GOALS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.py"
        path.write_text(text)
        begin = time.perf_counter()
        command = [sys.executable, str(path), "--as-test", f"--stop-reward={goal}", "--verbose=0", *more]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT_S, env={**os.environ, "HOME": folder}
        )
    if done.returncode:
        raise SystemExit(f"{name} failed: {done.stdout[-500:]} {done.stderr[-1500:]}")
    return {"seconds": time.perf_counter() - begin, "goal": goal}


def main() -> None:
    what, *rest = sys.argv[1:]
    if what == "drive":
        drive(int(rest[0]), rest[1], rest[2] == "1")
        return
    record = killed(int(rest[0])) if what == "killed" else script(rest[0])
    print("@bench", json.dumps(record), flush=True)


if __name__ == "__main__":
    main()

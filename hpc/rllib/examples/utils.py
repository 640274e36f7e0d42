"""The frame of a script that trains an algorithm: its command line, and the run with or without Tune."""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import hpc
from hpc.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    EPISODE_RETURN_MEAN,
    EVALUATION_RESULTS,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
)

if TYPE_CHECKING:
    from hpc.rllib.algorithms.algorithm_config import AlgorithmConfig

RETURN = f"{ENV_RUNNER_RESULTS}/{EPISODE_RETURN_MEAN}"
EVALUATED_RETURN = f"{EVALUATION_RESULTS}/{RETURN}"
TRAINING_ITERATION = "training_iteration"


def _auto_or_int(text: str) -> str | int:
    return text if text == "auto" else int(text)


#: Options by group: the flag, its type, its default, what it is.
_OPTIONS: tuple[tuple[str, Callable[[str], Any], Any, str], ...] = (
    ("--algo", str, "PPO", "the name of the algorithm"),
    ("--env", str, None, "the name of the environment, where the configuration has none"),
    ("--num-env-runners", int, None, "processes that step environments (0: the script's own)"),
    ("--num-envs-per-env-runner", int, None, "environments of each of them"),
    ("--num-agents", int, 0, "copies of the environment as agents of one (0: one agent)"),
    ("--evaluation-num-env-runners", int, 0, "processes that evaluate"),
    ("--evaluation-interval", int, 0, "iterations from one evaluation to the next (0: none)"),
    ("--evaluation-duration", _auto_or_int, 10, "units of an evaluation, or auto"),
    ("--output", str, None, "the folder that episodes are written to"),
    ("--num-samples", int, 1, "trials"),
    ("--max-concurrent-trials", int, None, "trials at the same time"),
    ("--verbose", int, 2, "how much Tune prints"),
    ("--checkpoint-freq", int, 0, "iterations from one checkpoint to the next (0: none)"),
    ("--tune-max-report-freq", int, 5, "seconds from one table of trials to the next"),
    ("--wandb-key", str, None, "the key of Weights & Biases, where results are to go there"),
    ("--wandb-project", str, None, "its project"),
    ("--wandb-run-name", str, None, "its run"),
    ("--num-learners", int, None, "processes that learn (0: the script's own)"),
    ("--num-cpus-per-learner", float, None, "CPUs of each of them"),
    ("--num-gpus-per-learner", float, None, "GPUs of each of them; one if there are enough, unless given"),
    ("--num-aggregator-actors-per-learner", int, None, "processes that make batches for each of them"),
    ("--num-cpus", int, 0, "CPUs of the session (0: all)"),
    ("--num-gpus", int, None, "not there any more: --num-gpus-per-learner"),
)
_FLAGS = (
    ("--evaluation-parallel-to-training", "evaluate while the next batch is trained"),
    ("--no-tune", "train in this process, without Tune"),
    ("--checkpoint-at-end", "write a checkpoint at the end"),
    ("--as-test", "fail where the reward is not reached within the other limits"),
    ("--as-release-test", "as --as-test, with a summary in the file that TEST_OUTPUT_JSON names"),
    ("--old-api-stack", "not there: the new API is the only one"),
    ("--enable-new-api-stack", argparse.SUPPRESS),
    ("--local-mode", argparse.SUPPRESS),
)


def add_rllib_example_script_args(
    parser: argparse.ArgumentParser | None = None,
    default_reward: float = 100.0,
    default_iters: int = 200,
    default_timesteps: int = 100000,
) -> argparse.ArgumentParser:
    """Add the options that such scripts share to a parser (or to a new one), with these limits as defaults."""
    parser = parser if parser is not None else argparse.ArgumentParser()
    for flag, kind, default, what in _OPTIONS:
        parser.add_argument(flag, type=kind, default=default, help=what)
    for flag, what in _FLAGS:
        parser.add_argument(flag, action="store_true", help=what)
    parser.add_argument("--framework", choices=["tf", "tf2", "torch"], default="torch", help="torch is the only one")
    parser.add_argument(
        "--evaluation-duration-unit",
        choices=["episodes", "timesteps"],
        default="episodes",
        help="what its duration counts",
    )
    parser.add_argument("--log-level", choices=["INFO", "DEBUG", "WARN", "ERROR"], default=None, help="what is logged")
    parser.add_argument("--stop-reward", type=float, default=default_reward, help="the mean return that ends it")
    parser.add_argument("--stop-iters", type=int, default=default_iters, help="iterations at most")
    parser.add_argument("--stop-timesteps", type=int, default=default_timesteps, help="steps of environments at most")
    return parser


def found(results: Mapping[str, Any], key: str) -> Any:
    """The value under a key with slashes, or None."""
    value: Any = results
    for part in key.split("/"):
        if not isinstance(value, Mapping) or part.strip() not in value:
            return None
        value = value[part.strip()]
    return value


def should_stop(stop: Mapping[str, Any], results: Mapping[str, Any], keep_ray_up: bool = False) -> bool:
    """Whether one of the limits is reached; then it is printed, and the session ends unless ``keep_ray_up``.

    ``stop``: keys of results, with slashes, and the values that end the run.
    """
    for key, limit in stop.items():
        value = found(results, key)
        if not isinstance(value, (int, float)) or math.isnan(value) or value < limit:
            continue
        print(f"Stop criterion ({key}={limit}) fulfilled!")
        if not keep_ray_up:
            hpc.shutdown()
        return True
    return False


def run_rllib_example_script_experiment(
    base_config: AlgorithmConfig,
    args: argparse.Namespace | None = None,
    *,
    stop: Mapping[str, Any] | None = None,
    success_metric: Mapping[str, float] | None = None,
    trainable: Any = None,
    tune_callbacks: list[Any] | None = None,
    keep_config: bool = False,
    keep_ray_up: bool = False,
    scheduler: Any = None,
    progress_reporter: Any = None,
) -> Any:
    """Train until one of the limits of ``stop`` (by default those of the command line), and return the results.

    Without Tune (`--no-tune`) that is the last result, otherwise the ResultGrid. `--as-test` raises ValueError where no
    trial has reached ``success_metric`` (by default the return). ``keep_config`` leaves the configuration as it is.
    """
    args = args if args is not None else add_rllib_example_script_args().parse_args()
    _refuse_what_is_gone(args)
    args.as_test = args.as_test or args.as_release_test
    if args.as_test:
        args.verbose, args.tune_max_report_freq = 1, 30
    hpc.init(num_cpus=args.num_cpus or None, ignore_reinit_error=True)
    limits = dict(stop) if stop is not None else _limits_of(args)
    if not keep_config:
        _configure(base_config, args)
    if args.no_tune:
        return _train_here(base_config, args, limits, keep_ray_up)
    start = time.monotonic()
    tuner = _tuner(base_config, args, limits, trainable, tune_callbacks, scheduler, progress_reporter)
    grid = tuner.fit()
    taken_s = time.monotonic() - start
    if not keep_ray_up:
        hpc.shutdown()
    if args.as_test:
        _judge(grid, args, limits, success_metric, taken_s)
    return grid


def _refuse_what_is_gone(args: argparse.Namespace) -> None:
    """ValueError for options of earlier times."""
    if args.enable_new_api_stack or args.old_api_stack or args.framework != "torch":
        raise ValueError("There is one API here, the new one of RLlib with torch: leave such options out.")
    if args.local_mode:
        raise ValueError(
            "--local-mode is gone: --num-env-runners=0 --num-learners=0 --no-tune runs all in one process."
        )
    if args.num_gpus:
        raise ValueError("--num-gpus is gone: --num-learners and --num-gpus-per-learner say where GPUs are used.")


def _limits_of(args: argparse.Namespace) -> dict[str, Any]:
    return {
        RETURN: args.stop_reward,
        f"{ENV_RUNNER_RESULTS}/{NUM_ENV_STEPS_SAMPLED_LIFETIME}": args.stop_timesteps,
        TRAINING_ITERATION: args.stop_iters,
    }


def _configure(config: AlgorithmConfig, args: argparse.Namespace) -> None:
    """What the command line says, set in the configuration."""
    if args.env is not None and config.env is None:
        config.environment(args.env)
    _given(config.env_runners, args, "num_env_runners", "num_envs_per_env_runner")
    _given(config.learners, args, "num_learners", "num_cpus_per_learner", "num_aggregator_actors_per_learner")
    config.learners(num_gpus_per_learner=_gpus_per_learner(config, args))
    if args.evaluation_interval > 0:
        _given(
            config.evaluation, args, "evaluation_num_env_runners", "evaluation_interval", "evaluation_duration",
            "evaluation_duration_unit", "evaluation_parallel_to_training",
        )  # fmt: skip
    _given(config.debugging, args, "log_level")
    _given(config.offline_data, args, "output")


def _given(setter: Callable[..., Any], args: argparse.Namespace, *names: str) -> None:
    """Set those that were given."""
    setter(**{name: getattr(args, name) for name in names if getattr(args, name) is not None})


def _gpus_per_learner(config: AlgorithmConfig, args: argparse.Namespace) -> float:
    """As asked for; otherwise one where there are enough. ValueError where there are fewer than asked for."""
    learners = config.num_learners or 1
    there = hpc.cluster_resources().get("GPU", 0)
    if args.num_gpus_per_learner is None:
        return 1 if there >= learners else 0
    if there < args.num_gpus_per_learner * learners:
        raise ValueError(
            f"{learners} learners with {args.num_gpus_per_learner} GPUs each are asked for, the session has {there:g}: "
            "give fewer by --num-learners or --num-gpus-per-learner, or start a larger session."
        )
    return args.num_gpus_per_learner


def _train_here(config: AlgorithmConfig, args: argparse.Namespace, limits: Mapping[str, Any], keep: bool) -> Any:
    if args.as_test:
        raise ValueError("--as-test needs Tune: leave --no-tune out.")
    algo = config.build_algo()
    results: Any = {}
    try:
        for number in range(limits.get(TRAINING_ITERATION, args.stop_iters)):
            results = algo.train()
            evaluated = found(results, EVALUATED_RETURN)
            print(
                f"iter={number} R={found(results, RETURN)}" + (f" R(eval)={evaluated}" if evaluated is not None else "")
            )
            if should_stop(limits, results, keep_ray_up=True):
                break
    finally:
        algo.stop()
    if not keep:
        hpc.shutdown()
    return results


def _tuner(
    config: AlgorithmConfig,
    args: argparse.Namespace,
    limits: dict[str, Any],
    trainable: Any,
    callbacks: list[Any] | None,
    scheduler: Any,
    reporter: Any,
) -> Any:
    from hpc import tune

    callbacks = list(callbacks or [])
    if args.wandb_key is not None:
        from hpc.tune.logger.wandb import WandbLoggerCallback

        project = args.wandb_project or f"{args.algo.lower()}-{str(config.env).lower()}"
        named = {"name": args.wandb_run_name} if args.wandb_run_name else {}
        callbacks.append(WandbLoggerCallback(project=project, api_key=args.wandb_key, upload_checkpoints=True, **named))
    return tune.Tuner(
        trainable or config.algo_class,
        param_space=config,  # type: ignore[arg-type]  # a Tuner takes a configuration, too
        run_config=tune.RunConfig(
            failure_config=tune.FailureConfig(max_failures=0, fail_fast="raise"),
            stop=limits,
            verbose=args.verbose,
            callbacks=callbacks,
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_frequency=args.checkpoint_freq, checkpoint_at_end=args.checkpoint_at_end
            ),
            progress_reporter=reporter or _reporter(config, args),
        ),
        tune_config=tune.TuneConfig(
            num_samples=args.num_samples, max_concurrent_trials=args.max_concurrent_trials, scheduler=scheduler
        ),
    )


def _reporter(config: AlgorithmConfig, args: argparse.Namespace) -> Any:
    """A table of trials with the return; of several agents with the return of each module too."""
    from hpc import tune

    columns = {
        TRAINING_ITERATION: "iter",
        "time_total_s": "total time (s)",
        NUM_ENV_STEPS_SAMPLED_LIFETIME: "ts",
        RETURN: "combined return" if args.num_agents else "episode return mean",
    }
    for module in config.policies if args.num_agents else ():
        columns[f"{ENV_RUNNER_RESULTS}/module_episode_returns_mean/{module}"] = f"return {module}"
    return tune.CLIReporter(metric_columns=columns, max_report_frequency=args.tune_max_report_freq)


def _judge(
    grid: Any, args: argparse.Namespace, limits: Mapping[str, Any], metric: Mapping[str, float] | None, taken_s: float
) -> None:
    """Print that the wanted value was reached; otherwise raise ValueError (a release test prints it)."""
    if metric is None:
        name = next((key for key in (EVALUATED_RETURN, RETURN) if key in limits), RETURN)
        metric = {name: limits.get(name, args.stop_reward)}
    name, wanted = next(iter(metric.items()))
    best = max(float(row[name]) for _, row in grid.get_dataframe().iterrows())
    is_reached = best >= wanted
    if args.as_release_test:
        _write_summary(name, best, wanted, taken_s)
    if is_reached:
        print(f"`{name}` of {wanted} reached! ok")
        return
    said = f"`{name}` of {wanted} not reached! Best value reached is {best}"
    if not args.as_release_test:
        raise ValueError(said)
    print(said)


def _write_summary(name: str, best: float, wanted: float, taken_s: float) -> None:
    summary = {
        "time_taken": taken_s, "passed": [best >= wanted], "not_passed": [best < wanted], "success_metric": name,
        "best_value": best, "target_value": float(wanted), "last_update": time.time(),
    }  # fmt: skip
    with open(os.environ.get("TEST_OUTPUT_JSON", "release_test_output.json"), "w") as file:
        json.dump(summary, file)

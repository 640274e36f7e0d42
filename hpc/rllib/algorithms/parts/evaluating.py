"""Evaluation: with its own env runners and settings, after an iteration or beside it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from hpc.rllib.algorithms.parts.reporting import group_report, requests_report
from hpc.rllib.callbacks.utils import call_hook
from hpc.rllib.env.env_runner_group import EnvRunnerGroup
from hpc.rllib.utils import metrics as keys
from hpc.rllib.utils.metrics.metrics_logger import MetricsLogger
from hpc.rllib.utils.metrics.sample_report import SampleReport

if TYPE_CHECKING:
    from hpc.rllib.env.fragment import Sample

#: A round of an evaluation that goes on until training ends is to take about so long.
_ROUND_S = 0.5
#: Between looks for env runners that come back.
_LOOK_S = 0.05


class Evaluator:
    """Evaluates an algorithm: the group of env runners is made when it is first needed, or with the algorithm."""

    def __init__(self, algorithm: Any, placement_group: Any, pg_offset: int) -> None:
        self._algorithm = algorithm
        self.config = algorithm.config.get_evaluation_config_object()
        self.config.validate()
        self.config.freeze()
        self._room = {"placement_group": placement_group, "pg_offset": pg_offset}
        self.group: EnvRunnerGroup | None = None
        self._skipped = 0
        self._lifetime = MetricsLogger(root=True)

    def make_group(self) -> EnvRunnerGroup:
        """The env runners that evaluate."""
        if self.group is None:
            local = self.config.num_env_runners == 0 or self.config.create_local_env_runner
            self.group = EnvRunnerGroup(config=self.config, local_env_runner=local, **self._room)
        return self.group

    def is_due(self, iteration: int) -> bool:
        """Whether this iteration, counted from 1, is evaluated."""
        interval = self._algorithm.config.evaluation_interval
        return bool(interval) and iteration % interval == 0

    def evaluate(self) -> dict[str, Any]:
        """Evaluate now; the metrics, as results have them under "evaluation"."""
        self.prepare()
        return self.finish(self._collect(lambda: True))

    def beside(self, train: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
        """Evaluate in a thread, with the weights of before, while this function trains; what both return."""
        self.prepare()
        over = False
        with ThreadPoolExecutor(1, thread_name_prefix="hpc-evaluation") as pool:
            running = pool.submit(self._collect, lambda: over)
            try:
                trained = train()
            finally:
                over = True
            return trained, self.finish(running.result())

    def prepare(self) -> None:
        """Bring the current weights, and states of connectors, to the env runners."""
        algorithm, group = self._algorithm, self.make_group()
        recreated = algorithm.restore_env_runners(group)
        if recreated:
            algorithm.tell_recreated(group, recreated, self.config)
        group.sync_weights(from_worker_or_learner_group=algorithm.learner_group, inference_only=True)
        if self.config.broadcast_env_runner_states and algorithm.env_runner_group is not None:
            group.sync_env_runner_states(
                config=self.config,
                from_worker=algorithm.env_runner_group.connectors,
                env_steps_sampled=algorithm.steps_sampled,
            )
        call_hook("on_evaluate_start", algorithm.callbacks, algorithm.config, **self._told())

    def finish(self, found: list[Sample] | tuple[Any, ...] | None) -> dict[str, Any]:
        """The metrics of what was collected."""
        algorithm = self._algorithm
        if isinstance(found, tuple):
            results = self._custom_results(found)
        else:
            results = self._results(found or [])
        call_hook("on_evaluate_end", algorithm.callbacks, algorithm.config, evaluation_metrics=results, **self._told())
        return results

    def report(self) -> dict[str, Any]:
        """What results say of the env runners that evaluate."""
        group = self.make_group()
        return {**requests_report(group), **group_report(group)}

    def stop(self) -> None:
        """Stop the env runners."""
        if self.group is not None:
            self.group.stop()
            self.group = None

    # collecting

    def _told(self) -> dict[str, Any]:
        return {"algorithm": self._algorithm, "metrics_logger": self._algorithm.metrics}

    def _collect(self, is_over: Callable[[], bool]) -> list[Sample] | tuple[Any, ...] | None:
        """Samples, or what the user's own function returns; None where no env runner is there."""
        config, group = self._algorithm.config, self.make_group()
        if config.custom_evaluation_function is not None:
            return tuple(config.custom_evaluation_function(self._algorithm, group))
        if group.num_remote_env_runners() > 0 and not self._any_healthy(group):
            return None
        self._skipped, timeout_s = 0, config.evaluation_sample_timeout_s
        how = {
            "explore": self.config.explore,
            "force_reset": config.evaluation_force_reset_envs_before_iteration,
            "timeout_s": math.inf if timeout_s is None else timeout_s,
        }
        if isinstance(config.evaluation_duration, str):
            return self._until(is_over, group, how)
        unit = "episodes" if config.evaluation_duration_unit == "episodes" else "steps"
        return group.collect(**{unit: config.evaluation_duration}, **how)

    def _until(self, is_over: Callable[[], bool], group: EnvRunnerGroup, how: dict[str, Any]) -> list[Sample]:
        """Rounds until training has ended: each is as long as the last one's speed says for half a second."""
        config = self._algorithm.config
        least = config.evaluation_auto_duration_min_env_steps_per_sample
        most = config.evaluation_auto_duration_max_env_steps_per_sample
        runners = max(1, group.num_healthy_remote_env_runners())
        steps, found = least * runners, []
        while True:
            began_s = time.monotonic()
            found += group.collect(steps=int(steps), **how)
            how = {**how, "force_reset": False}
            if is_over():
                return found
            took_s = max(time.monotonic() - began_s, 1e-6)
            steps = min(max(steps * _ROUND_S / took_s, least * runners), most * runners)

    def _any_healthy(self, group: EnvRunnerGroup) -> bool:
        """Whether an env runner is there, soon enough. Raises RuntimeError after too many evaluations without one."""
        config = self._algorithm.config
        until_s = time.monotonic() + config.evaluation_unhealthy_workers_timeout_s
        while group.num_healthy_remote_env_runners() == 0:
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                break
            group.probe_unhealthy_env_runners(timeout_seconds=left_s)
            time.sleep(min(_LOOK_S, left_s))
        if group.num_healthy_remote_env_runners() > 0:
            return True
        self._skipped += 1
        most = config.evaluation_error_after_n_consecutive_skips
        if most is not None and self._skipped >= most:
            raise RuntimeError(
                f"no env runner that evaluates was there in {self._skipped} evaluations, one after the other: see the "
                "logs of their processes, or set evaluation_error_after_n_consecutive_skips to None or higher, or "
                "evaluation_unhealthy_workers_timeout_s to wait for them"
            )
        return False

    # results

    def _results(self, samples: list[Sample]) -> dict[str, Any]:
        """Metrics of these samples alone; counts of the whole life beside them."""
        once = MetricsLogger(root=True, stats_cls_lookup=self._algorithm.config.stats_cls_lookup)
        report = SampleReport(once, 1, self._algorithm.config.is_multi_agent)
        report.expect()
        report.write(samples)
        results = once.compile()
        within = results[keys.ENV_RUNNER_RESULTS]
        for name in [name for name in within if name.endswith("_lifetime_throughput")]:
            del within[name]
        for name in [name for name in within if name.endswith("_lifetime")]:
            within[name] = self._summed((name,), within[name])
        return results

    def _summed(self, path: tuple[str, ...], value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._summed((*path, key), one) for key, one in value.items()}
        self._lifetime.log_value(path, value, reduce="lifetime_sum")
        return self._lifetime.peek(path)

    def _custom_results(self, found: tuple[Any, ...]) -> dict[str, Any]:
        if len(found) != 3 or not isinstance(found[0], dict):
            raise ValueError(
                "custom_evaluation_function must return (metrics, env steps, agent steps): a dict and two integers, "
                f"not {found!r}"
            )
        results, env_steps, agent_steps = found
        if not isinstance(env_steps, int) or not isinstance(agent_steps, int):
            raise ValueError(
                "custom_evaluation_function must return (metrics, env steps, agent steps) with integers, not "
                f"{env_steps!r} and {agent_steps!r}"
            )
        metrics = self._algorithm.metrics
        logged = metrics.peek(keys.EVALUATION_RESULTS, default={})
        metrics.delete(keys.EVALUATION_RESULTS, key_error=False)
        return {**results, **logged}

    def get_state(self) -> dict[str, Any]:
        """The counts of the whole life."""
        return self._lifetime.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from these counts."""
        self._lifetime.set_state(state)

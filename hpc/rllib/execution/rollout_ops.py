"""Samples of all env runners, as episodes, for a training_step of one's own."""

from __future__ import annotations

from typing import Any

from hpc.rllib.utils.metrics.metrics_logger import MetricsLogger
from hpc.rllib.utils.metrics.sample_report import SampleReport


def synchronous_parallel_sample(
    *,
    worker_set: Any,
    max_agent_steps: int | None = None,
    max_env_steps: int | None = None,
    sample_timeout_s: float | None = None,
    concat: bool = True,
    random_actions: bool = False,
    _uses_new_env_runners: bool = True,
    _return_metrics: bool = False,
) -> Any:
    """Episodes (or parts of them) of all env runners, with at least so many steps.

    _return_metrics: and their metrics, as ``metrics.aggregate(.., key="env_runners")`` takes them. A training_step that
    uses ``env_runner_group.collect`` and ``log_samples`` makes no episodes, and is faster.
    """
    if (max_agent_steps is None) == (max_env_steps is None):
        raise ValueError("give one of max_agent_steps and max_env_steps")
    by = "env_steps" if max_agent_steps is None else "agent_steps"
    samples = worker_set.collect(
        steps=max_env_steps if max_agent_steps is None else max_agent_steps,
        count_by=by,
        random_actions=random_actions,
        timeout_s=sample_timeout_s,
    )
    episodes = [episode for sample in samples for episode in sample.single_agent_episodes()]
    found: Any = episodes if concat else [sample.single_agent_episodes() for sample in samples]
    if not _return_metrics:
        return found
    logger = MetricsLogger()
    config = worker_set.config
    report = SampleReport(logger, config.metrics_num_episodes_for_smoothing, config.is_multi_agent)
    report.write(samples)
    return found, [logger.reduce()["env_runners"]]

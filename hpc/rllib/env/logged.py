"""What a runner logs of its steps and episodes, under RLlib's keys."""

from __future__ import annotations

import math
from typing import Any

from hpc.rllib.core import DEFAULT_AGENT_ID, DEFAULT_MODULE_ID
from hpc.rllib.env.fragment import EpisodeRecord
from hpc.rllib.utils.metrics import (
    EPISODE_DURATION_SEC_MEAN,
    EPISODE_LEN_MAX,
    EPISODE_LEN_MEAN,
    EPISODE_LEN_MIN,
    EPISODE_RETURN_MAX,
    EPISODE_RETURN_MEAN,
    EPISODE_RETURN_MIN,
    NUM_AGENT_STEPS_SAMPLED,
    NUM_AGENT_STEPS_SAMPLED_LIFETIME,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_EPISODES,
    NUM_EPISODES_LIFETIME,
    NUM_MODULE_STEPS_SAMPLED,
    NUM_MODULE_STEPS_SAMPLED_LIFETIME,
)


def log_episode(metrics: Any, config: Any, record: EpisodeRecord, *, several: bool = False) -> None:
    """Log the return and the length of an episode, over the window that is this runner's part."""
    window = max(1, math.ceil(config.metrics_num_episodes_for_smoothing / (config.num_env_runners or 1)))
    metrics.log_value(EPISODE_LEN_MEAN, record.length, window=window)
    metrics.log_value(EPISODE_RETURN_MEAN, record.episode_return, window=window)
    metrics.log_value(EPISODE_DURATION_SEC_MEAN, record.seconds, window=window)
    # RLlib's keys differ by an "s".
    agents, modules = (
        ("agent_episode_returns_mean", "module_episode_returns_mean")
        if several
        else ("agent_episode_return_mean", "module_episode_return_mean")
    )
    for agent_id, value in record.agents.items():
        metrics.log_value((agents, agent_id), value, window=window)
    for module_id, value in record.modules.items():
        metrics.log_value((modules, module_id), value, window=window)
    for key, value, reduce in (
        (EPISODE_LEN_MIN, record.length, "min"),
        (EPISODE_RETURN_MIN, record.episode_return, "min"),
        (EPISODE_LEN_MAX, record.length, "max"),
        (EPISODE_RETURN_MAX, record.episode_return, "max"),
    ):
        metrics.log_value(key, value, reduce=reduce, window=window)


def log_steps(
    metrics: Any,
    config: Any,
    steps: int,
    episodes: int,
    agents: dict[Any, int] | None = None,
    modules: dict[str, int] | None = None,
) -> None:
    """Log steps and episodes, of this sample and of the runner's life."""
    agents = {DEFAULT_AGENT_ID: steps} if agents is None else agents
    modules = {DEFAULT_MODULE_ID: steps} if modules is None else modules
    for reduce, keys in (
        ("sum", (NUM_ENV_STEPS_SAMPLED, NUM_AGENT_STEPS_SAMPLED, NUM_MODULE_STEPS_SAMPLED, NUM_EPISODES)),
        (
            "lifetime_sum",
            (
                NUM_ENV_STEPS_SAMPLED_LIFETIME,
                NUM_AGENT_STEPS_SAMPLED_LIFETIME,
                NUM_MODULE_STEPS_SAMPLED_LIFETIME,
                NUM_EPISODES_LIFETIME,
            ),
        ),
    ):
        env_key, agent_key, module_key, episode_key = keys
        metrics.log_value(env_key, steps, reduce=reduce)
        for agent_id, count in agents.items():
            metrics.log_value((agent_key, agent_id), count, reduce=reduce)
        for module_id, count in modules.items():
            metrics.log_value((module_key, module_id), count, reduce=reduce)
        metrics.log_value(episode_key, episodes, reduce=reduce)

"""Writes recorded_rllib_names.json: RLlib's public names, their parameters, and the defaults that are plain values.

    ../ray/bin/python tests/compat/rllib_names.py        with the interpreter of an environment that has Ray

test_rllib_names.py compares this package with it.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from compat.data_names import record, write

RECORDED = Path(__file__).with_name("recorded_rllib_names.json")
#: A class is recorded with its members where it comes first.
MODULES = tuple(
    f"ray.rllib{name}"
    for name in (
        "", ".algorithms.algorithm_config", ".algorithms.algorithm", ".algorithms.ppo", ".algorithms.dqn",
        ".algorithms.sac", ".algorithms.impala", ".algorithms.appo", ".algorithms.bc", ".algorithms.marwil",
        ".algorithms.cql", ".algorithms.iql", ".algorithms.tqc", ".algorithms.dreamerv3",
        ".callbacks.callbacks", ".connectors.connector_v2", ".connectors.connector_pipeline_v2",
        ".connectors.env_to_module", ".connectors.module_to_env", ".connectors.learner", ".connectors.common",
        ".core", ".core.columns", ".core.distribution.torch.torch_distribution", ".core.learner.learner",
        ".core.learner.learner_group", ".core.learner.torch.torch_learner", ".core.learner.differentiable_learner",
        ".core.models.catalog", ".core.rl_module", ".core.rl_module.rl_module", ".core.rl_module.multi_rl_module",
        ".core.rl_module.apis", ".core.rl_module.default_model_config", ".core.rl_module.torch",
        ".env.env_context", ".env.env_runner", ".env.env_runner_group", ".env.multi_agent_env",
        ".env.multi_agent_env_runner", ".env.multi_agent_episode", ".env.single_agent_env_runner",
        ".env.single_agent_episode", ".env.wrappers.atari_wrappers", ".env.wrappers.group_agents_wrapper",
        ".env.wrappers.pettingzoo_env", ".env.external.rllink", ".offline.offline_data", ".offline.offline_prelearner",
        ".offline.offline_env_runner", ".utils.checkpoints", ".utils.metrics.metrics_logger",
        ".utils.replay_buffers.episode_replay_buffer", ".utils.replay_buffers.prioritized_episode_buffer",
        ".utils.replay_buffers.multi_agent_episode_buffer",
        ".utils.replay_buffers.multi_agent_prioritized_episode_buffer", ".utils.schedules.scheduler",
    )
)  # fmt: skip


if __name__ == "__main__":
    write(RECORDED, record(MODULES))

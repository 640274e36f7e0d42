"""A stand-in for an env runner: steps that count themselves, without an environment."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace
from typing import Any

import numpy as np

from hpc.rllib.env.fragment import EpisodeRecord, Fragment, Sample

WIDTH = 4


def config(**changes: Any) -> SimpleNamespace:
    """What a group reads of an AlgorithmConfig."""
    values = {
        "num_env_runners": 2,
        "num_envs_per_env_runner": WIDTH,
        "num_cpus_per_env_runner": 0.1,
        "num_gpus_per_env_runner": 0,
        "custom_resources_per_env_runner": {},
        "env_runner_cls": StandInRunner,
        "validate_env_runners_after_construction": True,
        "batch_mode": "truncate_episodes",
        "sample_timeout_s": 60.0,
        "max_requests_in_flight_per_env_runner": 1,
        "restart_failed_env_runners": True,
        "ignore_env_runner_failures": False,
        "max_num_env_runner_restarts": 1000,
        "delay_between_env_runner_restarts_s": 60.0,
        "num_consecutive_env_runner_failures_tolerance": 100,
        "env_runner_health_probe_timeout_s": 30.0,
        "env_runner_restore_timeout_s": 1800.0,
        "merge_env_runner_states": "training_only",
        "broadcast_env_runner_states": True,
        "in_evaluation": False,
        "is_multi_agent": False,
        "row_s": 0.0,
        "slow": {},
    }
    return SimpleNamespace(**{**values, **changes})


class StandInRunner:
    """Its observations are the numbers of its steps. ``config.slow``: seconds of a row, by the runner's index."""

    def __init__(
        self, *, config: Any, worker_index: int = 0, num_workers: int = 0, restarts: int = 0, spaces: Any = None
    ) -> None:
        self.config, self.worker_index, self.restarts = config, worker_index, restarts
        self.between_rows: Any = None
        self.version, self.weights, self.steps, self.state = 0, None, 0, {}
        self.is_broken = False
        self.resets = 0

    def sample_fragment(
        self, rows: int | None = None, episodes: int | None = None, steps: int | None = None, explore: Any = None,
        random_actions: bool = False, force_reset: bool = False,
    ) -> Sample:  # fmt: skip
        """Rows, each of which takes as long as the configuration says."""
        if self.is_broken:
            raise RuntimeError("this environment is broken")
        self.resets += force_reset
        if steps is not None:
            rows = -(-steps // WIDTH)
        count = rows if rows is not None else 10 * (episodes or 1)
        version, versions = self.version, []
        for row in range(count):
            if self.between_rows is not None:
                self.between_rows()
            if self.version != (versions[-1][1] if versions else version):
                versions.append((row, self.version))
            time.sleep(self.config.slow.get(self.worker_index, self.config.row_s))
        obs = np.arange(self.steps, self.steps + count + 1, dtype=np.float32)[:, None].repeat(WIDTH, 1)
        self.steps += count
        flags = np.zeros((count, WIDTH), bool)
        fragment = Fragment(
            {"obs": obs, "rewards": obs[1:], "loss_mask": ~flags, "first": flags, "terminateds": flags,
             "truncateds": flags}, count, WIDTH,
        )  # fmt: skip
        records = [EpisodeRecord(1.0, 10, 0.0) for _ in range(episodes or 0)]
        return Sample(
            {"default_policy": fragment}, count * WIDTH, {"a": count * WIDTH}, records, version, versions,
            self.worker_index,
        )  # fmt: skip

    def set_weights(self, version: int, weights: Any) -> None:
        """New weights."""
        self.version, self.weights = version, weights

    def get_weights(self, module_ids: Any = None, inference_only: bool = False) -> Any:
        """The weights that it has."""
        return self.weights

    def set_state(self, state: Any) -> None:
        """New state."""
        self.state = {**self.state, **state}

    def get_state(self, components: Any = None) -> Any:
        """No connector has any."""
        return {}

    def ping(self) -> str:
        """An answer."""
        return "pong"

    def get_spaces(self) -> dict[str, Any]:
        """Names instead of spaces."""
        return {"default_policy": ("observations", "actions")}

    def pid(self) -> int:
        """The process."""
        return os.getpid()

    def stop(self) -> None:
        """Nothing to close."""

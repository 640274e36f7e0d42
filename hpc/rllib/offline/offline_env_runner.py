"""An env runner that writes what it samples: episodes or steps, in files of Parquet or JSON."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np

from hpc.rllib.core.columns import Columns
from hpc.rllib.env.fragment import Sample
from hpc.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from hpc.rllib.offline.packing import pack_episode
from hpc.rllib.offline.reading import ITEM


class OfflineSingleAgentEnvRunner(SingleAgentEnvRunner):
    """Writes below `config.output`, in a folder of the environment, one file for each time that it writes."""

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        if config.output_write_method not in ("write_parquet", "write_json"):
            raise ValueError(
                f"output_write_method must be write_parquet or write_json, not {config.output_write_method!r}"
            )
        if config.output_write_episodes and config.output_write_method == "write_json":
            raise ValueError("JSON has no bytes, so no episodes: set output_write_episodes=False, or write_parquet")
        if config.output_filesystem is not None:
            raise ValueError("output_filesystem is not there: write to a mounted folder")
        env = config.env if isinstance(config.env, str) else getattr(config.env, "__name__", "env")
        self.output_path = Path(config.output) / env.lower().replace("/", "-")
        self._rows: list[dict[str, Any]] = []
        self._written = 0
        #: Tells the files of this runner from those of its earlier lives.
        self._life = uuid.uuid4().hex[:8]

    def sample_fragment(self, *args: Any, **kwargs: Any) -> Sample:
        """Sample, and write the sample."""
        sample = super().sample_fragment(*args, **kwargs)
        for episode in sample.single_agent_episodes():
            self._take_episode(episode)
        self._write_full()
        return sample

    def _take_episode(self, episode: Any) -> None:
        if self.config.output_write_episodes:
            self._rows.append({ITEM: pack_episode(episode)})
            return
        obs, actions, rewards = episode.get_observations(), episode.get_actions(), episode.get_rewards()
        extra = {
            name: episode.get_extra_model_outputs(name)
            for name in (Columns.ACTION_LOGP, Columns.ACTION_DIST_INPUTS)
            if name in episode.extra_model_outputs
        }
        steps = len(episode)
        for t in range(steps):
            last = t == steps - 1
            self._rows.append(
                {
                    Columns.EPS_ID: episode.id_,
                    Columns.T: episode.t_started + t,
                    Columns.OBS: np.asarray(obs[t]).tolist(),
                    Columns.ACTIONS: np.asarray(actions[t]).tolist(),
                    Columns.REWARDS: float(rewards[t]),
                    Columns.NEXT_OBS: np.asarray(obs[t + 1]).tolist(),
                    Columns.TERMINATEDS: bool(last and episode.is_terminated),
                    Columns.TRUNCATEDS: bool(last and episode.is_truncated),
                    **{name: np.asarray(values[t]).tolist() for name, values in extra.items()},
                }
            )

    def _write_full(self) -> None:
        """Write files of `output_max_rows_per_file` rows; without that, all rows of each sample are a file."""
        most = self.config.output_max_rows_per_file
        if not most:
            self._write_rows(self._rows)
            self._rows = []
            return
        while len(self._rows) >= most:
            self._write_rows(self._rows[:most])
            self._rows = self._rows[most:]

    def _write_rows(self, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        import pyarrow as pa

        self.output_path.mkdir(parents=True, exist_ok=True)
        name = f"run-{self.worker_index:06d}-{self._life}-{self._written:06d}"
        self._written += 1
        settings = self.config.output_write_method_kwargs
        if self.config.output_write_method == "write_parquet":
            import pyarrow.parquet as pq

            final = self.output_path / f"{name}.parquet"
            pq.write_table(pa.Table.from_pylist(rows), f"{final}.part", **settings)
        else:
            import json

            final = self.output_path / f"{name}.json"
            Path(f"{final}.part").write_text("".join(json.dumps(row) + "\n" for row in rows))
        # A reader never sees half a file.
        Path(f"{final}.part").rename(final)

    def stop(self) -> None:
        """Write what is left, if `output_write_remaining_data` says so."""
        if self.config.output_write_remaining_data:
            self._write_rows(self._rows)
            self._rows = []
        super().stop()

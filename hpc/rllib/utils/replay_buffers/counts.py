"""What a replay buffer counts, under RLlib's names."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hpc.rllib.core import DEFAULT_AGENT_ID, DEFAULT_MODULE_ID


@dataclass
class BufferCounts:
    """Counts since the buffer was made, and since metrics were last asked for."""

    steps_added: int = 0
    episodes_added: int = 0
    steps_evicted: int = 0
    episodes_evicted: int = 0
    steps_sampled: int = 0
    resamples: int = 0
    samples: int = 0
    #: Sums over the draws since the last metrics: distinct steps, and lengths of windows.
    distinct: int = 0
    n_steps: float = 0.0
    last_size: int = 0

    def __post_init__(self) -> None:
        self._told = self._lifetime()

    def _lifetime(self) -> tuple[int, ...]:
        return (
            self.steps_added, self.episodes_added, self.steps_evicted, self.episodes_evicted, self.steps_sampled,
            self.resamples, self.samples,
        )  # fmt: skip

    def add(self, steps: int, begun: int, size: int, capacity: int, episodes_gone: int, episodes: int) -> None:
        """Count added steps, and those that had to go for them."""
        self.steps_added += steps
        self.episodes_added += begun
        self.steps_evicted = self.steps_added - size
        self.episodes_evicted = max(self.episodes_evicted, self.episodes_added - episodes)

    def sample(self, steps: int, distinct: int, n_step: float) -> None:
        """Count a draw."""
        self.samples += 1
        self.steps_sampled += steps
        self.distinct += distinct
        self.n_steps += n_step

    def metrics(self, size: int, episodes: int) -> dict[str, Any]:
        """RLlib's keys; those without `lifetime` count since the last call."""
        new = self._lifetime()
        added, begun, evicted, gone, sampled, resamples, samples = (b - a for a, b in zip(self._told, new, strict=True))
        self._told = new
        per_sample = self.distinct / samples if samples else 0.0
        out: dict[str, Any] = {
            "num_env_steps_stored": size,
            "num_env_steps_added": added,
            "num_env_steps_added_lifetime": self.steps_added,
            "num_env_steps_evicted": evicted,
            "num_env_steps_evicted_lifetime": self.steps_evicted,
            "num_env_steps_sampled": sampled,
            "num_env_steps_sampled_lifetime": self.steps_sampled,
            "num_env_steps_per_sample": per_sample,
            "num_episodes_stored": episodes,
            "num_episodes_added": begun,
            "num_episodes_added_lifetime": self.episodes_added,
            "num_episodes_evicted": gone,
            "num_episodes_evicted_lifetime": self.episodes_evicted,
            "num_resamples": resamples,
        }
        if samples:
            out["env_step_utilization"] = self.distinct / max(1, sampled)
            out["actual_n_step"] = self.n_steps / samples
        self.distinct, self.n_steps = 0, 0.0
        for name, owner in (("agent", DEFAULT_AGENT_ID), ("module", DEFAULT_MODULE_ID)):
            out[f"num_{name}_steps_added"] = {owner: added}
            out[f"num_{name}_steps_added_lifetime"] = {owner: self.steps_added}
            out[f"num_{name}_steps_sampled"] = {owner: sampled}
            out[f"num_{name}_steps_sampled_lifetime"] = {owner: self.steps_sampled}
        return out

    def get_state(self) -> dict[str, Any]:
        """All counts."""
        return asdict(self)

    def set_state(self, state: dict[str, Any]) -> None:
        """Take counts."""
        for name, value in state.items():
            setattr(self, name, value)
        self._told = self._lifetime()

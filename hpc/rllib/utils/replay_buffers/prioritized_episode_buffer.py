"""Replay in proportion to priorities (Schaul et al. 2016), drawn and updated in whole batches."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpc.rllib.math.sumtree import SumTree
from hpc.rllib.utils.replay_buffers.episode_replay_buffer import EpisodeReplayBuffer
from hpc.rllib.utils.replay_buffers.storage import NOTHING

#: The smallest priority before the exponent.
LEAST_PRIORITY = 1e-12
#: How much the largest error of a sequence counts against the mean one (Kapturowski et al. 2019).
MAX_SHARE = 0.9


class PrioritizedEpisodeReplayBuffer(EpisodeReplayBuffer):
    """Draws steps in proportion to priority ** alpha; new steps have the highest priority so far.

    `weights` of a batch are (steps * probability) ** -beta, divided by the largest that is possible.
    """

    def __init__(
        self,
        capacity: int = 10000,
        *,
        batch_size_B: int = 16,
        batch_length_T: int = 1,
        alpha: float = 1.0,
        metrics_num_episodes_for_smoothing: int = 100,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            capacity,
            batch_size_B=batch_size_B,
            batch_length_T=batch_length_T,
            metrics_num_episodes_for_smoothing=metrics_num_episodes_for_smoothing,
            **kwargs,
        )
        if alpha < 0:
            raise ValueError(f"alpha of a prioritized buffer must be >= 0, not {alpha}")
        self._alpha = alpha
        self._tree = SumTree(capacity)
        self._max_priority = 1.0
        self._last_sampled = NOTHING

    def _added(self, places: np.ndarray) -> None:
        self._tree.set(places, self._max_priority**self._alpha)

    def _draw(self, count: int) -> tuple[np.ndarray, np.ndarray | None]:
        if not len(self):
            return super()._draw(count)
        return self._tree.draw(count, self.rng), None

    def _weights_of(self, places: np.ndarray, beta: float) -> np.ndarray | None:
        if beta < 0:
            raise ValueError(f"beta of a prioritized buffer must be >= 0, not {beta}")
        # (n p)^-b / (n p_min)^-b is (p / p_min)^-b: neither the sum nor the count is needed.
        weights: np.ndarray = ((self._tree.get(places) / self._tree.least) ** -beta).astype(np.float32)
        return weights

    def _sampled(self, places: np.ndarray, taken: np.ndarray) -> None:
        super()._sampled(places, taken)
        self._last_sampled = places

    def sample(self, num_items: int | None = None, *, sample_episodes: bool | None = True, **kwargs: Any) -> Any:
        """Draw a list of episodes, one for each window of n steps."""
        return super().sample(num_items, sample_episodes=sample_episodes, **kwargs)

    @property
    def last_sampled(self) -> np.ndarray:
        """The places of the steps that were drawn last, for `update_priorities` after further draws."""
        return self._last_sampled

    def update_priorities(
        self, priorities: np.ndarray, module_id: str | None = None, *, places: np.ndarray | None = None
    ) -> None:
        """Set the priorities of the steps that were drawn last, or of these places, such as their |TD errors|.

        Priorities [B, L] are those of sequences: 0.9 times the largest and 0.1 times the mean one counts.
        """
        given = np.abs(np.asarray(priorities, np.float64))
        drawn = self._last_sampled if places is None else places
        if len(given) != len(drawn):
            raise ValueError(f"{len(given)} priorities for the {len(drawn)} items that were drawn last")
        if given.ndim > 1:
            given = MAX_SHARE * given.max(1) + (1 - MAX_SHARE) * given.mean(1)
        if not np.isfinite(given).all():
            raise ValueError("a TD error is not finite: look at the loss, the learning rate and the rewards")
        given = np.maximum(given, LEAST_PRIORITY)
        self._tree.set(drawn, given**self._alpha)
        self._max_priority = max(self._max_priority, float(given.max(initial=0.0)))
        if places is None:
            self._last_sampled = NOTHING

    def get_state(self) -> dict[str, Any]:
        """All of the uniform buffer, and the priorities."""
        return {**super().get_state(), "tree": self._tree.get_state(), "max_priority": self._max_priority}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take the state of an equal buffer."""
        super().set_state(state)
        self._tree.set_state(state["tree"])
        self._max_priority = state["max_priority"]
        self._last_sampled = NOTHING

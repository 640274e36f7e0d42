"""Replay of uniformly drawn steps, windows of n steps and sequences, from arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hpc.rllib.core import DEFAULT_MODULE_ID
from hpc.rllib.core.columns import Columns
from hpc.rllib.env.fragment import Fragment, Sample
from hpc.rllib.utils.replay_buffers.base import ReplayBufferInterface
from hpc.rllib.utils.replay_buffers.counts import BufferCounts
from hpc.rllib.utils.replay_buffers.stitched import stitched
from hpc.rllib.utils.replay_buffers.storage import NOTHING, TransitionStorage
from hpc.rllib.utils.trees import map_tree, take

if TYPE_CHECKING:
    from hpc.rllib.env.single_agent_episode import SingleAgentEpisode

#: Draws of a sequence's start that may fail in a row before it is an error.
MOST_TRIES = 1000


class EpisodeReplayBuffer(ReplayBufferInterface):
    """Keeps the newest `capacity` steps and draws from them with equal probability.

    Steps are evicted one by one, oldest first. A window of n steps is cut where its episode ends, so the steps before
    an end are trained on as well. The column `n_step` has its real length.
    """

    def __init__(
        self,
        capacity: int = 10000,
        *,
        batch_size_B: int = 16,
        batch_length_T: int = 64,
        metrics_num_episodes_for_smoothing: int = 100,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.capacity = capacity
        self.batch_size_B = batch_size_B
        self.batch_length_T = batch_length_T
        self.metrics_num_episodes_for_smoothing = metrics_num_episodes_for_smoothing
        self.rng = np.random.default_rng(seed)
        self.counts = BufferCounts()
        self._storage = TransitionStorage(capacity)

    def __len__(self) -> int:
        return len(self._storage)

    # adding

    def add(self, episodes: Any, **kwargs: Any) -> None:
        """Keep samples, fragments or single-agent episodes (one, or a list of them)."""
        for item in episodes if isinstance(episodes, (list, tuple)) else [episodes]:
            if isinstance(item, Sample):
                for fragment in item.modules.values():
                    self.add_fragment(fragment)
            elif isinstance(item, Fragment):
                self.add_fragment(item)
            else:
                self.add_fragment(Fragment.of_episodes([item]), key=item.id_)

    def add_fragment(self, fragment: Fragment, key: Any = "") -> np.ndarray:
        """Keep the steps of a fragment and give their places."""
        before = self._storage.ends() + self._storage.running()
        places = self._storage.add(fragment, key)
        begun = int(np.count_nonzero(fragment.first & fragment.loss_mask))
        after = self._storage.ends() + self._storage.running()
        self.counts.add(len(places), begun, len(self), self.capacity, before + begun - after, after)
        self._added(places)
        return places

    def _added(self, places: np.ndarray) -> None:
        """Called with the places of new steps."""

    def are_kept(self, places: np.ndarray, added: int) -> np.ndarray:
        """Which places hold the steps still that they held when so many steps had been added."""
        return self._storage.are_kept(places, added)

    @property
    def steps_added(self) -> int:
        """How many steps were added so far, as `are_kept` takes it."""
        return self._storage.added

    # drawing

    def _draw(self, count: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Places, and the weights that correct for their probabilities (None: all 1)."""
        if not len(self):
            raise ValueError("the replay buffer is empty: add episodes before you draw from it")
        return self.rng.integers(0, len(self), count), None

    def sample_batch(
        self,
        num_items: int,
        *,
        n_step: int | Sequence[int] = 1,
        gamma: float = 0.99,
        beta: float | None = None,
        batch_length_T: int = 0,
        min_batch_length_T: int = 0,
    ) -> dict[str, Any]:
        """A train batch of arrays: single steps [B, ...], or sequences [B, L, ...] of at most `batch_length_T` steps.

        A pair of `n_step` draws the length of each window anew, both ends included. For sequences, `num_items` counts
        steps, and `state_in` and `next_state_in` hold the states before the first step and after it.
        """
        if batch_length_T:
            return self._sequences(num_items, batch_length_T, max(2, min_batch_length_T), n_step, beta)
        places, weights = self._draw(num_items) if beta is None else self._draw_weighted(num_items, beta)
        if isinstance(n_step, int):
            steps = np.full(num_items, n_step)
        else:
            steps = self.rng.integers(n_step[0], n_step[1] + 1, num_items)
        batch = self._storage.n_step(places, steps, gamma)
        batch["weights"] = np.ones(num_items, np.float32) if weights is None else weights
        self._sampled(places, batch["n_step"])
        return batch

    def _draw_weighted(self, count: int, beta: float) -> tuple[np.ndarray, np.ndarray | None]:
        places, _ = self._draw(count)
        return places, self._weights_of(places, beta)

    def _weights_of(self, places: np.ndarray, beta: float) -> np.ndarray | None:
        """The weights that correct for the probabilities of drawn places; None: all 1."""
        return None

    def _sampled(self, places: np.ndarray, taken: np.ndarray) -> None:
        self.counts.sample(len(places), len(np.unique(places)), float(taken.mean()))

    def _sequences(self, steps: int, length: int, least: int, n_step: Any, beta: float | None) -> dict[str, Any]:
        if n_step != 1:
            raise ValueError(f"sequences for stateful modules need n_step=1, not {n_step!r}")
        starts = self._starts(max(1, -(-steps // length)), least)
        batch = self._of_windows(starts, length)
        while int(batch[Columns.LOSS_MASK].sum()) < steps:
            missing = steps - int(batch[Columns.LOSS_MASK].sum())
            starts = np.concatenate([starts, self._starts(max(1, -(-missing // length)), least)])
            batch = self._of_windows(starts, length)
        weights = None if beta is None else self._weights_of(starts, beta)
        if weights is not None:
            batch["weights"] *= weights[:, None]
        self._sampled(starts, batch["n_step"])
        return batch

    def _starts(self, count: int, least: int) -> np.ndarray:
        """Places from which at least so many steps of the episode are known."""
        found = NOTHING
        for _ in range(MOST_TRIES):
            drawn, _weights = self._draw(count - len(found))
            there = self._storage.windows(drawn, least)[1]
            self.counts.resamples += int(np.count_nonzero(~there[:, -1]))
            found = np.concatenate([found, drawn[there[:, -1]]])
            if len(found) == count:
                return found
        raise ValueError(f"no episode in the replay buffer has {least} steps in a row")

    def _of_windows(self, starts: np.ndarray, length: int) -> dict[str, Any]:
        storage = self._storage
        places, there = storage.windows(starts, length)
        flat = places.reshape(-1)
        batch: dict[str, Any] = {}

        def shaped(leaf: np.ndarray) -> np.ndarray:
            out = leaf.reshape(len(starts), length, *leaf.shape[1:])
            out[~there] = 0
            return out

        for name, column in {**{n: take(c, flat) for n, c in storage.columns.items()}, **storage.led_to(flat)}.items():
            if name != Columns.STATE_IN:
                batch[name] = map_tree(shaped, column)
        if Columns.STATE_IN in storage.columns:
            states = storage.columns[Columns.STATE_IN]
            batch[Columns.STATE_IN] = take(states, starts)
            batch[Columns.NEXT_STATE_IN] = take(states, places[:, 1])
        batch[Columns.LOSS_MASK] = there
        batch["n_step"] = np.ones(there.shape, np.float32)
        batch["weights"] = np.ones(there.shape, np.float32)
        return batch

    def sample_batches(self, num_items: int, **settings: Any) -> dict[str, dict[str, Any]]:
        """A train batch for each module: here for the default one."""
        return {DEFAULT_MODULE_ID: self.sample_batch(num_items, **settings)}

    def sample(
        self,
        num_items: int | None = None,
        *,
        batch_size_B: int | None = None,
        batch_length_T: int | None = None,
        n_step: int | tuple[int, int] | None = None,
        beta: float | None = None,
        gamma: float = 0.99,
        to_numpy: bool = False,
        sample_episodes: bool | None = False,
        min_batch_length_T: int = 0,
        **kwargs: Any,
    ) -> Any:
        """Draw as RLlib's buffers do: rows of stitched episodes, or with `sample_episodes` a list of episodes.

        The rows are a dict of arrays [B, T], as `stitched` says. Each episode is one window of n steps, or a sequence
        of `batch_length_T` steps. Its extra model outputs have `weights` and `n_step`.
        """
        if num_items is not None and batch_size_B is not None:
            raise ValueError("give num_items or batch_size_B, not both")
        count = num_items or batch_size_B or self.batch_size_B
        length = (batch_length_T or 0) if sample_episodes else (batch_length_T or self.batch_length_T)
        if not len(self):
            raise ValueError("the replay buffer is empty: add episodes before you draw from it")
        if not sample_episodes:
            self.counts.sample(count * length, count * length, 1.0)
            return stitched(self._storage, self.rng, count, length)
        batch = self.sample_batch(
            count, n_step=n_step or 1, gamma=gamma, beta=beta, batch_length_T=length,
            min_batch_length_T=min_batch_length_T,
        )  # fmt: skip
        episodes = _as_episodes(batch, sequences=bool(length))
        return [episode.to_numpy() for episode in episodes] if to_numpy else episodes

    def update_priorities(self, priorities: np.ndarray, module_id: str | None = None) -> None:
        """Priorities change nothing here, since all draws are uniform."""

    # counts

    def get_num_episodes(self, module_id: str | None = None) -> int:
        """How many episodes have steps in the buffer."""
        return self._storage.ends() + self._storage.running()

    def get_num_episodes_evicted(self, module_id: str | None = None) -> int:
        """How many episodes have left the buffer."""
        return self.counts.episodes_evicted

    def get_num_timesteps(self, module_id: str | None = None) -> int:
        """How many steps are kept."""
        return len(self)

    def get_sampled_timesteps(self, module_id: str | None = None) -> int:
        """How many steps were drawn so far."""
        return self.counts.steps_sampled

    def get_added_timesteps(self, module_id: str | None = None) -> int:
        """How many steps were added so far."""
        return self.counts.steps_added

    def get_metrics(self) -> dict[str, Any]:
        """What results say under `replay_buffer`."""
        return self.counts.metrics(len(self), self.get_num_episodes())

    # state

    def get_state(self) -> dict[str, Any]:
        """All steps, counts and the state of the random numbers."""
        return {
            "storage": self._storage.get_state(),
            "counts": self.counts.get_state(),
            "rng": self.rng.bit_generator.state,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Take the state of an equal buffer."""
        self._storage.set_state(state["storage"])
        self.counts.set_state(state["counts"])
        self.rng.bit_generator.state = state["rng"]


def _as_episodes(batch: dict[str, Any], *, sequences: bool) -> list[SingleAgentEpisode]:
    """One episode per row of a batch."""
    from hpc.rllib.env.single_agent_episode import SingleAgentEpisode

    episodes = []
    for row in range(len(batch[Columns.REWARDS])):
        one = {name: take(column, row) for name, column in batch.items()}
        length = int(one[Columns.LOSS_MASK].sum()) if sequences else 1
        if not sequences:
            one = {name: map_tree(lambda leaf: np.asarray(leaf)[None], column) for name, column in one.items()}
        last = take(one[Columns.NEXT_OBS], length - 1)
        episodes.append(
            SingleAgentEpisode(
                observations=[take(one[Columns.OBS], t) for t in range(length)] + [last],
                actions=[take(one[Columns.ACTIONS], t) for t in range(length)],
                rewards=list(one[Columns.REWARDS][:length]),
                terminated=bool(one[Columns.TERMINATEDS][length - 1]),
                truncated=bool(one[Columns.TRUNCATEDS][length - 1]),
                extra_model_outputs={name: list(one[name][:length]) for name in ("weights", "n_step")},
                len_lookback_buffer=0,
            )
        )
    return episodes

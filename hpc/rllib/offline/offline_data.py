"""A data set of recorded steps in memory, from which train batches are drawn in the order of shuffled passes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from hpc.rllib.core import DEFAULT_MODULE_ID
from hpc.rllib.core.columns import Columns
from hpc.rllib.env.fragment import Fragment
from hpc.rllib.math.returns import gae
from hpc.rllib.offline.reading import read_episodes, read_steps, read_table
from hpc.rllib.utils.replay_buffers.episode_replay_buffer import EpisodeReplayBuffer


class OfflineData:
    """All steps of `config.input_`, once in memory; each pass over them has a new order."""

    def __init__(self, config: Any) -> None:
        self.config = config
        fragments = list(_fragments(config))
        self.num_rows = sum(len(fragment) for fragment in fragments)
        if not self.num_rows:
            raise ValueError(f"the data at {config.input_} has no steps")
        self._buffer = EpisodeReplayBuffer(self.num_rows, seed=config.seed)
        self._rng = np.random.default_rng(config.seed)
        for fragment in fragments:
            # A key that never comes again: no recorded piece goes on in another one.
            self._buffer.add_fragment(fragment, key=object())
        self._buffer._storage._tails.clear()
        self._order = np.empty(0, np.int64)
        self.passes = 0

    def __len__(self) -> int:
        return self.num_rows

    def sample(self, num_samples: int, *, sequences_of: int = 0) -> dict[str, dict[str, Any]]:
        """A train batch of so many steps; with `sequences_of`, of sequences of at most so many steps."""
        n_step = getattr(self.config, "n_step", 1)
        if sequences_of:
            least = getattr(self.config, "burnin_len", 0) + 1
            batch = self._buffer.sample_batch(num_samples, batch_length_T=sequences_of, min_batch_length_T=least)
            return {DEFAULT_MODULE_ID: batch}
        places = self._next(num_samples)
        if isinstance(n_step, int):
            steps = np.full(len(places), n_step)
        else:
            steps = self._rng.integers(n_step[0], n_step[1] + 1, len(places))
        batch = self._buffer._storage.n_step(places, steps, self.config.gamma)
        batch["weights"] = np.ones(len(places), np.float32)
        return {DEFAULT_MODULE_ID: batch}

    def _next(self, count: int) -> np.ndarray:
        """The next places of the running pass; a new pass begins where it ends."""
        while len(self._order) < count:
            self._order = np.concatenate([self._order, self._rng.permutation(self.num_rows)])
            self.passes += 1
        places, self._order = self._order[:count], self._order[count:]
        return places

    def set_values(self, values: np.ndarray, next_values: np.ndarray) -> None:
        """Estimate the targets of values of all steps anew, from values of observations before and after them."""
        columns = self._buffer._storage.columns
        rewards = columns[Columns.REWARDS]
        goes_on = self.goes_on()
        terminateds = columns[Columns.TERMINATEDS]
        lambda_, gamma = self.config.lambda_, self.config.gamma
        # One column of all steps. Row t + 1 has the value after step t where the episode goes on; elsewhere it differs,
        # so that the reward takes up the difference.
        after = np.append(values[1:], 0.0).astype(np.float32)
        shifted = rewards + np.where(goes_on | terminateds, 0.0, gamma * (next_values - after)).astype(np.float32)
        targets = gae(
            shifted[:, None],
            np.append(values, 0.0).astype(np.float32)[:, None],
            terminateds[:, None],
            ~goes_on[:, None],
            gamma,
            lambda_,
        ).value_targets
        columns[Columns.VALUE_TARGETS] = targets[:, 0]

    def goes_on(self) -> np.ndarray:
        """Whether the next place is the next step of the same piece, for all places."""
        return self._buffer._storage.goes_on(np.arange(self.num_rows))

    def observations(self) -> tuple[Any, Any]:
        """Observations before and after all steps, in the order of their places."""
        storage = self._buffer._storage
        return storage.columns[Columns.OBS], storage.led_to(np.arange(self.num_rows))[Columns.NEXT_OBS]


def _fragments(config: Any) -> Iterator[Fragment]:
    """The recorded pieces of episodes."""
    table = read_table(config)
    if config.input_read_episodes:
        for episode in read_episodes(table):
            if len(episode):
                yield _with_own_columns(Fragment.of_episodes([episode]))
        return
    columns = read_steps(table, config)
    if Columns.NEXT_OBS not in columns and not config.ignore_final_observation and Columns.EPS_ID not in columns:
        raise ValueError(
            "the data has neither new_obs nor eps_id, so what the last steps of episodes led to is not known: set "
            "ignore_final_observation=True where the algorithm does not need it (BC)"
        )
    yield from _of_steps(columns, config)


#: Columns of recorded fragments that learning reads.
_KEPT = (
    Columns.OBS, Columns.ACTIONS, Columns.REWARDS, Columns.TERMINATEDS, Columns.TRUNCATEDS, Columns.LOSS_MASK, "first",
)  # fmt: skip


def _with_own_columns(fragment: Fragment) -> Fragment:
    columns = {name: fragment[name] for name in _KEPT}
    return Fragment(columns, fragment.rows, fragment.width, fragment.t_start, fragment.number)


def _of_steps(columns: dict[str, np.ndarray], config: Any) -> Iterator[Fragment]:
    """The rows that follow each other in one episode, as one fragment each."""
    obs = columns[Columns.OBS]
    rows = len(obs)
    ends = columns[Columns.TERMINATEDS] | columns[Columns.TRUNCATEDS]
    breaks = ends.copy()
    if Columns.EPS_ID in columns:
        breaks[:-1] |= columns[Columns.EPS_ID][1:] != columns[Columns.EPS_ID][:-1]
    if Columns.T in columns:
        breaks[:-1] |= columns[Columns.T][1:] != columns[Columns.T][:-1] + 1
    following = columns.get(Columns.NEXT_OBS)
    if following is not None:
        same = (following[:-1] == obs[1:]).reshape(rows - 1, -1).all(1)
        breaks[:-1] |= ~same
    breaks[-1] = True
    starts = np.concatenate([[0], np.flatnonzero(breaks)[:-1] + 1])
    for start, stop in zip(starts, np.flatnonzero(breaks) + 1, strict=True):
        if following is None and not config.ignore_final_observation and not columns[Columns.TERMINATEDS][stop - 1]:
            # Nobody knows what the last step led to: its observation ends the piece, which bootstraps from there.
            stop -= 1
            if stop == start:
                continue
        piece = slice(int(start), int(stop))
        if following is not None:
            last = following[stop - 1 : stop]
        else:
            last = obs[stop : stop + 1] if stop < rows and not breaks[stop - 1] else obs[stop - 1 : stop]
        count = int(stop - start)
        shape = (count, 1)
        fragment = {
            Columns.OBS: np.concatenate([obs[piece], last])[:, None],
            Columns.LOSS_MASK: np.ones(shape, bool),
            "first": np.arange(count)[:, None] == 0,
        }
        for name in (Columns.ACTIONS, Columns.REWARDS, Columns.TERMINATEDS, Columns.TRUNCATEDS):
            fragment[name] = columns[name][piece][:, None]
        yield Fragment(fragment, count, 1)

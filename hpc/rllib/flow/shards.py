"""Replay shards: actors that keep steps, draw batches of them, and take priorities of what they drew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import hpc
from hpc.rllib.core.columns import Columns
from hpc.rllib.env.fragment import Fragment

#: Draws whose priorities have not come; older ones are forgotten.
MOST_OPEN = 64


class ReplayShard:
    """A part of the replay buffer. ``make`` makes its buffer, for one module or several."""

    def __init__(self, make: Callable[[], Any], draws: Mapping[str, Any], n_step: int, gamma: float) -> None:
        self._buffer = make()
        self._draws, self._n_step, self._gamma = dict(draws), n_step, gamma
        self._open: dict[int, dict[str, tuple[np.ndarray, int]]] = {}
        """draw: by module, places of what was drawn, and how many steps had been added then"""

    def add(self, sample: list[Any]) -> int:
        """Keep the sample that a reference leads to. Returns how many steps there are."""
        for module_id, fragment in hpc.get(sample[0]).modules.items():
            buffer = self._of(module_id)
            places = buffer.add_fragment(fragment)
            priorities = first_priorities(fragment, self._n_step, self._gamma)
            if priorities is not None and len(priorities) == len(places) and hasattr(buffer, "last_sampled"):
                known = np.isfinite(priorities)
                buffer.update_priorities(priorities[known], places=places[known])
        return len(self._buffer)

    def _of(self, module_id: str) -> Any:
        several = getattr(self._buffer, "_of", None)
        return self._buffer if several is None else several(module_id)

    @hpc.method(num_returns=2)
    def draw(self, draw: int, count: int) -> tuple[int, dict[str, dict[str, Any]]]:
        """How many steps a batch has, and the batch by module. 0 where there are too few."""
        if len(self._buffer) < count:
            return 0, {}
        batches = self._buffer.sample_batches(count, **self._draws)
        buffers = {name: self._of(name) for name in batches}
        self._open[draw] = {
            name: (buffer.last_sampled, buffer.steps_added)
            for name, buffer in buffers.items()
            if hasattr(buffer, "last_sampled")
        }
        while len(self._open) > MOST_OPEN:
            del self._open[next(iter(self._open))]
        return count, batches

    def set_priorities(self, draw: int, errors: Mapping[str, np.ndarray]) -> None:
        """TD errors of a batch that was drawn, by module. Those of steps that were overwritten meanwhile say nothing of
        the steps that are in their places now."""
        drawn = self._open.pop(draw, {})
        for module_id, values in errors.items():
            places, added = drawn.get(module_id, (np.empty(0, np.int64), 0))
            if len(places) == len(values):
                buffer = self._of(module_id)
                kept = buffer.are_kept(places, added)
                buffer.update_priorities(np.asarray(values)[kept], places=places[kept])

    def get_metrics(self) -> dict[str, Any]:
        """Counts of the buffer."""
        return dict(self._buffer.get_metrics())

    def get_state(self) -> dict[str, Any]:
        """All steps and priorities."""
        return dict(self._buffer.get_state())

    def set_state(self, state: list[Any]) -> int:
        """Take the state that a reference leads to. Returns how many steps there are."""
        self._buffer.set_state(hpc.get(state[0]))
        return len(self._buffer)


def first_priorities(fragment: Fragment, n_step: int, gamma: float) -> np.ndarray | None:
    """|TD errors| of a fragment's steps by the Q values that acted: [steps], in the order in which buffers keep them.
    inf where what follows is not in the fragment. None where no Q values were recorded."""
    scores = fragment.get(Columns.ACTION_DIST_INPUTS)
    if scores is None or fragment[Columns.ACTIONS].ndim != 2:
        return None
    mask, dones = fragment.loss_mask, fragment.dones
    chosen = np.take_along_axis(scores, fragment[Columns.ACTIONS][..., None].astype(np.int64), -1)[..., 0]
    best = scores.max(-1)
    total = np.zeros(mask.shape, np.float64)
    goes_on = mask.copy()
    known = np.zeros(mask.shape, bool)
    for step in range(n_step):
        rows = fragment.rows - step
        if rows <= 0:
            break
        here = goes_on[:rows] & mask[step:]
        total[:rows] += np.where(here, gamma**step * fragment[Columns.REWARDS][step:], 0.0)
        ended = here & dones[step:]
        known[:rows] |= ended
        goes_on[:rows] &= here & ~dones[step:]
        goes_on[rows:] = False
    rows = fragment.rows - n_step
    if rows > 0:
        there = goes_on[:rows] & mask[n_step:]
        total[:rows] += np.where(there, gamma**n_step * best[n_step:], 0.0)
        known[:rows] |= there
    return np.where(known, np.abs(total - chosen), np.inf)[mask]

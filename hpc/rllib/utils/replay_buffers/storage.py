"""Transitions in a ring of arrays, with links from each step to the next one of its episode.

A step is kept once: what it led to is the observation of the step after it. Only the newest step of an episode keeps
its last observation apart, in a pool. It stays there until the next step arrives, or for good when the episode ended.
Steps come in the order of time, so a link always leads to a newer place. What a step needs is overwritten after the
step itself.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from hpc.rllib.core.columns import Columns
from hpc.rllib.env.fragment import ACTION_MASK, Fragment
from hpc.rllib.math.returns import n_step_returns
from hpc.rllib.utils.trees import blank, map_tree, put, take

#: What a step and the end of an episode both have.
STATES = (Columns.OBS, ACTION_MASK)
#: Columns that training from a buffer does not read.
UNUSED = frozenset(
    {Columns.LOSS_MASK, Columns.INFOS, Columns.VF_PREDS, Columns.ACTION_DIST_INPUTS, Columns.ACTION_LOGP, "first"}
)
NOTHING = np.empty(0, np.int64)


class Pool:
    """Rows of trees that come and go; it grows by doubling."""

    def __init__(self) -> None:
        self.rows: Any = None
        self._free = NOTHING
        self._size = 0

    def add(self, rows: Any, count: int) -> np.ndarray:
        """Keep `count` rows and give their places."""
        if self.rows is None:
            self._size = max(64, count)
            self.rows = blank(rows, (self._size,))
            self._free = np.arange(self._size - 1, -1, -1)
        if len(self._free) < count:
            more = max(self._size, count)
            old, self.rows = self.rows, blank(self.rows, (self._size + more,))
            put(self.rows, slice(0, self._size), old)
            self._free = np.concatenate([np.arange(self._size + more - 1, self._size - 1, -1), self._free])
            self._size += more
        places, self._free = self._free[len(self._free) - count :], self._free[: len(self._free) - count]
        put(self.rows, places, rows)
        return places

    def drop(self, places: np.ndarray) -> None:
        """Free places."""
        if len(places):
            self._free = np.concatenate([self._free, places])


class TransitionStorage:
    """Up to `capacity` steps; the oldest ones are overwritten."""

    def __init__(self, capacity: int, *, keep: frozenset[str] = frozenset()) -> None:
        if capacity < 1:
            raise ValueError(f"a replay buffer needs a capacity of at least 1 step, not {capacity}")
        self.capacity = capacity
        self._unused = UNUSED - keep
        self.columns: dict[str, Any] = {}
        self.added = 0
        #: The place of the next step of the episode, or ~(place in the pool) of what the newest step led to.
        self._after = np.full(capacity, -1, np.int64)
        self._ends = np.zeros(capacity, bool)
        #: Which steps are the first of their episode.
        self.firsts = np.zeros(capacity, bool)
        self._pool = Pool()
        #: The newest step of each running episode: what it is known by -> (episode, its step, count of steps before).
        self._tails: dict[Hashable, tuple[int, int, int]] = {}

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def add(self, fragment: Fragment, key: Hashable = "") -> np.ndarray:
        """Keep the steps of a fragment and give their places, in the order of its rows.

        `key` and a column's number tell which columns go on where an earlier fragment ended.
        """
        most = max(1, self.capacity // max(1, fragment.width))
        if fragment.rows > most:
            parts = [self._rows(fragment, start, start + most) for start in range(0, fragment.rows, most)]
            return np.concatenate([self.add(part, key) for part in parts])
        mask = fragment.loss_mask
        count = int(np.count_nonzero(mask))
        if not count:
            return NOTHING
        if count > self.capacity:
            raise ValueError(f"a row of {count} steps does not fit into a buffer of {self.capacity}")
        places = np.full(mask.shape, -1, np.int64)
        numbers = (self.added + np.arange(count)) % self.capacity
        places[mask] = numbers
        self._make_room(numbers)
        self._write(fragment, mask, numbers)
        goes_on = np.zeros_like(mask)
        dones = fragment.dones
        goes_on[:-1] = mask[1:] & ~dones[:-1] & ~fragment.first[1:]
        goes_on &= mask
        self._after[places[:-1][goes_on[:-1]]] = places[1:][goes_on[:-1]]
        last = mask & ~goes_on
        self._close(fragment, last, places[last])
        self._ends[numbers] = dones[mask]
        self.firsts[numbers] = fragment.first[mask]
        self._link(fragment, key, places, last)
        self.added += count
        return numbers

    @staticmethod
    def _rows(fragment: Fragment, start: int, stop: int) -> Fragment:
        """Some rows of a fragment, with what followed."""
        stop = min(stop, fragment.rows)
        columns = {
            name: take(column, slice(start, stop + (len(_leaf(column)) > fragment.rows)))
            for name, column in fragment.columns.items()
        }
        before = fragment.t_start if start == 0 else None
        base = 0 if fragment.number is None else fragment.number
        number = base + np.count_nonzero(fragment.first[1 : start + 1], axis=0)
        return Fragment(columns, stop - start, fragment.width, before, number, fragment.name, fragment.owners)

    def _make_room(self, places: np.ndarray) -> None:
        """Free the pool of what the overwritten steps led to."""
        if self.added + len(places) > self.capacity:
            over = places if self.added >= self.capacity else places[self.capacity - self.added :]
            after = self._after[over]
            self._pool.drop(~after[after < 0])

    def _write(self, fragment: Fragment, mask: np.ndarray, places: np.ndarray) -> None:
        rows = fragment.rows
        whole = bool(mask.all())

        def pick(leaf: np.ndarray) -> np.ndarray:
            part = leaf[:rows]
            return part.reshape((-1, *part.shape[2:])) if whole else part[mask]

        for name, column in fragment.columns.items():
            if name in self._unused:
                continue
            if name not in self.columns:
                if self.added:
                    raise ValueError(f"the buffer has no column {name!r}: all fragments need the same columns")
                self.columns[name] = blank(column, (self.capacity,), skip=2)
            put(self.columns[name], places, map_tree(pick, column))

    def _close(self, fragment: Fragment, last: np.ndarray, places: np.ndarray) -> None:
        """Keep apart what the last known step of each column led to."""
        states = {name: map_tree(lambda leaf: leaf[1:][last], fragment[name]) for name in STATES if name in fragment}
        self._after[places] = ~self._pool.add(states, len(places))

    def _link(self, fragment: Fragment, key: Hashable, places: np.ndarray, last: np.ndarray) -> None:
        """Link the first steps of columns to the newest ones of their episodes, and note the newest steps."""
        mask, first, dones = fragment.loss_mask, fragment.first, fragment.dones
        begun = np.cumsum(first, axis=0)
        age = np.cumsum(mask, axis=0)
        oldest = self.added + int(age[-1].sum()) - self.capacity
        order = self.added + np.cumsum(mask.reshape(-1)).reshape(mask.shape) - 1
        for column in range(fragment.width):
            owner = (key, fragment.name, fragment.owners[column] if fragment.owners else column)
            base = int(fragment.number[column]) if fragment.number is not None else 0
            rows = np.flatnonzero(mask[:, column])
            if not len(rows):
                continue
            tail = self._tails.pop(owner, None)
            start = rows[0]
            if tail is not None and not first[start, column] and begun[start, column] == 0:
                episode, at, made = tail
                known = fragment.t_start is None or int(fragment.t_start[column]) == made
                if episode == base and known and at >= oldest:
                    place = at % self.capacity
                    self._pool.drop(~self._after[place : place + 1])
                    self._after[place] = places[start, column]
            end = rows[-1]
            if not dones[end, column]:
                # The number counts the episode of row 0 already when row 0 is its first.
                episode = base + int(begun[end, column]) - int(first[0, column])
                within = self._steps_of_last(first[:, column], mask[:, column])
                made = within if begun[end, column] else self._made(fragment, column, tail) + len(rows)
                self._tails[owner] = (episode, int(order[end, column]), made)

    @staticmethod
    def _steps_of_last(first: np.ndarray, mask: np.ndarray) -> int:
        """How many steps the last episode of a column made in it."""
        starts = np.flatnonzero(first)
        return int(np.count_nonzero(mask[starts[-1] :])) if len(starts) else 0

    @staticmethod
    def _made(fragment: Fragment, column: int, tail: tuple[int, int, int] | None) -> int:
        if fragment.t_start is not None:
            return int(fragment.t_start[column])
        return tail[2] if tail else 0

    # reading

    def are_kept(self, places: np.ndarray, added: int) -> np.ndarray:
        """Which places were not overwritten since so many steps had been added."""
        after = (places - added) % self.capacity
        kept: np.ndarray = after >= self.added - added
        return kept

    def oldest(self) -> int:
        """The place of the oldest step."""
        return self.added % self.capacity if self.added >= self.capacity else 0

    def windows(self, starts: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """The places of up to `steps` steps from each start, [B, steps], and which of them are there."""
        places = np.empty((len(starts), steps), np.int64)
        there = np.empty((len(starts), steps), bool)
        at, going = starts, np.ones(len(starts), bool)
        for step in range(steps):
            places[:, step], there[:, step] = at, going
            after = self._after[at]
            going = going & (after >= 0)
            at = np.where(after >= 0, after, at)
        return places, there

    def n_step(self, starts: np.ndarray, steps: np.ndarray, gamma: float) -> dict[str, Any]:
        """Transitions over up to `steps[i]` steps: rewards are discounted sums, `n_step` says over how many steps."""
        most = int(steps.max())
        batch = {name: take(column, starts) for name, column in self.columns.items()}
        if most == 1:
            ends, taken = starts, np.ones(len(starts), np.int64)
        else:
            places, there = self.windows(starts, most)
            flat = self.columns[Columns.REWARDS][places].reshape(-1)
            stops = ~np.concatenate([there[:, 1:], np.zeros((len(starts), 1), bool)], axis=1)
            rows = np.arange(len(starts))
            sums, taken = n_step_returns(flat, stops.reshape(-1), rows * most, steps, gamma)
            ends = places[rows, taken - 1]
            batch[Columns.REWARDS] = sums
            for name in (Columns.TERMINATEDS, Columns.TRUNCATEDS):
                batch[name] = self.columns[name][ends]
        batch.update(self.led_to(ends))
        batch["n_step"] = taken.astype(np.float32)
        return batch

    def led_to(self, places: np.ndarray) -> dict[str, Any]:
        """What steps led to: new observations, and masks of what was allowed there."""
        after = self._after[places]
        apart = after < 0
        out = {}
        for name in STATES:
            if name not in self.columns:
                continue
            rows = take(self.columns[name], np.where(apart, 0, after))
            if apart.any():
                put(rows, apart, take(self._pool.rows[name], ~after[apart]))
            out[Columns.NEXT_OBS if name == Columns.OBS else f"next_{name}"] = rows
        return out

    def goes_on(self, places: np.ndarray) -> np.ndarray:
        """Whether the next step is there."""
        found: np.ndarray = self._after[places] >= 0
        return found

    def next_of(self, place: int) -> int:
        """The place of the next step, which must be there."""
        return int(self._after[place])

    def ends(self) -> int:
        """How many of the kept steps are the last of their episode."""
        return int(np.count_nonzero(self._ends[: len(self)]))

    def running(self) -> int:
        """How many episodes go on. One whose newest step was overwritten, as of a lost runner, is forgotten."""
        oldest = self.added - self.capacity
        gone = [owner for owner, (_, at, _) in self._tails.items() if at < oldest]
        for owner in gone:
            del self._tails[owner]
        return len(self._tails)

    # state

    def get_state(self) -> dict[str, Any]:
        """All that is kept, without the empty places."""
        kept = len(self)
        return {
            "capacity": self.capacity,
            "added": self.added,
            "columns": {name: map_tree(lambda leaf: leaf[:kept].copy(), col) for name, col in self.columns.items()},
            "after": self._after[:kept].copy(),
            "ends": self._ends[:kept].copy(),
            "firsts": self.firsts[:kept].copy(),
            "pool": (self._pool.rows, self._pool._free, self._pool._size),
            "tails": dict(self._tails),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Take what `get_state` gave; the capacity must be the same."""
        if state["capacity"] != self.capacity:
            raise ValueError(
                f"the saved buffer has a capacity of {state['capacity']} steps, this one of {self.capacity}: "
                "set replay_buffer_config['capacity'] to the saved one"
            )
        self.added = state["added"]
        kept = len(self)
        self.columns = {name: blank(column, (self.capacity,)) for name, column in state["columns"].items()}
        for name, column in state["columns"].items():
            put(self.columns[name], slice(0, kept), column)
        self._after[:kept], self._ends[:kept] = state["after"], state["ends"]
        self.firsts[:kept] = state["firsts"]
        self._pool = Pool()
        rows, free, size = state["pool"]
        self._pool.rows = None if rows is None else map_tree(np.array, rows)
        self._pool._free, self._pool._size = np.array(free), size
        self._tails = dict(state["tails"])


def _leaf(tree: Any) -> np.ndarray:
    while not isinstance(tree, np.ndarray):
        tree = next(iter(tree.values())) if isinstance(tree, dict) else tree[0]
    return tree

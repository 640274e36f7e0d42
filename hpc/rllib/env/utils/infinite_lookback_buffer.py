"""A column of an episode: a list or arrays of records, with records of before its start that may be looked back at."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpc.rllib.utils.spaces.space_utils import batch, filled, one_hot_tree
from hpc.rllib.utils.trees import map_tree, take

Indices = int | slice | list[int] | None


def _same(one: Any, other: Any) -> bool:
    """Whether two nested records hold the same values."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(np.array_equal(one, other))


class InfiniteLookbackBuffer:
    """Records of an episode, indexed from its start; ``lookback`` records of before it lie in front.

    Records are a list while the episode grows, and arrays (one per leaf) once it is ``finalized``.
    """

    def __init__(self, data: Any = None, lookback: int = 0, space: Any = None) -> None:
        self.data = data if data is not None else []
        self.finalized = not isinstance(self.data, list)
        self.lookback = min(lookback, self._count(self.data))
        self.space = space

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, InfiniteLookbackBuffer)
            and self.lookback == other.lookback
            and self.finalized == other.finalized
            and self.space == other.space
            and _same(self.data, other.data)
        )

    __hash__ = None  # type: ignore[assignment]

    @staticmethod
    def _count(data: Any) -> int:
        while isinstance(data, (dict, tuple)):
            data = next(iter(data.values())) if isinstance(data, dict) else data[0]
        return len(data)

    def __len__(self) -> int:
        return max(self.len_incl_lookback() - self.lookback, 0)

    def len_incl_lookback(self) -> int:
        """How many records it has with those of before its start."""
        return self._count(self.data)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.data[: self.lookback]} <- lookback({self.lookback}) | {self.get()})"

    # -------------------------------------------------------------- growing

    def append(self, item: Any) -> None:
        """Add one record to the end."""
        if self.finalized:
            self.data = map_tree(lambda leaf, new: np.concatenate([leaf, np.asarray(new)[None]]), self.data, item)
        else:
            self.data.append(item)

    def extend(self, items: Any) -> None:
        """Add records to the end: a list of them, or arrays with a row for each."""
        if self.finalized:
            rows = batch(items) if isinstance(items, list) else items
            self.data = map_tree(lambda leaf, new: np.concatenate([leaf, np.asarray(new)]), self.data, rows)
        elif isinstance(items, list):
            self.data.extend(items)
        else:
            self.data.extend(take(items, i) for i in range(self._count(items)))

    def concat(self, other: InfiniteLookbackBuffer) -> None:
        """Add another's records, without those of before its start."""
        self.extend(other.get())

    def pop(self, index: int = -1) -> None:
        """Take one record out."""
        if self.finalized:
            self.data = map_tree(lambda leaf: np.delete(leaf, index, axis=0), self.data)
        else:
            self.data.pop(index)

    def finalize(self) -> None:
        """Make arrays of the list of records."""
        if not self.finalized:
            self.data = batch(self.data)
            self.finalized = True

    def __add__(self, other: Any) -> InfiniteLookbackBuffer:
        if self.finalized:
            raise RuntimeError(f"Cannot `add` to a finalized {type(self).__name__}.")
        if isinstance(other, (int, float, complex)):
            data = [one + other if isinstance(one, (int, float, complex)) else one for one in self.data]
        elif isinstance(other, InfiniteLookbackBuffer):
            data = self.data + other.data[other.lookback :]
        else:
            data = self.data + other
        return InfiniteLookbackBuffer(data, self.lookback, self.space)

    # -------------------------------------------------------------- reading

    def get(
        self,
        indices: Indices = None,
        *,
        neg_index_as_lookback: bool = False,
        fill: Any = None,
        one_hot_discrete: bool = False,
        _ignore_last_ts: bool = False,
        _add_last_ts_value: Any = None,
    ) -> Any:
        """Records at an index, at several, or in a range; without indices all but those of before the start.

        Negative indices count from the end, or with ``neg_index_as_lookback`` back from the start. With ``fill``
        records that are not there are made of this value.

        Raises:
            IndexError: an index is out of range, and there is no ``fill``.
        """
        if not _ignore_last_ts and _add_last_ts_value is None:
            view = self
        else:
            view = self._changed(_ignore_last_ts, _add_last_ts_value)
        if isinstance(indices, list):
            found = [view._at(i, neg_index_as_lookback, fill, one_hot_discrete) for i in indices]
            return batch(found) if self.finalized else found
        if indices is None:
            return view._range(slice(None), neg_index_as_lookback, None, one_hot_discrete)
        if isinstance(indices, slice):
            return view._range(indices, neg_index_as_lookback, fill, one_hot_discrete)
        return view._at(int(indices), neg_index_as_lookback, fill, one_hot_discrete)

    def __getitem__(self, item: Any) -> Any:
        return self.get(item)

    def _changed(self, ignore_last: bool, added: Any) -> InfiniteLookbackBuffer:
        """A buffer without the last record, or with one more, for the time of a look."""
        data = self.data
        if ignore_last:
            data = map_tree(lambda leaf: leaf[:-1], data) if self.finalized else data[:-1]
        view = InfiniteLookbackBuffer(data if self.finalized else list(data), self.lookback, self.space)
        if added is not None:
            view.append(added)
        return view

    def _at(self, index: int, from_start: bool, fill: Any, one_hot: bool) -> Any:
        count = self.len_incl_lookback()
        at = self.lookback + index if index >= 0 or from_start else count + index
        if not 0 <= at < count:
            if fill is None:
                raise IndexError(
                    f"index {index} is out of range: the buffer has {len(self)} records, {self.lookback} before"
                )
            return fill if self.space is None else filled(self.space, fill, None, one_hot)
        found = map_tree(lambda leaf: leaf[at], self.data) if self.finalized else self.data[at]
        return one_hot_tree(found, self._space_to_one_hot()) if one_hot else found

    def _space_to_one_hot(self) -> Any:
        if self.space is None:
            raise ValueError(
                f"Cannot `one_hot` data in `{type(self).__name__}` if a gym.Space was NOT provided during construction!"
            )
        return self.space

    def _bound(self, bound: int, from_start: bool, count: int) -> int:
        return self.lookback + bound if bound >= 0 or from_start else count + bound

    def _range(self, wanted: slice, from_start: bool, fill: Any, one_hot: bool) -> Any:
        count = self.len_incl_lookback()
        step = 1 if wanted.step is None else wanted.step
        if step < 0:
            return self._reversed(wanted, from_start, fill, one_hot)
        start = self.lookback if wanted.start is None else self._bound(wanted.start, from_start, count)
        stop = count if wanted.stop is None else self._bound(wanted.stop, from_start, count)
        low, high = min(max(start, 0), count), min(max(stop, 0), count)
        left = max(min(stop, 0) - start, 0)
        right = max(stop - max(start, count), 0)
        picked = slice(low, max(high, low), step)
        found = map_tree(lambda leaf: leaf[picked], self.data) if self.finalized else self.data[picked]
        if one_hot and picked.stop > picked.start:
            space = self._space_to_one_hot()
            found = one_hot_tree(found, space) if self.finalized else [one_hot_tree(one, space) for one in found]
        if fill is None or not (left or right):
            return found
        return self._with_fill(found, picked.stop > picked.start, left, right, fill, one_hot)

    def _reversed(self, wanted: slice, from_start: bool, fill: Any, one_hot: bool) -> Any:
        """Records in a range that goes backwards."""
        count = self.len_incl_lookback()
        start = count - 1 if wanted.start is None else self._bound(wanted.start, from_start, count)
        stop = self.lookback - 1 if wanted.stop is None else self._bound(wanted.stop, from_start, count)
        places = range(start, stop, wanted.step)
        if fill is None:
            places = [at for at in places if 0 <= at < count]  # type: ignore[assignment]
        found = [self._at(at - self.lookback, True, fill, one_hot) for at in places]
        return batch(found) if self.finalized and found else found

    def _with_fill(self, found: Any, any_found: bool, left: int, right: int, fill: Any, one_hot: bool) -> Any:
        if not self.finalized:
            blank = fill if self.space is None else filled(self.space, fill, None, one_hot)
            return [blank] * left + found + [blank] * right

        def rows(count: int) -> Any:
            if self.space is None:
                return map_tree(lambda leaf: np.full((count,) + leaf.shape[1:], fill), self.data)
            return filled(self.space, fill, count, one_hot)

        parts = ([rows(left)] if left else []) + ([found] if any_found else []) + ([rows(right)] if right else [])
        return map_tree(lambda *leaf: np.concatenate(leaf), parts[0], *parts[1:])

    # -------------------------------------------------------------- writing

    def set(self, new_data: Any, *, at_indices: Indices = None, neg_index_as_lookback: bool = False) -> None:
        """Write over records; their number stays.

        Raises:
            IndexError: a place is out of range, or another number of records was given.
        """
        count = self.len_incl_lookback()
        if at_indices is None:
            at_indices = slice(0, None)
        if isinstance(at_indices, slice):
            self._set_range(new_data, at_indices, neg_index_as_lookback, count)
        elif isinstance(at_indices, list):
            for i, index in enumerate(at_indices):
                self._set_at(new_data[i], index, neg_index_as_lookback, count)
        else:
            self._set_at(new_data, at_indices, neg_index_as_lookback, count)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.set(value, at_indices=key)

    def _set_at(self, new: Any, index: int, from_start: bool, count: int) -> None:
        at = self._bound(index, from_start, count)
        if not 0 <= at < count:
            raise IndexError(
                f"Cannot `set()` value at index {index} (option neg_index_as_lookback={from_start})! "
                "Out of range of buffer data."
            )
        if self.finalized:
            map_tree(lambda leaf, one: leaf.__setitem__(at, one), self.data, new)
        else:
            self.data[at] = new

    def _set_range(self, new: Any, wanted: slice, from_start: bool, count: int) -> None:
        start = self.lookback if wanted.start is None else self._bound(wanted.start, from_start, count)
        stop = count if wanted.stop is None else self._bound(wanted.stop, from_start, count)
        picked = slice(min(max(start, 0), count), min(max(stop, 0), count), wanted.step)
        if len(range(count)[picked]) != self._count(new):
            raise IndexError(
                f"Cannot `set()` value via at_indices={picked} (option neg_index_as_lookback={from_start})! "
                "Slice of data does NOT have the same size as `new_data`."
            )
        if self.finalized:
            rows = batch(new) if isinstance(new, list) else new
            map_tree(lambda leaf, one: leaf.__setitem__(picked, one), self.data, rows)
        else:
            self.data[picked] = list(new)

    # -------------------------------------------------------------- state

    def get_state(self) -> dict[str, Any]:
        """All it holds, to be pickled."""
        return {"data": self.data, "lookback": self.lookback, "finalized": self.finalized, "space": self.space}

    @staticmethod
    def from_state(state: dict[str, Any]) -> InfiniteLookbackBuffer:
        """A buffer from what `get_state` gave."""
        buffer = InfiniteLookbackBuffer(state["data"], state["lookback"], state["space"])
        buffer.finalized = state["finalized"]
        return buffer

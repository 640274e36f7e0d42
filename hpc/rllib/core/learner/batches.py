"""Train batches: time-major columns [T, N, ...] become rows [B, ...] or sequences [B, L, ...], and minibatches of them.

Arrays are numpy's up to the train batch; the learner makes tensors of that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from hpc.rllib.core.columns import Columns
from hpc.rllib.utils.trees import concatenate, leaves, map_tree

Batch = dict[str, Any]
#: Columns with one row per sequence: the state before its first row.
STATES = (Columns.STATE_IN, Columns.NEXT_STATE_IN)
#: Up to this size a train batch is shuffled as a whole in each epoch; a larger one row by row in each minibatch.
SHUFFLED_WHOLE_BYTES = 64 << 20


def rows_of(columns: Batch, *, by_column: bool = False) -> Batch:
    """The valid rows of time-major columns, as [B, ...]; the mask is left out, since all rows are valid.

    by_column: all rows of the first column, then those of the next one, as connectors see episodes.
    """
    mask = columns[Columns.LOSS_MASK]
    whole = bool(mask.all())

    def flat(leaf: np.ndarray) -> np.ndarray:
        if by_column:
            return leaf.swapaxes(0, 1)[mask.T]
        return leaf.reshape((-1, *leaf.shape[2:])) if whole else leaf[mask]

    return {name: map_tree(flat, column) for name, column in columns.items() if name != Columns.LOSS_MASK}


def sequences_of(columns: Batch, segments: list[tuple[int, int, int]], max_seq_len: int) -> Batch:
    """Sequences [B, L, ...] of at most ``max_seq_len`` rows, cut at the ends of episodes and padded with zeros.

    segments: (column, first row, row after the last one) of each piece of an episode. ``state_in`` gets one row per
    sequence, and ``loss_mask`` says which rows are valid.
    """
    pieces = [
        (column, at, min(at + max_seq_len, stop))
        for column, start, stop in segments
        for at in range(start, stop, max_seq_len)
    ]
    column, start, stop = (np.array(part) for part in zip(*pieces))
    time = start[:, None] + np.arange(max_seq_len)[None, :]
    valid = time < stop[:, None]
    time = np.minimum(time, stop[:, None] - 1)

    def cut(leaf: np.ndarray) -> np.ndarray:
        taken = leaf[time, column[:, None]]
        taken[~valid] = 0
        return taken

    out = {
        name: map_tree((lambda leaf: leaf[start, column]) if name in STATES else cut, values)
        for name, values in columns.items()
    }
    out[Columns.LOSS_MASK] = valid & out.get(Columns.LOSS_MASK, valid).astype(bool)
    return out


def joined(parts: list[Batch], axis: int = 0) -> Batch:
    """One batch of several; columns that some lack are left out."""
    if len(parts) == 1:
        return parts[0]
    names = [name for name in parts[0] if all(name in part for part in parts)]
    return {name: concatenate([part[name] for part in parts], axis=axis) for name in names}


def rows_in(batch: Batch, axis: int = 0) -> int:
    """How many rows a batch has."""
    return int(next(leaves(batch)).shape[axis])


class Minibatches:
    """Minibatches of the train batches of several modules: ``size`` rows of each, over and over, until all are done.

    A module is done after ``epochs`` passes over its rows. A minibatch that reaches the end of a pass is filled with
    the first rows of the next one. ``permutation(n)`` gives the order of a pass; None: rows stay in order. ``total``:
    the exact number of minibatches.
    """

    def __init__(
        self,
        batches: dict[str, Batch],
        *,
        epochs: int = 1,
        size: int | None = None,
        total: int = 0,
        permutation: Callable[[int], Any] | None = None,
        cat: Callable[[list[Any]], Any],
        axis: int = 0,
    ) -> None:
        self._streams = {
            name: _Stream(batch, size, permutation if size or epochs > 1 else None, cat, axis)
            for name, batch in batches.items()
        }
        self._epochs = epochs
        self._total = total

    def __iter__(self) -> Iterator[dict[str, Batch]]:
        count = 0
        while count < self._total if self._total else any(s.epoch < self._epochs for s in self._streams.values()):
            yield {name: stream.next() for name, stream in self._streams.items()}
            count += 1


class _Stream:
    """The rows of one module's batch, over and over."""

    def __init__(self, batch: Batch, size: int | None, permutation: Any, cat: Any, axis: int) -> None:
        self._batch = batch
        self._rows = rows_in(batch, axis)
        self._size = min(size or self._rows, self._rows)
        self._permutation = permutation
        self._cat = cat
        self._axis = axis
        bytes_of = sum(leaf.numel() * leaf.element_size() for leaf in leaves(batch))
        self._whole = bytes_of <= SHUFFLED_WHOLE_BYTES
        #: How many passes are complete.
        self.epoch = 0
        self._at = 0
        self._order: Any = None
        self._pieces: list[Batch] = []
        self._begin()

    def next(self) -> Batch:
        """The next minibatch."""
        if self._pieces:
            piece = self._pieces.pop()
            if not self._pieces:
                self.epoch += 1
                self._begin()
            return piece
        parts = []
        missing = self._size
        while missing:
            stop = min(self._at + missing, self._rows)
            parts.append(self._take(self._at, stop))
            missing -= stop - self._at
            self._at = stop
            if stop == self._rows:
                self.epoch += 1
                self._begin()
        if len(parts) == 1:
            return parts[0]
        return map_tree(lambda *leaf: self._cat(list(leaf)), parts[0], *parts[1:])

    def _begin(self) -> None:
        self._at = 0
        if self._permutation is None:
            self._shuffled = self._batch
        else:
            order = self._permutation(self._rows)
            if not self._whole:
                self._order = order
                return
            self._shuffled = map_tree(lambda leaf: leaf.index_select(self._axis, order), self._batch)
        if self._rows % self._size == 0:
            self._pieces = self._cut()

    def _cut(self) -> list[Batch]:
        """All minibatches of a pass, the first one last: cut at once, where they fill it."""
        parts = [leaf.split(self._size, self._axis) for leaf in leaves(self._shuffled)]
        made = []
        for at in reversed(range(self._rows // self._size)):
            own = iter([part[at] for part in parts])
            made.append(map_tree(lambda leaf, own=own: next(own), self._shuffled))
        return made

    def _take(self, start: int, stop: int) -> Batch:
        if self._order is not None:
            index = self._order[start:stop]
            return map_tree(lambda leaf: leaf.index_select(self._axis, index), self._batch)
        return map_tree(lambda leaf: leaf.narrow(self._axis, start, stop - start), self._shuffled)

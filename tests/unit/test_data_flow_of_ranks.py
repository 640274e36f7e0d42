"""A rank's pass that is left early lets go of the blocks that it had, while its iterator goes on."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace

import pyarrow as pa

from hpc.data import split
from hpc.data.context import DataContext


class Block:
    """What an actor of ranks gives. live: all that somebody still has."""

    live: weakref.WeakSet[Block] = weakref.WeakSet()

    def __init__(self):
        self.live.add(self)


def test_a_pass_that_was_left_keeps_no_blocks(monkeypatch):
    calls = {
        "begin": lambda rank, wanted: (0, None),
        "take": lambda rank, number: [(Block(), 0, 3, None)],
        "leave": lambda rank, number: None,
        "told": lambda rank, number, times: told.append(times.batches),
    }
    told = []
    actor = SimpleNamespace(**{name: SimpleNamespace(remote=call) for name, call in calls.items()})
    get = lambda one: pa.table({"a": [1, 2, 3]}) if isinstance(one, Block) else one  # noqa: E731
    monkeypatch.setattr(split, "hpc", SimpleNamespace(get=get))
    iterator = split.SplitIterator(actor, 0, 2, DataContext())
    for _ in iterator.iter_batches(batch_size=3, prefetch_batches=0):
        assert Block.live
        break
    gc.collect()
    assert not Block.live and told == [1] and iterator._last is not None

"""Arithmetic between nodes: one rank of each node, over the network.

What is small goes from each to all others at once, and is combined in the order of the nodes. What is large goes around
a ring twice: each node reduces one part of it, and the parts are passed on. Either way every node gets the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpc.collective.ops import Combine
from hpc.collective.shm.wires import Transfer, Wires

#: Up to so many bytes each node gets all of what the others have.
DIRECT_BYTES = 32 << 10


def reduce_between(
    flat: np.ndarray, combine: Combine, ranks: Sequence[int], place: int, wires: Wires, word: int
) -> None:
    """Combine the arrays of these ranks, one of each node, in place. ``place`` is this rank's place among them."""
    if len(ranks) == 1 or not flat.size:
        return
    if flat.nbytes <= DIRECT_BYTES:
        _directly(flat, combine, ranks, place, wires, word)
    else:
        _around(flat, combine, ranks, place, wires, word)


def _bytes(flat: np.ndarray) -> np.ndarray:
    return flat.view(np.uint8)


def _directly(flat: np.ndarray, combine: Combine, ranks: Sequence[int], place: int, wires: Wires, word: int) -> None:
    parts = [flat.copy() if i == place else np.empty_like(flat) for i in range(len(ranks))]
    others = [i for i in range(len(ranks)) if i != place]
    wires.exchange(
        word,
        [Transfer(ranks[i], _bytes(flat)) for i in others],
        [Transfer(ranks[i], _bytes(parts[i])) for i in others],
    )
    combine(parts[0], parts[1], flat)
    for part in parts[2:]:
        combine(flat, part, flat)


def _around(flat: np.ndarray, combine: Combine, ranks: Sequence[int], place: int, wires: Wires, word: int) -> None:
    nodes = len(ranks)
    width = -(-flat.size // nodes)
    parts = [flat[i * width : (i + 1) * width] for i in range(nodes)]
    after, before = ranks[(place + 1) % nodes], ranks[place - 1]
    room = np.empty(width, flat.dtype)
    for turn in range(nodes - 1):
        out, into = parts[(place - turn) % nodes], parts[(place - turn - 1) % nodes]
        come = room[: into.size]
        wires.exchange(word, [Transfer(after, _bytes(out))], [Transfer(before, _bytes(come))])
        combine(come, into, into)
    for turn in range(nodes - 1):
        out, into = parts[(place + 1 - turn) % nodes], parts[(place - turn) % nodes]
        wires.exchange(word, [Transfer(after, _bytes(out))], [Transfer(before, _bytes(into))])

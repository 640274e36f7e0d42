"""Messages from one rank of a node to another, through two buffers of each pair, used by turns.

The sender is done when its last bytes are in a buffer, as senders of short messages are under MPI.
"""

from __future__ import annotations

import numpy as np

from hpc.collective.shm.segment import READ, WHAT, WORDS, WRITTEN, Segment, fence
from hpc.collective.shm.watch import Watch

PAIR_BYTES = 128 << 10


class Pairs:
    """The messages of one rank."""

    def __init__(self, segment: Segment, watch: Watch) -> None:
        self._segment, self._watch = segment, watch
        self._words = segment.pairs

    def send(self, data: np.ndarray, destination: int, word: int) -> None:
        """Send bytes to a rank that receives as many. ``word`` says what they are."""
        words = self._words
        at = (self._segment.rank * self._segment.shape.ranks + destination) * WORDS
        for low in range(0, max(1, data.size), PAIR_BYTES):
            part = data[low : low + PAIR_BYTES]
            count = words[at + WRITTEN] + 1
            self._watch.wait(words, at + READ, max(0, count - 2), destination, word)
            self._segment.pair_buffer(self._segment.rank, destination, count & 1)[: part.size] = part
            words[at + WHAT + (count & 1)] = word
            fence()
            words[at + WRITTEN] = count

    def receive(self, data: np.ndarray, source: int, word: int) -> None:
        """Receive bytes of a rank.

        Raises CollectiveError if that sends something else, has died or left."""
        words = self._words
        at = (source * self._segment.shape.ranks + self._segment.rank) * WORDS
        for low in range(0, max(1, data.size), PAIR_BYTES):
            part = data[low : low + PAIR_BYTES]
            count = words[at + READ] + 1
            self._watch.wait(words, at + WRITTEN, count, source, word)
            fence()
            other = words[at + WHAT + (count & 1)]
            if other != word:
                raise self._watch.differs(source, word, other)
            part[...] = self._segment.pair_buffer(source, self._segment.rank, count & 1)[: part.size]
            fence()
            words[at + READ] = count

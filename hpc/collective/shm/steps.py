"""The steps of one rank: see `shm.segment`."""

from __future__ import annotations

from hpc.collective.shm.segment import WHAT, WORDS, Segment, fence
from hpc.collective.shm.watch import Watch

#: Looks at a counter before the core is lent to others: about 10 us.
SPINS = 200


class Steps:
    """``what`` is the word of the operation that the steps belong to (`ops.what`)."""

    def __init__(self, segment: Segment, watch: Watch, spins: int = SPINS) -> None:
        self.step = self.what = 0
        self._unseen = 0
        self._watch, self._spins = watch, spins
        self._counters = segment.counters
        self._mine = segment.rank * WORDS
        self._others = tuple(rank for rank in range(segment.shape.ranks) if rank != segment.rank)

    def begin(self) -> int:
        """Begin the next step. When it returns, this rank may write into its buffer of that step."""
        self.step = step = self.step + 1
        counters = self._counters
        for rank in self._others:
            if counters[rank * WORDS] < step - 1:
                self._watch.wait(counters, rank * WORDS, step - 1, rank, self.what)
        if self._unseen:
            self._look_back(step - 1)
        return step

    def post_unseen(self) -> None:
        """The same for a rank that reads nothing of the others in this step, and goes on at once. Whether they did the
        same is seen when it begins the next one: until then nobody has waited for all."""
        self.post()
        self._unseen = self.what

    def _look_back(self, step: int) -> None:
        unseen, self._unseen = self._unseen, 0
        fence()
        for rank in self._others:
            other = self._counters[rank * WORDS + WHAT + (step & 1)]
            if other != unseen:
                raise self._watch.differs(rank, unseen, other)

    def post(self) -> None:
        """This rank has written what others read in this step."""
        counters, at = self._counters, self._mine
        counters[at + WHAT + (self.step & 1)] = self.what
        fence()
        counters[at] = self.step

    def wait(self, rank: int) -> None:
        """Until another rank has written what this one reads in this step.

        Raises CollectiveError if that rank does another operation, has died or left."""
        at, step = rank * WORDS, self.step
        counters = self._counters
        if counters[at] < step:
            for _ in range(self._spins):
                if counters[at] >= step:
                    break
            else:
                self._watch.wait(counters, at, step, rank, self.what)
        fence()
        other = counters[at + WHAT + (step & 1)]
        if other != self.what:
            raise self._watch.differs(rank, self.what, other)

    def wait_all(self) -> None:
        """Until all have written."""
        for rank in self._others:
            self.wait(rank)

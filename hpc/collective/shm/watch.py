"""Waiting for other ranks of a node, and noticing that one will never come.

A wait first looks at a counter in a loop: a rank that is at work answers within microseconds. Then it lends its core to
others between looks, and at last sleeps between them. Once a millisecond it looks whether the group has ended, and
whether the processes live. Their death is told by the kernel, never learnt from silence.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Sequence

from hpc.collective.errors import CollectiveError, CollectiveTimeoutError
from hpc.collective.ops import describe
from hpc.collective.shm.segment import Segment

#: How long a waiting rank lends its core between looks before it sleeps between them, in seconds.
YIELD_S = 0.002
SLEEP_S, SLEEP_MOST_S = 0.00005, 0.001
LOOK_S = 0.001
_YIELDS = 16


class Peer:
    """The process of another rank: its number on the node, and its name for people."""

    def __init__(self, rank: int, pid: int, name: str) -> None:
        self.rank, self.name = rank, name
        # A descriptor stands for this very process, whoever has its number later.
        self.fd = os.pidfd_open(pid)

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


class Watch:
    """What a rank knows of the others of its node. ``name`` is its own, ``timeout_s`` the longest wait for a rank."""

    def __init__(self, segment: Segment, name: str, peers: Sequence[Peer], timeout_s: float) -> None:
        self.segment, self.timeout_s = segment, timeout_s
        self.names = {segment.rank: name} | {peer.rank: peer.name for peer in peers}
        self._poll = select.poll()
        # A poll object serves one thread at a time, and messages have threads of their own.
        self._polling = threading.Lock()
        self._by_fd = {peer.fd: peer for peer in peers}
        for fd in self._by_fd:
            self._poll.register(fd, select.POLLIN)

    def check(self) -> None:
        """Raise CollectiveError if the group has ended or a rank's process has."""
        reason = self.segment.ended()
        if reason is not None:
            raise CollectiveError(reason)
        with self._polling:
            ended = self._poll.poll(0)
        for fd, _event in ended:
            peer = self._by_fd[fd]
            if not self.segment.has_left(peer.rank):
                raise CollectiveError(self.segment.end(f"{peer.name} has died"))

    def wait(self, words: memoryview, at: int, value: int, rank: int, word: int) -> None:
        """Until a counter has reached a value. ``rank`` raises it; ``word`` is what this rank wants of it.

        Raises CollectiveError if it never will, CollectiveTimeoutError after the time limit."""
        began = looked = time.monotonic()
        pause = 0.0
        while words[at] < value:
            if pause:
                time.sleep(pause)
            else:
                for _ in range(_YIELDS):
                    os.sched_yield()
                    if words[at] >= value:
                        return
            now = time.monotonic()
            if now - looked >= LOOK_S:
                looked = now
                # A rank may leave, and a process end, after its last step: what it has written counts.
                gone = self.segment.has_left(rank)
                if words[at] >= value:
                    return
                self.check()
                if gone:
                    raise CollectiveError(self.segment.end(f"{self.names[rank]} has left, before {describe(word)}"))
                if now - began > self.timeout_s:
                    self._late(rank, word)
            if now - began > YIELD_S:
                pause = min(SLEEP_MOST_S, pause * 1.5) if pause else SLEEP_S

    def differs(self, rank: int, mine: int, other: int) -> CollectiveError:
        """The error for ranks that do not do the same. The group has ended with it."""
        return CollectiveError(
            self.segment.end(
                f"the ranks do not do the same: {self.names[self.segment.rank]} calls {describe(mine)}, "
                f"{self.names[rank]} {describe(other)}"
            )
        )

    def _late(self, rank: int, word: int) -> None:
        raise CollectiveTimeoutError(
            self.segment.end(f"{self.names[rank]} did not come to {describe(word)} within {self.timeout_s:g} s")
        )

    def close(self) -> None:
        with self._polling:
            for fd, peer in self._by_fd.items():
                self._poll.unregister(fd)
                peer.close()
            self._by_fd.clear()

"""Drivers are not this node's children: the kernel tells of their end by a pidfd each."""

from __future__ import annotations

import os
from collections.abc import Callable

from hpc.core.net.reactor import Reactor


class Pids:
    """The processes whose end is waited for; ``ended(number)`` is called then."""

    def __init__(self, reactor: Reactor, ended: Callable[[int], None]) -> None:
        self._reactor = reactor
        self._ended = ended
        self._fds: dict[int, int] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._fds

    def watch(self, number: int, pid: int) -> None:
        """Wait for the end of process ``number``. Without a pidfd nobody waits for it."""
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            return
        self._fds[number] = fd

        def ended() -> None:
            self._reactor.remove(fd)
            os.close(fd)
            del self._fds[number]
            self._ended(number)

        self._reactor.add_reader(fd, ended)

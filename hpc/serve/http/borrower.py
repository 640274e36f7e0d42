"""What a replica has of the proxies of its node: a lane from each, by which connections are lent."""

from __future__ import annotations

import asyncio
import socket

from hpc.serve.http.lent import Host, ProxyLane

#: How often a replica that is to end looks whether all connections were given back.
LOOK_S = 0.02


class Borrower:
    """What a replica has of the proxies of its node."""

    def __init__(self, host: Host, replica: str) -> None:
        self._host = host
        self._replica = replica
        self._lanes: list[ProxyLane] = []
        self._is_leaving = False

    def join(self, path: str) -> None:
        """Be there for the proxy that listens at a path. Raises OSError where none does, or it takes none now. One that
        has asked twice, since this process was slow, ends the second lane."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.setblocking(False)
        try:
            sock.connect(path)
        except OSError:
            sock.close()
            raise
        self._lanes = [lane for lane in self._lanes if lane.is_open or lane.has_loans]
        self._lanes.append(ProxyLane(self._host, sock, self._replica))
        if self._is_leaving:
            self.leave()

    def leave(self) -> None:
        """The replica takes no request any more."""
        self._is_leaving = True
        for lane in self._lanes:
            lane.leave()

    async def returned(self) -> None:
        """Wait until all connections are given back, each once its client has read its answer."""
        while any(lane.has_loans for lane in self._lanes):
            await asyncio.sleep(LOOK_S)

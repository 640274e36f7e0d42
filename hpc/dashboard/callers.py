"""Connections to the dashboard: how many there may be at each door, and how long one may say nothing.

The port of 127.0.0.1 is open to every user of the machine, who need no cookie to connect to it. So each door has room
for its own connections. A stranger who fills the port keeps nobody out of the socket, which only the user can reach.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

#: Browsers open six connections each to a server, and one more for each tab that follows a page.
MOST_CONNECTIONS = 100
#: A connection that has asked for nothing is closed after this time; one that asks by halves, or reads nothing of what
#: it is told, after twice as long.
SILENT_S = 10.0


class Caller(H11Protocol):  # type: ignore[misc, unused-ignore]  # it has no types where h11 is not installed
    """One connection, of a door that has room for it; another one is closed at once."""

    family: int = 0
    _silence: asyncio.TimerHandle | None = None
    _seen: tuple[object, int] | None = None

    def connection_made(self, transport: Any) -> None:
        """Somebody has connected."""
        super().connection_made(transport)
        self.family = transport.get_extra_info("socket").family
        if sum(one.family == self.family for one in self.connections) > MOST_CONNECTIONS:
            transport.abort()
        else:
            self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        if self._silence is not None:
            self._silence.cancel()
        super().connection_lost(exc)

    def _look_later(self) -> None:
        self._silence = asyncio.get_running_loop().call_later(SILENT_S, self._look)

    def _look(self) -> None:
        """Close it where it does not get on. A browser's own has an answer under way, or ends by itself after 5 s."""
        seen = self.cycle, self.transport.get_write_buffer_size()
        if self.cycle is None or (seen == self._seen and (self.cycle.response_complete or seen[1])):
            self.transport.abort()
            return
        self._seen = seen
        self._look_later()

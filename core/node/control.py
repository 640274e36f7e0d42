"""JSON messages over an AF_UNIX SOCK_SEQPACKET socket, one a packet: how the processes of a node are told.

A packet arrives whole or not at all, so there is no framing; end-of-file says that the other side is gone.
Sending never blocks: what the socket does not take waits in a queue with a limit.
"""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Mapping
from typing import Any

MAX_PACKET_BYTES = 1 << 17  # stays under the kernel's default send buffer of 208 KiB
MAX_PENDING = 100_000


class ControlError(Exception):
    """A message is too long, or the other side has not read for far too long."""


class Control:
    """One end of a control socket. `eof` is true once the other side is gone."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.eof = False
        self._pending: deque[bytes] = deque()
        sock.setblocking(False)

    def fileno(self) -> int:
        """The descriptor to poll (-1 once closed)."""
        return self.sock.fileno()

    @property
    def wants_write(self) -> bool:
        """Whether messages wait for room: poll for writing and call `flush`."""
        return bool(self._pending) and not self.eof

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message, now or at a later `flush`."""
        data = json.dumps(message, separators=(",", ":")).encode()
        if len(data) > MAX_PACKET_BYTES:
            raise ControlError(f"a control message of {len(data)} bytes is over {MAX_PACKET_BYTES}")
        if len(self._pending) >= MAX_PENDING:
            raise ControlError(f"{MAX_PENDING} control messages wait: the other side does not read")
        self._pending.append(data)
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as there is room."""
        while self.wants_write:
            try:
                self.sock.send(self._pending[0])
            except BlockingIOError:
                return
            except OSError:
                self.eof = True
                return
            self._pending.popleft()

    def receive(self) -> list[dict[str, Any]]:
        """All messages that have come; sets `eof` at the end. Never blocks."""
        messages: list[dict[str, Any]] = []
        while True:
            try:
                data = self.sock.recv(MAX_PACKET_BYTES + 1)
            except BlockingIOError:
                return messages
            except ConnectionResetError:
                continue  # said once, ahead of its last words, of a side that ended before it had read all of ours
            except OSError:
                data = b""
            if not data:
                self.eof = True
                return messages
            try:
                message = json.loads(data)
            except ValueError:
                continue
            if isinstance(message, dict):
                messages.append(message)

    def close(self) -> None:
        """Close the socket: end-of-file for the other side."""
        self.eof = True
        self.sock.close()


def control_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

"""Whether somebody listens on the ports of nodes that are silent: TCP connections that are tried, never used.

A port that refuses is the one sure sign, from afar, that a process has ended: the kernel of a machine that lives says
so. Nothing at all comes from a machine without power, or behind a network that is cut.
Rejected: a socket monitor of ZeroMQ for each link. It tells of connections that broke, not of those that cannot be
made; and a raylet, not the head, makes the connection between the two.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

from hpc.core.net.reactor import Reactor, Timer

ANSWER_S = 1.0
#: Attempts at a time; those beyond are made when they are asked for again.
MAX_OPEN = 64


class Ports:
    """`tried(node, refused)` is called when a port has answered; not for one that is silent."""

    def __init__(self, reactor: Reactor, tried: Callable[[int, bool], None]) -> None:
        self._reactor, self._tried = reactor, tried
        self._open: dict[int, tuple[socket.socket, Timer]] = {}

    def attempt(self, node: int, endpoint: str) -> None:
        """Connect to `tcp://HOST:PORT`; nothing happens while an earlier attempt goes on."""
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        if node in self._open or not port.isdigit() or len(self._open) >= MAX_OPEN:
            return
        host = host.strip("[]")
        try:
            sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        except OSError:  # no descriptor is left
            return
        sock.setblocking(False)
        code = sock.connect_ex((host, int(port)))
        if code not in (0, errno.EINPROGRESS):
            sock.close()
            self._answer(node, code)
            return
        self._open[node] = (sock, self._reactor.call_later(ANSWER_S, lambda: self._close(node)))
        self._reactor.set_writer(sock.fileno(), lambda: self._on_answer(node))

    def _on_answer(self, node: int) -> None:
        code = self._open[node][0].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._close(node)
        self._answer(node, code)

    def _answer(self, node: int, code: int) -> None:
        if code in (0, errno.ECONNREFUSED):
            self._tried(node, code != 0)

    def _close(self, node: int) -> None:
        sock, timer = self._open.pop(node)
        timer.cancel()
        self._reactor.remove(sock.fileno())
        sock.close()

    def close(self) -> None:
        """Let go of what is under way."""
        for node in list(self._open):
            self._close(node)

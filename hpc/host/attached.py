"""A node whose supervisor was started elsewhere, and speaks through a socket that came to the host."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

from hpc.launchers.door import WRITE_TIMEOUT_S, Connect
from hpc.launchers.node_group import Channel, NodeGroup


def visits(host_socket: str) -> Connect:
    """How the door connects a joiner: as one more caller of the host, which asks to be a node."""

    def connect(wishes: dict[str, object]) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(WRITE_TIMEOUT_S)
        sock.connect(host_socket)
        sock.sendall(json.dumps({**wishes, "op": "attach"}).encode() + b"\n")
        return sock

    return connect


class AttachedGroup(NodeGroup):
    """One node at the other end of a socket. Whoever started it ends it when the socket is closed."""

    def __init__(self, sock: socket.socket, interface: str | None) -> None:
        super().__init__(1)
        self._sock = sock
        self._interface = interface

    def _launch(self) -> list[Channel]:
        with self._sock as sock:
            return [Channel(os.dup(sock.fileno()), os.dup(sock.fileno()), [0])]

    def start_fields(self) -> dict[str, Any]:
        # The folder and the interface of the first node say nothing about this machine.
        return {"base_dir": None, "interface": self._interface}

    def describe(self) -> str:
        return "a node that joined over the network"

    def poll(self) -> int | None:
        return 0 if self.silent else None

    def kill(self) -> None:
        for channel in self.channels:
            if not channel.eof:
                with socket.socket(fileno=os.dup(channel.stdout_fd)) as sock:
                    sock.shutdown(socket.SHUT_RDWR)

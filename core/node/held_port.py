"""A port that is kept for a program which is not there yet: MASTER_PORT, for rank 0."""

from __future__ import annotations

import socket


def hold_port(address: str) -> socket.socket:
    """A socket whose port is kept as long as it is open, for a server that another process makes.

    It is bound and does not listen. So the kernel gives the port to nobody who asks for any port, nor to an outgoing
    connection. A server that names it can listen on it all the same, for both sockets have SO_REUSEADDR. Torch's store
    and almost all servers set it. Closing the port ahead of the server was rejected: another program got it.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind((address, 0))
    return held

"""The user at the other end of a connection of this machine, as the kernel tells it."""

from __future__ import annotations

import socket

#: How the kernel writes the state of a connection that both sides hold.
_ESTABLISHED = "01"


def uid_of_peer(connection: socket.socket) -> int | None:
    """The user id of the process at the other end of a connection over loopback; None where the kernel does not say.

    An end that its process has closed belongs to nobody: the kernel lists it as root's.
    """
    (own_host, own_port), (host, port) = connection.getsockname()[:2], connection.getpeername()[:2]
    wanted = (_as_listed(host, port), _as_listed(own_host, own_port))
    try:
        with open("/proc/net/tcp") as table:
            for line in table.readlines()[1:]:
                fields = line.split()
                if (fields[1], fields[2]) == wanted:
                    return int(fields[7]) if fields[3] == _ESTABLISHED else None
    except OSError:
        return None
    return None


def _as_listed(host: str, port: int) -> str:
    """An address as the kernel's table has it: the words of the host in this machine's byte order."""
    number = int.from_bytes(socket.inet_aton(host), "little")
    return f"{number:08X}:{port:04X}"

"""How a process introduces itself to its raylet: one question, one answer with the arena's descriptor."""

from __future__ import annotations

import os
import socket

from hpc.core import exceptions
from hpc.core.ids import Address
from hpc.core.wire import (
    HEADER,
    HEADER_BYTES,
    WIRE_VERSION,
    ProcessKind,
    Register,
    Registered,
    decode_body,
    encode_frame,
)

ANSWER_TIMEOUT_S = 30.0


def register(sock: socket.socket, kind: ProcessKind, job: bytes, proc: int) -> tuple[Registered, list[int]]:
    """The raylet's answer and the descriptors of the arena and its overflow. Raises SessionLostError; leaves the socket
    non-blocking."""
    sock.settimeout(ANSWER_TIMEOUT_S)
    raylet = Address(0, 0)
    sock.sendall(encode_frame(raylet, raylet, [Register(kind, proc, os.getpid(), WIRE_VERSION, job)]))
    data, fds, _, _ = socket.recv_fds(sock, HEADER_BYTES, 2)
    while len(data) < HEADER_BYTES:
        more = sock.recv(HEADER_BYTES - len(data))
        if not more:
            raise exceptions.SessionLostError("the raylet closed the connection: is the session ending?")
        data += more
    size = HEADER.unpack(data)[0]
    body = b""
    while len(body) < size:
        more = sock.recv(size - len(body))
        if not more:
            raise exceptions.SessionLostError("the raylet closed the connection while answering")
        body += more
    sock.setblocking(False)
    registered = decode_body(body)[0]
    if not isinstance(registered, Registered) or not fds:
        raise exceptions.SessionLostError("the raylet refused this process (is another version of hpc running?)")
    return registered, fds

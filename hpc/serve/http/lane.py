"""A lane: the socket between a proxy and a replica of its node, by which connections are lent and given back.

Each message is one packet: a tuple by msgpack, and perhaps a descriptor. Nothing waits: what the kernel does not take
at once is sent when it does.
"""

from __future__ import annotations

import array
import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from hpc.serve.messages import RouteTable

#: The name of the socket of a proxy at which replicas join.
SOCKET = "serve-lanes.sock"
_FD_BYTES = array.array("i").itemsize
_PACKET_BYTES = 1 << 18
_ANCILLARY = socket.CMSG_SPACE(4 * _FD_BYTES)
#: How many packets are read in one turn of the loop.
_AT_ONCE = 64


class Terms(msgspec.Struct, frozen=True, array_like=True):
    """How a replica serves what it is lent. ``prefix``: its own route among ``routes``. ``names``: of the doors, see
    `gate.Names`. ``spare``: it takes a request only while it has fewer than this, and than it may have. ``root``: of a
    proxy in front. Times as in `server.Limits`."""

    prefix: str
    app: str
    routes: RouteTable
    names: list[str]
    spare: int
    root: str = ""
    idle_s: float = 90.0
    write_s: float = 60.0
    body_bytes: int | None = None


def packed_terms(terms: Terms) -> bytes:
    """Terms as they travel, and are compared."""
    return msgspec.msgpack.encode(terms)


def terms_of(data: bytes) -> Terms:
    """The same again."""
    return msgspec.msgpack.decode(data, type=Terms)


class Lane:
    """One end. ``heard`` gets each message and its descriptors, which are its own then; ``ended``: the other end is
    gone."""

    def __init__(
        self, sock: socket.socket, heard: Callable[[list[Any], list[int]], None], ended: Callable[[], None]
    ) -> None:
        self._socket = sock
        self._heard = heard
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._unsent: deque[tuple[bytes, int]] = deque()
        self.is_open = True
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._read)

    def retarget(self, heard: Callable[[list[Any], list[int]], None], ended: Callable[[], None]) -> None:
        """Have others hear from now on."""
        self._heard, self._ended = heard, ended

    def say(self, *message: Any, fd: int = -1) -> None:
        """Send a message. ``fd`` is copied to the other process; it stays open here until it was sent."""
        if not self.is_open:
            return
        data = msgspec.msgpack.encode(message)
        if not self._unsent and self._send(data, fd):
            return
        self._unsent.append((data, os.dup(fd) if fd >= 0 else -1))
        if len(self._unsent) == 1:
            self._loop.add_writer(self._socket.fileno(), self._write)

    def _send(self, data: bytes, fd: int) -> bool:
        """Send now. Returns whether that is settled."""
        with_it = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]).tobytes())] if fd >= 0 else []
        try:
            self._socket.sendmsg([data], with_it, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in (errno.ENOBUFS, errno.ETOOMANYREFS):
                return False
            # The other end is gone: the loop reads that.
        return True

    def _write(self) -> None:
        while self._unsent:
            data, fd = self._unsent[0]
            if not self._send(data, fd):
                return
            self._unsent.popleft()
            if fd >= 0:
                os.close(fd)
        self._loop.remove_writer(self._socket.fileno())

    def _read(self) -> None:
        for _ in range(_AT_ONCE):
            if not self.is_open:
                return
            try:
                data, with_it, _, _ = self._socket.recvmsg(_PACKET_BYTES, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            except OSError:
                data, with_it = b"", []
            fds = array.array("i")
            for level, kind, what in with_it:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds.frombytes(what[: len(what) - len(what) % _FD_BYTES])
            if not data:
                self.close()
                self._ended()
                return
            self._heard(msgspec.msgpack.decode(data), list(fds))

    def close(self) -> None:
        """Close this end; the other one reads that."""
        if self.is_open:
            self.is_open = False
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()
            for _, fd in self._unsent:
                if fd >= 0:
                    os.close(fd)
            self._unsent.clear()

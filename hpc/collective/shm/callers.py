"""Callers of a rank: ranks of other nodes and strangers. Which of them a caller is shows without a wait for it.

A caller says which rank it is and for what it calls. It gets a proof that this rank knows the key of the group, and
gives its own. Each has a limit of time. One that is silent waits beside the others until that, and is dropped.
"""

from __future__ import annotations

import hmac
import os
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import NamedTuple

COLLECTIVE, MESSAGE = 0, 1
MAGIC = b"hpc-coll"
HELLO = struct.Struct("<8sIB16s")
NONCE_BYTES, PROOF_BYTES = 16, 32
#: Seconds in which a caller must have proved who it is.
CALL_S = 10.0


class Call(NamedTuple):
    """A rank that has called, and for what kind of messages."""

    rank: int
    kind: int
    sock: socket.socket


class _Stranger(Exception):
    """The caller is no rank of this group."""


class _Caller:
    """A connection that has yet to prove who is at its other end."""

    def __init__(self, sock: socket.socket, until: float) -> None:
        self.sock, self.until = sock, until
        self.data = bytearray()
        self.mine = os.urandom(NONCE_BYTES)
        self.rank = self.kind = -1


class Callers:
    """The callers of one rank, at its listener. ``prove(role, rank, nonce)`` makes the proof of a rank's role."""

    def __init__(self, rank: int, listener: socket.socket, prove: Callable[[bytes, int, bytes], bytes]) -> None:
        self._rank, self._listener, self._prove = rank, listener, prove
        self._callers: dict[int, _Caller] = {}
        self._poll = select.poll()
        self._poll.register(listener, select.POLLIN)

    def look(self, milliseconds: int) -> list[Call]:
        """Wait at most so long for callers, and go on with each. Returns the ranks that are through."""
        found = []
        for fd, _event in self._poll.poll(milliseconds):
            if fd == self._listener.fileno():
                self._take()
                continue
            caller = self._callers[fd]
            try:
                if not self._go_on(caller):
                    continue
            except (OSError, _Stranger):
                self._drop(caller)
                continue
            self._forget(caller)
            found.append(Call(caller.rank, caller.kind, caller.sock))
        now = time.monotonic()
        for caller in [c for c in self._callers.values() if c.until < now]:
            self._drop(caller)
        return found

    def _take(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        self._callers[sock.fileno()] = _Caller(sock, time.monotonic() + CALL_S)
        self._poll.register(sock, select.POLLIN)

    def _go_on(self, caller: _Caller) -> bool:
        """Read what is there. True when the caller has proved to be a rank of the group."""
        wanted = HELLO.size if caller.rank < 0 else PROOF_BYTES
        try:
            part = caller.sock.recv(wanted - len(caller.data))
        except BlockingIOError:
            return False
        if not part:
            raise _Stranger
        caller.data += part
        if len(caller.data) < wanted:
            return False
        data, caller.data = bytes(caller.data), bytearray()
        if caller.rank >= 0:
            if not hmac.compare_digest(data, self._prove(b"call", caller.rank, caller.mine)):
                raise _Stranger
            return True
        magic, rank, caller.kind, nonce = HELLO.unpack(data)
        if magic != MAGIC or not rank < self._rank or caller.kind not in (COLLECTIVE, MESSAGE):
            raise _Stranger
        caller.rank = rank
        caller.sock.sendall(caller.mine + self._prove(b"answer", self._rank, nonce))
        return False

    def _forget(self, caller: _Caller) -> None:
        self._poll.unregister(caller.sock)
        del self._callers[caller.sock.fileno()]

    def _drop(self, caller: _Caller) -> None:
        self._forget(caller)
        caller.sock.close()

    def close(self) -> None:
        """Close the connections that are not through."""
        for caller in list(self._callers.values()):
            caller.sock.close()
        self._callers.clear()

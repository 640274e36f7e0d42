"""Where nodes on other machines come in: a process that listens on the network, beside whoever drives a session.

It knows nothing of sessions. A process that shows the key of the join file is connected to a socket of this machine.
Bytes go both ways: what would be written to a supervisor here, and what that would answer. Which socket, its owner
says: the host's, which makes a node of it (hpc/host), or that of one rank of a group (dial_in.py). The connections are
those of `hpc.core.net.links` (CURVE with an allow-list, sessions that survive reconnects), so nothing is lost or said
twice.

A process of its own, because ZeroMQ has threads, and launchers fork nodes.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from collections.abc import Callable

from hpc.core.net.curve import AllowList, KeyPair
from hpc.core.net.links import Links
from hpc.core.net.reactor import Reactor
from hpc.launchers.joinfile import JoinFile, JoinFileError

log = logging.getLogger("hpc.door")

DOOR_NODE = 1  # in these links only; joiners take numbers from JOINER_NODES on
JOINER_NODES = 1 << 20
PING_S = 1.0
SILENT_S = 30.0
READ_BYTES = 1 << 16
WRITE_TIMEOUT_S = 10.0
LAST_WORDS_S = 1.0
FLUSH_S = 0.02

#: Given what a joiner wishes for, the socket of its supervisor's other end; OSError or ValueError: it is not let in.
Connect = Callable[[dict[str, object]], socket.socket]

#: The first byte of a body says what it is.
ATTACH, DATA, PING, END = b"A", b"D", b"P", b"E"


class _Visitor:
    """A joiner, and the socket that it is connected to."""

    def __init__(self, sock: socket.socket, heard: float) -> None:
        self.sock = sock
        self.heard = heard


class Door:
    """Connects joiners to sockets of this machine."""

    def __init__(self, connect: Connect, bind_addr: str, keys: KeyPair, join_key: str) -> None:
        self.connect = connect
        self.reactor = Reactor()
        self.visitors: dict[int, _Visitor] = {}
        self.links = Links(
            self.reactor, node=DOOR_NODE, keys=keys, allow=AllowList({join_key: None}), bind_addr=bind_addr,
            deliver=self._deliver,
        )  # fmt: skip
        self.reactor.call_later(PING_S, self._tick)

    def _deliver(self, node: int, body: bytes | memoryview) -> None:
        kind, data = bytes(body[:1]), bytes(body[1:])
        visitor = self.visitors.get(node)
        if kind == ATTACH and visitor is None:
            self._attach(node, data)
        elif visitor is None:
            if kind != END:
                self.links.send(node, END)
        elif kind == DATA:
            visitor.heard = self.reactor.now()
            try:
                visitor.sock.settimeout(WRITE_TIMEOUT_S)
                visitor.sock.sendall(data)
                visitor.sock.setblocking(False)
            except OSError as error:
                log.warning("joiner %d: nobody takes what it says: %s", node, error)
                self._drop(node, tell=True)
        elif kind == PING:
            visitor.heard = self.reactor.now()
            self.links.send(node, PING)
        elif kind == END:
            self._drop(node, tell=False)

    def _attach(self, node: int, wishes: bytes) -> None:
        try:
            sock = self.connect(dict(json.loads(wishes)))
            sock.setblocking(False)
        except (OSError, ValueError, TypeError) as error:
            log.warning("joiner %d was not let in: %s", node, error)
            self.links.send(node, END)
            return
        self.visitors[node] = _Visitor(sock, self.reactor.now())
        self.reactor.add_reader(sock.fileno(), lambda: self._from_here(node, sock))
        log.info("joiner %d came in", node)

    def _from_here(self, node: int, sock: socket.socket) -> bool:
        """Pass on what was said here; whether there may be more."""
        try:
            data = sock.recv(READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if data:
            self.links.send(node, DATA + data)
        else:
            self._drop(node, tell=True)
        return bool(data)

    def _drop(self, node: int, tell: bool) -> None:
        visitor = self.visitors.pop(node, None)
        if visitor is not None:
            self.reactor.remove(visitor.sock.fileno())
            visitor.sock.close()
            log.info("joiner %d left", node)
        if tell:
            self.links.send(node, END)
        self.reactor.call_later(SILENT_S, lambda: self.links.forget(node))

    def leave(self) -> None:
        """Whoever it was opened for is gone or has had enough: passes on what was said last, then ends the loop."""
        for node, visitor in list(self.visitors.items()):
            while self.visitors.get(node) is visitor and self._from_here(node, visitor.sock):
                pass
            self._drop(node, tell=True)
        self._end_when_sent(self.reactor.now() + LAST_WORDS_S)

    def _end_when_sent(self, deadline: float) -> None:
        if self.reactor.now() > deadline or not any(self.links.pending_bytes(node) for node in self.links.nodes()):
            self.links.close()
            self.reactor.stop()
        else:
            self.reactor.call_later(FLUSH_S, lambda: self._end_when_sent(deadline))

    def _tick(self) -> None:
        now = self.reactor.now()
        for node, visitor in list(self.visitors.items()):
            if now - visitor.heard > SILENT_S:
                log.warning("joiner %d was silent for %.0f s", node, now - visitor.heard)
                self._drop(node, tell=True)
        self.reactor.call_later(PING_S, self._tick)


def open_door(session: str, connect: Connect, bind_addr: str, join_path: str, hosts: str = "") -> Door:
    """A door that listens, and its join file. JoinFileError or OSError where that is impossible."""
    keys, join_keys = KeyPair.make(), KeyPair.make()
    door = Door(connect, bind_addr, keys, join_keys.public)
    JoinFile(session, door.links.endpoint, keys.public, join_keys.public, join_keys.secret, hosts).write(join_path)
    log.info("listening on %s", door.links.endpoint)
    return door


def door_main(session: str, connect: Connect, bind_addr: str, join_path: str, tell: Callable[[str], None]) -> int:
    """What the child of `start_door` runs. Tells "" (or what went wrong) once it listens."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    try:
        door = open_door(session, connect, bind_addr, join_path)
    except (JoinFileError, OSError) as error:
        tell(str(error))
        return 1
    tell("")
    door.reactor.run()
    return 0


def start_door(session: str, directory: str, connect: Connect, bind_addr: str, join_path: str) -> str:
    """Fork the door and wait until it listens; return what went wrong ("": nothing)."""
    from hpc.core.node.process import fork_child

    read_fd, write_fd = os.pipe()

    def tell(text: str) -> None:
        os.write(write_fd, text.encode() + b"\n")
        os.close(write_fd)

    log_path = os.path.join(directory, "logs", "door.log")
    fork_child(
        lambda: door_main(session, connect, bind_addr, join_path, tell),
        name="hpc-door", keep=(write_fd,), log=(log_path, log_path),
    )  # fmt: skip
    os.close(write_fd)
    with os.fdopen(read_fd, "rb") as pipe:
        said = pipe.read()
    if not said:
        return f"the door ended without a word; see {log_path}"
    return said.decode("utf-8", "replace").strip()

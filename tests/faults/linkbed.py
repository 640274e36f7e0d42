"""The TCP connections between the nodes of a real session, counted by ZeroMQ frame and broken on purpose.

Each raylet of the session runs `linked_node.py`: before it dials anybody it asks here (over a socket of the test's own
folder) for a way there, and gets a port of this process. Nothing in the product knows of it, and nothing is weaker for
it: the keys are checked end to end, this process only moves bytes.

The frames of ZMTP are visible although their contents are encrypted: 64 bytes of greeting, then one byte of flags and
one or eight of length. So a fault can be put before, inside or behind the k-th frame that passes.

Rejected: network namespaces and packet filters (root, and no view of frames); an option of the product for the address
to announce (it would have to be documented and kept for ever, for tests alone).
"""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import hpc
from hpc.core.net.reactor import Reactor
from hpc.launchers.local.group import LocalGroup
from hpc.launchers.session import Session

GREETING_BYTES = 64
CHUNK_BYTES = 256 << 10
MAX_BUFFER_BYTES = 4 << 20
_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close() sends a reset

#: Links that notice things quickly; what they do is the same.
QUICK_LINKS = {
    "link_reconnect_s": 0.02,
    "link_reconnect_max_s": 0.05,
    "link_connect_timeout_s": 1.0,
    "link_handshake_s": 2.0,
    "link_heartbeat_s": 0.1,
    "link_heartbeat_timeout_s": 0.6,
}


@dataclass(frozen=True)
class Fault:
    """What happens at a frame.

    kind   rst, fin: the connection ends so. stall: it moves no byte for `seconds`. half: one side is reset, the other
           hears nothing more and is told nothing
    where  before, inside or behind the frame
    wide   all connections of the session, not only the one with the frame
    """

    kind: str
    frame: int
    where: str = "inside"
    wide: bool = False
    seconds: float = 0.3


class _Pipe:
    """One direction of a connection: what was read, and not written yet."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source, self.sink = source, sink
        self.buffer = bytearray()
        self.head = bytearray()  # the bytes of a frame's head so far
        self.left = GREETING_BYTES  # of the greeting, then of the frame's body
        self.read_on = self.write_on = False

    def frames(self, data: bytes) -> Iterator[tuple[int, int, int]]:
        """Where in `data` a frame's head begins (as far as it is in there) and ends, and how long its body is."""
        at = 0
        while at < len(data):
            if self.left:
                step = min(self.left, len(data) - at)
                self.left -= step
                at += step
                continue
            self.head.append(data[at])
            at += 1
            size = self.head[1:]
            if len(size) == (8 if self.head[0] & 2 else 1):
                self.left = int.from_bytes(size, "big")
                self.head.clear()
                yield max(0, at - 1 - len(size)), at, self.left


class _Connection:
    def __init__(self, src: int, dst: int, client: socket.socket, target: socket.socket) -> None:
        self.nodes = {src, dst}
        self.socks = (client, target)
        self.pipes = (_Pipe(client, target), _Pipe(target, client))
        self.stalled = False
        self.swallows: socket.socket | None = None  # half-open: the side that is left
        self.closed = False


class LinkBed:
    """All connections of a session. Its methods may be called from the test's thread."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "links.sock")
        self.frames = 0  # that have begun to pass, since the last arm()
        self.done: list[Fault] = []
        self.accepted = 0
        self._armed: list[Fault] = []
        self._held: set[int] = set()  # nodes in a black hole
        self._connections: set[_Connection] = set()
        self._doors: dict[tuple[int, int, str], socket.socket] = {}
        self._reactor = Reactor()
        self._soon: deque[Callable[[], object]] = deque()
        self._wake, self._woken = socket.socketpair()
        self._desk = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._desk.bind(self.path)
        self._desk.listen(64)
        self._reactor.add_reader(self._woken.fileno(), self._run_soon)
        self._reactor.add_reader(self._desk.fileno(), self._on_desk)
        self._thread = threading.Thread(target=self._reactor.run, name="linkbed", daemon=True)
        self._thread.start()

    # -------------------------------------------------------------- what tests use

    def arm(self, *faults: Fault) -> None:
        """Count frames from 0 on, and put these faults at theirs."""

        def set_up() -> None:
            self.frames = 0
            self.done = []
            self._armed = sorted(faults, key=lambda fault: fault.frame)

        self._do(set_up)

    def hold(self, *nodes: int) -> None:
        """A black hole around nodes: nothing passes, nothing ends, and who connects anew meets silence."""
        self._do(lambda: (self._held.update(nodes), self._refresh()))

    def heal(self, *nodes: int) -> None:
        """What waited in the black hole passes, late."""
        self._do(lambda: (self._held.difference_update(nodes), self._refresh()))

    def close(self) -> None:
        """End all connections and the thread."""
        self._do(self._close_all)
        self._reactor.stop()
        self._wake.send(b"x")
        self._thread.join(60)
        assert not self._thread.is_alive() and not self._reactor.errors
        self._reactor.close()
        for sock in (self._wake, self._woken, self._desk, *self._doors.values()):
            sock.close()

    def _do(self, what: Callable[[], object]) -> None:
        done = threading.Event()
        self._soon.append(lambda: (what(), done.set()))
        self._wake.send(b"x")
        assert done.wait(60)

    # -------------------------------------------------------------- in the thread

    def _run_soon(self) -> None:
        self._woken.recv(4096)
        while self._soon:
            self._soon.popleft()()

    def _on_desk(self) -> None:
        """A raylet asks for a way to another node, or the head."""
        sock, _ = self._desk.accept()
        with sock:
            sock.settimeout(20.0)
            src, dst, endpoint = json.loads(sock.recv(4096))
            door = self._doors.get((src, dst, endpoint))
            if door is None:
                door = self._doors[src, dst, endpoint] = socket.create_server(("127.0.0.1", 0), backlog=64)
                door.setblocking(False)
                host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
                self._reactor.add_reader(door.fileno(), partial(self._on_accept, door, src, dst, (host, int(port))))
            sock.send(b"tcp://127.0.0.1:%d" % door.getsockname()[1])

    def _on_accept(self, door: socket.socket, src: int, dst: int, target: tuple[str, int]) -> None:
        client, _ = door.accept()
        self.accepted += 1
        try:
            other = socket.create_connection(target, timeout=2.0)
        except OSError:
            client.close()
            return
        connection = _Connection(src, dst, client, other)
        for sock in connection.socks:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections.add(connection)
        self._update(connection)

    def _refresh(self) -> None:
        for connection in list(self._connections):
            self._update(connection)

    def _update(self, connection: _Connection) -> None:
        """Wait for what can be done on it now."""
        if connection.closed:
            return
        still = connection.stalled or bool(self._held & connection.nodes)
        swallows = connection.swallows
        for pipe in connection.pipes:
            if pipe.source.fileno() >= 0:
                read = pipe.source is swallows or (not still and len(pipe.buffer) < MAX_BUFFER_BYTES)
                if read != pipe.read_on:
                    pipe.read_on = read
                    on_read = partial(self._on_readable, connection, pipe) if read else None
                    self._reactor.set_reader(pipe.source.fileno(), on_read)
            if pipe.sink.fileno() >= 0:
                write = bool(pipe.buffer) and not still and swallows is None
                if write != pipe.write_on:
                    pipe.write_on = write
                    on_write = partial(self._on_writable, connection, pipe) if write else None
                    self._reactor.set_writer(pipe.sink.fileno(), on_write)

    def _on_readable(self, connection: _Connection, pipe: _Pipe) -> None:
        try:
            data = pipe.source.recv(CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end(connection, abort=False)
            return
        if connection.swallows is not None:
            return
        fault, passes = self._count(pipe, data)
        pipe.buffer += data[:passes]
        self._on_writable(connection, pipe)
        if fault is not None:
            pipe.buffer += data[passes:] if fault.kind == "stall" else b""
            self._strike(connection, fault)

    def _count(self, pipe: _Pipe, data: bytes) -> tuple[Fault | None, int]:
        """The fault that is due in these bytes, and how many of them pass before it."""
        due: Fault | None = None
        passes = len(data)
        for begin, at, size in pipe.frames(data):
            self.frames += 1
            if due is None and self._armed and self.frames >= self._armed[0].frame:
                due = self._armed.pop(0)
                passes = {"before": begin, "inside": at + size // 2, "behind": at + size}[due.where]
        return due, min(passes, len(data))

    def _strike(self, connection: _Connection, fault: Fault) -> None:
        self.done.append(fault)
        for each in list(self._connections) if fault.wide else [connection]:
            if each.closed or each.swallows is not None:
                continue
            if fault.kind == "stall":
                each.stalled = True
                self._reactor.call_later(fault.seconds, partial(self._resume, each))
            elif fault.kind == "half":
                gone = each.socks[fault.frame % 2]
                each.swallows = each.socks[1 - fault.frame % 2]
                self._close_sock(gone, abort=True)
            else:
                self._end(each, abort=fault.kind == "rst")
            self._update(each)

    def _resume(self, connection: _Connection) -> None:
        connection.stalled = False
        self._update(connection)

    def _on_writable(self, connection: _Connection, pipe: _Pipe) -> None:
        if pipe.buffer and not connection.closed:
            try:
                sent = pipe.sink.send(pipe.buffer)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._end(connection, abort=True)
                return
            del pipe.buffer[:sent]
        self._update(connection)

    def _close_sock(self, sock: socket.socket, abort: bool) -> None:
        if sock.fileno() >= 0:
            self._reactor.remove(sock.fileno())
            if abort:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            sock.close()

    def _end(self, connection: _Connection, abort: bool) -> None:
        connection.closed = True
        self._connections.discard(connection)
        for sock in connection.socks:
            self._close_sock(sock, abort)

    def _close_all(self) -> None:
        for connection in list(self._connections):
            self._end(connection, abort=False)
        for sock in (self._desk, *self._doors.values()):
            self._reactor.remove(sock.fileno())


def way(path: str, src: int, dst: int, endpoint: str) -> str:
    """Ask the bed at `path` for the way from one node to another."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.settimeout(60.0)
        sock.connect(path)
        sock.send(json.dumps([src, dst, endpoint]).encode())
        return sock.recv(4096).decode()


@contextmanager
def linked_nodes(count: int, folder: Path, config: dict[str, Any] | None = None, **overrides: Any) -> Iterator[Any]:
    """A session of local nodes whose links go through a bed; gives (session, bed). The driver is on node 1."""
    import sys

    bed = LinkBed(folder)
    overrides = {"num_cpus": 1, "object_store_bytes": 128 << 20, **overrides}
    program = [sys.executable, str(Path(__file__).with_name("linked_node.py"))]
    config = {"loopback": True, **QUICK_LINKS, "link_bed": bed.path, **(config or {})}
    session = Session(LocalGroup(count, command=program), overrides=overrides, config=config)
    try:
        session.start()
        session.wait_ready(30.0)
        hpc.init(address=session.local_dir())
        yield session, bed
    finally:
        hpc.shutdown()
        session.stop(2.0)
        bed.close()
        os.unlink(bed.path)

"""The raylet's way to other nodes' objects: encrypted bulk links and, where the user switched that off, plain streams.

All messages travel over the links. With ``bulk_encryption`` off a node asks each source once for a token, and dials the
port that it names. The pieces of objects come there instead of as `Chunk`. Requests wait until that is settled. A port
that cannot be reached is said in the log, and its node's objects come encrypted.
"""

from __future__ import annotations

import ctypes
import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec import Struct, field

from hpc.core.net.links import Links
from hpc.core.net.plain import TOKEN_BYTES, PlainDial, PlainPort, PlainReceiver, PlainSender
from hpc.core.net.reactor import Reactor, Timer
from hpc.core.node.settings import switch
from hpc.core.node.spec import NodeSpec
from hpc.core.raylet.machine import RayletMachine
from hpc.core.raylet.pulls import CHUNK_BYTES
from hpc.core.raylet.tables import Incoming
from hpc.core.store.arena import Arena, copy
from hpc.core.wire import Chunk, DecodeError, Message, PlainAsk, PlainOffer, Pull, PullFailed, decode_body, encode_body

log = logging.getLogger("hpc.raylet")

OFFER_S = 5.0
#: Attempts to open a stream, one after the other, before its node's objects come encrypted from then on.
ATTEMPTS = 4
AGAIN_S = 0.1
#: Freed memory that the process keeps: else each chunk's pages are made, zeroed and given back again.
KEPT_BYTES = 64 << 20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Have the C library keep the memory of chunks for the next ones (where it is one that can be told so)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 4 * CHUNK_BYTES)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)


class Source(Struct, eq=False):
    """A node whose objects come here over a stream. While it is not ``settled``, requests to it are ``held``."""

    held: list[Pull] = field(default_factory=list)
    settled: bool = False
    failures: int = 0
    timer: Timer | None = None
    dial: PlainDial | None = None
    receiver: PlainReceiver | None = None

    def stop(self) -> None:
        """Close what is open."""
        if self.timer is not None:
            self.timer.cancel()
        if self.dial is not None:
            self.dial.close()
        if self.receiver is not None:
            self.receiver.close()
        self.timer = self.dial = self.receiver = None


class Bulk:
    """Objects between this node and others. ``settle()`` is called when the machine was told something."""

    def __init__(
        self, spec: NodeSpec, reactor: Reactor, make_links: Callable[[dict[str, Any], Any], Links],
        settle: Callable[[], None],
    ) -> None:  # fmt: skip
        self.node = spec.node
        self._reactor = reactor
        self._settle = settle
        self.encrypted = switch("bulk_encryption", spec.config)
        if self.encrypted:
            keep_freed_memory()
        self.links = make_links(spec.config, self._deliver)
        self.sources: dict[int, Source] = {}
        self.senders: dict[int, PlainSender] = {}
        self.port: PlainPort | None = None
        if not self.encrypted:
            log.warning("bulk encryption is off: the bytes of objects can be read, and changed, by who is on the wire")
            if not spec.gateway:
                self.port = PlainPort(reactor, spec.interface_addr, self._admitted)

    def attach(self, machine: RayletMachine, arena: Arena) -> None:
        """Work for this machine, whose objects lie in this arena."""
        self._machine = machine
        self._arena = arena

    def send(self, node: int, msg: Message) -> None:
        """A message of the machine's. Bytes take the stream if there is one; who asks for bytes opens one first."""
        if type(msg) is Chunk:
            sender = self.senders.get(node)
            if sender is not None:
                sender.send(msg.ident, msg.offset, len(msg.data), msg.total)
                return
        elif type(msg) is Pull and not self.encrypted:
            source = self.sources.get(node)
            if source is None:
                source = self.sources[node] = Source()
                self._ask(node, source)
            if not source.settled:
                source.held.append(msg)
                return
        self.links.send(node, encode_body([msg]))

    def _deliver(self, node: int, body: bytes | memoryview) -> None:
        try:
            messages = decode_body(body)
        except DecodeError as error:
            log.warning("node %d sent a bulk message that cannot be decoded: %s", node, error)
            return
        for msg in messages:
            if type(msg) is Chunk:
                self._place(node, msg)
            elif type(msg) is PlainAsk:
                self._on_ask(node)
            elif type(msg) is PlainOffer:
                self._on_offer(node, msg)
            else:
                self._machine.handle_bulk(node, (msg,))
        self._settle()

    def forget(self, node: int) -> None:
        """The node is gone."""
        self.links.forget(node)
        source = self.sources.pop(node, None)
        if source is not None:
            source.stop()
        sender = self.senders.pop(node, None)
        if sender is not None:
            sender.close()
        if self.port is not None:
            self.port.forget(node)

    def close(self) -> None:
        """Close everything."""
        for source in self.sources.values():
            source.stop()
        for sender in self.senders.values():
            sender.close()
        if self.port is not None:
            self.port.close()
        self.links.close()

    # -------------------------------------------------------------- serving

    def _on_ask(self, node: int) -> None:
        if self.port is None:
            self.links.send(node, encode_body([PlainOffer("", 0, b"", b"")]))
            return
        token, answer = self.port.issue(node)
        self.links.send(node, encode_body([PlainOffer(self.port.host, self.port.port, token, answer)]))

    def _admitted(self, node: int, sock: socket.socket) -> None:
        old = self.senders.pop(node, None)
        if old is not None:
            old.close()
        gone = partial(self._reader_gone, node)
        self.senders[node] = PlainSender(self._reactor, sock, self._find, partial(self._lost, node), gone)

    def _reader_gone(self, node: int) -> None:
        self.senders.pop(node, None)

    def _find(self, ident: bytes, at: int, size: int, total: int) -> memoryview | None:
        """The bytes of an object that are to be sent, if they are still in memory."""
        store = self._machine.store
        obj = store.stored.get(ident)
        if obj is not None and obj.offset >= 0 and obj.busy != "restoring" and obj.size == total:
            return self._arena.readable(obj.offset + at, size)
        pull = store.incoming.get(ident)
        if pull is not None and pull.size == total and at + size <= pull.received:
            return self._arena.readable(pull.offset + at, size)
        return None

    def _lost(self, node: int, ident: bytes, at: int, waited: int) -> None:
        """What was to be sent has left memory meanwhile: it comes back from disk, or its reader looks elsewhere."""
        if ident in self._machine.store.stored:
            self._machine.store.on_pull(node, Pull(ident, at, -(-waited // CHUNK_BYTES), True))
        else:
            self._machine.bulk.append((node, PullFailed(ident, "it is not here any more")))
        self._settle()

    # -------------------------------------------------------------- reading

    def _ask(self, node: int, source: Source) -> None:
        if self.sources.get(node) is source:
            source.timer = self._reactor.call_later(OFFER_S, lambda: self._failed(node, source, "it does not answer"))
            self.links.send(node, encode_body([PlainAsk()]))

    def _on_offer(self, node: int, msg: PlainOffer) -> None:
        source = self.sources.get(node)
        if source is None or source.settled or source.dial is not None:
            return
        if source.timer is not None:
            source.timer.cancel()
        if not msg.port:
            self._open(node, source)
        elif not 0 < msg.port < 65536 or len(msg.token) != TOKEN_BYTES or len(msg.answer) != TOKEN_BYTES:
            self._failed(node, source, "its offer makes no sense")
        else:
            opened, failed = partial(self._opened, node, source), partial(self._failed, node, source)
            source.dial = PlainDial(
                self._reactor, self.node, msg.host, msg.port, msg.token, msg.answer, opened, failed
            )  # fmt: skip

    def _opened(self, node: int, source: Source, sock: socket.socket) -> None:
        source.dial = None
        source.receiver = PlainReceiver(
            self._reactor, sock, partial(self._room, node), partial(self._placed, node, source),
            partial(self._cut, node, source),
        )  # fmt: skip
        self._open(node, source)

    def _open(self, node: int, source: Source) -> None:
        source.settled = True
        held, source.held = source.held, []
        for msg in held:
            self.links.send(node, encode_body([msg]))

    def _failed(self, node: int, source: Source, why: str) -> None:
        source.stop()
        if self.sources.get(node) is not source or source.settled:
            return
        source.failures += 1
        if source.failures < ATTEMPTS:
            delay_s = AGAIN_S * 2**source.failures
            source.timer = self._reactor.call_later(delay_s, lambda: self._ask(node, source))
            return
        log.warning("objects of node %d come encrypted from now on: no plain connection to it (%s)", node, why)
        self._open(node, source)

    def _place(self, node: int, msg: Chunk) -> None:
        """A piece has come over the link."""
        size = len(msg.data)
        place = self._room(node, msg.ident, msg.offset, size, msg.total)
        if place is not None:
            pull, room = place
            copy(room, msg.data)
            self._machine.store.pulls.advance(node, pull, size)

    def _room(self, node: int, ident: bytes, at: int, size: int, total: int) -> tuple[Incoming, memoryview] | None:
        """Where a piece goes that comes from a node."""
        pulls = self._machine.store.pulls
        pull = pulls.expects(node, ident, at, size)
        if pull is None:
            return None
        try:
            return pull, self._arena.writable(pull.offset + at, size)
        except OSError as error:
            pulls.on_pull_failed(node, PullFailed(ident, f"there is no memory for it here: {error.strerror}"))
            self._settle()
            return None

    def _placed(self, node: int, source: Source, pull: Incoming, size: int) -> None:
        source.failures = 0
        pulls = self._machine.store.pulls
        pulls.plain_bytes += size
        pulls.advance(node, pull, size)
        self._settle()

    def _cut(self, node: int, source: Source) -> None:
        """The stream has ended, the node maybe not: what was to come over it is asked for again, over a new one."""
        if self.sources.get(node) is not source:
            return
        source.receiver = None
        source.settled = False
        self._machine.store.pulls.cut(node)
        self._failed(node, source, "it was cut")
        self._settle()

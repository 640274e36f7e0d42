"""Links between nodes: sessions (see session.py) carried by ZeroMQ with CURVE.

One ROUTER listens; one DEALER per peer that was dialed. If A dialed B, B answers on the same connection; if both
dialed, each sends on its own. Whatever the path, there is one session per pair, so a path may fail or change.
What a packet says of its sender is compared with the key of the connection that it came on.

Rejected: a socket monitor per DEALER: it takes two descriptors, and POLLOUT with IMMEDIATE=1 says the same. Trusting
routing ids: the key is looked at in every packet, for 0.4 µs. Routing ids of our own with ROUTER_HANDOVER: libzmq 4.3
may end the whole process by an assertion. That happens when a connection that was handed over is reset while its
heartbeat is due. So the ROUTER names each connection itself, and a new name is a new path. Zero-copy sends: pyzmq needs
a thread for them.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import zmq
from msgspec import Struct, field

from hpc.core.net.curve import AllowList, KeyPair, LogLimit, ZapHandler, guard_client, guard_server
from hpc.core.net.reactor import Reactor, Timer
from hpc.core.net.session import (
    DATA,
    HELLO,
    MAX_BODY_BYTES,
    MAX_PACKET_BYTES,
    PACKET_TARGET_BYTES,
    REFUSE,
    WIRE_VERSION,
    Body,
    Counters,
    Head,
    LinkSession,
    MalformedPacket,
    parse_header,
    refusal,
)
from hpc.core.node.settings import setting

log = logging.getLogger(__name__)

ACK_DELAY_S = 0.02
TICK_S = 0.1
SILENT_DIAL_S = 10.0  # a dialed node that was not met for so long is mentioned in the log, once
MAX_LINKS = 65536
MAX_PAST = 16  # connections of one peer that are remembered as replaced
MAX_SOCKETS = 65535  # ZeroMQ's own limit; descriptors are the real one
COPY_BELOW_BYTES = 2 * PACKET_TARGET_BYTES  # larger packets are read in place
_NOBLOCK = int(zmq.NOBLOCK)
_FIRST = int(zmq.NOBLOCK | zmq.SNDMORE)


class LinkConfig(Struct, frozen=True):
    """Options of the links; in the flat configuration each has the prefix "link_"."""

    window_bytes: int  # queued and not acked, per link, before on_limit says so
    wire_window_bytes: int  # of these, how many are given to ZeroMQ at a time
    heartbeat_s: float  # by ZeroMQ's I/O thread, so a busy interpreter does not look dead
    heartbeat_timeout_s: float
    reconnect_s: float
    reconnect_max_s: float
    connect_timeout_s: float
    handshake_s: float
    io_threads: int

    @classmethod
    def of(cls, config: Mapping[str, Any] | None) -> LinkConfig:
        found = {each: setting(f"link_{each}", config or {}) for each in cls.__struct_fields__}
        whole = {name: int(found.pop(name)) for name in ("window_bytes", "wire_window_bytes", "io_threads")}
        return cls(**whole, **found)  # type: ignore[arg-type]


class Link(Struct, eq=False):
    node: int
    session: LinkSession
    endpoint: str = ""
    server_key: str = ""
    dealer: zmq.Socket[bytes] | None = None
    dealer_up: bool = False
    route: bytes | None = None  # the ROUTER's name of the connection that the peer made to us
    past: deque[bytes] = field(default_factory=lambda: deque(maxlen=MAX_PAST))  # such names that were replaced
    dirty: bool = False  # waits for the flush at the end of the turn
    busy: bool = False  # in the set that the resend timer looks at
    over_limit: bool = False
    refused: bool = False  # other wire version

    @property
    def has_path(self) -> bool:
        return self.dealer_up or self.route is not None


class Links:
    """All links of a process. See the contract in the module's text.

    deliver(node, body)      once per body, in order, per incarnation of the sender; body is bytes, or a memoryview
                             on the received packet when it is large
    on_link(node)            first contact with a node, or with a new incarnation of it
    on_restart(node, lost)   before on_link, when the node had another incarnation; `lost` bodies were dropped
    on_limit(node, over)     the bytes pending for a node passed the limit (True), fell below half of it (False)
    on_mismatch(node, version)  the peer speaks another wire version; the link is refused
    """

    def __init__(
        self,
        reactor: Reactor,
        *,
        node: int,
        keys: KeyPair,
        allow: AllowList,
        bind_addr: str | None,
        deliver: Callable[[int, Body], object],
        config: Mapping[str, Any] | None = None,
        on_link: Callable[[int], object] | None = None,
        on_restart: Callable[[int, int], object] | None = None,
        on_limit: Callable[[int, bool], object] | None = None,
        on_mismatch: Callable[[int, int], object] | None = None,
        listen_fd: int | None = None,
    ) -> None:
        self.node = node
        self.allow = allow
        self.config = LinkConfig.of(config)
        self.counters = Counters()
        self.deliver = deliver
        self.on_link = on_link
        self.on_restart = on_restart
        self.on_limit = on_limit
        self.on_mismatch = on_mismatch
        self.incarnation = int.from_bytes(os.urandom(8), "little") & ~0xFFFF | 1 << 16
        self.endpoint = ""  # empty when bind_addr is None: a process that only dials
        self._reactor = reactor
        self._keys = keys
        self._links: dict[int, Link] = {}
        self._forgotten: dict[int, tuple[int, list[int]]] = {}  # node -> times forgotten, dead incarnations
        self._mismatched: dict[int, int] = {}
        self._dirty: list[Link] = []
        self._busy: set[Link] = set()
        self._to_ack: set[Link] = set()
        self._ack_timer: Timer | None = None
        self._tick_timer: Timer | None = None
        self._limit = LogLimit()
        self._closed = False
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(self.config.io_threads)
        self.context.set(zmq.MAX_SOCKETS, MAX_SOCKETS)
        self.zap = ZapHandler(self.context, reactor, allow, hold_s=0.95 * self.config.handshake_s)
        self._router: zmq.Socket[bytes] | None = None
        if bind_addr is not None:
            self._router = self._listen(bind_addr, listen_fd)

    # -------------------------------------------------------------- what the layers above use

    def dial(self, node: int, endpoint: str, server_public_key: str | bytes) -> None:
        """Connect to a node and keep connecting. The same again changes nothing; a new address replaces the old."""
        if node == self.node:
            raise ValueError("a node does not dial itself")
        key = server_public_key if isinstance(server_public_key, str) else server_public_key.decode("ascii")
        link = self._links.get(node) or self._make(node)
        if link.dealer is not None and (link.endpoint, link.server_key) == (endpoint, key):
            return
        self.undial(node)
        dealer: zmq.Socket[bytes] = self.context.socket(zmq.DEALER)
        try:
            self._set_common(dealer, "[" in endpoint)
            dealer.setsockopt(zmq.IMMEDIATE, 1)
            dealer.setsockopt(zmq.RECONNECT_IVL, int(self.config.reconnect_s * 1000))
            dealer.setsockopt(zmq.RECONNECT_IVL_MAX, int(self.config.reconnect_max_s * 1000))
            dealer.setsockopt(zmq.CONNECT_TIMEOUT, int(self.config.connect_timeout_s * 1000))
            guard_client(dealer, self._keys, key)
            dealer.connect(endpoint)
        except Exception:
            dealer.close(0)
            raise
        link.dealer, link.endpoint, link.server_key = dealer, endpoint, key
        link.refused = False
        self._reactor.add_zmq(dealer, partial(self._on_dealer, link, dealer), partial(self._on_path, link, dealer))
        self._reactor.call_later(SILENT_DIAL_S, partial(self._mention, link, dealer))

    def undial(self, node: int) -> None:
        """Close the connection that we made, keep the session: for a budget of descriptors."""
        link = self._links.get(node)
        if link is not None and link.dealer is not None:
            self._reactor.remove_zmq(link.dealer)
            link.dealer.close(0)
            link.dealer = None
            link.dealer_up = False

    def send(self, node: int, body: bytes) -> None:
        """Queue one body. It goes out at once when nothing is in flight to that node, else when the turn ends.

        May be called before the node was dialed or has dialed us. ValueError above MAX_BODY_BYTES.
        """
        if len(body) > MAX_BODY_BYTES:
            raise ValueError(f"a body of {len(body)} bytes; the limit is {MAX_BODY_BYTES}")
        link = self._links.get(node) or self._make(node)
        session = link.session
        session.queue(body if type(body) is bytes else bytes(body))
        if session.idle or session.queued_bytes >= PACKET_TARGET_BYTES:
            self._flush(link)
        elif not link.dirty:
            self._flush_later(link)
        if session.pending_bytes > self.config.window_bytes and not link.over_limit:
            link.over_limit = True
            if self.on_limit is not None:
                self.on_limit(node, True)

    def pending_bytes(self, node: int) -> int:
        """Bytes queued for a node and not acked by it, with a constant per body."""
        link = self._links.get(node)
        return link.session.pending_bytes if link is not None else 0

    def pending_bodies(self, node: int) -> int:
        link = self._links.get(node)
        return link.session.pending_bodies if link is not None else 0

    def heard_at(self, node: int) -> float:
        """Reactor time of the last packet from a node, 0 if there was none."""
        link = self._links.get(node)
        return link.session.heard_at if link is not None else 0.0

    def met(self, node: int) -> bool:
        """Whether the node was heard since it was last forgotten."""
        link = self._links.get(node)
        return link is not None and link.session.peer != 0

    def nodes(self) -> list[int]:
        """The nodes with a session, met or not."""
        return list(self._links)

    def forget(self, node: int) -> None:
        """Drop the link and what is queued. That incarnation of the node is never listened to again."""
        self.undial(node)
        link = self._links.pop(node, None)
        if link is None:
            return
        session = link.session
        times, _ = self._forgotten.get(node, (0, []))
        dead = [*session.retired, session.peer] if session.peer else list(session.retired)
        self._forgotten[node] = (times + 1, dead)
        self._busy.discard(link)
        self._to_ack.discard(link)
        link.route = None
        link.refused = True  # a flush that was planned finds nothing to do

    def close(self) -> None:
        """Close all sockets; what was not yet sent is lost."""
        if self._closed:
            return
        self._closed = True
        for timer in (self._ack_timer, self._tick_timer):
            if timer is not None:
                timer.cancel()
        for node in list(self._links):
            self.forget(node)
        if self._router is not None:
            self._reactor.remove_zmq(self._router)
            self._router.close(0)
        self.zap.close()
        self.context.destroy(0)  # also closes what others opened in it: term() would wait for them

    # -------------------------------------------------------------- sockets

    def _set_common(self, socket: zmq.Socket[bytes], ipv6: bool) -> None:
        config = self.config
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_PACKET_BYTES)
        socket.setsockopt(zmq.HEARTBEAT_IVL, int(config.heartbeat_s * 1000))
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(config.heartbeat_timeout_s * 1000))
        socket.setsockopt(zmq.HANDSHAKE_IVL, int(config.handshake_s * 1000))
        socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 60)
        socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, 10)
        socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 3)
        if ipv6:
            socket.setsockopt(zmq.IPV6, 1)

    def _listen(self, address: str, listen_fd: int | None) -> zmq.Socket[bytes]:
        router: zmq.Socket[bytes] = self.context.socket(zmq.ROUTER)
        try:
            self._set_common(router, ":" in address)
            router.setsockopt(zmq.ROUTER_MANDATORY, 1)
            router.setsockopt(zmq.BACKLOG, 1024)
            guard_server(router, self._keys)
            if listen_fd is not None:
                router.setsockopt(zmq.USE_FD, listen_fd)
            host = f"[{address}]" if ":" in address and not address.startswith("[") else address
            router.bind(f"tcp://{host}:*")
            endpoint = router.getsockopt(zmq.LAST_ENDPOINT)
            assert isinstance(endpoint, bytes)
            self.endpoint = endpoint.rstrip(b"\0").decode("ascii")
        except Exception:
            router.close(0)
            self.zap.close()
            self.context.term()
            raise
        self._reactor.add_zmq(router, self._on_router)
        return router

    def _make(self, node: int) -> Link:
        if node == self.node:
            raise ValueError("a node does not send to itself")
        if len(self._links) >= MAX_LINKS:
            raise RuntimeError(f"more than {MAX_LINKS} links")
        times, dead = self._forgotten.get(node, (0, []))
        session = LinkSession(
            self.node,
            self.incarnation + times % 0x10000,
            counters=self.counters,
            retired=dead,
            wire_window_bytes=self.config.wire_window_bytes,
        )
        link = self._links[node] = Link(node, session)
        return link

    # -------------------------------------------------------------- sending

    def _put(self, link: Link, packet: bytes) -> None:
        """Give a packet to ZeroMQ on the link's present path. It may get lost: the session knows what to do."""
        dealer = link.dealer
        if link.dealer_up and dealer is not None:
            try:
                dealer.send(packet, _NOBLOCK)
                self.counters.packets_sent += 1
            except zmq.Again:
                pass  # the connection is gone, and on_writable is about to say so
            self._reactor.touch(dealer)
        elif link.route is not None:
            self._put_route(link, link.route, packet)

    def _put_route(self, link: Link | None, route: bytes, packet: bytes) -> None:
        router = self._router
        if router is None:
            return
        try:
            router.send(route, _FIRST)
            router.send(packet, _NOBLOCK)
            self.counters.packets_sent += 1
        except zmq.Again:
            pass
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            if link is not None and link.route == route:
                link.past.append(route)
                link.route = None  # until the peer is heard on another connection
        self._reactor.touch(router)

    def _flush_later(self, link: Link) -> None:
        link.dirty = True
        if not self._dirty:
            self._reactor.defer(self._flush_dirty)
        self._dirty.append(link)

    def _flush_dirty(self) -> None:
        dirty, self._dirty = self._dirty, []
        for link in dirty:
            link.dirty = False
            self._flush(link)

    def _flush(self, link: Link) -> None:
        session = link.session
        if not session.can_pull or not link.has_path or link.refused:
            return
        now = self._reactor.now()
        while link.has_path:
            packet = session.pull(now)
            if packet is None:
                break
            self._put(link, packet)
        if not link.busy:
            self._watch(link)

    # -------------------------------------------------------------- timers

    def _watch(self, link: Link) -> None:
        link.busy = True
        self._busy.add(link)
        if self._tick_timer is None:
            self._tick_timer = self._reactor.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._tick_timer = None
        now = self._reactor.now()
        for link in list(self._busy):
            session = link.session
            if session.resend_at is not None and now >= session.resend_at and not link.refused:
                packet = session.tick(now)
                if packet is not None:
                    self._put(link, packet)
            if session.resend_at is None or link.refused:
                link.busy = False
                self._busy.discard(link)
        if self._busy:
            self._tick_timer = self._reactor.call_later(TICK_S, self._tick)

    def _mention(self, link: Link, dealer: zmq.Socket[bytes]) -> None:
        if link.dealer is dealer and link.session.peer == 0 and not link.refused:
            text = "node %d at %s has not answered for %.0f s: not reachable, or one of us refuses the other's key"
            log.warning(text, link.node, link.endpoint, SILENT_DIAL_S)

    def _ack_all(self) -> None:
        self._ack_timer = None
        links, self._to_ack = self._to_ack, set()
        for link in links:
            if link.session.ack_due:
                self._put(link, link.session.ack())

    # -------------------------------------------------------------- receiving

    def _on_router(self) -> None:
        router = self._router
        if router is None:
            return
        try:
            route = router.recv(_NOBLOCK)
            frame = router.recv(_NOBLOCK, copy=False)
        except zmq.Again:
            return
        if frame.more:
            self.counters.malformed += 1
            while router.get(zmq.RCVMORE):
                router.recv(_NOBLOCK)
            return
        try:
            user_id = frame.get("User-Id")
        except zmq.ZMQError:
            user_id = ""
        self._incoming(frame, route, None, str(user_id))

    def _on_dealer(self, link: Link, dealer: zmq.Socket[bytes]) -> None:
        try:
            frame = dealer.recv(_NOBLOCK, copy=False)
        except zmq.Again:
            return
        if frame.more:
            self.counters.malformed += 1
            while dealer.get(zmq.RCVMORE):
                dealer.recv(_NOBLOCK)
        elif link.dealer is dealer:
            self._incoming(frame, None, link, "")

    def _on_path(self, link: Link, dealer: zmq.Socket[bytes], up: bool) -> None:
        """Our connection to the peer was made or lost. What was in flight may be lost: HELLO finds out."""
        if link.dealer is not dealer:
            return
        link.dealer_up = up
        link.refused = link.refused and not up  # who comes back may have been upgraded
        if link.has_path and not link.refused:
            self._put(link, link.session.open(self._reactor.now()))
            self._watch(link)

    def _incoming(self, frame: zmq.Frame, route: bytes | None, dialed: Link | None, user_id: str) -> None:
        """One packet. Nothing that a peer sends may raise from here."""
        counters = self.counters
        counters.packets_received += 1
        data: Body = frame.bytes if len(frame) < COPY_BELOW_BYTES else frame.buffer
        try:
            head = parse_header(data)
        except MalformedPacket:
            counters.malformed += 1
            return
        node = head[3]
        if dialed is not None:
            genuine = node == dialed.node  # CURVE has checked that this is the server that we meant
        else:
            genuine = node != self.node and self.allow.may_speak(user_id, node)
        if not genuine:
            counters.wrong_identity += 1
            self._limit.warn(log, "dropped a packet: its key may not speak for node %d", node)
            return
        if head[2] != WIRE_VERSION:
            self._mismatch(head, route, dialed)
            return
        link = self._links.get(node)
        if link is None:
            link = self._welcome(head)
            if link is None:
                return
        self._take(link, head, data, route)

    def _welcome(self, head: Head) -> Link | None:
        """A session for a node that dialed us, unless it is one that was forgotten."""
        node, incarnation = head[3], head[5]
        if incarnation in self._forgotten.get(node, (0, ()))[1]:
            self.counters.stale += 1
            return None
        if len(self._links) >= MAX_LINKS:
            self._limit.warn(log, "no room for a link to node %d", node)
            return None
        return self._make(node)

    def _take(self, link: Link, head: Head, data: Body, route: bytes | None) -> None:
        session = link.session
        before = session.peer
        try:
            bodies = session.receive(head, data, self._reactor.now())
        except MalformedPacket:
            self.counters.malformed += 1
            return
        finally:
            if session.peer != before:
                self._contact(link, before)
        if self._links.get(link.node) is not link:
            return  # forgotten by on_link
        link.refused = False
        if route is not None and route != link.route and session.peer == head[5]:
            self._reroute(link, route, head[1])
        if session.replies:
            replies, session.replies = session.replies, []
            for packet in replies:
                if route is not None:
                    self._put_route(link, route, packet)
                else:
                    self._put(link, packet)
        if head[1] == DATA:
            self._hand_over(link, bodies)
        if self._links.get(link.node) is link:
            self._after(link)

    def _reroute(self, link: Link, route: bytes, kind: int) -> None:
        """The peer has made a connection to us."""
        if link.route is not None and route in link.past and kind != HELLO:
            return  # a late packet of a connection that was replaced
        if link.route is not None:
            link.past.append(link.route)
        link.route = route
        if link.session.hello_pending and not link.dealer_up:
            self._put(link, link.session.open(self._reactor.now()))  # ours found no path so far

    def _hand_over(self, link: Link, bodies: Any) -> None:
        node, deliver = link.node, self.deliver
        for body in bodies:
            try:
                deliver(node, body)
            except Exception:
                self._reactor.failed(deliver)
            if self._links.get(node) is not link:
                return  # forgotten by what it delivered

    def _after(self, link: Link) -> None:
        """Acks that became due, and what an ack or a HELLO made possible to send."""
        session = link.session
        if session.can_pull and not link.dirty:
            self._flush_later(link)
        if session.ack_due:
            if session.ack_urgent:
                self._put(link, session.ack())
            else:
                self._to_ack.add(link)
                if self._ack_timer is None:
                    self._ack_timer = self._reactor.call_later(ACK_DELAY_S, self._ack_all)
        if link.over_limit and session.pending_bytes <= self.config.window_bytes // 2:
            link.over_limit = False
            if self.on_limit is not None:
                self.on_limit(link.node, False)

    def _contact(self, link: Link, before: int) -> None:
        """A node was met for the first time, or as a new incarnation."""
        if before and self.on_restart is not None:
            try:
                self.on_restart(link.node, link.session.lost)
            except Exception:
                self._reactor.failed(self.on_restart)
        if self.on_link is not None:
            try:
                self.on_link(link.node)
            except Exception:
                self._reactor.failed(self.on_link)

    def _mismatch(self, head: Head, route: bytes | None, dialed: Link | None) -> None:
        self.counters.version_mismatches += 1
        node, version = head[3], head[2]
        if head[1] != REFUSE:
            answer = refusal(self.node, self.incarnation)
            if route is not None:
                self._put_route(None, route, answer)
            elif dialed is not None:
                self._put(dialed, answer)
        link = self._links.get(node)
        if link is not None:
            link.refused = True
        if self._mismatched.get(node) == version or len(self._mismatched) >= MAX_LINKS:
            return
        self._mismatched[node] = version
        text = "node %d speaks version %d of the link protocol and we speak %d: the link is refused; "
        log.error(text + "install the same hpc on all nodes", node, version, WIRE_VERSION)
        if self.on_mismatch is not None:
            self.on_mismatch(node, version)

"""One link between two nodes as a pure machine: exactly once, in order, over what may lose anything.

ZeroMQ loses messages silently when a connection is cut, so every pair of nodes has a session: both sides' incarnations,
sequence numbers, cumulative acks. Bodies are kept until acked; the receiver drops duplicates and asks again from the
first hole (go-back-N). No I/O, no clock, no randomness: `now` comes in as an argument, and packets go out as bytes. The
test drives two of these against each other under every kind of fault.

Rejected: keeping packets that arrive out of order. ZeroMQ reorders only when a connection was replaced, and then the
sender knows; a bounded receiver is worth more. Rejected too: re-sending data on a timer. A peer that is merely slow
would get its window again and again: a small PROBE asks what is missing instead.

Packet: one frame = header, table of body lengths, bodies. `seq` is the number of the first body. In HELLO and PROBE it
is the number that will be sent next. It comes back in the answer, which thereby says what of all that was sent before
it is missing. `ack` is the number expected next. `to` is the incarnation the packet is meant for, 0 for whoever is
there. The first four fields keep their place in all future versions, so that two versions can still tell each other
that they differ.

    HELLO    a connection was made (or: who are you?): answered by WELCOME; both sides send again from `ack`
    DATA     bodies: acked later, piggybacked if possible
    PROBE    nothing was acked for a while: answered by NEED
    NEED     all before `seq` was handled, send from `ack`
    REFUSE   your wire version is not mine

Incarnations: a new incarnation of the peer is believed only when it answers a challenge made now (a HELLO with a
nonce). So packets that a dead one has left in some buffer cannot replace a living one. A replaced incarnation is never
heard again. What was queued for it is dropped and counted (`lost`): the layer above decides what a restart means.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence

from msgspec import Struct

from hpc.core import wire

WIRE_VERSION = 1

HELLO = 1
WELCOME = 2
DATA = 3
ACK = 4
PROBE = 5
NEED = 6
REFUSE = 7

MAGIC = 0xB7
# magic, kind, wire version, sender's node, number of bodies, incarnation, to, seq, ack
HEADER = struct.Struct("<BBHIIQQQQ")
HEADER_BYTES = HEADER.size

MAX_BODY_BYTES = wire.MAX_FRAME_BYTES + wire.HEADER_BYTES  # what a stream takes, a link takes
MAX_BODIES_PER_PACKET = 1024
PACKET_TARGET_BYTES = 256 << 10  # a packet is closed when it has this much, or one larger body
MAX_PACKET_BYTES = MAX_BODY_BYTES + PACKET_TARGET_BYTES + HEADER_BYTES + 4 * MAX_BODIES_PER_PACKET
WIRE_WINDOW_BYTES = 16 << 20  # sent and not acked; the rest waits here
BODY_OVERHEAD_BYTES = 64  # what a body costs beside its bytes, so that empty ones are not free
ACK_EVERY_PACKETS = 64
ACK_EVERY_BYTES = 1 << 20
VIEW_FROM_BYTES = 64 << 10  # larger bodies are delivered as views on the packet, smaller ones as bytes
RESEND_MIN_S = 0.3
RESEND_MAX_S = 5.0
ASK_AGAIN_S = 0.1  # the same NEED or challenge is not repeated sooner
NONCE_FROM = 1 << 62  # nonces of challenges stand where HELLO has a sequence number
MAX_RETIRED = 64  # incarnations of one peer remembered as dead

Body = bytes | memoryview
Head = tuple[int, int, int, int, int, int, int, int, int]

_NOTHING: Sequence[Body] = ()
_TABLES = [struct.Struct(f"<{n}I") for n in range(MAX_BODIES_PER_PACKET + 1)]


class MalformedPacket(ValueError):
    """The bytes are no packet of ours. Never leaves the link layer: it is counted."""


class Counters(Struct):
    """What happened on the links of a process, for tests and for the operator."""

    packets_sent: int = 0
    packets_received: int = 0
    bodies_sent: int = 0
    bodies_resent: int = 0
    bodies_delivered: int = 0
    bodies_lost_to_restarts: int = 0
    duplicates: int = 0  # bodies
    gaps: int = 0  # packets that came after a hole
    stale: int = 0  # packets of a replaced incarnation
    misdirected: int = 0  # packets for a previous incarnation of ours
    malformed: int = 0
    wrong_identity: int = 0  # the key may not speak for the node that the packet names
    version_mismatches: int = 0
    probes: int = 0
    restarts: int = 0


def parse_header(data: Body) -> Head:
    """Check what can be checked without a session. Raises MalformedPacket."""
    if len(data) < HEADER_BYTES:
        raise MalformedPacket("shorter than a header")
    head: Head = HEADER.unpack_from(data)
    if head[0] != MAGIC:
        raise MalformedPacket("not a link packet")
    return head


def unpack_bodies(data: Body, count: int, skip: int) -> list[Body]:
    """The bodies after the first `skip`; small ones as bytes: keeping one does not keep the packet."""
    if count > MAX_BODIES_PER_PACKET:
        raise MalformedPacket("too many bodies")
    end = HEADER_BYTES + 4 * count
    if len(data) < end:
        raise MalformedPacket("cut in the table of lengths")
    lengths = _TABLES[count].unpack_from(data, HEADER_BYTES)
    if end + sum(lengths) != len(data):
        raise MalformedPacket("lengths do not add up")
    if skip:
        end += sum(lengths[:skip])
        lengths = lengths[skip:]
    bodies: list[Body] = []
    for length in lengths:
        start = end
        end += length
        if length < VIEW_FROM_BYTES:
            body = data[start:end]
            bodies.append(body if type(body) is bytes else bytes(body))
        else:
            bodies.append(memoryview(data)[start:end])
    return bodies


class LinkSession:
    """The sending and the receiving half of one link. See the module's text for the protocol.

    Use: queue() takes bodies, and pull() gives packets while there are any. receive() takes what arrives, and what then
    lies in `replies` is sent back the way it came. open() says that a connection was made, tick() that `resend_at` has
    come, and ack() that `ack_due` has lasted long enough. A change of `peer` in receive() is a first contact or a
    restart.
    """

    __slots__ = (
        "_asked_at",
        "_asked_seq",
        "_challenged",
        "_challenged_at",
        "_inflight",
        "_nonce",
        "_queued",
        "_resend_s",
        "ack_bytes",
        "ack_due",
        "base",
        "counters",
        "heard_at",
        "hello_pending",
        "high",
        "incarnation",
        "inflight_bytes",
        "lost",
        "node",
        "peer",
        "queued_bytes",
        "recv_next",
        "replies",
        "resend_at",
        "retired",
        "wire_window_bytes",
    )

    def __init__(
        self,
        node: int,
        incarnation: int,
        *,
        counters: Counters | None = None,
        retired: Sequence[int] = (),
        wire_window_bytes: int = WIRE_WINDOW_BYTES,
    ) -> None:
        self.node = node  # ours; the peer's is the shell's business
        self.incarnation = incarnation
        self.peer = 0  # the peer's incarnation, 0 = not met
        self.retired: deque[int] = deque(retired, maxlen=MAX_RETIRED)
        self.counters = counters or Counters()
        self.wire_window_bytes = wire_window_bytes
        # sending: from `base` on first the inflight, then the queued; `high` is the highest ever sent, plus one
        self.base = 1
        self.high = 1
        self._inflight: deque[bytes] = deque()
        self._queued: deque[bytes] = deque()
        self.inflight_bytes = 0
        self.queued_bytes = 0
        self.hello_pending = False
        self.resend_at: float | None = None
        self._resend_s = RESEND_MIN_S
        self.lost = 0  # bodies dropped because the peer was restarted
        # receiving
        self.recv_next = 1
        self.ack_due = 0  # packets not acked yet
        self.ack_bytes = 0
        self.heard_at = 0.0  # `now` of the last packet that was meant for us
        self.replies: list[bytes] = []
        self._asked_seq = 0
        self._asked_at = float("-inf")
        self._challenged_at = float("-inf")
        self._challenged = 0
        self._nonce = NONCE_FROM

    # -------------------------------------------------------------- sending

    @property
    def pending_bytes(self) -> int:
        """Queued and not acked, with a constant per body."""
        return self.inflight_bytes + self.queued_bytes

    @property
    def pending_bodies(self) -> int:
        return len(self._inflight) + len(self._queued)

    @property
    def idle(self) -> bool:
        return not self._inflight

    @property
    def can_pull(self) -> bool:
        return bool(self._queued) and self.peer != 0 and not self.hello_pending

    def queue(self, body: bytes) -> None:
        self._queued.append(body)
        self.queued_bytes += len(body) + BODY_OVERHEAD_BYTES

    def pull(self, now: float) -> bytes | None:
        """The next DATA packet, or None: nothing queued, the peer not met, or the wire window full."""
        queued = self._queued
        if not queued or self.peer == 0 or self.hello_pending:
            return None
        inflight = self._inflight
        if inflight and self.inflight_bytes >= self.wire_window_bytes:
            return None
        seq = self.base + len(inflight)
        if len(queued) <= MAX_BODIES_PER_PACKET and self.queued_bytes <= PACKET_TARGET_BYTES:
            bodies = list(queued)
            queued.clear()
            size = self.queued_bytes
        else:
            bodies = []
            size = 0
            while queued and size < PACKET_TARGET_BYTES and len(bodies) < MAX_BODIES_PER_PACKET:
                body = queued.popleft()
                bodies.append(body)
                size += len(body) + BODY_OVERHEAD_BYTES
        self.queued_bytes -= size
        self.inflight_bytes += size
        inflight.extend(bodies)
        count = len(bodies)
        after = seq + count
        counters = self.counters
        if seq < self.high:
            counters.bodies_resent += min(after, self.high) - seq
        if after > self.high:
            counters.bodies_sent += after - max(seq, self.high)
            self.high = after
        if self.resend_at is None:
            self.resend_at = now + self._resend_s
        self.ack_due = self.ack_bytes = 0
        header = HEADER.pack(
            MAGIC, DATA, WIRE_VERSION, self.node, count, self.incarnation, self.peer, seq, self.recv_next
        )
        if count == 1:
            return b"".join((header, _TABLES[1].pack(len(bodies[0])), bodies[0]))
        return b"".join((header, _TABLES[count].pack(*map(len, bodies)), *bodies))

    def open(self, now: float) -> bytes:
        """A connection was made, or the path has changed: the HELLO to send. No data until it is answered."""
        self.hello_pending = True
        self._resend_s = RESEND_MIN_S
        self.resend_at = now + RESEND_MIN_S
        return self._control(HELLO, self.base + len(self._inflight))

    def tick(self, now: float) -> bytes | None:
        """When `resend_at` has come: the HELLO or PROBE to send, if there is still a reason."""
        if self.resend_at is None or now < self.resend_at:
            return None
        if not self.hello_pending and (self.peer == 0 or not self._inflight):
            self.resend_at = None
            return None
        self._resend_s = min(self._resend_s * 2, RESEND_MAX_S)
        self.resend_at = now + self._resend_s
        self.counters.probes += 1
        return self._control(HELLO if self.hello_pending else PROBE, self.base + len(self._inflight))

    def ack(self) -> bytes:
        return self._control(ACK, self.base + len(self._inflight))

    @property
    def ack_urgent(self) -> bool:
        return self.ack_due >= ACK_EVERY_PACKETS or self.ack_bytes >= ACK_EVERY_BYTES

    def _control(self, kind: int, seq: int) -> bytes:
        """A packet without bodies for the present peer."""
        self.ack_due = self.ack_bytes = 0
        return HEADER.pack(MAGIC, kind, WIRE_VERSION, self.node, 0, self.incarnation, self.peer, seq, self.recv_next)

    def _acked(self, ack: int, now: float) -> None:
        """Everything before `ack` has arrived. Acks from the past or beyond what was sent mean nothing."""
        count = ack - self.base
        if count <= 0 or ack > self.high:
            return
        inflight = self._inflight
        if count == len(inflight):
            inflight.clear()
            self.inflight_bytes = 0
        else:
            from_wire = min(count, len(inflight))
            for _ in range(from_wire):
                self.inflight_bytes -= len(inflight.popleft()) + BODY_OVERHEAD_BYTES
            for _ in range(count - from_wire):  # taken back for re-sending, and arrived after all
                self.queued_bytes -= len(self._queued.popleft()) + BODY_OVERHEAD_BYTES
        self.base = ack
        self._resend_s = RESEND_MIN_S
        if not self.hello_pending:
            self.resend_at = now + RESEND_MIN_S if inflight else None

    def _rewind(self) -> None:
        """What was sent and not acked goes back to the head of the queue."""
        if self._inflight:
            self._queued.extendleft(reversed(self._inflight))
            self._inflight.clear()
            self.queued_bytes += self.inflight_bytes
            self.inflight_bytes = 0

    # -------------------------------------------------------------- receiving

    def receive(self, head: Head, data: Body, now: float) -> Sequence[Body]:
        """Take one packet; returns the bodies to deliver, in order. Raises MalformedPacket.

        `head` is parse_header(data); the caller has compared the wire version and the sender's identity.
        """
        _, kind, _, _, count, incarnation, to, seq, ack = head
        if incarnation != self.peer and not self._meet(kind, incarnation, to, seq, now):
            return _NOTHING
        if to != self.incarnation:
            self._not_for_us(kind, to, seq, now)
            return _NOTHING
        self.heard_at = now
        if ack > self.base:
            self._acked(ack, now)
        if kind == DATA:
            return self._data(data, count, seq, now)
        if kind in (NEED, WELCOME):
            if kind == WELCOME and self.hello_pending:
                self.hello_pending = False
                self._resend_s = RESEND_MIN_S
                self.resend_at = now + RESEND_MIN_S if self._inflight else None
            if ack == self.base and ack < seq:
                self._rewind()
        elif kind == PROBE:
            self.replies.append(self._control(NEED, seq))
        elif kind == HELLO:
            self._rewind()  # what was on the old connection is lost
            self.replies.append(self._control(WELCOME, seq))
        elif kind != ACK:
            raise MalformedPacket("unknown kind of packet")
        return _NOTHING

    def _data(self, data: Body, count: int, seq: int, now: float) -> Sequence[Body]:
        skip = self.recv_next - seq
        if skip < 0:
            self.counters.gaps += 1
            if self._asked_seq != self.recv_next or now - self._asked_at >= ASK_AGAIN_S:
                self._asked_seq = self.recv_next
                self._asked_at = now
                self.replies.append(self._control(NEED, seq))
            return _NOTHING
        if skip >= count:
            self.counters.duplicates += count
            self.ack_due += 1
            return _NOTHING
        bodies = unpack_bodies(data, count, skip)
        self.counters.duplicates += skip
        self.counters.bodies_delivered += len(bodies)
        self.recv_next = seq + count
        self.ack_due += 1
        self.ack_bytes += len(data)
        return bodies

    def _meet(self, kind: int, incarnation: int, to: int, seq: int, now: float) -> bool:
        """A packet of an incarnation that is not the present one. True: it is now."""
        if incarnation == 0:
            raise MalformedPacket("no incarnation")
        if incarnation in self.retired:
            self.counters.stale += 1
            return False
        replaces = self.peer != 0
        if replaces:
            if kind != WELCOME or seq != self._nonce or incarnation != self._challenged:
                if kind == HELLO and to == self.incarnation:  # show that we live, whatever we think of them
                    self.replies.append(self._stranger(WELCOME, incarnation, seq))
                self._challenge(incarnation, now)
                return False
            self._nonce += 1  # an answer counts once
            self._restarted()
        self.peer = incarnation
        self.base = self.high = self.recv_next = 1
        self.ack_due = self.ack_bytes = 0
        if replaces:
            self.replies.append(self._control(WELCOME, 1))  # its own HELLO was answered by our challenge
        return True

    def _restarted(self) -> None:
        """What was queued was meant for the incarnation that is gone."""
        self.retired.append(self.peer)
        self.lost = len(self._inflight) + len(self._queued)
        self.counters.restarts += 1
        self.counters.bodies_lost_to_restarts += self.lost
        self._inflight.clear()
        self._queued.clear()
        self.inflight_bytes = self.queued_bytes = 0
        if not self.hello_pending:
            self.resend_at = None

    def _not_for_us(self, kind: int, to: int, seq: int, now: float) -> None:
        """The peer does not know this incarnation of ours yet."""
        if to == 0 and kind == HELLO:
            self._rewind()
            self.replies.append(self._control(WELCOME, seq))
        else:
            self.counters.misdirected += 1
            self._challenge(self.peer, now)

    def _challenge(self, incarnation: int, now: float) -> None:
        """Say who we are, and see whether that incarnation is alive: only such a one can return the nonce."""
        if now - self._challenged_at < ASK_AGAIN_S:
            return
        self._challenged_at = now
        self._challenged = incarnation
        self._nonce += 1
        if incarnation == self.peer:
            self.replies.append(self._control(HELLO, self._nonce))
        else:
            self.replies.append(self._stranger(HELLO, incarnation, self._nonce))

    def _stranger(self, kind: int, to: int, seq: int) -> bytes:
        """A packet for an incarnation that is not the present peer: it must not hear of the peer's numbers."""
        return HEADER.pack(MAGIC, kind, WIRE_VERSION, self.node, 0, self.incarnation, to, seq, 1)


def refusal(node: int, incarnation: int) -> bytes:
    """The answer to a packet of another wire version."""
    return HEADER.pack(MAGIC, REFUSE, WIRE_VERSION, node, 0, incarnation, 0, 0, 0)

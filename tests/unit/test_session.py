"""Two sessions against each other over a transport that drops, duplicates, delays, reorders and reconnects."""

from __future__ import annotations

import random
import struct
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc.core.net import session as wire
from hpc.core.net.session import Counters, LinkSession, MalformedPacket, parse_header, unpack_bodies

SMALL_WINDOW_BYTES = 2000  # so that the wire window matters


class End:
    """A session with the duties of its shell, and what it was given to deliver."""

    def __init__(self, node: int, incarnation: int, window_bytes: int = SMALL_WINDOW_BYTES) -> None:
        self.node = node
        self.window_bytes = window_bytes
        self.next_body = 0
        self.got: dict[int, list[int]] = {}  # by incarnation of the sender; over all of ours
        self.senders: list[int] = []  # incarnations of the sender in the order of their first bodies
        self.start(incarnation)

    def start(self, incarnation: int) -> None:
        self.session = LinkSession(self.node, incarnation, wire_window_bytes=self.window_bytes)

    def queue(self, count: int) -> None:
        for _ in range(count):
            self.next_body += 1
            self.session.queue(struct.pack("<QQ", self.session.incarnation, self.next_body))

    def pull(self, now: float) -> list[bytes]:
        packets = []
        while (packet := self.session.pull(now)) is not None:
            packets.append(packet)
        return packets

    def receive(self, data: bytes, now: float) -> list[bytes]:
        for body in self.session.receive(parse_header(data), data, now):
            sender, number = struct.unpack("<QQ", body)
            numbers = self.got.setdefault(sender, [])
            assert not numbers or numbers[-1] < number, "a duplicate, or out of order"
            if not self.senders or self.senders[-1] != sender:
                assert sender not in self.senders, "an old incarnation after a new one"
                self.senders.append(sender)
            numbers.append(number)
        replies, self.session.replies = self.session.replies, []
        return replies

    def due(self, now: float) -> list[bytes]:
        packets = []
        tick = self.session.tick(now)
        if tick is not None:
            packets.append(tick)
        if self.session.ack_due:
            packets.append(self.session.ack())
        return packets


class World:
    """Two ends and what is on its way between them. End 0 is the one that dials."""

    def __init__(self, window_bytes: int = SMALL_WINDOW_BYTES) -> None:
        self.ends = [End(0, 1000, window_bytes), End(1, 2000, window_bytes)]
        self.wires: list[deque[bytes]] = [deque(), deque()]  # towards end i
        self.now = 0.0
        self.incarnations = 0
        self.post(0, [self.ends[0].session.open(self.now)])

    def post(self, sender: int, packets: list[bytes]) -> None:
        self.wires[1 - sender].extend(packets)

    def arrive(self, receiver: int, index: int, keep: bool = False) -> None:
        packets = self.wires[receiver]
        if not packets:
            return
        index %= len(packets)
        data = packets[index]
        if not keep:
            del packets[index]
        self.post(receiver, self.ends[receiver].receive(data, self.now))

    def do(self, action: tuple[str, int, int]) -> None:
        what, end, value = action
        if what == "send":
            self.ends[end].queue(value)
            self.post(end, self.ends[end].pull(self.now))
        elif what == "arrive":
            for _ in range(value):
                self.arrive(end, 0)
        elif what == "reorder":
            self.arrive(end, value)
        elif what == "duplicate":
            self.arrive(end, value, keep=True)
        elif what == "drop":
            if self.wires[end]:
                del self.wires[end][value % len(self.wires[end])]
        elif what == "wait":
            self.now += value / 20
            for i in (0, 1):
                self.post(i, self.ends[i].pull(self.now) + self.ends[i].due(self.now))
        elif what == "reconnect":
            for packets in self.wires:
                packets.clear()
            self.post(0, [self.ends[0].session.open(self.now)])
        elif what == "restart":
            self.incarnations += 1
            self.ends[end].start(3000 + self.incarnations)
            if end == 0:
                self.post(0, [self.ends[0].session.open(self.now)])

    def heal(self, limit_s: float = 60.0) -> None:
        """From now on the transport is perfect; run until nothing is pending."""
        self.now += 1.0
        deadline = self.now + limit_s
        while self.now < deadline:
            for i in (0, 1):
                self.post(i, self.ends[i].pull(self.now) + self.ends[i].due(self.now))
            if not any(self.wires) and not any(end.session.pending_bodies for end in self.ends):
                return
            while any(self.wires):
                for i in (0, 1):
                    self.arrive(i, 0)
                    self.post(i, self.ends[i].pull(self.now))
            self.now += 0.05
        raise AssertionError("did not heal")


def met(window_bytes: int = SMALL_WINDOW_BYTES) -> World:
    world = World(window_bytes)
    world.heal()
    assert world.ends[0].session.peer == 2000 and world.ends[1].session.peer == 1000
    return world


FAULTS = ["send", "send", "arrive", "arrive", "reorder", "duplicate", "drop", "wait", "reconnect"]


def actions(kinds: list[str]) -> st.SearchStrategy[list[tuple[str, int, int]]]:
    return st.lists(st.tuples(st.sampled_from(kinds), st.integers(0, 1), st.integers(1, 40)), max_size=80)


@settings(max_examples=400, deadline=None)
@given(actions(FAULTS), st.booleans())
def test_everything_arrives_once_in_order(steps: list[tuple[str, int, int]], start_met: bool) -> None:
    world = met() if start_met else World()
    for step in steps:
        world.do(step)
    world.heal()
    for me, other in ((0, 1), (1, 0)):
        sent = list(range(1, world.ends[other].next_body + 1))
        assert world.ends[me].got.get(world.ends[other].session.incarnation, []) == sent
        session = world.ends[other].session
        assert session.pending_bytes == 0 and session.inflight_bytes == 0 and session.queued_bytes == 0


@settings(max_examples=400, deadline=None)
@given(actions([*FAULTS, "restart"]), st.booleans())
def test_restarts_lose_only_what_was_queued_for_the_dead(steps: list[tuple[str, int, int]], start_met: bool) -> None:
    world = met() if start_met else World()
    for step in steps:
        world.do(step)
    for end in world.ends:
        end.queue(1)  # has both notice who is there; may be lost with the dead
    world.heal()
    for end in world.ends:
        end.queue(1)
    world.heal()
    for me, other in ((0, 1), (1, 0)):
        sender = world.ends[other]
        assert world.ends[me].got[sender.session.incarnation][-1] == sender.next_body
        assert world.ends[me].session.peer == sender.session.incarnation


def test_dead_incarnations_last_word_does_not_replace_the_living() -> None:
    world = met()
    world.do(("send", 1, 3))
    late = list(world.wires[0])  # from the old incarnation of end 1
    world.wires[0].clear()
    world.do(("restart", 1, 1))
    world.do(("send", 0, 2))
    world.heal()
    assert world.ends[0].session.peer == 3001
    for data in late:
        assert world.ends[0].receive(data, world.now) == []
    assert world.ends[0].session.peer == 3001
    assert world.ends[0].session.counters.stale == len(late)
    assert world.ends[0].got == {}


def test_both_believe_the_dead_and_still_find_each_other() -> None:
    world = World()
    world.arrive(1, 0)  # HELLO of 1000; 2000 answers
    world.now += 0.3
    world.post(0, world.ends[0].due(world.now))  # HELLO of 1000 again
    world.do(("restart", 0, 1))
    world.do(("restart", 1, 1))
    for end in world.ends:
        end.queue(1)
    world.heal()
    for end in world.ends:
        end.queue(1)
    world.heal()
    assert [end.session.peer for end in world.ends] == [3002, 3001]
    assert world.ends[0].got[3002][-1] == world.ends[1].got[3001][-1] == 2


def test_restart_of_the_peer_drops_and_counts_what_waited() -> None:
    world = met()
    world.ends[0].queue(5)
    world.ends[0].pull(world.now)  # lost
    world.do(("restart", 1, 1))
    world.heal()
    assert world.ends[0].session.lost == 5
    assert world.ends[0].session.counters.restarts == 1
    assert world.ends[1].got == {}


def test_a_challenged_stranger_does_not_hear_the_peers_numbers() -> None:
    world = met()
    world.do(("send", 1, 9))
    world.arrive(0, 0)
    stranger = LinkSession(1, 4000)
    hello = stranger.open(world.now)
    (challenge,) = world.ends[0].receive(hello, world.now)
    kind, to, ack = (parse_header(challenge)[i] for i in (1, 6, 8))
    assert (kind, to, ack) == (wire.HELLO, 4000, 1)
    assert world.ends[0].session.peer == 2000


def test_late_duplicates_do_not_turn_the_receiver_back() -> None:
    world = met()
    for _ in range(3):
        world.do(("send", 0, 2))
    old = world.wires[1][0]
    for _ in range(3):
        world.arrive(1, 0)
    world.ends[1].receive(old, world.now)
    assert world.ends[1].session.recv_next == 7
    assert world.ends[1].session.counters.duplicates == 2


def test_reconnection_sends_again_at_once_in_both_directions() -> None:
    world = met()
    world.do(("send", 0, 5))
    world.do(("send", 1, 5))
    world.do(("reconnect", 0, 1))  # all of it is lost
    for _ in range(20):  # and no time passes: no timer helps
        for i in (0, 1):
            world.arrive(i, 0)
            world.post(i, world.ends[i].pull(world.now))
    assert world.ends[1].got[1000] == world.ends[0].got[2000] == [1, 2, 3, 4, 5]


def test_a_slow_peer_gets_probes_not_data_again() -> None:
    world = met()
    world.do(("send", 0, 20))
    for _ in range(100):
        world.now += 0.1
        world.post(0, world.ends[0].due(world.now))
    sent = [parse_header(data)[1] for data in world.wires[1]]
    assert sent.count(wire.DATA) == 1
    assert 3 <= sent.count(wire.PROBE) <= 8  # 0.3, 0.9, 2.1, 4.5, 9.3 s
    world.heal()
    assert world.ends[0].session.counters.bodies_resent == 0


def test_wire_window_limits_what_is_in_flight_and_pending_counts_all() -> None:
    world = met()
    sender = world.ends[0]
    for _ in range(10):
        sender.session.queue(bytes(500))
    assert len(sender.pull(world.now)) == 1  # one packet takes them all: they are far below a packet's target
    big = LinkSession(0, 5, wire_window_bytes=600 << 10)
    big.peer = 6
    for _ in range(20):
        big.queue(bytes(100 << 10))
    assert len([1 for _ in iter(lambda: big.pull(0.0), None)]) == 2
    assert big.pending_bytes == 20 * ((100 << 10) + wire.BODY_OVERHEAD_BYTES)
    assert big.inflight_bytes >= 600 << 10 and big.queued_bytes > 0


def test_gap_is_asked_for_once_at_a_time() -> None:
    world = met()
    world.do(("send", 0, 1))
    world.wires[1].clear()
    for _ in range(30):
        world.do(("send", 0, 1))
    for _ in range(30):
        world.arrive(1, 0)
    assert [parse_header(data)[1] for data in world.wires[0]] == [wire.NEED]
    world.heal()
    assert world.ends[1].got[1000] == list(range(1, 32))


def test_ack_is_urgent_after_many_packets_or_bytes() -> None:
    world = met(1 << 20)
    receiver = world.ends[1].session
    for n in range(wire.ACK_EVERY_PACKETS):
        assert not receiver.ack_urgent
        world.do(("send", 0, 1))
        world.arrive(1, 0)
        assert receiver.ack_due == n + 1
    assert receiver.ack_urgent
    receiver.ack()
    assert not receiver.ack_urgent and receiver.ack_due == 0


def test_bodies_of_all_sizes_survive_packing() -> None:
    one, two = LinkSession(0, 1), LinkSession(1, 2)
    one.peer, two.peer = 2, 1
    rng = random.Random(5)
    bodies = [rng.randbytes(size) for size in (0, 1, 2, 100, 65535, 65536, 300_000, 0, 7)]
    bodies += [b"x"] * 3000
    for body in bodies:
        one.queue(body)
    got: list[bytes] = []
    while (packet := one.pull(0.0)) is not None:
        assert len(packet) <= wire.MAX_PACKET_BYTES
        for view in (packet, memoryview(packet)):
            assert len(unpack_bodies(view, parse_header(view)[4], 0)) == parse_header(view)[4]
        got.extend(bytes(body) for body in two.receive(parse_header(packet), packet, 0.0))
    assert got == bodies


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_hostile_packets_raise_only_malformed(data: st.DataObject) -> None:
    session = LinkSession(1, 77, counters=Counters())
    session.queue(b"mine")
    fields = st.sampled_from([0, 1, 2, 76, 77, 78, wire.NONCE_FROM, wire.NONCE_FROM + 1, 2**64 - 1])
    for _ in range(data.draw(st.integers(1, 8))):
        kind = data.draw(st.integers(0, 9))
        count = data.draw(st.sampled_from([0, 1, 2, 1024, 1025, 2**32 - 1]))
        header = wire.HEADER.pack(wire.MAGIC, kind, 1, 2, count, *(data.draw(fields) for _ in range(4)))
        packet = (header + data.draw(st.binary(max_size=40)))[: data.draw(st.integers(0, 90))]
        try:
            session.receive(parse_header(packet), packet, 0.0)
        except MalformedPacket:
            pass
        session.pull(0.0)
        session.tick(1e9)
        assert len(session.replies) <= 16
        assert session.pending_bodies <= 1
        assert len(session.retired) <= wire.MAX_RETIRED


@pytest.mark.parametrize("cut", range(wire.HEADER_BYTES + 12))
def test_truncated_packets(cut: int) -> None:
    one, two = LinkSession(0, 1), LinkSession(1, 2)
    one.peer, two.peer = 2, 1
    one.queue(b"12345678")
    packet = one.pull(0.0)
    assert packet is not None
    with pytest.raises(MalformedPacket):
        two.receive(parse_header(packet[:cut]), packet[:cut], 0.0)
    assert two.recv_next == 1

"""Links over real ZeroMQ with CURVE, in one process and on one reactor, through a proxy that breaks connections."""

from __future__ import annotations

import contextlib
import logging
import random
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from hpc.core.net import session as wire
from hpc.core.net.curve import AllowList, KeyPair, guard_client, guard_server
from hpc.core.net.faults import Proxy
from hpc.core.net.links import Links
from hpc.core.net.reactor import Reactor

LIMIT_S = 60.0  # a test ends long before; this is for a machine that is busy with other things
QUICK = {
    "link_reconnect_s": 0.02,
    "link_reconnect_max_s": 0.05,
    "link_connect_timeout_s": 1.0,
    "link_handshake_s": 1.0,
}
HEARTBEAT = {"link_heartbeat_s": 0.1, "link_heartbeat_timeout_s": 0.4}


class Peer:
    def __init__(self, bed: Bed, node: int, keys: KeyPair, **options: Any) -> None:
        self.node = node
        self.keys = keys
        self.got: dict[int, list[bytes]] = {}
        self.met: list[int] = []
        self.restarts: list[tuple[int, int]] = []
        self.limits: list[tuple[int, bool]] = []
        self.mismatches: list[tuple[int, int]] = []
        options.setdefault("bind_addr", "127.0.0.1")
        options.setdefault("deliver", self.deliver)
        config = {**QUICK, **options.pop("config", {})}
        self.links = Links(
            bed.reactor,
            node=node,
            keys=keys,
            allow=options.pop("allow", bed.allow),
            config=config,
            on_link=self.met.append,
            on_restart=lambda *args: self.restarts.append(args),
            on_limit=lambda *args: self.limits.append(args),
            on_mismatch=lambda *args: self.mismatches.append(args),
            **options,
        )

    def deliver(self, node: int, body: bytes | memoryview) -> None:
        self.got.setdefault(node, []).append(bytes(body))

    def dial(self, other: Peer, proxy: Proxy | None = None) -> None:
        endpoint = proxy.endpoint if proxy is not None else other.links.endpoint
        self.links.dial(other.node, endpoint, other.keys.public)


class Bed:
    """Peers and proxies of one test on one reactor."""

    def __init__(self) -> None:
        self.reactor = Reactor()
        self.allow = AllowList()
        self.closing: list[Callable[[], object]] = []

    def peer(self, node: int, **options: Any) -> Peer:
        keys = options.pop("keys", None) or KeyPair.make()
        self.allow.add(keys.public, node)
        peer = Peer(self, node, keys, **options)
        self.closing.append(peer.links.close)
        return peer

    def proxy(self, peer: Peer) -> Proxy:
        proxy = Proxy.to(self.reactor, peer.links.endpoint)
        self.closing.append(proxy.close)
        return proxy

    def until(self, done: Callable[[], object], limit_s: float = LIMIT_S) -> None:
        deadline = time.monotonic() + limit_s
        while not done():
            assert time.monotonic() < deadline, "did not happen in time"
            self.reactor.run_once(0.02)

    def run_for(self, seconds: float) -> None:
        """Only to show that something does NOT happen."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.reactor.run_once(left)

    def close(self) -> None:
        for close in reversed(self.closing):
            close()
        self.reactor.close()


@pytest.fixture
def bed() -> Iterator[Bed]:
    made = Bed()
    yield made
    made.close()
    assert made.reactor.errors == 0 or getattr(made, "errors_expected", False)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked for or sent again only because this process was not run for a moment."""
    monkeypatch.setattr(wire, "RESEND_MIN_S", 2 * LIMIT_S)
    monkeypatch.setattr(wire, "RESEND_MAX_S", 4 * LIMIT_S)


def bodies(count: int) -> list[bytes]:
    return [b"%d:" % i + bytes(i % 150) for i in range(count)]


def both_ways(bed: Bed, one: Peer, two: Peer, count: int, each_turn: int = 50) -> None:
    """Send `count` bodies each way, some per turn, and wait until all have arrived and been acked."""
    want = bodies(count)
    for start in range(0, count, each_turn):
        for body in want[start : start + each_turn]:
            one.links.send(two.node, body)
            two.links.send(one.node, body)
        bed.reactor.run_once(0.001)
    bed.until(lambda: len(two.got.get(one.node, [])) >= count and len(one.got.get(two.node, [])) >= count)
    assert two.got[one.node] == want
    assert one.got[two.node] == want
    bed.until(lambda: not one.links.pending_bytes(two.node) and not two.links.pending_bytes(one.node))


# ---------------------------------------------------------------- the plain path


def test_one_dials_and_both_send(bed: Bed, unhurried: None) -> None:
    one, two = bed.peer(1), bed.peer(2)
    one.dial(two)
    both_ways(bed, one, two, 10_000)
    assert one.met == [2] and two.met == [1]
    assert one.links.counters.bodies_resent == two.links.counters.bodies_resent == 0
    assert one.links.heard_at(2) > 0 and one.links.met(2) and not one.links.met(3)


def test_both_dial(bed: Bed) -> None:
    one, two = bed.peer(1), bed.peer(2)
    one.dial(two)
    two.dial(one)
    both_ways(bed, one, two, 10_000)
    assert one.met == [2] and two.met == [1]


def test_a_process_that_only_dials(bed: Bed) -> None:
    one, two = bed.peer(1, bind_addr=None), bed.peer(2)
    assert one.links.endpoint == ""
    one.dial(two)
    both_ways(bed, one, two, 1000)


def test_bodies_queued_before_the_peer_is_known_arrive(bed: Bed) -> None:
    one, two = bed.peer(1), bed.peer(2)
    for body in bodies(100):
        one.links.send(2, body)
        two.links.send(1, body)
    one.dial(two)
    bed.until(lambda: len(one.got.get(2, [])) == len(two.got.get(1, [])) == 100)
    assert one.got[2] == two.got[1] == bodies(100)


def test_bodies_of_one_turn_travel_together_and_the_first_at_once(bed: Bed, unhurried: None) -> None:
    one, two = bed.peer(1), bed.peer(2)
    one.dial(two)
    bed.until(lambda: one.met and two.met)
    bed.until(lambda: not one.links.pending_bytes(2))
    before = one.links.counters.packets_sent
    one.links.send(2, b"first")
    assert one.links.counters.packets_sent == before + 1
    for _ in range(500):
        one.links.send(2, b"more")
    bed.until(lambda: len(two.got.get(1, [])) == 501)
    assert one.links.counters.packets_sent == before + 2


def test_large_bodies(bed: Bed) -> None:
    kinds: list[type] = []
    got: list[bytes | memoryview] = []

    def deliver(node: int, body: bytes | memoryview) -> None:
        kinds.append(type(body))
        got.append(body)

    one, two = bed.peer(1), bed.peer(2, deliver=deliver)
    one.dial(two)
    rng = random.Random(1)
    sent = [rng.randbytes(size) for size in (20 << 20, 5, 300_000, 70_000, 0, 1 << 20)]
    for body in sent:
        one.links.send(2, body)
    bed.until(lambda: len(got) == len(sent))
    assert [bytes(body) for body in got] == sent
    assert kinds == [memoryview, bytes, memoryview, memoryview, bytes, memoryview]
    with pytest.raises(ValueError, match="limit"):
        one.links.send(2, bytes(wire.MAX_BODY_BYTES + 1))


def test_acks_come_by_themselves_when_nothing_goes_back(bed: Bed, unhurried: None) -> None:
    one, two = bed.peer(1), bed.peer(2)
    one.dial(two)
    one.links.send(2, b"x")
    bed.until(lambda: two.got)
    bed.until(lambda: not one.links.pending_bytes(2))
    assert one.links.counters.probes == 0  # after 20 ms: not because of the resend timer


def test_ipv6(bed: Bed) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    one, two = bed.peer(1, bind_addr="::1"), bed.peer(2, bind_addr="::1")
    assert one.links.endpoint.startswith("tcp://[::1]:")
    one.dial(two)
    both_ways(bed, one, two, 100)


def test_listening_on_a_descriptor_that_was_kept(bed: Bed) -> None:
    kept = socket.create_server(("127.0.0.1", 0))
    port = kept.getsockname()[1]
    keys = KeyPair.make()
    first = bed.peer(0, keys=keys, listen_fd=kept.dup().detach())
    assert first.links.endpoint == f"tcp://127.0.0.1:{port}"
    one = bed.peer(1)
    one.dial(first)
    both_ways(bed, one, first, 10)
    first.links.close()
    again = bed.peer(0, keys=keys, listen_fd=kept.dup().detach())
    assert again.links.endpoint == first.links.endpoint
    one.links.send(0, b"for the dead or the living")
    bed.until(lambda: one.met == [0, 0] and again.met == [1])
    one.links.send(0, b"for the living")
    bed.until(lambda: again.got.get(1, [])[-1:] == [b"for the living"])
    assert [node for node, _ in one.restarts] == [0]
    kept.close()


# ---------------------------------------------------------------- broken connections


def both_ways_with_cuts(bed: Bed, one: Peer, two: Peer, proxies: list[Proxy], seed: int) -> None:
    """10,000 bodies each way; now and then a proxy cuts after some random bytes, mostly inside a frame."""
    rng = random.Random(seed)
    want = bodies(10_000)
    there, back = two.got.setdefault(1, []), one.got.setdefault(2, [])
    sent = cut_at = 0
    deadline = time.monotonic() + LIMIT_S
    while (done := min(len(there), len(back))) < len(want):
        assert time.monotonic() < deadline, f"only {done} bodies arrived"
        if sent < len(want) and sent - done <= 200:
            for body in want[sent : sent + 100]:
                one.links.send(2, body)
                two.links.send(1, body)
            sent += 100
        cuts = sum(proxy.cuts for proxy in proxies)
        if cuts < 8 and done >= cut_at:
            for proxy in proxies:
                if not proxy.armed:
                    proxy.cut_after(rng.randrange(1, 20_000))
            cut_at = done + 300
        bed.reactor.run_once(0.005)
    assert there == want and back == want
    assert sum(proxy.cuts for proxy in proxies) >= 4
    bed.until(lambda: not one.links.pending_bytes(2) and not two.links.pending_bytes(1))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_cuts_at_random_bytes_lose_and_repeat_nothing(bed: Bed, seed: int) -> None:
    one, two = bed.peer(1), bed.peer(2)
    proxy = bed.proxy(two)
    one.dial(two, proxy)
    both_ways_with_cuts(bed, one, two, [proxy], seed)


@pytest.mark.parametrize("seed", [4, 5])
def test_cuts_when_both_dial(bed: Bed, seed: int) -> None:
    one, two = bed.peer(1), bed.peer(2)
    proxies = [bed.proxy(two), bed.proxy(one)]
    one.dial(two, proxies[0])
    two.dial(one, proxies[1])
    both_ways_with_cuts(bed, one, two, proxies, seed)


def test_stalled_for_longer_than_the_heartbeat(bed: Bed) -> None:
    one, two = bed.peer(1, config=HEARTBEAT), bed.peer(2, config=HEARTBEAT)
    proxy = bed.proxy(two)
    one.dial(two, proxy)
    both_ways(bed, one, two, 100)
    proxy.stall()
    for body in bodies(200)[100:]:
        one.links.send(2, body)
        two.links.send(1, body)
    bed.until(lambda: proxy.accepted >= 2)  # ZeroMQ gave the silent connection up
    assert len(two.got[1]) == 100
    proxy.resume()
    bed.until(lambda: len(two.got[1]) == len(one.got[2]) == 200)
    assert two.got[1] == one.got[2] == bodies(200)


@pytest.mark.parametrize("keep", ["client", "target"])
def test_half_open(bed: Bed, keep: str) -> None:
    one, two = bed.peer(1, config=HEARTBEAT), bed.peer(2, config=HEARTBEAT)
    proxy = bed.proxy(two)
    one.dial(two, proxy)
    both_ways(bed, one, two, 100)
    proxy.half_open(keep)
    for body in bodies(200)[100:]:
        one.links.send(2, body)
        two.links.send(1, body)
    bed.until(lambda: len(two.got[1]) == len(one.got[2]) == 200)
    assert two.got[1] == one.got[2] == bodies(200)


def test_nothing_to_connect_to_at_first(bed: Bed) -> None:
    one, two = bed.peer(1), bed.peer(2)
    proxy = bed.proxy(two)
    proxy.refusing = True
    one.dial(two, proxy)
    for body in bodies(50):
        one.links.send(2, body)
    bed.until(lambda: proxy.accepted >= 3)
    assert not one.met
    proxy.refusing = False
    bed.until(lambda: len(two.got.get(1, [])) == 50)
    assert two.got[1] == bodies(50)


def test_an_unreachable_dial_falls_back_to_the_connection_that_the_peer_made(bed: Bed) -> None:
    one, two = bed.peer(1), bed.peer(2)
    nowhere = bed.proxy(two)
    nowhere.refusing = True
    one.dial(two, nowhere)
    two.dial(one)
    both_ways(bed, one, two, 500)
    nowhere.refusing = False  # now the better path appears in the middle of things
    both = one.links.counters.packets_sent
    one.got.clear(), two.got.clear()
    both_ways(bed, one, two, 5000)
    assert one.links.counters.packets_sent > both


def test_undial_keeps_the_session(bed: Bed) -> None:
    one, two = bed.peer(1), bed.peer(2)
    one.dial(two)
    both_ways(bed, one, two, 100)
    one.links.undial(2)
    for body in bodies(200)[100:]:
        one.links.send(2, body)
        two.links.send(1, body)
    bed.run_for(0.1)
    assert len(two.got[1]) == 100
    one.dial(two)
    bed.until(lambda: len(two.got[1]) == len(one.got[2]) == 200)
    assert two.got[1] == one.got[2] == bodies(200)
    assert one.met == [2] and two.met == [1] and not one.restarts and not two.restarts


# ---------------------------------------------------------------- incarnations


def test_restart_of_the_one_that_dials(bed: Bed) -> None:
    keys = KeyPair.make()
    one, two = bed.peer(1, keys=keys), bed.peer(2)
    one.dial(two)
    both_ways(bed, one, two, 100)
    one.links.close()
    for _ in range(7):
        two.links.send(1, b"for the dead")
    again = bed.peer(1, keys=keys)
    again.dial(two)
    bed.until(lambda: two.met == [1, 1] and again.met == [2])
    assert two.restarts == [(1, 7)]
    two.got.clear()
    both_ways(bed, again, two, 100)  # also: nothing that was meant for the dead comes


def test_forgotten_incarnation_is_not_heard_a_new_one_is(bed: Bed) -> None:
    keys = KeyPair.make()
    one, two = bed.peer(1), bed.peer(2, keys=keys)
    two.dial(one)
    both_ways(bed, one, two, 10)
    one.links.forget(2)
    assert 2 not in one.links.nodes() and one.links.pending_bytes(2) == 0
    two.links.send(1, b"am I dead?")
    bed.until(lambda: one.links.counters.stale > 0)
    assert len(one.got[2]) == 10
    two.links.close()
    again = bed.peer(2, keys=keys)
    again.dial(one)
    one.got.clear()
    both_ways(bed, one, again, 10)


def test_forgetting_inside_deliver(bed: Bed) -> None:
    got: list[bytes] = []
    one = bed.peer(1)

    def deliver(node: int, body: bytes | memoryview) -> None:
        got.append(bytes(body))
        two.links.forget(1)

    two = bed.peer(2, deliver=deliver)
    one.dial(two)
    for body in bodies(10):
        one.links.send(2, body)
    bed.until(lambda: got)
    bed.run_for(0.05)
    assert got == bodies(1)


# ---------------------------------------------------------------- limits and mistakes


def test_limit_of_pending_bytes(bed: Bed) -> None:
    one, two = bed.peer(1, config={"link_window_bytes": 100_000}), bed.peer(2)
    for _ in range(99):
        one.links.send(2, bytes(1000))
    assert one.limits == [(2, True)]
    assert one.links.pending_bytes(2) == 99 * (1000 + wire.BODY_OVERHEAD_BYTES)
    assert one.links.pending_bodies(2) == 99
    one.dial(two)
    bed.until(lambda: one.limits == [(2, True), (2, False)])
    bed.until(lambda: len(two.got.get(1, [])) == 99 and one.links.pending_bytes(2) == 0)


def test_small_wire_window_only_slows_down(bed: Bed) -> None:
    one, two = bed.peer(1, config={"link_wire_window_bytes": 4096}), bed.peer(2)
    one.dial(two)
    both_ways(bed, one, two, 2000, each_turn=2000)


def test_an_exception_in_deliver_costs_one_body(bed: Bed) -> None:
    got: list[bytes] = []

    def deliver(node: int, body: bytes | memoryview) -> None:
        got.append(bytes(body))
        if body == b"3:" + bytes(3):
            raise RuntimeError("on purpose")

    one, two = bed.peer(1), bed.peer(2, deliver=deliver)
    one.dial(two)
    for body in bodies(10):
        one.links.send(2, body)
    bed.until(lambda: len(got) == 10)
    assert got == bodies(10)
    assert bed.reactor.errors == 1
    bed.errors_expected = True  # type: ignore[attr-defined]


def test_wrong_uses(bed: Bed) -> None:
    one = bed.peer(1)
    with pytest.raises(ValueError):
        one.links.send(1, b"to myself")
    with pytest.raises(ValueError):
        one.links.dial(2, "tcp://127.0.0.1:1", "no key")
    with pytest.raises(zmq.ZMQError):
        one.links.dial(2, "nonsense", KeyPair.make().public)
    with pytest.raises(zmq.ZMQError):
        bed.peer(3, bind_addr="no-such-interface")
    one.links.forget(77)
    one.links.undial(77)


# ---------------------------------------------------------------- strangers


class Raw:
    """A bare ZeroMQ DEALER that says what it likes."""

    def __init__(self, bed: Bed, peer: Peer, keys: KeyPair | None) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.set_hwm(0)
        self.socket.setsockopt(zmq.SNDTIMEO, 1000)
        if keys is not None:
            guard_client(self.socket, keys, peer.keys.public)
        self.monitor = self.socket.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED
            | zmq.EVENT_HANDSHAKE_FAILED_AUTH
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
        )
        self.socket.connect(peer.links.endpoint)
        bed.closing.append(lambda: self.context.destroy(0))

    def say(self, kind: int, node: int, *, inc: int = 5, to: int = 0, version: int = wire.WIRE_VERSION) -> None:
        # After a failed handshake libzmq gives up the pipe, and a send would wait for ever: the refusal may be faster.
        with contextlib.suppress(zmq.Again):
            self.socket.send(wire.HEADER.pack(wire.MAGIC, kind, version, node, 0, inc, to, 1, 1))


@pytest.mark.parametrize("has_keys", [False, True])
def test_a_stranger_gets_nothing(bed: Bed, has_keys: bool, caplog: pytest.LogCaptureFixture) -> None:
    peer = bed.peer(2, config={"link_handshake_s": 0.3})
    raw = Raw(bed, peer, KeyPair.make() if has_keys else None)
    raw.say(wire.HELLO, 1)
    bed.until(lambda: raw.monitor.poll(0))
    event = recv_monitor_message(raw.monitor)
    assert event["event"] != zmq.EVENT_HANDSHAKE_SUCCEEDED
    assert not raw.socket.poll(50)
    assert peer.links.counters.packets_received == 0 and not peer.links.nodes()
    if has_keys:  # the server may cut the connection for its silence before the question about the key is answered
        bed.until(lambda: peer.links.zap.rejected >= 1)
        assert peer.links.zap.accepted == 0
        assert "unknown key" in caplog.text


def test_a_key_that_becomes_known_while_its_connection_waits(bed: Bed) -> None:
    keys, known = KeyPair.make(), AllowList()
    two = bed.peer(2, allow=known, config={"link_handshake_s": 30.0})
    one = bed.peer(1, keys=keys)
    one.dial(two)
    one.links.send(2, b"early")
    bed.until(lambda: two.links.zap.held == 1)
    assert not two.links.zap.rejected and not two.met
    known.add(keys.public, 1)
    bed.until(lambda: two.got.get(1) == [b"early"])
    assert two.links.zap.held == 0 and two.links.zap.accepted == 1


def test_a_refused_client_keeps_trying(bed: Bed) -> None:
    known = AllowList()
    two = bed.peer(2, allow=known, config={"link_handshake_s": 0.2})
    one = bed.peer(1, config={"link_handshake_s": 0.2})
    one.dial(two)
    one.links.send(2, b"late")
    bed.until(lambda: two.links.zap.rejected >= 2)
    known.add(one.keys.public, 1)
    bed.until(lambda: two.got.get(1) == [b"late"])


def test_a_stranger_without_zeromq_gets_nothing(bed: Bed) -> None:
    peer = bed.peer(2)
    port = int(peer.links.endpoint.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(random.Random(3).randbytes(5000))
    one = bed.peer(1)
    one.dial(peer)
    both_ways(bed, one, peer, 10)


def test_dialing_with_the_wrong_server_key(bed: Bed) -> None:
    one, two = bed.peer(1), bed.peer(2)
    one.links.dial(2, two.links.endpoint, KeyPair.make().public)
    one.links.send(2, b"secret")
    bed.run_for(0.3)
    assert not one.met and not two.met and not two.got
    one.dial(two)  # the right key replaces the wrong one
    bed.until(lambda: two.got.get(1) == [b"secret"])


def test_a_node_cannot_speak_for_another(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    victim, peer = bed.peer(1), bed.peer(2)
    victim.dial(peer)
    both_ways(bed, victim, peer, 10)
    thief = KeyPair.make()
    bed.allow.add(thief.public, 3)
    raw = Raw(bed, peer, thief)
    raw.say(wire.HELLO, 1)  # the victim
    raw.say(wire.HELLO, 2)  # the peer itself
    bed.until(lambda: peer.links.counters.wrong_identity == 2)
    assert "may not speak for node 1" in caplog.text
    assert not raw.socket.poll(50)
    assert not peer.restarts and peer.met == [1]
    raw.say(wire.HELLO, 3)
    bed.until(lambda: raw.socket.poll(0))
    peer.got.clear(), victim.got.clear()
    both_ways(bed, victim, peer, 10)


def test_a_key_for_any_node(bed: Bed) -> None:
    peer = bed.peer(2)
    keys = KeyPair.make()
    bed.allow.add(keys.public, None)
    raw = Raw(bed, peer, keys)
    raw.say(wire.HELLO, 11)
    raw.say(wire.HELLO, 12)
    bed.until(lambda: peer.met == [11, 12])


def test_a_dialed_server_cannot_speak_for_another_node(bed: Bed) -> None:
    one, two = bed.peer(1), bed.peer(2)
    one.links.dial(5, two.links.endpoint, two.keys.public)  # we think that it is node 5
    one.links.send(5, b"x")
    bed.until(lambda: one.links.counters.wrong_identity >= 1)
    assert not one.met


def test_a_key_that_was_removed_is_refused_on_open_connections_too(bed: Bed) -> None:
    one, two = bed.peer(1), bed.peer(2)
    one.dial(two)
    both_ways(bed, one, two, 10)
    bed.allow.remove(one.keys.public)
    one.links.send(2, b"late")
    bed.until(lambda: two.links.counters.wrong_identity >= 1)
    assert len(two.got[1]) == 10


def test_hostile_packets_from_an_allowed_key(bed: Bed) -> None:
    good, peer = bed.peer(1), bed.peer(2)
    good.dial(peer)
    keys = KeyPair.make()
    bed.allow.add(keys.public, 3)
    raw = Raw(bed, peer, keys)
    rng = random.Random(4)
    valid = wire.HEADER.pack(wire.MAGIC, wire.DATA, wire.WIRE_VERSION, 3, 1, 5, 0, 1, 1) + b"\1\0\0\0x"
    fields = [0, 1, 5, peer.links.incarnation, 2**64 - 1]
    sent = 0
    for i in range(3000):
        kind = i % 6
        if kind == 0:
            raw.socket.send(rng.randbytes(rng.randrange(100)))
        elif kind == 1:
            raw.socket.send(valid[: rng.randrange(len(valid))])
        elif kind == 2:
            raw.socket.send_multipart([valid, valid, b""])
        elif kind == 3:
            raw.socket.send(valid)  # again and again
        else:
            count = rng.choice([0, 1, 1024, 2**32 - 1])
            header = wire.HEADER.pack(
                wire.MAGIC, rng.randrange(9), 1, 3, count, *(rng.choice(fields) for _ in range(4))
            )
            raw.socket.send(header + rng.randbytes(rng.randrange(60)))
        sent += 1
        if i % 500 == 0:
            bed.reactor.run_once(0.0)
    counters = peer.links.counters
    bed.until(lambda: counters.packets_received + counters.malformed >= sent)
    assert counters.malformed > 500
    assert sorted(peer.links.nodes()) == [1, 3]
    assert peer.links.pending_bytes(3) == 0
    assert 3 not in peer.got or all(body == b"x" or len(body) < 60 for body in peer.got[3])
    both_ways(bed, good, peer, 100)


# ---------------------------------------------------------------- versions


def test_another_wire_version_is_refused_by_the_listener(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    peer = bed.peer(2)
    keys = KeyPair.make()
    bed.allow.add(keys.public, 1)
    raw = Raw(bed, peer, keys)
    for _ in range(3):
        raw.say(wire.HELLO, 1, version=wire.WIRE_VERSION + 1)
    bed.until(lambda: raw.socket.poll(0))
    answer = wire.parse_header(raw.socket.recv())
    assert answer[1] == wire.REFUSE and answer[2] == wire.WIRE_VERSION
    bed.until(lambda: peer.links.counters.version_mismatches == 3)
    assert peer.mismatches == [(1, wire.WIRE_VERSION + 1)]
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1 and "install the same hpc" in errors[0].getMessage()
    assert not peer.met


def test_another_wire_version_is_refused_by_the_dialer(bed: Bed) -> None:
    one = bed.peer(1)
    context = zmq.Context()
    bed.closing.append(lambda: context.destroy(0))
    keys = KeyPair.make()
    server = context.socket(zmq.ROUTER)
    guard_server(server, keys)
    port = server.bind_to_random_port("tcp://127.0.0.1")
    one.links.send(2, b"not for you")
    one.links.dial(2, f"tcp://127.0.0.1:{port}", keys.public)
    bed.until(lambda: server.poll(0))
    route, hello = server.recv_multipart()
    assert wire.parse_header(hello)[1:4] == (wire.HELLO, wire.WIRE_VERSION, 1)
    server.send_multipart([route, wire.HEADER.pack(wire.MAGIC, wire.WELCOME, 9, 2, 0, 5, 0, 1, 1)])
    bed.until(lambda: one.mismatches == [(2, 9)])
    bed.until(lambda: server.poll(0))
    assert wire.parse_header(server.recv_multipart()[1])[1] == wire.REFUSE
    bed.run_for(0.5)
    assert not server.poll(0)  # nothing more, above all no body


def test_a_silent_node_is_mentioned(
    bed: Bed, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpc.core.net.links.SILENT_DIAL_S", 0.05)
    one = bed.peer(1)
    one.links.dial(2, "tcp://127.0.0.1:1", KeyPair.make().public)
    bed.until(lambda: "node 2 at tcp://127.0.0.1:1 has not answered" in caplog.text)

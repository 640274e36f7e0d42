"""Bulk data without encryption: the port takes tokens and nothing else, each once; streams may break; the switch."""

from __future__ import annotations

import os
import random
import socket
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import hpc
from hpc.core.net import plain
from hpc.core.net.plain import HELLO, MAGIC, PIECE, PIECE_BYTES, PlainDial, PlainPort, PlainReceiver, PlainSender
from hpc.core.net.reactor import Reactor
from hpc.core.node.settings import switch
from runtime.running import eventually, local_nodes, on, pid_of, store_stats

MIB = 1 << 20
IDENT = b"i" * 16


@hpc.remote(num_cpus=0.2)
def total(array):
    return int(array.sum())


class Desk:
    """A port, who was admitted, and turns of the reactor."""

    def __init__(self):
        self.reactor = Reactor()
        self.admitted = []
        self.port = PlainPort(self.reactor, "127.0.0.1", lambda node, sock: self.admitted.append((node, sock)))
        self.socks = []

    def connect(self, data=b""):
        sock = socket.create_connection(("127.0.0.1", self.port.port), 5)
        self.socks.append(sock)
        sock.sendall(data)
        return sock

    def until(self, check):
        def turned():
            self.reactor.run_once(0.01)
            return check()

        eventually(turned, 5.0)

    def is_closed(self, sock):
        """Whether the port has closed it without a word."""
        sock.setblocking(False)
        try:
            return sock.recv(100) == b""
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True


@contextmanager
def desk():
    made = Desk()
    try:
        yield made
    finally:
        made.port.close()
        for sock in (*made.socks, *(sock for _, sock in made.admitted)):
            sock.close()
        made.reactor.close()


def test_a_good_token_is_admitted_once_and_only_for_its_node():
    with desk() as d:
        token, answer = d.port.issue(7)
        wrong_node = d.connect(HELLO.pack(MAGIC, 8, token))
        d.until(lambda: d.is_closed(wrong_node))
        good = d.connect(HELLO.pack(MAGIC, 7, token))
        d.until(lambda: d.admitted)
        assert good.recv(100) == answer and d.admitted[0][0] == 7
        replayed = d.connect(HELLO.pack(MAGIC, 7, token))
        d.until(lambda: d.is_closed(replayed))
        assert len(d.admitted) == 1 and d.port.refused == 2


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_wrong_tokens_and_none_are_refused(seed):
    rng = random.Random(seed)
    with desk() as d:
        token, _ = d.port.issue(7)
        near = bytearray(token)
        near[rng.randrange(32)] ^= 1 << rng.randrange(8)
        hostile = [
            rng.randbytes(rng.randrange(1, 100_000)),
            rng.randbytes(HELLO.size),
            HELLO.pack(MAGIC, 7, bytes(near)),
            HELLO.pack(MAGIC, 7, b""),
            HELLO.pack(MAGIC, 0, b""),
            HELLO.pack(MAGIC, 9, rng.randbytes(32)) * 100,
            b"GET / HTTP/1.1\r\n\r\n",
            PIECE.pack(MAGIC, IDENT, 0, 2**63, PIECE_BYTES),
        ]
        for data in hostile:
            try:
                sock = d.connect(data)
            except ConnectionError:
                continue  # closed while we spoke
            d.until(lambda sock=sock: d.is_closed(sock))
        assert not d.admitted and not d.reactor.errors
        assert d.port.refused == len(hostile)


def test_a_token_is_good_for_a_short_time(monkeypatch):
    monkeypatch.setattr(plain, "TOKEN_S", -1.0)
    with desk() as d:
        token, _ = d.port.issue(7)
        late = d.connect(HELLO.pack(MAGIC, 7, token))
        d.until(lambda: d.is_closed(late))
        assert not d.admitted


def test_who_says_nothing_is_closed_and_there_is_a_limit_to_them(monkeypatch):
    monkeypatch.setattr(plain, "STRANGER_S", 0.2)
    with desk() as d:
        silent = [d.connect(MAGIC[: i % 4]) for i in range(plain.MAX_STRANGERS + 20)]
        d.until(lambda: d.port.refused >= 20)
        assert len(d.port._strangers) <= plain.MAX_STRANGERS
        d.until(lambda: d.port.refused == len(silent))
        assert not d.port._strangers
        token, _ = d.port.issue(7)
        d.connect(HELLO.pack(MAGIC, 7, token))
        d.until(lambda: d.admitted)


def test_a_port_that_somebody_else_has_taken_is_not_believed():
    with desk() as d:
        heard = []
        token, _ = d.port.issue(7)
        dial = PlainDial(d.reactor, 7, "127.0.0.1", d.port.port, token, b"x" * 32, heard.append, heard.append)
        d.until(lambda: heard)
        dial.close()
        assert heard == ["somebody else listens there"]


@contextmanager
def stream(find, room):
    """A sender and a receiver on a pair of sockets."""
    reactor = Reactor()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        one = socket.create_connection(listener.getsockname())
        two, _ = listener.accept()
    for sock in (one, two):
        sock.setblocking(False)
    events = []
    sender = PlainSender(reactor, one, find, lambda *a: events.append(("lost", *a)), lambda: events.append("reader"))
    receiver = PlainReceiver(reactor, two, room, lambda pull, n: events.append((pull, n)), lambda: events.append("end"))
    try:
        yield reactor, sender, receiver, events
    finally:
        sender.close()
        receiver.close()
        reactor.close()


def turn_until(reactor, check):
    eventually(lambda: (reactor.run_once(0.01), check())[1], 5.0)


def test_bytes_arrive_in_place_and_those_of_a_pull_that_ended_are_dropped():
    """What lies in the room of a pull that has ended is another object's: not a byte is written there."""
    size = 20 * MIB
    source = random.Random(1).randbytes(size)
    there, state = bytearray(size), {"pull": "first"}

    def room(ident, at, part, total):
        return (state["pull"], memoryview(there)[at : at + part]) if state["pull"] else None

    find = lambda ident, at, part, total: memoryview(source)[at : at + part]  # noqa: E731
    with stream(find, room) as (reactor, sender, receiver, events):
        sender.send(IDENT, 0, size, size)
        turn_until(reactor, lambda: len(events) >= 10 and receiver._done)  # in the middle of a piece
        state["pull"] = None
        count, before = len(events), bytes(there)
        sender.send(IDENT, 0, PIECE_BYTES, size)
        turn_until(reactor, lambda: not sender._waiting)
        reactor.run_once(0.05)
        assert len(events) == count and bytes(there) == before
        state["pull"] = "second"
        sender.send(IDENT, 0, size, size)
        turn_until(reactor, lambda: sum(n for _, n in events[count:]) >= size)
        assert bytes(there) == source


def test_what_leaves_memory_before_its_turn_is_not_sent():
    size, gone = 8 * MIB, []

    def find(ident, at, part, total):
        if at >= 4 * MIB:
            gone.append(at)
            return None
        return memoryview(bytes(part))

    room = lambda ident, at, part, total: ("pull", memoryview(bytearray(part)))  # noqa: E731
    with stream(find, room) as (reactor, sender, _, events):
        sender.send(IDENT, 0, size, size)
        turn_until(reactor, lambda: len(events) > 16)
        assert ("lost", IDENT, 4 * MIB, 4 * MIB) in events and len(gone) == 1
        assert sum(n for kind, n in (e for e in events if e[0] == "pull")) == 4 * MIB


@pytest.mark.parametrize(
    "head",
    [
        b"x" * PIECE.size,
        PIECE.pack(MAGIC, IDENT, 5, 4, 1),
        PIECE.pack(MAGIC, IDENT, 0, 9, 0),
        PIECE.pack(MAGIC, IDENT, 0, 1 << 40, PIECE_BYTES + 1),
    ],
)
def test_a_stream_of_nonsense_is_cut(head):
    room = lambda *piece: pytest.fail("nobody should ask where it goes")  # noqa: E731
    with stream(lambda *piece: None, room) as (reactor, sender, _, events):
        sender._sock.send(head)
        turn_until(reactor, lambda: "end" in events)


def ports_of(pid):
    """The TCP ports that a process listens on."""
    nodes = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    found = []
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in nodes:
            found.append(int(fields[1].split(":")[1], 16))
    return found


def test_a_raylet_outlives_a_storm_at_its_ports_and_objects_still_arrive():
    rng = random.Random(5)
    with local_nodes(2, config={"bulk_encryption": False}) as session:
        raylet = pid_of(session.local_dir(), "raylet")
        ports = ports_of(raylet)
        assert len(ports) == 3
        socks = []
        for _ in range(100):
            for port in ports:
                sock = socket.create_connection(("127.0.0.1", port), 5)
                socks.append(sock)
                try:
                    sock.sendall(rng.choice([MAGIC, HELLO.pack(MAGIC, 2, rng.randbytes(32)), rng.randbytes(500)]))
                except OSError:
                    pass
        ref = hpc.put(np.ones(20 * MIB, np.uint8))
        assert hpc.get(total.options(scheduling_strategy=on(2)).remote(ref), timeout=60) == 20 * MIB
        assert store_stats(2)["plain_bytes"] > 20 * MIB
        for sock in socks:
            sock.close()
        assert pid_of(session.local_dir(), "raylet") == raylet


def test_the_switch_is_the_users(monkeypatch):
    assert switch("bulk_encryption", {}) and switch("bulk_encryption", {"bulk_encryption": True})
    assert not switch("bulk_encryption", {"bulk_encryption": False})
    with pytest.raises(ValueError, match="true or false"):
        switch("bulk_encryption", {"bulk_encryption": "perhaps"})
    from hpc.settings.options import load, pass_on, runtime_config

    assert runtime_config(load([], {})) == {}
    assert runtime_config(load([], {"HPC_BULK_ENCRYPTION": "no"})) == {"bulk_encryption": False}
    off = load(["--no-bulk-encryption"], {})
    assert runtime_config(off) == {"bulk_encryption": False} and "--no-bulk-encryption" in pass_on(off)
    with pytest.raises(TypeError, match="True or False"):
        hpc.init(address="local", bulk_encryption="no")

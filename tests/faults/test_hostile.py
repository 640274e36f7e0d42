"""Hostile and broken peers at every socket: nothing is accepted, nothing crashes, memory is bounded."""

from __future__ import annotations

import inspect
import os
import random
import socket
import typing
from pathlib import Path

import msgspec
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hpc
from hpc import spi
from hpc.core import wire
from hpc.core.head.machine import HeadMachine
from hpc.core.ids import Address, raylet_of
from hpc.core.net import stream as stream_module
from hpc.core.net.curve import KeyPair
from hpc.core.node.control import Control, control_pair
from hpc.core.raylet import pressure
from hpc.core.raylet.machine import RayletMachine
from hpc.core.resources import UNIT, NodeResources
from hpc.core.store.layout import Layout
from hpc.core.wire import NodeInfo, NodeRegister, Register, encode_frame
from runtime.running import local_nodes, pid_of, rss_bytes

MIB = 1 << 20


@hpc.remote
def echo(x):
    return x


@pytest.fixture(scope="module")
def nodes():
    """Two nodes; (node directory, pid of the raylet, pid of the head)."""
    with local_nodes(2) as session:
        hpc.get(echo.remote(1))
        there = session.local_dir()
        yield there, pid_of(there, "raylet"), pid_of(there, "head")


def hostile_bytes(rng):
    """Random bytes, frames cut short, frames of nonsense, frames that claim to be huge, frames of others."""
    me, other = Address(1, 7), Address(9, 9)
    good = encode_frame(Address(1, 0), me, [Register("worker", 1, 1, wire.WIRE_VERSION)])
    yield rng.randbytes(rng.randrange(1, 100_000))
    yield good[: rng.randrange(1, len(good))]
    yield good * 50
    yield encode_frame(Address(1, 0), other, [Register("worker", 10**6, 1, wire.WIRE_VERSION)])
    yield wire.HEADER.pack(50, 1, 0, 1, 7) + rng.randbytes(50)
    yield wire.HEADER.pack(2**32 - 1, 1, 0, 1, 7) + rng.randbytes(1000)
    yield wire.HEADER.pack(wire.MAX_FRAME_BYTES, 1, 0, 1, 7) + rng.randbytes(1000)


def test_unix_sockets_outlive_hostile_bytes_and_keep_their_size(nodes):
    there, raylet, head = nodes
    rng = random.Random(3)
    names = ["raylet.sock", next(path.name for path in Path(there).glob("w*.sock"))]

    def storm(rounds):
        for _ in range(rounds):
            for name in names:
                for data in hostile_bytes(rng):
                    with socket.socket(socket.AF_UNIX) as sock:
                        sock.settimeout(60)
                        sock.connect(f"{there}/{name}")
                        try:
                            sock.sendall(data)
                        except OSError:
                            continue

    storm(5)
    before = rss_bytes(raylet)
    storm(25)
    assert hpc.get([echo.remote(n) for n in range(20)], timeout=60) == list(range(20))
    assert rss_bytes(raylet) < before + 16 * MIB
    assert (pid_of(there, "raylet"), pid_of(there, "head")) == (raylet, head)


@hpc.remote
class Kept:
    def pid(self):
        return os.getpid()


def test_a_process_speaks_for_itself_alone(nodes):
    kept = Kept.remote()
    pid, driver = hpc.get(kept.pid.remote()), spi.whoami().process
    gone = wire.ProcessGone(driver, "so I say")
    for path in Path(nodes[0]).glob("w*.sock"):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(60)
            sock.connect(str(path))
            number = int(path.stem[1:])
            sock.sendall(encode_frame(Address(driver.node, number), raylet_of(driver.node), [gone]))
            assert sock.recv(1) == b"", "who says that he is a raylet is cut off"
    assert hpc.get(kept.pid.remote(), timeout=60) == pid


def test_connections_that_say_nothing_have_a_limit(nodes):
    there, raylet, _ = nodes
    silent = []
    try:
        for _ in range(pressure.MAX_STRANGERS + 20):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(f"{there}/raylet.sock")
            silent.append(sock)
        silent[0].settimeout(60)
        assert silent[0].recv(1) == b""
        assert hpc.get(echo.remote(1), timeout=60) == 1
        assert len(os.listdir(f"/proc/{raylet}/fd")) < pressure.MAX_STRANGERS + 150
    finally:
        for sock in silent:
            sock.close()


@pytest.mark.parametrize("what", ["no keys", "stranger", "garbage"])
def test_zeromq_ports_let_nobody_in(nodes, what):
    _, raylet, head = nodes
    info = hpc.nodes()[0]
    ports = [info["NodeManagerPort"]]
    head_ports = [p for p in listening(head) if p]
    before = rss_bytes(raylet), rss_bytes(head)
    context = zmq.Context()
    try:
        for port in [*ports, *head_ports]:
            if what == "garbage":
                with socket.create_connection(("127.0.0.1", port)) as sock:
                    sock.sendall(random.Random(1).randbytes(200_000))
                continue
            dealer = context.socket(zmq.DEALER)
            dealer.setsockopt(zmq.LINGER, 0)
            if what == "stranger":
                keys = KeyPair.make()
                dealer.setsockopt(zmq.CURVE_PUBLICKEY, keys.public.encode())
                dealer.setsockopt(zmq.CURVE_SECRETKEY, keys.secret.encode())
                dealer.setsockopt(zmq.CURVE_SERVERKEY, keys.public.encode())
            dealer.connect(f"tcp://127.0.0.1:{port}")
            for _ in range(50):
                try:
                    dealer.send(bytes(1000), zmq.NOBLOCK)
                except zmq.Again:
                    break
            assert not dealer.poll(300)
            dealer.close()
    finally:
        context.destroy(0)
    assert hpc.get(echo.remote(2), timeout=60) == 2
    assert [n["Alive"] for n in hpc.nodes()] == [True, True]
    assert rss_bytes(raylet) < before[0] + 16 * MIB
    assert rss_bytes(head) < before[1] + 16 * MIB


def listening(pid):
    """The TCP ports that a process listens on."""
    inodes = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        target = os.readlink(f"/proc/{pid}/fd/{fd}")
        if target.startswith("socket:"):
            inodes.add(target[8:-1])
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and row[9] in inodes]


# ---------------------------------------------------------------- the machines: what a peer with a valid key may say

VALUES = {
    int: st.integers(-1, 1 << 33),
    float: st.floats(),
    str: st.text(max_size=5),
    bool: st.booleans(),
    bytes: st.binary(max_size=20),
    typing.Any: st.none() | st.sampled_from(["DEFAULT", "SPREAD", "x", ["node", 1, True], ["node"], [], 5, {}]),
}


def values_of(kind):
    """A strategy for a field's type."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Address:
        return st.builds(Address, st.integers(0, 5), st.integers(0, 5))
    if origin is list:
        return st.lists(values_of(args[0]), max_size=3)
    if origin is typing.Literal:
        return st.sampled_from(args)
    if origin is tuple:
        return st.tuples(*map(values_of, args))
    if origin is dict:
        keys = st.sampled_from(["CPU", "GPU", "x"]) if args[0] is str else values_of(args[0])
        return st.dictionaries(keys, values_of(args[1]), max_size=3)
    if inspect.isclass(kind) and issubclass(kind, msgspec.Struct):
        return any_message(kind)
    return VALUES[kind] if kind in VALUES else st.one_of(*map(values_of, args))


def any_message(kind):
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{name: values_of(hint) for name, hint in hints.items()})


def heads_messages():
    machine = HeadMachine()
    return st.one_of(*map(any_message, machine.handlers))


def info(node):
    return NodeInfo(node, "h", "e", "k", {"CPU": 2 * UNIT}, {}, False, 1, "/d")


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(heads_messages(), max_size=6), st.integers(0, 3))
def test_the_head_outlives_whatever_a_node_says(messages, proc):
    head = HeadMachine()
    for node in (1, 2):
        head.handle(Address(node, 0), [NodeRegister(info(node), wire.WIRE_VERSION)], 0.0)
    for msg in messages:
        try:
            head.handle(Address(2, proc), [msg], 0.0)
        except Exception:  # the links log it and go on with the next body
            continue
    head.outbox.clear()
    head.journal.clear()
    want = wire.NodeDemand(1, 77, {"CPU": UNIT}, {"CPU": UNIT}, "DEFAULT", 1)
    head.handle(Address(1, 0), [want, wire.Heartbeat(1, {"CPU": 2 * UNIT}, 0, 0)], 0.1)
    assert head.tick(0.2) > 0.2
    told = [m for dst, m in head.outbox if dst == Address(1, 0)]
    assert any(type(m) is wire.HeartbeatAck for m in told)
    if all(type(m) is not wire.NodeDemand for m in messages):  # one that makes sense may take the room
        assert any(type(m) is wire.Tickets and m.shape == 77 for m in told), "nonsense keeps others waiting"
    assert 1 in head.nodes and 1 not in head.dead


class NoArena:
    overflow_bytes = 0

    def read(self, offset, size):
        return b""


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_raylet_outlives_whatever_its_processes_say(data):
    totals = {"CPU": 2 * UNIT}
    raylet = RayletMachine(info(1), NodeResources(totals), Layout(1 << 20), NoArena())
    driver = raylet.driver_joined(1, b"")
    evil = raylet.driver_joined(2, b"")
    messages = data.draw(st.lists(st.one_of(*map(any_message, raylet.handlers)), max_size=6))
    for msg in messages:
        try:
            raylet.handle(Address(1, evil.proc), [msg])
        except Exception:
            continue
    raylet.process_gone(evil.proc, "it was hostile")
    raylet.memory_gone(evil.proc)
    raylet.outbox.clear()
    raylet.handle(Address(1, driver.proc), [wire.Alloc(1, 1000, bytes(16))])
    assert any(type(m) is wire.Allocated for _, m in raylet.outbox)
    assert raylet.tick(1.0) >= 1.0


# ---------------------------------------------------------------- limits


def test_control_sockets_take_no_nonsense():
    ours, theirs = control_pair()
    control = Control(ours)
    for data in (b"\xff\xfe", b"[1]", b"{", b'{"op": 5}', b"null"):
        theirs.send(data)
    theirs.send(b'{"op":"stop"}')
    assert control.receive() == [{"op": 5}, {"op": "stop"}]
    theirs.close()
    assert control.receive() == [] and control.eof
    control.close()


def test_the_other_end_of_a_socket_must_be_ours(monkeypatch):
    ours, theirs = socket.socketpair()
    assert stream_module.check_peer(ours) == os.getpid()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(PermissionError):
        stream_module.check_peer(ours)
    ours.close()
    theirs.close()

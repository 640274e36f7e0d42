"""Processes and nodes that do not keep up: senders are slowed down, memory is bounded, nothing is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from pathlib import Path

import hpc
from hpc.core import wire
from hpc.core.ids import HEAD, Address
from hpc.core.net.stream import Stream
from hpc.core.raylet import pressure
from hpc.core.raylet.pressure import Pressure, Strangers
from hpc.core.wire import Register, encode_frame
from hpc.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from runtime.running import eventually, local_nodes, pid_of, rss_bytes

MIB = 1 << 20


@hpc.remote
def echo(x):
    return x


def test_processes_that_send_to_a_full_link_are_not_read_until_it_drains():
    reading = {}
    pressure = Pressure(lambda number, on: reading.__setitem__(number, on))
    pressure.sent(1, 5)
    assert not reading
    pressure.on_limit(5, True)
    pressure.sent(1, 5)
    pressure.sent(2, 6)
    pressure.sent(3, 5)
    assert reading == {1: False, 3: False}
    pressure.gone(3)
    pressure.on_limit(5, False)
    assert reading == {1: True, 3: False}
    pressure.on_limit(6, True)
    pressure.sent(2, 6)
    pressure.forget(6)  # the node has died
    assert reading[2] is True and not pressure.paused and not pressure.full


def test_senders_to_a_slow_node_are_slowed_down_and_nothing_is_lost():
    """A window of 1 MiB, and 80 MB of arguments for another node while its raylet is stopped for a moment."""
    with local_nodes(2, config={"link_window_bytes": MIB}) as session:
        there = os.path.dirname(hpc.nodes()[1]["RayletSocketName"])
        far = echo.options(scheduling_strategy=NodeAffinitySchedulingStrategy("2"))
        assert hpc.get(far.remote(0)) == 0

        @hpc.remote(num_cpus=0)
        class Far:
            def size(self, data):
                return len(data)

        actor = Far.options(scheduling_strategy=NodeAffinitySchedulingStrategy("2")).remote()
        assert hpc.get(actor.size.remote(b"x")) == 1
        raylet, other = pid_of(session.local_dir(), "raylet"), pid_of(there, "raylet")
        before = rss_bytes(raylet)
        os.kill(other, signal.SIGSTOP)
        try:
            refs = [actor.size.remote(bytes(90_000)) for _ in range(900)]
            log = Path(session.local_dir(), "logs", "raylet.log")
            eventually(lambda: "node 2 does not keep up" in log.read_text())
            time.sleep(0.3)  # nothing more comes in
            assert rss_bytes(raylet) < before + 48 * MIB  # the window and a frame; the rest waits in the sender
        finally:
            os.kill(other, signal.SIGCONT)
        assert hpc.get(refs, timeout=30) == [90_000] * 900
        assert hpc.get(far.remote(5), timeout=60) == 5


def test_strangers_have_a_limit(monkeypatch):
    monkeypatch.setattr(pressure, "MAX_STRANGERS", 2)
    closed = []
    strangers = Strangers(closed.append)
    pairs = [socket.socketpair() for _ in range(4)]
    streams = [Stream(ours) for ours, _ in pairs]
    for one in streams[:3]:
        strangers.add(one)
    assert closed == [streams[0]]
    strangers.remove(streams[1])
    strangers.add(streams[3])
    assert closed == [streams[0]]
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


def test_a_process_that_does_not_read_is_disconnected_at_the_limit():
    """The driver's raylet, seen from a process that registers and then never reads what it asked for."""
    with local_nodes(1) as session:
        there = session.local_dir()
        log = Path(there, "logs", "raylet.log")
        ref = hpc.put(b"x")
        assert hpc.get(ref) == b"x"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(f"{there}/raylet.sock")
            sock.sendall(encode_frame(HEAD, HEAD, [Register("driver", 0, os.getpid(), wire.WIRE_VERSION)]))
            header = sock.recv(wire.HEADER_BYTES, socket.MSG_WAITALL)
            size, node, proc, _, _ = wire.HEADER.unpack(header)
            sock.recv(size, socket.MSG_WAITALL)
            me = Address(node, proc)
            frame = encode_frame(me, me, [wire.KvPut(1, "", b"", bytes(8 * MIB))])
            sock.settimeout(20)
            with contextlib.suppress(OSError):
                for _ in range(pressure.MAX_UNSENT_BYTES // len(frame) + 5):
                    sock.sendall(frame)
        eventually(lambda: "does not read" in log.read_text())
        assert hpc.get(echo.remote(6), timeout=60) == 6

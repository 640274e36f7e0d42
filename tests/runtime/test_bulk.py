"""The raylet's bulk side of two nodes in one process: streams that break, ports that cannot be reached."""

from __future__ import annotations

import errno
import random
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from hpc.core.ids import Address, make_id
from hpc.core.net.reactor import Reactor
from hpc.core.raylet import bulk as bulk_module
from hpc.core.raylet.bulk import Bulk
from hpc.core.raylet.machine import RayletMachine
from hpc.core.raylet.tables import Stored
from hpc.core.resources import UNIT, NodeResources
from hpc.core.store.arena import SLOTS_BYTES, copy, create_arena
from hpc.core.store.layout import Layout
from hpc.core.store.overflow_file import ArenaWithOverflow
from hpc.core.wire import Fetch, Fetched, NodeInfo
from runtime.running import eventually

MIB = 1 << 20
SIZE = 48 * MIB
STORE = 64 * MIB
IDENT = make_id(Address(1, 5), 1)


class Wire:
    """Links between the two, without a network."""

    def __init__(self, reactor):
        self.reactor = reactor
        self.deliver = {}
        self.chunk_bytes = 0

    def make(self, node):
        def links(config, deliver):
            self.deliver[node] = deliver
            return SimpleNamespace(send=lambda to, body: self.send(node, to, body), close=lambda: None,
                                   forget=lambda node: None)  # fmt: skip

        return links

    def send(self, node, to, body):
        self.chunk_bytes += len(body) if len(body) > MIB else 0
        self.reactor.call_soon(lambda: self.deliver[to](node, body))


class Node:
    def __init__(self, wire, number, config):
        spec = SimpleNamespace(node=number, config=config, gateway=False, interface_addr="127.0.0.1")
        self.arena = ArenaWithOverflow(create_arena(STORE), STORE)
        info = NodeInfo(number, "h", "", "", {"CPU": UNIT}, {}, False, 1, "/")
        layout = Layout(STORE, SLOTS_BYTES)
        self.machine = RayletMachine(info, NodeResources({"CPU": UNIT}, {}), layout, self.arena)
        self.bulk = Bulk(spec, wire.reactor, wire.make(number), self.settle)
        self.bulk.attach(self.machine, self.arena)

    @property
    def pulls(self):
        return self.machine.store.pulls

    def settle(self):
        bulk = self.machine.bulk
        while bulk:
            node, msg = bulk.pop(0)
            self.bulk.send(node, msg)

    def answers(self):
        return [msg for _, msg in self.machine.outbox if isinstance(msg, Fetched)]


@contextmanager
def two_nodes(encrypted=False):
    """Node 1 with an object, and node 2, which is asked for it."""
    reactor = Reactor()
    wire = Wire(reactor)
    one, two = (Node(wire, number, {"bulk_encryption": encrypted}) for number in (1, 2))
    data = random.Random(1).randbytes(SIZE)
    offset = one.machine.store.layout.alloc(SIZE)
    copy(one.arena.writable(offset, SIZE), memoryview(data))
    obj = Stored(IDENT, offset, SIZE)
    one.machine.store.stored[IDENT] = one.machine.store.lru[IDENT] = obj
    two.machine.handle(Address(2, 9), [Fetch(IDENT, SIZE, [1])])
    two.settle()
    try:
        yield SimpleNamespace(reactor=reactor, wire=wire, one=one, two=two, data=data, obj=obj)
    finally:
        for node in (one, two):
            node.bulk.close()
            node.arena.close()
        reactor.close()


def until(net, check):
    eventually(lambda: (net.reactor.run_once(0.01), check())[1], 8.0)


def has_come(net):
    (answer,) = net.two.answers()
    return answer.offset >= 0 and bytes(net.two.arena.readable(answer.offset, SIZE)) == net.data


@pytest.mark.parametrize("side", ["reader", "source"])
def test_a_stream_that_breaks_is_opened_again_and_the_object_comes_once_and_whole(side):
    with two_nodes() as net:
        until(net, lambda: half(net))
        if side == "reader":
            net.two.bulk.sources[1].receiver._sock.shutdown(2)
        else:
            net.one.bulk.senders[2]._sock.shutdown(2)
        until(net, net.two.answers)
        assert has_come(net) and net.wire.chunk_bytes == 0
        assert net.two.pulls.plain_bytes > SIZE  # some of it twice


def half(net):
    return net.two.pulls.received_bytes > 4 * MIB and net.two.pulls.incoming


def test_a_port_that_nobody_can_reach_is_said_and_the_object_comes_encrypted(monkeypatch, caplog):
    monkeypatch.setattr(bulk_module, "AGAIN_S", 0.01)
    with two_nodes() as net:
        net.one.bulk.port.close()
        until(net, net.two.answers)
        assert has_come(net) and net.two.pulls.plain_bytes == 0 and net.wire.chunk_bytes >= SIZE
        assert "come encrypted" in caplog.text


@pytest.mark.parametrize("encrypted", [False, True])
def test_pieces_are_placed_by_the_shell_whichever_way_they_come(encrypted):
    with two_nodes(encrypted) as net:
        until(net, net.two.answers)
        assert has_come(net)
        assert (net.two.pulls.plain_bytes, net.two.pulls.received_bytes) == (0 if encrypted else SIZE, SIZE)


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_piece_for_which_there_is_no_memory_fails_its_pull_and_nothing_else(encrypted, monkeypatch):
    def full(offset, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    with two_nodes(encrypted) as net:
        monkeypatch.setattr(net.two.arena, "writable", full)
        until(net, net.two.answers)
        (answer,) = net.two.answers()
        assert answer.offset < 0 and not net.two.pulls.incoming and not net.two.pulls.received_bytes


def test_an_object_that_was_freed_while_it_is_sent_is_not_sent_on():
    """Its memory is another's then. Its reader hears that it is gone."""
    with two_nodes() as net:
        until(net, lambda: half(net))
        net.obj.freed = True
        net.one.machine.store._maybe_drop(net.obj)
        until(net, net.two.answers)
        (answer,) = net.two.answers()
        assert answer.offset < 0 and answer.lost == [1]


def test_a_node_that_is_gone_leaves_no_socket_and_no_token():
    with two_nodes() as net:
        until(net, lambda: half(net))
        net.one.bulk.port.issue(2)
        net.one.bulk.forget(2)
        net.two.bulk.forget(1)
        assert not net.one.bulk.senders and not net.two.bulk.sources and not net.one.bulk.port._tokens

"""Channels between the processes of a session, as libraries use them."""

from __future__ import annotations

import gc
import os
import threading

import pytest

import hpc
from hpc import spi
from hpc.core.process.current import need_client
from hpc.exceptions import GetTimeoutError
from runtime.running import eventually, kill9, local_nodes, on

MIB = 1 << 20


@pytest.fixture(scope="module")
def session():
    with local_nodes(2, num_cpus=2) as session:
        yield session


@pytest.fixture
def name(request):
    """A name of this test's own."""
    return request.node.name


@hpc.remote
class Peer:
    """A process with channels."""

    def where(self):
        return spi.whoami().process

    def pid(self):
        return os.getpid()

    def listen(self, name):
        self.mailbox = spi.listen(name)

    def accept(self):
        self.channel = self.mailbox.accept(30)
        return self.channel.peer

    def connect(self, process, name):
        self.channel = spi.connect(process, name, 30)

    def send(self, messages):
        for message in messages:
            self.channel.send(message)

    def recv(self, count):
        return [self.channel.recv(30) for _ in range(count)]

    def echo(self):
        with self.channel:
            for message in self.channel:
                self.channel.send(message)

    def close(self):
        self.channel.close()

    def say_and_die(self, name, words, closes):
        channel = spi.listen(name).accept(30)
        for word in words:
            channel.send(word)
        if closes:
            channel.close()
        os._exit(0)


@pytest.fixture
def peers(session):
    """An actor on each node, with the address of its process."""
    made = [Peer.options(scheduling_strategy=on(node), num_cpus=0).remote() for node in (1, 2)]
    yield made
    for one in made:
        hpc.kill(one)


def where(peer):
    return hpc.get(peer.where.remote(), timeout=30)


def open_to(peer, name):
    """A channel from the driver to an actor, which has accepted it."""
    address = where(peer)
    hpc.get(peer.listen.remote(name))
    accepted = peer.accept.remote()
    channel = spi.connect(address, name, 30)
    assert hpc.get(accepted, timeout=30) == spi.whoami().process and channel.peer == address
    return channel


@pytest.mark.parametrize("node", [0, 1])
def test_messages_come_in_order_each_way(peers, name, node):
    with open_to(peers[node], name) as channel:
        done = peers[node].echo.remote()
        sent = [b"%d" % number for number in range(300)] + [b"", bytes(3 * MIB), bytearray(b"array")]
        thread = threading.Thread(target=lambda: [channel.send(one) for one in sent])
        thread.start()
        assert [channel.recv(30) for _ in sent] == [bytes(one) for one in sent]
        thread.join()
    assert hpc.get(done, timeout=30) is None, "its loop ends with the channel"


def test_two_workers_talk_to_each_other(peers, name):
    one, two = peers
    first, second = where(one), where(two)
    hpc.get(two.listen.remote(name))
    accepted = two.accept.remote()
    hpc.get(one.connect.remote(second, name), timeout=30)
    assert hpc.get(accepted, timeout=30) == first
    hpc.get(one.send.remote([b"a", b"b"]))
    assert hpc.get(two.recv.remote(2), timeout=30) == [b"a", b"b"]


def test_a_sender_waits_for_a_reader_that_does_not_read(peers, name):
    with open_to(peers[1], name) as channel:
        sent = 4
        for _ in range(sent):
            channel.send(bytes(MIB), timeout_s=60)
        with pytest.raises(GetTimeoutError, match="took nothing"):
            channel.send(bytes(MIB), timeout_s=0.2)
        waiting = threading.Thread(target=channel.send, args=(b"end",))
        waiting.start()
        assert [len(one) for one in hpc.get(peers[1].recv.remote(sent + 1), timeout=30)] == [MIB] * sent + [3]
        waiting.join(60)
        assert not waiting.is_alive()


def test_a_worker_that_waits_for_a_message_lends_its_cpu(session, name):
    """Two nodes with two CPUs each: four tasks wait for what the fifth sends."""

    @hpc.remote
    def wait(number, key):
        with spi.listen(f"{key}{number}") as mailbox:
            spi.kv_put(key, str(number), b"%d %d" % spi.whoami().process)
            with mailbox.accept(60) as channel:
                return channel.recv(60)

    @hpc.remote
    def tell(key):
        found = {}
        with spi.watch(key, prefix=True) as watch:
            while len(found) < 4:
                found.update({change.key: change.value for change in watch.next(30)})
        for number, address in found.items():
            with spi.connect(spi.Address(*map(int, address.split())), f"{key}{number}", 30) as channel:
                channel.send(b"go")
        return True

    waiting = [wait.remote(number, name) for number in range(4)]
    eventually(lambda: len(spi.kv_keys(name)) == 4, 30)
    assert hpc.get(tell.remote(name), timeout=60)
    assert hpc.get(waiting, timeout=60) == [b"go"] * 4


def test_what_was_sent_before_a_close_is_read(peers, name):
    channel = open_to(peers[1], name)
    hpc.get(peers[1].send.remote([b"1", b"2"]))
    hpc.get(peers[1].close.remote())
    with pytest.raises(spi.ChannelEnded, match="closed it") as end:
        eventually(lambda: channel.send(b"3"))
    assert not end.value.lost
    assert list(channel) == [b"1", b"2"]
    channel.close()
    with pytest.raises(spi.ChannelEnded):
        channel.recv()
    assert not need_client().machine.channels.halves


def test_the_death_of_the_other_process_ends_a_wait(peers, name):
    channel = open_to(peers[1], name)
    pid = hpc.get(peers[1].pid.remote())
    threading.Timer(0.2, kill9, (pid,)).start()
    with pytest.raises(spi.ChannelEnded, match="has ended") as end:
        channel.recv(30)
    assert end.value.lost
    with pytest.raises(spi.ChannelEnded):
        channel.send(b"")
    with pytest.raises(spi.ChannelEnded):
        list(channel)
    with pytest.raises(spi.ChannelEnded, match="no channel") as end:
        spi.connect(channel.peer, name, 30)
    assert end.value.lost


@pytest.mark.parametrize("closes", [True, False])
def test_what_a_process_of_this_node_said_before_it_died_is_read(session, name, closes):
    words = [b"%d" % number for number in range(5)]
    for _ in range(8):
        peer = Peer.options(scheduling_strategy=on(1), num_cpus=0).remote()
        address = where(peer)
        peer.say_and_die.remote(name, words, closes)
        channel = spi.connect(address, name, 30)
        assert [channel.recv(30) for _ in words] == words
        with pytest.raises(spi.ChannelEnded) as end:
            channel.recv(30)
        assert end.value.lost != closes


def test_nobody_who_listens_is_waited_for_as_long_as_one_wants(peers, name):
    address = where(peers[1])
    with pytest.raises(GetTimeoutError, match="accepted no channel"):
        spi.connect(address, name, timeout_s=0.3)
    hpc.get(peers[1].listen.remote(name))
    accepted = peers[1].accept.remote()
    channel = spi.connect(address, name, 30)
    hpc.get(accepted, timeout=30)
    hpc.get(peers[1].send.remote([b"x"]))
    assert channel.recv(10) == b"x", "the one that was given up is not the one that is accepted"
    channel.close()


def test_a_mailbox_that_closes_refuses_those_who_wait(session, name):
    me = spi.whoami().process
    mailbox = spi.listen(name)
    with pytest.raises(ValueError, match="already"):
        spi.listen(name)
    with pytest.raises(GetTimeoutError):
        mailbox.accept(0.05)
    found: list[Exception] = []

    def call():
        try:
            spi.connect(me, name, 30)
        except spi.ChannelEnded as end:
            found.append(end)

    thread = threading.Thread(target=call)
    thread.start()
    eventually(lambda: need_client().machine.channels.boxes[name])
    mailbox.close()
    thread.join(30)
    assert "does not listen" in str(found[0]) and not found[0].lost
    with pytest.raises(ValueError, match="closed"):
        mailbox.accept()
    with spi.listen(name):
        pass


def test_what_is_dropped_closes_itself(peers, name):
    channels = need_client().machine.channels
    channel = open_to(peers[0], name)
    hpc.get(peers[0].send.remote([b"1"]))
    mailbox = spi.listen(name)
    del channel, mailbox
    gc.collect()
    eventually(lambda: not channels.halves and name not in channels.boxes)


def test_what_cannot_be_is_refused(peers, name):
    with open_to(peers[0], name) as channel:
        with pytest.raises(ValueError, match="in pieces"):
            channel.send(bytes(spi.MAX_MESSAGE_BYTES + 1))
        with pytest.raises(TypeError):
            channel.send("text")
    for address in ((0, 0), (1, 0), "1.2", None):
        with pytest.raises(ValueError, match="address"):
            spi.connect(address, name)
    with pytest.raises(ValueError, match="name"):
        spi.listen("")

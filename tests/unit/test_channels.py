"""Channels between processes: messages arrive once and in order whichever way they come, a slow reader holds up its
sender, and each end is told."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc.core.ids import Address
from hpc.core.owner import channels
from hpc.core.owner.channels import MESSAGE_BYTES, WINDOW_BYTES
from hpc.core.owner.machine import OwnerMachine
from hpc.core.owner.tables import Waiter
from hpc.core.wire import (
    ChannelData,
    ChannelEnd,
    ChannelOpen,
    ChannelTaken,
    NodeDied,
    ProcessGone,
    decode_body,
    encode_body,
)

ONE, TWO = Address(1, 2), Address(2, 3)


class Net:
    """Two processes, and messages between them that go one of two ways: in order on each, and not beside each other."""

    def __init__(self, rng=None):
        self.machines = {addr: OwnerMachine(addr) for addr in (ONE, TWO)}
        self.ways: dict[tuple[Address, Address, int], list[bytes]] = {}
        self.rng = rng or random.Random(0)
        self.dead: set[Address] = set()

    def collect(self):
        for src, machine in self.machines.items():
            for dst, messages in machine.take_outbox(everything=True):
                if src not in self.dead and dst in self.machines:
                    way = self.rng.randint(0, 1)
                    self.ways.setdefault((src, dst, way), []).append(encode_body(messages))

    def step(self):
        self.collect()
        busy = [way for way, bodies in self.ways.items() if bodies]
        if not busy:
            return False
        src, dst, which = self.rng.choice(busy)
        body = self.ways[src, dst, which].pop(0)
        if dst not in self.dead:
            self.machines[dst].handle(src, decode_body(body))
        return True

    def settle(self):
        while self.step():
            pass

    def pair(self):
        one, two = self.machines[ONE].channels, self.machines[TWO].channels
        two.listen("box")
        mine = one.open(TWO, "box")
        self.settle()
        theirs = two.accept("box")
        self.settle()
        assert mine.accepted and theirs.peer == ONE
        return one, mine, two, theirs


@pytest.mark.parametrize(
    "msg",
    [ChannelOpen(1, "n"), ChannelData(1, True, 2, b"d"), ChannelTaken(1, False, 9), ChannelEnd(1, True, 3, "why")],
)
def test_messages_travel_whole(msg):
    assert decode_body(encode_body([msg])) == [msg]


@settings(max_examples=150)
@given(st.integers(0, 1 << 30), st.integers(1, 60), st.booleans())
def test_messages_arrive_once_and_in_order_whichever_way_they_come(seed, count, closes):
    rng = random.Random(seed)
    net = Net(rng)
    one, mine, two, theirs = net.pair()
    size = WINDOW_BYTES // 8
    sent, got, back, got_back = 0, [], 0, []
    for _ in range(20_000):
        choice = rng.random()
        if choice < 0.3 and sent < count and mine.has_room:
            one.send(mine, sent.to_bytes(4, "big") + bytes(rng.choice([0, size])))
            sent += 1
            if sent == count and closes:
                one.close(mine)
        elif choice < 0.4 and back < 5 and theirs.has_room and not theirs.ended:
            two.send(theirs, b"back%d" % back)
            back += 1
        elif choice < 0.6:
            data = two.take(theirs)
            if data is not None:
                got.append(int.from_bytes(data[:4], "big"))
            if not closes and (data := one.take(mine)) is not None:
                got_back.append(data)
        else:
            net.step()
        assert sum(map(len, theirs.queue)) + sum(map(len, theirs.early.values())) <= WINDOW_BYTES + size + 4
        if len(got) == count and (closes or got_back == [b"back%d" % n for n in range(5)]):
            break
    assert got == list(range(count))
    net.settle()
    assert theirs.is_drained == closes and not theirs.lost
    if closes:
        two.close(theirs)
        net.settle()
        assert not one.halves and not two.halves


def test_a_sender_waits_for_a_reader_that_takes_nothing():
    net = Net()
    one, mine, two, theirs = net.pair()
    count = 0
    while mine.has_room:
        one.send(mine, bytes(1000))
        count += 1
    assert count == -(-WINDOW_BYTES // (1000 + MESSAGE_BYTES))
    net.settle()
    assert not mine.has_room
    waiter = Waiter(1)
    mine.waiters.append(waiter)
    while not mine.has_room:
        assert two.take(theirs) is not None
        net.settle()
    assert waiter.needed == 0 and waiter in net.machines[ONE].woken and mine.waiters == []


def test_a_reader_is_woken_by_a_message_and_by_the_end():
    net = Net()
    one, mine, _, theirs = net.pair()
    for happens in (lambda: one.send(mine, b""), lambda: one.close(mine)):
        waiter = Waiter(1)
        theirs.waiters.append(waiter)
        happens()
        net.settle()
        assert waiter.needed == 0


def test_what_was_sent_before_a_close_is_read_and_nothing_can_be_sent():
    net = Net()
    one, mine, two, theirs = net.pair()
    one.send(mine, b"last")
    one.close(mine)
    net.settle()
    assert theirs.ended and not theirs.is_drained and "1.2 has closed it" in theirs.why
    assert two.take(theirs) == b"last" and theirs.is_drained and not theirs.lost


@pytest.mark.parametrize("how", [ProcessGone(ONE, "gone"), NodeDied(1, "no word")])
def test_the_end_of_the_other_process_is_told_and_what_has_come_is_read(how):
    net = Net()
    one, mine, two, theirs = net.pair()
    one.send(mine, b"came")
    net.settle()
    one.send(mine, b"on its way")
    net.collect()
    net.machines[TWO].handle(Address(2, 0), [how])
    net.settle()
    assert theirs.ended and theirs.lost and not theirs.is_drained
    assert two.take(theirs) == b"came" and theirs.is_drained and two.take(theirs) is None
    assert not two.halves


def test_a_process_that_closes_and_ends_has_lost_nothing():
    net = Net()
    one, mine, two, theirs = net.pair()
    one.send(mine, b"all")
    one.close(mine)
    net.settle()
    net.machines[TWO].handle(Address(2, 0), [ProcessGone(ONE, "gone")])
    assert two.take(theirs) == b"all" and theirs.is_drained and not theirs.lost


def test_a_channel_waits_for_a_process_that_will_listen():
    net = Net()
    one, two = net.machines[ONE].channels, net.machines[TWO].channels
    mine, other = one.open(TWO, "late"), one.open(TWO, "late")
    net.settle()
    assert not mine.accepted and not mine.ended
    assert two.listen("late") and not two.listen("late")
    assert two.accept("late").number == mine.number
    net.settle()
    assert mine.accepted and not other.accepted
    two.listen_no_more("late")
    net.settle()
    assert other.ended and "does not listen" in other.why and other.is_drained and not mine.ended


def test_openers_that_give_up_or_end_leave_nothing(monkeypatch):
    net = Net()
    one, two = net.machines[ONE].channels, net.machines[TWO].channels
    two.listen("box")
    for name in ("box", "none"):
        one.close(one.open(TWO, name))
        net.settle()
        one.open(TWO, name)
        net.settle()
    assert len(two.halves) == 2
    net.machines[TWO].handle(Address(2, 0), [ProcessGone(ONE, "gone")])
    assert not two.halves and not two.early and not two.boxes["box"] and two.accept("box") is None
    monkeypatch.setattr(channels, "MAX_EARLY", 2)
    net = Net()
    halves = [net.machines[ONE].channels.open(TWO, f"n{number}") for number in range(3)]
    net.settle()
    assert [half.ended for half in halves].count(True) == 1 and len(net.machines[TWO].channels.halves) == 2


def test_a_process_that_is_gone_is_not_called():
    machine = OwnerMachine(ONE)
    machine.process_gone(TWO)
    half = machine.channels.open(TWO, "box")
    assert half.ended and half.lost and "2.3 has ended" in half.why and not machine.channels.halves

"""Watches on keys: however slow a watcher is and whichever heads die, it comes to know what the last head knows."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc.core.head import watch
from hpc.core.head.journal import MAGIC, Began, decode, encode
from hpc.core.head.machine import HeadMachine
from hpc.core.head.restore import restore, snapshot
from hpc.core.ids import Address
from hpc.core.owner.watched import Watched
from hpc.core.wire import (
    MAX_VALUES_BYTES,
    WIRE_VERSION,
    Answer,
    KvDelete,
    KvPut,
    KvUnwatch,
    KvWatch,
    Locate,
    NodeInfo,
    NodeRegister,
    ProcessGone,
    decode_body,
    encode_body,
)

WATCHER, OTHER = Address(1, 2), Address(1, 3)


class Watcher:
    """A process that watches, without threads."""

    def __init__(self, key=b"", prefix=True):
        self.watched = Watched("s", key, prefix)
        self.req = self.answers = 0
        self.known: dict[bytes, bytes] = {}
        self.question = None

    def ask(self):
        if self.question is None:
            self.req += 1
            self.question = self.watched.question(self.req)
        return self.question

    def hear(self, answer):
        if self.question is None or answer.req != self.question.req:
            return
        before, self.question = self.question.seen, None
        self.answers += 1
        for key, value, version in self.watched.learn(answer.data):
            assert version > before
            if value is None:
                del self.known[key]
            else:
                self.known[key] = value


def head():
    machine = HeadMachine()
    info = NodeInfo(1, "n1", "tcp://h:1", "key", {"CPU": 10_000}, {}, False, 1, "/dir", True, "")
    machine.handle(Address(1, 0), [NodeRegister(info, WIRE_VERSION)], 0.0)
    machine.outbox.clear()
    return machine


def say(machine, *messages, src=OTHER):
    machine.handle(src, list(messages), 1.0)


def answers(machine, to=WATCHER):
    found = [msg for dst, msg in machine.outbox if dst == to and isinstance(msg, Answer)]
    machine.outbox.clear()
    return found


def rows(answer):
    return msgspec.msgpack.decode(answer.data)[2]


def reborn(machine, compact):
    """Another head, out of what the journal of this one has."""
    machine.journal_parts()
    ops = list(snapshot(machine)) if compact else [Began(1), *machine.journal]
    again = HeadMachine()
    restore(again, decode(MAGIC + b"".join(map(encode, ops)))[0])
    again.begin(again.epoch + 1)
    again.journal = list(snapshot(again))
    return again


@pytest.mark.parametrize("msg", [KvWatch(1, "s", b"k", True, 7), KvUnwatch(1, "s"), Locate(2, [b"a", b"b"])])
def test_messages_travel_whole(msg):
    assert decode_body(encode_body([msg])) == [msg]


def test_a_watch_is_answered_at_the_next_change_and_not_before():
    machine = head()
    say(machine, KvWatch(1, "s", b"a", False, 0), src=WATCHER)
    say(machine, KvPut(1, "s", b"b", b"1"), KvPut(2, "other", b"a", b"1"))
    assert answers(machine) == []
    say(machine, KvPut(3, "s", b"a", b"1"))
    (answer,) = answers(machine)
    assert rows(answer) == [[b"a", 3, b"1"]]
    say(machine, KvPut(4, "s", b"a", b"2"))
    assert answers(machine) == [] and machine.watches.waiting == 0, "it has not asked again"


def test_changes_of_one_frame_are_one_answer():
    machine = head()
    say(machine, KvWatch(1, "s", b"", True, 0), src=WATCHER)
    say(machine, KvPut(1, "s", b"a", b"1"), KvPut(2, "s", b"b", b"1"), KvPut(3, "s", b"a", b"2"))
    (answer,) = answers(machine)
    assert rows(answer) == [[b"b", 2, b"1"], [b"a", 3, b"2"]]


def test_a_put_says_the_version_that_its_watchers_are_told():
    machine = head()
    say(machine, KvPut(1, "s", b"a", b"1"), KvPut(2, "s", b"a", b"2"), KvPut(3, "s", b"a", b"3", overwrite=False))
    assert [answer.data for answer in answers(machine, OTHER)] == [b"1", b"2", b"0"]
    say(machine, KvWatch(1, "s", b"a", False, 0), src=WATCHER)
    assert rows(answers(machine)[0]) == [[b"a", 2, b"2"]]


def test_a_question_that_nobody_waits_for_is_forgotten():
    machine = head()
    for end in (
        lambda: say(machine, KvUnwatch(1, "s"), src=WATCHER),
        lambda: say(machine, ProcessGone(WATCHER, "gone"), src=Address(1, 0)),
        lambda: machine.lose_node(1, "test"),
    ):
        say(machine, KvWatch(1, "s", b"a", False, 0), src=WATCHER)
        say(machine, KvWatch(1, "s", b"a", False, 0), src=WATCHER)
        assert machine.watches.waiting == 1, "asked again it is one question"
        end()
        assert machine.watches.waiting == 0


def test_many_large_values_come_in_pieces():
    machine, watcher = head(), Watcher()
    large = bytes(MAX_VALUES_BYTES // 3 - 10)
    for number in range(10):
        say(machine, KvPut(number + 1, "s", b"%d" % number, large))
    machine.outbox.clear()
    while len(watcher.known) < 10:
        say(machine, watcher.ask(), src=WATCHER)
        (answer,) = answers(machine)
        assert len(answer.data) <= MAX_VALUES_BYTES + 1000
        watcher.hear(answer)
    assert watcher.answers == 4


def test_a_watcher_that_missed_more_deletions_than_are_known_is_told_what_is_left(monkeypatch):
    monkeypatch.setattr(watch, "MAX_GONE", 2)
    machine, watcher = head(), Watcher()
    for number in range(6):
        say(machine, KvPut(number + 1, "s", b"%d" % number, b"v"))
    say(machine, watcher.ask(), src=WATCHER)
    watcher.hear(answers(machine)[-1])
    assert len(watcher.known) == 6
    for number in range(5):
        say(machine, KvDelete(number + 10, "s", b"%d" % number))
    machine.outbox.clear()
    say(machine, watcher.ask(), src=WATCHER)
    (answer,) = answers(machine)
    assert msgspec.msgpack.decode(answer.data)[1] == [b"5"]
    watcher.hear(answer)
    assert watcher.known == {b"5": b"v"}


keys = st.sampled_from([b"a", b"aa", b"ab", b"b"])
steps = st.one_of(
    st.tuples(st.just("put"), keys, st.sampled_from([b"1", b"2"])),
    st.tuples(st.just("delete"), keys, st.booleans()),
    st.tuples(st.just("ask"), st.integers(0, 2), st.booleans()),
    st.tuples(st.just("head"), st.booleans(), st.booleans()),
)


@settings(max_examples=300)
@given(st.lists(steps, max_size=40), st.integers(1, 3))
def test_each_watcher_comes_to_know_what_the_last_head_knows(script, most_gone):
    old, watch.MAX_GONE = watch.MAX_GONE, most_gone
    try:
        machine, req = head(), 100
        watchers = [Watcher(), Watcher(b"a"), Watcher(b"a", prefix=False)]

        def deliver(lost=False):
            for dst, msg in machine.outbox:
                if isinstance(msg, Answer) and dst.proc >= 10 and not lost:
                    watchers[dst.proc - 10].hear(msg)
            machine.outbox.clear()

        for what, one, two in script:
            req += 1
            if what == "put":
                say(machine, KvPut(req, "s", one, two))
            elif what == "delete":
                say(machine, KvDelete(req, "s", one, two))
            elif what == "ask":
                say(machine, watchers[one].ask(), src=Address(1, 10 + one))
            else:
                deliver(lost=one)  # the head died before, or after, its answers had left
                machine = reborn(machine, two)
                for number, watcher in enumerate(watchers):
                    if watcher.question is not None:
                        say(machine, watcher.question, src=Address(1, 10 + number))
            deliver(lost=False)
        for number, watcher in enumerate(watchers):
            for _ in range(3):
                say(machine, watcher.ask(), src=Address(1, 10 + number))
                deliver()
            there = {key: value for (_, key), value in machine.kv.items()}
            whole, key = not watcher.watched.prefix, watcher.watched.key
            meant = {k: v for k, v in there.items() if k == key or (k.startswith(key) and not whole)}
            assert watcher.known == meant
        assert machine.watches.waiting == len([one for one in watchers if one.question is not None])
    finally:
        watch.MAX_GONE = old

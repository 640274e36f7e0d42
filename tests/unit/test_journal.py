"""The head's journal: whatever is cut off, what remains is a beginning; whatever is changed, it is noticed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc.core.head import journal_file
from hpc.core.head.journal import (
    MAGIC,
    Answered,
    Began,
    Died,
    Joined,
    JournalDamaged,
    KeyGone,
    KeySet,
    NameGone,
    NameSet,
    PartSet,
    decode,
    encode,
)
from hpc.core.head.journal_file import JournalFile
from hpc.core.head.machine import MAX_ANSWERS, HeadMachine
from hpc.core.head.restore import restore, snapshot
from hpc.core.ids import Address, make_id
from hpc.core.wire import (
    WIRE_VERSION,
    Answer,
    CreateActor,
    KeepActor,
    KvDelete,
    KvPut,
    NameRegister,
    NameRelease,
    NewActor,
    NodeInfo,
    NodeRegister,
    ProcessGone,
)

words = st.text(max_size=6)
blobs = st.binary(max_size=12)
numbers = st.integers(0, 1 << 20)


def info(node, alive=True, why=""):
    return NodeInfo(node, f"n{node}", "tcp://h:1", "key", {"CPU": 10_000}, {}, False, 1, "/dir", alive, why)


operations = st.one_of(
    st.builds(Began, numbers),
    st.builds(Joined, st.builds(info, numbers)),
    st.builds(Died, st.builds(info, numbers, st.just(False), words)),
    st.builds(NameSet, words, words, blobs, blobs),
    st.builds(NameGone, words, words),
    st.builds(KeySet, words, blobs, blobs, numbers),
    st.builds(KeyGone, words, blobs, numbers),
    st.builds(Answered, numbers, numbers, numbers, st.booleans(), blobs, words),
    st.builds(
        PartSet, words, st.binary(max_size=3), st.recursive(numbers | words, lambda inner: st.lists(inner, max_size=3))
    ),
)


def written(ops):
    return MAGIC + b"".join(map(encode, ops))


@given(st.lists(operations, max_size=8), st.data())
def test_any_prefix_of_the_bytes_gives_a_prefix_of_the_operations(ops, data):
    whole = written(ops)
    cut = data.draw(st.integers(0, len(whole)))
    found, good = decode(whole[:cut])
    assert found == ops[: len(found)]
    assert good <= cut
    assert whole[:good] == (written(found) if good else b"")
    assert decode(whole) == (ops, len(whole))


@given(st.lists(operations, min_size=1, max_size=5), st.data())
def test_any_byte_that_is_changed_is_noticed(ops, data):
    whole = bytearray(written(ops))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(JournalDamaged):
        decode(bytes(whole))


def messages():
    """What changes a head, from processes of nodes 1 to 3."""
    names, keys = st.sampled_from(["a", "b"]), st.sampled_from([b"k", b"kk", b"x"])
    actors = st.builds(lambda n, c: make_id(Address(n, 1), c), st.integers(1, 3), st.integers(1, 3))
    reqs = st.integers(1, 40)
    return st.one_of(
        st.builds(NameRegister, reqs, st.just(""), names, actors, blobs),
        st.builds(NameRelease, st.just(""), names, actors),
        st.builds(KvPut, reqs, st.just(""), keys, blobs, st.booleans()),
        st.builds(KvDelete, reqs, st.just(""), keys, st.booleans()),
        st.builds(lambda n: ProcessGone(Address(n, 1), "gone"), st.integers(1, 3)),
        st.integers(2, 3),
    )


def state(machine):
    infos = {n: node.info for n, node in machine.nodes.items()}
    versions = {key: machine.watches.version_of(key) for key in machine.kv}, machine.watches.version
    return infos, machine.dead, machine.names, machine.kv, machine.kv_bytes, machine.answered, versions


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 3), messages()), max_size=25))
def test_a_head_that_reads_the_journal_knows_what_the_old_one_knew(steps):
    head = HeadMachine()
    for node in (1, 2, 3):
        head.handle(Address(node, 0), [NodeRegister(info(node), WIRE_VERSION)], 0.0)
    for node, step in steps:
        if isinstance(step, int):
            head.lose_node(step, "test")
        elif node in head.nodes:
            head.handle(Address(node, 1), [step], 0.0)
    head.journal.insert(0, Began(1))
    again, short = HeadMachine(), HeadMachine()
    restore(again, decode(written(head.journal))[0])
    assert state(again) == state(head)
    assert all(node.suspect for node in again.nodes.values())
    restore(short, decode(written(snapshot(head)))[0])
    assert state(short) == state(head)


def test_answers_that_are_remembered_have_a_limit():
    head = HeadMachine()
    for req in range(MAX_ANSWERS + 10):
        head.handle(Address(1, 1), [KvPut(req, "", b"k", b"")], 0.0)
    assert len(head.answered) == MAX_ANSWERS


def test_rows_of_parts_are_written_when_they_have_changed():
    head, again = HeadMachine(), HeadMachine()
    head.journal_parts()
    assert not head.journal
    src = Address(2, 3)
    head.handle(src, [NewActor(1)], 0.0)
    (actor,) = [msg.data for _, msg in head.outbox if isinstance(msg, Answer)]
    create = CreateActor(actor, 0, b"fn", "Actor", b"", {}, (), [], [])
    head.handle(src, [KeepActor(2, create, {}, {"CPU": 1}, "DEFAULT", {}, 2, b"code", b"", src)], 0.0)
    assert Answer(2, True) in [msg for _, msg in head.outbox]
    head.journal_parts()
    written_once = list(head.journal)
    head.journal_parts()
    assert head.journal == written_once
    assert sorted(op.key[:1] for op in written_once if isinstance(op, PartSet)) == [b"a", b"c", b"p", b"s"]
    restore(again, decode(written(head.journal))[0])
    again.begin(2)
    kept = again.detached.owner.state.actors[actor]
    assert kept.restarts == 2 and kept.state == "pending" and again.detached.owner.state.functions == {b"fn": b"code"}
    assert [*again.detached.rows()] == [*head.detached.rows()]


def test_the_file_cuts_a_torn_tail_and_goes_on(tmp_path):
    first = JournalFile(str(tmp_path))
    assert first.read() == []
    first.append([KeySet("", b"a", b"1", 1), KeySet("", b"b", b"2", 1)])
    first.close()
    with open(first.path, "ab") as file:
        file.write(encode(KeySet("", b"c", b"3", 1))[:-1])
    second = JournalFile(str(tmp_path))
    assert second.read() == [KeySet("", b"a", b"1", 1), KeySet("", b"b", b"2", 1)]
    second.append([KeyGone("", b"a", 2)])
    second.close()
    third = JournalFile(str(tmp_path))
    assert third.read() == [KeySet("", b"a", b"1", 1), KeySet("", b"b", b"2", 1), KeyGone("", b"a", 2)]
    third.close()


def test_a_journal_that_has_grown_is_written_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_file, "COMPACT_BYTES", 1000)
    file = JournalFile(str(tmp_path))
    file.read()
    while not file.has_grown:
        file.append([KeySet("", b"same", bytes(50), 1)])
    file.compact([KeySet("", b"same", b"last", 1)])
    assert not file.has_grown
    file.append([KeySet("", b"other", b"1", 1)])
    file.close()
    again = JournalFile(str(tmp_path))
    assert again.read() == [KeySet("", b"same", b"last", 1), KeySet("", b"other", b"1", 1)]
    again.close()


def test_an_interrupted_rewriting_leaves_the_old_journal(tmp_path, monkeypatch):
    file = JournalFile(str(tmp_path))
    file.read()
    file.append([KeySet("", b"a", b"1", 1)])
    monkeypatch.setattr(journal_file.os, "rename", lambda a, b: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(OSError, match="no"):
        file.compact([])
    file.close()
    again = JournalFile(str(tmp_path))
    assert again.read() == [KeySet("", b"a", b"1", 1)]
    again.close()

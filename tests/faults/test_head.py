"""A head that is killed: another takes its place, and nobody else notices."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

import hpc
from hpc.core.ids import Address
from hpc.core.wire import Answer, KvDelete, KvGet, KvPut
from hpc.exceptions import HpcError
from runtime.running import Heads, eventually, kill9, local_nodes, on, pid_of, where_once


@hpc.remote
def where(seconds=0.0):
    time.sleep(seconds)
    return hpc.get_runtime_context().get_node_id()


@hpc.remote
class Counter:
    def __init__(self):
        self.value = 0

    def add(self):
        self.value += 1
        return self.value


def questions(key):
    """Put a key that is not there, read it, delete it."""
    yield lambda req: KvPut(req, "race", key, b"x", overwrite=False)
    yield lambda req: KvGet(req, "race", key)
    yield lambda req: KvDelete(req, "race", key)


@pytest.fixture
def heads():
    with local_nodes(3) as session:
        hpc.get(where.remote())
        yield Heads(session)


def test_names_keys_tasks_and_nodes_outlive_the_head(heads, tmp_path):
    client = hpc.api.connection.ensure_client()
    counter = Counter.options(name="counter", scheduling_strategy=on(2)).remote()
    assert hpc.get(counter.add.remote()) == 1
    client.conversation.ask_head(lambda req: KvPut(req, "test", b"key", b"value"))
    running = [where_once.options(scheduling_strategy=on(n)).remote(tmp_path / "gate") for n in (2, 3)]
    endpoints = [n["NodeManagerPort"] for n in hpc.nodes()]
    for _ in range(2):
        heads.kill()
        assert hpc.get(hpc.get_actor("counter").add.remote()) > 1
        assert client.conversation.ask_head(lambda req: KvGet(req, "test", b"key")).data == b"value"
        with pytest.raises(ValueError, match="taken"):
            Counter.options(name="counter").remote()
    (tmp_path / "gate").touch()
    assert hpc.get(running, timeout=60) == ["2", "3"]
    assert hpc.get([where.options(scheduling_strategy=on(n)).remote() for n in (1, 2, 3)], timeout=60) == [
        "1",
        "2",
        "3",
    ]
    assert [n["Alive"] for n in hpc.nodes()] == [True] * 3
    assert [n["NodeManagerPort"] for n in hpc.nodes()] == endpoints


def test_what_is_asked_while_there_is_no_head_is_answered_by_the_next(heads):
    client = hpc.api.connection.ensure_client()
    stop = threading.Event()
    wrong: list[object] = []
    asked = [0, 0]

    def ask(which):
        while not stop.is_set():
            key = b"%d-%d" % (which, asked[which])
            answers = [client.conversation.ask_head(question, 30.0).data for question in questions(key)]
            if int(answers[0]) <= 0 or answers[1:] != [b"x", b"1"]:  # the first is the version of the key
                wrong.append((key, answers))
            asked[which] += 1

    threads = [threading.Thread(target=ask, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        before = list(asked)
        heads.kill()
        eventually(lambda before=before: asked[0] > before[0] + 5 and asked[1] > before[1] + 5)
    stop.set()
    for thread in threads:
        thread.join(30)
    assert not wrong
    assert min(asked) > 15


def test_demand_that_waited_for_the_old_head_is_served_by_the_new_one(heads, tmp_path):
    busy = [where_once.options(scheduling_strategy=on(n)).remote(tmp_path / "gate") for n in (1, 2, 3)]
    eventually(lambda: not hpc.available_resources().get("CPU"))
    spread = [where.options(scheduling_strategy="SPREAD").remote(0.1) for _ in range(6)]
    heads.kill()
    more = [where.remote(0.1) for _ in range(6)]
    assert hpc.wait([*busy, *spread, *more], timeout=0.1)[0] == []
    (tmp_path / "gate").touch()
    assert hpc.get(busy, timeout=60) == ["1", "2", "3"]
    assert set(hpc.get(spread + more, timeout=30)) <= {"1", "2", "3"}
    eventually(lambda: hpc.available_resources().get("CPU") == 3)


def test_a_node_that_dies_while_there_is_no_head_is_dead_for_the_next(heads):
    node3 = os.path.dirname(hpc.nodes()[2]["RayletSocketName"])
    lost = pid_of(node3, "raylet")
    heads.kill(wait=False)
    kill9(lost)
    eventually(lambda: heads.session.pump(0.05) or [n["Alive"] for n in hpc.nodes()] == [True, True, False])
    assert hpc.get([where.remote(0.05) for _ in range(4)], timeout=60)
    heads.kill()
    assert [n["Alive"] for n in hpc.nodes()] == [True, True, False]


def test_a_name_given_back_while_there_is_no_head_is_free(heads):
    counter = Counter.options(name="short").remote()
    hpc.get(counter.add.remote())
    heads.kill(wait=False)
    hpc.kill(counter)
    del counter

    def again():
        try:
            return Counter.options(name="short").remote()
        except ValueError:
            return None

    assert hpc.get(eventually(again).add.remote(), timeout=60) == 1


def test_too_many_deaths_end_the_session_and_say_why(heads):
    from hpc.core.node.head_restart import MAX_RESTARTS

    for _ in range(MAX_RESTARTS):
        heads.kill(how=signal.SIGABRT)  # as one that has crashed
        hpc.nodes()
    heads.kill(wait=False, how=signal.SIGABRT)
    eventually(lambda: heads.session.pump(0.05) or heads.session.lost)
    assert "not started again: it failed more than 5 times within 60 s" in heads.session.lost
    eventually(
        lambda: raises(lambda: hpc.get(where.remote(), timeout=60))
    )  # on its way out, the node may do some tasks


def raises(call):
    """The error that the session's end leads to; None if the call was served."""
    try:
        call()
    except HpcError as error:
        return error
    return None


def test_a_head_that_hangs_is_killed_and_another_takes_its_place():
    """Stopped, it holds its socket and its port and does not end: only its silence says so."""
    said = []
    with local_nodes(2, config={"head_hang_s": 1.5}) as session:
        session.on_event = said.append
        heads = Heads(session)
        counter = Counter.options(name="counter", scheduling_strategy=on(2)).remote()
        assert hpc.get(counter.add.remote()) == 1
        old = heads.pid()
        os.kill(old, signal.SIGSTOP)
        begin = time.monotonic()
        assert hpc.get(hpc.get_actor("counter").add.remote(), timeout=60) == 2  # its name is asked of the next head
        assert time.monotonic() - begin > 1.0 and heads.pid() != old
        assert hpc.get([where.options(scheduling_strategy=on(n)).remote() for n in (1, 2)], timeout=60) == ["1", "2"]
        eventually(lambda: session.pump(0.05) or [event for event in said if event.kind == "restarted"])
        assert "it has not answered for 1.5 s" in next(event.text for event in said if event.kind == "restarted")


def test_a_head_that_is_away_for_less_lives_on():
    with local_nodes(1, config={"head_hang_s": 6.0}) as session:
        heads = Heads(session)
        old = heads.pid()
        for _ in range(2):
            os.kill(old, signal.SIGSTOP)
            time.sleep(0.7)
            os.kill(old, signal.SIGCONT)
            assert [n["Alive"] for n in hpc.nodes()] == [True]
        assert heads.pid() == old


def test_the_journal_is_the_users_alone_and_holds_no_secret(heads):
    path = os.path.join(heads.dir, "head.journal")
    assert os.stat(path).st_mode & 0o777 == 0o600
    heads.kill()
    hpc.nodes()
    assert b"secret" not in open(path, "rb").read()


def test_a_damaged_journal_is_refused_and_named(heads):
    hpc.api.connection.ensure_client().conversation.ask_head(lambda req: KvPut(req, "test", b"key", b"value"))
    path = os.path.join(heads.dir, "head.journal")
    with open(path, "r+b") as file:
        file.seek(40)
        file.write(b"\xff\xff")
    heads.kill(wait=False)
    eventually(lambda: heads.session.pump(0.05) or heads.session.lost)
    assert "journal" in heads.session.lost and "damaged" in heads.session.lost


def test_an_answer_is_given_once_more_word_for_word():
    from hpc.core.head.journal import MAGIC, decode, encode
    from hpc.core.head.machine import HeadMachine
    from hpc.core.head.restore import restore, snapshot

    first = HeadMachine()
    me = Address(1, 4)
    put = KvPut(7, "ns", b"k", b"v", overwrite=False)
    first.handle(me, [put], 1.0)
    data = MAGIC + b"".join(encode(op) for op in first.journal)
    second = HeadMachine()
    restore(second, decode(data)[0])
    second.handle(me, [put], 2.0)
    assert second.outbox == [(me, Answer(7, True, b"1"))]
    again = decode(MAGIC + b"".join(map(encode, snapshot(second))))[0]
    assert [op for op in first.journal if op not in again] == []

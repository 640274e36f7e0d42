"""Questions and answers: who waits is woken once, and what nobody waits for any more does no harm."""

from __future__ import annotations

import threading

import msgspec
import pytest

from hpc.core.exceptions import GetTimeoutError, SessionLostError
from hpc.core.ids import HEAD, Address
from hpc.core.owner.machine import OwnerMachine
from hpc.core.owner.shell.conversation import Conversation
from hpc.core.owner.tables import Waiter
from hpc.core.wire import Abandon, Alloc, Allocated, Answer, FlushLogs, KvGet, PgRemove, StateAnswer, StateQuery

OTHER, THIRD = Address(2, 3), Address(4, 5)


class Line:
    """A client without sockets: ``meanwhile`` happens while a thread waits."""

    def __init__(self):
        self.addr = Address(1, 1)
        self.lock = threading.Lock()
        self.lost = ""
        self.machine = OwnerMachine(self.addr)
        self.sent = []
        self.meanwhile = lambda: None
        self.warnings = []
        self.warn = self.warnings.append

    def check_lost(self):
        if self.lost:
            raise SessionLostError(self.lost)

    def send_now(self, dst, messages):
        self.sent += [(dst, msg) for msg in messages]

    def send_left(self, everything=False):
        for dst, messages in self.machine.take_outbox(everything):
            self.send_now(dst, messages)

    def wait_for(self, waiter, timeout_s, for_others=False, needs=None):
        self.meanwhile()
        return waiter.needed <= 0


@pytest.fixture
def line():
    return Line()


@pytest.fixture
def talk(line):
    return Conversation(line, lambda what, limit: [{"what": what}])


def get(number):
    return KvGet(number, "", b"key")


def test_an_answer_goes_to_its_question(line, talk):
    line.meanwhile = lambda: talk.answered(1, Answer(1, True, b"value"))
    assert talk.ask_head(get).data == b"value"
    assert line.sent == [(HEAD, get(1))] and not talk.pending and not line.machine.state.asked


def test_a_question_to_the_head_is_asked_again_until_it_has_an_answer(line, talk):
    line.meanwhile = lambda: seen.append(dict(line.machine.state.asked))
    seen = []
    with pytest.raises(GetTimeoutError):
        talk.ask_head(get, 0.1)
    assert seen == [{1: get(1)}]
    assert not talk.pending and not line.machine.state.asked, "nobody waits any more, so nobody asks again"


def test_an_answer_that_comes_too_late_is_nobodys(line, talk):
    with pytest.raises(GetTimeoutError):
        talk.ask(lambda number: (line.machine.raylet, Alloc(number, 100, b"id")), 0.1)
    talk.answered(1, Allocated(1, 4096))
    assert line.sent[-1] == (line.machine.raylet, Abandon(4096)), "room that nobody writes into is given back"


def test_an_interrupted_thread_gives_back_the_room_that_it_had_got(line, talk):
    def interrupt():
        talk.answered(1, Allocated(1, 4096))
        raise KeyboardInterrupt

    line.meanwhile = interrupt
    with pytest.raises(KeyboardInterrupt):
        talk.ask(lambda number: (line.machine.raylet, Alloc(number, 100, b"id")))
    assert line.sent[-1] == (line.machine.raylet, Abandon(4096))


def test_a_session_that_is_lost_leaves_no_question_open(line, talk):
    def lose():
        line.lost = "it ended"
        talk.lose()

    line.meanwhile = lose
    with pytest.raises(SessionLostError, match="it ended"):
        talk.ask_head(get)
    with pytest.raises(SessionLostError):
        talk.ask_head(get)
    assert not talk.pending


def test_those_who_do_not_answer_are_missing(line, talk):
    def answer():
        talk.answered(1, StateAnswer(1, msgspec.msgpack.encode([{"x": 1}]), 7))
        talk.gone(THIRD)

    line.meanwhile = answer
    found = talk.ask_all([OTHER, line.addr, THIRD], "tasks", 10, 1.0)
    assert found == {line.addr: [{"what": "tasks"}], OTHER: [{"x": 1}]}
    assert [dst for dst, _ in line.sent] == [OTHER, THIRD] and line.sent[0][1] == StateQuery(1, "tasks", 10)
    assert len(line.warnings) == 1 and "7 tasks" in line.warnings[0]
    assert not talk.pending


def test_the_end_of_a_process_answers_for_its_questions_alone(line, talk):
    waiter = Waiter(0)
    talk.ask_each([OTHER, THIRD], FlushLogs, waiter)
    talk.gone(OTHER)
    assert waiter.needed == 1 and not line.machine.woken
    talk.answered(2, Answer(2, True))
    assert waiter.needed == 0 and line.machine.woken == [waiter]


def test_what_the_head_is_told_waits_for_company_and_is_told_again_until_it_is_answered(line, talk):
    for _ in range(31):
        talk.tell_head(lambda n: PgRemove(n, b"group"))
    assert not line.sent and len(line.machine.state.asked) == 31
    talk.tell_head(lambda n: PgRemove(n, b"group"))
    assert len(line.sent) == 32
    talk.answered(1, Answer(1, True))
    assert 1 not in line.machine.state.asked


def test_an_answer_may_be_left_to_a_callback_and_none_comes_of_a_lost_session(line, talk):
    got = []
    talk.when_answered(get, got.append)
    talk.answered(1, Answer(1, True, b"value"))
    line.machine.woken.pop().callback()
    assert [answer.data for answer in got] == [b"value"]
    talk.when_answered(get, got.append)
    talk.lose()
    line.machine.woken.pop().callback()
    assert len(got) == 1

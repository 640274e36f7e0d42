"""Questions of this process and their answers: to its raylet, to the head, and to other processes.

A question has a number, and its answer names that. Questions to the head stay with the machine until they are answered
(`asked`): a head that was started again is asked again. A process that ends leaves the questions to it unanswered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from hpc.core.exceptions import GetTimeoutError, SessionLostError
from hpc.core.ids import HEAD, Address
from hpc.core.owner.ports import Line, Row
from hpc.core.owner.tables import Waiter
from hpc.core.wire import Abandon, Allocated, Answer, Message, StateAnswer, StateQuery

#: The most messages to the head that wait to be sent together, where they need not go at once.
HEAD_BATCH = 32


class Pending(Struct, eq=False):
    """A question that may have no answer yet. ``waiter`` needs one less when the answer comes, or when the process that
    was ``asked`` has ended. In the second case, and when the session is gone, ``answer`` stays None."""

    number: int
    waiter: Waiter
    asked: Address | None = None
    answer: Any = None


class Conversation:
    """The questions of one process. Methods that say so are called with the client's lock held."""

    def __init__(self, line: Line, own_rows: Callable[[str, int], list[Row]]) -> None:
        self.pending: dict[int, Pending] = {}
        self._line = line
        self._own_rows = own_rows
        self._number = 0

    # -------------------------------------------------------------- asking

    def ask(self, build: Callable[[int], tuple[Address, Message]], timeout_s: float | None = None) -> Any:
        """Ask a raylet, the head or a process; ``build(number)`` gives (destination, message). Returns the answer.

        Raises GetTimeoutError if there is none in time, SessionLostError if the session is gone.
        """
        line = self._line
        waiter = Waiter(1)
        with line.lock:
            question, dst = self._begin(build, waiter)
            line.send_left()
        answered = False
        try:
            answered = line.wait_for(waiter, timeout_s)
        finally:
            if not answered:
                with line.lock:
                    self._give_up(question)
        if not answered:
            raise GetTimeoutError(f"no answer from {dst} within {timeout_s} s")
        if question.answer is None:
            raise SessionLostError(f"the session is gone: {line.lost}")
        return question.answer

    def ask_head(self, build: Callable[[int], Message], timeout_s: float | None = 60.0) -> Answer:
        """A question to the head; raises as `ask` does."""
        answer = self.ask(lambda number: (HEAD, build(number)), timeout_s)
        assert isinstance(answer, Answer)
        return answer

    def ask_all(self, asked: Sequence[Address], what: str, limit: int, timeout_s: float) -> dict[Address, list[Row]]:
        """The rows of ``what`` that each of these raylets and processes knows; those that do not answer are missing."""
        line, waiter = self._line, Waiter(0)
        answers: dict[Address, list[Row]] = {}
        with line.lock:
            line.check_lost()
            if line.addr in asked:
                answers[line.addr] = self._own_rows(what, limit)
            others = [dst for dst in asked if dst != line.addr]
            questions = self.ask_each(others, lambda number: StateQuery(number, what, limit), waiter)
        line.wait_for(waiter, timeout_s)
        with line.lock:
            found = self.take_answers(questions)
        for dst, answer in found.items():
            assert isinstance(answer, StateAnswer)
            answers[dst] = msgspec.msgpack.decode(answer.data)
            if answer.left_out:
                line.warn(f"{dst} has {answer.left_out} {what} more than fit into its answer")
        return answers

    def ask_several(
        self, questions: Mapping[Address, Callable[[int], Message]], timeout_s: float
    ) -> dict[Address, Message]:
        """The answers of these raylets or processes to a question each; without those that do not answer."""
        line, waiter = self._line, Waiter(0)
        asked: list[Pending] = []
        with line.lock:
            line.check_lost()
            for dst, build in questions.items():
                asked += self.ask_each([dst], build, waiter)
        line.wait_for(waiter, timeout_s)
        with line.lock:
            return self.take_answers(asked)

    def ask_each(self, asked: Iterable[Address], build: Callable[[int], Message], waiter: Waiter) -> list[Pending]:
        """Ask each of these at once (the lock is held). The waiter needs one more for each."""
        questions = []
        for dst in asked:
            questions.append(self._new(waiter, dst))
            waiter.needed += 1
            self._line.send_now(dst, [build(self._number)])
        return questions

    def take_answers(self, questions: Iterable[Pending]) -> dict[Address, Message]:
        """The answers that have come to `ask_each`; nobody waits for the others any more (the lock is held)."""
        found: dict[Address, Message] = {}
        for question in questions:
            self.pending.pop(question.number, None)
            if question.answer is not None and question.asked is not None:
                found[question.asked] = question.answer
        return found

    def tell_head(self, build: Callable[[int], Message]) -> None:
        """Have the head do something that it will not refuse. It is told again if it dies before it has answered."""
        line = self._line
        with line.lock:
            line.check_lost()
            self._number += 1
            machine = line.machine
            msg = machine.state.asked[self._number] = build(self._number)
            # With what else is said before somebody waits, or in 2 ms by the background thread.
            machine.send(HEAD, msg, urgent=False)
            if len(machine.outbox[HEAD]) >= HEAD_BATCH:
                line.send_left(everything=True)

    def open(self, build: Callable[[int], Message], waiter: Waiter) -> Pending:
        """Ask the head what it may answer much later, or never; ``waiter`` needs nothing more then (the lock is
        held)."""
        question, _ = self._begin(lambda number: (HEAD, build(number)), waiter)
        return question

    def drop(self, question: Pending) -> None:
        """Nobody waits for the answer any more (the lock is held)."""
        self._give_up(question)

    def when_answered(self, build: Callable[[int], Message], then: Callable[[Answer], None]) -> None:
        """Ask the head, and have ``then`` called with the answer outside the lock (the lock is held)."""

        def answered() -> None:
            if question.answer is not None:  # else the session is gone: whoever waits has been told
                then(question.answer)

        question, _ = self._begin(lambda number: (HEAD, build(number)), Waiter(1, answered))

    def _begin(self, build: Callable[[int], tuple[Address, Message]], waiter: Waiter) -> tuple[Pending, Address]:
        line = self._line
        line.check_lost()
        question = self._new(waiter)
        dst, msg = build(question.number)
        if dst == HEAD:
            line.machine.state.asked[question.number] = msg
        line.machine.send(dst, msg)
        return question, dst

    def _new(self, waiter: Waiter, asked: Address | None = None) -> Pending:
        self._number += 1
        question = self.pending[self._number] = Pending(self._number, waiter, asked)
        return question

    def _give_up(self, question: Pending) -> None:
        """The thread that asked does not wait any more, because it was interrupted or the time is over."""
        self._line.machine.state.asked.pop(question.number, None)
        if self.pending.pop(question.number, None) is None and question.answer is not None:
            self._nobody_asked(question.answer)

    # -------------------------------------------------------------- answers

    def answered(self, number: int, msg: Message) -> None:
        """An answer has come (the lock is held)."""
        question = self.pending.pop(number, None)
        self._line.machine.state.asked.pop(number, None)
        if question is None:
            self._nobody_asked(msg)
        else:
            question.answer = msg
            self._one_less(question.waiter)

    def _nobody_asked(self, msg: Message) -> None:
        if type(msg) is Allocated and msg.offset >= 0:
            self._line.send_now(self._line.machine.raylet, [Abandon(msg.offset)])

    def gone(self, process: Address) -> None:
        """A process has ended (the lock is held): it will answer no more."""
        for question in [one for one in self.pending.values() if one.asked == process]:
            del self.pending[question.number]
            self._one_less(question.waiter)

    def lose(self) -> None:
        """The session is gone (the lock is held): those who wait for answers are woken, and have none."""
        for question in self.pending.values():
            question.answer = None
            question.waiter.needed = 0
            self._line.machine.woken.append(question.waiter)
        self.pending.clear()

    def _one_less(self, waiter: Waiter) -> None:
        waiter.needed -= 1
        if waiter.needed <= 0:
            self._line.machine.woken.append(waiter)

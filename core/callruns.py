"""Runs of calls as both ends know them: the calls of one, and the values of several in one answer."""

from __future__ import annotations

from hpc.core.ids import return_id
from hpc.core.wire import Call, Calls, CallsDone, Message, Result


def call_at(run: Calls, at: int) -> Call:
    """Call number ``at`` of a run, as a message of its own."""
    return Call(
        return_id(run.task, at), 0, run.actor, run.incarnation, run.seq + at, run.method, run.args[at], 1,
        retry_exceptions=run.retry_exceptions,
    )  # fmt: skip


def calls_of(run: Calls, begin: int = 0) -> list[Call]:
    """The calls of a run, from number ``begin`` on, each as a message of its own."""
    return [call_at(run, at) for at in range(begin, len(run.args))]


def place_in(run: Calls, task: bytes) -> int:
    """The number of a call in the run; -1 if it is not one of its calls."""
    if task[:-8] != run.task[:-8]:
        return -1
    at = int.from_bytes(task[-8:], "big") - int.from_bytes(run.task[-8:], "big")
    return at if 0 <= at < len(run.args) else -1


def add_result(box: list[Message], run: bytes, at: int, result: Result) -> CallsDone:
    """Leave the value of call number ``at`` of a run among the messages for its caller. It joins the values of those
    before it, if these are still there."""
    last = box[-1] if box else None
    if type(last) is CallsDone and last.task == run and last.at + len(last.results) == at:
        last.results.append(result)
        return last
    done = CallsDone(run, at, [result])
    box.append(done)
    return done

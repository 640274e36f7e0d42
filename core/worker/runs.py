"""Making the calls of a run: one after the other, with one look at what they have in common.

What each call has for itself is what its code can ask about (its context), what is remembered of it, and its answer,
which is left for sending before the next call begins: it may be a long one.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hpc.core import serialization
from hpc.core.callruns import add_result, call_at
from hpc.core.ids import Address, ids_from
from hpc.core.owner.shell.values import INLINE_BYTES
from hpc.core.process.context import TaskContext, current_task
from hpc.core.wire import ERROR, INLINE, NO_ARGUMENTS, Calls, CallsDone, Done, Message, Result
from hpc.core.worker import record
from hpc.core.worker.packing import NOTHING, REPLY_BATCH, SHORT_US

if TYPE_CHECKING:
    from hpc.core.worker.ports import HostsCalls


def make_calls(host: HostsCalls, src: Address, run: Calls) -> None:
    """Make all calls of a run that were not cancelled, on this thread."""
    executor = host.worker.executor
    executor.run_at = -1
    executor.run = src, run
    try:
        _make_calls(host, src, run)
    finally:
        executor.run = None
        if executor.skipped:
            executor.skipped.difference_update(ids_from(run.task, len(run.args)))


def _make_calls(host: HostsCalls, src: Address, run: Calls) -> None:
    worker, method, first = host.worker, run.method, run.task
    executor, client, running, remember = worker.executor, worker.client, worker.running, worker.record.append
    lock, machine, unsent = client.lock, client.machine, worker.unsent
    simple, loads = serialization.dumps_simple, serialization.loads
    monotonic, set_task = time.monotonic, current_task.set
    name = host.full_name(method)
    if name != worker.title.now:
        worker.title.show(name)
    function = host.methods.get(method)
    start = monotonic()
    answer: CallsDone | None = None
    box: list[Message] = []
    turn = -1
    prefix, number = first[:-8], int.from_bytes(first[-8:], "big")
    for at, data in enumerate(run.args):
        task = prefix + (number + at).to_bytes(8, "big")
        executor.run_at = at
        if executor.skipped and task in executor.skipped:
            answer = None  # the values of an answer are those of calls that follow each other
            continue
        if host.exiting:
            break
        context = TaskContext(task, 0, name)
        set_task(context)
        running[task] = context
        done: Done | None = None
        try:
            if function is None:
                function = host.method(method)
            if data == NO_ARGUMENTS:
                value = function()
            else:
                given = loads(data)
                args, kwargs = given if type(given) is tuple else (given, {})
                value = function(*args, **kwargs)
                given = args = kwargs = None
            if value is None and not context.cancelled:
                result = NOTHING
            elif (packed := simple(value)) is not None and len(packed) <= INLINE_BYTES and not context.cancelled:
                result = Result(INLINE, packed)
            else:
                done = host.returned(src, call_at(run, at), context, value)
            value = None
        except BaseException as error:
            done = host.raised(call_at(run, at), context, error)
            if not (done.retryable or done.exiting) and done.results[0].kind == ERROR:
                result, done = done.results[0], None
        finally:
            running.pop(task, None)
        if done is not None:
            worker.unsent = unsent
            host.over(src, done, name, start, [])
            unsent, answer = worker.unsent, None
            start = monotonic()
            continue
        now = monotonic()
        run_us = int((now - start) * 1e6)
        remember((task, 0, name, start, run_us, result.kind, record.mark() if run_us > record.MARK_US else None, b""))
        start = now
        unsent += 1
        full = unsent >= REPLY_BATCH
        with lock:
            if answer is not None and machine.state.turns == turn and box[-1] is answer:
                answer.results.append(result)
            else:
                turn, box = machine.state.turns, machine.box(src)
                answer = add_result(box, first, at, result)
            if full or run_us > SHORT_US:
                unsent = 0
                client.send_left(everything=True)
        if full:
            client.look()  # one that has much to do does not come to wait, where it would read
            start = monotonic()
    worker.unsent = unsent

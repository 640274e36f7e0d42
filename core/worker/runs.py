"""Making the calls of a run: one after the other, with one look at what they have in common.

Each call has three things of its own: what its code can ask about (its context), what is remembered of it, and its
outcome. The outcome is left for sending before the next call begins (`loop.Loop.calls`): that may be a long one.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hpc.core import serialization
from hpc.core.callruns import call_at
from hpc.core.ids import Address
from hpc.core.owner.shell.values import INLINE_BYTES
from hpc.core.process.context import TaskContext, current_task
from hpc.core.wire import INLINE, NO_ARGUMENTS, Calls, Done, Result
from hpc.core.worker import record
from hpc.core.worker.loop import goes_in_run
from hpc.core.worker.packing import NOTHING

if TYPE_CHECKING:
    from hpc.core.worker.ports import HostsCalls


def make_calls(host: HostsCalls, src: Address, run: Calls) -> None:
    """Make all calls of a run that were not cancelled, on this thread."""
    worker, method = host.worker, run.method
    loop, running, remember = worker.loop, worker.running, worker.record.append
    executor, simple, loads = loop.executor, serialization.dumps_simple, serialization.loads
    monotonic, set_task = time.monotonic, current_task.set
    name = host.full_name(method)
    if name != worker.title.now:
        worker.title.show(name)
    function = host.methods.get(method)
    mine = None if worker.tally is None else worker.tally.named(name)
    start = monotonic()
    for task, data in loop.calls(src, run):
        if host.exiting:
            break
        if not loop.unsent:
            start = monotonic()  # what was left was sent, or much was read
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
                done = host.returned(src, call_at(run, executor.run_at), context, value)
            value = None
        except BaseException as error:
            done = host.raised(call_at(run, executor.run_at), context, error)
            if goes_in_run(done):
                result, done = done.results[0], None
        finally:
            running.pop(task, None)
        if done is not None:
            loop.result = None
            host.over(src, done, name, start, [])
            start = monotonic()
            continue
        now = monotonic()
        run_us = int((now - start) * 1e6)
        remember((task, 0, name, start, run_us, result.kind, record.mark() if run_us > record.MARK_US else None, b""))
        if mine is not None:
            if result.kind:
                mine.odd.append(result.kind)
            mine.add(run_us)
        start = now
        loop.result, loop.run_us = result, run_us

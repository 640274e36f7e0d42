"""How the simulated worker makes the calls of a run: as `worker.runs` does, one at a time in virtual time."""

from __future__ import annotations

from typing import Any

from hpc.core.callruns import add_result, call_at, calls_of
from hpc.core.ids import Address
from hpc.core.owner.machine import OwnerMachine
from hpc.core.wire import ERROR, INLINE, Calls, Done
from hpc.core.worker.executor import Executor


def next_item(executor: Executor) -> tuple[Address, Any] | None:
    """What the worker begins next; of a run its first call that was not cancelled."""
    while executor.ready:
        src, msg = executor.ready.popleft()
        if type(msg) is not Calls:
            return src, msg
        executor.run, executor.run_at = (src, msg), -1
        call = next_of_run(executor)
        if call is not None:
            return call
    return None


def next_of_run(executor: Executor) -> tuple[Address, Any] | None:
    """The next call of the run that is being made; None at its end."""
    if executor.run is None:
        return None
    src, run = executor.run
    for call in calls_of(run, executor.run_at + 1):
        executor.run_at += 1
        if call.task not in executor.skipped:
            return src, call
    executor.run = None
    return None


def answered_in_run(executor: Executor, machine: OwnerMachine, src: Address, done: Done) -> bool:
    """Answer a call of a run together with those before it; False if it has to be answered alone."""
    result = done.results[0] if len(done.results) == 1 else None
    if (
        executor.run is None or executor.run_at < 0 or done.task != call_at(executor.run[1], executor.run_at).task
        or result is None or result.kind not in (INLINE, ERROR) or result.inner or done.retryable or done.exiting
    ):  # fmt: skip
        return False
    add_result(machine.box(src), executor.run[1].task, executor.run_at, result)
    return True

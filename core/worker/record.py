"""What a worker has run lately: a bounded ring of events, told to whoever asks. One append per task, nothing is sent.

How far the worker's log files had been written is noted at the end of a task. Tasks so short that asking the kernel
twice would show are left out: these share the part of the log up to the next mark. So each event belongs to a part of
the log, together with the short ones beside it. HPC_TASK_EVENTS=0 switches all of it off.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from typing import Any

from hpc.core.node.settings import switch
from hpc.core.process.context import TaskContext, code_name, process

#: Executions that a worker remembers.
MAX_EVENTS = 10_000

#: Tasks that ran so long have a mark in the log; the mark costs about 1 µs.
MARK_US = 200
#: Events that a worker hands to its raylet when it ends.
LAST_EVENTS = 100

#: How long stdout and stderr were, in bytes.
Mark = tuple[int, int]
#: (task, how often it has begun before, name, start on the monotonic clock, running time in µs, kind of its first
#: result, mark at its end, id of its function, or class and method of a call that has another name)
Event = tuple[bytes, int, str, float, int, int, Mark | None, bytes | str]


#: A log is empty before the first event.
BEGIN: Mark = (0, 0)


Ring = deque[Event]


def new_ring() -> Ring:
    """An empty ring; one that forgets everything where it is switched off."""
    return deque(maxlen=0 if not switch("task_events", {}, os.environ) else MAX_EVENTS)


def mark() -> Mark | None:
    """How long this process's log files are now; None where its output goes elsewhere."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
        return os.lseek(1, 0, os.SEEK_END), os.lseek(2, 0, os.SEEK_END)
    except Exception:  # the streams may be the user's
        return None


def rows(ring: Ring, limit: int) -> list[dict[str, Any]]:
    """The newest events as rows, with times on this node's wall clock. ``log_from`` and ``log_to`` are the part of
    stdout and of stderr in which a task wrote, [-1, -1] where that is not known (yet). ``log_shared`` says how many
    others wrote there."""
    offset = time.time() - time.monotonic()
    events = list(ring)
    out: list[dict[str, Any]] = []
    begin: Mark | None = BEGIN if len(events) != ring.maxlen else None
    for at in range(len(events) - limit - 1, -1, -1):
        if events[at][6] is not None:
            begin, events = events[at][6], events[at + 1 :]
            break
    group: list[dict[str, Any]] = []
    for task, ran, name, start, run_us, kind, end, fn in events:
        creates = task == process.actor and process.actor_name
        row = {
            "task_id": task.hex(),
            "attempt_number": ran,
            "name": f"{process.actor_name}:{name}" if creates else name,
            "func_or_class_name": code_name(fn, name),
            "type": _type_of(task),
            "start_time_ms": (start + offset) * 1e3,
            "end_time_ms": (start + offset) * 1e3 + run_us / 1e3,
            "state": "FINISHED" if kind < 2 else "FAILED",
        }
        out.append(row)
        group.append(row)
        if end is not None:
            _close(group, begin, end)
            begin, group = end, []
    _close(group, begin, None)
    return out[-limit:]


def running(contexts: list[TaskContext], ring: deque[Event], limit: int) -> list[dict[str, Any]]:
    """What runs now, as rows: it may have written all that was written since the last mark."""
    part = {"log_from": last_mark(ring) or (-1, -1), "log_to": (-1, -1), "log_shared": len(contexts) - 1}
    return [
        {
            "task_id": context.task.hex(),
            "attempt_number": context.ran,
            "name": context.name,
            "func_or_class_name": code_name(context.fn or context.method, context.name),
            **part,
        }
        for context in contexts[:limit]
    ]


def _type_of(task: bytes) -> str:
    """A process that is an actor has run nothing else."""
    if not process.actor:
        return "NORMAL_TASK"
    return "ACTOR_CREATION_TASK" if task == process.actor else "ACTOR_TASK"


def _close(group: list[dict[str, Any]], begin: Mark | None, end: Mark | None) -> None:
    for row in group:
        row["log_from"], row["log_to"], row["log_shared"] = begin or (-1, -1), end or (-1, -1), len(group) - 1


def last_mark(ring: Ring) -> Mark | None:
    """The mark behind which everything was written that was written since."""
    for event in reversed(ring):
        if event[6] is not None:
            return event[6]
    return BEGIN if len(ring) != ring.maxlen else None

"""What a worker has run since it last told its raylet. One append per task; all else is done for many at a time.

How far the worker's log files had been written is noted at the end of a task. Tasks so short that asking the kernel
twice would show are left out: these share the part of the log up to the next mark. So each event belongs to a part of
the log, together with the short ones beside it. HPC_TASK_EVENTS=0 switches all of it off.

Events are handed over every 2 s, a few at a time sooner (`HAND_OVER_S`). A worker that runs more than MAX_EVENTS
meanwhile hands over the newest, and says how many are missing. So the cost has a bound, however short the tasks are.
Rejected: handing over each 2,000 events, which costs tasks that do nothing 5 %.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from msgspec import msgpack, structs

from hpc.core.events.rows import Batch, Event, Mark, rows_of
from hpc.core.node.settings import switch
from hpc.core.process.context import TaskContext, code_name, process

#: Events that wait for being handed over.
MAX_EVENTS = 10_000
#: And their bytes, packed.
MAX_BYTES = 1 << 20
#: How often events are handed over, and how often if there are only a few: that costs nothing.
HAND_OVER_S, FEW_S = 2.0, 0.25
FEW = 500

#: Tasks that ran so long have a mark in the log; the mark costs about 1 us.
MARK_US = 200

#: A log is empty before the first event.
BEGIN: Mark = (0, 0)


class Record:
    """The events of one process that were not handed over yet; each has a number, from 0 on."""

    def __init__(self, on: bool = True) -> None:
        #: A list, and no deque with a limit: what is too much is cut off now and then, and counted.
        self.events: list[Event] = []
        #: The number of the first of them, and the last mark before it.
        self.first = 0
        self.begin: Mark | None = BEGIN
        #: How many were cut off since events were handed over.
        self.lost = 0
        self.append: Callable[[Event], None] = self.events.append if on else deque[Event](maxlen=0).append
        self._handed_over = 0.0

    def trim(self) -> None:
        """Cut off the oldest, if there are too many."""
        if len(self.events) > MAX_EVENTS:
            self._lose(len(self.events) - MAX_EVENTS)

    def _lose(self, count: int) -> None:
        """Cut off the oldest. Where the next ones' part of the log begins is known only if the last of these has a
        mark: to look for an earlier one would cost each of them 30 ns."""
        self.begin = self.events[count - 1][6]
        self._cut(count)
        self.lost += count

    def _cut(self, count: int) -> None:
        del self.events[:count]
        self.first += count

    def is_due(self, now: float) -> bool:
        """Whether there is something to hand over, and the time for it has come."""
        wait_s = HAND_OVER_S if len(self.events) > FEW else FEW_S
        return bool(self.events) and now >= self._handed_over + wait_s

    def hand_over(self, now: float) -> tuple[bytes, int, int]:
        """What is handed over, packed: it is none of ours any more. Beside it are its number of events, and how many
        are missing before it."""
        self.trim()
        batch = self.batch()
        data = msgpack.encode(batch)
        while len(data) > MAX_BYTES and batch.events:  # very long names
            self._lose(-(-len(batch.events) // 2))
            batch = self.batch()
            data = msgpack.encode(batch)
        lost, self.lost = self.lost, 0
        self.begin = last_mark(batch.events, self.begin)
        self._cut(len(batch.events))
        self._handed_over = now
        return data, len(batch.events), lost

    def batch(self) -> Batch:
        """All that there is."""
        events = self.events[:]
        named = ((fn, code_name(fn, "")) for fn in {event[7] for event in events} if isinstance(fn, bytes))
        names = {fn: name for fn, name in named if name}
        offset_s = time.time() - time.monotonic()
        return Batch(self.first, offset_s, self.begin, process.actor, process.actor_name, names, events)

    def rows(self, limit: int) -> list[dict[str, Any]]:
        """What was not handed over yet as rows, the newest ``limit`` of them."""
        return [structs.asdict(row) for row in rows_of([self.batch()])[-limit:]]

    def running(self, contexts: list[TaskContext], limit: int) -> list[dict[str, Any]]:
        """What runs now, as rows: it may have written all that was written since the last mark."""
        begin = last_mark(self.events, self.begin) or (-1, -1)
        return [
            {
                "task_id": context.task.hex(),
                "attempt_number": context.ran,
                "name": context.name,
                "func_or_class_name": code_name(context.fn or context.method, context.name),
                "log_from": begin,
                "log_to": (-1, -1),
                "log_shared": len(contexts) - 1,
            }
            for context in contexts[:limit]
        ]


def new_record() -> Record:
    """An empty one, which stays so where it is switched off."""
    return Record(switch("task_events", {}, os.environ))


def mark() -> Mark | None:
    """How long this process's log files are now; None where its output goes elsewhere."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
        return os.lseek(1, 0, os.SEEK_END), os.lseek(2, 0, os.SEEK_END)
    except Exception:  # the streams may be the user's
        return None


def last_mark(events: list[Event], before: Mark | None) -> Mark | None:
    """The mark behind which everything was written that was written since."""
    for event in reversed(events):
        if event[6] is not None:
            return event[6]
    return before

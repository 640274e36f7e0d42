"""A driver is about to leave: what its workers have printed until now reaches it before it is told that all is there.

What a worker printed without an end of line is in its own memory, so each worker of the driver is told to write it. A
worker also says which nodes its own tasks used, so that the driver can ask there too. A worker that cannot answer (its
interpreter is held by a library) is not waited for long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
from msgspec import Struct, field

from hpc.core.ids import Address
from hpc.core.wire import Answer, FlushLogs, Message

#: A worker may take so long to write out what it has.
ANSWER_S = 0.5

#: (name of a file, how much of it must have been sent)
Goals = dict[str, int]


class Flush(Struct):
    """One driver that waits. ``asked`` are workers that have not answered, by the number of the request."""

    driver: Address
    req: int
    until: float
    asked: dict[int, int] = field(default_factory=dict)
    nodes: set[int] = field(default_factory=set)
    goals: Goals | None = None


class Flushes:
    """The drivers that wait for what was printed. ``sizes`` says how much was written to the files of a driver's
    workers, and ``missing`` whether something of that was not sent yet. ``finish`` sends lines that have no end."""

    def __init__(
        self,
        node: int,
        outbox: list[tuple[Address, Message]],
        sizes: Callable[[Address], Goals],
        missing: Callable[[Goals], bool],
        finish: Callable[[Address], None],
    ) -> None:
        self._node = node
        self._outbox = outbox
        self._sizes, self._missing, self._finish = sizes, missing, finish
        self._waiting: list[Flush] = []
        self._reqs = 0

    def begin(self, driver: Address, req: int, workers: Iterable[int], now: float) -> None:
        """A driver asks; ``workers`` are those that work for it."""
        flush = Flush(driver, req, now + ANSWER_S)
        for worker in workers:
            self._reqs += 1
            flush.asked[self._reqs] = worker
            self._outbox.append((Address(self._node, worker), FlushLogs(self._reqs)))
        self._waiting.append(flush)

    def answered(self, msg: Answer) -> None:
        """A worker has written out what it had."""
        for flush in self._waiting:
            if flush.asked.pop(msg.req, None) is not None:
                try:
                    flush.nodes.update(msgspec.msgpack.decode(msg.data, type=list[int]))
                except msgspec.DecodeError:
                    continue

    def worker_gone(self, worker: int) -> None:
        """It will not answer, and its files are complete."""
        for flush in self._waiting:
            flush.asked = {req: number for req, number in flush.asked.items() if number != worker}

    def driver_gone(self, driver: Address) -> None:
        """Nobody waits any more."""
        self._waiting = [flush for flush in self._waiting if flush.driver != driver]

    def look(self, now: float) -> None:
        """Answer those whose output is there."""
        for flush in list(self._waiting):
            if flush.asked and now < flush.until:
                continue
            if flush.goals is None:
                flush.goals = self._sizes(flush.driver)
            if not self._missing(flush.goals):
                self._waiting.remove(flush)
                self._finish(flush.driver)
                data = msgspec.msgpack.encode(sorted(flush.nodes))
                self._outbox.append((flush.driver, Answer(flush.req, True, data)))

"""A run of a plan, as whoever consumes a dataset sees it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

import hpc
from hpc import spi
from hpc.data.consume.times import Times
from hpc.data.exec.build import build_operators
from hpc.data.exec.machine import Machine
from hpc.data.exec.progress import Progress
from hpc.data.exec.rooms import rooms_of_session
from hpc.data.exec.runs import RUNS
from hpc.data.exec.settings import settings_of
from hpc.data.exec.shell import Shell
from hpc.data.exec.stats import RunStats, State, stats_of
from hpc.data.exec.work import Block
from hpc.data.plan.nodes import BlockHandle, Node
from hpc.exceptions import ObjectLostError


class _Channel:
    """What has come for the consumer. The thread of the run knows this alone, so that a run which nobody has any more
    is closed."""

    def __init__(self) -> None:
        self.queue: deque[Block] = deque()
        #: The first of them is lost, and waited for.
        self.lacks = False
        self.ended = False
        self.error: BaseException | None = None
        self.failed = False
        self.schema = b""
        self.over_at = 0.0
        #: Seconds for which the consumer has waited for blocks.
        self.waited_s = 0.0
        self._wake = threading.Condition(threading.Lock())
        self._waits = False
        #: In a task, whoever waits lends its CPU to the others.
        self._latch = spi.latch() if spi.whoami().kind == "worker" else None

    def wait(self) -> None:
        """Until there is a block, or the end."""
        while self._is_idle():
            self._waits = True
            if self._latch is not None:
                if self._is_idle():
                    hpc.wait([self._latch.ref])
                self._latch = self._latch.again()
                continue
            with self._wake:
                if self._is_idle():
                    self._wake.wait()
        self._waits = False

    def _is_idle(self) -> bool:
        return not self.ended and (self.lacks or not self.queue)

    def give(self, block: Block) -> None:
        """A block has come."""
        if not self.schema:
            self.schema = block.meta.schema
        self.queue.append(block)

    def given(self) -> None:
        """All blocks that there are for now have come."""
        if self._waits and not self._is_idle():
            self._rouse()

    def found(self) -> None:
        """The first block is there again."""
        self.lacks = False
        self._rouse()

    def end(self, error: BaseException | None) -> None:
        """The run is over."""
        self.over_at = time.monotonic()
        self.failed = error is not None
        if self.ended:
            self.queue.clear()  # the consumer has closed it meanwhile
        else:
            self.error = error
        self.ended = True
        self._rouse()

    def _rouse(self) -> None:
        if self._latch is not None:
            self._latch.open()
        else:
            with self._wake:
                self._wake.notify()


class Execution:
    """One run of a plan. Iterating gives its blocks in their order, each once; one thread iterates at a time.

    It runs ahead of its consumer as far as its budget lets. What a task raised is raised by the next ``next``."""

    def __init__(self, plan: Node, context: Any, name: str) -> None:
        settings = settings_of(context)
        rooms = rooms_of_session(settings.store_share)
        ops, settings = build_operators(plan, context, settings, rooms)
        self._name = name
        self._began = time.monotonic()
        #: Where the time of the consumer goes, if it makes batches.
        self.times: Times | None = None
        self._machine = machine = Machine(ops, settings, context.max_tasks_in_flight_per_actor)
        self._channel = channel = _Channel()
        share = RUNS.begin(channel)
        self._shell = Shell(machine, context, channel, share, Progress(name, context))
        self._shell.start()

    def __iter__(self) -> Iterator[BlockHandle]:
        return self

    def __next__(self) -> BlockHandle:
        """The next block. Raises StopIteration after the last, and what a task raised."""
        block = self._first()
        if block is None:
            raise StopIteration
        self._take()
        return BlockHandle(block.ref, block.meta, block.node)

    def tables(self) -> Iterator[pa.Table]:
        """The blocks as tables. One that is lost with its node is made again before it is given."""
        while (block := self._first()) is not None:
            ref = block.ref
            try:
                table = hpc.get(ref)
            except ObjectLostError as error:
                if block.origin is None:
                    self.close()
                    raise
                self._channel.lacks = True
                self._shell.awaits(block, ref, error)
                continue
            del block, ref
            self._take()
            yield table
            del table

    def _first(self) -> Block | None:
        """The next block, which is still to be taken; None behind the last."""
        channel = self._channel
        if channel.lacks or (not channel.queue and not channel.ended):
            began = time.monotonic()
            try:
                channel.wait()
            except BaseException:  # an interrupt: nobody takes what comes from now on
                self._close(interrupted=True)
                raise
            channel.waited_s += time.monotonic() - began
        if channel.error is not None:
            error, channel.error = channel.error, None
            channel.queue.clear()
            raise error
        return channel.queue[0] if channel.queue else None

    def _take(self) -> None:
        channel = self._channel
        if channel.queue:  # else another thread has closed the run meanwhile
            channel.queue.popleft()
            self._shell.took()

    def close(self) -> None:
        """Want no more: what runs for it is cancelled at once. Closing again changes nothing."""
        self._close()

    def _close(self, interrupted: bool = False) -> None:
        channel = self._channel
        if not channel.ended:
            channel.ended = True
            self._shell.close(interrupted)
        channel.error = None
        channel.queue.clear()

    def stats(self) -> RunStats:
        """Where the time went, by operator, until now."""
        until = self._channel.over_at or time.monotonic()
        channel = self._channel
        state: State = "failed" if channel.failed else "finished" if channel.ended else "running"
        return stats_of(
            self._machine,
            self._name,
            until - self._began,
            channel.waited_s,
            state,
            self.times,
            self._shell.memory.moved(),
        )

    def schema(self) -> bytes:
        """The serialized Arrow schema of the first block that has come; b"" before it."""
        return self._channel.schema

    def __enter__(self) -> Execution:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        channel = getattr(self, "_channel", None)
        if channel is not None and not channel.ended:
            self.close()


def execute(plan: Node, context: Any, name: str | None = None) -> Execution:
    """Run a plan in this session (one begins where there is none), with the settings of a `DataContext`. Blocks come as
    they are made; nothing of the result is kept."""
    return Execution(plan, context, name or f"Dataset {plan.name}")

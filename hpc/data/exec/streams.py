"""Reading what tasks tell, item by item, as far as the machine lets."""

from __future__ import annotations

import enum
import pickle
from collections import deque
from typing import Any

import hpc
from hpc import spi
from hpc.data.exec.bodies import Told, decode_told
from hpc.data.exec.machine import Machine
from hpc.data.exec.work import Cause, Work, WorkState
from hpc.exceptions import (
    ActorError,
    GeneratorChangedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    SessionLostError,
    WorkerCrashedError,
)


class Next(enum.Enum):
    """What the next item of a task is."""

    BEGUN = "begun"
    META = "meta"
    BLOCK = "block"
    END = "end"


class TaskStream:
    """The items of one task, or call."""

    __slots__ = (
        "allowed", "ended", "failing", "generator", "last", "lost_actor", "machine", "next", "part", "schema", "told",
        "work",
    )  # fmt: skip

    def __init__(self, work: Work, generator: Any, machine: Machine) -> None:
        self.work = work
        self.generator = generator
        self.machine = machine
        self.next = Next.BEGUN
        #: What was told of the blocks that come next.
        self.told: deque[Told] = deque()
        self.part = 0
        #: The schema of the blocks of this task so far.
        self.schema = b""
        #: How many blocks may be taken.
        self.allowed = 0
        #: What the task says of itself, its last item.
        self.last: Any = None
        #: Its last item was taken.
        self.ended = False
        #: The part at hand has failed; its error comes next.
        self.failing = False
        #: The actor has ended, and with it this call and all others that it had.
        self.lost_actor: BaseException | None = None

    def read(self, arrivals: spi.Arrivals) -> bool:
        """Tell the machine what is there. Whether more is to be watched for: not where the task has ended, nor where a
        block is there that may not be taken yet."""
        machine, work = self.machine, self.work
        take, generator = arrivals.take, self.generator
        while work.state is not WorkState.OVER:
            if self.next is Next.BLOCK and not self.allowed:
                machine.offered(work, self.told[0].meta.nbytes)
                return False
            if self.next is Next.BLOCK and len(self.told) > 1 and self._take_many(arrivals):
                continue
            item = take(generator)
            if item is None:
                self.allowed = 0
                return True
            ref, failed = item
            if self.next is Next.END and ref is None:
                self.ended = True
                machine.over(work, *self.last)
                return False
            if ref is None or failed:
                self._ended(ref)
                return False
            if self.next is Next.BLOCK:
                self.allowed -= 1
                self._block(ref, self.told.popleft())
                if self.told:
                    self._parts_until(self.told[0].part)
                else:
                    self.next = Next.META
            elif self.next is Next.META:
                value = hpc.get(ref)
                if type(value) is int:
                    self._parts_until(value)
                    self.failing = True
                    continue
                if type(value) is tuple:
                    self._parts_until(len(work.parts))
                    # The items of a generator that is let go before its end are not made again when they are lost.
                    self.last, self.next = value, Next.END
                    continue
                self.told.extend(decode_told(value))
                self._parts_until(self.told[0].part)
                self.next = Next.BLOCK
            else:
                self.next = Next.META
                machine.begun(work, hpc.get(ref)[1])
        return False

    def _take_many(self, arrivals: spi.Arrivals) -> bool:
        """Take the blocks that are there of those that were told together; whether there are any."""
        told, work = self.told, self.work
        refs = arrivals.take_many(self.generator, min(self.allowed, len(told)))
        self.allowed -= len(refs)
        for ref in refs:
            if work.state is WorkState.OVER:
                break
            self._block(ref, told.popleft())
            if told:
                self._parts_until(told[0].part)
            else:
                self.next = Next.META
        return bool(refs)

    def _parts_until(self, part: int) -> None:
        """All parts before this one have given their blocks."""
        while self.part < part:
            self.part += 1
            self.machine.part_over(self.work)

    def _block(self, ref: Any, told: Told) -> None:
        work, meta = self.work, told.meta
        if meta.schema:
            self.schema = meta.schema
        elif self.schema:
            meta = type(meta)(meta.rows, meta.nbytes, self.schema, meta.files, meta.first, meta.digest)
        note = pickle.loads(told.note) if told.note else None
        value = None
        if work.wants_values:
            try:
                value = hpc.get(ref)
            except ObjectLostError as error:
                self.machine.failed(work, error, Cause.CRASH)
                return
        node = None
        if self.machine.recovery.is_on:  # another attempt may have made it elsewhere than where the work began
            (place,) = spi.places([ref])
            node = place.nodes[0].hex() if place.nodes else None
        self.machine.block(work, ref, meta, note, value, node)

    def _ended(self, ref: Any) -> None:
        """It has failed, or ended without its last word."""
        self.ended = True
        try:
            if ref is not None:
                hpc.get(ref)
            hpc.get(self.generator.completed())
            error: BaseException = RuntimeError(f"{self.work.name} ended before it was done")
        except Exception as raised:
            error = raised
        if self.work.actor is not None and isinstance(error, ActorError):
            self.lost_actor = error
            return
        if isinstance(error, ObjectLostError) and self._inputs_lost(error):
            return
        self.machine.failed(self.work, error, self._cause(error))

    def _inputs_lost(self, error: BaseException) -> bool:
        """Tell the machine which of its inputs are lost; False where it was not for these."""
        work = self.work
        places = spi.places([block.ref for block in work.blocks])
        lost = [block for block, place in zip(work.blocks, places) if place.state == "failed"]
        if lost:
            self.machine.lost(work, lost, error)
        elif any(block.origin is not None for block in work.blocks):
            self.machine.failed(work, error, Cause.CRASH)  # they have been made again since it began
        return work.state is WorkState.OVER

    def _cause(self, error: BaseException) -> Cause:
        op = self.work.op
        crashes: tuple[type[BaseException], ...] = (WorkerCrashedError, OutOfMemoryError, NodeDiedError)
        if op.takes_at_end:
            crashes += (ObjectLostError,)  # what it has made is gone with its node: all of it is made anew
        elif isinstance(error, ObjectLostError):
            return Cause.SESSION
        if isinstance(error, (SessionLostError, GeneratorChangedError)):
            return Cause.SESSION
        crashed = isinstance(error, crashes)
        may_retry = op.options.remote.get("max_retries") != 0
        return Cause.CRASH if crashed and not self.failing and may_retry else Cause.PART

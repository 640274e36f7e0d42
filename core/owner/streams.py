"""Generators: tasks whose values are told one by one, as the owner sees them.

A stream always has one entry more than items have arrived: whoever wants the next item waits for that entry's value
as for any other. At the end the entry gets a mark instead of a value. Items have ids of their own behind the task's,
from a block that was reserved for it, so a second attempt of the task names the same items and is not heard where the
first one was.
"""

from __future__ import annotations

from hpc.core.ids import Address, return_id
from hpc.core.owner.objects import ObjectTable
from hpc.core.owner.tables import CallRec, Entry, TaskRec
from hpc.core.wire import (
    DYNAMIC,
    ERROR,
    STORED,
    SYSTEM,
    Consumed,
    Free,
    Release,
    Result,
    Yielded,
    system_error,
)

#: What the entry after the last item holds.
END = system_error("EndOfStream", "the generator has no more items")
#: As many items as one likes: the consumer has gone away, and its generator must not wait for it.
ALL_ITEMS = 1 << 62


def item_id(task: bytes, index: int) -> bytes:
    """The id of an item of a generator; the task's own id stands for its end."""
    return return_id(task, index + 1)


class Stream:
    """The items of one generator. ``told`` of the ``taken`` items are known to the worker that makes them."""

    __slots__ = ("received", "taken", "told", "window", "worker")

    def __init__(self, window: int) -> None:
        self.window = window
        self.received = 0
        self.taken = 0
        self.told = 0
        self.worker: Address | None = None


class StreamTable(ObjectTable):
    """The generators among the tasks of this process."""

    def __init__(self, addr: Address) -> None:
        super().__init__(addr)
        self.streams: dict[bytes, Stream] = {}
        #: The further return values of unfinished tasks that have several: whose they are.
        self.task_of: dict[bytes, bytes] = {}

    def unfinished(self, task: bytes) -> TaskRec | CallRec | None:
        """Hook for the layers above: a task or call of ours that has not ended."""
        raise NotImplementedError

    def maker_of(self, ident: bytes) -> bytes:
        """The task or call of ours that makes this object: a return value of one, or an item of a generator."""
        task = self.task_of.get(ident)
        if task is not None or self.unfinished(ident) is not None:
            return task or ident
        made = (t for t, s in self.streams.items() if item_id(t, 0) <= ident <= item_id(t, s.received))
        return next(made, ident)

    def own_returns(self, task: bytes, num_returns: int, window: int) -> None:
        """Make the entries of a task's return values, each held once by the caller."""
        if num_returns > 1:
            self.own(task)
            for index in range(1, num_returns):
                ident = return_id(task, index)
                self.own(ident)
                self.task_of[ident] = task
        elif num_returns < 0:
            self.own(task)
            self.streams[task] = Stream(window)
            if num_returns != DYNAMIC:
                self.own(item_id(task, 0))

    def on_yielded(self, src: Address, msg: Yielded) -> None:
        rec, stream = self.unfinished(msg.task), self.streams.get(msg.task)
        ident = item_id(msg.task, msg.index)
        if rec is None or rec.msg.attempt != msg.attempt:
            self.discard(src, ident, msg.attempt, msg.result)
            return
        if stream is not None:
            stream.worker = src
            if stream.window and stream.taken and not msg.index:
                self._tell_taken(msg.task, stream, stream.taken)  # a new attempt begins to count anew
            if msg.index >= stream.received:
                stream.received = msg.index + 1
                self.own(ident if rec.msg.num_returns == DYNAMIC else item_id(msg.task, stream.received))
        elif rec.msg.window:
            self.send(src, Consumed(msg.task, msg.attempt, ALL_ITEMS))
        entry = self.objects.get(ident)
        if entry is None or entry.result is not None:
            self.discard(src, ident, msg.attempt, msg.result)
            return
        if msg.result.inner:
            self.adopt_inner(ident, msg.result, src, Release(ident, msg.attempt))
        self.set_result(ident, msg.result)

    def set_results(self, rec: TaskRec | CallRec, results: list[Result], src: Address) -> None:
        """A task or call has ended: its return values have these results."""
        msg = rec.msg
        task = msg.task
        inner: list[bytes] = []
        if len(results) < msg.num_returns:
            results = results * msg.num_returns  # one error stands for all
        for index, result in enumerate(results):
            ident = return_id(task, index) if index else task
            if index:
                self.task_of.pop(ident, None)
            entry = self.objects.get(ident)
            if entry is not None and entry.result is not None:
                self.free_copies(ident, result)  # it has run again for the sake of another of its values
                inner += result.inner
                continue
            if result.inner and entry is not None:
                entry.inner = list(result.inner)
                for one in result.inner:
                    self.hold(one)
            inner += result.inner
            self.set_result(ident, result)
        if inner:
            release = Release(task, msg.attempt)
            self.when_acked(inner, lambda: self.send(src, release))
        if msg.num_returns < 0:
            self.end_stream(task, msg.num_returns, results[0])

    def discard(self, src: Address, ident: bytes, attempt: int, result: Result) -> None:
        """An item that nobody waits for: of a late attempt, or of a task that was cancelled."""
        if result.inner:
            self.send(src, Release(ident, attempt))
        self.free_copies(ident, result)

    def free_copies(self, ident: bytes, result: Result) -> None:
        """Free the stored copies of a value that was not accepted, but not those of the one that was."""
        if result.kind == STORED:
            entry = self.objects.get(ident)
            for node in result.nodes:
                if entry is None or entry.result is None or node not in entry.result.nodes:
                    self.send(Address(node, 0), Free([ident]))

    def take_item(self, task: bytes) -> None:
        """The consumer has taken the next item; its generator hears of it if it may be waiting for that."""
        stream = self.streams.get(task)
        if stream is None:
            return
        stream.taken += 1
        if stream.window and stream.taken - stream.told >= (stream.window + 1) // 2:
            self._tell_taken(task, stream, stream.taken)

    def _tell_taken(self, task: bytes, stream: Stream, count: int) -> None:
        rec = self.unfinished(task)
        if rec is not None and stream.worker is not None:
            stream.told = count
            self.send(stream.worker, Consumed(task, rec.msg.attempt, count))

    def end_stream(self, task: bytes, num_returns: int, result: Result) -> None:
        """The generator has returned or failed: a failure is its last item."""
        stream = self.streams.get(task)
        if stream is None:
            return
        if num_returns == DYNAMIC:
            del self.streams[task]
            for index in range(stream.received):
                self.let_go(item_id(task, index))
            return
        if result.kind == ERROR or result.kind == SYSTEM:
            last = item_id(task, stream.received)
            stream.received += 1
            self.own(item_id(task, stream.received))
            self.set_result(last, result)
        self.set_result(item_id(task, stream.received), END)

    def object_freed(self, entry: Entry) -> None:
        """With the last reference to a generator's end goes what nobody has taken of it."""
        stream = self.streams.pop(entry.ident, None)
        if stream is None:
            return
        if stream.window:
            self._tell_taken(entry.ident, stream, ALL_ITEMS)
        for index in range(stream.taken, stream.received + 1):
            self.let_go(item_id(entry.ident, index))

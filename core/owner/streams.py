"""Generators: tasks whose values are told one by one, as the owner sees them.

A stream always has one entry more than items have arrived: whoever wants the next item waits for that entry's value as
for any other. At the end the entry gets a mark instead of a value. Items have ids of their own behind the task's, from
a block that was reserved for it. So a second attempt of the task names the same items, and the ones that the first
attempt told are not heard again.
"""

from __future__ import annotations

from hpc.core.ids import Address, ids_from, return_id
from hpc.core.owner.objects import Objects
from hpc.core.owner.state import OwnerState
from hpc.core.owner.tables import CallRec, ItemStream, TaskRec
from hpc.core.wire import (
    DYNAMIC,
    ERROR,
    INLINE,
    NONE,
    STORED,
    STREAMING,
    SYSTEM,
    Call,
    Cancel,
    Consumed,
    Done,
    Free,
    Release,
    Result,
    Task,
    Yielded,
    system_error,
)

#: What the entry after the last item holds.
END = system_error("EndOfStream", "the generator has no more items")
#: As many items as one likes: the consumer has gone away, and its generator must not wait for it.
ALL_ITEMS = 1 << 62
#: At most so many items of a generator are written and not told yet.
MAX_UNTOLD = 64
#: Items up to this many bytes are remembered by a mark, to see whether another attempt gives the same ones.
MARK_BYTES = 1024
#: How a pickle goes on after its head if equal values have equal pickles: whole numbers, texts, bytes, None, booleans,
#: and short tuples that begin with one. (Numbers with a fraction are measured or computed, and never quite the same.)
_FRAME, _PLAIN = b"\x95", frozenset({b"N", b"\x88", b"\x89", b"K", b"M", b"J", b"\x8a", b"\x8c", b"X", b"C", b"B"})


def item_id(task: bytes, index: int) -> bytes:
    """The id of an item of a generator; the task's own id stands for its end."""
    return return_id(task, index + 1)


def item_ids(task: bytes, first: int, end: int) -> list[bytes]:
    """The ids of the items from ``first`` to before ``end``."""
    return ids_from(item_id(task, first), max(0, end - first))


def mark_of(result: Result) -> int:
    """What tells an item from another one; 0 where that would cost too much, or says nothing."""
    data = result.data
    if result.kind != INLINE or len(data) > MARK_BYTES:
        return 0
    at = 11 if data[2:3] == _FRAME else 2
    return hash(data) if data[at : at + 1] in _PLAIN else 0


class ItemStreams:
    """The generators among the tasks of this process."""

    def __init__(self, state: OwnerState, objects: Objects) -> None:
        self.objects = objects
        self.entries, self.streams, self.task_of = state.entries, state.streams, state.task_of
        self.unfinished, self.send = state.unfinished, state.send

    def maker_of(self, ident: bytes) -> bytes:
        """The task or call of ours that makes this object: a return value of one, or an item of a generator."""
        task = self.task_of.get(ident)
        if task is not None or self.unfinished(ident) is not None:
            return task or ident
        made = (t for t, s in self.streams.items() if item_id(t, 0) <= ident <= item_id(t, s.received))
        return next(made, ident)

    def untold(self, msg: Task | Call) -> list[bytes]:
        """What an unfinished task or call may have written in memory without a word of it to us."""
        if msg.num_returns >= 0:
            return [return_id(msg.task, index) for index in range(msg.num_returns)]
        stream = self.streams.get(msg.task)
        begin = 0 if stream is None else stream.made if stream.attempt == msg.attempt else 0
        return item_ids(msg.task, begin, begin + MAX_UNTOLD)

    def own_returns(self, task: bytes, num_returns: int, window: int) -> None:
        """Make the entries of a task's return values, each held once by the caller."""
        if num_returns > 1:
            self.objects.own(task)
            for index in range(1, num_returns):
                ident = return_id(task, index)
                self.objects.own(ident)
                self.task_of[ident] = task
        elif num_returns < 0:
            self.objects.own(task)
            self.streams[task] = ItemStream(window)
            if num_returns != DYNAMIC:
                self.objects.own(item_id(task, 0))

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
            stream.attempt, stream.made = msg.attempt, msg.index + 1
            if stream.changed is not None or not self._repeats(rec, stream, src, msg):
                self.discard(src, ident, msg.attempt, msg.result)
                return
            if msg.index >= stream.received and not stream.ended:
                stream.received = msg.index + 1
                if rec.retries:
                    stream.marks.append(mark_of(msg.result))
                self.objects.own(ident if rec.msg.num_returns == DYNAMIC else item_id(msg.task, stream.received))
        elif rec.msg.window:
            self.send(src, Consumed(msg.task, msg.attempt, ALL_ITEMS))
        entry = self.entries.get(ident)
        if entry is None or entry.result is not None:
            self.discard(src, ident, msg.attempt, msg.result)
            return
        if msg.result.inner:
            self.objects.adopt_inner(ident, msg.result, src, Release(ident, msg.attempt))
        self.objects.set_result(ident, msg.result)

    def _repeats(self, rec: TaskRec | CallRec, stream: ItemStream, src: Address, msg: Yielded) -> bool:
        """Whether an item is new, or the same as in an earlier attempt as far as is known. If not, the task ends."""
        before = stream.marks[msg.index] if msg.index < min(stream.received, len(stream.marks)) else 0
        now = mark_of(msg.result) if before else 0
        if not now or now == before:
            return True
        self._blame(rec, stream, f"item {msg.index} is not what it was")
        rec.cancelled = True
        self.send(src, Cancel(msg.task, msg.attempt))
        return False

    def _blame(self, rec: TaskRec | CallRec, stream: ItemStream, what: str) -> None:
        why = (
            f"it ran again after {stream.received} items had come, and {what}: some would be there twice and others "
            "never. A generator that may be retried has to give the same items each time (max_retries=0 forbids it)"
        )
        name = rec.msg.name if isinstance(rec, TaskRec) else rec.msg.method
        stream.changed = system_error("GeneratorChangedError", why, task=name)

    def checked(self, rec: TaskRec | CallRec, results: list[Result]) -> list[Result]:
        """The outcome of a generator, or the error that an attempt has not repeated an earlier one."""
        stream = self.streams.get(rec.msg.task)
        if stream is None:
            return results
        made = stream.made if stream.attempt == rec.msg.attempt else 0
        few = made < stream.received and not stream.ended and rec.msg.num_returns != DYNAMIC
        if few and stream.changed is None and results[0].kind == INLINE:
            self._blame(rec, stream, f"gave only {made}")
        return results if stream.changed is None else [stream.changed]

    def is_coming(self, ident: bytes) -> bool:
        """Whether a value that was lost is an item of a generator that still runs and may give it again. If it does
        not, that is seen at its end."""
        task = self.maker_of(ident)
        rec, stream = self.unfinished(task), self.streams.get(task)
        if rec is None or stream is None:
            return False
        return rec.retries != 0 or stream.attempt != rec.msg.attempt or ident > item_id(task, stream.made - 1)

    def lost_items(self, rec: TaskRec | CallRec) -> list[bytes]:
        """The items of a generator that is about to end which were there, were lost, and did not come again."""
        stream = self.streams.get(rec.msg.task) if rec.msg.num_returns < 0 else None
        if stream is None or stream.ended:
            return []
        items = item_ids(rec.msg.task, 0, stream.received)
        return [ident for ident in items if (e := self.entries.get(ident)) is not None and e.result is None]

    def seek(self, lost: list[bytes]) -> None:
        """The generator of these items has ended: make them again, or say why not."""
        for ident in lost:
            entry = self.entries.get(ident)
            if entry is not None and entry.result is None:
                self.objects.lost(entry, "they were made before its generator ended")

    def set_results(self, rec: TaskRec | CallRec, results: list[Result], src: Address) -> None:
        """A task or call has ended: its return values have these results."""
        msg = rec.msg
        task = msg.task
        inner: list[bytes] = []
        shared: list[bytes] | None = None
        if len(results) < msg.num_returns:
            shared = [] if results[0].kind == ERROR else None
            results = results * msg.num_returns  # one error stands for all
        for index, result in enumerate(results):
            ident = return_id(task, index) if index else task
            if index:
                self.task_of.pop(ident, None)
            entry = self.entries.get(ident)
            if entry is not None and entry.result is not None:
                self.free_copies(ident, result)  # it has run again for the sake of another of its values
                inner += result.inner
                continue
            if result.inner and entry is not None:
                entry.inner = list(result.inner)
                for one in result.inner:
                    self.objects.hold(one)
            inner += result.inner
            if msg.num_returns == STREAMING and result.kind == ERROR:
                self.objects.set_result(
                    ident, Result(INLINE, NONE)
                )  # its code raised, which is the last item; so it ended
            elif shared is not None:
                shared.append(ident)
            else:
                self.objects.set_result(ident, result)
        if shared:
            self.objects.set_shared_error(shared, results[0])
        if inner:
            release = Release(task, msg.attempt)
            self.objects.when_acked(inner, lambda: self.send(src, release))
        if msg.num_returns < 0:
            self.end_stream(task, msg.num_returns, results[0])

    def discard(self, src: Address, ident: bytes, attempt: int, result: Result) -> None:
        """An item that nobody waits for: of a late attempt, or of a task that was cancelled."""
        if result.inner:
            self.send(src, Release(ident, attempt))
        self.free_copies(ident, result)

    def discard_all(self, src: Address, msg: Done) -> None:
        """An answer that nobody waits for: a late attempt, or a task that was cancelled."""
        if any(result.inner for result in msg.results):
            self.send(src, Release(msg.task, msg.attempt))
        for index, result in enumerate(msg.results):
            self.free_copies(return_id(msg.task, index), result)

    def free_copies(self, ident: bytes, result: Result) -> None:
        """Free the stored copies of a value that was not accepted, but not those of the one that was."""
        if result.kind == STORED:
            entry = self.entries.get(ident)
            for node in result.nodes:
                if entry is None or entry.result is None or node not in entry.result.nodes:
                    self.send(Address(node, 0), Free([ident]))

    def take_item(self, task: bytes, count: int = 1) -> None:
        """The consumer has taken the next item, or several; its generator hears of it if it may be waiting for that."""
        stream = self.streams.get(task)
        if stream is None:
            return
        stream.taken += count
        if stream.window and stream.taken - stream.told >= (stream.window + 1) // 2:
            self._tell_taken(task, stream, stream.taken)

    def _tell_taken(self, task: bytes, stream: ItemStream, count: int) -> None:
        rec = self.unfinished(task)
        if rec is not None and stream.worker is not None:
            stream.told = count
            self.send(stream.worker, Consumed(task, rec.msg.attempt, count))

    def end_stream(self, task: bytes, num_returns: int, result: Result) -> None:
        """The generator has returned or failed: a failure is its last item."""
        stream = self.streams.get(task)
        if stream is None:
            return
        if stream.ended:
            return
        stream.ended = True
        if num_returns == DYNAMIC:
            del self.streams[task]
            for ident in item_ids(task, 0, stream.received):
                self.objects.let_go(ident)
            return
        if result.kind == ERROR or result.kind == SYSTEM:
            last = item_id(task, stream.received)
            stream.received += 1
            self.objects.own(item_id(task, stream.received))
            self.objects.set_result(last, result)
        self.objects.set_result(item_id(task, stream.received), END)

    def object_freed(self, ident: bytes) -> None:
        """With the last reference to a generator's end goes what nobody has taken of it."""
        stream = self.streams.pop(ident, None)
        if stream is None:
            return
        if stream.window:
            self._tell_taken(ident, stream, ALL_ITEMS)
        for item in item_ids(ident, stream.taken, stream.received + 1):
            self.objects.let_go(item)

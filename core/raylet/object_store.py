"""The node's object arena: who may read what, what leaves memory when room is needed, and who waits for room.

The raylet alone allocates. An object's life ends when its owner frees it (a copy's: when room is needed) and no process
has it pinned. What is not pinned may leave memory, least recently used first. Copies of other nodes' objects are
dropped; other objects are written to disk (`spill`) and come back when they are read.

Readers and writers that need room wait here, and do not ask again. Reads come first: sets of objects (the arguments of
a task) in the order of arrival. Only the oldest set that lacks room keeps what it has pinned already while it waits;
the others take nothing until it has all. So two sets cannot wait for each other. (A single object that is in memory is
never refused: its reader may be a task that runs, and whose end others wait for.) A waiter that only needs the disk
blocks the waiters behind it; a waiter that needs other processes to unpin does not. Where processes pin all that is in
memory and will not let go, or not soon, room is taken in a file instead (`overflow.Overflow`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from hpc.core.causes import FetchCause
from hpc.core.ids import Address, owner_of, raylet_of
from hpc.core.raylet.asking import Asking
from hpc.core.raylet.overflow import Overflow, stretch, too_large, why_full
from hpc.core.raylet.ownerless import Ownerless
from hpc.core.raylet.pulls import ArenaMemory, Pulls
from hpc.core.raylet.spill import WRITE, DiskJob, Spiller
from hpc.core.raylet.tables import FetchSet, Incoming, Stored, Wanted
from hpc.core.raylet.writing import UnsealedRoom
from hpc.core.store.layout import Layout, OutOfSpace, rounded
from hpc.core.wire import (
    Abandon,
    Alloc,
    Allocated,
    AllSealed,
    AskSealed,
    Fetch,
    FetchAll,
    Fetched,
    FetchedAll,
    Free,
    Keep,
    Kept,
    LocationAdded,
    Message,
    PleaseUnpin,
    Pull,
    PullFailed,
    Seal,
    Unpin,
)

MIB = 1 << 20
#: A request for room fails after this time without progress, if no task that runs could still free something.
FULL_TIMEOUT_S = 5.0
#: More than what is needed now leaves memory at once, so that the next who needs room finds some.
SPILL_AHEAD_BYTES = 32 * MIB
#: While processes work that could let go of what they read, who waits for room waits so long; then it goes to disk.
OVERFLOW_AFTER_S = 2.0


class ObjectStore:
    """The pure part of a raylet that keeps objects."""

    def __init__(
        self, node: int, layout: Layout, arena: ArenaMemory, *, spiller: Spiller | None = None,
        full_timeout_s: float = FULL_TIMEOUT_S,
    ) -> None:  # fmt: skip
        self.node = node
        self.now = 0.0
        self.layout = layout
        self.outbox: list[tuple[Address, Message]] = []
        self.spiller = spiller or Spiller()
        self.pulls = Pulls(node, arena, self._arrived, self._pull_failed)
        self.bulk = self.pulls.bulk
        self.incoming = self.pulls.incoming
        self.overflow = Overflow(layout.capacity, arena, self.spiller)
        self.full_timeout_s = full_timeout_s
        #: All objects that are kept here; those in memory are in `lru` too, the least recently used first.
        self.stored: dict[bytes, Stored] = {}
        self.lru: dict[bytes, Stored] = {}
        self.writing = UnsealedRoom(layout, lambda proc, number: self._reply(Address(node, proc), AskSealed(number)))
        self.wanted: list[Wanted] = []
        self.sets: list[FetchSet] = []
        #: Hooks of the machine: whether a process is there, whether it runs a task (and so will let go), its name.
        self.is_there: Callable[[int], bool] = lambda proc: False
        self.is_running: Callable[[int], bool] = lambda proc: False
        self.describe: Callable[[int], str] = lambda proc: f"process {proc}"
        self.asking = Asking(lambda proc: self._reply(Address(node, proc), PleaseUnpin()))
        self._moved_at = 0.0
        self.ownerless = Ownerless(self.pulls.dead_nodes)
        self._pumping = False
        self._again = False

    @property
    def used_bytes(self) -> int:
        """Bytes of the arena that objects take, with those that are being written."""
        return self.layout.used_bytes - self.writing.span_bytes

    def is_written_to(self) -> bool:
        """Whether processes still write here, now that the node leaves. Their spans are asked back."""
        self.writing.closed = True
        if self.writing.spans:
            self._ask_for_pins()
        return bool(self.writing.places or self.writing.spans)

    @property
    def keeps_some(self) -> bool:
        """Whether there are objects here that are no copies, and that somebody wants still."""
        return any(not obj.copy and not obj.freed for obj in self.stored.values())

    def _reply(self, src: Address, msg: Message) -> None:
        self.outbox.append((src, msg))

    # -------------------------------------------------------------- room

    def _take(self, size: int, reading: bool) -> tuple[int, bool]:
        """Room for ``size`` bytes: (offset, True), or (-1, whether the disk alone will make it)."""
        try:
            return self.layout.alloc(size), True
        except OutOfSpace:
            coming = self._make_room(rounded(size), reading)
        try:
            return self.layout.alloc(size), True
        except OutOfSpace:
            return -1, coming

    def _make_room(self, need: int, reading: bool) -> bool:
        """Let objects leave memory until ``need`` bytes are free; True if that much is on its way to disk."""
        layout, spiller = self.layout, self.spiller
        if need - layout.free_bytes - spiller.writing_bytes <= 0:
            if not spiller.writing_bytes:
                # There is enough, in pieces: empty the stretch that costs least.
                self._evict(stretch(need, layout, self.lru.values()), math.inf, reading)
        else:
            lacking = need - layout.free_bytes - spiller.writing_bytes
            ahead = min(SPILL_AHEAD_BYTES, layout.capacity // 8)
            self._evict(list(self.lru.values()), max(lacking, ahead), reading)
        if layout.largest_hole >= need or spiller.writing_bytes >= max(1, need - layout.free_bytes):
            return True
        self._ask_for_pins()
        return False

    def _evict(self, objects: list[Stored], target: float, reading: bool) -> None:
        """Drop or begin to write those that nobody has pinned, in this order, until that is ``target`` bytes."""
        room = self.spiller.room(self.now, reading)
        dirty: list[Stored] = []
        for obj in objects:
            if target <= 0:
                break
            if obj.pins or obj.busy or obj.offset >= self.layout.capacity:
                continue
            if obj.copy:
                self._drop(obj)
            elif obj.disk is not None:
                self._leave_memory(obj)
            elif obj.size <= room:
                room -= obj.size
                dirty.append(obj)
            else:
                continue
            target -= rounded(obj.size)
        if dirty:
            self.spiller.write(dirty)

    def _take_on_disk(self, size: int, proc: int, since: float, reading: bool) -> int:
        """Room in the overflow for an object that gets none in memory. It is given at once if no process is at work
        that could let go of something, else after a while. Returns the offset, or -1. The offset, or -1."""
        if not self.overflow.size:
            return -1
        if self.now - since < OVERFLOW_AFTER_S:
            if self.asking or self.writing.places or self.incoming or self.spiller.writing_bytes:
                return -1
            holders = {holder for obj in self.lru.values() for holder in obj.pins} - {proc}
            if any(self.is_running(holder) for holder in holders):
                return -1
        return self.overflow.take(size, self.now, reading)

    def _ask_for_pins(self) -> None:
        """Ask for the spans of processes here, and for what they keep pinned only in case they read it again."""
        self.asking.ask({proc for obj in self.lru.values() for proc in obj.pins} | self.writing.spans.keys())

    # -------------------------------------------------------------- writing

    def on_alloc(self, src: Address, msg: Alloc) -> None:
        """A process wants room; it is answered when there is some, in the order of the questions."""
        why = too_large(self.node, self.layout, rounded(msg.size))
        if why:
            self._reply(src, Allocated(msg.req, -1, why))
            return
        self.wanted.append(Wanted(src, msg.req, msg.size, msg.ident, self.now, msg.ahead))
        self.pump()

    def on_abandon(self, src: Address, msg: Abandon) -> None:
        if self.writing.end(msg.offset, src.proc, msg.size):
            self._free(msg.offset)

    def on_seal(self, src: Address, msg: Seal) -> None:
        if not self.writing.end(msg.offset, src.proc, msg.size):
            return
        if msg.ident in self.stored:
            self.stored[msg.ident].writer = src.proc
            self._free(msg.offset)
            return
        freed = self.writing.take_freed(msg.ident, src.proc) or self.ownerless.has(msg.ident)
        obj = Stored(msg.ident, msg.offset, msg.size, freed=freed, writer=src.proc)
        if msg.keep:
            self.asking.keeps(src.proc)
            obj.pins[src.proc] = 1
        self._keep(obj)
        self._maybe_drop(obj)

    def on_all_sealed(self, src: Address, msg: AllSealed) -> None:
        """A process has said what it has sealed: what is not here now may be nowhere."""
        if self.writing.on_all_sealed(src.proc, msg.round) and self.sets:
            self.pump()

    def _keep(self, obj: Stored) -> None:
        self.stored[obj.ident] = self.lru[obj.ident] = obj
        self._moved_at = self.now
        if self.sets:
            self.pump()

    def _free(self, offset: int) -> None:
        """Space can be used again."""
        if offset >= self.layout.capacity:
            self.overflow.free(offset)
        else:
            self.layout.free(offset)
        self._moved_at = self.now
        if self.wanted or self.sets:
            self.pump()

    def on_unpin(self, src: Address, msg: Unpin) -> None:
        self.asking.answered(src.proc)
        for ident in msg.idents:
            obj = self.stored.get(ident)
            if obj is not None and src.proc in obj.pins:
                self._unpin(obj, src.proc)
        if self.wanted or self.sets:
            self.pump()

    def _unpin(self, obj: Stored, proc: int) -> None:
        obj.pins[proc] -= 1
        if not obj.pins[proc]:
            del obj.pins[proc]
            self._touch(obj)
            self._moved_at = self.now
            if obj.copy and obj.offset >= self.layout.capacity and not obj.busy:
                self._drop(obj)
        self._maybe_drop(obj)

    def _pin(self, obj: Stored, proc: int) -> None:
        obj.pins[proc] = obj.pins.get(proc, 0) + 1
        self.asking.keeps(proc)
        self._touch(obj)

    def _touch(self, obj: Stored) -> None:
        if obj.ident in self.lru:
            self.lru[obj.ident] = self.lru.pop(obj.ident)

    # -------------------------------------------------------------- the end of objects

    def on_free(self, src: Address, msg: Free) -> None:
        if msg.writer and self.is_there(msg.writer):
            self.writing.disown(msg.writer, msg.idents)
        for ident in msg.idents:
            obj = self.stored.get(ident)
            if obj is not None:
                if msg.writer in (0, obj.writer):
                    obj.freed = True
                    self._maybe_drop(obj)
            elif not msg.writer:
                # A worker's result may have reached its owner, and was dropped there, before its Seal came here.
                self.writing.freed(ident)

    def _maybe_drop(self, obj: Stored) -> None:
        if obj.freed and not obj.pins and not obj.busy:
            self._drop(obj)

    def _drop(self, obj: Stored) -> None:
        if self.stored.get(obj.ident) is not obj:
            return
        del self.stored[obj.ident]
        self.pulls.dropped(obj.ident)
        self.spiller.forget(obj)
        self._leave_memory(obj)

    def _leave_memory(self, obj: Stored) -> None:
        if self.lru.pop(obj.ident, None) is not None:
            offset, obj.offset = obj.offset, -1
            self._free(offset)

    def proc_gone(self, proc: int) -> None:
        """A process has ended (its descriptor and its socket): what it pinned or was writing is given back."""
        self.asking.gone(proc)
        self.wanted = [want for want in self.wanted if want.src.proc != proc]
        for waiting in [s for s in self.sets if s.src.proc == proc and s.pull is None]:
            self.sets.remove(waiting)
            waiting.held.clear()
        for offset in self.writing.proc_gone(proc):
            self._free(offset)
        for obj in list(self.stored.values()):
            if obj.pins.pop(proc, 0):
                self._maybe_drop(obj)
        self._moved_at = self.now
        self.pump()

    def owner_gone(self, owner: Address) -> None:
        """Nobody can hold the objects of an owner that is gone."""
        self.ownerless.dead_owners.add(owner)
        self.free_ownerless([ident for ident in self.stored if owner_of(ident) == owner])

    def free_ownerless(self, idents: Sequence[bytes]) -> None:
        """Nobody can hold those of the objects whose owner is gone."""
        for obj in [obj for ident in idents if (obj := self.stored.get(ident)) and self.ownerless.has(ident)]:
            obj.freed = True
            self._maybe_drop(obj)

    def forget_node(self, node: int) -> None:
        """A node is gone. Pulls from it go on elsewhere, and what its processes owned is freed. Copies of what it had
        made may be the last ones now."""
        self.pulls.forget_node(node)
        for waiting in [s for s in self.sets if s.pull is not None and s.pull[0] == node]:
            self._end_set(waiting)
        for obj in list(self.stored.values()):
            if obj.origin == node:
                obj.copy = False
        self.free_ownerless([ident for ident in self.stored if owner_of(ident).node == node])

    # -------------------------------------------------------------- reading

    def on_fetch(self, src: Address, msg: Fetch) -> None:
        obj = self.stored.get(msg.ident)
        if obj is not None and obj.offset >= 0 and obj.busy != "restoring":
            self._pin(obj, src.proc)
            self._reply(src, Fetched(msg.ident, obj.offset, obj.size))
            return
        self._add_set(FetchSet(src, 0, {msg.ident: (msg.size, msg.nodes)}, self.now, alone=True))

    def on_fetch_all(self, src: Address, msg: FetchAll) -> None:
        if not msg.idents or len(msg.sizes) < len(msg.idents) or len(msg.nodes) < len(msg.idents) or min(msg.sizes) < 0:
            self._reply(src, FetchedAll(msg.req, [], [], [], "lost", "nothing that could be fetched was named"))
            return
        items = {ident: (size, nodes) for ident, size, nodes in zip(msg.idents, msg.sizes, msg.nodes)}
        self._add_set(FetchSet(src, msg.req, items, self.now))

    def on_keep(self, src: Address, msg: Keep) -> None:
        """A node that leaves wants an object kept here."""
        obj = self.stored.get(msg.ident)
        if obj is not None and not obj.freed:
            obj.copy = False
            self._reply(src, Kept(msg.ident))
        else:
            items = {msg.ident: (msg.size, msg.nodes)}
            self._add_set(FetchSet(Address(self.node, 0), 0, items, self.now, alone=True, keeper=src.node))

    def on_pull(self, node: int, msg: Pull) -> None:
        """Another node wants part of an object of ours; one that is on disk comes back to memory for that."""
        obj = self.stored.get(msg.ident)
        if obj is None and msg.ident in self.incoming:
            self.pulls.serve_incoming(node, msg)
        elif obj is None:
            self.bulk.append((node, PullFailed(msg.ident, "it is not here")))
        elif obj.offset >= 0 and obj.busy != "restoring":
            self._touch(obj)
            self.pulls.serve(node, msg, obj)
        else:
            items: dict[bytes, tuple[int, list[int]]] = {obj.ident: (obj.size, [])}
            self._add_set(FetchSet(Address(self.node, 0), 0, items, self.now, alone=True, pull=(node, msg)))

    def _add_set(self, new: FetchSet) -> None:
        total = sum(rounded(size) for size, _ in new.items.values())
        why = too_large(self.node, self.layout, total)
        if why:
            why = why if new.alone else f"the arguments are too large together: {why}"
            self._fail(new, next(iter(new.items)), "no_room", why)
            return
        at = len(self.sets)
        while at and self.sets[at - 1].keeper and not new.keeper:
            at -= 1  # nobody waits for these: they come last
        self.sets.insert(at, new)
        self.pump()

    def pump(self) -> None:
        """See who can go on: sets first, in the order of arrival, then those who want to write."""
        if self._pumping:
            self._again = True
            return
        self._pumping = True
        self._again = True
        try:
            while self._again:
                self._again = False
                held_up = self._pump_sets()
                if not held_up:
                    self._pump_wanted()
        finally:
            self._pumping = False

    def _pump_sets(self) -> bool:
        """Serve sets; True if the oldest that lacks room will be helped by the disk: nobody may overtake it."""
        lacking = held_up = False
        for waiting in list(self.sets):
            if waiting not in self.sets:
                continue
            missing = [ident for ident in waiting.items if not self._there(ident)]
            if not missing and (waiting.alone or not lacking):
                self._complete(waiting)
            elif lacking:
                self._let_go_held(waiting)
            else:
                self._hold(waiting)
                room, coming = self._bring(waiting, missing)
                if not room:
                    lacking, held_up = True, coming
        return held_up

    def _there(self, ident: bytes) -> bool:
        obj = self.stored.get(ident)
        return obj is not None and obj.offset >= 0 and obj.busy != "restoring"

    def _hold(self, waiting: FetchSet) -> None:
        """Pin what is there already for a set that goes on."""
        for ident in waiting.items:
            if self._there(ident):
                obj = self.stored[ident]
                if obj not in waiting.held:
                    waiting.held.append(obj)
                    self._pin(obj, waiting.src.proc)

    def _let_go_held(self, waiting: FetchSet) -> None:
        held, waiting.held = waiting.held, []
        for obj in held:
            if waiting.src.proc in obj.pins:
                self._unpin(obj, waiting.src.proc)

    def _bring(self, waiting: FetchSet, missing: list[bytes]) -> tuple[bool, bool]:
        """Begin to restore or pull what is missing: (whether there was room for all, whether the disk will make it)."""
        for ident in missing:
            size, nodes = waiting.items[ident]
            obj = self.stored.get(ident)
            if ident in self.incoming:
                self.pulls.add_sources(ident, nodes)
                continue
            if (obj is not None and obj.busy == "restoring") or self.writing.is_written(ident):
                continue
            if obj is None and not any(n != self.node and n not in self.pulls.dead_nodes for n in nodes):
                if self.node in nodes and self.writing.may_be_sealed(waiting):
                    continue
                self._fail(waiting, ident, "lost", "no node that is alive has a copy", nodes)
                return True, False
            size = size if obj is None else obj.size
            offset, coming = self._take(size, True)
            if offset < 0 and not coming:
                offset = self._take_on_disk(size, waiting.src.proc, waiting.since, True)
            if offset < 0:
                return False, coming
            if obj is not None:
                obj.offset = offset
                self.lru[ident] = obj
                self.spiller.read(obj)
            else:
                self.pulls.start(ident, size, offset, nodes)
        return True, False

    def _end_set(self, waiting: FetchSet) -> None:
        if waiting in self.sets:
            self.sets.remove(waiting)
        self._let_go_held(waiting)

    def _complete(self, waiting: FetchSet) -> None:
        proc = waiting.src.proc
        objects = [self.stored[ident] for ident in waiting.items]
        for obj in objects:
            if obj not in waiting.held:
                self._pin(obj, proc)
        waiting.held.clear()
        self.sets.remove(waiting)
        self._moved_at = self.now
        if waiting.pull is not None:
            node, msg = waiting.pull
            self.pulls.serve(node, msg, objects[0])
            self._unpin(objects[0], proc)
        elif waiting.keeper:
            objects[0].copy = False
            self._unpin(objects[0], proc)
            self._reply(raylet_of(waiting.keeper), Kept(objects[0].ident))
        elif waiting.alone:
            self._reply(waiting.src, Fetched(objects[0].ident, objects[0].offset, objects[0].size))
        else:
            idents, sizes, offsets = zip(*((o.ident, o.size, o.offset) for o in objects))
            self._reply(waiting.src, FetchedAll(waiting.req, list(idents), list(sizes), list(offsets)))

    def _fail(self, waiting: FetchSet, ident: bytes, cause: FetchCause, why: str, lost: Sequence[int] = ()) -> None:
        """A set cannot be had: because of ``ident``, which the nodes ``lost`` should have and have not."""
        self._end_set(waiting)
        size = waiting.items[ident][0]
        if waiting.pull is not None:
            self.bulk.append((waiting.pull[0], PullFailed(ident, why)))
        elif waiting.keeper:
            self._reply(raylet_of(waiting.keeper), Kept(ident, why))
        elif waiting.alone:
            self._reply(waiting.src, Fetched(ident, -1, size, cause, why, list(lost)))
        else:
            self._reply(waiting.src, FetchedAll(waiting.req, [], [], [], cause, why, ident, list(lost)))

    def _arrived(self, pull: Incoming) -> None:
        """A copy of another node's object is complete."""
        freed = self.ownerless.has(pull.ident)
        obj = Stored(pull.ident, pull.offset, pull.size, copy=True, freed=freed, origin=pull.origin)
        self.outbox.append((owner_of(pull.ident), LocationAdded(pull.ident, self.node)))
        self.pulls.hand_readers(pull, obj)
        self._keep(obj)
        self._maybe_drop(obj)  # its owner, and those who wanted it, may have ended meanwhile

    def _pull_failed(self, pull: Incoming, why: str) -> None:
        for waiting in [s for s in self.sets if pull.ident in s.items]:
            self._fail(waiting, pull.ident, "lost", why, pull.failed)
        self._free(pull.offset)  # last: those who wait for room are served, and these do not wait any more

    def _pump_wanted(self) -> None:
        """Serve writers in order. A writer that waits for a spill to finish blocks the writers behind it."""
        for want in list(self.wanted):
            offset, coming = self._take(want.size, False)
            if offset < 0 and not coming:
                offset = self._take_on_disk(want.size, want.src.proc, want.since, False)
            if offset >= 0:
                self.wanted.remove(want)
                self.writing.begin(want.src.proc, want.ident, offset)
                span, ahead = self.writing.give_span(want.src.proc, want.ahead)
                if ahead:
                    self.asking.keeps(want.src.proc)
                self._reply(want.src, Allocated(want.req, offset, "", span, ahead))
            elif coming:
                return

    # -------------------------------------------------------------- the disk

    def disk_ended(self, job: DiskJob, error: str) -> None:
        """The disk is done with a job."""
        self.spiller.ended(job, error, self.now)
        if job.objects and not error:
            self._moved_at = self.now
        for obj in job.objects:
            if obj.offset >= self.layout.capacity and not error:
                self.spiller.forget(obj)  # it was read back to another place on disk
            if obj.freed and not obj.pins:
                self._drop(obj)
            elif job.kind == WRITE:
                if not error and not obj.pins:
                    self._leave_memory(obj)
            elif error:
                why = f"it could not be read back from disk: {error}"
                for waiting in [s for s in self.sets if obj.ident in s.items]:
                    if set(waiting.items[obj.ident][1]) <= {self.node}:
                        self._fail(waiting, obj.ident, "disk", why, [self.node])
                self._drop(obj)
        self.pump()

    # -------------------------------------------------------------- time

    def _hopeless(self, procs: set[int]) -> bool:
        """Whether nobody who reads objects here is at work: those who wait cannot let go of what they have."""
        if self.asking or (self.spiller.writing_bytes and not self.spiller.problem):
            return False
        holders = {proc for obj in self.lru.values() for proc in obj.pins} - procs
        return not any(self.is_running(proc) for proc in holders)

    def tick(self, now: float) -> float:
        """End what has waited for too long; returns the time of the next look."""
        self.now = now
        self.pulls.tick(now)
        self.writing.tick(now)
        if not self.wanted and not self.sets:
            return now + 1.0
        self.pump()
        if now - self._moved_at < self.full_timeout_s:
            return min(now + 0.5, self._moved_at + self.full_timeout_s + 0.001)
        waiting_procs = {w.src.proc for w in self.wanted} | {s.src.proc for s in self.sets}
        if not self._hopeless(waiting_procs):
            return now + 0.5
        for want in [w for w in self.wanted if now - w.since >= self.full_timeout_s]:
            self.wanted.remove(want)
            self._reply(want.src, Allocated(want.req, -1, self._why_full(want.size)))
        for waiting in [s for s in self.sets if now - s.since >= self.full_timeout_s and self._lacks_room(s)]:
            why = self._why_full(sum(size for size, _ in waiting.items.values()))
            self._fail(waiting, next(iter(waiting.items)), "no_room", why)
            break
        self.pump()
        return now + 0.1

    def _lacks_room(self, waiting: FetchSet) -> bool:
        """Whether something of the set is neither there nor on its way."""
        return any(
            not self._there(ident)
            and ident not in self.incoming
            and not self.writing.is_written(ident)
            and not (ident in self.stored and self.stored[ident].busy == "restoring")
            for ident in waiting.items
        ) and self.writing.is_over(waiting.round)

    def _why_full(self, size: int) -> str:
        return why_full(self.node, size, self.layout, self.lru.values(), self.describe, self.spiller.state())

"""The objects that this process owns or borrows: what keeps each alive, and which waiters hear of its value.

The owner counts its own holds and keeps an idempotent set of the nodes that hold an object; processes count at their
raylet. Whoever sends a reference keeps it alive until the owner is known to know of the receiver (`when_acked`).
After Wang et al., "Ownership: A Distributed Futures System for Fine-Grained Tasks", NSDI 2021; counting by node
instead of by process keeps the sets small and makes a node's death one event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from hpc.core.ids import HEAD_NODE, SESSION_BYTES, Address, owner_of, raylet_of
from hpc.core.owner.state import OwnerState
from hpc.core.owner.tables import CallRec, Entry, OwnedActor, SharedError, TaskRec, Waiter
from hpc.core.wire import (
    ERROR,
    INLINE,
    STORED,
    SYSTEM,
    BorrowAcked,
    BorrowAdd,
    BorrowDrop,
    CopyLost,
    Free,
    GetObject,
    HeadHolds,
    HoldAcked,
    HoldAdd,
    HoldDrop,
    ObjectMissing,
    ObjectValue,
    Release,
    Result,
    system_error,
)

#: Why a reference from elsewhere is good for nothing.
OTHER_SESSION = (
    "the reference is of another session than this process is in, most likely of one that has ended: what it refers to "
    "ended with that session, and has to be made again in this one"
)
#: A message names at most so many objects that are to be freed where a worker was lost: it may have had any number of
#: calls.
FREE_BATCH = 200


class Objects:
    """The objects that this process owns or borrows. It does not know what an object's end means for others. It says
    ``freed`` when nobody holds an object of ours any more, and then ``forgotten`` when nobody here holds the object any
    more. It says ``lost`` when no copy of an object's value is left, and why. It says ``resolved`` when all references
    among the arguments of a task, call or actor have values."""

    def __init__(
        self,
        state: OwnerState,
        freed: Callable[[bytes], None],
        forgotten: Callable[[bytes], None],
        lost: Callable[[Entry, str], None],
        resolved: Callable[[TaskRec | CallRec | OwnedActor], None],
    ) -> None:
        self.state = state
        self.addr, self.raylet = state.addr, state.raylet
        self.entries, self.handed_over = state.entries, state.handed_over
        self.woken, self.unpinned, self.dropped = state.woken, state.unpinned, state.dropped
        self.gone, self.gone_nodes = state.gone, state.gone_nodes
        self.error_watches, self.unseen = state.error_watches, state.unseen
        self.shared_errors = state.shared_errors
        self.send = state.send
        self.freed, self.forgotten, self.lost, self.resolved = freed, forgotten, lost, resolved
        #: Objects whose owner is not known to know of our hold, each with the number of the word by which we said so.
        self.unacked: dict[bytes, int] = {}
        self._borrows = 0
        #: Work that leads to more of its kind, as long as a program's chains are: done in turn, never by recursion.
        self._resolved: deque[TaskRec | CallRec | OwnedActor] = deque()
        self._freed: deque[Entry] = deque()
        self._resolving = self._freeing = False

    # -------------------------------------------------------------- holds

    def own(self, ident: bytes, count: int = 1) -> Entry:
        """A new object of ours that has no value yet."""
        entry = self.entries[ident] = Entry(ident, True, count)
        return entry

    def hold(self, ident: bytes) -> Entry:
        """One more hold of this process on the object; the first on a stranger's object makes us a borrower."""
        entry = self.entries.get(ident)
        if entry is None:
            owner = owner_of(ident)
            entry = self.entries[ident] = Entry(ident, owner == self.addr)
            if ident[:SESSION_BYTES] != self.state.session:
                entry.owned, entry.dead = False, True
                entry.result = system_error("OwnerDiedError", OTHER_SESSION, ident=ident.hex())
            elif entry.owned:
                entry.result = system_error("ReferenceCountingAssertionError", "the object was freed before this use")
            elif owner in self.gone or owner.node in self.gone_nodes:
                self._owner_died(entry)
            else:
                self._borrows += 1
                self.unacked[ident] = self._borrows
                self.send(self.raylet, BorrowAdd([ident], self._borrows))
        entry.count += 1
        return entry

    def let_go(self, ident: bytes) -> None:
        """One hold less; the object is freed, or given back to its owner, with the last one."""
        entry = self.entries.get(ident)
        if entry is not None:
            entry.count -= 1
            if entry.count <= 0 and not entry.nodes:
                self._free(entry)

    def let_go_all(self, idents: Iterable[bytes]) -> None:
        """``let_go`` for each."""
        for ident in idents:
            self.let_go(ident)

    def drain_dropped(self) -> None:
        """Handle the references that the garbage collector has taken since the last time."""
        dropped, entries = self.dropped, self.entries
        while dropped:
            entry = entries.get(dropped.popleft())
            if entry is not None:
                entry.count -= 1
                if entry.count <= 0 and not entry.nodes:
                    if entry.plain:
                        del entries[entry.ident]
                    else:
                        self._free(entry)

    def _free(self, entry: Entry) -> None:
        """Forget an object that nobody holds. What it held may go with it, and what that held: one after the other."""
        del self.entries[entry.ident]
        if not entry.owned and not entry.dead:
            self.unacked.pop(entry.ident, None)
            self.send(self.raylet, BorrowDrop([entry.ident]), urgent=False)
        self._freed.append(entry)
        if self._freeing:
            return
        self._freeing = True
        try:
            while self._freed:
                one = self._freed.popleft()
                self._let_go_of(one)
                self.forgotten(one.ident)
        finally:
            self._freeing = False

    def _let_go_of(self, entry: Entry) -> None:
        result = entry.result
        if entry.owned:
            if result is not None and result.kind == INLINE and entry.inner is None and entry.on_ack is None:
                self.freed(entry.ident)  # as nearly all are: nothing else to do
                return
            if result is not None and result.kind == STORED:
                for node in result.nodes:
                    self.send(raylet_of(node), Free([entry.ident]), urgent=False)
            elif result is not None and result.kind == ERROR:
                self._let_go_of_error(entry.ident, result)
            self.freed(entry.ident)
        if entry.pinned:
            self.unpinned.append(entry.ident)
        if entry.inner:
            self.let_go_all(entry.inner)
        # Whoever keeps it alive until our hold is known need not wait any longer: we hold it no more.
        callbacks, entry.on_ack = entry.on_ack, None
        for callback in callbacks or ():
            callback()

    def when_acked(self, idents: Iterable[bytes], then: Callable[[], None]) -> None:
        """Call ``then`` once the owners of all these (those still held here) know that this node holds them."""
        waiting = [e for i in idents if i in self.unacked and (e := self.entries.get(i)) is not None]
        if not waiting:
            then()
            return
        left = len(waiting)

        def one_less() -> None:
            nonlocal left
            left -= 1
            if not left:
                then()

        for entry in waiting:
            if entry.on_ack is None:
                entry.on_ack = []
            entry.on_ack.append(one_less)

    def hold_until_acked(self, inner: bytes, outer: bytes) -> None:
        """``inner`` was found inside ``outer``: keep the latter until the former's owner knows of us."""
        if outer in self.entries:
            self.hold(outer)
            self.when_acked([inner], lambda: self.let_go(outer))

    # -------------------------------------------------------------- values

    def set_result(self, ident: bytes, result: Result, plain: bool = False) -> None:
        """The object has a value: tell everyone who waits. Without holders the value is given up at once. ``plain``: it
        is the only value of a task or call that ended, came in the message and refers to nothing, as nearly all do."""
        entry = self.entries.get(ident)
        if entry is None:
            if result.kind == STORED:
                for node in result.nodes:
                    self.send(raylet_of(node), Free([ident]), urgent=False)
            elif result.kind == ERROR:
                self._not_handled(result)
            return
        entry.result = result
        entry.plain = plain
        if result.kind == ERROR and entry.owned:
            entry.plain = False
            self.unseen.add(ident)
        waiters = entry.waiters
        if waiters is not None:
            entry.waiters = None
            for waiter in waiters:
                self._tell(waiter, entry, result)
            if self._resolved and not self._resolving:
                self._go_on()
        if self.error_watches and (result.kind == ERROR or result.kind == SYSTEM):
            self._tell_watches(ident)

    def set_shared_error(self, idents: list[bytes], result: Result) -> None:
        """These return values of one task have the same error."""
        kept = [ident for ident in idents if ident in self.entries]
        if not kept:
            self._not_handled(result)
        shared = SharedError(len(kept))
        for ident in kept:
            self.shared_errors[ident] = shared
            self.set_result(ident, result)

    def _let_go_of_error(self, ident: bytes, result: Result) -> None:
        seen = ident not in self.unseen
        self.unseen.discard(ident)
        shared = self.shared_errors.pop(ident, None)
        if shared is not None:
            shared.left -= 1
            shared.seen = shared.seen or seen
            seen = shared.seen or shared.left > 0  # else by the last of them
        if not seen:
            self._not_handled(result)

    def _not_handled(self, result: Result) -> None:
        """Nobody has got this error, and nobody can any more."""
        if self.state.unhandled_waiter is not None:
            self.state.unhandled.append(result)
            self.woken.append(self.state.unhandled_waiter)

    def _tell_watches(self, ident: bytes) -> None:
        for watch in self.error_watches:
            if watch.concerns(ident):
                watch.failed = True
                if watch.waiter.needed > 0:
                    watch.waiter.needed = 0
                    self.woken.append(watch.waiter)

    def _go_on(self) -> None:
        """Tasks, calls and actors whose arguments have all come go on. One that fails at once, because an argument is
        an error, lets the next ones fail: they are taken in turn."""
        resolved = self._resolved
        self._resolving = True
        try:
            while resolved:
                rec = resolved.popleft()
                if not self.lost_meanwhile(rec):
                    self.resolved(rec)
        finally:
            self._resolving = False

    def _tell(self, waiter: Waiter | TaskRec | CallRec | OwnedActor | Address, entry: Entry, result: Result) -> None:
        if type(waiter) is Waiter:
            waiter.needed -= 1
            if waiter.needed <= 0:
                self.woken.append(waiter)
        elif type(waiter) is Address:
            self.unseen.discard(entry.ident)
            self.send(waiter, ObjectValue(entry.ident, result))
        else:
            assert isinstance(waiter, (TaskRec, CallRec, OwnedActor))
            waiter.unresolved -= 1
            if not waiter.unresolved:
                self._resolved.append(waiter)

    def lost_meanwhile(self, rec: TaskRec | CallRec | OwnedActor) -> bool:
        """Arguments that had values may have lost them while others were waited for: wait for those again."""
        refs = rec.create.refs if isinstance(rec, OwnedActor) else rec.msg.refs
        lost = [entry for ident in refs if (entry := self.entries.get(ident)) is not None and entry.result is None]
        rec.unresolved = len(lost)
        for entry in lost:
            self.await_value(entry, rec)
        return bool(lost)

    def await_value(self, entry: Entry, waiter: Waiter | TaskRec | CallRec | OwnedActor | Address) -> None:
        """``waiter`` is told when the entry has a value; the owner is asked once if it is not us."""
        if entry.waiters is None:
            entry.waiters = []
        entry.waiters.append(waiter)
        if not entry.owned and not entry.asked:
            entry.asked = True
            self.send(owner_of(entry.ident), GetObject(entry.ident))

    def await_no_more(self, idents: Iterable[bytes], waiter: Waiter) -> None:
        """The reverse of `await_value`, for what has no value yet."""
        for ident in idents:
            entry = self.entries.get(ident)
            if entry is not None and entry.waiters and waiter in entry.waiters:
                entry.waiters.remove(waiter)

    def adopt_inner(self, ident: bytes, result: Result, sender: Address, release: Release) -> None:
        """A result of ours arrived with references inside: hold them as long as it lives, then release the sender."""
        entry = self.entries.get(ident)
        if entry is not None:
            entry.inner = list(result.inner)
            for inner in result.inner:
                self.hold(inner)
            self.when_acked(result.inner, lambda: self.send(sender, release))
        else:
            self.send(sender, release)

    def hand_over(self, task: bytes, attempt: int, to: Address, idents: list[bytes]) -> None:
        """References that travel inside results: held here until ``to`` releases them or is gone."""
        if to in self.gone or to.node in self.gone_nodes:
            return
        for ident in idents:
            self.hold(ident)
        self.handed_over[(task, attempt)] = (to, idents)

    # -------------------------------------------------------------- messages

    def on_release(self, src: Address, msg: Release) -> None:
        held = self.handed_over.pop((msg.task, msg.attempt), None)
        if held is not None:
            self.let_go_all(held[1])

    def on_get_object(self, src: Address, msg: GetObject) -> None:
        entry = self.entries.get(msg.ident)
        if entry is None or not entry.owned:
            self.send(src, ObjectMissing(msg.ident, "its owner has freed it"))
        elif entry.result is not None:
            self.unseen.discard(msg.ident)
            self.send(src, ObjectValue(msg.ident, entry.result))
        else:
            self.await_value(entry, src)

    def on_object_value(self, src: Address, msg: ObjectValue) -> None:
        entry = self.entries.get(msg.ident)
        if entry is not None and not entry.owned:
            self.set_result(msg.ident, msg.result)

    def on_object_missing(self, src: Address, msg: ObjectMissing) -> None:
        entry = self.entries.get(msg.ident)
        if entry is not None and entry.result is None:
            self.set_result(msg.ident, system_error("ObjectLostError", msg.why, ident=msg.ident.hex()))

    def on_hold_add(self, src: Address, msg: HoldAdd) -> None:
        for ident in msg.idents:
            entry = self.entries.get(ident)
            if entry is not None:
                if entry.nodes is None:
                    entry.nodes = set()
                entry.nodes.add(msg.node)
        self.send(src, HoldAcked(msg.idents))

    def on_head_holds(self, src: Address, msg: HeadHolds) -> None:
        """Another head holds these, and nothing else of ours: what the one before has said last may be lost with it."""
        if src != self.raylet:
            return
        held = {*msg.idents}
        dropped = [e.ident for e in self.entries.values() if e.nodes and HEAD_NODE in e.nodes and e.ident not in held]
        for ident in dropped:
            self._node_lets_go(ident, HEAD_NODE)

    def on_hold_drop(self, src: Address, msg: HoldDrop) -> None:
        for ident in msg.idents:
            self._node_lets_go(ident, msg.node)

    def _node_lets_go(self, ident: bytes, node: int) -> None:
        entry = self.entries.get(ident)
        if entry is not None and entry.nodes:
            entry.nodes.discard(node)
            if not entry.nodes and entry.count <= 0:
                self._free(entry)

    def on_borrow_acked(self, src: Address, msg: BorrowAcked) -> None:
        for ident, number in zip(msg.idents, msg.numbers):
            if self.unacked.get(ident) == number:  # else it was let go since, and perhaps taken again
                self._acked(self.entries[ident], msg.dead)

    def _acked(self, entry: Entry, dead: bool) -> None:
        """Nothing more is to be waited for: the owner knows of our hold, or is ``dead``."""
        self.unacked.pop(entry.ident, None)
        callbacks, entry.on_ack = entry.on_ack, None
        if dead:
            self._owner_died(entry)
        for callback in callbacks or ():
            callback()

    def on_location_added(self, ident: bytes, node: int) -> None:
        """A node has a copy of an object of ours; if the object is gone, or was given up as lost, the copy is freed."""
        entry = self.entries.get(ident)
        if entry is None or entry.result is None or entry.result.kind != STORED:
            self.send(raylet_of(node), Free([ident]))
        elif node not in entry.result.nodes:
            entry.result.nodes = (*entry.result.nodes, node)

    def on_copy_lost(self, src: Address, msg: CopyLost) -> None:
        """A reader could not reach copies that it was told of."""
        entry = self.entries.get(msg.ident)
        if entry is not None and entry.owned:
            self._report_lost(entry, msg.nodes)

    def disown(self, idents: list[bytes], worker: Address) -> None:
        """A worker was lost that was making these: what it has written of them, and not told, is freed where it was.
        What is there by our knowledge was made before."""
        node = worker.node
        if node not in self.gone_nodes:
            idents = [ident for ident in idents if not self._has_copy(ident, node)]
            for at in range(0, len(idents), FREE_BATCH):
                self.send(raylet_of(node), Free(idents[at : at + FREE_BATCH], worker.proc))

    def _has_copy(self, ident: bytes, node: int) -> bool:
        entry = self.entries.get(ident)
        return entry is not None and entry.result is not None and node in entry.result.nodes

    def _report_lost(self, entry: Entry, nodes: list[int]) -> None:
        for node in nodes:
            if node not in self.gone_nodes:
                self.send(raylet_of(node), Free([entry.ident]))
        self._lose_copies(entry, nodes)

    def copies_lost(self, ident: bytes, nodes: list[int]) -> None:
        """This process could not read an object that it holds at the nodes where it should be."""
        entry = self.entries[ident]
        if entry.owned:
            self._report_lost(entry, nodes)
        elif not entry.dead:
            self.send(owner_of(ident), CopyLost(ident, nodes))
            entry.result, entry.asked = None, False

    # -------------------------------------------------------------- deaths

    def _owner_died(self, entry: Entry) -> None:
        entry.dead = True
        if entry.result is None or entry.result.kind == STORED:
            owner = owner_of(entry.ident)
            why = self.gone_nodes.get(owner.node, "")
            error = system_error(
                "OwnerDiedError",
                f"its owner, process {owner}, has died. {why}".strip(),
                ident=entry.ident.hex(),
            )
            self.set_result(entry.ident, error)

    def _lose_copies(self, entry: Entry, nodes: list[int]) -> None:
        result = entry.result
        if result is None or result.kind != STORED or not any(n in nodes for n in result.nodes):
            return
        left = tuple(n for n in result.nodes if n not in nodes)
        if left:
            entry.result = Result(STORED, b"", result.size, left, result.inner)
        elif entry.owned:
            lost = [n for n in nodes if n in result.nodes]
            why = "; ".join(f"node {n}: {self.gone_nodes.get(n, 'it is not there any more')}" for n in lost)
            self.lost(entry, why)

    def process_gone(self, addr: Address) -> None:
        """A process is gone: what it owned is lost, what we handed to it is let go."""
        for entry in [e for e in self.entries.values() if not e.owned and owner_of(e.ident) == addr]:
            self._acked(entry, True)
        for task in [t for t, (to, _) in self.handed_over.items() if to == addr]:
            self.let_go_all(self.handed_over.pop(task)[1])

    def met_on(self, node: int) -> list[Address]:
        """The processes of a node that own objects held here, or that results were handed to."""
        met = [owner_of(e.ident) for e in self.entries.values() if not e.owned]
        met += [to for to, _ in self.handed_over.values()]
        return [addr for addr in dict.fromkeys(met) if addr.node == node]

    def node_gone(self, node: int) -> None:
        """A node is gone with its copies and its holds; of its processes `process_gone` was told."""
        for entry in list(self.entries.values()):
            if entry.nodes and node in entry.nodes:
                self._node_lets_go(entry.ident, node)
        lost = [e for e in self.entries.values() if e.result is not None and e.result.kind == STORED]
        for entry in [e for e in lost if e.result is not None and node in e.result.nodes]:
            self._lose_copies(entry, [node])

    def known(self, idents: Iterable[bytes]) -> dict[bytes, Result]:
        """The values of these objects, or where they are, as far as they are there and fit into a message."""
        found: dict[bytes, Result] = {}
        room = self.state.max_values_bytes
        for ident in idents:
            result = self.entries[ident].result
            if result is not None and result.kind in (INLINE, STORED) and len(result.data) <= room:
                room -= len(result.data)
                found[ident] = result
        return found

    def put_inline(self, data: bytes, inner: list[bytes]) -> bytes:
        """A new object of ours with its value at hand; returns its id, held once."""
        ident = self.state.new_ids()
        entry = self.own(ident)
        entry.result = Result(INLINE, data, inner=tuple(inner))
        if inner:
            entry.inner = inner
            for ref in inner:
                self.hold(ref)
        return ident

    def put_stored(self, ident: bytes, size: int, inner: list[bytes]) -> Entry:
        """An object of ours that has been sealed in this node's arena; held once, pinned by this process."""
        entry = self.own(ident)
        entry.result = Result(STORED, b"", size, (self.addr.node,), tuple(inner))
        entry.pinned = True
        if inner:
            entry.inner = inner
            for ref in inner:
                self.hold(ref)
        return entry

    def finish_with(self, ident: bytes, data: bytes) -> None:
        """Give an object of ours an inline value (used by the shell for its own futures)."""
        self.set_result(ident, Result(INLINE, data))

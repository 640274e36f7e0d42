"""The node's object arena: who may read what, when space can be used again, and objects that come from elsewhere.

The raylet alone allocates. Space is used again only when the object was freed by its owner (or is a copy) and no
process has it pinned. One pull per object and node, however many wait for it.
"""

from __future__ import annotations

from typing import Protocol

from hpc.core.ids import Address, owner_of, raylet_of
from hpc.core.raylet.tables import Incoming, Stored
from hpc.core.store.layout import Layout, OutOfSpace
from hpc.core.wire import (
    Abandon,
    Alloc,
    Allocated,
    Chunk,
    Fetch,
    Fetched,
    Free,
    LocationAdded,
    Message,
    Pull,
    PullFailed,
    Seal,
    Unpin,
)

CHUNK_BYTES = 1 << 20
#: Chunks asked for ahead of what has arrived.
WINDOW = 16


class ArenaMemory(Protocol):
    """The bytes themselves; the simulator has none."""

    def write(self, offset: int, data: bytes) -> None: ...

    def read(self, offset: int, size: int) -> bytes: ...


class Memory:
    """The pure part of a raylet that keeps objects."""

    def __init__(self, node: int, layout: Layout, arena: ArenaMemory) -> None:
        self.node = node
        self.layout = layout
        self.arena = arena
        self.outbox: list[tuple[Address, Message]] = []
        self.bulk: list[tuple[int, Message]] = []
        self.stored: dict[bytes, Stored] = {}
        self.writing: dict[int, tuple[int, bytes]] = {}
        self.freed_early: set[bytes] = set()
        #: Readers that were told of an object before its writer's Seal came here: another stream, no common order.
        self.early_readers: dict[bytes, list[int]] = {}
        self.incoming: dict[bytes, Incoming] = {}
        self.dead_nodes: set[int] = set()
        self.dead_owners: set[Address] = set()

    def _reply(self, src: Address, msg: Message) -> None:
        self.outbox.append((src, msg))

    # -------------------------------------------------------------- space

    def _alloc(self, size: int) -> int:
        """Space for an object, evicting copies that nobody has pinned. Raises OutOfSpace."""
        try:
            return self.layout.alloc(size)
        except OutOfSpace:
            for obj in [o for o in self.stored.values() if o.copy and not o.pins]:
                self._drop(obj)
                try:
                    return self.layout.alloc(size)
                except OutOfSpace:
                    continue
            raise

    def _why_full(self, size: int) -> str:
        mib = 1 << 20
        return (
            f"the object store of node {self.node} has no room for {size} bytes: {self.layout.free_bytes // mib} of "
            f"{self.layout.capacity // mib} MiB are free, {len(self.stored)} objects. Drop references that are no "
            "longer needed, or give it more (object_store_memory=)."
        )

    def on_alloc(self, src: Address, msg: Alloc) -> None:
        try:
            offset = self._alloc(msg.size)
        except OutOfSpace:
            self._reply(src, Allocated(msg.req, -1, self._why_full(msg.size)))
            return
        self.writing[offset] = (src.proc, msg.ident)
        self._reply(src, Allocated(msg.req, offset))

    def on_abandon(self, src: Address, msg: Abandon) -> None:
        if self._written_by(msg.offset, src.proc):
            self.layout.free(msg.offset)

    def _written_by(self, offset: int, proc: int) -> bool:
        """Whether the process is writing there; it is done with it now."""
        writer, _ = self.writing.get(offset, (0, b""))
        if writer != proc or not proc:
            return False
        del self.writing[offset]
        return True

    def on_seal(self, src: Address, msg: Seal) -> None:
        if not self._written_by(msg.offset, src.proc):
            return
        if msg.ident in self.stored:
            self.layout.free(msg.offset)
            return
        freed = msg.ident in self.freed_early or self._is_orphan(msg.ident)
        self.freed_early.discard(msg.ident)
        obj = self.stored[msg.ident] = Stored(msg.ident, msg.offset, msg.size, freed=freed, pins={src.proc: 1})
        for proc in self.early_readers.pop(msg.ident, ()):
            obj.pins[proc] = obj.pins.get(proc, 0) + 1
            self._reply(Address(self.node, proc), Fetched(obj.ident, obj.offset, obj.size))

    def _is_orphan(self, ident: bytes) -> bool:
        """Whether the object's owner is gone: its last workers may still be writing for it."""
        owner = owner_of(ident)
        return owner in self.dead_owners or owner.node in self.dead_nodes

    def on_unpin(self, src: Address, msg: Unpin) -> None:
        for ident in msg.idents:
            obj = self.stored.get(ident)
            if obj is not None and src.proc in obj.pins:
                obj.pins[src.proc] -= 1
                if not obj.pins[src.proc]:
                    del obj.pins[src.proc]
                self._maybe_drop(obj)

    def on_free(self, src: Address, msg: Free) -> None:
        for ident in msg.idents:
            obj = self.stored.get(ident)
            if obj is not None:
                obj.freed = True
                self._maybe_drop(obj)
            elif any(being_written == ident for _, being_written in self.writing.values()):
                # A worker's result reached its owner, and was dropped there, before the worker's Seal came here.
                self.freed_early.add(ident)

    def _maybe_drop(self, obj: Stored) -> None:
        if obj.freed and not obj.pins:
            self._drop(obj)

    def _drop(self, obj: Stored) -> None:
        del self.stored[obj.ident]
        self.layout.free(obj.offset)

    def proc_gone(self, proc: int) -> None:
        """A process has ended (its descriptor and its socket): what it pinned or was writing is given back."""
        for offset in [o for o, (writer, _) in self.writing.items() if writer == proc]:
            ident = self.writing.pop(offset)[1]
            self.freed_early.discard(ident)
            self.layout.free(offset)
            for reader in self.early_readers.pop(ident, ()):
                self._reply(Address(self.node, reader), Fetched(ident, -1, 0, "its writer has died", [self.node]))
        for readers in self.early_readers.values():
            if proc in readers:
                readers.remove(proc)
        for obj in list(self.stored.values()):
            if obj.pins.pop(proc, 0):
                self._maybe_drop(obj)
        for pull in self.incoming.values():
            if proc in pull.waiters:
                pull.waiters.remove(proc)

    def owner_gone(self, owner: Address) -> None:
        """Nobody can hold the objects of an owner that is gone."""
        self.dead_owners.add(owner)
        for obj in [o for o in self.stored.values() if owner_of(o.ident) == owner]:
            obj.freed = True
            self._maybe_drop(obj)

    # -------------------------------------------------------------- reading

    def on_fetch(self, src: Address, msg: Fetch) -> None:
        obj = self.stored.get(msg.ident)
        if obj is not None:
            obj.pins[src.proc] = obj.pins.get(src.proc, 0) + 1
            self._reply(src, Fetched(msg.ident, obj.offset, obj.size))
            return
        if any(ident == msg.ident for _, ident in self.writing.values()):
            self.early_readers.setdefault(msg.ident, []).append(src.proc)
            return
        pull = self.incoming.get(msg.ident)
        if pull is None:
            sources = [n for n in msg.nodes if n != self.node and n not in self.dead_nodes]
            if not sources:
                why = "no node that is alive has a copy"
                self._reply(src, Fetched(msg.ident, -1, msg.size, why, list(msg.nodes)))
                return
            try:
                offset = self._alloc(msg.size)
            except OutOfSpace:
                self._reply(src, Fetched(msg.ident, -1, msg.size, self._why_full(msg.size)))
                return
            pull = self.incoming[msg.ident] = Incoming(msg.ident, msg.size, offset, sources)
            pull.waiters.append(src.proc)
            self._next_source(pull)
        else:
            pull.sources.extend(n for n in msg.nodes if n not in pull.sources and n not in pull.failed)
            pull.waiters.append(src.proc)

    def _next_source(self, pull: Incoming) -> None:
        """Begin, or begin again, with the next node that should have the object."""
        while pull.sources:
            pull.source = pull.sources.pop(0)
            if pull.source in self.dead_nodes or pull.source == self.node:
                pull.failed.append(pull.source)
                continue
            pull.received = 0
            pull.asked = WINDOW * CHUNK_BYTES
            self.bulk.append((pull.source, Pull(pull.ident, 0, WINDOW)))
            return
        del self.incoming[pull.ident]
        self.layout.free(pull.offset)
        failed = Fetched(pull.ident, -1, pull.size, f"nodes {pull.failed} do not have it any more", pull.failed)
        for proc in pull.waiters:
            self._reply(Address(self.node, proc), failed)

    def on_pull(self, node: int, msg: Pull) -> None:
        """Another node wants part of an object of ours. Nothing is remembered: it asks again for the next part."""
        obj = self.stored.get(msg.ident)
        if obj is None:
            self.bulk.append((node, PullFailed(msg.ident, "it is not here")))
            return
        at = msg.offset
        for _ in range(msg.window):
            if at >= obj.size:
                break
            size = min(CHUNK_BYTES, obj.size - at)
            self.bulk.append((node, Chunk(msg.ident, at, self.arena.read(obj.offset + at, size), obj.size)))
            at += size

    def on_chunk(self, node: int, msg: Chunk) -> None:
        pull = self.incoming.get(msg.ident)
        if pull is None or pull.source != node or msg.offset != pull.received:
            return
        if msg.offset + len(msg.data) > pull.size:
            self.on_pull_failed(node, PullFailed(msg.ident, "it is larger there than its owner says"))
            return
        self.arena.write(pull.offset + msg.offset, msg.data)
        pull.received += len(msg.data)
        if pull.received >= pull.size:
            self._arrived(pull)
        elif pull.asked - pull.received <= WINDOW * CHUNK_BYTES // 2 and pull.asked < pull.size:
            self.bulk.append((node, Pull(msg.ident, pull.asked, WINDOW // 2)))
            pull.asked += WINDOW // 2 * CHUNK_BYTES

    def _arrived(self, pull: Incoming) -> None:
        del self.incoming[pull.ident]
        obj = Stored(pull.ident, pull.offset, pull.size, copy=True, freed=self._is_orphan(pull.ident))
        self.stored[pull.ident] = obj
        for proc in pull.waiters:
            obj.pins[proc] = obj.pins.get(proc, 0) + 1
            self._reply(Address(self.node, proc), Fetched(pull.ident, obj.offset, obj.size))
        self.outbox.append((owner_of(pull.ident), LocationAdded(pull.ident, self.node)))

    def on_pull_failed(self, node: int, msg: PullFailed) -> None:
        pull = self.incoming.get(msg.ident)
        if pull is not None and pull.source == node:
            pull.failed.append(node)
            self._next_source(pull)

    def forget_node(self, node: int) -> None:
        """A node is gone: pulls from it go on elsewhere; what its processes owned is freed."""
        self.dead_nodes.add(node)
        for pull in [p for p in self.incoming.values() if p.source == node]:
            pull.failed.append(node)
            self._next_source(pull)
        for obj in [o for o in self.stored.values() if owner_of(o.ident).node == node]:
            obj.freed = True
            self._maybe_drop(obj)

    def raylets_with(self, ident: bytes) -> Address:
        """Where to ask about an object: the raylet of its owner's node."""
        return raylet_of(owner_of(ident).node)

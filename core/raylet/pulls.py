"""Objects on their way between nodes: one pull per object and node, chunks in a window, many readers as a tree.

A node serves a large object to at most `MAX_READERS` nodes at a time. It sends others to nodes that have it already or
are getting it. Those pass chunks on as they come, so that one source feeds many nodes with two copies. A pull that has
to begin again only trusts nodes that have all of the object (``whole``). So nodes cannot wait for one another in a
ring. Bytes that were asked of one node and have not come are bounded, whatever the number of objects.

Rejected: a plan of the tree made by the owner (it does not know who is slow, and it may be a busy driver).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hpc.core.raylet.tables import Incoming, Stored
from hpc.core.wire import Chunk, Message, Pull, PullBusy, PullFailed

CHUNK_BYTES = 1 << 20
#: Chunks asked for ahead of what has arrived.
WINDOW = 16
#: Bytes that were asked of one node and have not come, over all objects; one pull may always go on.
MAX_ASKED_BYTES = 64 << 20
#: Nodes that are served one object at the same time.
MAX_READERS = 2
#: A reader counts among them for so long after its last byte was sent: on a fast network they come one after the other.
LATELY_S = 1.0
#: Smaller objects are sent to whoever asks.
TREE_BYTES = 4 << 20
#: A pull without progress begins anew with a node that has all of the object.
STALLED_S = 15.0
LOOK_EVERY_S = 1.0


class ArenaMemory(Protocol):
    """The bytes themselves; the simulator has none. Offsets beyond the arena's size are those of a file on disk, of
    ``overflow_bytes``. Room in it has to be reserved: a text says why it cannot be."""

    overflow_bytes: int

    def readable(self, offset: int, size: int) -> memoryview: ...

    def reserve(self, offset: int, size: int) -> str: ...

    def discard(self, offset: int, size: int) -> None: ...


class Pulls:
    """The transfers of one node. ``arrived`` and ``failed`` tell the store how a pull ended."""

    def __init__(
        self,
        node: int,
        arena: ArenaMemory,
        arrived: Callable[[Incoming], None],
        failed: Callable[[Incoming, str], None],
    ) -> None:
        self.node = node
        self.now = 0.0
        self._look_at = 0.0
        self.arena = arena
        self.bulk: list[tuple[int, Message]] = []
        self.incoming: dict[bytes, Incoming] = {}
        self.dead_nodes: set[int] = set()
        #: object -> node -> byte up to which it was sent; nodes that have had all of it are in `served`
        self.serving: dict[bytes, dict[int, int]] = {}
        self.served: dict[bytes, list[int]] = {}
        #: when the readers of an object that count still were done
        self.lately: dict[bytes, list[float]] = {}
        self.turns: dict[bytes, int] = {}
        self.asked_bytes: dict[int, int] = {}
        self.queued: dict[int, list[bytes]] = {}
        self.sent_bytes = 0
        self.received_bytes = 0
        #: Of these, what came unencrypted.
        self.plain_bytes = 0
        #: Told of each pull that begins: where its bytes will go, and how many.
        self.began: Callable[[int, int], None] = lambda offset, size: None
        self._arrived = arrived
        self._failed = failed

    # -------------------------------------------------------------- pulling

    def start(self, ident: bytes, size: int, offset: int, nodes: list[int]) -> bool:
        """Begin a pull into the arena; False where no node that is alive has it."""
        sources = [n for n in nodes if n != self.node and n not in self.dead_nodes]
        if not sources:
            return False
        # Not everybody begins with the same one; which node begins where follows from its number.
        turn = self.node % len(sources)
        pull = Incoming(ident, size, offset, sources[turn:] + sources[:turn], origin=nodes[0], moved_at=self.now)
        self.incoming[ident] = pull
        self.began(offset, size)
        self._next_source(pull)
        return True

    def _next_source(self, pull: Incoming) -> None:
        """Begin, or begin again, with the next node that should have the object."""
        self._leave_source(pull)
        while pull.others or pull.sources:
            source = (pull.others or pull.sources).pop(0)
            if source == self.node or source in self.dead_nodes or source in pull.readers:
                continue
            pull.source = source
            pull.received = pull.asked = 0
            pull.moved_at = self.now
            self._ask(pull)
            return
        del self.incoming[pull.ident]
        for node in pull.readers:
            self.bulk.append((node, PullFailed(pull.ident, "it was on its way here, and did not come")))
        self._failed(pull, f"nodes {pull.failed} do not have it any more")

    def _leave_source(self, pull: Incoming) -> None:
        if pull.source:
            self._give_room(pull.source, max(0, min(pull.asked, pull.size) - pull.received))
            waiting = self.queued.get(pull.source)
            if waiting and pull.ident in waiting:
                waiting.remove(pull.ident)
            pull.source = 0

    def _ask(self, pull: Incoming) -> None:
        """Ask for the next part: a window's worth at the beginning, half of it each time that half has come."""
        source = pull.source
        window = WINDOW if not pull.asked else WINDOW // 2
        size = min(window * CHUNK_BYTES, max(1, pull.size - pull.asked))
        asked = self.asked_bytes.get(source, 0)
        if asked and asked + size > MAX_ASKED_BYTES and pull.asked <= pull.received:
            waiting = self.queued.setdefault(source, [])
            if pull.ident not in waiting:
                waiting.append(pull.ident)
            return
        self.asked_bytes[source] = asked + size
        self.bulk.append((source, Pull(pull.ident, pull.asked, window, pull.whole)))
        pull.asked += size

    def _give_room(self, source: int, size: int) -> None:
        left = self.asked_bytes.get(source, 0) - size
        if left > 0:
            self.asked_bytes[source] = left
        else:
            self.asked_bytes.pop(source, None)
        waiting = self.queued.pop(source, None)
        for ident in waiting or ():
            pull = self.incoming.get(ident)
            if pull is not None and pull.source == source:
                self._ask(pull)

    def expects(self, node: int, ident: bytes, offset: int, size: int) -> Incoming | None:
        """The pull that a piece belongs to. The shell writes the piece to the arena and says so to `advance`; None: it
        drops the piece."""
        pull = self.incoming.get(ident)
        if pull is None or pull.source != node or offset != pull.received:
            return None
        if offset + size > pull.size or not size:
            self.on_pull_failed(node, PullFailed(ident, "its size there is not what its owner says"))
            return None
        return pull

    def advance(self, node: int, pull: Incoming, size: int) -> None:
        """The next ``size`` bytes of a pull are in the arena."""
        pull.received += size
        pull.moved_at = self.now
        self.received_bytes += size
        self._give_room(node, size)
        if pull.readers:
            for reader in list(pull.readers):
                self._pass_on(pull, reader)
        if pull.received >= pull.size:
            self._complete(pull)
        elif pull.asked < pull.size and pull.asked - pull.received <= WINDOW * CHUNK_BYTES // 2:
            self._ask(pull)

    def _complete(self, pull: Incoming) -> None:
        pull.source = 0
        del self.incoming[pull.ident]
        self._arrived(pull)

    def on_pull_failed(self, node: int, msg: PullFailed) -> None:
        """The node does not have it after all."""
        pull = self.incoming.get(msg.ident)
        if pull is not None and pull.source == node:
            self._begin_again(pull, node)

    def _begin_again(self, pull: Incoming, without: int) -> None:
        """What has come is thrown away; readers of ours see the same bytes come again and are not told."""
        if without in pull.sources:
            pull.sources.remove(without)
        pull.failed.append(without)
        pull.others.clear()
        pull.whole = True
        self._next_source(pull)

    def on_pull_busy(self, node: int, msg: PullBusy) -> None:
        """The node serves others: ask those, and in the end the node itself again, with ``whole``."""
        pull = self.incoming.get(msg.ident)
        if pull is None or pull.source != node or pull.whole:
            return
        pull.others.extend(n for n in msg.others if n not in pull.others and n not in pull.failed)
        if node not in pull.sources:
            pull.sources.append(node)
        if not pull.others:
            pull.whole = True
        self._next_source(pull)

    def add_sources(self, ident: bytes, nodes: list[int]) -> None:
        """More nodes are said to have an object that is on its way."""
        pull = self.incoming[ident]
        pull.sources.extend(n for n in nodes if n not in pull.sources and n not in pull.failed and n != pull.source)

    # -------------------------------------------------------------- serving

    def _too_many(self, node: int, ident: bytes, size: int, msg: Pull) -> bool:
        """Whether a node is sent elsewhere; else it is on record as a reader."""
        serving = self.serving.setdefault(ident, {})
        done = [n for n in self.served.get(ident, ()) if n != node]
        others = [*done, *serving]
        lately = self.lately[ident] = [at for at in self.lately.get(ident, ()) if self.now - at < LATELY_S]
        few = not others or len(serving) + len(lately) < MAX_READERS
        if node in serving or msg.whole or size <= TREE_BYTES or few:
            serving.setdefault(node, 0)
            return False
        # Nodes that have all of it come first; the list begins elsewhere each time, so that readers spread over it.
        turn = self.turns.get(ident, 0) % len(others)
        self.turns[ident] = turn + 1
        self.bulk.append((node, PullBusy(ident, others[turn:] + others[:turn])))
        return True

    def serve(self, node: int, msg: Pull, obj: Stored) -> None:
        """Another node wants part of an object of ours. It asks again for the next part."""
        if msg.offset == 0 and self._too_many(node, msg.ident, obj.size, msg):
            return
        self._send(node, msg.ident, obj.offset, obj.size, msg.offset, msg.window, obj.size)

    def serve_incoming(self, node: int, msg: Pull) -> None:
        """Another node wants an object that is on its way to us: it gets what we have, as it comes."""
        pull = self.incoming[msg.ident]
        if msg.whole or pull.whole or node == pull.source:
            self.bulk.append((node, PullFailed(msg.ident, "it is only on its way here")))
            return
        if msg.offset == 0 and self._too_many(node, msg.ident, pull.size, msg):
            return
        at, window = pull.readers.get(node, (msg.offset, 0))
        if msg.offset == 0:
            at, window = 0, 0
        pull.readers[node] = (at, window + msg.window)
        self._pass_on(pull, node)

    def _pass_on(self, pull: Incoming, node: int) -> None:
        at, window = pull.readers[node]
        pull.readers[node] = self._send(node, pull.ident, pull.offset, pull.size, at, window, pull.received)

    def _send(
        self, node: int, ident: bytes, offset: int, size: int, at: int, window: int, there: int
    ) -> tuple[int, int]:
        """Send chunks from ``at`` on, as far as window and bytes reach; returns what is left of both."""
        while window and at < size:
            part = min(CHUNK_BYTES, size - at)
            if at + part > there:
                break
            self.bulk.append((node, Chunk(ident, at, self.arena.readable(offset + at, part), size)))
            self.sent_bytes += part
            at += part
            window -= 1
        serving = self.serving.get(ident)
        if serving is not None and node in serving:
            serving[node] = at
            if at >= size:
                del serving[node]
                self.served.setdefault(ident, []).append(node)
                self.lately.setdefault(ident, []).append(self.now)
        return at, window

    def hand_readers(self, pull: Incoming, obj: Stored) -> None:
        """An object has come: its readers' open windows are served from it; from then on they ask as usual."""
        for node, (at, window) in pull.readers.items():
            self._send(node, pull.ident, obj.offset, obj.size, at, window, obj.size)

    # -------------------------------------------------------------- ends

    def dropped(self, ident: bytes) -> None:
        """The object is not here any more: nobody is sent on for it."""
        self.serving.pop(ident, None)
        self.served.pop(ident, None)
        self.lately.pop(ident, None)
        self.turns.pop(ident, None)

    def forget_node(self, node: int) -> None:
        """A node is gone: pulls from it go on elsewhere."""
        self.dead_nodes.add(node)
        self.asked_bytes.pop(node, None)
        self.queued.pop(node, None)
        for serving in self.serving.values():
            serving.pop(node, None)
        for served in self.served.values():
            if node in served:
                served.remove(node)
        for pull in list(self.incoming.values()):
            pull.readers.pop(node, None)
            if pull.source == node:
                self._begin_again(pull, node)

    def tick(self, now: float) -> None:
        """Begin pulls anew that have not moved for long."""
        self.now = now
        if now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY_S
        for pull in list(self.incoming.values()):
            if now - pull.moved_at > STALLED_S:
                self._anew(pull)

    def cut(self, node: int) -> None:
        """What a node was sending was lost on the way; the node itself may be well."""
        for pull in list(self.incoming.values()):
            if pull.source == node:
                self._anew(pull)

    def _anew(self, pull: Incoming) -> None:
        """Begin again, with any of the nodes that have all of it, the present one not left out."""
        pull.moved_at = self.now
        if pull.source and pull.source not in pull.sources:
            pull.sources.append(pull.source)
        pull.others.clear()
        pull.whole = True
        self._next_source(pull)

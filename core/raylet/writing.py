"""Room of the arena that processes of this node write into: what each has got for one object, and its span.

A *span* is a part of the arena in which a process places objects by itself: most of them cost no question then. A piece
of it becomes room of its own when it is sealed or abandoned. A process gives back what is left of its span when it
stores nothing for a while, and when the raylet asks (`PleaseUnpin`). With its end it is given back too.

Of what lies in a span the raylet hears only by its Seal. That can come after the word of somebody who knows of the
object already from its writer: they come by different streams. So where an object should be here and is not, all
processes with spans are asked for what they have sealed (`AskSealed`). When they have answered, or ended, it is known.
One *round* of questions serves all who doubt before it begins. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hpc.core.raylet.tables import FetchSet
from hpc.core.store.layout import ALIGN, Layout, rounded

#: Of the arena, all spans together take one part in so many at most, and none is given unless so much stays free.
SPANS_SHARE = 8
FREE_SHARE = 4
#: Objects that were perhaps freed before their Seal came are looked after so often.
LOOK_S = 1.0


class UnsealedRoom:
    """What is being written. ``ask(proc, round)`` asks a process for what it has sealed."""

    def __init__(self, layout: Layout, ask: Callable[[int, int], None]) -> None:
        self._layout = layout
        self._ask = ask
        self.spans_share, self.free_share = SPANS_SHARE, FREE_SHARE
        #: Offset to (process, object), for room that one object has got.
        self.places: dict[int, tuple[int, bytes]] = {}
        #: For each process the pieces of its span that are not sealed: offset to size. And the bytes of all.
        self.spans: dict[int, dict[int, int]] = {}
        self.span_bytes = 0
        #: Objects that their owner has freed before their Seal came here: with a place, and perhaps in a span. The
        #: latter are forgotten when a round is over that begins after them.
        self.freed_early: set[bytes] = set()
        self.freed_perhaps: dict[bytes, int] = {}
        #: What processes may still write although its owner has given them up: it is freed with their Seal.
        self.disowned: dict[int, set[bytes]] = {}
        #: No spans are given any more.
        self.closed = False
        self._round = self._wanted = 0
        self._looked_at = 0.0
        self._missing: set[int] = set()

    # -------------------------------------------------------------- room

    def begin(self, proc: int, ident: bytes, offset: int) -> None:
        """A process has got room for one object."""
        self.places[offset] = (proc, ident)

    def give_span(self, proc: int, size: int) -> tuple[int, int]:
        """A span of so many bytes for a process, where there is much room: (offset, size), or (-1, 0)."""
        layout = self._layout
        size = rounded(size) if size > 0 else 0
        if (
            self.closed
            or not size
            or (self.span_bytes + size) * self.spans_share > layout.capacity
            or layout.free_bytes - size < layout.capacity // self.free_share
            or layout.largest_hole < size
        ):
            return -1, 0
        offset = layout.alloc(size)
        self.spans.setdefault(proc, {})[offset] = size
        self.span_bytes += size
        return offset, size

    def end(self, offset: int, proc: int, size: int) -> bool:
        """Whether the process was writing there; it is done with it now, and the room is that of one object."""
        writer, _ = self.places.get(offset, (0, b""))
        if writer == proc and proc:
            del self.places[offset]
            return True
        return self._cut(offset, proc, rounded(size))

    def _cut(self, offset: int, proc: int, size: int) -> bool:
        pieces = self.spans.get(proc)
        if pieces is None or offset % ALIGN:
            return False
        for start, length in pieces.items():
            if start <= offset and offset + size <= start + length:
                break
        else:
            return False
        del pieces[start]
        if offset > start:
            self._layout.split(start, offset)
            pieces[start] = offset - start
        if offset + size < start + length:
            self._layout.split(offset, offset + size)
            pieces[offset + size] = start + length - offset - size
        if not pieces:
            del self.spans[proc]
        self.span_bytes -= size
        return True

    def is_written(self, ident: bytes) -> bool:
        """Whether an object has a place and no Seal yet."""
        return any(being_written == ident for _, being_written in self.places.values())

    def proc_gone(self, proc: int) -> list[int]:
        """A process has ended: the offsets of all that it has not sealed."""
        left = [offset for offset, (writer, _) in self.places.items() if writer == proc]
        for offset in left:
            self.freed_early.discard(self.places.pop(offset)[1])
        pieces = self.spans.pop(proc, {})
        self.span_bytes -= sum(pieces.values())
        self.disowned.pop(proc, None)
        self._heard(proc)
        return left + list(pieces)

    # -------------------------------------------------------------- what was freed before its Seal came

    def freed(self, ident: bytes) -> None:
        """The owner of an object that is not here has freed it."""
        if self.is_written(ident):
            self.freed_early.add(ident)
        elif self.spans:
            self.freed_perhaps[ident] = self._next_round()

    def disown(self, proc: int, idents: Iterable[bytes]) -> None:
        """The owner of these does not want them, should the process still write them."""
        self.disowned.setdefault(proc, set()).update(idents)

    def take_freed(self, ident: bytes, proc: int) -> bool:
        """Whether the object that a process seals now was freed before."""
        early = ident in self.freed_early or ident in self.freed_perhaps or ident in self.disowned.get(proc, ())
        self.freed_early.discard(ident)
        self.freed_perhaps.pop(ident, None)
        return early

    # -------------------------------------------------------------- rounds

    def may_be_sealed(self, waiting: FetchSet) -> bool:
        """Whether what should be here may be in the span of a process, and its Seal on the way."""
        if waiting.round < 0:
            waiting.round = self.ask_all()
        return not self.is_over(waiting.round)

    def ask_all(self) -> int:
        """The number of a round. When it is over, all is known that was sealed before now."""
        if not self.spans:
            return 0
        number = self._wanted = self._next_round()
        self._go_on()
        return number

    def is_over(self, number: int) -> bool:
        """Whether a round is over."""
        return number < self._round or (number == self._round and not self._missing)

    def _next_round(self) -> int:
        """The round that begins next: one that has begun already may have been answered before now."""
        return self._round + 1

    def tick(self, now: float) -> None:
        """From time to time: find out about what was perhaps freed before its Seal came."""
        if self.freed_perhaps and now - self._looked_at >= LOOK_S:
            self._looked_at = now
            self._wanted = max(self._wanted, max(self.freed_perhaps.values()))
            self._go_on()

    def on_all_sealed(self, proc: int, number: int) -> bool:
        """A process has said all. True if a round is over with that."""
        return number == self._round and self._heard(proc)

    def _heard(self, proc: int) -> bool:
        if proc not in self._missing:
            return False
        self._missing.discard(proc)
        if self._missing:
            return False
        self._forget_freed()
        self._go_on()
        return True

    def _forget_freed(self) -> None:
        for ident in [one for one, number in self.freed_perhaps.items() if number <= self._round]:
            del self.freed_perhaps[ident]

    def _go_on(self) -> None:
        """Begin the round that somebody waits for, unless one is on."""
        if self._missing or self._wanted <= self._round:
            return
        self._round += 1
        self._missing = set(self.spans)
        for proc in self.spans:
            self._ask(proc, self._round)
        if not self._missing:
            self._forget_freed()

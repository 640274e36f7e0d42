"""What the processes of a node tell of the runs of their libraries: the last word of each, kept by their raylet. Pure.

So it is known also of processes that were killed. What lies here is bounded, and unread: libraries make it, and whoever
asks understands it. Of runs that are over the oldest go first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain, islice
from typing import Any

from msgspec import Struct

from hpc.core.events.notes import believed
from hpc.core.ids import Address
from hpc.core.wire import MAX_BRIEF_BYTES, MAX_DETAIL_BYTES, Answer, Bulletin, BulletinQuery, Bulletins, Message

#: Runs of a process that go on, runs of a node that are over, and the bytes of those.
MAX_OPEN, MAX_OVER, MAX_OVER_BYTES = 64, 200, 4 << 20

Key = tuple[int, int]


class LastWord(Struct):
    """What a run has told last, and when. ``gone``: why its process ended before it was over."""

    brief: bytes
    detail: bytes
    at: float
    gone: str = ""


class BulletinBoard:
    """That of one node. ``outbox`` is its machine's, ``now`` tells its time."""

    def __init__(self, node: int, outbox: list[tuple[Address, Message]], now: Callable[[], float]) -> None:
        self.node = node
        self._outbox = outbox
        self._now = now
        self.open: dict[int, dict[int, LastWord]] = {}
        self.over: dict[Key, LastWord] = {}
        self._over_bytes = 0
        #: Runs of which nothing is known, or no longer.
        self.dropped = 0
        self.handlers: dict[type, Callable[[Address, Any], None]] = {
            Bulletins: self.on_told, BulletinQuery: self.on_query,
        }  # fmt: skip

    def on_told(self, src: Address, msg: Bulletins) -> None:
        """A process tells of its runs."""
        if src.node != self.node or not src.proc:
            return
        self.dropped += believed(msg.dropped)
        for one in msg.told:
            self._take(src.proc, one)

    def _take(self, proc: int, one: Bulletin) -> None:
        runs = self.open.setdefault(proc, {})
        before = runs.get(one.number)
        if before is None and ((proc, one.number) in self.over or len(runs) >= MAX_OPEN):
            self.dropped += 1
            return
        if len(one.brief) > MAX_BRIEF_BYTES or len(one.detail) > MAX_DETAIL_BYTES:
            self.dropped += before is None
            return
        word = LastWord(one.brief, one.detail or (before.detail if before is not None else b""), self._now())
        if one.over:
            runs.pop(one.number, None)
            self._keep((proc, one.number), word)
        else:
            runs[one.number] = word

    def process_gone(self, proc: int, why: str) -> None:
        """A process of this node has ended, and its runs with it."""
        for number, word in self.open.pop(proc, {}).items():
            word.gone = why or "its process has ended"
            self._keep((proc, number), word)

    def _keep(self, key: Key, word: LastWord) -> None:
        self.over[key] = word
        self._over_bytes += len(word.brief) + len(word.detail)
        while len(self.over) > MAX_OVER or (self._over_bytes > MAX_OVER_BYTES and len(self.over) > 1):
            old = self.over.pop(next(iter(self.over)))
            self._over_bytes -= len(old.brief) + len(old.detail)
            self.dropped += 1

    def on_query(self, src: Address, msg: BulletinQuery) -> None:
        """Somebody wants the detail of a run."""
        word = self.open.get(msg.proc, {}).get(msg.number) or self.over.get((msg.proc, msg.number))
        why = "" if word is not None else f"node {self.node} knows no run {msg.proc}/{msg.number} any more"
        self._outbox.append((src, Answer(msg.req, word is not None, word.detail if word is not None else b"", why)))

    def rows(self, limit: int) -> list[dict[str, Any]]:
        """All runs, those that go on first, then those that were over last; without their details."""
        going = ((proc, number, word, False) for proc, runs in self.open.items() for number, word in runs.items())
        over = ((*key, word, True) for key, word in reversed(self.over.items()))
        both: Iterable[tuple[int, int, LastWord, bool]] = chain(going, over)
        now = self._now()
        return [
            {
                "process": str(Address(self.node, proc)), "number": number, "brief": word.brief, "over": is_over,
                "gone": word.gone, "age_s": max(0.0, now - word.at), "dropped": self.dropped,
            }
            for proc, number, word, is_over in islice(both, limit)
        ]  # fmt: skip

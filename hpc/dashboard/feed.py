"""Pages that follow the session: events that a browser reads as they come (server-sent events), each the newest state.

A browser that reads slowly gets the newest state when it is ready, and what lies between is dropped: nothing is queued
for it. An event has all that its page shows, charts too: so a browser that comes back misses nothing. Rejected:
websockets, which proxies of clusters often do not pass. Rejected too: points since the last event alone, which saved
10 KB each four seconds and had the dashboard keep what the head knows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from hpc.dashboard.asking import Asker, Known
from hpc.dashboard.pages.face import Page
from hpc.dashboard.views import Params

#: An event is no larger than this: what has more rows is cut, and says so. Beside what is no row, as the cells of
#: thousands of nodes, rows have this room at least.
MOST_BYTES, LEAST_BYTES = 64 << 10, 16 << 10
#: A line that means nothing is sent after this long, so that proxies keep the connection.
ALIVE_S = 10.0
#: Answers that come within this time are one event.
PAUSE_S = 0.25
#: How long a single answer may take where none is known yet.
FIRST_S = 60.0
#: The question of what stands at the head of every page.
HEAD = "overview"


class Feed:
    """The pages as bytes, made anew whenever an answer comes."""

    def __init__(self, questions: Mapping[str, Any]) -> None:
        self.asker = Asker(questions, self._answered)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._is_over = False

    def start(self) -> None:
        """Begin to ask, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self.asker.start()

    def _answered(self, name: str, known: Known) -> None:
        """In the thread that asks."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        """Everybody who waits looks again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def end(self) -> None:
        """Browsers are told no more: their events end."""
        self._is_over = True
        self._wake()

    async def once(self, page: Page, params: Params) -> bytes:
        """A page as it is now."""
        self.asker.want(page.needs)
        try:
            while not self._is_known(page):
                await asyncio.wait_for(self._changed.wait(), FIRST_S)
            return await asyncio.to_thread(self._encoded, page, params)
        finally:
            self.asker.leave(page.needs)

    async def follow(self, page: Page, params: Params) -> AsyncIterator[bytes]:
        """The events of a page until its browser leaves."""
        wanted = {*page.needs, HEAD}
        self.asker.want(wanted)
        seen: tuple[int, ...] = ()
        try:
            yield b"retry: 2000\n\n"
            while not self._is_over:
                changed, versions = self._changed, self._versions(page)
                if self._is_known(page) and versions != seen:
                    seen = versions
                    yield b"data: %s\n\n" % await asyncio.to_thread(self._encoded, page, params)
                    await asyncio.sleep(PAUSE_S)
                    continue
                try:
                    await asyncio.wait_for(changed.wait(), ALIVE_S)
                except asyncio.TimeoutError:
                    yield b": still here\n\n"
        finally:
            self.asker.leave(wanted)

    def _versions(self, page: Page) -> tuple[int, ...]:
        known = self.asker.known
        return (*(known[name].version if name in known else 0 for name in page.needs), int(HEAD in known))

    def _is_known(self, page: Page) -> bool:
        """The first answer that a page needs is enough to show it; the others come when they come."""
        return not page.needs or page.needs[0] in self.asker.known

    def _encoded(self, page: Page, params: Params) -> bytes:
        """A page as JSON: what it shows, and of each answer its age, its cost, and who is missing in it."""
        known = {name: self.asker.known[name] for name in page.needs if name in self.asker.known}
        values = {name: one.value for name, one in known.items()}
        first = known[page.needs[0]] if page.needs else None
        is_there = first is None or first.value is not None
        data = page.view(values, params) if is_there else {}
        about = {
            name: {"at_s": one.at_s, "took_s": one.took_s, "said": one.said[:8], "error": one.error}
            for name, one in known.items()
        }
        overview = self.asker.known.get(HEAD)
        session = _session(overview.value) if overview and overview.value else {}
        whole = {
            "page": page.name, "now_s": time.time(), "about": about, "session": session, "ended": self.asker.ended,
            "data": data,
        }  # fmt: skip
        return fitting(whole)


def fitting(whole: dict[str, Any]) -> bytes:
    """JSON of at most MOST_BYTES: rows are left out at the end until it fits, and ``cut`` says how many."""
    encoded = msgspec.json.encode(whole)
    rows = whole["data"].get("rows")
    if len(encoded) <= MOST_BYTES or not rows:
        return encoded
    others = len(msgspec.json.encode({**whole, "data": {**whole["data"], "rows": []}}))
    room = max(MOST_BYTES - others, LEAST_BYTES)
    while len(encoded) - others > room and rows:
        left = len(rows) * room // (len(encoded) - others + 1024)
        whole["data"]["cut"] = whole["data"].get("cut", 0) + len(rows) - left
        rows = whole["data"]["rows"] = rows[:left]
        encoded = msgspec.json.encode(whole)
    return encoded


def _session(overview: Mapping[str, Any]) -> dict[str, Any]:
    """What the head of every page says."""
    names = ("session", "scheduler", "job_id", "time_left_s")
    return {name: overview[name] for name in names} | {"silent": overview["silent"][:8]}

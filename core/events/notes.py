"""What happened, as a process says it to the head; and how a storm of it becomes a few words. Pure.

Of one kind the first few are told one by one. What follows within a while is told as one at its end, with its number
and the text of the last. So ten thousand workers that die at once are eleven notes, wherever they are counted.
"""

from __future__ import annotations

from collections.abc import Hashable

from msgspec import Struct, structs

#: Letters that are kept of a text, and of the id of what it is about.
MAX_TEXT, MAX_ENTITY = 1_000, 100
#: As many of one kind are told one by one within this time.
BURST, WINDOW_S = 10, 10.0
#: The largest number and the longest time that a message is believed: sums of them can be sent.
MAX_COUNT, MAX_AGO_S = 1 << 40, 1e9
#: Keys that are told apart; more than that is not watched, and told.
MAX_KEYS = 10_000


class Note(Struct, array_like=True):
    """Something happened, of a kind of core/events/kinds, ``ago_s`` before this was sent. ``node`` is where (0: nowhere
    in particular), ``entity`` the id of what it happened to. ``count``: so often; the text is that of the last one."""

    name: str
    text: str
    node: int = 0
    entity: str = ""
    ago_s: float = 0.0
    count: int = 1


def believed(count: int) -> int:
    """A number of things as another process tells it, if it can be one."""
    return max(0, min(count, MAX_COUNT))


def sane(note: Note) -> Note:
    """The same with numbers that can be."""
    if note.count == 1 and 0.0 <= note.ago_s <= MAX_AGO_S:
        return note
    ago_s = note.ago_s if 0.0 <= note.ago_s <= MAX_AGO_S else 0.0
    return structs.replace(note, count=max(1, believed(note.count)), ago_s=ago_s)


def shortened(note: Note) -> Note:
    """The same, not longer than the head keeps it."""
    if len(note.text) <= MAX_TEXT and len(note.entity) <= MAX_ENTITY:
        return note
    text = note.text if len(note.text) <= MAX_TEXT else note.text[: MAX_TEXT - 3] + "..."
    return structs.replace(note, text=text, entity=note.entity[:MAX_ENTITY])


class _Window(Struct):
    """Since ``begun`` so many were ``told``; ``more`` stands for those that were not, the last of which came ``at``."""

    begun: float
    told: int = 0
    more: Note | None = None
    at: float = 0.0


class Folding:
    """Tells few of many. ``burst``: so many with one key are told one by one within ``window_s``."""

    def __init__(self, burst: int = BURST, window_s: float = WINDOW_S) -> None:
        self._burst, self._window_s = burst, window_s
        self._windows: dict[Hashable, _Window] = {}
        #: Before this time none of them is over.
        self._look_at = float("inf")

    def take(self, key: Hashable, note: Note, now: float) -> Note | None:
        """The note if it is told now; None if it is kept for `due`."""
        window = self._windows.get(key)
        if window is None or now >= window.begun + self._window_s:
            if window is not None and window.more is not None:
                return self._keep(window, note, now)  # what was kept is due, and comes first
            if window is None and len(self._windows) >= MAX_KEYS:
                return note
            window = self._windows[key] = _Window(now)
            self._look_at = min(self._look_at, now + self._window_s)
        if window.told < self._burst:
            window.told += 1
            return note
        return self._keep(window, note, now)

    @staticmethod
    def _keep(window: _Window, note: Note, now: float) -> None:
        before = window.more.count if window.more is not None else 0
        window.more = structs.replace(note, count=note.count + before)
        window.at = now - note.ago_s

    def due(self, now: float) -> list[Note]:
        """What was kept for long enough. Where more comes all the time it is one note for each while."""
        out: list[Note] = []
        if now < self._look_at:
            return out
        for key, window in list(self._windows.items()):
            if now < window.begun + self._window_s:
                continue
            if window.more is None:
                del self._windows[key]
                continue
            out.append(structs.replace(window.more, ago_s=max(0.0, now - window.at)))
            self._windows[key] = _Window(now, self._burst)
        self._look_at = min((window.begun + self._window_s for window in self._windows.values()), default=float("inf"))
        return out

    def rest(self, now: float) -> list[Note]:
        """All that was kept: nobody will ask again."""
        windows, self._windows = self._windows, {}
        kept = [(window.more, window.at) for window in windows.values()]
        return [structs.replace(more, ago_s=max(0.0, now - at)) for more, at in kept if more is not None]

    @property
    def waits(self) -> bool:
        """Whether there is something to look at later."""
        return bool(self._windows)

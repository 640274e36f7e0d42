"""A process tells its raylet how the runs of its libraries stand: every two seconds, if anything has changed.

A library gives a source: it says what there is to tell at that moment. So a run pays for a small message every two
seconds at most, and for nothing while nothing changes. The detail follows every half minute, and at the run's end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from hpc.core.wire import Answer, Bulletin, BulletinQuery, Bulletins

if TYPE_CHECKING:
    from hpc.core.ids import Address
    from hpc.core.owner.machine import OwnerMachine

#: How often is told that something has changed, and how often in detail.
TELL_S, DETAIL_S = 2.0, 30.0
#: Runs of which a process tells at a time, and those among them that are over before anything was told of them.
MAX_OPEN, MAX_OVER = 64, 20
#: One message has about this many bytes at most: what has no room goes with the next.
MAX_TOLD_BYTES = 128 << 10
#: A source that is in the midst of a change is asked so many times before the process leaves.
LAST_TRIES = 3


class BulletinSource(Protocol):
    """What a library says of a run. The client's lock is held: it must be quick, and call nothing of the runtime. None:
    it is in the midst of a change, and is asked again later."""

    def brief(self) -> bytes | None:
        """How it stands: at most 4 KiB."""

    def detail(self) -> bytes | None:
        """All that is told of it: at most 64 KiB."""

    def more(self, what: str, params: Mapping[str, str]) -> bytes | None:
        """What somebody who looks asks for beside."""


class _Run:
    def __init__(self, source: BulletinSource) -> None:
        self.source = source
        self.told = b""
        self.detail_due = 0.0
        self.over = False


class BulletinTelling:
    """One process's. Its methods are called with the client's lock held."""

    def __init__(self, machine: OwnerMachine) -> None:
        self._machine = machine
        self._runs: dict[int, _Run] = {}
        self._made = 0
        self._due = 0.0
        self._dropped = 0
        machine.handlers[BulletinQuery] = self.on_query

    def begin(self, source: BulletinSource) -> int:
        """A run begins; its number, 0 where there are too many to tell of."""
        if len(self._runs) >= MAX_OPEN:
            self._dropped += 1
            return 0
        self._made += 1
        self._runs[self._made] = _Run(source)
        return self._made

    def end(self, number: int) -> None:
        """A run is over: this is told the next time, and then the source is forgotten."""
        if number not in self._runs:
            return
        self._runs[number].over = True
        unsaid = [one for one, run in self._runs.items() if run.over and not run.told]
        if len(unsaid) > MAX_OVER:  # of the others the end has to be told: for their raylet they would go on
            del self._runs[unsaid[0]]
            self._dropped += 1

    def tick(self, now: float) -> None:
        """Tell, if it is time."""
        if now >= self._due and (self._runs or self._dropped):
            self._due = now + TELL_S
            self.tell(now)

    def last(self) -> None:
        """Leave what is there to tell before the process leaves."""
        for _ in range(LAST_TRIES):
            if self.tell(float("inf")):
                return

    def tell(self, now: float) -> bool:
        """Leave in the machine what has changed, if anything has: of the runs that were told longest ago first. False
        where something could not be told now."""
        told: list[Bulletin] = []
        size, is_all = 0, True
        for number in list(self._runs):
            if size >= MAX_TOLD_BYTES:
                is_all = False
                break
            run = self._runs[number]
            brief = run.source.brief()
            wants_detail = run.over or now >= run.detail_due
            detail = run.source.detail() if wants_detail else b""
            if brief is None or detail is None:
                is_all = False
                continue
            if wants_detail:
                run.detail_due = now + DETAIL_S
            if not run.over and not detail and brief == run.told:
                continue
            run.told = brief
            told.append(Bulletin(number, brief, detail, run.over))
            size += len(brief) + len(detail)
            del self._runs[number]
            if not run.over:
                self._runs[number] = run  # behind the others
        if told or self._dropped:
            self._machine.send(self._machine.raylet, Bulletins(told, self._dropped))
            self._dropped = 0
        return is_all

    def on_query(self, src: Address, msg: BulletinQuery) -> None:
        """Somebody looks at a run of this process."""
        self._machine.send(src, self.answer(msg))

    def answer(self, msg: BulletinQuery) -> Answer:
        """What a run says to a question."""
        run = self._runs.get(msg.number)
        data = run.source.more(msg.what, msg.params) if run is not None else None
        why = "" if data is not None else "the run is over" if run is None else "it has no answer now"
        return Answer(msg.req, data is not None, data or b"", why)

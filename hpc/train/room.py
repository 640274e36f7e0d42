"""Room for the ranks of a run, from one attempt to the next: as many as wanted, or as many as there is room for."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from hpc import spi
from hpc.runs.around import around
from hpc.runs.reservation import NoRoom, Request, Reservation, check_possible, room_around
from hpc.runs.storage import say
from hpc.runs.worker_group import LOOK_S
from hpc.train.config import ScalingConfig
from hpc.train.errors import ControllerError
from hpc.train.slices import Slices

#: After this time without room the driver says what it waits for, then after three times as long, and so on.
PATIENCE_S = 10.0
#: After this time it notes that for others; and again after at most so long.
NOTE_S, MOST_NOTE_S = 1.0, 30.0
#: A run of no fixed size that gets no room in this time looks anew for how many there is some.
SETTLE_S = 2.0


class Room:
    """What a run has reserved. ``look`` is called about once a second while something is waited for. ``shrunk``: when
    nodes are lost without which a run that had room will never have it again; it may raise what ends the run."""

    def __init__(self, scaling: ScalingConfig, look: Callable[[], None], shrunk: Callable[[NoRoom], None]) -> None:
        self.most = Request(
            scaling.max_workers, scaling.worker_resources, scaling.placement_strategy, scaling.selectors
        )
        self.least = scaling.min_workers
        self._look, self._shrunk = look, shrunk
        self._held: Reservation | None = None
        #: What is waited for, in words.
        self.waits_for = ""
        self._had_room = False
        self._slices = Slices(scaling) if scaling.workers_per_slice else None

    @property
    def is_elastic(self) -> bool:
        """Whether the number of ranks may change."""
        return self.least < self.most.count

    def check(self) -> None:
        """Raise ControllerError for what can never fit. An elastic run that has begun waits for nodes that come."""
        try:
            (self._slices.check_possible if self._slices else check_possible)(self.most.of(self.least))
        except NoRoom as error:
            if self.is_elastic and self._had_room:
                return
            if self._had_room:
                self._shrunk(error)
            raise ControllerError(error) from None

    def take(self) -> Reservation:
        """Wait until there is room, as much as can be had. What an earlier attempt had is kept where it is still good:
        nobody else can take it meanwhile."""
        self._move()
        held = self._wait()
        if self.is_elastic and self._size() > held.request.count:
            # While the least was waited for, more has become free.
            self._ask()
            held = self._wait()
        self._had_room = True
        self.waits_for = ""
        return held

    def could_hold(self) -> int:
        """How many ranks there would be room for, those that there are included."""
        if self._held is None or not self._held.is_own:
            return 0
        if self._slices is not None:
            return min(self.most.count, self._held.request.count + self._slices.idle_workers())
        return self.most.how_many(self._held.freed(spi.rooms()))

    def wait_for_workers(self, patience: Patience, there: int) -> None:
        """The workers are being started, and so many are there."""
        self._waits(patience, lambda: f"{there} of {self._held and self._held.request} have started")

    def give_back(self) -> None:
        """Another run may have it."""
        held, self._held = self._held, None
        if held is not None:
            held.release()

    def _size(self) -> int:
        """The number of workers to ask for: as many as have room, and no fewer than the least."""
        if not self.is_elastic:
            return self.most.count
        if self._slices is not None:
            return max(self.least, min(self.most.count, self._mine() + self._slices.idle_workers()))
        around = room_around(self.most)
        if around >= self.least:
            return around
        rooms = spi.rooms()
        if self._held is not None:
            rooms = self._held.freed(rooms)
        return max(self.least, self.most.how_many(rooms))

    def _mine(self) -> int:
        """How many workers' room is held in slices that are whole."""
        return self._held.request.count if self._held is not None and not self._held.is_broken else 0

    def _ask(self) -> None:
        size = self._size()
        self.give_back()
        if self._slices is None:
            self._held = Reservation(self.most.of(size))
            return
        patience = Patience()
        while (held := self._slices.take(self.most.of(size), LOOK_S)) is None:
            self._waits(patience, partial("no slices are free yet for {}".format, self.most.of(size)))
            size = self._size()
        self._held = held

    def _move(self) -> None:
        """Ask for room where there is none yet; and anew where nodes are taken away, or the size is to be another."""
        held = self._held
        if held is None:
            self._ask()
            return
        closed = {str(room.node) for room in spi.rooms() if not room.is_open}
        if held.is_broken or (
            held.is_own and (closed.intersection(held.nodes()) or self._size() != held.request.count)
        ):
            self._ask()

    def _wait(self) -> Reservation:
        patience = Patience()
        asked_s = time.monotonic()
        while True:
            held = self._held
            assert held is not None
            if held.wait(LOOK_S):
                return held
            self._waits(patience, self._why)
            if self.is_elastic and time.monotonic() - asked_s > SETTLE_S and self._size() != held.request.count:
                self._ask()
                asked_s = time.monotonic()

    def _waits(self, patience: Patience, text: Callable[[], str]) -> None:
        self.check()
        self._look()
        if patience.is_worth_a_note():
            self.waits_for = text()
        if patience.is_over():
            say(text())

    def _why(self) -> str:
        assert self._held is not None
        request = self._held.request
        why = request.why_not(spi.rooms())
        return f"there is no room yet for {request}" + (f": {why}" if why else "") + around.hint


class Patience:
    """Says when it is time for a word about what is waited for, ever less often."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._next_s = PATIENCE_S
        self._note_s = NOTE_S

    def is_worth_a_note(self) -> bool:
        """Whether it is time to look again what is waited for, for those who ask; after twice as long each time."""
        passed_s = time.monotonic() - self._began
        if passed_s < self._note_s:
            return False
        self._note_s = passed_s + min(passed_s, MOST_NOTE_S)
        return True

    def is_over(self) -> bool:
        """Whether it is time; the next time is three times as far from the beginning."""
        if time.monotonic() - self._began < self._next_s:
            return False
        self._next_s *= 3
        return True

"""How simulated processes read the arena: as the shell does, with callbacks in place of threads that wait."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import TypeAlias

from hpc.core.owner.pins import Coming, Pin
from hpc.core.owner.tables import Waiter
from hpc.core.sim.processes import Process
from hpc.core.sim.world import World
from hpc.core.wire import STORED, Fetched, FetchedAll, Result

Failed: TypeAlias = Fetched | FetchedAll
#: Called with an object that is not here, and why.
NotThere: TypeAlias = Callable[[bytes, Failed], None]


class Reader:
    """The reads of one process."""

    def __init__(self, world: World, process: Process) -> None:
        self.world = world
        self.process = process
        #: How often something was brought here, alone and as the arguments of a task.
        self.fetched = self.admitted = 0

    def view(self, ident: bytes, result: Result, viewed: Callable[[Pin], None], not_there: NotThere) -> Coming | None:
        """Have an object here, then call ``viewed`` with the pin, which counts one view. None if it is pinned."""
        pins = self.process.machine.pins
        pin = pins.held.get(ident)
        if pin is not None:
            pin.views += 1
            viewed(pin)
            return None

        def came() -> None:
            outcome = coming.outcome
            if isinstance(outcome, Pin):
                self.fetched += 1
                viewed(outcome)
            elif isinstance(outcome, Fetched):
                not_there(ident, outcome)

        coming = pins.fetch(ident, result, Waiter(1, came))
        self.world.flush(self.process)
        return coming

    def admit(self, stored: Mapping[bytes, Result], admitted: Callable[[list[Pin]], None], not_there: NotThere) -> None:
        """Have the arguments of a task here, all or none, then call ``admitted`` with the pins, one view each."""

        def came() -> None:
            outcome = coming.outcome
            if isinstance(outcome, list):
                self.admitted += 1
                admitted(outcome)
            elif isinstance(outcome, FetchedAll):
                not_there(outcome.bad, outcome)

        coming = self.process.machine.pins.admit(stored, Waiter(1, came))
        if coming.waiter.needed:
            self.world.flush(self.process)
        else:
            came()


class Glances:
    """A driver that reads some of its large values: for a while, ahead, or not to the end."""

    def __init__(self, world: World, process: Process, rng: random.Random) -> None:
        self.world = world
        self.process = process
        self.rng = rng
        self.reader = Reader(world, process)
        self.views = 0

    def glance(self, ident: bytes) -> None:
        """Sometimes read an object, if it is stored."""
        machine, choice = self.process.machine, self.rng.random()
        entry = machine.state.entries.get(ident)
        if entry is None or entry.result is None or entry.result.kind != STORED or not self.process.alive:
            return
        if choice < 0.2:
            machine.pins.bring([(ident, entry.result)])
            self.world.flush(self.process)
        elif choice < 0.7:
            self._view(ident, entry.result, choice < 0.3)

    def _view(self, ident: bytes, result: Result, hasty: bool) -> None:
        ended = False

        def viewed(pin: Pin) -> None:
            nonlocal ended
            ended = True
            self.views += 1
            self.world.clock.after(self.rng.random() * 0.05, lambda: self.process.machine.pins.unviewed.append(pin))

        def not_there(bad: bytes, failed: Failed) -> None:
            nonlocal ended
            ended = True
            if failed.cause != "no_room" and bad in self.process.machine.state.entries:
                self.process.machine.lineage.copies_lost(bad, failed.lost)

        def give_up() -> None:
            if coming is not None and not ended:
                self.process.machine.pins.fetch_no_more(ident, coming)
                coming.waiter.callback = None

        coming = self.reader.view(ident, result, viewed, not_there)
        if hasty:
            self.world.clock.after(self.rng.random() * 0.01, give_up)

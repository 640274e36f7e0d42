"""The rooms that an experiment holds or waits for, one for each trial that runs. Pure.

A room outlives its trial: the next one of the same shape gets it, so that no placement group is made for each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator


class Rooms:
    """Numbers of rooms by what they are for. A number is asked for, then idle or used, then gone."""

    def __init__(self) -> None:
        self._number = 0
        self.asked: dict[int, Hashable] = {}
        self.used: dict[int, str] = {}
        self._idle: dict[Hashable, list[int]] = {}
        self._shapes: dict[int, Hashable] = {}

    def ask(self, shape: Hashable) -> int:
        """The number of a room of this shape, which is asked for from now on."""
        self._number += 1
        self.asked[self._number] = shape
        self._shapes[self._number] = shape
        return self._number

    def got(self, number: int) -> bool:
        """It is there, and idle. False if nobody waits for it any more."""
        if number not in self.asked:
            return False
        self._idle.setdefault(self.asked.pop(number), []).append(number)
        return True

    def take(self, shape: Hashable, trial_id: str) -> int | None:
        """An idle one of this shape for the trial; the one that was used last, whose actor is warm."""
        numbers = self._idle.get(shape)
        if not numbers:
            return None
        number = numbers.pop()
        if not numbers:
            del self._idle[shape]
        self.used[number] = trial_id
        return number

    def leave(self, number: int) -> None:
        """Its trial has left it: it is idle, in the shape that it has."""
        del self.used[number]
        self._idle.setdefault(self._shapes[number], []).append(number)

    def lose(self, number: int) -> str | None:
        """It is gone. Returns the trial that used it."""
        shape = self._shapes.pop(number, None)
        self.asked.pop(number, None)
        if shape in self._idle and number in self._idle[shape]:
            self._idle[shape].remove(number)
            if not self._idle[shape]:
                del self._idle[shape]
        return self.used.pop(number, None)

    @property
    def any_idle(self) -> bool:
        """Whether a trial could begin at once, if it has the right shape."""
        return bool(self._idle)

    @property
    def empty(self) -> bool:
        """Whether none is held or asked for."""
        return not self._shapes

    def idle_shapes(self) -> list[Hashable]:
        """The shapes of which one is idle."""
        return list(self._idle)

    def adjust(
        self, wanted: Counter[Hashable], most: int, may_come: set[Hashable] | None, soon: int = 0
    ) -> Iterator[tuple[int, bool]]:
        """Ask for rooms, and give some back: numbers, each with whether it is asked for.

        wanted: how many trials wait, by shape; no idle room fits them. most: so many are asked for at a time. may_come:
        shapes of trials that may want a room later; None: any may come. Idle rooms are for those, unless a trial waits
        for another shape, which may want the place that they take. soon: up to so many rooms will be wanted again,
        though no trial waits for them now. Else none would come while trials are shorter than it takes to come.
        """
        asked = Counter(self.asked.values())
        for number, shape in reversed(list(self.asked.items())):
            others_wait = any(other != shape for other in wanted)
            if asked[shape] > wanted[shape] and (others_wait or len(self._shapes) > soon):
                asked[shape] -= 1
                self.lose(number)
                yield number, False
        for shape, count in wanted.items():
            while asked[shape] < count and len(self.asked) < most:
                asked[shape] += 1
                yield self.ask(shape), True
        for shape in self.idle_shapes():
            others_wait = any(other != shape for other in self.asked.values())
            if others_wait or (may_come is not None and shape not in may_come):
                for number in list(self._idle[shape]):
                    self.lose(number)
                    yield number, False

    def release_all(self) -> Iterator[int]:
        """Give back all that are idle or asked for."""
        for number in [*self.asked, *(one for numbers in self._idle.values() for one in numbers)]:
            self.lose(number)
            yield number

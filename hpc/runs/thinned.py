"""A curve of a bounded number of points, however many come, and of the whole course. No I/O."""

from __future__ import annotations


class Thinned:
    """Where there are more than ``most`` points each second one is let go, and of those that come as many are left out.
    The last one is always there."""

    __slots__ = ("_each", "_most", "_turn", "last", "xs", "ys")

    def __init__(self, most: int) -> None:
        self._most = most
        self._each, self._turn = 1, 0
        self.xs: list[float] = []
        self.ys: list[float] = []
        self.last: tuple[float, float] | None = None

    def add(self, x: float, y: float) -> None:
        """A point that lies behind the others."""
        self.last = (x, y)
        self._turn += 1
        if self._turn % self._each:
            return
        self.xs.append(x)
        self.ys.append(y)
        if len(self.xs) > self._most:
            self.xs, self.ys = self.xs[::2], self.ys[::2]
            self._each *= 2

    def rewind(self, x: float) -> None:
        """What comes goes on after this: points behind it are gone."""
        there = sum(1 for one in self.xs if one <= x)
        self.xs, self.ys = self.xs[:there], self.ys[:there]
        self.last = (self.xs[-1], self.ys[-1]) if self.xs else None

    def points(self) -> tuple[list[float], list[float]]:
        """All that are kept, and the last one."""
        xs, ys = list(self.xs), list(self.ys)
        if self.last is not None and (not xs or xs[-1] != self.last[0]):
            return [*xs, self.last[0]], [*ys, self.last[1]]
        return xs, ys

"""A curve of a bounded number of points, however many come, and of the whole course. No I/O."""

from __future__ import annotations


class Thinned:
    """Where there are more than ``most`` points each second one is let go, and of those that come as many are left out.
    The last one is always there. One thread adds points, and another may read them: a change is one of the list."""

    __slots__ = ("_each", "_is_extra", "_most", "_points", "_turn")

    def __init__(self, most: int) -> None:
        self._most = most
        self._each, self._turn = 1, 0
        #: The last point is none that is kept: the next one takes its place.
        self._is_extra = False
        self._points: list[tuple[float, float]] = []

    @property
    def last(self) -> tuple[float, float] | None:
        """The newest point."""
        points = self._points
        return points[-1] if points else None

    def add(self, x: float, y: float) -> None:
        """A point that lies behind the others."""
        points, self._turn = self._points, self._turn + 1
        was_extra, self._is_extra = self._is_extra, self._turn % self._each != 0
        if was_extra:
            points[-1] = (x, y)
        else:
            points.append((x, y))
        if len(points) - self._is_extra > self._most:
            self._points = points[::2]
            # Where their number was even, the last one is not among each second one.
            self._is_extra = len(points) % 2 == 0
            if self._is_extra:
                self._points = [*points[::2], points[-1]]
            self._each *= 2

    def rewind(self, x: float) -> None:
        """What comes goes on after this: points behind it are gone."""
        kept = [point for point in self._points if point[0] <= x]
        self._is_extra = self._is_extra and len(kept) == len(self._points)
        self._points = kept

    def points(self) -> tuple[list[float], list[float]]:
        """All that are kept, and the last one."""
        points = self._points[:]
        return [x for x, _ in points], [y for _, y in points]

"""Numbers of the last minutes, for the charts: one ring of points, all of the same moments. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

#: Ten minutes at a point each two seconds.
MOST_POINTS = 300


class History:
    """The newest points. A number that a moment does not have is None there, and a gap in its line."""

    def __init__(self, most: int = MOST_POINTS) -> None:
        self._points: deque[tuple[float, Mapping[str, float]]] = deque(maxlen=most)

    def add(self, at_s: float, numbers: Mapping[str, float]) -> None:
        """Note what the numbers were at this wall time; a time that is not later than the last one is passed over."""
        if not self._points or at_s > self._points[-1][0]:
            self._points.append((at_s, numbers))

    def since(self, at_s: float, names: tuple[str, ...]) -> dict[str, Any]:
        """The points after this time: ``{"times": [...], name: [...], ...}``."""
        points = [point for point in self._points if point[0] > at_s]
        found: dict[str, Any] = {"times": [round(at, 2) for at, _ in points]}
        for name in names:
            found[name] = [_short(numbers.get(name)) for _, numbers in points]
        return found


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")

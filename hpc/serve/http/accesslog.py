"""The access log of a proxy: each error, and of the rest so many lines a second that they cost nothing."""

from __future__ import annotations

import logging
import time
from typing import Any

logger = logging.getLogger("hpc.serve.access")

#: Lines of a second; what is beyond them is counted.
LINES_PER_S = 100
#: Characters of a request's id in a line. Clients may choose it.
MOST_ID = 100


class AccessLog:
    """Writes a line for a request, up to `LINES_PER_S`, and the number of those left out."""

    def __init__(self, clock: Any = time.monotonic) -> None:
        self._clock = clock
        self._second = 0
        self._written = 0
        self._left_out = 0

    def note(self, method: str, path: str, row: Any, status: int, latency_s: float, request_id: str) -> None:
        """A request has ended. Where there is no route the path is left out: nobody bounds what clients ask for."""
        if not logger.isEnabledFor(logging.INFO):
            return
        second = int(self._clock())
        if second != self._second:
            if self._left_out:
                logger.info("%d more requests", self._left_out)
            self._second, self._written, self._left_out = second, 0, 0
        self._written += 1
        if self._written > LINES_PER_S:
            self._left_out += 1
            return
        route = row.prefix if row is not None else "-"
        ident = request_id[:MOST_ID].encode("ascii", "backslashreplace").decode()
        logger.info("%s %s %s %.1fms %s", method, route, status, latency_s * 1000, ident)

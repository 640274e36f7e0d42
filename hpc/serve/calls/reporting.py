"""What a replica tells the controller of its requests, for those who look at the service. Nothing waits for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from hpc.serve.context import controller
from hpc.serve.messages import ReplicaID, ReplicaLoad
from hpc.serve.metrics import ReplicaNumbers

logger = logging.getLogger("hpc.serve")

#: How often a replica tells, while there is something new.
EVERY_S = 2.0


class LoadTeller:
    """Tells of one replica. ``ongoing``: how many requests run."""

    def __init__(self, replica: ReplicaID, numbers: ReplicaNumbers, ongoing: Callable[[], int]) -> None:
        self._replica = replica.to_full_id_str()
        self._numbers = numbers
        self._ongoing = ongoing
        self._told: tuple[int, ...] = (0, 0, 0)
        self._told_at = time.monotonic()

    async def run(self) -> None:
        """Tell until the replica ends."""
        while True:
            await asyncio.sleep(EVERY_S)
            row = self.row(time.monotonic())
            if row is None:
                continue
            try:
                actor = await asyncio.to_thread(controller)
                actor.note_load.remote(row)
            except Exception as error:  # there is none at the moment
                logger.debug("nobody is told of the load: %s", error)

    def row(self, now: float) -> ReplicaLoad | None:
        """What is told now; None where nothing is new."""
        numbers = self._numbers
        new = (self._ongoing(), numbers.done, numbers.rejected)
        if new == self._told:
            self._told_at = now
            return None
        span_s, self._told, self._told_at = now - self._told_at, new, now
        return ReplicaLoad(
            self._replica, new[0], numbers.done, numbers.errors, numbers.rejected, numbers.cancelled, span_s,
            numbers.take(),
        )  # fmt: skip

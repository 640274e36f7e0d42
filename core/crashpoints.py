"""Deaths at named points, for tests: a process ends by SIGKILL when it gets its n-th message of a kind.

The session's configuration says where: ``crash`` is "PROCESS:MESSAGE:N:WHEN", as in "raylet:LeaseRequest:2:after". WHEN
is "before" (the message was read, nothing was done) or "after" (it was handled, what follows was not sent). It happens
once per node, or in a session on node ``crash_node`` if that is given. In ordinary life nothing of this is in the way:
only an armed process has its machine's ``handle`` replaced.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

BEFORE, AFTER = "before", "after"
MARK = "crashed"


class Point:
    """Where this process is to die."""

    def __init__(self, message: str, count: int, when: str, folder: str) -> None:
        self.message = message
        self.left = count
        self.when = when
        self._mark = os.path.join(folder, MARK)

    def passed(self, when: str, messages: Iterable[Any]) -> None:
        """These messages are about to be handled, or have been."""
        if when == self.when:
            self.left -= sum(1 for message in messages if type(message).__name__ == self.message)
            if self.left <= 0:
                self._die()

    def _die(self) -> None:
        try:
            os.close(os.open(self._mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            self.left = 1 << 60  # it happened, to another process
            return
        os.kill(os.getpid(), signal.SIGKILL)


def arm(process: str, machine: Any, config: Mapping[str, Any], node: int, folder: str) -> None:
    """If this process ("head", "raylet" or "worker") is to die somewhere, have its machine do so."""
    where = str(config.get("crash", ""))
    if not where or config.get("crash_node", node) != node:
        return
    kind, message, count, when = where.split(":")
    if kind != process:
        return
    point = Point(message, int(count), when, folder)
    for name in ("handle", "handle_bulk"):
        inner = getattr(machine, name, None)
        if inner is not None:
            setattr(machine, name, partial(_handle, point, inner))


def _handle(
    point: Point, inner: Callable[..., Any], src: Any, messages: Sequence[Any], *rest: Any, **options: Any
) -> Any:
    point.passed(BEFORE, messages)
    result = inner(src, messages, *rest, **options)
    point.passed(AFTER, messages)
    return result

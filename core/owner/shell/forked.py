"""What a forked child finds in place of its parent's connection: an error that says what to do.

A child that is not executed anew (os.fork, multiprocessing's "fork") has copies of the parent's sockets, and locks in
whatever state they were in. If it used them, two processes would speak as one, and the raylet would drop both. So in
the child nothing is the current client. The one that references know has a lock that nobody gets, and all that it does
begins with that lock. The parent notices nothing, and pays nothing.

A driver's child also closes its copies of the sockets, else the session would not see the driver leave before the
child has ended. A worker's child keeps them: as long as it lives its views of shared memory stay valid.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, NoReturn, cast

from hpc.core.process.current import current

if TYPE_CHECKING:
    import threading

    from hpc.core.owner.ports import ThisProcess
    from hpc.core.owner.shell.client import Client

WHAT_TO_DO = (
    "this process was forked from one that is connected to a session, and the connection stays with the parent. Use "
    "remote functions instead of forked processes, start processes by subprocess or multiprocessing's 'spawn', or give "
    "this one a connection of its own with hpc.init(address=...)"
)

_kept: list[Client] = []  # the parent's: freeing it here would run its finalizers
_watching = False


class NoClient:
    """Stands where the current client would be."""

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(WHAT_TO_DO)


class NoLock:
    """Stands where a client's lock would be."""

    def __enter__(self) -> NoReturn:
        raise RuntimeError(WHAT_TO_DO)

    def __exit__(self, *_error: object) -> None:
        """Nobody comes here."""


def watch_forks() -> None:
    """Has forked children of this process cut off from its client; called once a client is in use."""
    global _watching
    if not _watching:
        _watching = True
        os.register_at_fork(after_in_child=_cut_off)


def is_forked() -> bool:
    """Whether the client of this process was its parent's."""
    return isinstance(current.client, NoClient)


def _cut_off() -> None:
    client = cast("Client | None", current.client)
    if client is None or is_forked():
        return
    if client.kind == "driver":
        client.sockets.close_copies()
        client.arena.close()
    _kept.append(client)
    client.collections.close()
    client.lock = cast("threading.Lock", NoLock())
    client.dropped = deque(maxlen=0)  # the ends of references come at any time
    current.client = cast("ThisProcess", NoClient())

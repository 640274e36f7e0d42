"""What a forked child finds in place of its parent's connection: an error that says what to do.

A child that is not executed anew (os.fork, multiprocessing's "fork") has copies of the parent's sockets, and locks in
whatever state they were in.  If it used them, two processes would speak as one, and the raylet would drop both.  So in
the child the client becomes another class, whose every use raises; the parent notices nothing, and pays nothing.

A driver's child also closes its copies of the sockets, else the session would not see the driver leave before the
child has ended.  A worker's child keeps them: as long as it lives its views of shared memory stay valid.
"""

from __future__ import annotations

import os
from collections import deque
from typing import Any

from hpc.core.owner.client import Client
from hpc.core.process.current import current

WHAT_TO_DO = (
    "this process was forked from one that is connected to a session, and the connection stays with the parent. Use "
    "remote functions instead of forked processes, start processes by subprocess or multiprocessing's 'spawn', or give "
    "this one a connection of its own with hpc.init(address=...)"
)

_kept: list[dict[str, Any]] = []  # what the parent's client had: freeing it here would run its finalizers
_watching = False


class _Nothing:
    """Takes the ends of references, which come at any time; all else raises."""

    def __init__(self) -> None:
        self.dropped: deque[Any] = deque(maxlen=0)

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(WHAT_TO_DO)


class ForkedClient(Client):
    """The parent's client, in the child."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(WHAT_TO_DO)


def _refuse(self: Any, *_args: Any, **_options: Any) -> Any:
    raise RuntimeError(WHAT_TO_DO)


for _kind in (Client, *Client.__bases__):
    for _name, _method in list(vars(_kind).items()):
        if callable(_method) and not _name.startswith("__"):
            setattr(ForkedClient, _name, _refuse)


def watch_forks() -> None:
    """Has forked children of this process cut off from its client; called once a client is in use."""
    global _watching
    if not _watching:
        _watching = True
        os.register_at_fork(after_in_child=_cut_off)


def is_forked() -> bool:
    """Whether the client of this process is its parent's."""
    return isinstance(current.client, ForkedClient)


def _cut_off() -> None:
    client = current.client
    if not isinstance(client, Client) or isinstance(client, ForkedClient):
        return
    if client.kind == "driver":
        _close_copies(client)
    _kept.append(dict(client.__dict__))
    client.__dict__.clear()
    client.__dict__["machine"] = _Nothing()
    client.__class__ = ForkedClient


def _close_copies(client: Client) -> None:
    for stream in list(client.by_fd.values()):
        stream.sock.close()
    client._epoll.close()
    client.arena.close()
    try:
        os.close(client._kick_fd)
    except OSError:
        pass

"""What the groups of this process are at, for whoever looks for a rank that hangs."""

from __future__ import annotations

import weakref
from typing import Any, Protocol


class Stands(Protocol):
    """A group that counts its operations. ``begun``: the collectives; ``doing``: the one that goes on, "" for none.
    ``messages``: what threads send or receive beside that, and the other rank."""

    name: str
    title: str
    rank: int
    world_size: int
    begun: int
    doing: str
    messages: dict[int, tuple[str, int]]


_groups: weakref.WeakSet[Any] = weakref.WeakSet()


def enter(group: Stands) -> None:
    """The group counts from now on, until it is left or nobody has it any more."""
    _groups.add(group)


def leave(group: Stands) -> None:
    """The group was left."""
    _groups.discard(group)


def rows() -> list[dict[str, Any]]:
    """Two for each group of this process, of its collectives and of its messages: how many were begun, what goes on."""
    found = []
    for group in list(_groups):
        doing, begun = group.doing, group.begun
        row = {"group": group.name, "title": group.title, "me": group.rank, "size": group.world_size}
        found.append({**row, "number": begun, "first": begun if doing else 0, "operation": doing})
        name, peer = next(iter(group.messages.copy().values()), ("", -1))
        words = f"{name} {'to' if name == 'send' else 'from'} rank {peer}" if name else ""
        found.append({**row, "group": f"{group.name} messages", "peer": peer, "operation": words})
    return found

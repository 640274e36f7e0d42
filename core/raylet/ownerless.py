"""Objects whose owner has ended: they are freed, unless the head inherits them for the actors that it owns. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from hpc.core.ids import HEAD, Address, owner_of
from hpc.core.wire import Inherit


class Ownerless:
    """Which owners have ended, and what stays all the same."""

    def __init__(self, dead_nodes: set[int]) -> None:
        self.dead_owners: set[Address] = set()
        self._dead_nodes = dead_nodes
        #: What the head inherits, whether it is here already or not.
        self.inherited: set[bytes] = set()

    def has(self, ident: bytes) -> bool:
        """Whether the object's owner is gone, so that nobody can hold it. Its last workers may still be writing it."""
        return self.has_no_owner(ident) and ident not in self.inherited

    def has_no_owner(self, ident: bytes) -> bool:
        """Whether the object's owner is gone, although the head may hold it."""
        owner = owner_of(ident)
        return owner in self.dead_owners or owner.node in self._dead_nodes

    def inherit(self, src: Address, msg: Inherit) -> Sequence[bytes]:
        """The head says what it needs. Returns what it needs no more."""
        if src != HEAD:
            return ()
        if msg.which == "less":
            self.inherited.difference_update(msg.idents)
            return msg.idents
        before = sorted(self.inherited.difference(msg.idents)) if msg.which == "all" else []
        self.inherited.update(msg.idents)
        self.inherited.difference_update(before)
        return before

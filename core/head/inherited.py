"""What detached actors were made from: values that belong to processes which may end before the actors do.

An actor is made again from the same arguments. Its class and what was written into its call are in the head's journal.
Values that are referred to belong to whoever made them, mostly the program that made the actor. The head holds them as
any borrower does, which does not help when their owner ends. So it keeps small ones in the journal too. Of a large one
it is the *heir*. The raylets that have a copy know that: it stays when its owner ends, until the head lets go of it.

A raylet hears that before the actor's maker hears that the actor is made: the word and the answer take the same way. A
value that is still being computed is inherited when it is there.

Rejected: copies of their own for actors. Many are given the same large object, and one of it is enough. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpc.core.ids import Address, raylet_of
from hpc.core.owner.machine import OwnerMachine
from hpc.core.wire import INLINE, STORED, Inherit, Message, Result, system_error

#: Values of one actor, by the references among its arguments.
Values = dict[bytes, Result]


class Inherited:
    """The values that the head keeps for its actors."""

    def __init__(self, owner: OwnerMachine, forward: list[tuple[Address, Message]]) -> None:
        self._owner = owner
        self._entries = owner.state.entries
        self._forward = forward
        self._values: dict[bytes, Values] = {}
        self._large: Values = {}
        #: The bytes of the small ones.
        self.size_bytes = 0
        self._forgotten = owner.objects.forgotten
        owner.objects.forgotten = self._forget_object

    def note(self, actor: bytes, refs: Sequence[bytes]) -> bool:
        """An actor is made from these. Returns whether that has changed."""
        found: Values = {}
        for ref in refs:
            result = self._entries[ref].result
            if result is not None and result.kind in (INLINE, STORED):
                found[ref] = result
        before = self._values.get(actor, {})
        if found == before:
            return False
        self._set(actor, found)
        for ref, result in found.items():
            if result != before.get(ref):
                self._inherit(ref, result)
        return True

    def _set(self, actor: bytes, values: Values) -> None:
        for result in self._values.pop(actor, {}).values():
            self.size_bytes -= len(result.data)
        if values:
            self._values[actor] = values
            self.size_bytes += sum(len(result.data) for result in values.values())

    def _inherit(self, ref: bytes, result: Result) -> None:
        before = self._large.pop(ref, None)
        if result.kind == STORED:
            self._large[ref] = result
            self._forward += [(raylet_of(node), Inherit([ref], "more")) for node in result.nodes]
        gone = [] if before is None else [node for node in before.nodes if node not in result.nodes]
        self._forward += [(raylet_of(node), Inherit([ref], "less")) for node in gone]

    def forget(self, actor: bytes) -> None:
        """An actor has ended."""
        self._set(actor, {})

    def _forget_object(self, ident: bytes) -> None:
        """The head holds an object no more."""
        result = self._large.pop(ident, None)
        if result is not None:
            self._forward += [(raylet_of(node), Inherit([ident], "less")) for node in result.nodes]
        self._forgotten(ident)

    # -------------------------------------------------------------- what a restarted head must know

    def row(self, actor: bytes) -> list[Any] | None:
        """The values of an actor, as plain data."""
        values = self._values.get(actor, {}).items()
        return [[ref, r.kind, r.data, r.size, list(r.nodes), list(r.inner)] for ref, r in values] or None

    def take(self, actor: bytes, row: Sequence[Sequence[Any]]) -> list[bytes]:
        """What the head before knew: nobody is asked for that. Returns the objects, each of which is held once."""
        dead = self._owner.state.gone_nodes
        values: Values = {}
        for ref, kind, data, size, nodes, inner in row:
            left = tuple(node for node in nodes if node not in dead)
            if kind == INLINE or left:
                values[ref] = Result(kind, data, size, left, tuple(inner))
        for ref, result in values.items():
            self._owner.objects.hold(ref).result = result
            if result.kind == STORED:
                self._large[ref] = result
        self._set(actor, values)
        return [*values]

    def tell(self, node: int) -> None:
        """A raylet has met another head: what the one before has told it last may not have arrived."""
        large = [ref for ref, result in self._large.items() if node in result.nodes]
        self._forward.append((raylet_of(node), Inherit(large, "all")))

    # -------------------------------------------------------------- deaths

    def owner_gone(self) -> None:
        """A process has ended. What it owned and the head inherits is where it was."""
        for ref, result in self._large.items():
            entry = self._entries.get(ref)
            if entry is not None and entry.dead:
                entry.result = result

    def node_gone(self, node: int) -> None:
        """A node is gone, with its copies and with its owners."""
        for ref, result in [*self._large.items()]:
            if node in result.nodes:
                left = tuple(one for one in result.nodes if one != node)
                self._large[ref] = Result(STORED, b"", result.size, left, result.inner)
                if not left:
                    del self._large[ref]
                    self._lost(ref, node)
        self.owner_gone()

    def _lost(self, ref: bytes, node: int) -> None:
        """Nobody has a copy. An owner that lives will be asked, and may make it again."""
        entry = self._entries.get(ref)
        if entry is not None and entry.dead:
            why = f"its owner has ended, and node {node}, which had the last copy, is gone"
            entry.result = system_error("ObjectLostError", why, ident=ref.hex())

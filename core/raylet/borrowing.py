"""References that processes of this node hold to objects owned by others, counted once per node.

An owner hears of this node when its first process holds an object and when its last lets go. A reference can be dropped
and taken again while the first answer is still on its way. So acknowledgements of owners are counted, and a process is
told which of its words is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from hpc.core.ids import Address, owner_of
from hpc.core.raylet.tables import Borrowed
from hpc.core.wire import BorrowAcked, BorrowAdd, BorrowDrop, HoldAcked, HoldAdd, HoldDrop, Message


class Borrowing:
    """The pure part of a raylet that counts references."""

    def __init__(self, node: int) -> None:
        self.node = node
        self.outbox: list[tuple[Address, Message]] = []
        self.borrowed: dict[bytes, Borrowed] = {}
        self.acks_due: dict[bytes, int] = {}
        self.dead_owners: set[Address] = set()
        self.dead_nodes: set[int] = set()

    def is_dead(self, owner: Address) -> bool:
        """Whether an owner, or its node, is known to have ended."""
        return owner in self.dead_owners or owner.node in self.dead_nodes

    def on_borrow_add(self, src: Address, msg: BorrowAdd) -> None:
        known, dead = list[bytes](), list[bytes]()
        asked: dict[Address, list[bytes]] = {}
        for ident in msg.idents:
            owner = owner_of(ident)
            if self.is_dead(owner):
                dead.append(ident)
                continue
            borrowed = self.borrowed.get(ident)
            if borrowed is None:
                borrowed = self.borrowed[ident] = Borrowed()
                asked.setdefault(owner, []).append(ident)
                self.acks_due[ident] = self.acks_due.get(ident, 0) + 1
            elif borrowed.acked:
                known.append(ident)
            borrowed.procs[src.proc] = msg.number
        for owner, idents in asked.items():
            self.outbox.append((owner, HoldAdd(idents, self.node)))
        if known:
            self.outbox.append((src, BorrowAcked(known, [msg.number] * len(known))))
        if dead:
            self.outbox.append((src, BorrowAcked(dead, [msg.number] * len(dead), True)))

    def on_borrow_drop(self, src: Address, msg: BorrowDrop) -> None:
        for ident in msg.idents:
            self._drop(ident, src.proc)

    def _drop(self, ident: bytes, proc: int) -> None:
        borrowed = self.borrowed.get(ident)
        if borrowed is None:
            return
        borrowed.procs.pop(proc, None)
        if not borrowed.procs:
            del self.borrowed[ident]
            owner = owner_of(ident)
            if not self.is_dead(owner):
                self.outbox.append((owner, HoldDrop([ident], self.node)))

    def on_hold_acked(self, src: Address, msg: HoldAcked) -> None:
        acked: list[tuple[bytes, Borrowed]] = []
        for ident in msg.idents:
            due = self.acks_due.get(ident, 0) - 1
            if due > 0:
                self.acks_due[ident] = due
                continue
            self.acks_due.pop(ident, None)
            borrowed = self.borrowed.get(ident)
            if borrowed is not None and not borrowed.acked:
                borrowed.acked = True
                acked.append((ident, borrowed))
        self._answer(acked)

    def proc_gone(self, proc: int) -> None:
        """A process of this node has ended, and with it its references."""
        for ident in [i for i, borrowed in self.borrowed.items() if proc in borrowed.procs]:
            self._drop(ident, proc)

    def owner_gone(self, owner: Address) -> list[Collection[int]]:
        """An owner is gone: its borrowers are told. Returns the processes that hold its objects, for each of these."""
        self.dead_owners.add(owner)
        return self._end_with_owner(lambda ident: owner_of(ident) == owner)

    def forget_node(self, node: int) -> None:
        """All owners of a node are gone."""
        self.dead_nodes.add(node)
        self._end_with_owner(lambda ident: owner_of(ident).node == node)

    def told_anew(self, owner: Address) -> list[bytes]:
        """Another process has taken the place of an owner: what is held, which that is to be told. It owes one
        acknowledgement for each; what the one before owed will not come."""
        self._expect_no_acks(lambda ident: owner_of(ident) == owner)
        held = [ident for ident in self.borrowed if owner_of(ident) == owner]
        self.acks_due.update(dict.fromkeys(held, 1))
        return held

    def _end_with_owner(self, is_owned: Callable[[bytes], bool]) -> list[Collection[int]]:
        self._expect_no_acks(is_owned)
        held = [(ident, self.borrowed.pop(ident)) for ident in [*filter(is_owned, self.borrowed)]]
        self._answer(held, dead=True)
        return [borrowed.procs for _, borrowed in held]

    def _expect_no_acks(self, is_owned: Callable[[bytes], bool]) -> None:
        for ident in [*filter(is_owned, self.acks_due)]:
            del self.acks_due[ident]

    def _answer(self, answered: Iterable[tuple[bytes, Borrowed]], dead: bool = False) -> None:
        """Tell each process that holds one of these."""
        told: dict[int, dict[bytes, int]] = {}
        for ident, borrowed in answered:
            for proc, number in borrowed.procs.items():
                told.setdefault(proc, {})[ident] = number
        for proc, numbers in told.items():
            self.outbox.append((Address(self.node, proc), BorrowAcked([*numbers], [*numbers.values()], dead)))

"""References of others' objects that are let go and taken again while word of them is on its way."""

from __future__ import annotations

from hpc.core.ids import HEAD, Address, make_id, raylet_of
from hpc.core.owner.machine import OwnerMachine
from hpc.core.raylet.borrowing import Borrowing
from hpc.core.wire import BorrowAcked, BorrowAdd, BorrowDrop, HoldAcked, HoldAdd, HoldDrop

NODE = 1
RAYLET, OWNER, BORROWER, NEIGHBOUR = raylet_of(NODE), Address(2, 5), Address(NODE, 6), Address(NODE, 7)
IDENT = make_id(OWNER, 1)


class Words:
    """A process that borrows, its raylet, and the word that is on its way between them, each in its order."""

    def __init__(self) -> None:
        self.borrower = OwnerMachine(BORROWER)
        self.raylet = Borrowing(NODE)
        self.up: list[BorrowAdd | BorrowDrop] = []
        self.down: list[BorrowAcked] = []
        self.acked = False

    def take(self) -> None:
        self.borrower.objects.hold(IDENT)
        self.borrower.objects.when_acked([IDENT], self._on_acked)
        self._collect()

    def _on_acked(self) -> None:
        self.acked = True

    def let_go(self) -> None:
        self.borrower.objects.let_go(IDENT)
        self.acked = False
        self._collect()

    def _collect(self) -> None:
        self.up += [msg for dst, msgs in self.borrower.take_outbox(True) for msg in msgs if dst == RAYLET]

    def raylet_reads(self) -> None:
        """All that the process has sent."""
        read, self.up = self.up, []
        for msg in read:
            if isinstance(msg, BorrowAdd):
                self.raylet.on_borrow_add(BORROWER, msg)
            else:
                self.raylet.on_borrow_drop(BORROWER, msg)

    def owner_acknowledges(self) -> None:
        """One hold of the node."""
        self.raylet.on_hold_acked(OWNER, HoldAcked([IDENT]))

    def said_by_raylet(self) -> list[type]:
        """What the raylet has said since, to the owner; what it said to the process is on its way."""
        said, self.raylet.outbox[:] = list(self.raylet.outbox), []
        self.down += [msg for dst, msg in said if dst == BORROWER]
        return [type(msg) for dst, msg in said if dst == OWNER]

    def process_reads(self) -> None:
        """All that the raylet has said to it."""
        self.said_by_raylet()
        read, self.down = self.down, []
        self.borrower.handle(RAYLET, read)


def test_an_answer_that_was_on_its_way_when_a_reference_was_let_go_is_no_answer_for_the_next_one():
    words = Words()
    words.take()
    words.raylet_reads()
    words.owner_acknowledges()
    assert words.said_by_raylet() == [HoldAdd]
    words.let_go()
    words.take()
    words.process_reads()
    assert not words.acked, "the owner will hear that the node holds nothing, before it hears of this reference"
    words.raylet_reads()
    assert words.said_by_raylet() == [HoldDrop, HoldAdd]
    words.owner_acknowledges()
    words.process_reads()
    assert words.acked
    assert not words.borrower.objects.unacked


def test_an_answer_is_for_the_last_time_that_the_reference_was_taken():
    words = Words()
    for _ in range(3):
        words.take()
        words.let_go()
    words.take()
    words.raylet_reads()
    for _ in range(3):
        words.owner_acknowledges()
        words.process_reads()
        assert not words.acked
    words.owner_acknowledges()
    words.process_reads()
    assert words.acked


def test_a_reference_that_another_process_of_the_node_holds_is_acknowledged_each_time_that_it_is_taken():
    words = Words()
    words.raylet.on_borrow_add(NEIGHBOUR, BorrowAdd([IDENT], 1))
    words.owner_acknowledges()
    words.take()
    words.let_go()
    words.take()
    words.raylet_reads()
    assert words.said_by_raylet() == [HoldAdd]
    assert len(words.down) == 2
    words.process_reads()
    assert words.acked


def test_the_end_of_an_owner_answers_a_reference_that_was_taken_again():
    words = Words()
    words.take()
    words.raylet_reads()
    words.raylet.owner_gone(OWNER)
    words.said_by_raylet()
    words.let_go()
    words.take()
    words.process_reads()
    assert not words.acked
    words.raylet_reads()
    words.process_reads()
    assert words.acked
    assert words.borrower.state.entries[IDENT].dead


def test_what_an_owner_that_has_ended_owed_is_not_waited_for():
    words = Words()
    words.take()
    words.let_go()
    words.raylet_reads()
    words.raylet.owner_gone(OWNER)
    assert not words.raylet.acks_due


def test_a_head_that_takes_the_place_of_another_owes_one_answer_whatever_the_one_before_owed():
    raylet, kept, dropped = Borrowing(NODE), make_id(HEAD, 1), make_id(HEAD, 2)
    raylet.on_borrow_add(BORROWER, BorrowAdd([kept], 1))
    raylet.on_borrow_add(BORROWER, BorrowAdd([dropped], 2))
    raylet.on_borrow_drop(BORROWER, BorrowDrop([dropped]))
    assert raylet.told_anew(HEAD) == [kept]
    raylet.on_borrow_add(BORROWER, BorrowAdd([dropped], 3))
    raylet.outbox.clear()
    raylet.on_hold_acked(HEAD, HoldAcked([kept, dropped]))
    assert raylet.outbox == [(BORROWER, BorrowAcked([kept, dropped], [1, 3]))]
    assert not raylet.acks_due

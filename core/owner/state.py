"""The state of an owner that several of its parts share: objects, tasks, calls, streams, and what is to be sent.

Each table is one dict for all: a part keeps it as an attribute of its own, so that nothing is slower for being shared.
What only one part knows stays with that part. No part decides here; the rules are in the parts, and the order in which
they hear of an event is in `machine`.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from hpc.core.ids import HEAD, NO_SESSION, Address, id_prefix, raylet_of, session_mark
from hpc.core.owner.tables import (
    ActorClient,
    CallRec,
    Entry,
    ErrorWatch,
    ItemStream,
    LeasedWorker,
    Origin,
    OwnedActor,
    Shape,
    SharedError,
    TaskRec,
    Waiter,
)
from hpc.core.wire import MAX_VALUES_BYTES, Message, Result


class Sender(Protocol):
    """Takes a message for a process; an urgent one is sent at the end of this step."""

    def __call__(self, dst: Address, msg: Message, urgent: bool = True) -> None: ...


class OwnerState:
    """What the parts of an owner's machine share, and what its shell takes from it."""

    def __init__(self, addr: Address, job: bytes = b"", send: Sender | None = None) -> None:
        #: This process, and the raylet of its node.
        self.addr = addr
        self.raylet = raylet_of(addr.node)
        #: The job whose work this is, and the driver of that.
        self.job = job
        self.driver = addr
        #: The mark of the session, which the ids of its objects begin with.
        self.session = NO_SESSION
        #: What ids of our own begin with, and how many were made, of puts, tasks and calls.
        self.prefix = id_prefix(addr)
        self.made = 0

        #: What the parts call to send; an owner without a connection of its own has something else here than `leave`.
        self.send: Sender = send or self.leave
        #: Messages that wait to be sent, for each destination, and the destinations that are sent to now.
        self.outbox: dict[Address, list[Message]] = {}
        self.urgent: dict[Address, None] = {}
        #: How often messages were taken out for sending.
        self.turns = 0
        #: Waiters that can go on, and objects whose memory this process does not read any more.
        self.woken: list[Waiter] = []
        self.unpinned: list[bytes] = []
        #: References that the garbage collector has taken since anybody looked.
        self.dropped: deque[bytes] = deque()

        #: The objects that this process owns or borrows.
        self.entries: dict[bytes, Entry] = {}
        #: Tasks and calls of ours that are not finished.
        self.tasks: dict[bytes, TaskRec] = {}
        self.calls: dict[bytes, CallRec] = {}
        #: Values in one message take this much at most, in bytes; a worker asks their owner for the others.
        self.max_values_bytes = MAX_VALUES_BYTES
        #: What these take here with their arguments, in bytes.
        self.pending_bytes = 0
        #: Finished tasks and calls that may have to run again.
        self.origins: dict[bytes, Origin] = {}
        #: The generators among them, and those whose items somebody may still take.
        self.streams: dict[bytes, ItemStream] = {}
        #: Further return values of unfinished tasks that have several: the task of each.
        self.task_of: dict[bytes, bytes] = {}
        #: References inside results that were sent, by task and attempt: who has them, until it holds them itself.
        self.handed_over: dict[tuple[bytes, int], tuple[Address, list[bytes]]] = {}

        #: What tasks and actors can be made of: kinds of workers, all and by the number of a demand.
        self.shapes: list[Shape] = []
        self.requests: dict[int, Shape] = {}
        #: Shapes whose queues or workers have changed in this step.
        self.dirty: dict[Shape, None] = {}
        #: Workers that are ours for a while, and the nodes on which such ones were.
        self.leases: dict[int, LeasedWorker] = {}
        self.nodes_used: set[int] = set()
        #: The code of functions and classes, and the workers that have been sent which of it.
        self.functions: dict[bytes, bytes] = {}
        self.known: dict[Address, set[bytes]] = {}
        #: The sockets of processes of this node that can be spoken to directly.
        self.paths: dict[Address, str] = {}
        #: What the user should be told.
        self.warnings: list[str] = []

        #: The actors that this process created, and those that it may call.
        self.actors: dict[bytes, OwnedActor] = {}
        self.clients: dict[bytes, ActorClient] = {}
        #: Placement groups that were removed lately, and what is said of them.
        self.groups_gone: dict[bytes, str] = {}
        #: What a head that was restarted is told again, in this order: questions without an answer, by their number,
        #: and what needs no answer (names given back, actors killed), by numbers below 0.
        self.asked: dict[int, Message] = {}

        #: Processes that have ended, and nodes, with the reason.
        self.gone: set[Address] = set()
        self.gone_nodes: dict[int, str] = {}

        #: Threads that want to know at once when one of many objects has an error for a value.
        self.error_watches: list[ErrorWatch] = []
        #: Objects of ours whose value is an error of users' code that nobody has got.
        self.unseen: set[bytes] = set()
        #: Errors that stand for several values: a get of one of these is a get of the error.
        self.shared_errors: dict[bytes, SharedError] = {}
        #: Such errors that were let go, and the waiter that shows them; without one they are not kept.
        self.unhandled: deque[Result] = deque()
        self.unhandled_waiter: Waiter | None = None

    def enter(self, session: str) -> None:
        """The name of the session: ids that are made from now on are its own, others are strangers."""
        self.session = session_mark(session)
        self.prefix = id_prefix(self.addr, self.session)

    def new_ids(self, count: int = 1) -> bytes:
        """Reserve ``count`` consecutive ids of our own; the first is returned."""
        first = self.made + 1
        self.made += count if count > 1 else 1
        return self.prefix + first.to_bytes(8, "big")

    def unfinished(self, task: bytes) -> TaskRec | CallRec | None:
        """A task or call of ours that has not ended."""
        return self.tasks.get(task) or self.calls.get(task)

    # -------------------------------------------------------------- sending

    def leave(self, dst: Address, msg: Message, urgent: bool = True) -> None:
        """Leave a message for ``dst`` in the outbox; an urgent one is sent at the end of this step."""
        box = self.outbox.get(dst)
        if box is None:
            self.outbox[dst] = [msg]
        else:
            box.append(msg)
        if urgent:
            self.urgent[dst] = None

    def box(self, dst: Address) -> list[Message]:
        """Where messages for ``dst`` are left, for a caller that leaves many: until ``turns`` changes."""
        return self.outbox.setdefault(dst, [])

    def take_outbox(self, everything: bool = False) -> list[tuple[Address, list[Message]]]:
        """What is to be sent now: to the urgent destinations, or to all."""
        outbox, urgent = self.outbox, self.urgent
        self.turns += 1
        # The head first: what it is asked to make may be named in what the others are told. Then the raylet: it should
        # know of an object that was written here before those do who are told of it.
        out = [(HEAD, outbox.pop(HEAD))] if HEAD in outbox else []
        if self.raylet in outbox and (everything or self.raylet in urgent):
            out.append((self.raylet, outbox.pop(self.raylet)))
        if everything:
            out += [(dst, msgs) for dst, msgs in outbox.items() if msgs]
            outbox.clear()
        else:
            out += [(dst, msgs) for dst in urgent if (msgs := outbox.pop(dst, None))]
        urgent.clear()
        return out

"""What a raylet tells the head of what happens on its node: workers that die, owners that are lost, spilling. Pure.

A storm is folded here, so that ten thousand workers that die at once are eleven notes to the head.
"""

from __future__ import annotations

from hpc.core.causes import LostCause
from hpc.core.events.kinds import EventKind
from hpc.core.events.notes import Folding, Note, shortened
from hpc.core.ids import HEAD, Address
from hpc.core.raylet.spill import Spiller
from hpc.core.raylet.tables import Proc
from hpc.core.wire import Happened, Message

#: Notes that wait until the head has heard of this node.
MAX_WAITING = 100
#: Spilling that begins again after so long without any is told again.
QUIET_S = 60.0


class NodeEvents:
    """The events of one node. ``outbox`` is its machine's; ``now`` is set by its ticks."""

    def __init__(self, node: int, outbox: list[tuple[Address, Message]], spiller: Spiller, now: float = 0.0) -> None:
        self.node = node
        self.now = now
        self._outbox, self._spiller = outbox, spiller
        self._folding = Folding()
        self._waiting: list[Note] = []
        self._lost = 0
        self._files = self._errors = 0
        self._spilled_at = float("-inf")

    def note(self, kind: EventKind, text: str, entity: str = "") -> None:
        """Something has happened now."""
        told = self._folding.take(kind, Note(kind, text, self.node, entity), self.now)
        if told is not None:
            self._tell(told)

    def _tell(self, note: Note) -> None:
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(shortened(note))
        else:
            self._lost += note.count

    def worker_gone(self, proc: Proc, why: str, cause: LostCause) -> None:
        """A worker has ended; told where nobody had wanted that."""
        cause, why = proc.exit_cause or cause, proc.exit_why or why
        if cause not in ("crash", "oom") or proc.retired or (proc.doomed and cause != "oom"):
            return
        kind: EventKind = "WORKER_OUT_OF_MEMORY" if cause == "oom" else "WORKER_DIED"
        ident = str(Address(self.node, proc.proc))
        what = "an actor" if proc.lease is not None and proc.lease.actor else "tasks" if proc.lease else "nothing"
        state = "before it was ready" if proc.state == "starting" else f"it ran {what}"
        self.note(kind, f"worker {ident} on node {self.node} has ended ({state}): {why}", ident)

    def owner_lost(self, owner: Address, held: int) -> None:
        """A process has ended that owned so many objects which processes of this node hold."""
        if held:
            values = "an object" if held == 1 else f"{held} objects"
            text = f"process {owner} has ended: it owned {values} that node {self.node} uses"
            self.note("OWNER_LOST", text, str(owner))

    def tick(self, now: float, may_tell: bool) -> None:
        """Look at the disk, and tell what is to be told."""
        self.now = now
        self._look_at_disk()
        if self._folding.waits:
            for note in self._folding.due(now):
                self._tell(note)
        if self._waiting and may_tell:
            self._outbox.append((HEAD, Happened(self._waiting, self._lost)))
            self._waiting, self._lost = [], 0

    def _look_at_disk(self) -> None:
        spiller = self._spiller
        if spiller.written_files != self._files:
            if self.now - self._spilled_at > QUIET_S:
                mib = spiller.writing_bytes >> 20
                self.note("SPILL_BEGAN", f"node {self.node}: its object store is full, {mib} MiB move to disk now")
            self._files, self._spilled_at = spiller.written_files, self.now
        if spiller.errors > self._errors:
            self.note("DISK_FAILED", f"node {self.node}: its disk for objects failed: {spiller.problem}")
        self._errors = spiller.errors

"""Lost values are computed again: the tasks that made stored objects are remembered as long as that may be needed.

A finished task or call that has retries left is kept while one of its stored values lives. It is also kept while
another kept one needs one of its values as an argument. Values that can be made again are not kept alive by that.
Arguments that cannot are kept: small ones with the task, and what was put, or made by a task without retries, where it
is. When the last copy of a value is lost the task runs again as a new attempt. Before it run the tasks that made its
arguments, if their values are gone as well. Each time uses up one of its retries. A call runs again in its actor as
that is then, if it still lives: behind all that the actor has been sent. So what runs there, and finds such a value
lost, would wait for ever. It gets an error in place of the value, others get what is made again.

After Wang et al., "Ownership", NSDI 2021; Zaharia et al., "Resilient Distributed Datasets", NSDI 2012.
"""

from __future__ import annotations

from hpc.core.ids import Address, owner_of, raylet_of, return_id
from hpc.core.owner.calls import OutgoingCalls
from hpc.core.owner.events import OwnerEvents
from hpc.core.owner.objects import Objects
from hpc.core.owner.state import OwnerState
from hpc.core.owner.streams import ItemStreams, item_ids
from hpc.core.owner.tables import CallRec, Entry, Origin, TaskRec
from hpc.core.owner.tasks import Tasks
from hpc.core.wire import INLINE, STORED, CopyLost, Free, FreeValues, ObjectValue, Result, system_error

#: What the arguments of remembered tasks may take, in bytes; above that the oldest are forgotten.
MAX_LINEAGE_BYTES = 1 << 30
#: Why a value that is lost cannot be made again, by Ray's names of the reasons.
BY_PUT, DISABLED = "OBJECT_UNRECONSTRUCTABLE_PUT", "OBJECT_UNRECONSTRUCTABLE_RETRIES_DISABLED"
USED_UP, EVICTED = "OBJECT_UNRECONSTRUCTABLE_MAX_ATTEMPTS_EXCEEDED", "OBJECT_UNRECONSTRUCTABLE_LINEAGE_EVICTED"
#: Why a reader does not get a value that is made again; Ray has no name for that.
CIRCLE = "ACTOR_WAITS_FOR_ITSELF"
#: What internal.free() leaves in place of a value.
FREED = system_error("ObjectFreedError", "it was freed by internal.free()")


def waits_for_itself(call: str, ident: bytes) -> Result:
    """The error for a reader in an actor that would wait for a later call of the same actor."""
    text = (
        f"all copies are lost, and the call of {call} that makes it again comes behind what the actor runs now, which "
        "needs it: it would wait for itself"
    )
    return system_error("ObjectReconstructionFailedError", text, ident=ident.hex(), reason=CIRCLE)


class Lineage:
    """The origins of the stored objects that this process owns."""

    def __init__(
        self, state: OwnerState, objects: Objects, streams: ItemStreams, tasks: Tasks, calls: OutgoingCalls,
        events: OwnerEvents,
    ) -> None:  # fmt: skip
        self.events = events
        self.objects, self.streams, self.tasks, self.calls = objects, streams, tasks, calls
        self.addr = state.addr
        self.entries, self.origins, self.unfinished = state.entries, state.origins, state.unfinished
        self.send, self.unpinned = state.send, state.unpinned
        self.max_lineage_bytes = MAX_LINEAGE_BYTES
        self.lineage_bytes = 0
        #: The origin of each stored value that has one.
        self.made_by: dict[bytes, Origin] = {}
        #: Stored values that have no origin although they were not put: why.
        self.without_origin: dict[bytes, str] = {}
        #: Whether what is made again uses up a retry.
        self.charged = True

    # -------------------------------------------------------------- remembering

    def remember(self, rec: TaskRec | CallRec, results: list[Result]) -> None:
        """A task or call is about to end with these results: keep what is needed to make them again."""
        if rec.cancelled:
            return
        made = self._stored_values(rec, results)
        if made and rec.retries:
            self._remember(rec, made)
        elif made:
            why = USED_UP if rec.msg.attempt else DISABLED
            self.without_origin.update((ident, why) for ident in made if ident in self.entries)

    def remembered(self, task: bytes) -> None:
        """The task has ended."""
        origin = self.origins.get(task)
        if origin is not None:
            self._count_live(origin)

    def _stored_values(self, rec: TaskRec | CallRec, results: list[Result]) -> list[bytes]:
        task = rec.msg.task
        made = [return_id(task, index) for index, result in enumerate(results) if result.kind == STORED]
        stream = self.streams.streams.get(task) if rec.msg.num_returns < 0 else None
        if stream is not None:
            found = [e for ident in item_ids(task, 0, stream.received) if (e := self.entries.get(ident)) is not None]
            made += [e.ident for e in found if e.result is None or e.result.kind == STORED]
        return made

    def _remember(self, rec: TaskRec | CallRec, made: list[bytes]) -> None:
        origin = self.origins[rec.msg.task] = Origin(rec, made)
        for ident in made:
            self.made_by[ident] = origin
        for ident in dict.fromkeys([*rec.msg.refs, *rec.holds]):
            maker, entry = self.made_by.get(ident), self.entries.get(ident)
            if maker is not None:
                maker.users += 1
                origin.uses.append(maker)
            elif entry is not None and (not entry.owned or entry.result is None):
                # Not ours, or not there yet: the task only passed it on.
                entry.count += 1
                origin.borrowed.append(ident)
            elif entry is not None and entry.result is not None and entry.result.kind == STORED:
                entry.count += 1  # nothing could make it again
                origin.borrowed.append(ident)
            elif entry is not None and entry.result is not None:
                origin.kept[ident] = entry.result
                origin.size += len(entry.result.data)
        self.lineage_bytes += origin.size

    def _count_live(self, origin: Origin) -> None:
        """Nobody may have waited for some of the values: they were freed as they came."""
        origin.live = sum(1 for ident in origin.made if ident in self.entries)
        self._maybe_forget(origin)
        while self.lineage_bytes > self.max_lineage_bytes:
            oldest = next((o for t, o in self.origins.items() if self.unfinished(t) is None), None)
            if oldest is None:
                return
            self.without_origin.update((ident, EVICTED) for ident in oldest.made if ident in self.entries)
            self._forget(oldest)

    def _maybe_forget(self, origin: Origin) -> None:
        task = origin.rec.msg.task
        unused = not origin.live and not origin.users
        if unused and self.unfinished(task) is None and self.origins.get(task) is origin:
            self._forget(origin)

    def _forget(self, origin: Origin) -> None:
        waiting = [origin]
        while waiting:  # not by recursion: chains are as long as a program's loops
            one = waiting.pop()
            if self.origins.pop(one.rec.msg.task, None) is None:
                continue
            self.lineage_bytes -= one.size
            for ident in one.made:
                self.made_by.pop(ident, None)
            self.objects.let_go_all(one.borrowed)
            for maker in one.uses:
                maker.users -= 1
                if not maker.live and not maker.users and self.unfinished(maker.rec.msg.task) is None:
                    waiting.append(maker)

    def object_freed(self, ident: bytes) -> None:
        """Nobody holds this object of ours any more."""
        origin = self.made_by.get(ident) if self.made_by else None
        if origin is not None:
            origin.live -= 1
            self._maybe_forget(origin)
        elif self.without_origin:
            self.without_origin.pop(ident, None)

    # -------------------------------------------------------------- giving up by hand

    def free_values(self, idents: list[bytes]) -> None:
        """Give up the values of objects although they are held: their memory at once, and their origins."""
        elsewhere: dict[Address, list[bytes]] = {}
        for ident in idents:
            entry = self.entries.get(ident)
            if entry is None or entry.result is None:
                continue
            if not entry.owned:
                elsewhere.setdefault(owner_of(ident), []).append(ident)
            elif entry.result.kind == STORED:
                for node in entry.result.nodes:
                    self.send(raylet_of(node), Free([ident]))
            if entry.pinned:
                entry.pinned = False
                self.unpinned.append(ident)
            entry.result = FREED
        for owner, theirs in elsewhere.items():
            self.send(owner, FreeValues(theirs))

    def on_free_values(self, src: Address, msg: FreeValues) -> None:
        self.free_values([ident for ident in msg.idents if (e := self.entries.get(ident)) is not None and e.owned])

    # -------------------------------------------------------------- computing again

    def all_copies_lost(self, entry: Entry, why: str) -> None:
        """An object of ours has a value no more: it is made again, or it is an error."""
        entry.result = None
        problem = self._rebuild(entry.ident)
        what = f"object {entry.ident.hex()}: all copies are lost ({why})"
        if problem is None:
            self.events.note("VALUE_MADE_AGAIN", f"{what}; its task runs again", entity=entry.ident)
        else:
            reason, text = problem
            self.events.note("VALUE_LOST", f"{what}; {text}", entity=entry.ident)
            text = f"all copies are lost ({why}); {text}"
            error = system_error("ObjectReconstructionFailedError", text, ident=entry.ident.hex(), reason=reason)
            self.objects.set_result(entry.ident, error)

    def copies_lost(self, ident: bytes, nodes: list[int]) -> Result | None:
        """This process could not read an object that it holds at the nodes where it should be. Returns an error for its
        reader if that must not wait for the value."""
        self.objects.copies_lost(ident, nodes)
        return self._no_wait(ident, self.addr)

    def on_copy_lost(self, src: Address, msg: CopyLost) -> None:
        """A reader elsewhere could not. If it must not wait for the value it gets an error, and the value later."""
        self.objects.on_copy_lost(src, msg)
        error = self._no_wait(msg.ident, src)
        if error is not None:
            self.send(src, ObjectValue(msg.ident, error))

    def _no_wait(self, ident: bytes, reader: Address) -> Result | None:
        """An error if an object of ours that is made again needs a call to the actor in the process that reads it. The
        call has no place before what runs there, whoever was the first to find the value lost."""
        waiting, seen = [ident], set[bytes]()
        while waiting:
            needed = waiting.pop()
            entry = self.entries.get(needed)
            if entry is None or not entry.owned or entry.result is not None:
                continue
            origin = self.made_by.get(needed)
            task = origin.rec.msg.task if origin is not None else self.streams.maker_of(needed)
            rec = self.unfinished(task)
            if rec is None or not rec.msg.attempt or task in seen:
                continue
            seen.add(task)
            if isinstance(rec, CallRec) and rec.client.state == "alive" and rec.client.worker == reader:
                return waits_for_itself(_name(rec), ident)
            waiting += [*rec.msg.refs, *rec.holds]
        return None

    def _rebuild(self, ident: bytes) -> tuple[str, str] | None:
        """Run the task again that made the object; what is in the way of that, as (reason, text), or None."""
        origin = self.made_by.get(ident)
        if origin is None:
            if self.streams.is_coming(ident):
                return None
            name = self.without_origin.get(ident, BY_PUT)
            return name, self._why_not(name)
        plan: dict[bytes, Origin] = {}
        problem = self._plan(origin, plan)
        if problem is not None:
            return problem
        for one in plan.values():
            for arg in self._arguments_of(one):
                entry = self.entries.get(arg)
                if entry is None:
                    self.objects.own(arg, 0).result = one.kept.get(arg)
                    if arg in self.made_by:
                        self.made_by[arg].live += 1
                elif entry.result is FREED and arg in self.made_by:
                    entry.result = None
        for one in plan.values():
            if isinstance(one.rec, TaskRec):
                self.tasks.again(one.rec, self.charged)
            else:
                self.calls.again(one.rec, self.charged)
        return None

    def _why_not(self, name: str) -> str:
        return {
            BY_PUT: "it was put, so no task can make it again: return it from a task instead",
            DISABLED: "the task or call that made it has no retries (max_retries, max_task_retries)",
            USED_UP: "the task or call that made it has used up its retries (max_retries, max_task_retries)",
            EVICTED: "the task that made it was forgotten, because such tasks took more than "
            f"{self.max_lineage_bytes >> 20} MiB",
        }[name]

    @staticmethod
    def _arguments_of(origin: Origin) -> list[bytes]:
        return list(dict.fromkeys([*origin.rec.msg.refs, *origin.rec.holds]))

    def _plan(self, first: Origin, plan: dict[bytes, Origin]) -> tuple[str, str] | None:
        """Which tasks must run again for this one, itself included; or why that cannot be."""
        waiting = [first]
        while waiting:
            origin = waiting.pop()
            rec = origin.rec
            task = rec.msg.task
            if self.unfinished(task) is not None or task in plan:
                continue
            if not rec.retries:
                return USED_UP, f"the task {_name(rec)} that made it has no retries left"
            if isinstance(rec, CallRec):
                problem = self.calls.no_again(rec)
                if problem is not None:
                    return problem
            plan[task] = origin
            for arg in self._arguments_of(origin):
                entry, maker = self.entries.get(arg), self.made_by.get(arg)
                if maker is not None and (entry is None or entry.result is None or entry.result is FREED):
                    waiting.append(maker)
                elif entry is None and arg not in origin.kept:
                    return BY_PUT, f"the task {_name(rec)} needs object {arg.hex()} again, which has been freed"
        return None

    def rebuilt(self, origin: Origin, result: Result) -> None:
        """The task has run again. Items that the second run did not give are lost for good."""
        missing = system_error("ObjectReconstructionFailedError", "its generator gave fewer items when it ran again")
        error = result if result.kind not in (INLINE, STORED) else missing
        for ident in origin.made:
            entry = self.entries.get(ident)
            if entry is not None and entry.result is None:
                self.objects.set_result(ident, error)
        self._maybe_forget(origin)


def _name(rec: TaskRec | CallRec) -> str:
    return rec.msg.name if isinstance(rec, TaskRec) else rec.msg.method

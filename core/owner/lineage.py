"""Lost values are computed again: the tasks that made stored objects are remembered as long as that may be needed.

A finished task is kept while one of its stored values lives, or while a kept task needs one of them as an argument;
values themselves are not kept alive by that. Small arguments are kept with the task. When the last copy of a value is
lost the task runs again as a new attempt, and before it the tasks whose values it needs and that are gone as well. Each
time uses up one of its retries. What was put, and what actors returned, has no such origin.

After Wang et al., "Ownership", NSDI 2021; Zaharia et al., "Resilient Distributed Datasets", NSDI 2012.
"""

from __future__ import annotations

from hpc.core.ids import Address, owner_of, raylet_of, return_id
from hpc.core.owner.streams import item_id
from hpc.core.owner.tables import Entry, TaskRec
from hpc.core.owner.tasks import TaskSubmitter
from hpc.core.wire import INLINE, STORED, Free, FreeValues, Result, system_error

#: What the arguments of remembered tasks may take, in bytes; above that the oldest are forgotten.
MAX_LINEAGE_BYTES = 1 << 30
#: Roughly what a remembered task takes beside the task itself.
RECORD_BYTES = 500


class Origin:
    """A finished task that may have to run again. ``live`` of its values exist, ``users`` are remembered tasks that
    had some of them as arguments."""

    __slots__ = ("borrowed", "kept", "live", "made", "rec", "size", "users", "uses")

    def __init__(self, rec: TaskRec, made: list[bytes]) -> None:
        self.rec = rec
        self.made = made
        self.live = len(made)
        self.users = 0
        self.uses: list[Origin] = []
        self.kept: dict[bytes, Result] = {}
        self.borrowed: list[bytes] = []
        self.size = RECORD_BYTES + rec.size


class LineageTable(TaskSubmitter):
    """The origins of the stored objects that this process owns."""

    def __init__(self, addr: Address, job: bytes = b"", idle_lease_s: float = 0.1) -> None:
        super().__init__(addr, job, idle_lease_s)
        self.max_lineage_bytes = MAX_LINEAGE_BYTES
        self.lineage_bytes = 0
        self.origins: dict[bytes, Origin] = {}
        self.made_by: dict[bytes, Origin] = {}
        self.forgotten: set[bytes] = set()

    # -------------------------------------------------------------- remembering

    def _finish(self, rec: TaskRec, results: list[Result], src: Address) -> None:
        msg = rec.msg
        task = msg.task
        origin = self.origins.get(task)
        if (
            origin is None and msg.num_returns == 1 and (result := results[0]).kind == INLINE
            and not (result.inner or msg.refs or rec.holds)
        ):  # fmt: skip
            # All that is to be done for most tasks.
            del self.tasks[task]
            self.pending_bytes -= rec.size
            self.set_result(task, result, True)
        elif origin is not None:
            super()._finish(rec, results, src)
            self._rebuilt(origin, results[0])
        elif results and (results[0].kind == STORED or len(results) > 1 or rec.msg.num_returns < 0):
            made = self._stored_values(rec, results) if rec.retries and not rec.cancelled else []
            if made:
                self._remember(rec, made)
            super()._finish(rec, results, src)
            if made:
                self._count_live(self.origins[task])
        else:
            super()._finish(rec, results, src)

    def _stored_values(self, rec: TaskRec, results: list[Result]) -> list[bytes]:
        task = rec.msg.task
        made = [return_id(task, index) for index, result in enumerate(results) if result.kind == STORED]
        stream = self.streams.get(task) if rec.msg.num_returns < 0 else None
        if stream is not None:
            items = [item_id(task, index) for index in range(stream.received)]
            found = [self.objects.get(ident) for ident in items]
            made += [e.ident for e in found if e is not None and e.result is not None and e.result.kind == STORED]
        return made

    def _remember(self, rec: TaskRec, made: list[bytes]) -> None:
        origin = self.origins[rec.msg.task] = Origin(rec, made)
        for ident in made:
            self.made_by[ident] = origin
        for ident in {*rec.msg.refs, *rec.holds}:
            maker, entry = self.made_by.get(ident), self.objects.get(ident)
            if maker is not None:
                maker.users += 1
                origin.uses.append(maker)
            elif entry is not None and (not entry.owned or entry.result is None):
                # Not ours, or not there yet: the task only passed it on.
                entry.count += 1
                origin.borrowed.append(ident)
            elif entry is not None and entry.result is not None and entry.result.kind != STORED:
                origin.kept[ident] = entry.result
                origin.size += len(entry.result.data)
        self.lineage_bytes += origin.size

    def _count_live(self, origin: Origin) -> None:
        """Nobody may have waited for some of the values: they were freed as they came."""
        origin.live = sum(1 for ident in origin.made if ident in self.objects)
        self._maybe_forget(origin)
        while self.lineage_bytes > self.max_lineage_bytes:
            oldest = next((o for t, o in self.origins.items() if t not in self.tasks), None)
            if oldest is None:
                return
            self.forgotten.update(ident for ident in oldest.made if ident in self.objects)
            self._forget(oldest)

    def _maybe_forget(self, origin: Origin) -> None:
        task = origin.rec.msg.task
        if not origin.live and not origin.users and task not in self.tasks and self.origins.get(task) is origin:
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
            self.let_go_all(one.borrowed)
            for maker in one.uses:
                maker.users -= 1
                if not maker.live and not maker.users and maker.rec.msg.task not in self.tasks:
                    waiting.append(maker)

    def object_freed(self, entry: Entry) -> None:
        if self.streams:
            super().object_freed(entry)
        origin = self.made_by.get(entry.ident) if self.made_by else None
        if origin is not None:
            origin.live -= 1
            self._maybe_forget(origin)
        elif self.forgotten:
            self.forgotten.discard(entry.ident)

    # -------------------------------------------------------------- giving up by hand

    def free_values(self, idents: list[bytes]) -> None:
        """Give up the values of objects although they are held: their memory at once, and their origins."""
        elsewhere: dict[Address, list[bytes]] = {}
        for ident in idents:
            entry = self.objects.get(ident)
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
            entry.result = system_error("ObjectFreedError", "it was freed by internal.free()", ident=ident.hex())
        for owner, theirs in elsewhere.items():
            self.send(owner, FreeValues(theirs))

    def on_free_values(self, src: Address, msg: FreeValues) -> None:
        self.free_values([ident for ident in msg.idents if (e := self.objects.get(ident)) is not None and e.owned])

    # -------------------------------------------------------------- computing again

    def all_copies_lost(self, entry: Entry, why: str) -> None:
        entry.result = None
        problem = self._rebuild(entry.ident)
        if problem is not None:
            kind, reason = problem
            error = system_error(kind, f"all copies are lost ({why}); {reason}", ident=entry.ident.hex())
            self.set_result(entry.ident, error)

    def _rebuild(self, ident: bytes) -> tuple[str, str] | None:
        """Run the task again that made the object; what is in the way of that, as (error type, text), or None."""
        origin = self.made_by.get(ident)
        if origin is None:
            if ident in self.forgotten:
                limit = self.max_lineage_bytes >> 20
                return (
                    "ObjectReconstructionFailedError",
                    f"the task that made it was forgotten, because such tasks took more than {limit} MiB",
                )
            return "ObjectLostError", "it was put, or returned by an actor, and cannot be computed again"
        plan: dict[bytes, Origin] = {}
        problem = self._plan(origin, plan)
        if problem is not None:
            return problem
        for one in plan.values():
            for arg in self._arguments_of(one):
                if arg not in self.objects:
                    self.own(arg, 0).result = one.kept.get(arg)
                    if arg in self.made_by:
                        self.made_by[arg].live += 1
        for one in plan.values():
            self._run_again(one.rec)
        return None

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
            if task in self.tasks or task in plan:
                continue
            if not rec.retries:
                return "ObjectReconstructionFailedError", f"the task {rec.msg.name} that made it has no retries left"
            plan[task] = origin
            for arg in self._arguments_of(origin):
                entry, maker = self.objects.get(arg), self.made_by.get(arg)
                if maker is not None and (entry is None or entry.result is None):
                    waiting.append(maker)
                elif entry is None and arg not in origin.kept:
                    text = f"the task {rec.msg.name} needs object {arg.hex()} again, which was put and has been freed"
                    return "ObjectReconstructionFailedError", text
        return None

    def _run_again(self, rec: TaskRec) -> None:
        if rec.retries > 0:
            rec.retries -= 1
        rec.msg.attempt += 1
        rec.msg.window = 0
        self.tasks[rec.msg.task] = rec
        self.pending_bytes += rec.size
        self._take_arguments(rec, rec.msg.refs, rec.holds)
        if not rec.unresolved:
            self.resolved(rec)
        self._dirty.add(rec.shape)

    def _rebuilt(self, origin: Origin, result: Result) -> None:
        """The task has run again. Items that the second run did not give are lost for good."""
        missing = system_error("ObjectReconstructionFailedError", "its generator gave fewer items when it ran again")
        error = result if result.kind not in (INLINE, STORED) else missing
        for ident in origin.made:
            entry = self.objects.get(ident)
            if entry is not None and entry.result is None:
                self.set_result(ident, error)
        self._maybe_forget(origin)

"""Many calls of one method as one record: what makes a stream of small calls cheap.

A program that calls one method again and again (a step of an environment, an increment) makes calls that differ in
their arguments only. As records of their own each costs a message, a record of the owner and places in three tables, at
both ends. Such calls are a *run* instead. One message has the arguments of all, one answer has the values of many, and
each call has only its entry.

A run begins behind a call that is not finished yet. It is made for the common case: the actor is there and runs one
call at a time, and each call gives one small value. Three events *unfold* the runs of that actor. A call is cancelled,
a call is made again because the actor was lost, or a value is large. The calls that are not finished become records
like any others, and everything else in `actors` knows only records. So a call is unfolded once at most, and the order
of an actor's calls is: those that have a record, then the runs.
"""

from __future__ import annotations

from collections.abc import Callable

from hpc.core.callruns import calls_of, place_in
from hpc.core.ids import Address, ids_from, return_id
from hpc.core.owner.leases import BATCH
from hpc.core.owner.objects import Objects
from hpc.core.owner.state import OwnerState
from hpc.core.owner.tables import ActorClient, CallKind, CallRec, CallRun, Entry
from hpc.core.owner.tasks import TASK_BYTES
from hpc.core.wire import INLINE, NO_ARGUMENTS, Calls, CallsDone, Done

#: After a call that ended a run so many of its kind are made one by one.
REST = 64


class CallRuns:
    """The runs of a process. ``unfinished`` are those that wait for values, by their first id."""

    def __init__(self, state: OwnerState, objects: Objects, done: Callable[[Address, Done], None]) -> None:
        self.state, self.objects, self.done = state, objects, done
        self.entries, self.calls, self.clients = state.entries, state.calls, state.clients
        self.outbox, self.urgent = state.outbox, state.urgent
        self.unfinished: dict[bytes, CallRun] = {}
        self._of_worker: dict[Address, ActorClient] = {}

    # -------------------------------------------------------------- calling

    def add(self, kind: CallKind, actor: bytes, args: bytes, parent: bytes) -> bytes | None:
        """A call whose arguments refer to nothing. Returns its id, an object that is held once; None if it cannot be
        part of a run now."""
        state, run = self.state, kind.open
        made = state.made
        if (
            run is None or run.following != made or run.turn != state.turns or run.box[-1] is not run.msg
            or run.parent != parent
        ):  # fmt: skip
            return self._begin(kind, actor, args, parent)
        number = made + 1
        ident = state.prefix + number.to_bytes(8, "big")
        entry = Entry(ident, True, 1)
        state.made = number  # the run's follows last: nothing joins one in which a signal's handler raised
        self.entries[ident] = entry
        run.args.append(args)
        entries = run.entries
        entries.append(entry)
        run.following = number
        if args is not NO_ARGUMENTS:
            run.size += len(args)
        if len(entries) >= BATCH or run.size > self.state.max_values_bytes:
            kind.open = None
            self.urgent[run.client.worker] = None
        return ident

    def _begin(self, kind: CallKind, actor: bytes, args: bytes, parent: bytes) -> bytes | None:
        """A call that is the first of a run. The run is there with its message or not at all: what is not certain to
        happen comes before."""
        state = self.state
        client = self.clients.get(actor)
        if client is None or client.state != "alive" or kind.rest:
            kind.rest = max(0, kind.rest - 1)
            return None
        if client.runs:
            self._count(next(reversed(client.runs.values())))
        elif not client.calls:
            return None  # it goes at once, and nobody knows whether others will follow
        number, worker, box = state.made + 1, client.worker, state.box(client.worker)
        ident = state.prefix + number.to_bytes(8, "big")
        msg = Calls(ident, client.actor, client.incarnation, client.seq, kind.method, [args], kind.retry_exceptions)
        run = CallRun(Entry(ident, True, 1), msg, client, kind, parent, box, state.turns)
        state.made = run.following = number
        self.entries[ident] = run.entries[0]
        self._of_worker[worker] = client
        kind.open = client.runs[ident] = self.unfinished[ident] = run
        box.append(msg)
        if not client.inflight or run.size > self.state.max_values_bytes:
            self.urgent[worker] = None
        return ident

    def _count(self, run: CallRun) -> None:
        """Calls that have joined a run since it was looked at last count for the actor's numbers now."""
        client, entries = run.client, run.entries
        if len(entries) < len(run.args):  # the remote() of the last one was interrupted
            entries += [self.entries[ident] for ident in ids_from(run.msg.task, len(run.args))[len(entries) :]]
        added = len(entries) - run.counted
        client.seq += added
        client.inflight += added
        self.state.pending_bytes += added * TASK_BYTES + sum(map(len, run.args[run.counted :]))
        run.counted += added

    # -------------------------------------------------------------- what became of them

    def on_calls_done(self, src: Address, msg: CallsDone) -> None:
        run = self.unfinished.get(msg.task)
        if run is None or msg.at != run.done:
            for ident, result in zip(ids_from(return_id(msg.task, msg.at), len(msg.results)), msg.results):
                self.done(src, Done(ident, 0, [result]))
            return
        self._count(run)
        client, results = run.client, msg.results
        begin, end = run.done, run.done + len(results)
        run.done = end
        client.inflight -= end - begin
        if self.outbox.get(client.worker):
            self.urgent[client.worker] = None
        self.state.pending_bytes -= sum(map(len, run.msg.args[begin:end])) + (end - begin) * TASK_BYTES
        if last := end == len(run.entries):
            self._over(run)
            last = not client.runs and not client.calls
        for entry, result in zip(run.entries[begin:end], results):
            if entry.waiters is None and result.kind == INLINE:
                entry.result = result
                entry.plain = True
            else:
                self.objects.set_result(entry.ident, result, True)
        if last:
            self.objects.let_go(client.actor)

    def _over(self, run: CallRun) -> None:
        client, first = run.client, run.msg.task
        del self.unfinished[first], client.runs[first]
        if run.kind.open is run:
            run.kind.open = None
        if not client.runs:
            self._of_worker.pop(client.worker, None)

    # -------------------------------------------------------------- calls on their own

    def unfold(self, client: ActorClient) -> None:
        """The calls of the actor's runs that are not finished become records of their own. They count as sent."""
        for run in list(client.runs.values()):
            self._count(run)
            self._over(run)
            for call in calls_of(run.msg, run.done):
                rec = CallRec(call, client, run.kind.retries, (), len(call.args) + TASK_BYTES, run.parent)
                rec.numbered = rec.sent = True
                self.calls[call.task] = client.calls[call.task] = rec

    def ended_alone(self, src: Address, task: bytes) -> bool:
        """A call has ended in a way that ends a run: the runs of its actor are unfolded. For a while calls like it are
        made one by one. False if it is in none."""
        client = self._of_worker.get(src)
        run = None if client is None else self._run_of(client.runs, task)
        if client is None or run is None:
            return False
        run.kind.rest = REST
        self.unfold(client)
        return True

    def unfold_call(self, task: bytes) -> None:
        """Unfold the runs of the actor to which this call was made, if it is in one."""
        run = self._run_of(self.unfinished, task)
        if run is not None:
            self.unfold(run.client)

    def unfold_all(self) -> None:
        """Unfold all runs."""
        while self.unfinished:
            self.unfold(next(iter(self.unfinished.values())).client)

    def unfold_children(self, parent: bytes) -> None:
        """Unfold the runs of actors that were called by this task or call."""
        for run in list(self.unfinished.values()):
            if run.parent == parent:
                self.unfold(run.client)

    @staticmethod
    def _run_of(runs: dict[bytes, CallRun], task: bytes) -> CallRun | None:
        return next((run for run in runs.values() if place_in(run.msg, task) >= 0), None)

    @staticmethod
    def pending(client: ActorClient) -> int:
        """How many calls of the actor's runs are not finished."""
        return sum(len(run.entries) - run.done for run in client.runs.values())

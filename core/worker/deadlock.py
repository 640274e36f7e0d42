"""Waits of an actor's method that can only last for ever: it waits for a call to the same actor that must run after it.

What is looked at are calls that need the thread, or the event loop, that waits. Nobody else can give those a value.
Other calls may be finished by another thread or process: they are waited for.

* Calls that this process has made itself, and all that needs their values.
* Calls of others that wait here. One of them may be made again, because its value was lost: it then comes behind the
  very call that needs the value. Of one with several values, or with items, its owner may still have some: these are
  waited for.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from hpc.core.exceptions import DeadlockError
from hpc.core.failures import error_of
from hpc.core.owner.endless import never_come
from hpc.core.owner.lineage import waits_for_itself
from hpc.core.owner.tables import CallRec, Needs
from hpc.core.wire import Call, Calls
from hpc.core.worker.ports import Works

if TYPE_CHECKING:
    from hpc.core.worker.actor import ActorHost

#: A wait of which it could not be said at its begin is looked at again after this time.
AGAIN_S = 0.2


class Hosting(Works, Protocol):
    """A worker, as far as it matters which actor it hosts."""

    @property
    def actor(self) -> ActorHost | None: ...


class Deadlocks:
    """The waits of this process's threads while it is not known whether they can end."""

    def __init__(self, worker: Hosting) -> None:
        self._worker = worker
        self._check: Callable[[], None] = worker.client.polling.check
        self._watched: dict[int, tuple[Needs, float]] = {}

    def judge(self, host: ActorHost, thread: int, needs: Needs) -> bool:
        """DeadlockError if the user's code on this thread is about to wait for what can never come.
        ObjectReconstructionFailedError if that was there, and is made again. Otherwise whether this may turn out later,
        as an argument of one of its calls comes, or a value that it needs is lost."""
        worker = self._worker
        machine = worker.client.machine
        constructing = host.ident in worker.running and thread == worker.main_thread
        lane = "" if constructing else host.lane(thread)
        if lane is None:
            return False
        own = machine.state.clients.get(host.ident)
        mine = own is not None and bool(own.calls or own.runs)
        with worker.client.lock:
            entries = machine.state.entries
            theirs = [ident for ident in needs.idents() if not entries[ident].owned and entries[ident].result is None]
            if not mine and not theirs:
                return False
            if own is not None:
                machine.calls.runs.unfold(own)
            queued: list[Mapping[bytes, Call | Calls | None]] = []

            def all_queued() -> Mapping[bytes, Call | Calls | None]:
                if not queued:
                    queued.append({**worker.executor.queued(), **host.queued()})
                return queued[0]

            def in_lane(group: str) -> bool:
                return constructing or host.lane_of(group) == lane

            def blocked(rec: CallRec) -> bool:
                msg = rec.msg
                if msg.actor != host.ident or not in_lane(msg.group):
                    return False
                if msg.task in worker.running:
                    return msg.num_returns >= 0  # an item of a generator may be on its way already
                # What has run may have its reply still on the way.
                return msg.task in all_queued() or not (rec.sent and worker.executor.may_have_begun(machine.addr, msg))

            endless = never_come(machine, needs.idents(), blocked) if mine else []
            behind = self._come_behind(theirs, all_queued(), in_lane) if theirs else {}
        if len(endless) + len(behind) > needs.spare:
            for ident, msg in behind.items():
                if isinstance(msg, Call) and msg.attempt:
                    raise error_of(waits_for_itself(msg.method, ident))
            methods = [rec.msg.method for rec in endless] + [msg.method for msg in behind.values()]
            raise DeadlockError(_why(host, methods[0], constructing))
        return True

    def _come_behind(
        self, idents: list[bytes], queued: Mapping[bytes, Call | Calls | None], in_lane: Callable[[str], bool]
    ) -> dict[bytes, Call | Calls]:
        """Which of these objects of others are values of calls that wait here for this thread."""
        found: dict[bytes, Call | Calls] = {}
        cancelled = self._worker.executor.skipped
        for ident in idents:
            msg = queued.get(ident)
            if msg is None or ident in cancelled or not in_lane("" if isinstance(msg, Calls) else msg.group):
                continue
            if isinstance(msg, Calls) or msg.num_returns == 1 or not msg.attempt:
                found[ident] = msg
        return found

    def watch(self, thread: int, needs: Needs, resume: Callable[[], None] | None) -> Callable[[], None]:
        """Look at the wait that this thread begins again and again; what is returned ends that."""
        self._watched[thread] = needs, time.monotonic() + AGAIN_S
        self._worker.client.polling.check = self._look

        def over() -> None:
            self._watched.pop(thread, None)
            if not self._watched:
                self._worker.client.polling.check = self._check
                if self._watched:  # another thread has begun to wait just now
                    self._worker.client.polling.check = self._look
            if resume is not None:
                resume()

        return over

    def _look(self) -> None:
        """Called by each thread that waits."""
        self._check()
        thread = threading.get_ident()
        watched = self._watched.get(thread)
        if watched is not None and time.monotonic() >= watched[1]:
            needs = watched[0]
            self._watched[thread] = needs, time.monotonic() + AGAIN_S
            host = self._worker.actor
            if host is not None:
                self.judge(host, thread, needs)


def _why(host: ActorHost, method: str, constructing: bool) -> str:
    begin = f"this would wait for ever: it needs the call {host.name}.{method}() to this same actor"
    if constructing:
        return (
            f"{begin}, and an actor takes calls once its constructor has returned: call self.{method}() itself, or "
            "make the call later"
        )
    if not host.is_async:
        return (
            f"{begin}, which runs one call at a time and is in this one: call self.{method}() itself, return the "
            "reference for the caller to get, or give the actor (or the concurrency group of the method) more "
            "max_concurrency"
        )
    own = f"self.{method}()"
    if inspect.iscoroutinefunction(getattr(host.cls, method, None)):
        own = f"await {own}"
    return (
        f"{begin}, and its event loop runs nothing while hpc.get() or hpc.wait() waits on it: use `await ref`, "
        f"`await asyncio.gather(*refs)`, or `{own}` without a call"
    )

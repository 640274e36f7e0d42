"""The router of a process for one deployment: it sends what the machine decides, and hears what becomes of it.

It belongs to no thread and no event loop. A request is sent by the thread that makes it, as a plain call of the
replica's actor. The thread that reads the answer from the socket tells the machine, and sends what had waited. The
table of replicas comes from the head's keys: the controller may be gone. All threads share one lock. What was read is
taken under it, by the thread that has read it or by the one that holds the lock (see `turn`).
"""

from __future__ import annotations

import contextvars
import logging
import pickle
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import hpc
from hpc import spi
from hpc.exceptions import TaskCancelledError
from hpc.serve.calls import clock
from hpc.serve.calls.asking import HttpStream, ask_http, drop
from hpc.serve.calls.call import Call, Kind, is_death
from hpc.serve.calls.custom import CustomRouter, custom_router
from hpc.serve.calls.router import Assigned, Home, QueueFull, Request, RouterMachine, Seat
from hpc.serve.calls.silence import Silence
from hpc.serve.calls.telling import Telling
from hpc.serve.calls.turn import Turn
from hpc.serve.context import add_child, current_request, new_request_id
from hpc.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaDiedError,
    RequestTimeoutError,
)
from hpc.serve.messages import (
    NAMESPACE,
    DeploymentID,
    DeploymentTable,
    HttpOpened,
    HttpReply,
    HttpRequest,
    Rejected,
    RequestMeta,
    decoded,
    deployment_key,
    http_answer,
    packed_meta,
)

logger = logging.getLogger("hpc.serve")
#: After so many requests, less one, the thread that makes them reads answers too.
LOOK_MASK = 15
#: A pickled `Rejected` is shorter than this and has its name in it: other answers are not unpickled to find out.
REJECTED_BYTES = 160
REJECTED = b"Rejected"
SHUT_DOWN = "the handle was shut down"
#: How many items of a stream may be underway before its reader has taken them.
STREAM_WINDOW = 128
#: The same of an answer of HTTP. Its small pieces are joined, and large ones count as several: see `Replica.http_rest`.
HTTP_WINDOW = 32


class ReplicaCalls:
    """The methods of a replica's actor, looked up once."""

    __slots__ = ("actor", "call", "http", "http_drop", "http_rest", "probe", "stream")

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.call = actor.call
        self.http = actor.http
        self.http_drop = actor.http_drop
        self.probe = actor.probe
        self.stream = actor.stream.options(_generator_backpressure_num_objects=STREAM_WINDOW)
        self.http_rest = actor.http_rest.options(_generator_backpressure_num_objects=HTTP_WINDOW)


class Router:
    """Sends the requests of this process for one deployment. Any thread may call it."""

    def __init__(self, deployment_id: DeploymentID, *, prefers_node: bool = False, source: str = "") -> None:
        identity = spi.whoami()
        self.deployment_id = deployment_id
        self.id = f"{source or identity.kind}-{identity.process}-{new_request_id()[-6:]}"
        self.lock = Turn()
        self.machine = RouterMachine(random.Random(), Home(identity.node.hex(), "", prefers_node, False))
        self.table: DeploymentTable | None = None
        self.replicas: dict[str, ReplicaCalls] = {}
        #: What each replica has of us, the oldest first.
        self.sent: dict[str, dict[Call, None]] = {}
        self._silence = Silence(self)
        self._telling = Telling(self)
        self._custom: CustomRouter | None = None
        self._custom_source = b""
        self._tick_at = 0.0
        self.is_closed = False
        self._populated = threading.Event()
        #: Told once, with the lock held, when the first table is there.
        self._awaiting: list[Callable[[], None]] = []
        self._watch = spi.watch(NAMESPACE, deployment_key(deployment_id.app_name, deployment_id.name))
        self._watch.when_changed(self._changed)

    # -------------------------------------------------------------- the table

    def _changed(self) -> None:
        """The key of the deployment has news, as the thread says that reads."""
        try:
            for change in self._watch.take():
                self.lock.soon(self._take, change.value)
            if not self.is_closed:
                self._watch.when_changed(self._changed)
        except (hpc.exceptions.HpcError, ValueError):
            if not self.is_closed:
                self.lock.soon(self.close)

    def _take(self, value: bytes | None) -> None:
        self.update(None if value is None else decoded(DeploymentTable, value))

    def update(self, table: DeploymentTable | None) -> None:
        """The replicas and limits from now on; None: the deployment is gone."""
        with self.lock:
            if table is None or table.is_deleted or not table.is_available:
                self.table = table or DeploymentTable(0, "", "", is_deleted=True)
                error, stranded = self._unavailable(), list(self.machine.waiting())
                for request in stranded:
                    self.machine.withdraw(request)
                if self.table.is_deleted:  # a deployment of the name may come again, and count from one
                    self.machine.clear()
            else:
                error, stranded = None, []
                self.table = table
                custom = self._custom
                self._know(table)
                assigned = self.machine.update(table, time.monotonic())
                if self._custom is not None:
                    self._custom.update(self.machine.seats)
                    if self._custom is not custom:
                        for request in self.machine.waiting():
                            self._custom.route(request)  # type: ignore[arg-type]
                self.send_all(assigned)
                self._telling.tell_stranded(time.monotonic())
                if table.replicas:
                    self._populated.set()
            awaiting, self._awaiting = self._awaiting, []
            for known in awaiting:
                known()
        for request in stranded:
            request.finish(error)  # type: ignore[attr-defined]
        spi.send_now()

    def _know(self, table: DeploymentTable) -> None:
        """Take the handles of new replicas and drop those of old ones that have nothing of us."""
        rows = {row.id: row for row in table.replicas}
        for ident, row in rows.items():
            if ident not in self.replicas:
                self.replicas[ident] = ReplicaCalls(pickle.loads(row.actor))
        for ident in [ident for ident in self.replicas if ident not in rows and not self.sent.get(ident)]:
            del self.replicas[ident]
            self.sent.pop(ident, None)
        if table.router != self._custom_source:
            self._custom_source = table.router
            try:
                self._custom = custom_router(self, table.router) if table.router else None
            except Exception:  # of the user's class
                logger.exception("the request router of %s cannot be made: two choices take its place", table.name)
                self._custom = None
            self.machine.is_manual = self._custom is not None

    def _unavailable(self) -> DeploymentUnavailableError:
        deleted = self.table is None or self.table.is_deleted
        reason = "it was deleted" if deleted else "it failed to deploy"
        return DeploymentUnavailableError(self.deployment_id, reason)

    @property
    def has_replicas(self) -> bool:
        """Whether a replica was ever known."""
        return self._populated.is_set()

    # -------------------------------------------------------------- requests

    def begin(
        self,
        kind: Kind,
        meta: RequestMeta,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        is_safe: bool = False,
    ) -> Call:
        """A new request, whose parent is the one that this code serves. It is not sent yet: see `submit`."""
        parent = current_request.get().attempt_id
        deadline = None if meta.deadline is None else time.monotonic() + meta.deadline
        call = Call(self, kind, meta, args, kwargs, parent, is_safe, deadline)
        if parent:
            add_child(parent, call.serial, partial(self.cancel, call))
        return call

    def submit(self, call: Call, *, by_parent: bool = True) -> None:
        """Send a request, or have it wait. What is wrong with it is its error. ``by_parent``: the code of the request
        that makes it calls this, so that the runtime knows it as a child of that."""
        error: BaseException | None = None
        by_parent = by_parent and (not call.parent or current_request.get().is_call)
        with self.lock:
            table = self.table
            if call.is_cancelled:
                error = call.cancelled_error()
            elif table is not None and (table.is_deleted or not table.is_available):
                error = self._unavailable()
            elif self.is_closed:
                error = RayServeException(f"the handle of {self.deployment_id} was shut down, or its session is gone")
            else:
                error = self._offer(call, table, by_parent)
        if error is not None:
            call.finish(error)
        if not call.serial & LOOK_MASK and not self.lock.is_mine:
            spi.read_now()

    def _offer(self, call: Call, table: DeploymentTable | None, by_parent: bool) -> BaseException | None:
        now = time.monotonic()
        machine = self.machine
        try:
            if self._custom is not None:
                if 0 <= machine.max_queued <= machine.queued:
                    raise QueueFull(machine.queued, machine.max_queued)
                machine.wait(call, now)
                self._custom.route(call)
                seat = None
            else:
                seat = machine.offer(call, now)
        except QueueFull as full:
            row = table.backpressure if table is not None else None
            status, retry_after_s = (row.status_code, row.retry_after_s) if row is not None else (503, None)
            return BackPressureError(full.queued, full.limit, status, retry_after_s)
        if seat is not None:
            return self.send(call, seat, by_parent)
        if not machine.seats:
            self._telling.tell(now)
        self._wake_at(now)
        return None

    def send(self, call: Call, seat: Seat, by_parent: bool = False) -> BaseException | None:
        """Call the replica (the lock is held). Returns what cannot be sent. A call that the parent's own code makes is
        cancelled with it by the runtime; being cancelled twice, its code could not end in peace."""
        if call.parent:
            if by_parent:
                call.forget()
            else:
                add_child(call.parent, call.serial, partial(self.cancel, call))
        replica = self.replicas[seat.id]
        sent = self.sent.get(seat.id)
        if sent is None:
            sent = self.sent[seat.id] = {}
        method = getattr(replica, call.kind)
        try:
            if by_parent:
                what = method.remote(packed_meta(call.meta), *call.args, **call.kwargs)
            else:  # it is no child of the request whose code runs in this thread now
                nobody = contextvars.Context()
                what = nobody.run(method.remote, packed_meta(call.meta), *call.args, **call.kwargs)
            call.ref = what
            if call.kind == "stream":
                call.generator = what
        except BaseException as error:
            self.send_all(self.machine.done(call, time.monotonic()))
            if not isinstance(error, Exception):
                raise
            return error
        call.sent_at = now = time.monotonic()
        # Where there is an error at once, the replica is known to be dead: the request was sent nowhere.
        call.is_begun = call.kind == "stream" or spi.answer_of(what) is not False
        sent[call] = None
        if call.latch is not None:
            call.stir()
        if not self._tick_at:
            self._wake_at(now)
        spi.when_ready(what, self.lock.soon, self._arrived, call, what)
        return None

    def send_all(self, assigned: Assigned) -> None:
        for request, seat in assigned:
            call: Call = request  # type: ignore[assignment]
            error = self.send(call, seat)
            if error is not None:
                call.finish(error)

    # -------------------------------------------------------------- answers

    def soon(self, work: Callable[..., None], *args: Any) -> None:
        """Have something done with the lock held, without waiting for that: for the thread that reads."""
        self.lock.soon(work, *args)

    def _arrived(self, call: Call, what: Any) -> None:
        """An answer was read (the lock is held)."""
        try:
            self.answered(call, what)
        except Exception as error:
            logger.exception("an answer of %s could not be taken", self.deployment_id)
            self._completed(call, error)
            call.finish(error)

    def answered(self, call: Call, what: Any) -> None:
        """A call of an actor has an answer: whoever finds out first says so. Calling it again changes nothing, also
        where another thread takes the same answer, and the request has been sent elsewhere since."""
        with self.lock:
            if call.ref is not what or call.state != "sent":
                return
            if call.kind == "stream":
                self._stream_began(call, what)
                return
            answer = spi.answer_of(what)
            if answer is None:
                return
            if answer is False:
                self._failed(call, what)
            elif type(answer) is bytes and len(answer) < REJECTED_BYTES and REJECTED in answer:
                self._perhaps_rejected(call, what)
            elif call.kind == "http" and answer is not True:  # what is large is a whole answer, and not loaded here
                self._http_answered(call, what)
            else:
                self._completed(call)

    def _perhaps_rejected(self, call: Call, what: Any) -> None:
        try:
            value = hpc.get(what)
        except Exception:  # a value that is not to be had here: its reader is told why
            value = None
        if type(value) is Rejected:
            self._rejected(call, value)
        else:
            self._completed(call)

    def _completed(self, call: Call, error: BaseException | None = None) -> None:
        """A request has its answer, and its replica room for another."""
        with self.lock:
            if call.state != "sent":
                return
            assigned = self._leave(call)
        call.finish(error)
        if assigned:
            spi.send_now()

    def _leave(self, call: Call) -> Assigned:
        """The replica has it no more: send what had waited (the lock is held)."""
        seat = call.seat
        now = time.monotonic()
        if seat is not None:
            self.sent[seat.id].pop(call, None)
            if seat.is_silent:
                self._silence.heard(seat, now)
            else:
                seat.heard_at = now
        assigned = self.machine.done(call, now)
        if self._custom is not None:
            self._custom.stir()
        if assigned:
            self.send_all(assigned)
        return assigned

    def _rejected(self, call: Call, answer: Rejected) -> None:
        """The replica is full: the request is the first of those that wait, and goes elsewhere."""
        with self.lock:
            if call.state != "sent":
                return
            now, seat = time.monotonic(), call.seat
            assert seat is not None
            self.sent[seat.id].pop(call, None)
            self._silence.heard(seat, now)
            if call.is_cancelled:
                self.send_all(self.machine.done(call, now))
            else:
                call.ref = call.generator = None
                self.send_all(self.machine.rejected(call, now, answer.is_draining))
                if self._custom is not None:
                    self._custom.rejected(call, seat, answer.ongoing)
                self._telling.tell_stranded(now)
                self._wake_at(now)
        if call.is_cancelled:
            call.finish(call.cancelled_error())
        spi.send_now()

    def _failed(self, call: Call, what: Any) -> None:
        """The call has an error: of the user's code, or since the replica is gone."""
        try:
            hpc.get(what)
        except BaseException as error:
            if not is_death(error):
                if call.is_cancelled and isinstance(error, TaskCancelledError):
                    error = call.cancelled_error()
                self._completed(call, error)
                return
            self.died(call, str(error))
        else:
            self._completed(call)

    def died(self, call: Call, why: str, *, is_dead: bool = True) -> None:
        """The replica of a request is gone, or says nothing. What it cannot have begun, and what is safe, goes to
        another one; the rest fails."""
        with self.lock:
            seat = call.seat
            if call.state != "sent" or seat is None:
                return
            now = time.monotonic()
            self.sent[seat.id].pop(call, None)
            if is_dead and seat.id in self.machine.seats:
                self.machine.lost(seat.id)
                self._telling.tell_dead(seat)
            is_safe = call.is_safe or (self.table is not None and self.table.retry == "always")
            may = not call.is_cancelled and not call.is_accepted
            retried = may and (self._not_begun(call) or (is_safe and self.machine.may_retry(call)))
            if retried:
                call.ref = call.generator = None
                self.send_all(self.machine.again(call, now))
                if self._custom is not None:
                    self._custom.route(call)
                self._telling.tell_stranded(now)
                self._wake_at(now)
            else:
                self.send_all(self.machine.done(call, now))
        if not retried:
            error = ReplicaDiedError(call.meta.request_id, str(self.deployment_id), why)
            call.finish(call.cancelled_error() if call.is_cancelled else error)
        spi.send_now()

    def ended(self, ident: str) -> None:
        """The process of a replica is gone, as is known before a call of it fails: nothing is sent there any more."""
        with self.lock:
            if (seat := self.machine.seats.get(ident)) is not None:
                self.machine.lost(ident)
                self._telling.tell_dead(seat)

    def served_beside(self, count: int) -> None:
        """A number of requests of the deployment were answered, and not asked by this router."""
        with self.lock:
            self.machine.served_beside(count)

    def when_known(self, known: Callable[[], None]) -> None:
        """Call something, with the lock held, once it is known which replicas there are (the lock is held)."""
        if self.table is not None or self.is_closed:
            known()
        else:
            self._awaiting.append(known)

    def strand(self, family: object) -> None:
        """Requests of some handles that wait here fail."""
        with self.lock:
            stranded: list[Any] = [one for one in self.machine.waiting() if one.family is family]  # type: ignore[attr-defined]
            for call in stranded:
                self.machine.withdraw(call)
        for call in stranded:
            call.finish(RayServeException(SHUT_DOWN))

    def _not_begun(self, call: Call) -> bool:
        """Whether the replica has said nothing since the request was sent, and a stream not that it was accepted."""
        if call.kind == "stream":
            return not call.is_accepted
        return not call.is_begun

    # -------------------------------------------------------------- streams

    def _stream_began(self, call: Call, generator: Any) -> None:
        """The first word of a stream: that the replica has accepted it, or not, or an error."""
        try:
            ref = generator._next_sync(0)
        except StopIteration:
            self._completed(call)
            return
        if ref.is_nil():
            return
        try:
            word = hpc.get(ref)
        except BaseException as error:
            if is_death(error):
                self.died(call, str(error))
                return
            if call.is_cancelled and isinstance(error, TaskCancelledError):
                error = call.cancelled_error()
            self._completed(call, error)
            return
        if type(word) is Rejected:
            self._rejected(call, word)
            return
        call.is_accepted = True
        with self.lock:
            if call.seat is not None:
                self._silence.heard(call.seat, time.monotonic())
        spi.when_ready(generator.completed(), self.lock.soon, self.stream_ended, call)
        call.finish()

    def stream_ended(self, call: Call) -> None:
        """The last item of a stream has come, or nobody wants the rest."""
        with self.lock:
            if call.state == "sent":
                self._leave(call)
        call.forget()
        spi.send_now()

    # -------------------------------------------------------------- cancelling

    def cancel(self, call: Call) -> None:
        """Nobody wants the answer any more: what waits is never sent, what runs is cancelled in the replica."""
        with self.lock:
            is_opened = call.kind == "http" and call.is_accepted and call.state == "sent"
            if call.is_cancelled or (call.is_over and call.kind != "stream" and not is_opened) or call.state == "over":
                return
            call.is_cancelled = True
            if is_opened:
                drop(self, call)
                return
            queued = call.state in ("queued", "new")
            if call.state == "queued":
                self.machine.withdraw(call)
            what = call.ref
        if queued:
            call.finish(call.cancelled_error())
        elif what is not None:
            hpc.cancel(what)
            spi.send_now()

    # -------------------------------------------------------------- time

    def _wake_at(self, now: float) -> None:
        """Have the clock call `_tick` when the machine has something to do, or replicas are to be looked after."""
        at = self.machine.next_at(now) if self.machine.queued else None
        look = now + self._silence.every_s
        if any(self.sent.values()) or self.machine.queued:
            at = look if at is None else min(at, look)
        if at is not None and (not self._tick_at or at < self._tick_at):
            self._tick_at = at
            clock.at(at, self._tick)

    def _tick(self) -> None:
        late: list[Request] = []
        with self.lock:
            now = time.monotonic()
            if self.is_closed or now + 0.0001 < self._tick_at:
                return
            self._tick_at = 0.0
            assigned, late = self.machine.tick(now)
            self.send_all(assigned)
            if self._custom is not None:
                self._custom.stir()
            self._telling.tell(now)
            for call in self._silence.look(now):
                what = call.ref
                self.died(call, "it says nothing", is_dead=False)
                hpc.cancel(what)
            self._wake_at(now)
        for request in late:
            request.finish(  # type: ignore[attr-defined]
                RequestTimeoutError(f"the request waited for a replica of {self.deployment_id} until its time was over")
            )
        spi.send_now()

    def close(self) -> None:
        """Send nothing any more. What waits fails."""
        with self.lock:
            self.is_closed = True
            stranded = list(self.machine.waiting())
            for request in stranded:
                self.machine.withdraw(request)
            awaiting, self._awaiting = self._awaiting, []
            for known in awaiting:
                known()
        self._watch.close()
        for request in stranded:
            request.finish(RayServeException(SHUT_DOWN))  # type: ignore[attr-defined]

    # -------------------------------------------------------------- HTTP

    async def http(self, meta: RequestMeta, request: HttpRequest) -> HttpReply | HttpStream:
        """Send a request of HTTP; returns the whole answer, or a stream of which the beginning is there. Where the
        coroutine is cancelled, the request is too.

        Raises what the user's code has raised, and the errors of `hpc.serve.exceptions`."""
        return await ask_http(self, meta, request)

    def _http_answered(self, call: Call, what: Any) -> None:
        """A whole answer frees the replica; a stream has it until its end."""
        try:
            opened = type(http_answer(hpc.get(what))) is HttpOpened
        except Exception as error:
            self._completed(call, error)
            return
        if not opened:
            self._completed(call)
            return
        with self.lock:
            if call.seat is not None:
                self._silence.heard(call.seat, time.monotonic())
        call.is_accepted = True
        call.finish()
        if call.is_cancelled:  # while its answer was on the way
            drop(self, call)

"""The client library of a driver or worker: the owner's machine, its sockets, and the node's arena.

This is the shell around `OwnerMachine`: it reads frames, lets the machine decide under one lock, and sends what it
left behind. Calls go out on the caller's own thread; replies are read by the thread that waits (see `polling`).
"""

from __future__ import annotations

import _thread
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from hpc.core import exceptions
from hpc.core.ids import Address
from hpc.core.net.frames import answer_rows
from hpc.core.net.stream import Stream, connect
from hpc.core.owner.machine import OwnerMachine
from hpc.core.owner.ports import Hooks, Ids, NoHooks, Reference, Row
from hpc.core.owner.ref import ObjectRef
from hpc.core.owner.report import report
from hpc.core.owner.shell import cancelling, cuts
from hpc.core.owner.shell.arena_use import ArenaUse
from hpc.core.owner.shell.callbacks import Callbacks
from hpc.core.owner.shell.collecting import Collecting, Collections
from hpc.core.owner.shell.conversation import Conversation
from hpc.core.owner.shell.defects import end_session
from hpc.core.owner.shell.join import register
from hpc.core.owner.shell.last_words import take_last_words
from hpc.core.owner.shell.polling import IDLE_TICK_S, PollLock
from hpc.core.owner.shell.printed import Printed
from hpc.core.owner.shell.sampler import process_rows
from hpc.core.owner.shell.sockets import Frames, Sockets
from hpc.core.owner.shell.telling import Telling
from hpc.core.owner.shell.unhandled import Unhandled
from hpc.core.owner.shell.values import Values
from hpc.core.owner.strangers import check_handle
from hpc.core.owner.streams import END
from hpc.core.owner.tables import CallKind, Needs, Shape, TaskKind, Waiter
from hpc.core.process.current import current
from hpc.core.process.ending import Ending
from hpc.core.store.arena import Arena
from hpc.core.wire import (
    GROUP_REMOVED,
    STREAM_IDS,
    Allocated,
    Answer,
    Call,
    CreateActor,
    DecodeError,
    KeepActor,
    Message,
    NodeTime,
    PgCreate,
    PgRemove,
    PgWait,
    ProcessKind,
    Shutdown,
    StateAnswer,
    StateQuery,
    Task,
    decode_body,
    system_error,
)

if TYPE_CHECKING:
    import select

T = TypeVar("T")
#: A process that has no more threads of its own than these, and nothing to do, looks after timers only so often.
QUIET_THREADS = 1
QUIET_TICK_S = 5.0
#: After so many tasks and calls their submitter reads what has come meanwhile (less one: a mask).
LOOK_MASK = 127
#: `.remote()` waits while more than this is pending in arguments.
MAX_PENDING_BYTES = 1 << 30


class Client:
    """A process's connection to its session."""

    def __init__(
        self, node_dir: str, kind: ProcessKind, job: bytes, proc: int = 0, spin_s: float | None = None
    ) -> None:
        self.node_dir = node_dir
        self.kind = kind
        self.lock = threading.Lock()
        self.collections = Collections(self)
        self.lost, self._next_tick = "", 0.0
        self.hooks: Hooks = NoHooks()
        self.shapes: dict[Any, Shape] = {}
        self.callbacks = Callbacks()
        raylet = Stream(connect(os.path.join(node_dir, "raylet.sock")))
        registered, fds = register(raylet.sock, kind, job, proc)
        self.registered = registered
        self.addr = Address(registered.node, registered.proc)
        self.arena = Arena(fds[0], registered.arena_bytes, registered.slot, [*fds, -1][1], registered.overflow_bytes)
        self.machine = OwnerMachine(self.addr, job)
        self.machine.enter(registered.session)
        self.ending = Ending(registered.ending)
        self.machine.handlers[NodeTime] = self.ending.on_time
        self.dropped = self.machine.dropped
        self.sockets = Sockets(self, raylet, self.machine.state.paths, spin_s)
        self.conversation = Conversation(self, self.state_rows)
        self.machine.on_gone = self.conversation.gone
        self.arena_use = ArenaUse(self, self.conversation, self.arena)
        self.values = Values(self, self.arena_use)
        self.unhandled, self.telling = Unhandled(self.machine), Telling(self.machine)
        self.printed = Printed(self, self.conversation)
        self.polling = PollLock(self.poll, self.sockets.kick, self.tick_s)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the background thread."""
        if self.kind == "worker":
            # Not a Thread: a worker is ended as a whole, and this way the pages that it would write stay shared.
            _thread.start_new_thread(self._background, ())
        else:
            self._thread = threading.Thread(target=self._background, name="hpc-background", daemon=True)
            self._thread.start()

    # -------------------------------------------------------------- reading

    def poll(self, timeout_s: float, beside: select.epoll | None = None) -> None:
        """Wait for something to read, have it read and taken, and look after timers and callbacks. The caller holds the
        right to poll. ``beside``: see `Sockets.poll`."""
        self.sockets.poll(timeout_s, beside)
        if (now := time.monotonic()) >= self._next_tick:
            self._tick(now)
        if self.callbacks:
            self.callbacks.run()

    def look(self) -> None:
        """Read what has come, without waiting. For threads that submit much: where the background thread has to read
        for them, the two get in each other's way. Callbacks are left to it: they are the user's."""
        self.polling.look(self._look)

    def _look(self) -> None:
        self.sockets.poll(0.0)
        if (now := time.monotonic()) >= self._next_tick:
            self._tick(now)

    def cut(self, stream: Stream, why: str) -> None:
        """What comes from the other end of a connection cannot be understood."""
        cuts.cut(self, stream, why)

    def take_frames(self, stream: Stream, frames: Frames) -> None:
        """Have the machine take what a stream has brought."""
        try:
            decoded = [(src, decode_body(body)) for _, src, body in frames]
        except DecodeError as error:
            cuts.cut(self, stream, f"it sent what is no message: {error}")
            return
        machine = self.machine
        try:
            with self.lock:
                by_raylet = stream is self.sockets.raylet
                if not by_raylet and stream.peer is None:
                    self.sockets.named(stream, decoded[0][0])
                for src, messages in decoded:
                    if by_raylet:
                        take_last_words(self.sockets, machine, messages)
                    for msg in machine.handle(src, messages):
                        self._other(src, msg, by_raylet)
                self.hooks.on_frame()
                if machine.dropped:
                    machine.objects.drain_dropped()
                self.send_left()
        except Exception as error:
            end_session(self, error)
        self.wake_done()

    def _other(self, src: Address, msg: Message, by_raylet: bool) -> None:
        kind = type(msg)
        if kind is Allocated:
            self.machine.pins.allocated(msg)  # type: ignore[arg-type]
        if kind is Allocated or kind is Answer or kind is StateAnswer:
            self.conversation.answered(msg.req, msg)  # type: ignore[attr-defined]
        elif kind is Shutdown and by_raylet:
            self.lost = self.lost or msg.why  # type: ignore[attr-defined]
        elif kind is StateQuery:
            rows = self.state_rows(msg.what, msg.most)  # type: ignore[attr-defined]
            self.machine.send(src, answer_rows(msg.req, rows))  # type: ignore[attr-defined]

    def wake_done(self) -> None:
        """Outside the machine's lock: wake those whose records are done."""
        woken = self.machine.woken
        while woken:
            try:
                waiter = woken.pop()
            except IndexError:
                return  # another thread has taken the last one
            if waiter.callback is not None:
                self.callbacks.take(waiter.callback)
            elif waiter.lock is not None:
                self.polling.wake(waiter)
            elif self.polling.owner != threading.get_ident():
                self.polling.rouse()

    def closed(self, stream: Stream) -> None:
        """The other end of a connection is gone."""
        with self.lock:
            self.sockets.drop(stream)
            if stream is self.sockets.raylet:
                self.lose("the raylet of this node has ended")
        self.wake_done()

    def lose(self, why: str) -> None:
        """The session is gone: whoever waits is woken and told."""
        self.lost = self.lost or why
        for entry in list(self.machine.state.entries.values()):
            if entry.result is None:
                self.machine.objects.set_result(entry.ident, system_error("SessionLostError", why))
        self.conversation.lose()
        self.machine.pins.lose()
        self.machine.channels.lose(self.lost)
        if self.kind == "worker":
            os._exit(0)

    # -------------------------------------------------------------- sending

    def send_left(self, everything: bool = False) -> None:
        """Send what the machine left (the lock is held)."""
        machine = self.machine
        if machine.unpinned or machine.pins.unviewed:
            machine.pins.let_go()
        for dst, messages in machine.take_outbox(everything):
            self.sockets.send(dst, messages)

    def send_now(self, dst: Address, messages: list[Message]) -> None:
        """Send to a process, ahead of what the machine has left for it (the lock is held)."""
        self.sockets.send(dst, messages)

    def send_instead(self, msg: Message, size: int) -> Message | None:
        """What to send in place of a message that is too large (the lock is held)."""
        return cuts.send_instead(self, self.conversation, msg, size)

    def flush_waiting(self) -> None:
        """Send what waits, if anything does."""
        machine = self.machine
        if machine.outbox or machine.dropped or machine.pins.unviewed:
            self.flush()

    def flush(self) -> None:
        """Send everything that waits to be sent."""
        with self.lock:
            self.machine.objects.drain_dropped()
            self.send_left(everything=True)

    # -------------------------------------------------------------- verbs

    def step(self, do: Callable[[], T], everything: bool = False) -> T:
        """Have the machine take a step, send what it leaves, and wake the threads that can go on."""
        with self.lock:
            result = do()
            if everything or self.machine.urgent:
                self.send_left(everything)
        self.wake_done()
        return result

    def submit(self, kind: TaskKind, data: bytes, refs: Ids, holds: Ids, parent: bytes, depth: int) -> bytes:
        """Submit a task with packed arguments. Returns its id: the first of its objects, each of which is held once.
        Waits while too much is pending in arguments."""
        machine = self.machine
        if machine.state.pending_bytes > MAX_PENDING_BYTES:
            self.wait_for_room()
        with self.lock:
            if machine.dropped:
                machine.objects.drain_dropped()
            count = kind.num_returns
            task = machine.new_ids(count if count >= 0 else STREAM_IDS)
            msg = Task(
                task, 0, kind.fn, kind.name, data, count, (), refs, holds, 0, depth, kind.retry_exceptions, kind.window,
            )  # fmt: skip
            machine.tasks.submit(msg, kind.shape, kind.retries, kind.retry_exceptions, holds, parent)
            if machine.urgent:
                self.send_left()
        if machine.woken or not machine.state.made & LOOK_MASK:
            self._catch_up()
        return task

    def call(self, kind: CallKind, actor: Reference, data: bytes, refs: Ids, holds: Ids, parent: bytes) -> bytes:
        """Call a method of an actor; the rest is as with `submit`. Raises PendingCallsLimitExceeded, and
        ActorHandleNotFoundError for a handle of an earlier session."""
        machine = self.machine
        if machine.state.pending_bytes > MAX_PENDING_BYTES:
            self.wait_for_room()
        with self.lock:
            if machine.dropped:
                machine.objects.drain_dropped()
            if self.lost:
                check_handle(actor, current.client)
                self.check_lost()
            if kind.most_pending > 0:
                kind.check_pending(machine.calls.pending(actor._id), actor.hex())
            task = machine.calls.runs.add(kind, actor._id, data, parent) if kind.joins and not (refs or holds) else None
            if task is None:
                count = kind.num_returns
                task = machine.new_ids(count if count >= 0 else STREAM_IDS)
                msg = Call(
                    task, 0, actor._id, 0, -1 if kind.out_of_order else 0, kind.method, data, count, (), refs, holds,
                    kind.group, kind.retry_exceptions, kind.window, kind.name,
                )  # fmt: skip
                machine.calls.submit(msg, kind.retries, holds, parent)
            if machine.urgent:
                self.send_left()
        if machine.woken or not machine.state.made & LOOK_MASK:
            self._catch_up()
        return task

    def _catch_up(self) -> None:
        """After a task or call: wake who can go on; a thread that has submitted much reads what has come meanwhile."""
        if self.machine.woken:
            self.wake_done()
        if not self.machine.state.made & LOOK_MASK:
            self.look()

    def later(self, what: Callable[[], object]) -> None:
        """Do what a finalizer wants that the garbage collector has called in the middle of a step, on a thread that
        holds nothing."""
        self.collections.later(what)

    def _now_or_later(self, do: Callable[[], object]) -> None:
        """Finalizers may say what needs no answer, and at any time."""
        try:
            do()
        except Collecting:
            self.later(do)

    def new_id(self) -> bytes:
        """The id of an object that is to be ours."""
        return self.step(self.machine.new_ids)

    def shape(self, key: Any, make: Callable[[], Shape]) -> Shape:
        """What tasks or actors of the same requirements have in common, made when ``key`` is new."""
        with self.lock:
            shape = self.shapes.get(key)
            if shape is None:
                machine = self.machine
                if machine.state.groups_gone:
                    self.shapes = {key: one for key, one in self.shapes.items() if one.req in machine.state.requests}
                shape = self.shapes[key] = machine.leases.add_shape(make())
        return shape

    def export(self, ident: bytes, code: bytes, inside: Sequence[Reference]) -> None:
        """Have pickled code at hand under this id, for those who run it. The references inside are held for good."""
        with self.lock:
            for ref in inside:
                self.machine.objects.hold(ref._id)
            self.machine.state.functions[ident] = code

    def create_actor(self, msg: CreateActor, shape: Shape, restarts: int, name: str = "", namespace: str = "") -> None:
        """Create an actor, whose end is ours to decide."""

        def create() -> None:
            self.check_lost()
            actor = self.machine.actors.create(msg, shape, restarts, msg.holds)
            actor.name, actor.namespace = name, namespace

        self.step(create)

    def keep_actor(self, msg: CreateActor, shape: Shape, restarts: int, timeout_s: float) -> None:
        """Have the head create an actor: it will not end with this process. ValueError if the head refuses."""
        machine = self.machine
        code = machine.state.functions[msg.fn]
        known = self.step(lambda: machine.objects.known(msg.refs))
        answer = self.conversation.ask_head(
            lambda req: KeepActor(
                req, msg, shape.held, shape.placement, shape.strategy, shape.env, restarts, code, machine.state.job,
                machine.state.driver, known,
            ),
            timeout_s,
        )  # fmt: skip
        if not answer.ok:
            self.step(lambda: machine.actors.kill(msg.actor, True))  # before it is made: its name is free again
            raise ValueError(answer.why)

    def kill(self, actor: bytes, no_restart: bool) -> None:
        """End an actor; it is made anew if it may be and ``no_restart`` is False."""
        self._now_or_later(lambda: self.step(lambda: self.machine.actors.kill(actor, no_restart)))

    def has_begun(self, actor: bytes) -> bool:
        """Whether an actor had a process that had run ``__init__``, as far as is known here."""
        return self.step(lambda: self.machine.calls.has_begun(actor))

    def has_place(self, actor: bytes) -> bool:
        """Whether an actor of this process has a worker, in which its constructor runs or has run."""
        return self.step(lambda: self.machine.actors.has_place(actor))

    def task_has_place(self, task: bytes) -> bool:
        """Whether a task of this process was given to a worker, or is over."""
        return self.step(lambda: self.machine.tasks.has_place(task))

    def cancel(self, ident: bytes, force: bool, recursive: bool) -> None:
        """Cancel the task or call that makes this object, whoever owns it. ValueError for ``force`` with a call."""
        self._now_or_later(lambda: cancelling.cancel(self, self.conversation, ident, force, recursive))

    def free(self, idents: list[bytes]) -> None:
        """Give up the values of these objects, although they are held."""
        self._now_or_later(lambda: self.step(lambda: self.machine.lineage.free_values(idents), everything=True))

    def take_item(self, task: bytes, ident: bytes) -> bool:
        """Take the next item of a generator, which is there; False if that is its end."""

        def take() -> bool:
            if self.machine.state.entries[ident].result is END:
                return False
            self.machine.streams.take_item(task)
            return True

        return self.step(take)

    def make_group(self, build: Callable[[int, bytes], PgCreate], named: bool) -> ObjectRef[None]:
        """Ask for a placement group; ``build(number, id)`` describes it. Returns a reference to an object of the
        group's id, which has a value while everything is reserved. ValueError if it is ``named`` and the name is
        taken."""
        made = ObjectRef[None](self.step(self.machine.groups.make), self)
        if named:
            answer = self.conversation.ask_head(lambda number: build(number, made._id))
            if not answer.ok:
                raise ValueError(answer.why)
        else:
            self.conversation.tell_head(lambda number: build(number, made._id))  # nothing could be refused
        return made

    def remove_group(self, group: bytes, why: str) -> None:
        """Have a placement group removed; what waits for it here hears ``why``."""

        def remove() -> None:
            self.conversation.tell_head(lambda number: PgRemove(number, group))
            self.step(lambda: self.machine.groups.hear(group, GROUP_REMOVED, why))

        self._now_or_later(remove)

    def when_group(self, group: bytes, value: bytes) -> ObjectRef[Any]:
        """A reference to an object that has this value once all of a placement group is reserved, and raises
        TaskPlacementGroupRemoved if that is removed before."""
        machine = self.machine

        def ask() -> bytes:
            self.check_lost()
            ident = machine.new_ids()
            machine.objects.own(ident)

            def reserved() -> None:
                machine.objects.finish_with(ident, value)

            def removed(why: str) -> None:
                machine.objects.set_result(ident, system_error("TaskPlacementGroupRemoved", why))

            def answered(answer: Answer) -> None:
                self.step(reserved if answer.ok else lambda: removed(answer.why))

            self.conversation.when_answered(lambda number: PgWait(number, group), answered)
            return ident

        return ObjectRef(self.step(ask), self)

    def has_ended(self, process: Address) -> bool:
        """Whether a process is known to have ended."""
        return process in self.machine.state.gone

    @property
    def driver(self) -> Address:
        """The driver for whose work this process is."""
        return self.machine.state.driver

    # -------------------------------------------------------------- time

    def tick_s(self) -> float:
        """How long a poll may last. A process in which nothing can happen by itself sleeps long: a worker or an actor
        that waits for work, alone with its background thread. A node has a thousand of them."""
        machine, state = self.machine, self.machine.state
        still = (
            self.kind == "worker"
            and not (state.tasks or state.calls or machine.calls.runs.unfinished or state.leases or machine.dropped)
            and not (machine.outbox or machine.pins.unviewed or machine.pins.span.left or self.conversation.pending)
            and not (self.sockets.acceptor is not None and self.sockets.acceptor.again_at)
            and threading.active_count() <= QUIET_THREADS
            and not self.hooks.has_news
        )
        return QUIET_TICK_S if still else IDLE_TICK_S

    def _background(self) -> None:
        try:
            self.polling.run_background(self._background_tick)
        except Exception as error:
            end_session(self, error)

    def _background_tick(self) -> None:
        now = time.monotonic()
        if now >= self._next_tick or self.machine.outbox or self.machine.dropped or self.machine.pins.unviewed:
            self._tick(now)
        self.hooks.on_background()
        if self.callbacks:
            self.callbacks.run()

    def _tick(self, now: float) -> None:
        if self.lost:
            return
        acceptor = self.sockets.acceptor
        if acceptor is not None and 0 < acceptor.again_at <= now:
            acceptor.resume()
        warnings: list[str] = []
        try:
            with self.lock:
                self.machine.objects.drain_dropped()
                self._next_tick = min(self.machine.tick(now), now + 0.1)
                self.hooks.on_timers(now)
                self.telling.tick(now)
                self.send_left(everything=True)
                warnings, self.machine.state.warnings[:] = list(self.machine.state.warnings), []
        except Exception as error:
            end_session(self, error)
        self.wake_done()
        for warning in warnings:
            self.warn(f"{warning}; it keeps waiting, in case such a node joins")

    def warn(self, text: str) -> None:
        """Show a warning of the runtime to the user."""
        print(f"hpc: {text}", file=sys.stderr, flush=True)

    # -------------------------------------------------------------- waiting

    def wait_for(
        self, waiter: Waiter, timeout_s: float | None, for_others: bool = False, needs: Needs | None = None
    ) -> bool:
        """Until the waiter needs nothing more; False after the timeout. ``for_others``: what it needs may take the
        work of other processes, so a worker lends them its CPU meanwhile. ``needs``: what that is."""
        if waiter.needed <= 0:
            return True
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        resume = self.hooks.before_wait(needs if timeout_s is None else None) if for_others and timeout_s != 0 else None
        try:
            in_time = self.polling.wait(waiter, deadline)
        finally:
            if resume is not None:
                resume()
        if not in_time:
            self.check_closing()
        return in_time

    def wait_for_room(self) -> None:
        """Until the arguments that are pending take less than the limit: a submitter may not run ahead for ever."""
        while self.machine.state.pending_bytes > MAX_PENDING_BYTES // 2 and not self.lost:
            with self.lock:
                self.machine.calls.runs.unfold_all()
                tasks = [*self.machine.state.tasks.values()][:1] or [*self.machine.state.calls.values()][:1]
                if not tasks:
                    return
                entry = self.machine.state.entries.get(tasks[0].msg.task)
                waiter = Waiter(1)
                if entry is None or entry.result is not None:
                    continue
                self.machine.objects.await_value(entry, waiter)
                self.machine.leases.ask_exactly()
                self.send_left(everything=True)
            self.wait_for(waiter, 1.0)

    def check_closing(self) -> None:
        """Raise SessionLostError if this process leaves the session: what is waited for will not come."""
        if self.polling.closing:
            raise exceptions.SessionLostError(f"the session is gone: {self.lost or 'it was shut down'}")

    def check_lost(self) -> None:
        if self.lost:
            raise exceptions.SessionLostError(f"the session is gone: {self.lost}")

    def state_rows(self, what: str, limit: int) -> list[Row]:
        """What this process knows (the lock is held)."""
        if (rows := process_rows(what)) is not None:
            return rows
        return report(self.machine, what, limit) + self.hooks.more_state(what, limit)

    # -------------------------------------------------------------- leaving

    def close(self) -> None:
        """Say what is left to say and disconnect."""
        if self.polling.closing:
            return
        try:
            if not self.lost:
                self.step(self.telling.last, everything=True)
            if self.kind == "driver":
                self.printed.flush()
        except (OSError, ValueError):
            pass
        self.printed.finish()
        self.lost = self.lost or "it was shut down"
        self.collections.close()
        self.polling.closing = True
        self.sockets.kick()
        self.polling.stop()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=2.0)
        if self.kind == "driver":
            with self.lock:
                self.lose(self.lost)
            self.wake_done()
            self.callbacks.run()  # futures that are still awaited: nobody will poll for them again
        self.sockets.close()
        self.arena.close()

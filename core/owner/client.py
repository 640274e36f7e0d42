"""The client library of a driver or worker: the owner's machine, its sockets, and the node's arena.

This is the shell around `OwnerMachine`: it reads frames, lets the machine decide under one lock, and sends what it
left behind. Calls go out on the caller's own thread; replies are read by the thread that waits (see `polling`).
"""

from __future__ import annotations

import _thread
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from hpc.core import exceptions
from hpc.core.ids import HEAD, Address
from hpc.core.net.accept import Acceptor
from hpc.core.net.frames import answer_rows, encode_frames
from hpc.core.net.stream import Stream, StreamError, check_peer, connect
from hpc.core.owner.callbacks import Callbacks
from hpc.core.owner.collecting import Collections
from hpc.core.owner.cuts import cut, send_instead
from hpc.core.owner.defects import end_session
from hpc.core.owner.join import register
from hpc.core.owner.machine import OwnerMachine
from hpc.core.owner.memory import Memory
from hpc.core.owner.polling import IDLE_TICK_S, PollLock
from hpc.core.owner.printed import Printed
from hpc.core.owner.report import report
from hpc.core.owner.spin import Spinner
from hpc.core.owner.stacks import format_threads
from hpc.core.owner.tables import Needs, Shape, Waiter
from hpc.core.owner.unhandled import Unhandled
from hpc.core.owner.values import BeforeWait, Values
from hpc.core.store.arena import Arena
from hpc.core.wire import (
    MAX_FRAME_BYTES,
    Abandon,
    Allocated,
    Answer,
    DecodeError,
    Fetched,
    FetchedAll,
    LeaseLost,
    Message,
    PleaseUnpin,
    Shutdown,
    StateAnswer,
    StateQuery,
    decode_body,
    encode_frame,
    system_error,
)

#: A process that has no more threads of its own than these, and nothing to do, looks after timers only so often.
QUIET_THREADS = 1
QUIET_TICK_S = 5.0
#: After so many tasks and calls their submitter reads what has come meanwhile (less one: a mask).
LOOK_MASK = 127
#: Messages in one frame, at most.
FRAME_MESSAGES = 256
#: `.remote()` waits while more than this is pending in arguments.
MAX_PENDING_BYTES = 1 << 30


class Client(Values):
    """A process's connection to its session."""

    def __init__(self, node_dir: str, kind: str, job: bytes, proc: int = 0, spin_s: float | None = None) -> None:
        self.node_dir = node_dir
        self.kind = kind
        self._spin = Spinner(spin_s).spin
        self.lock = threading.Lock()
        self.collections = Collections(self)
        self.lost = ""
        self.on_other: Callable[[Address, Message, Stream], None] = lambda src, msg, via: None
        self.on_frame: Callable[[], None] = lambda: None
        self.before_wait: BeforeWait = lambda needs: None
        self.on_background: Callable[[], None] = lambda: None
        self.more_state: Callable[[str, int], list[dict[str, Any]]] = lambda what, limit: []
        self.streams: dict[Address, Stream] = {}
        self.by_fd: dict[int, Stream] = {}
        self.replies: dict[int, list[Any]] = {}
        self.shapes: dict[Any, Shape] = {}
        self.callbacks = Callbacks()
        self.acceptor: Acceptor | None = None
        self._next_tick = 0.0
        self._reqs = 0
        self.raylet = Stream(connect(os.path.join(node_dir, "raylet.sock")))
        registered, fds = register(self.raylet.sock, kind, job, proc)
        self.registered = registered
        self.addr = Address(registered.node, registered.proc)
        self.arena = Arena(fds[0], registered.arena_bytes, registered.slot, [*fds, -1][1], registered.overflow_bytes)
        self.memory = Memory(self, self.arena)
        self.machine = OwnerMachine(self.addr, job)
        self.machine.enter(registered.session)
        self.machine.on_gone = self._asked_in_vain
        self.unhandled = Unhandled(self.machine)
        self.printed = Printed(self)
        self.held_for_good: set[bytes] = set()
        self._epoll = select.epoll()
        self._kick_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._kick_fd, select.EPOLLIN)
        self._watch(self.raylet)
        self.polling = PollLock(self._poll_once, self._kick, self.tick_s)
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

    def _watch(self, stream: Stream) -> None:
        self.by_fd[stream.fd] = stream
        self._epoll.register(stream.fd, select.EPOLLIN)

    def listen(self, sock: socket.socket) -> None:
        """Take direct connections of other processes of this node."""
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        self.acceptor = Acceptor(sock, lambda on: self._epoll.modify(sock, select.EPOLLIN if on else 0), self.warn)

    def _kick(self) -> None:
        try:
            os.eventfd_write(self._kick_fd, 1)
        except OSError:
            pass

    def _poll_once(self, timeout_s: float) -> None:
        """Wait for something to read, read and dispatch it. Only the thread that holds the poll lock comes here."""
        poll = self._epoll.poll
        events = poll(0)
        if not events:
            events = self._spin(poll) or poll(timeout_s)
        self._handle_events(events)

    def look(self) -> None:
        """Read what has come, without waiting. For threads that submit much: where the background thread has to read
        for them, the two get in each other's way. Callbacks are left to it: they are the user's."""
        self.polling.look(lambda: self._handle_events(self._epoll.poll(0), callbacks=False))

    def poll_beside(self, beside: select.epoll, timeout_s: float) -> None:
        """Like a poll, for a thread that waits for other things too: ``beside`` has them and `poll_fd`. They are seen
        when there is nothing to read at once. The caller holds the right to poll."""
        poll = self._epoll.poll
        events = poll(0)
        if not events and timeout_s > 0:
            events = self._spin(poll)
            if not events:
                beside.poll(timeout_s)
                events = poll(0)
        self._handle_events(events)

    @property
    def poll_fd(self) -> int:
        """A descriptor that is readable when a poll would find something."""
        return self._epoll.fileno()

    def _handle_events(self, events: list[tuple[int, int]], callbacks: bool = True) -> None:
        for fd, what in events:
            stream = self.by_fd.get(fd)
            if stream is not None:
                if what & select.EPOLLOUT:
                    with self.lock:
                        stream.flush()
                        if not stream.wants_write:
                            self._epoll.modify(fd, select.EPOLLIN)
                if what & ~select.EPOLLOUT:
                    self._read(stream)
            elif fd == self._kick_fd:
                try:
                    os.eventfd_read(self._kick_fd)
                except OSError:
                    pass
            else:
                self._accept()
        now = time.monotonic()
        if now >= self._next_tick:
            self._tick(now)
        if self.callbacks and callbacks:
            self.callbacks.run()

    def _accept(self) -> None:
        sock = self.acceptor.take() if self.acceptor is not None else None
        if sock is not None:
            try:
                check_peer(sock)
            except OSError:
                sock.close()
            else:
                self._watch(Stream(sock))

    def _read(self, stream: Stream) -> None:
        try:
            frames = stream.receive()
        except StreamError as error:
            cut(self, stream, str(error))
            return
        if frames:
            self._dispatch(stream, frames)
        elif stream.eof:
            self._closed(stream)

    def _dispatch(self, stream: Stream, frames: list[tuple[Address, Address, bytes]]) -> None:
        try:
            decoded = [(src, decode_body(body)) for _, src, body in frames]
        except DecodeError as error:
            cut(self, stream, f"it sent what is no message: {error}")
            return
        machine = self.machine
        try:
            with self.lock:
                if stream is not self.raylet and stream.peer is None:
                    stream.peer = decoded[0][0]
                    self.streams[decoded[0][0]] = stream
                for src, messages in decoded:
                    if stream is self.raylet:
                        self._drain_dead(messages)
                    for msg in machine.handle(src, messages):
                        self._other(src, msg, stream)
                self.on_frame()
                if machine.dropped:
                    machine.drain_dropped()
                self._flush()
        except Exception as error:
            end_session(self, error)
        self._after()

    def _drain_dead(self, messages: Sequence[Message]) -> None:
        """Read what a dead worker said before it died, ahead of the news of its death."""
        for msg in messages:
            if type(msg) is LeaseLost:
                stream = self.streams.get(msg.worker)
                while stream is not None and not stream.eof:
                    try:
                        frames = stream.receive()
                    except StreamError:
                        break
                    if not frames and not stream.eof and not select.select([stream.fd], [], [], 0.2)[0]:
                        break
                    for _, src, body in frames:
                        self.machine.handle(src, decode_body(body))

    def _other(self, src: Address, msg: Message, via: Stream) -> None:
        kind = type(msg)
        if kind is Allocated or kind is Answer or kind is StateAnswer:
            self._reply(msg.req, msg)  # type: ignore[attr-defined]
        elif kind is Fetched or kind is FetchedAll or kind is PleaseUnpin:
            self.memory.handle(msg)
        elif kind is Shutdown and via is self.raylet:
            self.lost = self.lost or msg.why  # type: ignore[attr-defined]
        elif kind is StateQuery:
            rows = self.state_rows(msg.what, msg.limit)  # type: ignore[attr-defined]
            self.machine.send(src, answer_rows(msg.req, rows))  # type: ignore[attr-defined]
        else:
            self.on_other(src, msg, via)

    def _after(self) -> None:
        """Outside the machine's lock: wake those whose records are done."""
        woken = self.machine.woken
        while woken:
            waiter = woken.pop()
            if waiter.callback is not None:
                self.callbacks.append(waiter.callback)
            elif waiter.lock is not None:
                self.polling.wake(waiter)

    def _closed(self, stream: Stream) -> None:
        try:
            self._epoll.unregister(stream.fd)
        except (OSError, ValueError):
            pass
        with self.lock:
            self.by_fd.pop(stream.fd, None)
            if isinstance(stream.peer, Address) and self.streams.get(stream.peer) is stream:
                del self.streams[stream.peer]
                self.machine.paths.pop(stream.peer, None)
            stream.close()
            if stream is self.raylet:
                self.lose("the raylet of this node has ended")
        self._after()

    def lose(self, why: str) -> None:
        """The session is gone: whoever waits is woken and told."""
        self.lost = self.lost or why
        for entry in list(self.machine.objects.values()):
            if entry.result is None:
                self.machine.set_result(entry.ident, system_error("SessionLostError", why))
        for slot in self.replies.values():
            slot[1] = None
            slot[0].needed = 0
            self.machine.woken.append(slot[0])
        self.memory.lose()
        self.replies.clear()
        if self.kind == "worker":
            os._exit(0)

    # -------------------------------------------------------------- sending

    def _route(self, dst: Address) -> Stream:
        """The stream to a process: a direct one if it is on this node and listens, else by the raylet."""
        path = self.machine.paths.get(dst)
        if path is None:
            return self.raylet
        try:
            stream = Stream(connect(path, 1.0))
        except OSError:
            self.machine.paths.pop(dst, None)
            return self.raylet
        stream.peer = dst
        self.streams[dst] = stream
        self._watch(stream)
        return stream

    def _flush(self, everything: bool = False) -> None:
        """Send what the machine left (the lock is held)."""
        for dst, messages in self.machine.take_outbox(everything):
            self.send_now(dst, messages)
        if self.machine.unpinned or self.memory.unviewed:
            self.memory.let_go()

    def send_now(self, dst: Address, messages: list[Message]) -> None:
        """Send to a process, directly or by the raylet (the lock is held)."""
        stream = self.streams.get(dst)
        if stream is None:
            stream = self._route(dst)
        if len(messages) <= FRAME_MESSAGES and len(frame := encode_frame(dst, self.addr, messages)) <= MAX_FRAME_BYTES:
            stream.send(frame)
        else:
            frame, instead = b"", partial(send_instead, self)
            for at in range(0, len(messages), FRAME_MESSAGES):
                for part in encode_frames(dst, self.addr, messages[at : at + FRAME_MESSAGES], instead):
                    stream.send(part)
        if stream.wants_write:
            try:
                self._epoll.modify(stream.fd, select.EPOLLIN | select.EPOLLOUT)
            except (OSError, ValueError):
                pass

    def flush_waiting(self) -> None:
        """Send what waits, if anything does."""
        machine = self.machine
        if machine.outbox or machine.dropped or self.memory.unviewed:
            self.flush()

    def flush(self) -> None:
        """Send everything that waits to be sent."""
        with self.lock:
            self.machine.drain_dropped()
            self._flush(everything=True)

    # -------------------------------------------------------------- time

    def tick_s(self) -> float:
        """How long a poll may last. A process in which nothing can happen by itself (a worker or an actor that waits
        for work, alone with its background thread) sleeps long: a node has a thousand of them."""
        machine = self.machine
        still = (
            self.kind == "worker"
            and not (machine.tasks or machine.calls or machine.runs.unfinished or machine.leases or machine.dropped)
            and not (machine.outbox or self.memory.unviewed or self.replies)
            and not (self.acceptor is not None and self.acceptor.again_at)
            and threading.active_count() <= QUIET_THREADS
        )
        return QUIET_TICK_S if still else IDLE_TICK_S

    def _background(self) -> None:
        try:
            self.polling.run_background(self._background_tick)
        except Exception as error:
            end_session(self, error)

    def _background_tick(self) -> None:
        now = time.monotonic()
        if now >= self._next_tick or self.machine.outbox or self.machine.dropped or self.memory.unviewed:
            self._tick(now)
        self.on_background()
        if self.callbacks:
            self.callbacks.run()

    def _tick(self, now: float) -> None:
        if self.lost:
            return
        if self.acceptor is not None and 0 < self.acceptor.again_at <= now:
            self.acceptor.resume()
        warnings: list[str] = []
        try:
            with self.lock:
                self.machine.drain_dropped()
                self._next_tick = min(self.machine.tick(now), now + 0.1)
                self._flush(everything=True)
                warnings, self.machine.warnings = self.machine.warnings, []
        except Exception as error:
            end_session(self, error)
        self._after()
        for warning in warnings:
            self.warn(f"{warning}; it keeps waiting, in case such a node joins")

    def warn(self, text: str) -> None:
        """Show a warning of the runtime to the user."""
        import sys

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
        resume = self.before_wait(needs if timeout_s is None else None) if for_others and timeout_s != 0 else None
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
        while self.machine.pending_bytes > MAX_PENDING_BYTES // 2 and not self.lost:
            with self.lock:
                self.machine.runs.unfold_all()
                tasks = [*self.machine.tasks.values()][:1] or [*self.machine.calls.values()][:1]
                if not tasks:
                    return
                entry = self.machine.objects.get(tasks[0].msg.task)
                waiter = Waiter(1)
                if entry is None or entry.result is not None:
                    continue
                self.machine.await_value(entry, waiter)
                self.machine.ask_exactly()
                self._flush(everything=True)
            self.wait_for(waiter, 1.0)

    def check_closing(self) -> None:
        """Raise SessionLostError if this process leaves the session: what is waited for will not come."""
        if self.polling.closing:
            raise exceptions.SessionLostError(f"the session is gone: {self.lost or 'it was shut down'}")

    def check_lost(self) -> None:
        if self.lost:
            raise exceptions.SessionLostError(f"the session is gone: {self.lost}")

    # -------------------------------------------------------------- questions

    def request(self, build: Callable[[int], tuple[Address, Message]], timeout_s: float | None = None) -> Any:
        """Ask the raylet or the head; ``build(req)`` gives (destination, message). Returns the answer."""
        waiter = Waiter(1)
        slot: list[Any] = [waiter, None]
        with self.lock:
            self.check_lost()
            self._reqs += 1
            req = self._reqs
            self.replies[req] = slot
            dst, msg = build(req)
            if dst == HEAD:
                self.machine.asked[req] = msg
            self.machine.send(dst, msg)
            self._flush()
        answered = False
        try:
            answered = self.wait_for(waiter, timeout_s)
        finally:
            if not answered:
                with self.lock:
                    self.machine.asked.pop(req, None)
                    if self.replies.pop(req, None) is None and slot[1] is not None:
                        self._reply(-1, slot[1])
        if not answered:
            raise exceptions.GetTimeoutError(f"no answer from {dst} within {timeout_s} s")
        if slot[1] is None:
            raise exceptions.SessionLostError(f"the session is gone: {self.lost}")
        return slot[1]

    def tell_head(self, build: Callable[[int], Message]) -> None:
        """Have the head do something that it will not refuse. It is told again if it dies before it has answered."""
        with self.lock:
            self.check_lost()
            self._reqs += 1
            msg = self.machine.asked[self._reqs] = build(self._reqs)
            # With what else is said before somebody waits, or in 2 ms by the background thread.
            self.machine.send(HEAD, msg, urgent=False)
            if len(self.machine.outbox[HEAD]) >= FRAME_MESSAGES // 8:
                self._flush(everything=True)

    def ask_head(self, build: Callable[[int], Message], timeout_s: float | None = 60.0) -> Answer:
        """A question to the head."""
        answer = self.request(lambda req: (HEAD, build(req)), timeout_s)
        assert isinstance(answer, Answer)
        return answer

    def ask_all(
        self, asked: Sequence[Address], what: str, limit: int, timeout_s: float
    ) -> dict[Address, list[dict[str, Any]]]:
        """The rows of ``what`` that each of these raylets and processes knows; those that do not answer are missing."""
        waiter = Waiter(0)
        slots: dict[Address, tuple[int, list[Any]]] = {}
        answers: dict[Address, list[dict[str, Any]]] = {}
        with self.lock:
            self.check_lost()
            for dst in asked:
                if dst == self.addr:
                    answers[dst] = self.state_rows(what, limit)
                    continue
                self._reqs += 1
                slots[dst] = (self._reqs, [waiter, None, dst])
                waiter.needed += 1
                self.replies[self._reqs] = slots[dst][1]
                self.send_now(dst, [StateQuery(self._reqs, what, limit)])
        self.wait_for(waiter, timeout_s)
        with self.lock:
            for dst, (req, slot) in slots.items():
                self.replies.pop(req, None)
                if slot[1] is not None:
                    answers[dst] = msgspec.msgpack.decode(slot[1].data)
                    if slot[1].left_out:
                        self.warn(f"{dst} has {slot[1].left_out} {what} more than fit into its answer")
        return answers

    def _asked_in_vain(self, gone: Address) -> None:
        """A process has ended (the lock is held): what it was asked it will not answer."""
        for req in [r for r, slot in self.replies.items() if slot[2:] == [gone]]:
            waiter = self.replies.pop(req)[0]
            waiter.needed -= 1
            if waiter.needed <= 0:
                self.machine.woken.append(waiter)

    def state_rows(self, what: str, limit: int) -> list[dict[str, Any]]:
        """What this process knows (the lock is held)."""
        if what == "stack":
            return [{"pid": os.getpid(), "text": format_threads()}]
        return report(self.machine, what, limit) + self.more_state(what, limit)

    def _reply(self, req: int, msg: Message) -> None:
        slot = self.replies.pop(req, None)
        self.machine.asked.pop(req, None)
        if slot is not None:
            slot[1] = msg
            slot[0].needed -= 1
            if slot[0].needed <= 0:
                self.machine.woken.append(slot[0])
        elif type(msg) is Allocated and msg.offset >= 0:
            # Who asked for the room was interrupted.
            self.send_now(self.machine.raylet, [Abandon(msg.offset)])

    # -------------------------------------------------------------- leaving

    def close(self) -> None:
        """Say what is left to say and disconnect."""
        if self.polling.closing:
            return
        try:
            if not self.lost:
                self.flush()
            if self.kind == "driver":
                self.printed.flush()
        except (OSError, ValueError):
            pass
        self.printed.finish()
        self.lost = self.lost or "it was shut down"
        self.collections.close()
        self.polling.closing = True
        self._kick()
        self.polling.stop()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=2.0)
        if self.kind == "driver":
            with self.lock:
                self.lose(self.lost)
            self._after()
            self.callbacks.run()  # futures that are still awaited: nobody will poll for them again
        for stream in [*self.by_fd.values()]:
            stream.close()
        self._epoll.close()
        os.close(self._kick_fd)
        self.arena.close()


def pack_job(fields: dict[str, Any]) -> bytes:
    """What a worker needs to know of the driver whose work it does."""
    return msgspec.msgpack.encode(fields)


def unpack_job(data: bytes) -> dict[str, Any]:
    """The reverse of `pack_job`."""
    return msgspec.msgpack.decode(data) if data else {}

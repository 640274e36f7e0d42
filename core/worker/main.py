"""A worker process: it runs tasks, or is an actor. Forked by the zygote, ended by its raylet.

The main thread runs the user's code and, between tasks, polls the sockets itself; while it computes, the client's
background thread answers for it.
"""

from __future__ import annotations

import _thread
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import GeneratorType
from typing import TYPE_CHECKING, Any, NoReturn

from msgspec import msgpack

from hpc.core import serialization
from hpc.core.accelerators.table import show
from hpc.core.crashpoints import arm
from hpc.core.exceptions import ActorExit
from hpc.core.failures import NEVER_BEGAN, cancelled_while_it_ran, pack_error, show_error
from hpc.core.ids import Address
from hpc.core.metrics.tally import SHORTEST_US, Counted
from hpc.core.net.stream import listen
from hpc.core.node.marks import shown
from hpc.core.node.output import write_as
from hpc.core.node.process import flush_output
from hpc.core.owner.shell.client import Client
from hpc.core.owner.shell.forked import watch_forks
from hpc.core.owner.tables import Needs, Waiter
from hpc.core.process.context import TaskContext, current_task, process
from hpc.core.process.current import current
from hpc.core.process.job import unpack_job
from hpc.core.resources import UNIT
from hpc.core.store.arena import NAME_BYTES
from hpc.core.wire import (
    ERROR,
    INLINE,
    Answer,
    Call,
    Cleared,
    CreateActor,
    Done,
    EndActor,
    FlushLogs,
    Ran,
    Result,
    Task,
    ToldToEnd,
)
from hpc.core.worker import record, signals
from hpc.core.worker.actor import EXITED, ActorHost
from hpc.core.worker.below import Adopted, end_programs, has_children
from hpc.core.worker.deadlock import Deadlocks
from hpc.core.worker.ending import end_child, exit_called, leave
from hpc.core.worker.generators import ItemSender, run_generator, static_returns
from hpc.core.worker.hook import SetupHook
from hpc.core.worker.hosts import host
from hpc.core.worker.interrupt import Interrupter
from hpc.core.worker.job import enter_job
from hpc.core.worker.loop import ACKS_S, SHORT_US, Loop
from hpc.core.worker.packing import Packing
from hpc.core.worker.saving import QUIET_S, SAVE
from hpc.core.worker.threads import ENVIRON, LeaseThreads
from hpc.core.worker.threads import KEY as OMP
from hpc.core.worker.title import IDLE, IDLE_S, Title

if TYPE_CHECKING:
    from hpc.core.node.nearness import Nearness
    from hpc.core.node.spec import NodeSpec

#: A worker that is to end looks this often whether the objects that it owns are still needed.
RETIRE_LOOK_S = 1.0


class Worker:
    """The loop of one worker and all that it needs to run the user's code."""

    def __init__(self, spec: NodeSpec, proc: int) -> None:
        path = spec.worker_sock(proc)
        listener = listen(path)
        self.client = Client(spec.dir, "worker", b"", proc)
        self.path = path
        self.packing = Packing(self.client)
        client = self.client
        loop = self.loop = Loop(client.machine, self, NEVER_BEGAN, client.lock, client.send_left, self._look)
        self.executor, self.running, self.reply = loop.executor, loop.running, loop.reply
        self.functions = process.code
        self.hook = SetupHook(process.env, self.client)
        self.record = record.new_record()
        self.tally = client.telling.tally if client.telling.on else None
        #: The tasks of the name that the title shows.
        self._counted: Counted | None = None
        #: The name whose tasks are counted.
        self._entitled = ""
        self.actor: ActorHost | None = None
        self.spec = spec
        process.devices = spec.devices
        self._waiter: Waiter | None = None
        #: Called when something was read for the main thread, where that does not wait in `next_item`.
        self.wake: Callable[[], None] = lambda: None
        self.main_thread = threading.main_thread().ident or 0
        #: What the slot in the arena says stays until the next task, or until there is none: a finished task that is
        #: taken for running is of no consequence, because its owner has been told.
        self._published = False
        self.interrupter = Interrupter(
            lambda: loop.task,
            client.polling.stir,
            borders=frozenset({Worker._run_task.__code__, ActorHost.construct.__code__, static_returns.__code__}),
            open=frozenset({run_generator.__code__}),
            calls=self.running,
        )
        self.pid = os.getpid()
        self.threads = LeaseThreads()
        self.nearness: Nearness | None = None
        if spec.devices:
            from hpc.core.node.nearness import nearness_of

            self.nearness = nearness_of(spec)
        self.title = Title()
        self.where = f"pid={self.pid}, node={spec.node}"
        arm("worker", client.machine, spec.config, spec.node, spec.dir)
        client.machine.handlers.update(loop.handlers)
        client.machine.handlers[FlushLogs] = self._flush_logs
        client.hooks = self
        client.sockets.listen(listener)
        current.client = client
        watch_forks()
        client.polling.check = self.interrupter.check
        client.ending.on_drain = self._on_drain
        self.deadlocks = Deadlocks(self)
        self.adopted = Adopted()

    # -------------------------------------------------------------- messages

    def on_frame(self) -> None:
        """What a frame of messages leads to. Called with the client's lock held, by whoever polls."""
        loop = self.loop
        if loop.blocked or loop.replies or loop.cancelled:
            loop.on_frame()
        self.wake()
        waiter = self._waiter
        if waiter is not None and (loop.ready or loop.retiring):
            self._waiter = None
            waiter.needed = 0
            self.client.machine.woken.append(waiter)

    def _on_drain(self) -> None:
        """The node ends soon: an actor saves its state, ahead of the calls that wait (the lock is held)."""
        if self.actor is not None:
            self.loop.ready.appendleft((self.client.addr, SAVE))

    def more_state(self, what: str, limit: int) -> list[dict[str, Any]]:
        """What this worker knows beside what every owner knows: what it runs, and what it ran."""
        if what == "running":
            return self.record.running([*self.running.values()], limit)
        return self.record.rows(limit) if what == "events" else []

    def on_timers(self, now: float) -> None:
        """Tell the raylet what was run, when it is time (the lock is held)."""
        self.record.trim()
        if self.record.is_due(now):
            self._tell_ran(now)

    def _tell_ran(self, now: float) -> None:
        self.client.machine.send(self.client.machine.raylet, Ran(*self.record.hand_over(now)))

    @property
    def has_news(self) -> bool:
        """Whether something was run that the raylet was not told of."""
        return bool(self.record.events)

    def _flush_logs(self, src: Address, msg: FlushLogs) -> None:
        """A driver that leaves wants what was printed, and to know where else this process had something done. With it
        this process may end: what it ran is told before."""
        flush_output()
        if self.record.events:
            self._tell_ran(time.monotonic())
        nodes = sorted(self.client.machine.state.nodes_used)
        self.client.machine.send(src, Answer(msg.req, True, msgpack.encode(nodes)))

    def ends_programs(self, raylet: Address) -> bool:
        """Whether programs are left that the user's code has started. They are ended, and the raylet is told then."""
        if not has_children():
            return False
        _thread.start_new_thread(self._end_programs, (raylet,))
        return True

    def _end_programs(self, raylet: Address) -> None:
        """What takes a moment, on a thread of its own."""
        end_programs()
        with self.client.lock:
            self.client.send_now(raylet, [Cleared()])

    def interrupt(self, task: bytes, runs: bool) -> Call | None:
        """Cancel a task or call that is not queued. Returns a call that waited for one of the actor's threads."""
        if self.actor is None:
            self.interrupter.cancel(task)
        elif (waiting := self.actor.cancel(task)) is not None:
            return waiting
        elif runs and not self.actor.is_async:
            self.interrupter.cancel_call(task)
        return None

    def _look(self) -> None:
        """Read what has come, in the middle of much to do."""
        self.client.look()

    def next_item(self) -> tuple[Address, Any]:
        """The next item; waits for one, polling."""
        client, loop, ready = self.client, self.loop, self.loop.ready
        idle_since = 0.0
        while True:
            with client.lock:
                if ready:
                    return ready.popleft()
                ends = loop.idle()
                waiter = self._waiter = Waiter(1)
                client.machine.objects.drain_dropped()
                client.send_left(everything=True)
                if self._published and loop.may_end and not client.sockets.any_unsent():
                    self._published = False
                    client.arena.publish(b"", 0, False)
            if ends:
                if self.actor is None or not self.actor.moving:
                    self.exit("it was not needed any more")
                idle_since = idle_since or time.monotonic()
                self.actor.move(idle_since)
            client.wait_for(waiter, None if not loop.retiring else QUIET_S if idle_since else RETIRE_LOOK_S)

    def before_wait(self, needs: Needs | None) -> Callable[[], None] | None:
        """User code is about to wait: others may use the CPU, and must not wait for what is queued here."""
        if not self.running:
            return None
        client = self.client
        me = threading.get_ident()
        doubtful = False
        if self.actor is not None:
            if needs is not None:
                doubtful = self.deadlocks.judge(self.actor, me, needs)
            self.actor.about_to_wait(me)
        resume = None
        with client.lock:
            self.loop.begin_wait(me == self.main_thread)
            if me == self.main_thread:
                resume = self._resume
            client.send_left(everything=True)
        return self.deadlocks.watch(me, needs, resume) if doubtful and needs is not None else resume

    def _resume(self) -> None:
        with self.client.lock:
            self.loop.end_wait()
            self.client.send_left()

    def on_background(self) -> None:
        """On the background thread, while the main thread computes. If a task runs long, return the tasks queued behind
        it; if it was cancelled, signal it again."""
        self.interrupter.again()
        now, loop = time.monotonic(), self.loop
        self.adopted.look(now)
        if now - loop.began > IDLE_S:
            self.title.rest(self._running_name)
        if loop.holds_up(now):
            client = self.client
            with client.lock:
                loop.give_back()
                client.send_left(everything=True)

    def write_as(self, name: str) -> None:
        """What is printed from now on is printed in this name; the raylet sees it too."""
        if write_as(name):
            self.client.arena.publish_name(shown(name, NAME_BYTES))

    def _running_name(self) -> str:
        """The name of a task or call that runs; empty when none does."""
        for context in list(self.running.values()):
            return context.name
        return ""

    # -------------------------------------------------------------- running

    def run(self) -> None:
        """Until the process is ended."""
        self._entitle(IDLE)
        self.client.start()
        while True:
            src, msg = self.next_item()
            kind = type(msg)
            if kind is Task:
                self._run_task(src, msg)
            elif kind is CreateActor:
                self._create_actor(src, msg)
                if self.actor is not None and self.actor.instance is not None:
                    self.actor.run()
            elif kind is EndActor:
                self.exit(msg.why)

    def use_lease(self, lease: int) -> None:
        """Take over the environment of the lease under which the next task runs."""
        if lease == process.lease:
            return
        process.lease = lease
        begin = self.executor.leases.get(lease)
        if begin is None:
            return
        for old in [ident for ident in self.executor.leases if ident != lease]:
            del self.executor.leases[old]
        process.instances = begin.instances
        process.resources = begin.resources
        if list(process.group) != begin.group:
            process.group = tuple(begin.group)
        self.client.machine.state.driver = begin.driver
        if begin.instances or self.spec.devices:
            show(begin.instances, self.spec.devices, os.environ, kept=process.env)
        cpus = begin.resources.get("CPU", 0)
        self.threads.use(cpus // UNIT)
        if self.nearness is not None:
            self.nearness.use(begin.instances, -(-cpus // UNIT))
        if begin.job != process.job_bytes:
            process.job_bytes = begin.job
            process.job = unpack_job(begin.job)
            self.client.machine.state.job = begin.job
            enter_job(process.job)

    def _entitle(self, name: str) -> None:
        """From now on tasks of this name run."""
        self.title.show(name)
        self._entitled = name
        self._counted = None if self.tally is None else self.tally.named(name)

    def function(self, ident: bytes) -> Any:
        """The function or class with this id, unpickled once."""
        function = self.functions.get(ident)
        if function is None:
            self.hook()
            function = self.functions[ident] = pickle.loads(self.executor.functions[ident])
        return function

    def _run_task(self, src: Address, msg: Task) -> None:
        if msg.lease != process.lease:
            self.use_lease(msg.lease)
        elif ENVIRON.get(OMP) is not self.threads.value:
            self.threads.again()
        context = TaskContext(msg.task, msg.attempt, msg.name, msg.depth, msg.fn)
        context.ran = msg.ran
        token = current_task.set(context)
        loop = self.loop
        start = loop.began = time.monotonic()
        self._published = True
        self.client.arena.publish(msg.task, msg.ran, True, start, msg.retriable)
        self.running[msg.task] = context
        name = self.title.now  # one object for all tasks of this name: what is done with many of them is quick
        if msg.name != name or name is not self._entitled:  # `Title.rest` may have shown it before it is counted
            name = msg.name
            self._entitle(name)
            self.write_as(name)
        met: list[bytes] = []
        retryable = False
        max_calls = 0
        loop.task = msg.task
        try:
            function, retry_on, max_calls = self.function(msg.fn)
            args, kwargs = self.packing.arguments(msg, met)
            if context.cancelled:
                raise KeyboardInterrupt
            try:
                value = function(*args, **kwargs)
                if msg.num_returns < 0:
                    value = run_generator(ItemSender(self, src, msg, context, retry_on), value)
                elif type(value) is GeneratorType and msg.num_returns:
                    value = static_returns(ItemSender(self, src, msg, context, retry_on), value)
                if context.cancelled:
                    self.interrupter.check()  # it came while a function written in C kept the interpreter to itself
            except Exception as error:
                retryable = msg.retry_exceptions and (retry_on is None or isinstance(error, retry_on))
                raise
            finally:
                loop.task = b""
                args = kwargs = None  # type: ignore[assignment]
            results = self.packing.results(src, msg.task, msg.attempt, msg.num_returns, value)
            value = None
        except BaseException as error:
            loop.task = b""
            results = self.failure(msg.name, error)
        finally:
            current_task.reset(token)
            self.running.pop(msg.task, None)
        run_us = int((time.monotonic() - start) * 1e6)
        kind = results[-1].kind if results else INLINE
        end = record.mark() if run_us > record.MARK_US else None
        self.record.append((msg.task, msg.ran, name, start, run_us, kind, end, msg.fn))
        if (counted := self._counted) is not None:
            if kind or run_us > SHORTEST_US:
                counted.note(run_us, kind)
            else:
                counted.short += 1
                counted.short_us += run_us
        spent = self.hook.failed or (bool(max_calls) and loop.is_last(msg.fn, max_calls))
        self.reply(src, Done(msg.task, msg.attempt, results, run_us, retryable, spent), met, False, not msg.retriable)
        if spent:
            with self.client.lock:
                loop.run_no_more()

    def failure(self, name: str, error: BaseException) -> list[Result]:
        """The result of a task that raised, which stands for all of its return values."""
        if os.getpid() != self.pid:
            end_child(error)
        if isinstance(error, SystemExit):
            exit_called(self, error)
        if isinstance(error, KeyboardInterrupt):
            return [cancelled_while_it_ran(name, error, self.where)]
        return [Result(ERROR, pack_error(name, error, self.where))]

    # -------------------------------------------------------------- actors

    def _create_actor(self, src: Address, msg: CreateActor) -> None:
        # For as long as the process lives. Before anything of the user's runs: an actor that is not named here when
        # its worker has ended had not begun.
        self.client.arena.publish(msg.actor, msg.incarnation, True, retriable=False)
        self._published = False
        self.use_lease(msg.lease)
        process.actor, process.incarnation = msg.actor, msg.incarnation
        process.actor_name = str(msg.options.get("name") or "")
        process.namespace = str(msg.options.get("namespace") or "")
        process.actor_class, process.actor_options = msg.fn, msg.options
        met: list[bytes] = []
        context = TaskContext(msg.actor, msg.incarnation, f"{msg.name}.__init__", fn=msg.fn, ran=msg.incarnation)
        self.title.at_rest = msg.name
        self.title.show(context.name)
        self.write_as(msg.name)
        token = current_task.set(context)
        self.running[msg.actor] = context
        self.loop.task = msg.actor
        start = time.monotonic()
        try:
            cls = self.function(msg.fn)
            args, kwargs = self.packing.arguments(msg, met)
            self.actor = host(self, msg, cls)
            self.actor.construct(args, kwargs)
            results = [Result(INLINE, serialization.dumps(None).to_bytes())]
        except ActorExit:
            self.exit(EXITED)
        except BaseException as error:
            results = self.failure(context.name, error)
            show_error(context.name, error)
        finally:
            self.loop.task = b""
            current_task.reset(token)
            self.running.pop(msg.actor, None)
        run_us = int((time.monotonic() - start) * 1e6)
        kind = results[0].kind
        self.record.append((msg.actor, msg.incarnation, context.name, start, run_us, kind, record.mark(), b""))
        if self.tally is not None:
            self.tally.note(context.name, run_us, kind)
        done = self.executor.created = Done(msg.actor, msg.incarnation, results, SHORT_US + 1)
        self.reply(src, done, met)

    def exit(self, why: str) -> NoReturn:
        """End this process by intention, once no outcome waits to be sent; its raylet is told why first."""
        loop, client = self.loop, self.client
        loop.retiring = True  # so that each frame wakes the waiter
        deadline = time.monotonic() + ACKS_S
        while not loop.may_end and time.monotonic() < deadline:
            with client.lock:
                waiter = self._waiter = Waiter(0 if loop.may_end else 1)
                client.send_left(everything=True)
            client.wait_for(waiter, deadline - time.monotonic())
        leave(self, why)

    def told_to_end(self) -> None:
        """Somebody has sent this process a SIGTERM, a moment ago."""
        with self.client.lock:
            self.client.machine.send(self.client.machine.raylet, ToldToEnd())
            self.client.send_left(everything=True)


def worker_main(spec: NodeSpec, proc: int) -> None:
    """What the zygote's child runs; never returns."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        worker = Worker(spec, proc)
        signals.install(worker.interrupter.may_raise, worker.told_to_end)
        worker.run()
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)

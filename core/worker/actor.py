"""The actor that a worker hosts: its object, and on which threads its methods run.

Without further options calls run one after the other on the main thread. With max_concurrency they run on that many
threads; those of a class with coroutine methods interleave on an event loop (see `aio`). Each concurrency group has
threads, or a limit of coroutines, of its own.
"""

from __future__ import annotations

import inspect
import threading
import time
import traceback
from types import GeneratorType
from typing import TYPE_CHECKING, Any, NoReturn

from hpc.core.callruns import calls_of
from hpc.core.classes import has_coroutines
from hpc.core.exceptions import ActorExit
from hpc.core.ids import Address
from hpc.core.process.context import TaskContext, current_task, process
from hpc.core.wire import NO_ARGUMENTS, Call, Calls, CreateActor, Done, EndActor, system_error
from hpc.core.worker import record, saving
from hpc.core.worker.ending import leave as end_process
from hpc.core.worker.generators import ItemSender, run_generator, static_returns
from hpc.core.worker.runs import make_calls
from hpc.core.worker.saving import SaveActor

if TYPE_CHECKING:
    import concurrent.futures

    from hpc.core.worker.ports import Works

ASYNC_CONCURRENCY = 1000
#: A reply with this running time is sent at once (nobody else would send it for a thread).
FLUSH_US = 1000
EXITED = "exit_actor() was called"
NOTHING: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})


class ActorHost:
    """One actor in this process."""

    def __init__(self, worker: Works, create: CreateActor, cls: type) -> None:
        self.worker = worker
        self.cls = cls
        self.instance: Any = None
        self.name = create.name
        self.ident = create.actor
        options = create.options
        self.is_async = has_coroutines(cls)
        self.concurrency = int(options.get("max_concurrency") or (ASYNC_CONCURRENCY if self.is_async else 1))
        groups: dict[str, int] = dict(options.get("concurrency_groups") or {})
        #: How many calls may run at the same time, per group; the group without a name has all other methods.
        self.limits = {"": self.concurrency, **groups}
        #: The main thread, once it serves an event loop.
        self.loop_thread = 0
        self.pools: dict[str, concurrent.futures.ThreadPoolExecutor] = {}
        #: By the thread, the groups whose calls all run on that one.
        self.lanes: dict[int, str] = {}
        #: Calls that wait for one of the threads.
        self._waiting: dict[bytes, Call] = {}
        self._names: dict[str, str] = {}
        self.methods: dict[str, Any] = {}
        self._pending = 0
        self._idle = threading.Condition()
        #: ``exit_actor`` was called: no further call begins.
        self.exiting = False
        self._moves = bool(options.get("moves"))
        #: Its node leaves, and it begins anew elsewhere as soon as no call is under way; if calls never pause, then.
        self.moving, self._move_at = False, 0.0
        process.exit_actor = self.exit

    def construct(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Make the object; its threads first, because the constructor may want them."""
        if not self.is_async and (self.concurrency > 1 or len(self.limits) > 1):
            from concurrent.futures import ThreadPoolExecutor

            self.pools = {
                group: ThreadPoolExecutor(
                    limit, f"hpc-actor-{group}" if group else "hpc-actor", self._thread_begins, (group,)
                )
                for group, limit in self.limits.items()
            }
        instance = self.cls(*args, **kwargs)
        self.instance = instance
        self._name_output()
        kept, state = saving.read(self.worker.client, self.cls)
        if kept:
            self.restore(state)

    def restore(self, state: Any) -> None:
        """The object takes over what the actor had that had its name before."""
        self.instance.__hpc_restore__(state)

    def checkpoint(self) -> Any:
        """What is to be kept of the object."""
        return self.instance.__hpc_checkpoint__()

    def save(self) -> Any:
        """The node is about to end: keep the actor's state, if its class says how. Whether it was kept."""
        if saving.can_save(self.cls):
            try:
                saving.write(self.worker.client, self.checkpoint())
                return True
            except Exception:
                saving.complain()
        return False

    def _save_and_move(self) -> None:
        """The state is kept. Where other nodes go on, what is answered after this must not be lost with this one: the
        actor begins anew there. (Not while threads of it may change the state at any moment.)"""
        ending = self.worker.client.ending
        if self.save() and ending.alone and self._moves and not self.pools and saving.can_move(self.cls):
            self.moving = self.worker.loop.retiring = True
            self._move_at = time.monotonic() + (ending.left_s or 0.0) / 2

    def move(self, since: float) -> None:
        """No call has come ``since`` then: end this process, if that is long enough, with the state as it is now. What
        the user has begin when the node drains ends before."""
        now = time.monotonic()
        if self.worker.client.ending.calling or (now - since < saving.QUIET_S and now < self._move_at):
            return
        if self.save():
            end_process(self.worker, "its node drains", intended=False)
        self.moving = self.worker.loop.retiring = False  # it stays, with what was kept before

    def _name_output(self) -> None:
        """Lines of an actor whose class says how its objects are shown have that in front."""
        if getattr(type(self.instance), "__repr__", None) is not object.__repr__:
            try:
                self.worker.write_as(repr(self.instance))
            except Exception:  # the class's name stays
                traceback.print_exc()

    def run(self) -> None:
        """Take over the main thread and serve calls until the process ends."""
        worker = self.worker
        ready = worker.executor.ready
        if not self.pools:
            self._thread_begins("")
        while True:
            try:
                src, msg = ready.popleft()
            except IndexError:
                src, msg = worker.next_item()
            if type(msg) is Call:
                self.call(src, msg)
            elif type(msg) is Calls:
                self.take_run(src, msg)
            elif type(msg) is EndActor:
                self.drain()
                self.leave(msg.why)
            elif type(msg) is SaveActor:
                self._save_and_move()

    def call(self, src: Address, msg: Call) -> None:
        """Run a call, here or on the actor's own threads."""
        if self.pools:
            self._enter()
            pool = self.pools.get(msg.group) or self.pools[""]
            self._waiting[msg.task] = msg
            pool.submit(self._run_pooled, src, msg)
        else:
            self._run(src, msg)

    def take_run(self, src: Address, run: Calls) -> None:
        """Make the calls of a run: here, as a run, or as many calls on the actor's own threads."""
        if self.pools:
            for call in calls_of(run):
                self.call(src, call)
        else:
            make_calls(self, src, run)

    def _enter(self) -> None:
        with self._idle:
            self._pending += 1

    def _left(self) -> None:
        with self._idle:
            self._pending -= 1
            if not self._pending:
                self._idle.notify_all()

    def drain(self) -> None:
        """Wait until no call is running."""
        with self._idle:
            self._idle.wait_for(lambda: not self._pending)

    def exit(self) -> None:
        """End the actor once the calls that run have ended; those that have not begun fail. From any thread."""
        self.exiting = True
        worker = self.worker
        with worker.client.lock:
            worker.loop.end_actor(self.ident, EXITED)
            worker.on_frame()
        worker.client.wake_done()

    def _thread_begins(self, group: str) -> None:
        if self.limits[group] == 1:
            self.lanes[threading.get_ident()] = group

    def lane(self, thread: int) -> str | None:
        """The concurrency group of which no call can begin or go on while this thread waits; None if there is none."""
        return self.lanes.get(thread)

    def lane_of(self, group: str) -> str:
        """On whose threads the calls of this concurrency group run."""
        return group if group in self.pools else ""

    def queued(self) -> dict[bytes, Call | Calls | None]:
        """Calls that have left the worker's queue and have not begun, with their messages where these are known."""
        return dict(self._waiting)

    def about_to_wait(self, thread: int) -> None:
        """The user's code on this thread is about to wait for a value."""

    def save_now(self) -> Any:
        """A call of the user's: keep the state, and say where."""
        saving.must_save(self.cls)
        return saving.write(self.worker.client, self.checkpoint())

    def _terminate(self) -> NoReturn:
        self.exit()
        raise ActorExit

    def leave(self, why: str) -> NoReturn:
        """End the process in peace: the actor's own ``__ray_shutdown__`` comes first."""
        if hasattr(type(self.instance), "__ray_shutdown__"):
            try:
                self.method("__ray_shutdown__")()
            except Exception:
                traceback.print_exc()
        self.worker.exit(why)

    def cancel(self, task: bytes) -> Call | None:
        """Take out a call that waits for a thread: it will never run. Others run on (None)."""
        return self._waiting.pop(task, None)

    def method(self, name: str) -> Any:
        """The bound method, or one of those that every actor has. Methods are those of the class, whatever attributes
        the object has."""
        found = self.methods.get(name)
        if found is None:
            found = self.methods[name] = self._find(name)
        return found

    def _find(self, name: str) -> Any:
        if name == "__ray_ready__":
            return lambda: True
        if name == "__ray_call__":
            return lambda function, /, *args, **kwargs: function(self.instance, *args, **kwargs)
        if name == "__ray_terminate__":
            return self._terminate
        if name == "__hpc_save__":
            return self.save_now
        cls = type(self.instance)
        member = inspect.getattr_static(cls, name)
        bind = getattr(type(member), "__get__", None)
        return member if bind is None else bind(member, self.instance, cls)

    def _run_pooled(self, src: Address, msg: Call) -> None:
        try:
            if self.exiting:
                return
            if self._waiting.pop(msg.task, None) is not None:  # or it was cancelled
                self._run(src, msg)
        finally:
            self._left()

    def full_name(self, method: str) -> str:
        """What a call of a method is called."""
        return self._names.setdefault(method, f"{self.name}.{method}")

    def _run(self, src: Address, msg: Call) -> None:
        worker, method = self.worker, msg.method
        name = full_name = self._names.get(method) or self.full_name(method)
        context = TaskContext(msg.task, msg.attempt, name, ran=msg.ran)
        if msg.name:
            name = context.name = msg.name
            context.method = full_name
        current_task.set(context)  # and not put back: what runs next on this thread is a call again
        worker.running[msg.task] = context
        if name != worker.title.now:
            worker.title.show(name)
        met: list[bytes] = []
        start = time.monotonic()
        try:
            args, kwargs = worker.packing.arguments(msg, met) if msg.refs or msg.args != NO_ARGUMENTS else NOTHING
            if context.cancelled:
                raise KeyboardInterrupt
            value = (self.methods.get(method) or self.method(method))(*args, **kwargs)
            args = kwargs = None  # type: ignore[assignment]
            done = self.returned(src, msg, context, value)
            value = None
        except BaseException as error:
            done = self.raised(msg, context, error)
        finally:
            worker.running.pop(msg.task, None)
        self.over(src, done, name, start, met, context.method, msg.ran)

    def returned(self, src: Address, msg: Call, context: TaskContext, value: Any) -> Done:
        """The outcome of a call that returned; raises what making it of the value raises."""
        worker = self.worker
        if msg.num_returns < 0:
            value = run_generator(ItemSender(worker, src, msg, context), value)
        elif type(value) is GeneratorType and msg.num_returns:
            value = static_returns(ItemSender(worker, src, msg, context), value)
        results = worker.packing.results(src, msg.task, msg.attempt, msg.num_returns, value)
        if context.cancelled:
            results = [system_error("TaskCancelledError", "it was cancelled", task=context.name)]
        return Done(msg.task, msg.attempt, results)

    def raised(self, msg: Call, context: TaskContext, error: BaseException) -> Done:
        """The outcome of a call that raised."""
        if isinstance(error, ActorExit):
            results = [system_error("ActorDiedError", "it called exit_actor()", actor=self.name)]
            return Done(msg.task, msg.attempt, results, exiting=True)
        retryable = msg.retry_exceptions and isinstance(error, Exception) and not context.cancelled
        return Done(msg.task, msg.attempt, self.worker.failure(context.name, error), 0, retryable)

    def over(
        self, src: Address, done: Done, name: str, start: float, met: list[bytes], method: str = "", ran: int = 0
    ) -> None:
        """Remember a call that has ended, and answer it. ``method`` is empty unless its name is another one; ``ran``:
        how often it has begun before."""
        worker, results = self.worker, done.results
        run_us = done.run_us = int((time.monotonic() - start) * 1e6)
        kind = results[-1].kind if results else 0
        end = record.mark() if run_us > record.MARK_US and not self.pools else None
        worker.record.append((done.task, ran, name, start, run_us, kind, end, method))
        if worker.tally is not None:
            worker.tally.note(name, run_us, kind)
        if self.pools:
            done.run_us = max(run_us, FLUSH_US)
        worker.reply(src, done, met)

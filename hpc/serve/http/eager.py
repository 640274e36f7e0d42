"""Coroutines that begin at once: what never waits ends without a turn of the event loop for its task.

From Python 3.12 on asyncio has eager tasks. For 3.11 a task that waits for work stands by. The first step of a
coroutine runs as if it were that task, in its context. If the coroutine waits, the task goes on with it, and another
one stands by. A task that some code has left a context variable in is not used again. In 3.10 a task begins with the
next turn.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import types
from collections.abc import Coroutine, Generator
from typing import Any

Work = Coroutine[Any, Any, None]


class Beginner:
    """Begins coroutines that handle all of their errors, but for a cancel. Each has a copy of ``context``, and leaves
    it as it was, unless other code sets variables there."""

    def __init__(self, loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> None:
        self._loop = loop
        self._running: set[asyncio.Task[None]] = set()
        self._clean = context
        self._standing: _Standing | None = None

    def begin(self, work: Work) -> asyncio.Task[None] | None:
        """Run until the first wait. Returns the task that goes on then, or None where it has ended. Called by the loop,
        and not in a task."""
        if sys.version_info >= (3, 12):
            task = asyncio.Task(work, loop=self._loop, context=self._clean.copy(), eager_start=True)
            if task.done():
                return None
        elif sys.version_info >= (3, 11):
            started = self._started(work)
            if started is None:
                return None
            task = started
        else:
            task = self._clean.run(self._loop.create_task, work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def _started(self, work: Work) -> asyncio.Task[None] | None:
        standing, self._standing = self._standing, None
        if standing is None or not standing.stands_on(self._loop):
            standing = _Standing(self._loop, self._clean)
        if not standing.step(work):
            return standing.task
        if standing.is_clean():
            self._standing = standing
        else:
            standing.task.cancel()
        return None


class Nested:
    """Begins coroutines as `Beginner` does, within a task that runs. Each has a context of its own, a copy of the
    running one."""

    def __init__(self) -> None:
        self._standing: _Standing | None = None

    def begin(self, work: Work) -> asyncio.Task[None] | None:
        """Run until the first wait. Returns the task that goes on then, or None where it has ended. The caller keeps
        it: a loop does not."""
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        if sys.version_info >= (3, 12):
            task = asyncio.Task(work, loop=loop, context=context, eager_start=True)
            return None if task.done() else task
        if sys.version_info < (3, 11):
            return context.run(loop.create_task, work)
        standing, self._standing = self._standing, None
        if standing is None or not standing.stands_on(loop):
            standing = _Standing(loop, contextvars.Context())
        outer = asyncio.current_task(loop)
        if outer is not None:
            asyncio.tasks._leave_task(loop, outer)
        try:
            has_ended = standing.step(work, context)
        finally:
            if outer is not None:
                asyncio.tasks._enter_task(loop, outer)
        if not has_ended:
            return standing.task
        self._standing = standing
        return None


class _Standing:
    """A task that stands by."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clean: contextvars.Context) -> None:
        self._loop = loop
        self._clean = clean
        self._context = clean.copy()
        self._ready: asyncio.Future[None] = loop.create_future()
        #: A coroutine that waits, what it waits for, and its context where that is not the task's.
        self._begun: tuple[Work, Any, contextvars.Context | None] | None = None
        going_on = self._go_on()
        going_on.send(None)
        self.task: asyncio.Task[None] = loop.create_task(going_on, context=self._context)  # type: ignore[call-arg]

    def stands_on(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether it can be used there: nobody has cancelled it."""
        return self._loop is loop and not self.task.done() and not self.task.cancelling()  # type: ignore[attr-defined]

    def step(self, work: Work, context: contextvars.Context | None = None) -> bool:
        """Run the first step, in this context or in the task's own. Returns whether that was all."""
        asyncio.tasks._enter_task(self._loop, self.task)
        try:
            waits_for = (context or self._context).run(work.send, None)
        except (StopIteration, asyncio.CancelledError):
            return True
        except BaseException:  # the process ends, or the actor
            self.task.cancel()
            raise
        finally:
            asyncio.tasks._leave_task(self._loop, self.task)
        self._begun = work, waits_for, context
        if not self._ready.done():  # it is cancelled where the first step has cancelled its own task
            self._ready.set_result(None)
        return False

    def is_clean(self) -> bool:
        """Whether the context is as it was."""
        return self._context == self._clean

    async def _go_on(self) -> None:
        cancelled: asyncio.CancelledError | None = None
        try:
            await _pause()  # here already as the task is made: what has not begun would not see a cancel
            await self._ready
        except asyncio.CancelledError as error:
            if self._begun is None:
                raise
            cancelled = error
        assert self._begun is not None
        begun, self._begun = self._begun, None
        await _Rest(*begun, cancelled)


@types.coroutine
def _pause() -> Generator[None, None, None]:
    yield


class _Rest:
    """A coroutine that waits, as something to await. ``cancelled``: its task was cancelled before it took this over."""

    def __init__(
        self,
        work: Work,
        waits_for: Any,
        context: contextvars.Context | None,
        cancelled: asyncio.CancelledError | None,
    ) -> None:
        self._work = work
        self._waits_for = waits_for
        self._context = context
        self._cancelled = cancelled

    def __await__(self) -> Generator[Any, Any, None]:
        waits_for, early = self._waits_for, self._cancelled
        if early is not None and waits_for is not None and waits_for.cancel(*early.args):
            early = None  # as a task does it: what it waits for is cancelled, and tells it so
        while True:
            error: BaseException | None = early
            given: Any = None
            if early is None:
                try:
                    given = yield waits_for
                except BaseException as raised:
                    error = raised
            early = None
            try:
                waits_for = self._next(given, error)
            except StopIteration:
                return

    def _next(self, given: Any, error: BaseException | None) -> Any:
        step = self._work.send if error is None else self._work.throw
        what = given if error is None else error
        return step(what) if self._context is None else self._context.run(step, what)

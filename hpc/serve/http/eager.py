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
        standing = self._standing or _Standing(self._loop, self._clean)
        self._standing = None
        if not standing.step(work):
            return standing.task
        if standing.is_clean():
            self._standing = standing
        else:
            standing.task.cancel()
        return None


class Nested:
    """Begins coroutines as `Beginner` does, within a task that runs. Each has a context of its own, a copy of the
    running one. A task that it gives is cancelled in the next turn of the loop at the earliest."""

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
        standing, self._standing = self._standing or _Standing(loop, contextvars.Context()), None
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
        self._work: asyncio.Future[tuple[Work, Any, contextvars.Context | None]] = loop.create_future()
        self.task: asyncio.Task[None] = loop.create_task(self._go_on(), context=self._context)  # type: ignore[call-arg]

    def step(self, work: Work, context: contextvars.Context | None = None) -> bool:
        """Run the first step, in this context or in the task's own. Returns whether that was all."""
        asyncio.tasks._enter_task(self._loop, self.task)
        try:
            waits_for = (context or self._context).run(work.send, None)
        except (StopIteration, asyncio.CancelledError):
            return True
        finally:
            asyncio.tasks._leave_task(self._loop, self.task)
        self._work.set_result((work, waits_for, context))
        return False

    def is_clean(self) -> bool:
        """Whether the context is as it was."""
        return self._context == self._clean

    async def _go_on(self) -> None:
        await _Rest(*await self._work)


class _Rest:
    """A coroutine that waits, as something to await."""

    def __init__(self, work: Work, waits_for: Any, context: contextvars.Context | None) -> None:
        self._work = work
        self._waits_for = waits_for
        self._context = context

    def __await__(self) -> Generator[Any, Any, None]:
        waits_for = self._waits_for
        while True:
            error: BaseException | None = None
            given: Any = None
            try:
                given = yield waits_for
            except BaseException as raised:
                error = raised
            try:
                waits_for = self._next(given, error)
            except StopIteration:
                return

    def _next(self, given: Any, error: BaseException | None) -> Any:
        step = self._work.send if error is None else self._work.throw
        what = given if error is None else error
        return step(what) if self._context is None else self._context.run(step, what)

"""Coroutines that begin within a task: what never waits has none of its own, and what waits has one from the start."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from typing import Any

import pytest

from hpc.serve.http.eager import Nested

VALUE: contextvars.ContextVar[str] = contextvars.ContextVar("value", default="")
IS_EAGER = sys.version_info >= (3, 11)


def test_what_never_waits_has_ended_at_once_and_leaves_nothing() -> None:
    seen: list[Any] = []

    async def work() -> None:
        seen.append((VALUE.get(), asyncio.current_task()))
        VALUE.set("changed")

    async def main() -> None:
        VALUE.set("outer")
        nested, own = Nested(), asyncio.current_task()
        for _ in range(3):
            task = nested.begin(work())
            assert (task is None) is IS_EAGER
            if task is not None:
                await task
            assert VALUE.get() == "outer" and asyncio.current_task() is own
        assert [value for value, _ in seen] == ["outer"] * 3
        assert own not in [task for _, task in seen]

    asyncio.run(main())


def test_what_waits_goes_on_in_the_task_that_it_began_in() -> None:
    seen: list[Any] = []

    async def work(go: asyncio.Event) -> None:
        first = asyncio.current_task()
        VALUE.set("inner")
        await go.wait()
        await asyncio.sleep(0)
        seen.append((asyncio.current_task() is first, VALUE.get()))

    async def main() -> None:
        VALUE.set("outer")
        nested, events = Nested(), [asyncio.Event() for _ in range(3)]
        tasks = [nested.begin(work(event)) for event in events]
        for event in events:
            event.set()
        for task in tasks:
            assert task is not None
            await asyncio.wait_for(task, 10)
        assert seen == [(True, "inner")] * 3 and VALUE.get() == "outer"

    asyncio.run(main())


def test_a_cancel_reaches_it_and_what_it_raises_is_the_tasks() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    async def wrong() -> None:
        await asyncio.sleep(0)
        raise ValueError("wrong")

    async def main() -> None:
        nested = Nested()
        task = nested.begin(forever())
        assert task is not None
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        other = nested.begin(wrong())
        assert other is not None
        with pytest.raises(ValueError, match="wrong"):
            await asyncio.wait_for(other, 10)

    asyncio.run(main())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout is of 3.11")
def test_a_limit_of_time_holds_across_the_first_wait() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            async with asyncio.timeout(0.01):  # it cancels the task that it was begun in
                await asyncio.Event().wait()
        except TimeoutError:
            seen.append("late")

    async def main() -> None:
        task = Nested().begin(work())
        assert task is not None
        await asyncio.wait_for(task, 10)
        assert seen == ["late"]

    asyncio.run(main())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout is of 3.11")
@pytest.mark.parametrize("is_used", [False, True])
def test_a_cancel_reaches_what_has_not_yet_been_taken_over(is_used: bool) -> None:
    seen: list[str] = []

    async def nothing() -> None:
        pass

    async def late() -> None:
        try:
            async with asyncio.timeout(0):  # it cancels before the task has taken the rest over
                await asyncio.Event().wait()
        except TimeoutError:
            seen.append("late")

    async def own() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel("enough")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            seen.append(*error.args)
            raise

    async def child() -> None:
        inner = asyncio.ensure_future(asyncio.Event().wait())
        try:
            await inner
        finally:
            await asyncio.sleep(0)
            seen.append(f"inner {inner.cancelled()}")

    async def ended() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()  # nobody sees that: it ends before its next wait

    async def main() -> None:
        for work, outcome in ((late, "late"), (own, "enough"), (child, "inner True")):
            nested = Nested()
            if is_used:
                assert not IS_EAGER or nested.begin(nothing()) is None
                await asyncio.sleep(0)
            task = nested.begin(work())
            assert task is not None
            if work is child:
                task.cancel()
            done, _ = await asyncio.wait([task], timeout=10)
            assert done and seen.pop() == outcome and not seen
            assert task.cancelled() is (work is not late)
        nested = Nested()
        for work in (nothing, ended, late):
            task = nested.begin(work())
            await asyncio.sleep(0)
        assert task is not None
        await asyncio.wait_for(task, 10)
        assert seen == ["late"]

    asyncio.run(main())

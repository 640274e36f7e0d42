"""Batches: the queue alone, and the decorated functions on an event loop."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc import cloudpickle
from hpc.serve.batching import BatchItem, BatchQueue, TooLarge, batch, sub_batches
from hpc.serve.context import RequestContext, current_request, get_multiplexed_model_id
from hpc.serve.exceptions import RayServeException


def item(value: Any = 0, model: str = "", shape: tuple[str, ...] = ("x",)) -> BatchItem:
    future = SimpleNamespace(cancelled=lambda: False)
    return BatchItem((value,), shape, future, RequestContext(multiplexed_model_id=model))


def sizes(items: Any) -> int:
    return sum(one.arguments[0] for one in items)


def test_a_full_batch_goes_at_once_and_the_rest_waits_for_its_time() -> None:
    queue = BatchQueue(3, 0.5, 1)
    items = [item(number) for number in range(4)]
    for number, one in enumerate(items):
        queue.put(one, number * 0.1)
    assert queue.take(0.3) == items[:3]
    assert queue.next_at() is None and queue.take(9.0) == []  # one runs
    queue.finished()
    assert queue.next_at() == pytest.approx(0.8)
    assert queue.take(0.79) == []
    assert queue.take(0.8) == items[3:]


def test_calls_gather_while_as_many_batches_run_as_may() -> None:
    queue = BatchQueue(10, 0.0, 2)
    for at in range(2):
        queue.put(item(), at)
        assert len(queue.take(at)) == 1
    for _ in range(7):
        queue.put(item(), 2.0)
    assert queue.take(2.0) == []
    queue.finished()
    assert len(queue.take(2.0)) == 7


def test_batches_are_as_large_as_the_users_function_says() -> None:
    queue = BatchQueue(10, 0.0, 9, sizes)
    for size in (4, 5, 3, 10, 1):
        queue.put(item(size), 0.0)
    taken = [[one.arguments[0] for one in queue.take(0.0)] for _ in range(4)]
    assert taken == [[4, 5], [3], [10], [1]]


def test_one_that_is_larger_than_a_batch_is_to_blame() -> None:
    queue = BatchQueue(10, 0.0, 1, sizes)
    queue.put(item(11), 0.0)
    with pytest.raises(TooLarge):
        queue.take(0.0)
    assert queue.drop_first().arguments == (11,)


def test_calls_for_other_models_and_parameters_are_batches_of_their_own() -> None:
    found = sub_batches([item(1, "a"), item(2, "b"), item(3, "a"), item(4, "a", ("x", "y"))])
    assert [[one.arguments[0] for one in part] for part in found] == [[1, 3], [2], [4]]


@given(
    st.integers(1, 5), st.floats(0.0, 1.0), st.integers(1, 3),
    st.lists(st.tuples(st.sampled_from(["put", "take", "end"]), st.floats(0.0, 0.5)), max_size=60),
)  # fmt: skip
def test_any_course_keeps_order_sizes_and_times(
    size: int, wait_s: float, most: int, course: list[tuple[str, float]]
) -> None:
    queue, now, put, got = BatchQueue(size, wait_s, most), 0.0, [], []
    for what, passed in course:
        now += passed
        if what == "put":
            put.append(item(len(put)))
            queue.put(put[-1], now)
        elif what == "end" and queue.running:
            queue.finished()
        found = queue.take(now)
        if found:
            assert len(found) == size or now >= found[0].put_at + wait_s
            got += found
        at = queue.next_at()
        if at is not None:
            assert len(queue) and queue.running < most
        elif len(queue):
            assert queue.running == most
        assert queue.running <= most
    assert got == put[: len(got)] and len(put) == len(got) + len(queue)


# ---------------------------------------------------------------- on an event loop


def test_calls_become_lists_and_results_go_back_in_order() -> None:
    seen: list[list[int]] = []

    @batch(max_batch_size=4, batch_wait_timeout_s=0.001)
    async def double(values: list[int]) -> list[int]:
        seen.append(values)
        return [2 * value for value in values]

    async def run() -> list[int]:
        return await asyncio.gather(*[double(number) for number in range(6)])

    assert asyncio.run(run()) == [0, 2, 4, 6, 8, 10]
    assert seen == [[0, 1, 2, 3], [4, 5]]


def test_methods_and_names_of_parameters() -> None:
    class Model:
        factor = 3

        @batch(max_batch_size=3, batch_wait_timeout_s=10)
        async def both(self, first: list[int], second: list[int]) -> list[int]:
            return [self.factor * a + b for a, b in zip(first, second)]

    async def run() -> list[int]:
        model = Model()
        return await asyncio.gather(model.both(1, 2), model.both(2, second=3), model.both(second=4, first=5))

    assert asyncio.run(run()) == [5, 9, 19]


def test_an_error_of_the_batch_is_that_of_each_call() -> None:
    @batch(max_batch_size=2)
    async def bad(values: list[int]) -> list[int]:
        raise KeyError("no")

    async def run() -> list[Any]:
        return await asyncio.gather(bad(1), bad(2), return_exceptions=True)

    assert [type(error) for error in asyncio.run(run())] == [KeyError, KeyError]


def test_a_list_of_another_length_is_an_error() -> None:
    @batch(max_batch_size=2)
    async def short(values: list[int]) -> list[int]:
        return values[:1]

    async def run() -> list[Any]:
        return await asyncio.gather(short(1), short(2), return_exceptions=True)

    for error in asyncio.run(run()):
        assert isinstance(error, RayServeException)
        assert "input list has length 2 but the returned list has length 1" in str(error)


def test_an_error_of_the_size_function_stops_nobody_else() -> None:
    def size(values: list[Any]) -> int:
        return len(values) if "bad" not in values else int("x")

    @batch(max_batch_size=2, batch_wait_timeout_s=0.0, batch_size_fn=size)
    async def same(values: list[str]) -> list[str]:
        return values

    async def run() -> list[Any]:
        return await asyncio.gather(same("bad"), same("good"), return_exceptions=True)

    error, good = asyncio.run(run())
    assert isinstance(error, ValueError) and good == "good"


def test_an_error_of_the_size_function_is_that_of_the_call_that_brings_it() -> None:
    def size(values: list[Any]) -> int:
        return len(values) if "bad" not in values else int("x")

    @batch(max_batch_size=3, batch_wait_timeout_s=0.01, batch_size_fn=size)
    async def same(values: list[str]) -> list[str]:
        return values

    async def run() -> list[Any]:
        return await asyncio.gather(same("first"), same("bad"), same("last"), return_exceptions=True)

    first, error, last = asyncio.run(run())
    assert (first, last) == ("first", "last") and isinstance(error, ValueError)


def test_a_batch_belongs_to_none_of_its_calls() -> None:
    whose = contextvars.ContextVar("whose", default="nobody")

    @batch(max_batch_size=2)
    async def seen(values: list[str]) -> list[str]:
        return [whose.get()] * len(values)  # what the runtime knows of a call is such a variable too

    async def ask(word: str) -> Any:
        whose.set(word)
        return await seen(word)

    async def run() -> list[str]:
        return await asyncio.gather(*[asyncio.ensure_future(ask(word)) for word in ("one", "other")])

    assert asyncio.run(run()) == ["nobody", "nobody"]


def test_a_batch_of_streams_that_is_cancelled_ends_them_all() -> None:
    @batch(max_batch_size=2)
    async def items(values: list[int]) -> AsyncIterator[list[int]]:
        yield values
        raise asyncio.CancelledError  # as where it awaits what was cancelled

    async def read(value: int) -> list[int]:
        return [number async for number in items(value)]

    async def run() -> list[Any]:
        return await asyncio.wait_for(asyncio.gather(read(1), read(2), return_exceptions=True), 5)

    assert [type(error) for error in asyncio.run(run())] == [asyncio.CancelledError] * 2


def test_streams_end_one_by_one() -> None:
    @batch(max_batch_size=3, batch_wait_timeout_s=10)
    async def count(upto: list[int]) -> AsyncIterator[list[Any]]:
        for number in range(max(upto)):
            yield [number if number < most else StopIteration for most in upto]

    async def read(most: int) -> list[int]:
        return [number async for number in count(most)]

    async def run() -> list[list[int]]:
        return await asyncio.gather(read(1), read(3), read(2))

    assert asyncio.run(run()) == [[0], [0, 1, 2], [0, 1]]


def test_a_cancelled_call_takes_no_place() -> None:
    seen: list[list[int]] = []

    @batch(max_batch_size=2, batch_wait_timeout_s=10)
    async def same(values: list[int]) -> list[int]:
        seen.append(values)
        return values

    async def run() -> None:
        gone = asyncio.ensure_future(same(1))
        await asyncio.sleep(0)
        gone.cancel()
        assert await asyncio.gather(same(2), same(3)) == [2, 3]

    asyncio.run(run())
    assert seen == [[2, 3]]


def test_a_batch_knows_the_model_of_its_requests() -> None:
    @batch(max_batch_size=4, batch_wait_timeout_s=0.001)
    async def model(values: list[int]) -> list[str]:
        return [f"{get_multiplexed_model_id()}:{len(values)}"] * len(values)

    async def ask(ident: str) -> Any:
        current_request.set(RequestContext(multiplexed_model_id=ident))
        return await model(1)

    async def run() -> list[str]:
        return await asyncio.gather(*[asyncio.ensure_future(ask(ident)) for ident in ("a", "b", "a")])

    assert asyncio.run(run()) == ["a:2", "b:1", "a:2"]


def test_settings_are_changed_while_calls_wait() -> None:
    @batch(max_batch_size=10, batch_wait_timeout_s=100)
    async def same(values: list[int]) -> list[int]:
        return values

    async def run() -> list[int]:
        calls = asyncio.gather(same(1), same(2))
        await asyncio.sleep(0)
        same.set_max_batch_size(2)
        return await calls

    assert asyncio.run(run()) == [1, 2]
    assert same._get_max_batch_size() == 2
    again = cloudpickle.loads(cloudpickle.dumps(same))
    assert asyncio.run(_first(again)) == [5, 6]


async def _first(function: Any) -> Any:
    return await asyncio.gather(function(5), function(6))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_batch_size": 0}, ValueError),
        ({"max_batch_size": 1.5}, TypeError),
        ({"batch_wait_timeout_s": -1}, ValueError),
        ({"batch_wait_timeout_s": "1"}, TypeError),
        ({"max_concurrent_batches": 0}, TypeError),
        ({"batch_size_fn": 3}, TypeError),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        batch(**options)


def test_only_coroutine_functions_are_decorated() -> None:
    with pytest.raises(TypeError, match="'async def'"):
        batch(lambda values: values)

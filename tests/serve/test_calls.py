"""Calls of deployments through handles, with real replicas and no controller."""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import hpc
from hpc import cloudpickle
from hpc.exceptions import TaskCancelledError
from hpc.serve import context
from hpc.serve.batching import batch
from hpc.serve.config import RequestRouterConfig
from hpc.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    RequestCancelledError,
    RequestTimeoutError,
)
from hpc.serve.handle import DeploymentHandle
from hpc.serve.messages import RequestMeta, packed_meta
from hpc.serve.multiplex import get_multiplexed_model_id, multiplexed
from hpc.serve.request_router import PowerOfTwoChoicesRequestRouter, RequestRouter
from tests.serve.by_hand import ByHand


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    hpc.init(num_cpus=4)
    yield
    hpc.shutdown()


@hpc.remote(num_cpus=0)
class Board:
    """Where replicas write what they do, and wait until a test lets them go on."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.news = asyncio.Event()
        self.is_open = asyncio.Event()

    async def say(self, word: str) -> None:
        self.words.append(word)
        self.news.set()

    async def heard(self, *words: str) -> list[str]:
        """Once all these words were said."""
        while not set(words) <= set(self.words):
            self.news.clear()
            await self.news.wait()
        return self.words

    async def opened(self) -> None:
        await self.is_open.wait()

    async def open(self) -> None:
        self.is_open.set()


class Echo:
    def __init__(self, board: Any = None, factor: int = 1) -> None:
        self.board = board
        self.factor = factor

    def __call__(self, value: Any = None, *, plus: Any = None) -> Any:
        return value if plus is None else value + plus

    async def later(self, value: Any) -> Any:
        await asyncio.sleep(0)
        return value

    async def pid(self) -> int:
        return os.getpid()

    def fails(self) -> None:
        raise KeyError("not here")

    def thread(self) -> bool:
        return threading.current_thread() is threading.main_thread()

    def items(self, count: int) -> Iterator[int]:
        yield from range(count)

    async def slow_items(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number
        raise ValueError("at the end")

    async def endless(self) -> AsyncIterator[int]:
        try:
            number = 0
            while True:
                yield number
                number += 1
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            await self.board.say.remote("stream cancelled")
            raise

    async def waits(self, name: str = "") -> str:
        """Until the board is open."""
        try:
            await self.board.say.remote(f"began {name}")  # the test may cancel this before it has returned
            await self.board.opened.remote()
        except asyncio.CancelledError:
            await self.board.say.remote(f"cancelled {name}")
            raise
        return name

    async def facts(self) -> tuple[Any, ...]:
        here = context.get_replica_context()
        return here.deployment, here.app_name, here.replica_tag, context.current_request.get().request_id


def heard(board: Any, *words: str) -> list[str]:
    found: list[str] = hpc.get(board.heard.remote(*words), timeout=20)
    return found


def test_values_methods_and_keywords() -> None:
    handle = ByHand(Echo, name="values").handle
    assert handle.remote(3).result(timeout_s=20) == 3
    assert handle.remote(3, plus=4).result() == 7
    assert handle.later.remote({"a": [1]}).result() == {"a": [1]}
    assert handle.options(method_name="later").remote(b"x" * 300_000).result() == b"x" * 300_000
    assert handle.thread.remote().result() is False
    assert handle.remote(hpc.put(5)).result() == 5  # references at the top level are resolved


def test_a_function_is_a_deployment() -> None:
    def double(value: int) -> int:
        return 2 * value

    assert ByHand(double).handle.remote(4).result(timeout_s=20) == 8


def test_errors_of_users_are_raised_as_themselves() -> None:
    handle = ByHand(Echo, name="errors").handle
    with pytest.raises(KeyError, match="not here") as caught:
        handle.fails.remote().result(timeout_s=20)
    assert isinstance(caught.value, hpc.exceptions.RayTaskError)
    with pytest.raises(RayServeException, match="'missing' that does not exist"):
        handle.missing.remote().result()
    with pytest.raises(TypeError, match="returned a generator"):
        handle.items.remote(2).result()
    with pytest.raises(TypeError, match="did not return a generator"):
        list(handle.options(stream=True).later.remote(2))


def test_in_a_loop_responses_are_awaited() -> None:
    handle = ByHand(Echo, name="loops").handle

    async def run() -> list[int]:
        response = handle.remote(1)
        with pytest.raises(RuntimeError, match="await response"):
            response.result()
        with pytest.raises(RuntimeError, match="async for"):
            next(handle.options(stream=True).items.remote(2))
        return [await response, *await asyncio.gather(*[handle.later.remote(number) for number in range(20)])]

    assert asyncio.run(run()) == [1, *range(20)]


def test_a_response_is_waited_for_no_longer_than_said() -> None:
    board = Board.remote()
    deployment = ByHand(Echo, board, name="patience", max_ongoing_requests=1)
    running = deployment.handle.waits.remote("one")
    queued = deployment.handle.waits.remote("two")
    for response in (running, queued):
        with pytest.raises(TimeoutError):
            response.result(timeout_s=0.05)
    late = deployment.handle.options(timeout_s=0.1).remote(1)
    with pytest.raises(RequestTimeoutError):
        late.result(timeout_s=20)
    board.open.remote()
    assert [running.result(timeout_s=20), queued.result(timeout_s=20)] == ["one", "two"]


def test_streams() -> None:
    handle = ByHand(Echo, name="streams").handle.options(stream=True)
    assert list(handle.items.remote(300)) == list(range(300))
    stream = handle.slow_items.remote(3)
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="at the end"):
        next(stream)

    async def run() -> list[int]:
        return [number async for number in handle.items.remote(5)]

    assert asyncio.run(run()) == [0, 1, 2, 3, 4]
    with pytest.raises(TypeError, match=r"doesn't support `\.result\(\)`"):
        stream.result()


def test_a_stream_that_is_cancelled_ends_in_the_replica() -> None:
    board = Board.remote()
    handle = ByHand(Echo, board, name="broken", max_ongoing_requests=1).handle
    stream = handle.options(stream=True).endless.remote()
    assert next(stream) == 0
    stream.cancel()
    heard(board, "stream cancelled")
    with pytest.raises(TaskCancelledError):
        list(stream)
    assert handle.remote(1).result(timeout_s=20) == 1  # the replica has room again


def test_a_stream_that_is_read_in_part_gives_its_place_back() -> None:
    board = Board.remote()
    handle = ByHand(Echo, board, name="in_part", max_ongoing_requests=1).handle
    for number in handle.options(stream=True).endless.remote():
        if number == 3:
            break
    assert handle.remote(1).result(timeout_s=20) == 1

    async def run() -> None:
        async for number in handle.options(stream=True).endless.remote():
            if number == 3:
                break
        assert await asyncio.wait_for(_value(handle.remote(2)), 20) == 2

    asyncio.run(run())


async def _value(response: Any) -> Any:
    return await response


class Chain:
    def __init__(self, handle: DeploymentHandle) -> None:
        self.handle = handle

    async def __call__(self, value: int) -> int:
        first = self.handle.remote(value, plus=1)
        return await self.handle.remote(first, plus=self.handle.remote(10))

    async def waits(self, name: str) -> str:
        return await self.handle.waits.remote(name)

    async def waits_with(self, name: str, count: int) -> list[str]:
        return await asyncio.gather(*[self.handle.waits.remote(f"{name}{number}") for number in range(count)])

    async def ids(self) -> tuple[Any, ...]:
        mine = context.current_request.get().request_id
        return mine, (await self.handle.facts.remote())[3]


def test_composition() -> None:
    inner = ByHand(Echo, name="inner")
    outer = ByHand(Chain, inner.handle, name="outer")
    assert outer.handle.remote(1).result(timeout_s=20) == 12
    mine, inners = outer.handle.ids.remote().result()
    assert mine and mine == inners
    name, app, tag, _ = inner.handle.facts.remote().result()
    assert (name, app) == ("inner", "app") and tag in inner.actors


def test_responses_are_arguments_and_fail_as_such() -> None:
    handle = ByHand(Echo, name="arguments").handle
    assert handle.remote(handle.remote(2), plus=handle.remote(3)).result(timeout_s=20) == 5
    with pytest.raises(KeyError):
        handle.remote(handle.fails.remote()).result(timeout_s=20)
    with pytest.raises(RayServeException, match="top level arguments"):
        handle.remote([handle.remote(1)]).result(timeout_s=20)
    with pytest.raises(RuntimeError, match="cannot be passed"):
        handle.remote(handle.options(stream=True).items.remote(2))
    ref = handle.remote(7)._to_object_ref_sync()
    assert hpc.get(ref) == 7


def test_a_handle_travels() -> None:
    handle = ByHand(Echo, name="travels").handle.options(method_name="later")
    again = pickle.loads(pickle.dumps(handle))
    assert again.remote(4).result(timeout_s=20) == 4

    @hpc.remote(num_cpus=0)
    def ask(handle: Any) -> Any:
        return handle.remote(5).result(timeout_s=20)

    assert hpc.get(ask.remote(handle)) == 5


def test_what_waits_is_cancelled_before_it_is_sent() -> None:
    board = Board.remote()
    handle = ByHand(Echo, board, name="queue", max_ongoing_requests=1).handle
    running, queued = handle.waits.remote("first"), handle.waits.remote("second")
    heard(board, "began first")
    queued.cancel()
    assert queued.cancelled()
    with pytest.raises(RequestCancelledError):
        queued.result(timeout_s=20)
    board.open.remote()
    assert running.result(timeout_s=20) == "first"
    assert handle.waits.remote("third").result(timeout_s=20) == "third"
    assert "began second" not in heard(board, "began third")


def test_cancelling_goes_down_the_tree() -> None:
    board = Board.remote()
    inner = ByHand(Echo, board, name="leaf", max_ongoing_requests=2)
    outer = ByHand(Chain, inner.handle, name="root")
    response = outer.handle.waits_with.remote("n", 4)
    heard(board, "began n0", "began n1")
    response.cancel()
    with pytest.raises(TaskCancelledError):
        response.result(timeout_s=20)
    words = heard(board, "cancelled n0", "cancelled n1")
    board.open.remote()
    assert inner.handle.waits.remote("after").result(timeout_s=20) == "after"
    assert "began n2" not in words and "began n3" not in heard(board, "began after")


def test_a_full_replica_rejects_and_the_request_waits_for_its_turn() -> None:
    board = Board.remote()
    deployment = ByHand(Echo, board, name="full", max_ongoing_requests=1)
    (actor,) = deployment.actors.values()
    others = actor.call.remote(
        packed_meta(RequestMeta("other", "waits")), "other"
    )  # a caller of which this router does not know
    heard(board, "began other")
    mine = deployment.handle.remote(1)
    with pytest.raises(TimeoutError):
        mine.result(timeout_s=0.2)
    board.open.remote()
    assert mine.result(timeout_s=20) == 1
    assert hpc.get(others) == "other"


def test_a_queue_that_is_full_says_so() -> None:
    board = Board.remote()
    handle = ByHand(Echo, board, name="pressure", max_ongoing_requests=1, max_queued_requests=2).handle
    assert handle.remote(1).result(timeout_s=20) == 1
    kept = [handle.waits.remote(str(number)) for number in range(3)]
    refused = handle.waits.remote("refused")
    with pytest.raises(BackPressureError, match="num_queued_requests=2, max_queued_requests=2") as caught:
        refused.result(timeout_s=20)
    assert (caught.value.status_code, caught.value.retry_after_s) == (429, 3.0)
    board.open.remote()
    assert [response.result(timeout_s=20) for response in kept] == ["0", "1", "2"]


def test_replicas_come_and_go() -> None:
    deployment = ByHand(Echo, name="growing", replicas=0)
    waiting = [deployment.handle.pid.remote() for _ in range(4)]
    first = deployment.add()
    deployment.push()
    assert {response.result(timeout_s=20) for response in waiting} == {deployment.pids[first]}
    second = deployment.add()
    old = deployment.actors.pop(first)
    deployment.push()
    assert hpc.get(old.drain.remote(0.0, 5.0))
    pids = {deployment.handle.pid.remote().result(timeout_s=20) for _ in range(5)}
    assert pids == {deployment.pids[second]}


def test_a_draining_replica_ends_what_it_has_and_takes_nothing() -> None:
    board = Board.remote()
    deployment = ByHand(Echo, board, name="drains", replicas=2)
    names = list(deployment.actors)
    responses = [deployment.handle.waits.remote(str(number)) for number in range(4)]
    heard(board, *[f"began {number}" for number in range(4)])
    drained = deployment.actors[names[0]].drain.remote(0.0, 20.0)
    pids = {deployment.handle.pid.remote().result(timeout_s=20) for _ in range(20)}
    assert pids == {deployment.pids[names[1]]}  # the table has both still
    assert hpc.wait([drained], timeout=0.1)[0] == []
    board.open.remote()
    assert [response.result(timeout_s=20) for response in responses] == ["0", "1", "2", "3"]
    assert hpc.get(drained, timeout=20) is True


def test_a_deployment_that_is_gone_takes_no_requests() -> None:
    deployment = ByHand(Echo, name="gone", replicas=0)
    waiting = deployment.handle.remote(1)
    deployment.push(is_deleted=True)
    with pytest.raises(DeploymentUnavailableError, match="it was deleted"):
        waiting.result(timeout_s=20)
    with pytest.raises(DeploymentUnavailableError):
        deployment.handle.remote(1).result(timeout_s=20)
    deployment.push(is_available=False)
    with pytest.raises(DeploymentUnavailableError, match="failed to deploy"):
        _until(lambda: deployment.handle.remote(1).result(timeout_s=20), "failed to deploy")


def _until(ask: Any, text: str) -> None:
    """Ask until the error has this text, since the table is underway; raises it then."""
    until = time.monotonic() + 20
    while True:
        try:
            ask()
        except DeploymentUnavailableError as error:
            if text in str(error) or time.monotonic() > until:
                raise


def test_broadcasts_reach_all() -> None:
    deployment = ByHand(Echo, name="all", replicas=3)
    assert set(deployment.handle.broadcast("pid").results(timeout_s=20)) == set(deployment.pids.values())
    with pytest.raises(KeyError):
        deployment.handle.broadcast("fails").results(timeout_s=20)
    found = deployment.handle.broadcast("fails").results(return_exceptions=True)
    assert [isinstance(error, KeyError) for error in found] == [True] * 3
    assert len(asyncio.run(deployment.handle.broadcast("pid").results_async())) == 3


def test_a_broadcast_is_sent_with_the_first_table() -> None:
    deployment = ByHand(Echo, name="sooner", replicas=2)
    early = DeploymentHandle("later", "app").broadcast("pid")
    never = DeploymentHandle("never", "app").broadcast("pid")
    with pytest.raises(TimeoutError):
        early.results(timeout_s=0.05)
    later = ByHand(Echo, name="later", replicas=2)
    assert set(early.results(timeout_s=20)) == set(later.pids.values()) != set(deployment.pids.values())
    gone = ByHand(Echo, name="never")
    gone.push(is_deleted=True)
    with pytest.raises(DeploymentUnavailableError):  # it was there for a moment, or was never seen
        DeploymentHandle("never", "app").broadcast("pid").results(timeout_s=20)
    assert len(never.results(timeout_s=20, return_exceptions=True)) == 1


def test_a_handle_that_is_shut_down_leaves_others_alone() -> None:
    board = Board.remote()
    ByHand(Echo, board, name="shared", max_ongoing_requests=1)
    one, other = DeploymentHandle("shared", "app"), DeploymentHandle("shared", "app")
    runs = one.waits.remote("runs")
    heard(board, "began runs")
    mine, others = one.later.remote(1), other.later.remote(2)
    one.shutdown()
    with pytest.raises(RayServeException, match="shut down"):
        mine.result(timeout_s=20)
    for made in (one.later, one.options(method_name="later"), one.slow_items.options(stream=True)):
        found = made.remote(3)
        with pytest.raises(RayServeException, match="shut down"):
            next(iter(found)) if hasattr(found, "__next__") else found.result(timeout_s=20)
    hpc.get(board.open.remote())
    assert (runs.result(timeout_s=20), others.result(timeout_s=20)) == ("runs", 2)
    assert other.later.remote(4).result(timeout_s=20) == 4
    assert pickle.loads(pickle.dumps(one)).later.remote(5).result(timeout_s=20) == 5


class Batched:
    def __init__(self) -> None:
        self.sizes: list[int] = []

    @batch(max_batch_size=4, batch_wait_timeout_s=5.0)
    async def __call__(self, values: list[int]) -> list[int]:
        self.sizes.append(len(values))
        return [value * 2 for value in values]

    async def seen(self) -> list[int]:
        return self.sizes


def test_batches_in_a_replica() -> None:
    handle = ByHand(Batched, max_ongoing_requests=8).handle
    assert [response.result(timeout_s=20) for response in [handle.remote(n) for n in range(8)]] == list(range(0, 16, 2))
    assert handle.seen.remote().result() == [4, 4]


class Many:
    def __init__(self) -> None:
        self.loads: list[str] = []

    @multiplexed(max_num_models_per_replica=2)
    async def model(self, ident: str) -> str:
        self.loads.append(ident)
        await asyncio.sleep(0.01)
        return ident.upper()

    async def __call__(self) -> str:
        return await self.model(get_multiplexed_model_id())

    async def loaded(self) -> list[str]:
        return self.loads


def test_models_are_loaded_once_and_unloaded_when_there_are_too_many() -> None:
    handle = ByHand(Many, max_ongoing_requests=20).handle
    responses = [handle.options(multiplexed_model_id=ident).remote() for ident in "aabab"]
    assert [response.result(timeout_s=20) for response in responses] == list("AABAB")
    for ident in "aca":
        handle.options(multiplexed_model_id=ident).remote().result()
    assert handle.options(multiplexed_model_id="b").remote().result() == "B"
    assert handle.loaded.remote().result() == ["a", "b", "c", "b"]


def test_sessions_and_models_stay_with_a_replica() -> None:
    deployment = ByHand(Echo, name="sticky", replicas=3, max_ongoing_requests=50)
    for options in ({"session_id": "s1"}, {"multiplexed_model_id": "m1"}):
        handle = deployment.handle.options(**options)
        pids = {response.result(timeout_s=20) for response in [handle.pid.remote() for _ in range(15)]}
        assert len(pids) == 1


class ByName(RequestRouter):
    """Takes the replica of the rank that a request's session names; keeps what it was told."""

    def initialize_state(self, **kwargs: Any) -> None:
        self.suffix = kwargs["suffix"]
        self.routed: list[str] = []

    async def choose_replicas(self, candidate_replicas: list[Any], pending_request: Any = None) -> list[list[Any]]:
        await asyncio.sleep(0)
        ranked = sorted(candidate_replicas, key=lambda one: int(one.replica_id.unique_id[1:]))
        wanted = pending_request.metadata.session_id
        if not wanted.endswith(self.suffix):
            raise ValueError(f"no session of ours: {wanted!r}")
        return [[ranked[int(wanted[:-1]) % len(ranked)]]] if ranked else []

    def on_request_routed(self, pending_request: Any, replica_id: Any, result: Any) -> None:
        self.routed.append(replica_id.unique_id)


def test_a_router_of_the_user_chooses() -> None:
    config = RequestRouterConfig(request_router_class=ByName, request_router_kwargs={"suffix": "x"})
    deployment = ByHand(Echo, name="custom", replicas=0, max_ongoing_requests=2, router=cloudpickle.dumps(config))
    early = deployment.handle.options(session_id="1x").pid.remote()
    names = [deployment.add() for _ in range(3)]
    deployment.push()
    assert early.result(timeout_s=20) == deployment.pids[names[1]]
    for number, name in enumerate(names):
        handle = deployment.handle.options(session_id=f"{number}x")
        responses = [handle.pid.remote() for _ in range(6)]  # more than it takes at a time
        assert {response.result(timeout_s=20) for response in responses} == {deployment.pids[name]}
    with pytest.raises(ValueError, match="no session of ours"):
        deployment.handle.options(session_id="other").remote(1).result(timeout_s=20)


class Unmade(RequestRouter):
    def initialize_state(self, **kwargs: Any) -> None:
        raise KeyError("it cannot be made")


class Fails(RequestRouter):
    def update_replicas(self, replicas: list[Any]) -> None:
        raise KeyError("it takes none")

    async def choose_replicas(self, candidate_replicas: list[Any], pending_request: Any = None) -> list[list[Any]]:
        return [candidate_replicas]


@pytest.mark.parametrize("cls", [Unmade, Fails])
def test_a_router_of_the_user_that_fails_ends_nobody(cls: Any) -> None:
    config = RequestRouterConfig(request_router_class=cls)
    deployment = ByHand(Echo, name=cls.__name__, replicas=2, router=cloudpickle.dumps(config))
    assert [deployment.handle.remote(number).result(timeout_s=20) for number in range(5)] == list(range(5))


def test_the_router_of_two_choices_can_be_derived_from() -> None:
    config = RequestRouterConfig(request_router_class=Derived)
    deployment = ByHand(Echo, name="derived", replicas=2, max_ongoing_requests=5, router=cloudpickle.dumps(config))
    responses = [deployment.handle.pid.remote() for _ in range(30)]
    assert {response.result(timeout_s=20) for response in responses} == set(deployment.pids.values())
    handle = deployment.handle.options(multiplexed_model_id="m")
    assert len({handle.pid.remote().result(timeout_s=20) for _ in range(10)}) == 1


class Derived(PowerOfTwoChoicesRequestRouter):
    """As it is."""

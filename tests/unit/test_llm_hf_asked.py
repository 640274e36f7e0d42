"""What transformers is asked for, by a manager that stands in for its own: no request may end its loop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hpc.serve.llm.engine import Delta, TokenRequest
from hpc.serve.llm.hf import HfEngine


class Manager:
    """Keeps what it is asked for, and answers nothing."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def is_running(self) -> bool:
        return True

    def register_result_handler(self, request_id: str, handler: Any) -> None:
        handler(type("Output", (), {"error": "enough"}))

    def add_request(self, tokens: list[int], **options: Any) -> None:
        self.asked.append(options)


@pytest.mark.parametrize(
    ("temperature", "top_k", "expected"),
    [(0, 0, (1.0, 1)), (1, 0, (1.0, 50)), (1e-300, 7, (0.01, 7)), (0.5, 10**6, (0.5, 50)), (2, 2**40, (2.0, 50))],
)
def test_what_is_sampled_stays_in_bounds(temperature: float, top_k: int, expected: tuple[float, int]) -> None:
    async def run() -> None:
        engine, manager = HfEngine("m", "m"), Manager()
        engine._manager, engine._vocab, engine._context = manager, 50, 100
        request = TokenRequest(id="a", tokens=[1], max_tokens=2, temperature=temperature, top_k=top_k)
        async for delta in engine.generate(request):
            assert delta.error == "enough"
        (asked,) = manager.asked
        assert (asked["temperature"], asked["top_k"]) == expected
        assert all(type(asked[name]) is kind for name, kind in (("temperature", float), ("top_k", int)))

    asyncio.run(run())


class Quiet(Manager):
    """Runs until it is told otherwise, and never answers."""

    runs = True

    def is_running(self) -> bool:
        return self.runs

    def register_result_handler(self, request_id: str, handler: Any) -> None:
        """Nothing comes."""

    def cancel_request(self, request_id: str) -> None:
        """Nothing runs."""


class Others:
    """Stands in for the other ranks."""

    def __init__(self) -> None:
        self.woken = 0
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def wake(self) -> None:
        self.woken += 1

    async def lost(self) -> str:
        return await asyncio.shield(self.ended)


def asking(engine: HfEngine, name: str) -> asyncio.Task[list[Delta]]:
    async def ask() -> list[Delta]:
        request = TokenRequest(id=name, tokens=[1], max_tokens=2)
        return [delta async for delta in engine.generate(request)]

    return asyncio.create_task(ask())


def test_the_first_request_wakes_the_other_ranks_and_the_end_of_one_ends_all() -> None:
    async def run() -> None:
        others: Any = Others()
        engine = HfEngine("m", "m")
        engine._manager, engine._ranks, engine._vocab, engine._context = Quiet(), others, 50, 100
        lost = asyncio.create_task(engine.lost())
        asked = [asking(engine, name) for name in "ab"]
        while len(engine._manager.asked) < 2:
            await asyncio.sleep(0)
        assert others.woken == 1 and not lost.done()
        others.ended.set_result("rank 1 has ended")
        assert await lost == "rank 1 has ended"
        for deltas in await asyncio.gather(*asked):
            assert [(one.finish, one.error) for one in deltas] == [("error", "rank 1 has ended")]
        await engine.drain()

    asyncio.run(run())


def test_a_loop_that_has_ended_is_told() -> None:
    async def run() -> None:
        engine, manager = HfEngine("m", "m"), Quiet()
        engine._manager, engine._context = manager, 100
        asked = asking(engine, "a")
        while not manager.asked:
            await asyncio.sleep(0)
        manager.runs = False
        assert "loop has ended" in await engine.lost()
        assert [one.finish for one in await asked] == ["error"]

    asyncio.run(run())

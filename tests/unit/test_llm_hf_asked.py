"""What transformers is asked for, by a manager that stands in for its own: no request may end its loop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hpc.serve.llm.engine import TokenRequest
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

"""What vLLM is asked for and how its answers are read, by a module that stands in for it."""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import AsyncIterator
from contextlib import aclosing
from types import SimpleNamespace as Made
from typing import Any

import pytest

from hpc.serve.llm import models
from hpc.serve.llm.config import LLMConfig
from hpc.serve.llm.engine import EngineError, NotOffered, TokenRequest
from hpc.serve.llm.vllm import VllmEngine


class StandIn:
    """vLLM's AsyncLLM as far as it is used: it says the numbers from 10 on, until it has said enough."""

    def __init__(self) -> None:
        self.aborted: list[str] = []
        self.asked: list[Any] = []
        self.is_well = True
        cache = Made(num_gpu_blocks=8, block_size=16)
        model = Made(max_model_len=512, get_vocab_size=lambda: 1000)
        self.vllm_config = Made(cache_config=cache, model_config=model, scheduler_config=Made(max_num_seqs=7))

    async def generate(self, prompt: Any, params: Any, request_id: str, *, priority: int) -> AsyncIterator[Any]:
        self.asked.append((prompt, params, request_id, priority))
        for number in range(params.max_tokens):
            token = 10 + number
            is_stop = token in params.stop_token_ids
            is_last = number + 1 == params.max_tokens
            logprobs = [{token: Made(logprob=-2.0), 5: Made(logprob=-1.0), 6: Made(logprob=-3.0)}]
            ending = "stop" if is_stop else "length" if is_last else None
            own = Made(token_ids=[token], logprobs=logprobs if params.logprobs else None, finish_reason=ending)
            yield Made(outputs=[own], num_cached_tokens=3)
            if ending:
                return

    async def abort(self, request_id: str) -> None:
        self.aborted.append(request_id)

    async def check_health(self) -> None:
        if not self.is_well:
            raise RuntimeError("its process has ended")

    def shutdown(self) -> None:
        self.is_well = False


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    kinds = Made(DELTA="delta")
    modules = {
        "vllm": {"AsyncEngineArgs": lambda **kwargs: kwargs},
        "vllm.v1": {},
        "vllm.v1.engine": {},
        "vllm.v1.engine.async_llm": {"AsyncLLM": Made(from_engine_args=lambda args: stand_in)},
        "vllm.inputs": {"TokensPrompt": dict},
        "vllm.sampling_params": {"SamplingParams": Made, "RequestOutputKind": kinds},
    }
    for name, values in modules.items():
        module = types.ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
    return stand_in


def test_requests_and_answers(own: StandIn) -> None:
    async def run() -> None:
        engine = VllmEngine("m", "org/m", {"tensor_parallel_size": 2})
        info = await engine.start()
        assert (info.context_length, info.vocab_size, info.max_batch, info.kv_tokens) == (512, 1000, 7, 128)
        request = TokenRequest(
            id="a", tokens=[1, 2], max_tokens=9, seed=4, stop_tokens=frozenset({13}), logprobs=2, priority=3
        )
        deltas = [delta async for delta in engine.generate(request)]
        assert [delta.tokens for delta in deltas] == [[10], [11], [12], []]
        assert [delta.finish for delta in deltas] == [None, None, None, "stop"]
        assert sum(delta.count for delta in deltas) == 4
        assert deltas[0].cached == 3
        told = deltas[0].logprobs
        assert told is not None and told[0].logprob == -2.0
        assert told[0].top == ((5, -1.0), (10, -2.0))
        prompt, params, name, priority = own.asked[0]
        assert (prompt, name, priority) == ({"prompt_token_ids": [1, 2]}, "a", -3)
        assert (params.seed, params.stop_token_ids, params.output_kind) == (4, [13], "delta")
        assert own.aborted == []
        await engine.drain()
        await engine.stop()

    asyncio.run(run())


def test_one_that_is_left_is_aborted(own: StandIn) -> None:
    async def run() -> None:
        engine = VllmEngine("m", "org/m", {})
        await engine.start()
        async with aclosing(engine.generate(TokenRequest(id="a", tokens=[1], max_tokens=9))) as deltas:
            async for _ in deltas:
                assert engine.stats().running == 1
                break
        assert own.aborted == ["a"]
        await engine.drain()
        with pytest.raises(NotOffered, match="adapters"):
            await anext(engine.generate(TokenRequest(id="b", tokens=[1], max_tokens=9, adapter="x")))
        own.is_well = False
        with pytest.raises(EngineError, match="its process has ended"):
            await engine.check_health()

    asyncio.run(run())


@pytest.mark.parametrize("ends", [[1, 106], 106, None])
def test_the_models_own_ends_stop_it_too(own: StandIn, monkeypatch: pytest.MonkeyPatch, ends: Any) -> None:
    found: list[Any] = []

    def load(source: str, ends: frozenset[int] = frozenset(), **options: Any) -> Made:
        found.append((source, {name: value for name, value in options.items() if value is not None}))
        return Made(ends=ends or frozenset({1}))

    monkeypatch.setattr(models, "load_tokenizer", load)
    own.vllm_config.model_config.try_get_generation_config = lambda: {} if ends is None else {"eos_token_id": ends}

    async def run() -> None:
        for kwargs in ({"revision": "v1"}, {"tokenizer": "org/t"}):
            loading = {"model_id": "m", "model_source": "org/m"}
            model = models.model_of(LLMConfig(model_loading_config=loading, engine_kwargs=kwargs))
            await model.start()
            assert model._tokenizer.ends == ({1} if ends is None else {1, 106})  # type: ignore[attr-defined]

    asyncio.run(run())
    assert found == [("org/m", {"revision": "v1"}), ("org/t", {})]


def test_without_vllm_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(EngineError, match="pip install vllm"):
        asyncio.run(VllmEngine("m", "org/m", {}).start())

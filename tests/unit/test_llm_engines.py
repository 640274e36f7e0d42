"""What all engines keep, whatever they are: one test for the toy, transformers, and vLLM where it is installed."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from examples import tiny_llama
from hpc.serve.llm.engine import Engine, EngineError, EngineInfo, NotOffered, TokenRequest, TooLong
from hpc.serve.llm.toy import ToyEngine, expected

PROMPTS = [[*f"number {n} ".encode(), *b"x" * n] for n in range(16)]
#: An engine, and what it must answer greedily to a prompt.
Made = tuple[Callable[[], Engine], Callable[[list[int], int], list[int]]]


def toy(folder: Path) -> Made:
    def answer(prompt: list[int], most: int) -> list[int]:
        return expected(TokenRequest(id="", tokens=prompt, max_tokens=most, temperature=0))

    return ToyEngine, answer


def transformers(folder: Path) -> Made:
    pytest.importorskip("torch", reason="the engine 'hf' needs torch")
    pytest.importorskip("transformers", reason="the engine 'hf' needs transformers")
    import torch

    from hpc.serve.llm.hf import HfConfig, HfEngine

    model = tiny_llama.save(folder)

    def answer(prompt: list[int], most: int) -> list[int]:
        with torch.no_grad():
            made = model.generate(
                torch.tensor([prompt]), max_new_tokens=most, min_new_tokens=most, do_sample=False, pad_token_id=0
            )
        return [int(token) for token in made[0][len(prompt) :]]

    config = HfConfig(device="cpu", num_blocks=64, max_batch_tokens=256, max_memory=0.1)
    return lambda: HfEngine("tiny", str(folder), config), answer


def vllm(folder: Path) -> Made:
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed here")
    from hpc.serve.llm.vllm import VllmEngine

    made = transformers(folder)
    return lambda: VllmEngine("tiny", str(folder), {"enforce_eager": True, "max_model_len": 512}), made[1]


@pytest.fixture(scope="module", params=[toy, transformers, vllm], ids=["toy", "hf", "vllm"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    made: Made = request.param(tmp_path_factory.mktemp("model"))
    return made


def run(made: Made, use: Callable[[Engine, EngineInfo], Awaitable[None]]) -> None:
    """Use an engine; at the end it is idle, and holds no memory."""

    async def body() -> None:
        engine = made[0]()
        info = await engine.start()
        try:
            await use(engine, info)
            await asyncio.wait_for(engine.drain(), 60)
            while engine.stats().kv_used:
                await asyncio.sleep(0.01)
            assert engine.stats().running == 0
        finally:
            await engine.stop()
        with pytest.raises(EngineError):
            await engine.check_health()

    asyncio.run(body())


async def tokens_of(engine: Engine, name: str, prompt: list[int], most: int, **more: Any) -> tuple[list[int], str]:
    tokens: list[int] = []
    finish, count = "", 0
    request = TokenRequest(id=name, tokens=prompt, max_tokens=most, **{"temperature": 0, **more})
    async with aclosing(engine.generate(request)) as deltas:
        async for delta in deltas:
            assert not finish, "nothing comes behind the end"
            tokens += delta.tokens
            count += delta.count
            finish = delta.finish or ""
    assert len(tokens) <= count <= len(tokens) + 1
    return tokens, finish


def test_sixteen_at_once_get_what_each_gets_alone(made: Made) -> None:
    async def use(engine: Engine, info: EngineInfo) -> None:
        answers = await asyncio.gather(
            *(tokens_of(engine, str(n), prompt, 30) for n, prompt in enumerate(PROMPTS)),
        )
        whole = [made[1](prompt, 30) for prompt in PROMPTS]
        assert [tokens for tokens, _ in answers] == whole
        assert {finish for _, finish in answers} == {"length"}
        assert len({tuple(tokens) for tokens in whole}) > 8

    run(made, use)


def test_a_stop_token_ends_the_text_and_is_not_in_it(made: Made) -> None:
    async def use(engine: Engine, info: EngineInfo) -> None:
        whole = made[1](PROMPTS[3], 20)
        stop = whole[7]
        tokens, finish = await tokens_of(engine, "a", PROMPTS[3], 20, stop_tokens=frozenset({stop}))
        assert (tokens, finish) == (whole[: whole.index(stop)], "stop")

    run(made, use)


def test_one_that_is_left_or_cancelled_gives_its_memory_back(made: Made) -> None:
    async def use(engine: Engine, info: EngineInfo) -> None:
        request = TokenRequest(id="left", tokens=PROMPTS[0], max_tokens=400, temperature=0)
        async with aclosing(engine.generate(request)) as deltas:
            async for delta in deltas:
                assert delta.finish is None
                assert engine.stats().running == 1
                break
        request = TokenRequest(id="cancelled", tokens=PROMPTS[0], max_tokens=400, temperature=0)
        finish = None
        async with aclosing(engine.generate(request)) as deltas:
            async for delta in deltas:
                finish = delta.finish
                if delta.tokens:
                    await engine.cancel("cancelled")
        assert finish == "cancel"
        await engine.cancel("nobody")
        assert (await tokens_of(engine, "after", PROMPTS[1], 5))[0] == made[1](PROMPTS[1], 5)

    run(made, use)


def test_drawn_tokens_are_of_the_vocabulary(made: Made) -> None:
    async def use(engine: Engine, info: EngineInfo) -> None:
        drawn = {"temperature": 1.0, "top_p": 0.9, "top_k": 3}
        tokens, _ = await tokens_of(engine, "a", PROMPTS[0], 20, **drawn)
        assert len(tokens) == 20
        assert all(0 <= token < info.vocab_size for token in tokens)
        only, _ = await tokens_of(engine, "b", PROMPTS[0], 20, temperature=2.0, top_k=1)
        assert only == made[1](PROMPTS[0], 20)

    run(made, use)


def test_what_an_engine_cannot_serve_it_refuses(made: Made) -> None:
    async def use(engine: Engine, info: EngineInfo) -> None:
        with pytest.raises(TooLong, match=f"{info.context_length + 1} tokens"):
            await tokens_of(engine, "a", [1] * (info.context_length + 1), 1)
        if not info.embeds:
            with pytest.raises(NotOffered, match="embeddings"):
                await engine.embed([1])

    run(made, use)

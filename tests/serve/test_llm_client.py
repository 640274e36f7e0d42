"""The client of OpenAI speaks with models over a real server: chats, texts, streams, embeddings, errors, leaving."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from speaking import spoken

from hpc.serve.llm.engine import TokenRequest
from hpc.serve.llm.text import ByteTokenizer
from hpc.serve.llm.toy import BEGIN, END, expected

openai = pytest.importorskip("openai", reason="the client of OpenAI is not installed here")
pytest.importorskip("uvicorn", reason="uvicorn is not installed here")

TOKENIZER = ByteTokenizer(BEGIN, END)
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


def answer(messages: list[Any], most: int) -> str:
    tokens = TOKENIZER.encode(TOKENIZER.chat(messages, {}), False)
    stop = frozenset({END})
    request = TokenRequest(id="", tokens=tokens, max_tokens=most, temperature=0, stop_tokens=stop)
    return TOKENIZER.decode(expected(request))


def test_the_client_of_openai(tmp_path: Path) -> None:
    async def use(client: Any, model: Any) -> None:
        assert [one.id async for one in client.models.list()] == ["toy"]
        assert (await client.models.retrieve("toy")).id == "toy"
        fields = {"model": "toy", "messages": HELLO, "temperature": 0, "max_tokens": 40}
        whole = await client.chat.completions.create(**fields)
        assert whole.choices[0].message.content == answer(HELLO, 40)
        assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
        stream = await client.chat.completions.create(**fields, stream=True, stream_options={"include_usage": True})
        chunks = [chunk async for chunk in stream]
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == answer(HELLO, 40)
        assert chunks[-1].usage == whole.usage.model_copy(
            update={"prompt_tokens_details": chunks[-1].usage.prompt_tokens_details}
        )
        told = await client.chat.completions.create(**fields, logprobs=True, top_logprobs=2)
        assert len(told.choices[0].logprobs.content[0].top_logprobs) == 2
        text = await client.completions.create(model="toy", prompt=["one", "two"], temperature=0, n=2, logprobs=1)
        assert [choice.index for choice in text.choices] == [0, 1, 2, 3]
        vectors = await client.embeddings.create(model="toy", input=["a", "b"])
        assert len(vectors.data[0].embedding) == 16

    spoken(use, str(tmp_path / "s"))


def test_errors_are_those_of_the_client(tmp_path: Path) -> None:
    async def use(client: Any, model: Any) -> None:
        with pytest.raises(openai.NotFoundError) as missing:
            await client.chat.completions.create(model="other", messages=HELLO)
        assert missing.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError) as wrong:
            await client.chat.completions.create(model="toy", messages=HELLO, temperature=2, presence_penalty=1)
        assert wrong.value.param == "presence_penalty"

    spoken(use, str(tmp_path / "s"))


def test_sixteen_conversations_at_once(tmp_path: Path) -> None:
    async def use(client: Any, model: Any) -> None:
        async def one(number: int) -> bool:
            messages = [{"role": "user", "content": f"Hello {number}" * (number % 3 + 1)}]
            stream = await client.chat.completions.create(
                model="toy", messages=messages, temperature=0, max_tokens=40, stream=True
            )
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            return text == answer(messages, 40)

        assert await asyncio.gather(*map(one, range(16))) == [True] * 16

    spoken(
        use, str(tmp_path / "s"), num_blocks=40, block_size=8, max_batch_tokens=48, max_running=6, context_length=160
    )


def test_a_client_that_leaves_a_stream_frees_its_memory(tmp_path: Path) -> None:
    async def use(client: Any, model: Any) -> None:
        fields = {"model": "toy", "messages": HELLO, "extra_body": {"ignore_eos": True}}
        stream = await client.chat.completions.create(**fields, stream=True)
        async for _ in stream:
            assert model.stats().kv_used > 0
            break
        await stream.close()
        await asyncio.wait_for(model.drain(), 60)
        asking = asyncio.ensure_future(client.chat.completions.create(**fields))
        while not model.stats().running:
            await asyncio.sleep(0.001)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    spoken(use, str(tmp_path / "s"), step_s=0.005)


def test_prompts_of_megabytes(tmp_path: Path) -> None:
    megabytes = "How long is this? " * 300_000

    async def use(client: Any, model: Any) -> None:
        hello = {"model": "toy", "temperature": 0, "max_tokens": 40}
        messages = [{"role": "user", "content": megabytes}]
        others = [client.chat.completions.create(**hello, messages=HELLO) for _ in range(4)]
        long = client.chat.completions.create(**hello, messages=messages)
        refused, *answers = await asyncio.gather(long, *others, return_exceptions=True)
        assert isinstance(refused, openai.BadRequestError) and refused.code == "context_length_exceeded"
        assert "characters are" in str(refused) and refused.param == "messages"
        assert {one.choices[0].message.content for one in answers} == {answer(HELLO, 40)}
        with pytest.raises(openai.APIStatusError) as too_large:
            await client.completions.create(model="toy", prompt=megabytes * 7)
        assert (too_large.value.status_code, too_large.value.code) == (413, "too_large")

    spoken(use, str(tmp_path / "s"))


def test_a_prompt_that_fills_the_context_is_answered(tmp_path: Path) -> None:
    async def use(client: Any, model: Any) -> None:
        fields = {"model": "toy", "temperature": 0, "max_tokens": 4}
        said = await client.completions.create(**fields, prompt="x" * 300_000)
        tokens = TOKENIZER.encode("x" * 300_000)
        made = expected(TokenRequest(id="", tokens=tokens, max_tokens=4, temperature=0, stop_tokens=frozenset({END})))
        assert said.choices[0].text == TOKENIZER.decode(made)
        assert said.usage.prompt_tokens == len(tokens)

    long = {"context_length": 400_000, "num_blocks": 4000, "block_size": 128, "max_batch_tokens": 4096}
    spoken(use, str(tmp_path / "s"), **long)

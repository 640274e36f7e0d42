"""The client of OpenAI calls tools and wishes for JSON, of a model behind a real server that says what it was told."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from speaking import spoken

from hpc.serve.llm.engine import Delta, Engine, EngineInfo, EngineStats, TokenRequest
from hpc.serve.llm.served import TokenModel
from hpc.serve.llm.text import ByteTokenizer
from hpc.serve.llm.tools import READERS

openai = pytest.importorskip("openai", reason="the client of OpenAI is not installed here")
pytest.importorskip("uvicorn", reason="uvicorn is not installed here")

TOKENIZER = ByteTokenizer()
ARGUMENTS = '{"city": "Köln", "days": [1, 2]}'
CALL = f'I look.\n<tool_call>\n{{"name": "weather", "arguments": {ARGUMENTS}}}\n</tool_call>'
TWO = CALL + '\n<tool_call>{"name": "time", "arguments": {}}</tool_call>'
FUNCTION = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
TOOLS: list[Any] = [
    {"type": "function", "function": FUNCTION},
    {"type": "function", "function": {"name": "time"}},
]
HELLO: list[Any] = [{"role": "user", "content": "Which weather?"}]
FIELDS: dict[str, Any] = {"model": "toy", "messages": HELLO, "tools": TOOLS}


class Scripted(Engine):
    """It says one text, whatever it is asked, and remembers what it was asked."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.asked = ""

    async def start(self) -> EngineInfo:
        return EngineInfo(model_id="toy", context_length=4096, vocab_size=256, max_batch=1, kv_tokens=0)

    async def generate(self, request: TokenRequest) -> AsyncGenerator[Delta, None]:
        self.asked = TOKENIZER.decode(request.tokens)
        tokens = TOKENIZER.encode(self.text)[: request.max_tokens]
        for token in tokens:
            yield Delta(tokens=[token], count=1)
        is_cut = len(tokens) == request.max_tokens
        yield Delta(tokens=[], finish="length" if is_cut else "stop")

    async def cancel(self, request_id: str) -> None:
        """Nobody cancels."""

    def stats(self) -> EngineStats:
        return EngineStats()

    async def check_health(self) -> None:
        """It is well."""

    async def drain(self) -> None:
        """Nothing runs."""

    async def stop(self) -> None:
        """There is nothing to give back."""


def model(engine: Scripted, parser: str | None = "hermes") -> TokenModel:
    return TokenModel(engine, ByteTokenizer, None if parser is None else READERS[parser])


def test_a_call_goes_to_the_tool_and_back(tmp_path: Path) -> None:
    engine = Scripted(CALL)

    async def use(client: Any, model: Any) -> None:
        said = (await client.chat.completions.create(**FIELDS)).choices[0]
        assert (said.finish_reason, said.message.content) == ("tool_calls", "I look.")
        (call,) = said.message.tool_calls
        assert (call.type, call.function.name, call.function.arguments) == ("function", "weather", ARGUMENTS)
        assert "weather" in engine.asked
        engine.text = "It rains."
        answer = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
        again = {**FIELDS, "messages": [*HELLO, said.message.model_dump(exclude_none=True), answer]}
        last = (await client.chat.completions.create(**again)).choices[0]
        assert (last.finish_reason, last.message.content, last.message.tool_calls) == ("stop", "It rains.", None)
        assert "tool: rain" in engine.asked

    spoken(use, str(tmp_path / "s"), model(engine))


def test_calls_come_in_streams(tmp_path: Path) -> None:
    async def use(client: Any, model: Any) -> None:
        text, finish = "", ""
        calls: dict[int, list[str]] = {}
        ids = set()
        async for chunk in await client.chat.completions.create(**FIELDS, stream=True):
            choice = chunk.choices[0]
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
            for part in choice.delta.tool_calls or ():
                if part.id:
                    ids.add(part.id)
                    calls[part.index] = [part.function.name, ""]
                calls[part.index][1] += part.function.arguments
        assert (text, finish, len(ids)) == ("I look.", "tool_calls", 2)
        assert calls == {0: ["weather", ARGUMENTS], 1: ["time", "{}"]}
        # What the client puts together of a stream is a whole answer too.
        async with client.chat.completions.stream(**FIELDS) as stream:
            whole = (await stream.get_final_completion()).choices[0].message
        assert [call.function.name for call in whole.tool_calls] == ["weather", "time"]
        assert json.loads(whole.tool_calls[0].function.arguments) == json.loads(ARGUMENTS)

    spoken(use, str(tmp_path / "s"), model(Scripted(TWO)))


def test_what_bounds_calls(tmp_path: Path) -> None:
    async def use(client: Any, model: Any) -> None:
        async def asked(**fields: Any) -> Any:
            return (await client.chat.completions.create(**{**FIELDS, **fields})).choices[0]

        one = await asked(parallel_tool_calls=False)
        assert [call.function.name for call in one.message.tool_calls] == ["weather"]
        cut = await asked(max_tokens=70)
        assert cut.finish_reason == "length"
        assert ARGUMENTS.startswith(cut.message.tool_calls[0].function.arguments)
        none = await asked(tool_choice="none")
        assert (none.message.content, none.message.tool_calls, none.finish_reason) == (TWO, None, "stop")
        for fields, param in (
            ({"tool_choice": "required"}, "tool_choice"),
            ({"tool_choice": {"type": "function", "function": {"name": "time"}}}, "tool_choice"),
            ({"tools": [], "tool_choice": "auto"}, "tool_choice"),
            ({"tools": [{"type": "function", "function": {}}]}, "tools"),
            (
                {
                    "messages": [
                        {
                            "role": "assistant",
                            "tool_calls": [
                                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}}
                            ],
                        }
                    ]
                },
                "messages",
            ),
        ):
            with pytest.raises(openai.BadRequestError) as wrong:
                await asked(**fields)
            assert wrong.value.param == param

    spoken(use, str(tmp_path / "s"), model(Scripted(TWO)))


def test_without_a_parser_a_call_is_text(tmp_path: Path) -> None:
    async def use(client: Any, model: Any) -> None:
        said = (await client.chat.completions.create(**FIELDS)).choices[0]
        assert (said.message.content, said.message.tool_calls, said.finish_reason) == (CALL, None, "stop")

    spoken(use, str(tmp_path / "s"), model(Scripted(CALL), None))


def test_a_form_that_is_wished_for_is_read_by_the_model(tmp_path: Path) -> None:
    engine = Scripted('{"city": "Bonn"}')

    async def use(client: Any, model: Any) -> None:
        fields = {"model": "toy", "messages": HELLO}
        schema = {"type": "object", "properties": {"city": {"type": "string"}}}
        named = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": True}}
        said = await client.chat.completions.create(**fields, response_format=named)
        assert json.loads(said.choices[0].message.content) == {"city": "Bonn"}
        assert '{"type":"object","properties":{"city":{"type":"string"}}}' in engine.asked
        stream = await client.chat.completions.create(**fields, response_format={"type": "json_object"}, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert json.loads(text) == {"city": "Bonn"} and "one JSON object" in engine.asked
        pydantic = pytest.importorskip("pydantic", reason="the client of OpenAI brings it")
        place = pydantic.create_model("Place", city=(str, ...))
        parsed = await client.chat.completions.parse(**fields, response_format=place)
        assert parsed.choices[0].message.parsed.city == "Bonn"
        for wrong in ({"type": "yaml"}, {"type": "json_schema"}):
            with pytest.raises(openai.BadRequestError) as refused:
                await client.chat.completions.create(**fields, response_format=wrong)
            assert refused.value.param.startswith("response_format")

    spoken(use, str(tmp_path / "s"), model(engine))

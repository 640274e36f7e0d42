"""The API of models in OpenAI's form, over the toy model: the text is known, so each answer is compared as a whole."""

from __future__ import annotations

import asyncio
import base64
import struct
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from hpc.serve.llm.engine import Delta, EngineError, TokenRequest
from hpc.serve.llm.ingress import MAX_BODY_BYTES, OpenAiApp
from hpc.serve.llm.scheduler import SchedulerConfig
from hpc.serve.llm.schema import ApiError
from hpc.serve.llm.served import LONG_BYTES, TokenModel
from hpc.serve.llm.text import ByteTokenizer
from hpc.serve.llm.toy import BEGIN, END, ToyEngine, expected
from tests.unit.asgi_client import Seen, request

HELLO = [{"role": "user", "content": "Hello"}]
TOKENIZER = ByteTokenizer(BEGIN, END)
CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"


class Toy:
    """The toy model behind its API."""

    def __init__(self, **scheduler: Any) -> None:
        self.engine = ToyEngine(scheduler=SchedulerConfig(**scheduler))
        self.model = TokenModel(self.engine, lambda: TOKENIZER)
        self.app = OpenAiApp({"toy": self.model.answer}, {"toy": {"metadata": {"engine": "toy"}}})

    async def post(self, path: str, **fields: Any) -> Seen:
        return await request(self.app, "POST", path, {"model": "toy", **fields})

    async def chat(self, **fields: Any) -> Seen:
        return await self.post(CHAT, **{"messages": HELLO, **fields})


def served(use: Callable[[Toy], Awaitable[None]], **scheduler: Any) -> None:
    """Use the model on a loop of its own. At the end it holds no memory."""

    async def run() -> None:
        toy = Toy(**scheduler)
        await toy.model.start()
        try:
            await use(toy)
            await toy.model.drain()
            stats = toy.model.stats()
            assert (stats.running, stats.waiting, stats.kv_used) == (0, 0, 0)
        finally:
            await toy.model.stop()

    asyncio.run(run())


def tokens_of(prompt: str, most: int, begins: bool = False, **more: Any) -> list[int]:
    """What the model must answer to a prompt."""
    stop_tokens = frozenset() if more.pop("ignore_eos", False) else frozenset({END})
    given = TOKENIZER.encode(prompt, begins)
    return expected(TokenRequest(id="", tokens=given, max_tokens=most, stop_tokens=stop_tokens, **more))


def answer_to(messages: list[dict[str, str]], most: int = 40, **more: Any) -> str:
    return TOKENIZER.decode(tokens_of(TOKENIZER.chat(messages, {}), most, **{"temperature": 0, **more}))


def test_long_requests_are_read_in_a_thread_one_at_a_time_and_short_ones_at_once() -> None:
    readers: list[threading.Thread] = []
    inside = most = 0

    class Watched(ByteTokenizer):
        def encode(self, text: str, add_special: bool = True) -> list[int]:
            nonlocal inside, most
            readers.append(threading.current_thread())
            inside += 1
            most = max(most, inside)
            tokens = super().encode(text, add_special)
            inside -= 1
            return tokens

    async def run() -> None:
        model = TokenModel(ToyEngine(), lambda: Watched(BEGIN, END))
        await model.start()
        app = OpenAiApp({"toy": model.answer})
        short = await request(app, "POST", TEXT, {"model": "toy", "prompt": "a"})
        assert (short.code, readers) == (200, [threading.main_thread()])
        long = {"model": "toy", "prompt": "a" * (LONG_BYTES + 1)}
        seen = await asyncio.gather(*(request(app, "POST", path, long) for path in (TEXT, "/tokenize", TEXT)))
        assert [one.code for one in seen] == [400, 200, 400]
        assert len(readers) == 4 and threading.main_thread() not in readers[1:] and most == 1
        await model.stop()

    asyncio.run(run())


def test_a_long_request_whose_client_has_gone_keeps_its_turn_until_its_thread_has_ended() -> None:
    inside = most = 0
    begun, going_on = threading.Event(), threading.Event()

    class Slow(ByteTokenizer):
        def encode(self, text: str, add_special: bool = True) -> list[int]:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            begun.set()
            going_on.wait(10)
            inside -= 1
            return super().encode(text, add_special)

    async def run() -> None:
        model = TokenModel(ToyEngine(), lambda: Slow(BEGIN, END))
        await model.start()
        body = msgspec.json.encode({"model": "toy", "prompt": "a" * (LONG_BYTES + 1)})
        first = asyncio.ensure_future(model.answer("/tokenize", body))
        await asyncio.to_thread(begun.wait, 10)
        first.cancel()
        second = asyncio.ensure_future(model.answer("/tokenize", body))
        done, _ = await asyncio.wait([first, second], timeout=0.2)
        assert done == {first} and first.cancelled(), "the client waits no longer"
        going_on.set()
        assert (await second).status == 200 and most == 1
        await model.stop()

    asyncio.run(run())


def test_a_conversation_is_answered_with_the_exact_text() -> None:
    async def use(toy: Toy) -> None:
        seen = await toy.chat(temperature=0, max_tokens=40)
        whole = seen.json()
        choice = whole["choices"][0]
        assert seen.code == 200
        assert choice["message"] == {"role": "assistant", "content": answer_to(HELLO), "refusal": None}
        assert whole["object"] == "chat.completion" and whole["model"] == "toy"
        prompt = len(TOKENIZER.encode(TOKENIZER.chat(HELLO, {}), False))
        usage = whole["usage"]
        assert usage["prompt_tokens"] == prompt
        assert usage["total_tokens"] == prompt + usage["completion_tokens"]

    served(use)


def test_a_stream_has_the_same_text_and_says_that_it_is_whole() -> None:
    async def use(toy: Toy) -> None:
        seen = await toy.chat(temperature=0, max_tokens=40, stream=True, stream_options={"include_usage": True})
        events = seen.events()
        assert seen.headers["content-type"] == "text/event-stream"
        assert events[0]["choices"][0]["delta"]["role"] == "assistant"
        text = "".join(one["choices"][0]["delta"].get("content", "") for one in events[:-1])
        assert text == answer_to(HELLO)
        assert [one["choices"][0]["finish_reason"] for one in events[:-1]].count(None) == len(events) - 2
        assert events[-2]["choices"][0]["finish_reason"] in ("stop", "length")
        assert events[-1]["choices"] == []
        assert all(one["usage"] is None for one in events[:-1])
        whole = (await toy.chat(temperature=0, max_tokens=40)).json()
        assert events[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
        assert len({one["id"] for one in events}) == 1

    served(use)


def test_many_at_once_get_what_each_gets_alone() -> None:
    """Little memory, so that sequences are displaced and computed again."""

    async def use(toy: Toy) -> None:
        conversations = [[{"role": "user", "content": f"Hello {n % 5} {'x' * n}"}] for n in range(24)]
        all_seen = await asyncio.gather(
            *(toy.chat(messages=messages, temperature=0, max_tokens=40) for messages in conversations)
        )
        texts = [seen.json()["choices"][0]["message"]["content"] for seen in all_seen]
        assert texts == [answer_to(messages) for messages in conversations]
        assert toy.engine.stats().preempted > 0
        assert toy.engine.stats().prefix_hits > 0

    served(use, num_blocks=24, block_size=4, max_batch_tokens=32, max_running=8, context_length=96)


def test_a_stop_string_ends_the_text_before_it() -> None:
    whole = answer_to(HELLO, 60, ignore_eos=True)
    stop = whole[20:24]

    async def use(toy: Toy) -> None:
        for stream in (False, True):
            seen = await toy.chat(temperature=0, max_tokens=60, stop=stop, stream=stream, ignore_eos=True)
            if stream:
                events = seen.events()
                text = "".join(one["choices"][0]["delta"].get("content", "") for one in events)
                finish = events[-1]["choices"][0]["finish_reason"]
            else:
                choice = seen.json()["choices"][0]
                text, finish = choice["message"]["content"], choice["finish_reason"]
            assert (text, finish) == (whole[: whole.index(stop)], "stop")

    served(use)


def test_several_answers_have_seeds_of_their_own() -> None:
    async def use(toy: Toy) -> None:
        choices = (await toy.chat(n=3, seed=5, max_tokens=30)).json()["choices"]
        texts = [choice["message"]["content"] for choice in choices]
        assert texts == [answer_to(HELLO, 30, temperature=1.0, seed=5 + number) for number in range(3)]
        events = (await toy.chat(n=3, seed=5, max_tokens=30, stream=True)).events()
        streamed = ["", "", ""]
        for event in events:
            choice = event["choices"][0]
            streamed[choice["index"]] += choice["delta"].get("content", "")
        assert streamed == texts

    served(use)


def test_prompts_of_every_kind_go_on() -> None:
    async def use(toy: Toy) -> None:
        one = TOKENIZER.decode(tokens_of("one", 16, begins=True, temperature=0))
        two = TOKENIZER.decode(tokens_of("two", 16, begins=True, temperature=0))
        asked: list[tuple[Any, list[str]]] = [
            ("one", [one]),
            (["one", "two"], [one, two]),
            (TOKENIZER.encode("one"), [one]),
            ([TOKENIZER.encode("two"), TOKENIZER.encode("one")], [two, one]),
        ]
        for prompt, texts in asked:
            seen = (await toy.post(TEXT, prompt=prompt, temperature=0)).json()
            assert [choice["text"] for choice in seen["choices"]] == texts
        echoed = (await toy.post(TEXT, prompt=["one", "two"], temperature=0, echo=True)).json()
        assert [choice["text"] for choice in echoed["choices"]] == ["one" + one, "two" + two]

    served(use)


def test_probabilities_stand_beside_the_text() -> None:
    async def use(toy: Toy) -> None:
        choice = (await toy.chat(temperature=0, max_tokens=30, logprobs=True, top_logprobs=2)).json()["choices"][0]
        told = choice["logprobs"]["content"]
        assert bytes(byte for one in told for byte in one["bytes"]).decode(errors="replace") == answer_to(HELLO, 30)
        assert all(one["logprob"] == one["top_logprobs"][0]["logprob"] for one in told)
        assert all(len(one["top_logprobs"]) == 2 for one in told)
        text = (await toy.post(TEXT, prompt="one", temperature=0, logprobs=1, ignore_eos=True)).json()
        text = text["choices"][0]["logprobs"]
        assert len(text["tokens"]) == len(text["token_logprobs"]) == len(text["text_offset"]) == 16
        assert text["text_offset"][0] == 0

    served(use)


def test_a_wished_form_and_tools_are_read_as_text() -> None:
    async def use(toy: Toy) -> None:
        schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
        tools = [{"type": "function", "function": {"name": "f"}}]
        seen = (await toy.chat(temperature=0, max_tokens=30, response_format=schema, tools=tools)).json()
        wish = 'Answer with one JSON object and nothing else. It has this JSON schema: {"type":"object"}'
        prompt = TOKENIZER.chat([{"role": "system", "content": wish}, *HELLO], {"tools": tools})
        text = TOKENIZER.decode(tokens_of(prompt, 30, temperature=0))
        assert seen["choices"][0]["message"]["content"] == text

    served(use)


def test_embeddings_are_numbers_or_their_bytes() -> None:
    async def use(toy: Toy) -> None:
        plain = (await toy.post("/v1/embeddings", input=["a", "b"])).json()
        packed = (await toy.post("/v1/embeddings", input=["a", "b"], encoding_format="base64")).json()
        for one, other in zip(plain["data"], packed["data"]):
            numbers = struct.unpack(f"<{len(one['embedding'])}f", base64.b64decode(other["embedding"]))
            assert numbers == pytest.approx(one["embedding"])
            assert sum(number**2 for number in numbers) == pytest.approx(1)
        assert plain["data"][0]["embedding"] != plain["data"][1]["embedding"]

    served(use)


def test_tokens_of_a_text_and_back() -> None:
    async def use(toy: Toy) -> None:
        seen = (await toy.post("/tokenize", prompt="hé", return_token_strs=True)).json()
        assert seen["tokens"] == [BEGIN, *"hé".encode()]
        assert seen["count"] == 4 and len(seen["token_strs"]) == 4
        assert (await toy.post("/detokenize", tokens=seen["tokens"])).json() == {"prompt": "hé"}
        chat = (await toy.post("/tokenize", messages=HELLO)).json()
        assert bytes(chat["tokens"]).decode() == TOKENIZER.chat(HELLO, {})

    served(use)


def test_models_are_listed() -> None:
    async def use(toy: Toy) -> None:
        listed = (await request(toy.app, "GET", "/v1/models")).json()
        assert [model["id"] for model in listed["data"]] == ["toy"]
        assert listed["data"][0]["metadata"] == {"engine": "toy"}
        one = (await request(toy.app, "GET", "/below/v1/models/toy", root_path="/below")).json()
        assert one == listed["data"][0]
        assert (await request(toy.app, "GET", "/v1/models/other")).code == 404
        assert (await request(toy.app, "GET", "/health")).code == 200

    served(use)


#: A call whose arguments are nested without an end.
DEEP = {
    "role": "assistant",
    "tool_calls": [{"function": {"name": "f", "arguments": '{"a":' * 9999 + "1" + "}" * 9999}}],
}
WRONG: list[tuple[str, dict[str, Any], str, str]] = [
    (CHAT, {"messages": []}, "messages", "at least one"),
    (CHAT, {"messages": None}, "messages", "expected array"),
    (CHAT, {"messages": [{"role": "king", "content": ""}]}, "messages[0].role", "king"),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content", "text only"),
    (CHAT, {"messages": [DEEP]}, "messages", "arguments of 'f' are no JSON object"),
    (CHAT, {"temperature": 3}, "temperature", "<= 2.0"),
    (CHAT, {"temperature": "hot"}, "temperature", "expected float"),
    (CHAT, {"top_p": 0}, "top_p", "> 0.0"),
    (CHAT, {"n": 0}, "n", ">= 1"),
    (CHAT, {"max_tokens": 0}, "max_tokens", ">= 1"),
    (CHAT, {"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens", "the same"),
    (CHAT, {"stop": ["a"] * 17}, "stop", "at most 16"),
    (CHAT, {"stop": ""}, "stop", "none of them empty"),
    (CHAT, {"stream_options": {"include_usage": True}}, "stream_options", "stream to true"),
    (CHAT, {"top_logprobs": 1}, "top_logprobs", "logprobs to be true"),
    (CHAT, {"logprobs": True, "top_logprobs": 20}, "logprobs", "at most 4"),
    (CHAT, {"frequency_penalty": 1}, "frequency_penalty", "not supported"),
    (CHAT, {"logit_bias": {"1": 1}}, "logit_bias", "not supported"),
    (CHAT, {"tool_choice": "required"}, "tool_choice", "forces"),
    (CHAT, {"modalities": ["audio"]}, "modalities", "text"),
    (CHAT, {"top_k": -3}, "top_k", "no limit"),
    (CHAT, {"seed": 2**63}, "seed", "<= 9223372036854775807"),
    (CHAT, {"priority": -(2**40)}, "priority", ">= -2147483648"),
    (CHAT, {"stop_token_ids": [2**70]}, "stop_token_ids", "0 to 257"),
    (CHAT, {"colour": 1}, "colour", "not supported"),
    (CHAT, {"response_format": {"type": "xml"}}, "response_format.type", "xml"),
    (CHAT, {"max_tokens": 99999}, "messages", "4096"),
    (CHAT, {"chat_template_kwargs": {"a": 1}}, "chat_template_kwargs", "no a"),
    (TEXT, {}, "prompt", "missing"),
    (TEXT, {"prompt": []}, "prompt", "not empty"),
    (TEXT, {"prompt": [1, "a"]}, "prompt", "a list of texts"),
    (TEXT, {"prompt": [1, 5000]}, "prompt", "0 to 257"),
    (TEXT, {"prompt": ["a"] * 17, "n": 128}, "prompt", "at most 2048"),
    (TEXT, {"prompt": "a", "suffix": "b"}, "suffix", "not supported"),
    (TEXT, {"prompt": "a", "best_of": 3}, "best_of", "not supported"),
    (TEXT, {"prompt": "a", "echo": True, "logprobs": 1}, "echo", "logprobs"),
    ("/v1/embeddings", {"input": 3}, "input", "a list of texts"),
    ("/v1/embeddings", {"input": ["a"] * 2049}, "input", "at most 2048"),
    ("/v1/embeddings", {"input": "a", "dimensions": 3}, "dimensions", "16"),
    ("/tokenize", {}, "prompt", "one of"),
    ("/detokenize", {"tokens": [900]}, "tokens", "0 to 257"),
]


@pytest.mark.parametrize(("path", "fields", "param", "words"), WRONG, ids=[f"{w[0]} {w[1]}"[:60] for w in WRONG])
def test_an_error_names_the_field(path: str, fields: dict[str, Any], param: str, words: str) -> None:
    async def use(toy: Toy) -> None:
        seen = await (toy.chat if path == CHAT else lambda **f: toy.post(path, **f))(**fields)
        error = seen.json()["error"]
        assert (seen.code, error["type"], error["param"]) == (400, "invalid_request_error", param)
        assert words in error["message"]

    served(use)


def test_numbers_at_their_bounds_are_what_an_engine_can_hold() -> None:
    asked: list[TokenRequest] = []

    async def use(toy: Toy) -> None:
        generate = toy.engine.generate
        toy.engine.generate = lambda request: asked.append(request) or generate(request)  # type: ignore
        seen = await toy.chat(seed=2**63 - 1, n=2, top_k=2**70, max_tokens=2, temperature=1e-300)
        assert seen.code == 200

    served(use)
    assert [(one.seed, one.top_k) for one in asked] == [(2**63 - 1, 258), (-(2**63), 258)]


def test_other_errors_have_the_same_form() -> None:
    async def use(toy: Toy) -> None:
        answers = [
            (await request(toy.app, "POST", CHAT, {"model": "x"}), 404, "model_not_found"),
            (await request(toy.app, "POST", CHAT, {"messages": HELLO}), 400, "missing_parameter"),
            (await request(toy.app, "POST", CHAT, b"{not json"), 400, "invalid_json"),
            (await request(toy.app, "GET", CHAT), 405, "method_not_allowed"),
            (await request(toy.app, "POST", "/v1/images", {"model": "toy"}), 404, "not_found"),
            (await request(toy.app, "GET", "/images"), 404, "not_found"),
            (await request(toy.app, "POST", CHAT, b"x" * (MAX_BODY_BYTES + 1)), 413, "too_large"),
        ]
        for seen, code, name in answers:
            assert (seen.code, seen.json()["error"]["code"]) == (code, name)

    served(use)


def test_a_client_that_goes_away_frees_the_memory() -> None:
    async def use(toy: Toy) -> None:
        fields = {"model": "toy", "messages": HELLO, "ignore_eos": True, "stream": True, "n": 2}
        seen = await request(toy.app, "POST", CHAT, fields, leave=lambda seen: len(seen.parts) > 6)
        assert 6 < len(seen.parts) < 100
        whole = {**fields, "stream": False}
        seen = await asyncio.wait_for(request(toy.app, "POST", CHAT, whole, leave=lambda seen: False), 60)
        assert seen.code == 200
        gone = asyncio.ensure_future(toy.chat(ignore_eos=True))
        while not toy.engine.stats().running:
            await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)

    served(use, context_length=600)


class Failing(ToyEngine):
    """An engine whose steps fail from the third one on."""

    steps = 0

    def _step(self) -> None:
        self.steps += 1
        if self.steps > 3:
            raise RuntimeError("the device is gone")
        super()._step()


def test_an_engine_that_fails_is_told_in_the_stream_and_then_by_a_status() -> None:
    async def run() -> None:
        model = TokenModel(Failing(), lambda: TOKENIZER)
        await model.start()
        app = OpenAiApp({"toy": model.answer})
        fields = {"model": "toy", "messages": HELLO, "ignore_eos": True, "stream": True}
        seen = await request(app, "POST", CHAT, fields)
        assert seen.code == 200
        assert "the device is gone" in seen.events()[-1]["error"]["message"]
        seen = await request(app, "POST", CHAT, fields)
        assert (seen.code, seen.json()["error"]["type"]) == (503, "server_error")
        with pytest.raises(EngineError, match="the device is gone"):
            await model.check_health()
        await model.stop()

    asyncio.run(run())


def test_an_engine_that_is_stopped_ends_what_runs() -> None:
    async def run() -> None:
        engine = ToyEngine(step_s=60)
        await engine.start()
        request_ = TokenRequest(id="a", tokens=[1], max_tokens=9)
        deltas = [delta async for delta in _stopping(engine, request_)]
        assert deltas[-1].finish == "error"
        with pytest.raises(EngineError, match="stopped"):
            await engine.check_health()

    asyncio.run(run())


async def _stopping(engine: ToyEngine, request_: TokenRequest) -> Any:
    async for delta in engine.generate(request_):
        yield delta
        await engine.stop()
        assert isinstance(delta, Delta)


def test_an_error_travels_between_processes() -> None:
    import pickle

    error = ApiError(404, "no", param="model", code="model_not_found")
    assert pickle.loads(pickle.dumps(error)).body() == error.body()

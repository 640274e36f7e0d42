"""Models as applications of Serve: the door, the ingress, a replica and its engine, in processes of their own."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from deploying import until

import hpc
from hpc import serve
from hpc.serve.config import RequestRouterConfig
from hpc.serve.llm import LLMConfig, LLMServingArgs, build_llm_deployment, build_openai_app
from hpc.serve.llm.engine import TokenRequest
from hpc.serve.llm.request_router import PrefixCacheAffinityRouter
from hpc.serve.llm.text import ByteTokenizer
from hpc.serve.llm.toy import BEGIN, END, expected
from hpc.serve.messages import CONTROLLER_NAME, NAMESPACE
from hpc.state.metrics import latest

httpx = pytest.importorskip("httpx", reason="httpx is not installed here")
pytest.importorskip("httptools", reason="the doors of Serve need httptools")

TOKENIZER = ByteTokenizer(BEGIN, END)
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


def toy(name: str, **arguments: Any) -> LLMConfig:
    loading = {"model_id": name}
    options = {"graceful_shutdown_wait_loop_s": 0.0, "graceful_shutdown_timeout_s": 5.0}
    return LLMConfig(model_loading_config=loading, llm_engine="toy", engine_kwargs=arguments, deployment_config=options)


def answer(messages: list[Any], most: int) -> str:
    tokens = TOKENIZER.encode(TOKENIZER.chat(messages, {}), False)
    stop = frozenset({END})
    request = TokenRequest(id="", tokens=tokens, max_tokens=most, temperature=0, stop_tokens=stop)
    return TOKENIZER.decode(expected(request))


@pytest.fixture(scope="module")
def door() -> Iterator[str]:
    """An application of two models, and the socket where it listens."""
    hpc.init(num_cpus=4)
    try:
        configs = [toy("toy"), toy("org/slow.1", step_s=0.01)]
        options = {"graceful_shutdown_wait_loop_s": 0.0, "graceful_shutdown_timeout_s": 5.0}
        serve.run(build_openai_app(LLMServingArgs(llm_configs=configs, ingress_deployment_config=options)))
        yield socket()
        serve.shutdown()
    finally:
        hpc.shutdown()


def socket() -> str:
    controller = hpc.get_actor(CONTROLLER_NAME, namespace=NAMESPACE)
    doors = hpc.get(controller.wait_proxies.remote())
    found, *_ = [door for listed in doors.values() for door in listed if door.startswith("unix:")]
    return str(found).removeprefix("unix:")


def client(door: str) -> Any:
    return httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=door), base_url="http://localhost", timeout=60)


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "toy", "messages": HELLO, "temperature": 0, "max_tokens": 40, **fields}


def test_models_through_the_door(door: str) -> None:
    async def run() -> None:
        async with client(door) as http:
            listed = (await http.get("/v1/models")).json()
            assert [one["id"] for one in listed["data"]] == ["toy", "org/slow.1"]
            assert (await http.get("/v1/models/org/slow.1")).json()["id"] == "org/slow.1"
            whole = (await http.post("/v1/chat/completions", json=chat())).json()
            assert whole["choices"][0]["message"]["content"] == answer(HELLO, 40)
            wrong = await http.post("/v1/chat/completions", json=chat(temperature=9))
            assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "temperature")
            many = [[{"role": "user", "content": f"Hello {n}"}] for n in range(16)]
            answers = await asyncio.gather(
                *(http.post("/v1/chat/completions", json=chat(messages=messages)) for messages in many)
            )
            texts = [one.json()["choices"][0]["message"]["content"] for one in answers]
            assert texts == [answer(messages, 40) for messages in many]

    asyncio.run(run())


def test_a_stream_comes_token_by_token(door: str) -> None:
    async def run() -> None:
        async with client(door) as http:
            fields = chat(stream=True, model="org/slow.1", ignore_eos=True)
            text, times = "", []
            async with http.stream("POST", "/v1/chat/completions", json=fields) as reply:
                assert reply.headers["content-type"] == "text/event-stream"
                async for line in reply.aiter_lines():
                    if line.startswith("data: {"):
                        times.append(time.monotonic())
                        text += json.loads(line[6:])["choices"][0]["delta"].get("content", "")
            assert line == "data: [DONE]" or not line
            # Steps of 10 ms each: what comes at once is no stream.
            assert times[-1] - times[0] > 0.1
            tokens = TOKENIZER.encode(TOKENIZER.chat(HELLO, {}), False)
            request = TokenRequest(id="", tokens=tokens, max_tokens=40, temperature=0)
            assert text == TOKENIZER.decode(expected(request))

    asyncio.run(run())


def test_a_client_that_leaves_frees_the_memory_in_the_replica(door: str) -> None:
    handle = serve.get_deployment_handle("LLMServer:org--slow_1", "default")

    async def run() -> None:
        async with client(door) as http:
            fields = chat(stream=True, model="org/slow.1", ignore_eos=True, max_tokens=2000)
            async with http.stream("POST", "/v1/chat/completions", json=fields) as reply:
                # An iterator that is dropped would close the connection.
                lines = reply.aiter_lines()
                while not (await anext(lines)).startswith("data: {"):
                    pass
                assert (await handle.engine_stats.remote())["kv_used"] > 0
            while (await handle.engine_stats.remote())["kv_used"]:
                await asyncio.sleep(0.01)
            whole = asyncio.ensure_future(http.post("/v1/chat/completions", json={**fields, "stream": False}))
            while not (await handle.engine_stats.remote())["running"]:
                await asyncio.sleep(0.01)
            whole.cancel()
            await asyncio.gather(whole, return_exceptions=True)
            while (await handle.engine_stats.remote())["kv_used"]:
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(run(), 60))


def test_the_client_of_openai_through_the_door(door: str) -> None:
    openai = pytest.importorskip("openai", reason="the client of OpenAI is not installed here")

    async def run() -> None:
        own = openai.AsyncOpenAI(base_url="http://localhost/v1", api_key="any", http_client=client(door), max_retries=0)
        async with own:
            stream = await own.chat.completions.create(**chat(stream=True))
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            assert text == answer(HELLO, 40)

    asyncio.run(run())


def test_a_model_without_an_ingress_answers_handles(door: str) -> None:
    handle = serve.run(build_llm_deployment(toy("alone")), name="alone", route_prefix=None)
    streaming = handle.options(stream=True)
    (whole,) = list(streaming.chat.remote({"messages": HELLO, "temperature": 0, "max_tokens": 40}))
    assert whole["choices"][0]["message"]["content"] == answer(HELLO, 40)
    events = list(streaming.completions.remote({"prompt": "a", "stream": True}))
    assert "".join(events).endswith("data: [DONE]\n\n")
    (wrong,) = list(streaming.embeddings.remote({"input": 3}))
    assert wrong["error"]["param"] == "input"
    assert handle.llm_config.remote().result(timeout_s=30).model_id == "alone"
    serve.delete("alone")


def test_requests_that_begin_alike_go_to_the_replica_that_has_computed_it(door: str) -> None:
    options = {
        **toy("alike").deployment_config,
        "num_replicas": 2,
        "ray_actor_options": {"num_cpus": 0},
        "request_router_config": RequestRouterConfig(request_router_class=PrefixCacheAffinityRouter),
    }
    config = LLMConfig(model_loading_config={"model_id": "alike"}, llm_engine="toy", deployment_config=options)
    handle = serve.run(build_llm_deployment(config), name="alike", route_prefix=None)
    streaming = handle.options(stream=True)
    begin = "You are the assistant of a machine with many users, and answer in few words. "
    for turn in range(8):
        for user in ("Ada", "Bob"):
            request = {"prompt": f"{user}: {begin} Question {turn}", "max_tokens": 4}
            (whole,) = list(streaming.completions.remote(request))
            assert whole["usage"]["completion_tokens"] <= 4
    hits = [stats["prefix_hits"] for stats in handle.broadcast("engine_stats").results(timeout_s=30)]
    # Each user has a replica of its own: all turns but the first find what was computed.
    assert len(hits) == 2 and min(hits) >= 7 * len(begin) // 2
    serve.delete("alike")


def test_metrics_say_how_the_engine_stands(door: str) -> None:
    def told() -> list[float]:
        rows = [row for row in latest().rows if row.name == "hpc_llm_kv_total"]
        return [row.value for row in rows if row.labels.get("model") == "toy" and row.value is not None]

    assert until(told, "a metric of the engine") == [1024 * 16]

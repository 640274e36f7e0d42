"""A model that is divided over two ranks of a placement group says what it says whole, and outlives a rank's death."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deploying import until

import hpc
from examples import tiny_llama
from hpc import serve
from hpc.serve.llm import LLMConfig, build_openai_app
from hpc.serve.messages import CONTROLLER_NAME, NAMESPACE
from hpc.util.state import list_actors

pytest.importorskip("accelerate", reason="models that are divided need accelerate")
torch = pytest.importorskip("torch", reason="the engine 'hf' needs torch")
transformers = pytest.importorskip("transformers", reason="the engine 'hf' needs transformers")
openai = pytest.importorskip("openai", reason="the client of OpenAI is not installed here")
httpx = pytest.importorskip("httpx", reason="httpx is not installed here")
pytest.importorskip("httptools", reason="the doors of Serve need httptools")

QUESTIONS = [f"Question {number} " + "x" * number for number in range(8)]
MOST = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("model")
    tiny_llama.save(found)
    return found


@pytest.fixture(scope="module")
def door(folder: Path) -> Iterator[str]:
    """The socket of an application whose model has two ranks."""
    hpc.init(num_cpus=6)
    try:
        engine = {"tensor_parallel_size": 2, "num_blocks": 64, "max_batch_tokens": 256, "max_memory": 0.1}
        config = LLMConfig(
            model_loading_config={"model_id": "tiny", "model_source": str(folder)},
            llm_engine="hf",
            engine_kwargs=engine,
            placement_group_config={"bundle_per_worker": {"CPU": 1}, "strategy": "STRICT_PACK"},
            deployment_config={"graceful_shutdown_wait_loop_s": 0.0, "graceful_shutdown_timeout_s": 5.0},
        )
        serve.run(build_openai_app({"llm_configs": [config]}))
        controller = hpc.get_actor(CONTROLLER_NAME, namespace=NAMESPACE)
        doors = hpc.get(controller.wait_proxies.remote())
        found, *_ = [one for listed in doors.values() for one in listed if one.startswith("unix:")]
        yield str(found).removeprefix("unix:")
        serve.shutdown()
        assert until(lambda: not ranks(), "the end of all ranks")
    finally:
        hpc.shutdown()


def ranks() -> list[Any]:
    return list_actors(filters=[("class_name", "=", "Rank"), ("state", "=", "ALIVE")], detail=True)


def whole(folder: Path) -> list[str]:
    """What the model in one process answers."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    found = []
    for question in QUESTIONS:
        messages = [{"role": "user", "content": question}]
        tokens = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=False
        )
        made = model.generate(tokens, max_new_tokens=MOST, do_sample=False, pad_token_id=0)[0][tokens.shape[1] :]
        found.append(tokenizer.decode(made, skip_special_tokens=True))
    return found


async def asked(door: str) -> list[str]:
    """What the client of OpenAI gets, all questions at once, in streams."""
    http = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=door), timeout=60)
    client = openai.AsyncOpenAI(base_url="http://localhost/v1", api_key="any", http_client=http, max_retries=0)

    async def one(question: str) -> str:
        stream = await client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": question}],
            temperature=0,
            max_tokens=MOST,
            stream=True,
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async with client:
        return list(await asyncio.gather(*map(one, QUESTIONS)))


def test_two_ranks_say_what_one_process_says(door: str, folder: Path) -> None:
    assert len(ranks()) == 1
    assert asyncio.run(asked(door)) == whole(folder)


def test_a_rank_that_dies_takes_its_replica_along_and_all_are_made_anew(door: str, folder: Path) -> None:
    before = ranks()[0]
    os.kill(before.pid, signal.SIGKILL)

    def anew() -> list[Any]:
        return [one for one in ranks() if one.pid != before.pid]

    assert len(until(anew, "another rank")) == 1

    def answers() -> list[str]:
        try:
            return asyncio.run(asked(door))
        except openai.APIError:
            return []

    assert until(answers, "answers of the new replica") == whole(folder)

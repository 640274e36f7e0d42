"""A model of transformers behind the API: its template, its pieces, and what it cannot do."""

from __future__ import annotations

import asyncio
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from examples import tiny_llama
from hpc.serve.llm.config import LLMConfig
from hpc.serve.llm.engine import EngineError
from hpc.serve.llm.ingress import OpenAiApp
from hpc.serve.llm.models import model_of
from tests.unit.asgi_client import Seen, request

torch = pytest.importorskip("torch", reason="the engine 'hf' needs torch")
transformers = pytest.importorskip("transformers", reason="the engine 'hf' needs transformers")

HELLO = [{"role": "user", "content": "Hello é"}]
ARGUMENTS = {"device": "cpu", "num_blocks": 64, "max_batch_tokens": 256, "max_memory": 0.1}


def test_a_model_of_transformers_behind_the_api(tmp_path: Path) -> None:
    own = tiny_llama.save(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    prompt = tokenizer.apply_chat_template(HELLO, add_generation_prompt=True, return_tensors="pt", return_dict=False)
    answer = own.generate(prompt, max_new_tokens=40, do_sample=False)[0][prompt.shape[1] :]
    text = tokenizer.decode(answer, skip_special_tokens=True)

    async def run() -> None:
        loading = {"model_id": "tiny", "model_source": str(tmp_path)}
        model = model_of(LLMConfig(model_loading_config=loading, llm_engine="hf", engine_kwargs=ARGUMENTS))
        await model.start()
        app = OpenAiApp({"tiny": model.answer})

        async def chat(**fields: Any) -> Seen:
            fields = {"model": "tiny", "messages": HELLO, "temperature": 0, "max_tokens": 40, **fields}
            return await request(app, "POST", "/v1/chat/completions", fields)

        seen = (await chat()).json()
        assert seen["choices"][0]["message"]["content"] == text
        assert seen["usage"]["prompt_tokens"] == prompt.shape[1]
        events = (await chat(stream=True)).events()
        assert "".join(one["choices"][0]["delta"].get("content", "") for one in events) == text
        for fields, param in (
            ({"seed": 1, "temperature": 1}, "seed"),
            ({"logprobs": True}, "logprobs"),
            ({"priority": 1}, "priority"),
            ({"tools": [{"type": "function"}]}, "tools"),
        ):
            seen = await chat(**fields)
            assert (seen.code, seen.json()["error"]["param"]) == (400, param)
        await model.drain()
        await model.stop()

    asyncio.run(run())


def test_texts_become_vectors(tmp_path: Path) -> None:
    own = tiny_llama.save(tmp_path)
    said = own.model(torch.tensor([[*b"Hello"]])).last_hidden_state[0].mean(dim=0)
    vector = (said / said.norm()).tolist()

    async def run() -> None:
        loading = {"model_id": "tiny", "model_source": str(tmp_path)}
        arguments = {"task": "embed", "device": "cpu"}
        model = model_of(LLMConfig(model_loading_config=loading, llm_engine="hf", engine_kwargs=arguments))
        await model.start()
        app = OpenAiApp({"tiny": model.answer})
        fields = {"model": "tiny", "input": ["Hello", "Bye"]}
        seen = (await request(app, "POST", "/v1/embeddings", fields)).json()
        assert seen["data"][0]["embedding"] == pytest.approx(vector, abs=1e-5)
        assert seen["usage"]["prompt_tokens"] == 8
        refused = await request(app, "POST", "/v1/completions", {"model": "tiny", "prompt": "a"})
        assert (refused.code, refused.json()["error"]["param"]) == (400, "model")
        await model.drain()
        await model.stop()

    asyncio.run(run())


def test_another_version_of_transformers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from hpc.serve.llm import hf

    monkeypatch.setitem(sys.modules, "transformers", types.SimpleNamespace(__version__="4.57.1"))
    with pytest.raises(EngineError, match=r"4\.57\.1 is there; 5\.x is needed"):
        hf.transformers()

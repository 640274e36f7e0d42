"""A conversation with a language model that this session serves, by the client of OpenAI.

    python examples/serve_llm.py                     the toy: no model, no download
    python examples/serve_llm.py --engine hf         a tiny Llama with random weights, made here
    python examples/serve_llm.py --engine hf --model FOLDER_OR_NAME

The door is a socket that only you can open. From another machine, forward it by ssh.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

import httpx
import openai

import hpc as ray
from hpc import serve
from hpc.serve.http.door import told
from hpc.serve.llm import LLMConfig, LLMServingArgs, build_openai_app

QUESTIONS = ("Where do nodes go at night?", "What does a queue dream of?", "Who counts the cores?")


async def ask(client: openai.AsyncOpenAI, question: str, tokens: int) -> str:
    """The answer to a question, read as it is made."""
    stream = await client.chat.completions.create(
        model="model",
        messages=[{"role": "user", "content": question}],
        temperature=0,
        max_tokens=tokens,
        stream=True,
        stream_options={"include_usage": True},
    )
    text, count = "", 0
    async for chunk in stream:
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
        if chunk.usage:
            count = chunk.usage.completion_tokens
    return f"{question} {text!r} ({count} tokens)"


async def talk(socket: str, tokens: int) -> None:
    """All questions at once: the engine makes their answers together."""
    http = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=socket))
    async with openai.AsyncOpenAI(base_url="http://localhost/v1", api_key="none", http_client=http) as client:
        print("models:", [model.id async for model in client.models.list()])
        for answer in await asyncio.gather(*(ask(client, question, tokens) for question in QUESTIONS)):
            print(answer)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--engine", default="toy", choices=["toy", "hf"])
    options.add_argument("--model", help="a folder with a model, or its name on the hub")
    options.add_argument("--tokens", type=int, default=40)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.engine == "hf" and given.model is None:
            import tiny_llama

            tiny_llama.save(Path(folder))
        config = LLMConfig(
            model_loading_config={"model_id": "model", "model_source": given.model or folder},
            llm_engine=given.engine,
            engine_kwargs={"num_blocks": 64, "max_batch_tokens": 256} if given.engine == "hf" else {},
        )
        ray.init(num_cpus=4)
        serve.run(build_openai_app(LLMServingArgs(llm_configs=[config])))
        (doors,) = told().values()
        asyncio.run(talk(doors[0].removeprefix("unix:"), given.tokens))
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()

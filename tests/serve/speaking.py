"""A model behind a real server on a socket, and the client of OpenAI that speaks with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from hpc.serve.llm.config import LLMConfig
from hpc.serve.llm.ingress import OpenAiApp
from hpc.serve.llm.models import model_of


def toy(**arguments: Any) -> Any:
    return model_of(LLMConfig(model_loading_config={"model_id": "toy"}, llm_engine="toy", engine_kwargs=arguments))


def spoken(use: Callable[[Any, Any], Awaitable[None]], socket: str, model: Any = None, **arguments: Any) -> None:
    """A server on a socket, and a client that speaks with it. Without a model it is the toy, with these arguments."""
    import httpx
    import openai
    import uvicorn

    own = model or toy(**arguments)

    async def run() -> None:
        await own.start()
        config = uvicorn.Config(OpenAiApp({"toy": own.answer}), uds=socket, log_level="error", lifespan="on")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.005)
        http = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=socket), timeout=60)
        client = openai.AsyncOpenAI(base_url="http://llm/v1", api_key="any", http_client=http, max_retries=0)
        try:
            await use(client, own)
            await asyncio.wait_for(own.drain(), 60)
            assert own.stats().kv_used == 0
        finally:
            await client.close()
            server.should_exit = True
            await serving
            await own.stop()

    asyncio.run(run())

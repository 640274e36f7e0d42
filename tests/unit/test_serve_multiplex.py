"""Many models in one replica: what waits for one load does not hang on the request that came first."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

from hpc.serve.context import RequestContext, current_request, get_multiplexed_model_id
from hpc.serve.multiplex import Models

whose = contextvars.ContextVar("whose", default="nobody")


def test_a_load_belongs_to_none_of_its_requests() -> None:
    async def load(model_id: str) -> tuple[str, ...]:
        await asyncio.sleep(0.01)
        # What the runtime knows of a call is such a variable, by which its children are found and cancelled.
        return model_id, get_multiplexed_model_id(), current_request.get().attempt_id, whose.get()

    async def ask(models: Models, attempt: str) -> Any:
        whose.set(attempt)
        current_request.set(RequestContext(multiplexed_model_id="m", attempt_id=attempt))
        return await models.get("m")

    async def run() -> None:
        models = Models(load, None, 1)
        first, second = [asyncio.ensure_future(ask(models, attempt)) for attempt in ("one", "other")]
        await asyncio.sleep(0)
        first.cancel()
        assert await second == ("m", "m", "", "nobody")

    asyncio.run(run())

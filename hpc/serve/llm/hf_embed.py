"""Vectors of texts by a model of transformers: the mean over what its last layer says of each token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from hpc.serve.llm.engine import Delta, Engine, EngineError, EngineInfo, EngineStats, NotOffered, TokenRequest
from hpc.serve.llm.hf_loading import HfConfig, check_divided, context_of, device_of, transformers


class HfEmbedEngine(Engine):
    """A model that makes vectors, one text after the other, and no text. source: a folder, or a name on the hub."""

    def __init__(self, model_id: str, source: str, config: HfConfig | None = None) -> None:
        self._model_id = model_id
        self._source = source
        self._config = config or HfConfig()
        self._model: Any = None
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def start(self) -> EngineInfo:
        check_divided(self._source, self._config)
        self._model = await asyncio.to_thread(self._load)
        return EngineInfo(
            model_id=self._model_id,
            context_length=context_of(self._model, self._config),
            vocab_size=self._model.config.vocab_size,
            max_batch=1,
            kv_tokens=0,
            embeds=True,
        )

    def _load(self) -> Any:
        config = self._config
        model = transformers().AutoModel.from_pretrained(
            self._source, dtype=config.dtype, trust_remote_code=config.trust_remote_code, revision=config.revision
        )
        return model.to(device_of(config)).eval()

    async def embed(self, tokens: Sequence[int]) -> list[float]:
        await self.check_health()
        self._waiting += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(self._vector, list(tokens))
        finally:
            self._waiting -= 1

    def _vector(self, tokens: list[int]) -> list[float]:
        import torch

        with torch.inference_mode():
            said = self._model(input_ids=torch.tensor([tokens], device=self._model.device)).last_hidden_state
            mean = said[0].float().mean(dim=0)
            values: list[float] = (mean / mean.norm().clamp_min(1e-12)).tolist()
            return values

    async def generate(self, request: TokenRequest) -> AsyncGenerator[Delta, None]:
        raise NotOffered("this model makes vectors, and no text: use /v1/embeddings", "model")
        yield Delta(tokens=[])

    async def cancel(self, request_id: str) -> None:
        """There is nothing to cancel."""

    def stats(self) -> EngineStats:
        return EngineStats(running=min(self._waiting, 1), waiting=max(self._waiting - 1, 0))

    async def check_health(self) -> None:
        if self._model is None:
            raise EngineError("the engine is not running: await start() first")

    async def drain(self) -> None:
        async with self._turn:
            pass

    async def stop(self) -> None:
        self._model = None

"""vLLM in this process, where it is installed: its stable asynchronous engine, tokens in and tokens out.

Only names that vLLM documents are used. Where more of it is wanted than an engine of tokens gives (images, forced
tools, its own options of requests), `llm_engine="process"` runs its server.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from hpc.serve.llm.engine import (
    Delta,
    Engine,
    EngineError,
    EngineInfo,
    EngineStats,
    Finish,
    NotOffered,
    TokenLogprob,
    TokenRequest,
)

#: The most alternatives that vLLM tells unless it is started with another `max_logprobs`.
LOGPROBS = 20
ENDS: dict[str, Finish] = {"stop": "stop", "length": "length", "abort": "cancel"}


class VllmEngine(Engine):
    """vLLM's AsyncLLM. engine_kwargs: what its AsyncEngineArgs takes."""

    def __init__(self, model_id: str, model: str, engine_kwargs: Mapping[str, Any]) -> None:
        self._model_id = model_id
        self._kwargs = {"model": model, "max_logprobs": LOGPROBS, **engine_kwargs}
        self._own: Any = None
        self._running: set[str] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        #: The tokens that end a text by the model's generation config, beside the tokenizer's; known once it is loaded.
        self.ends: frozenset[int] = frozenset()

    async def start(self) -> EngineInfo:
        try:
            self._vllm = importlib.import_module("vllm")
            engines = importlib.import_module("vllm.v1.engine.async_llm")
        except ImportError as error:
            raise EngineError(
                "llm_engine='vllm' needs vLLM in the environment of the replicas: pip install vllm (it brings its own "
                "torch), or take llm_engine='hf'"
            ) from error
        self._inputs = importlib.import_module("vllm.inputs")
        self._sampling = importlib.import_module("vllm.sampling_params")
        self._own = engines.AsyncLLM.from_engine_args(self._vllm.AsyncEngineArgs(**self._kwargs))
        config = self._own.vllm_config
        cache = config.cache_config
        # Models for conversations end their turn by another token than their tokenizer ends a text.
        generation = getattr(config.model_config, "try_get_generation_config", None)
        ends = None if generation is None else generation().get("eos_token_id")
        self.ends = frozenset(() if ends is None else (ends,) if isinstance(ends, int) else ends)
        return EngineInfo(
            model_id=self._model_id,
            context_length=config.model_config.max_model_len,
            vocab_size=config.model_config.get_vocab_size(),
            max_batch=config.scheduler_config.max_num_seqs,
            kv_tokens=(getattr(cache, "num_gpu_blocks", None) or 0) * cache.block_size,
            max_logprobs=self._kwargs["max_logprobs"],
        )

    async def generate(self, request: TokenRequest) -> AsyncGenerator[Delta, None]:
        await self.check_health()
        if request.adapter:
            raise NotOffered("adapters are not loaded in process: use llm_engine='process'", "model")
        prompt = self._inputs.TokensPrompt(prompt_token_ids=list(request.tokens))
        self._running.add(request.id)
        self._idle.clear()
        is_whole = False
        try:
            # vLLM takes a smaller priority first.
            own = self._own.generate(prompt, self._params(request), request.id, priority=-request.priority)
            async for output in own:
                delta = self._delta(output, request)
                is_whole = delta.finish is not None
                yield delta
                if is_whole:
                    return
        finally:
            self._running.discard(request.id)
            if not self._running:
                self._idle.set()
            if not is_whole and self._own is not None:
                await self._own.abort(request.id)

    def _params(self, request: TokenRequest) -> Any:
        return self._sampling.SamplingParams(
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k or -1,
            seed=request.seed,
            stop_token_ids=sorted(request.stop_tokens),
            # The tokens that end a text are among those above, unless they are to be ignored.
            ignore_eos=True,
            logprobs=request.logprobs,
            detokenize=False,
            output_kind=self._sampling.RequestOutputKind.DELTA,
        )

    @staticmethod
    def _delta(output: Any, request: TokenRequest) -> Delta:
        own = output.outputs[0]
        tokens = list(own.token_ids)
        told: list[TokenLogprob] | None = None
        if request.logprobs is not None and own.logprobs is not None:
            told = [_logprob(token, places, request.logprobs) for token, places in zip(tokens, own.logprobs)]
        ending = own.finish_reason
        finish = None if ending is None else ENDS.get(ending, "error")
        count = len(tokens)
        if finish == "stop" and tokens and tokens[-1] in request.stop_tokens:
            tokens, told = tokens[:-1], None if told is None else told[:-1]
        cached = getattr(output, "num_cached_tokens", None) or 0
        return Delta(tokens=tokens, logprobs=told, finish=finish, count=count, cached=cached)

    async def cancel(self, request_id: str) -> None:
        await self._own.abort(request_id)

    def stats(self) -> EngineStats:
        return EngineStats(running=len(self._running))

    async def check_health(self) -> None:
        if self._own is None:
            raise EngineError("the engine is not running: await start() first")
        try:
            await self._own.check_health()
        except Exception as error:
            raise EngineError(f"vLLM is not well: {error}") from error

    async def drain(self) -> None:
        await self._idle.wait()

    async def stop(self) -> None:
        if self._own is not None:
            self._own.shutdown()
            self._own = None


def _logprob(token: int, places: Mapping[int, Any], most: int) -> TokenLogprob:
    """vLLM tells the token that was taken and the most probable ones in one table, with their ranks."""
    ranked = sorted(places.items(), key=lambda item: -item[1].logprob)
    top: Sequence[tuple[int, float]] = [(other, value.logprob) for other, value in ranked[:most]]
    return TokenLogprob(token, places[token].logprob, tuple(top))

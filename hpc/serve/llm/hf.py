"""transformers' continuous batching as an engine, on CPUs or on a GPU.

transformers has its own scheduler, paged memory and thread; this hands it requests and reads what it tells. What it
does not know per request is refused: a seed, alternatives beside the token that was taken, a priority.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from hpc.serve.llm.engine import (
    Delta,
    Engine,
    EngineError,
    EngineInfo,
    EngineStats,
    Finish,
    NotOffered,
    TokenRequest,
    TooLong,
)
from hpc.serve.llm.hf_loading import NO_EOS, HfConfig, begin, check_divided, context_of, ends_of, transformers
from hpc.serve.llm.hf_ranks import Ranks
from hpc.serve.llm.text import PieceTokenizer

#: How long the loop has to end.
STOP_S = 30.0
#: The least temperature: the logits are divided by it in 32 bits, and infinite ones end the loop for all requests.
LEAST_TEMPERATURE = 0.01
#: How often to look whether the loop still runs.
LOOK_S = 1.0


def load_tokenizer(source: str, ends: frozenset[int] = frozenset(), **options: Any) -> PieceTokenizer:
    """The tokenizer of a model's files. options: of transformers' from_pretrained; None is none."""
    given = {name: value for name, value in options.items() if value is not None}
    return PieceTokenizer(transformers().AutoTokenizer.from_pretrained(source, **given), ends)


class HfEngine(Engine):
    """A model of transformers. source: a folder, or a name on the hub."""

    def __init__(self, model_id: str, source: str, config: HfConfig | None = None) -> None:
        self._model_id = model_id
        self._source = source
        self._config = config or HfConfig()
        self._manager: Any = None
        #: The other ranks, where the model is divided.
        self._ranks: Ranks | None = None
        self._context = 0
        self._vocab = 0
        self._readers: dict[str, asyncio.Queue[Any]] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        #: The tokens that end a text, by the model's generation config; known once it is loaded.
        self.ends: frozenset[int] = frozenset()

    async def start(self) -> EngineInfo:
        check_divided(self._source, self._config)
        if self._config.tensor_parallel_size > 1:
            self._ranks = Ranks(self._source, self._config)
            loaded = await self._ranks.start()
        else:
            loaded = await asyncio.to_thread(begin, self._source, self._config)
        self._manager, info = loaded.manager, self._known(loaded.model)
        self._context = info.context_length
        # The first step makes the memory and compiles what there is to compile: no client waits for that.
        first = TokenRequest(id="first", tokens=[0], max_tokens=1, temperature=0)
        async for delta in self.generate(first):
            if delta.error:
                raise EngineError(f"the model makes no token: {delta.error}")
        # A sequence that has no room by itself would end transformers' loop.
        memory = self.stats().kv_total
        self._context = min(self._context, memory or self._context)
        return msgspec.structs.replace(info, kv_tokens=memory, context_length=self._context)

    def _known(self, model: Any) -> EngineInfo:
        """What a model's files say of it."""
        self.ends = ends_of(model)
        self._vocab = model.config.get_text_config().vocab_size
        return EngineInfo(
            model_id=self._model_id,
            context_length=context_of(model, self._config),
            vocab_size=self._vocab,
            max_batch=self._config.max_batch_tokens or 0,
            kv_tokens=0,
        )

    async def generate(self, request: TokenRequest) -> AsyncGenerator[Delta, None]:
        await self.check_health()
        self._check(request)
        reader: asyncio.Queue[Any] = asyncio.Queue()
        was_idle = not self._readers
        self._readers[request.id] = reader
        self._idle.clear()
        is_whole = False
        try:
            self._manager.register_result_handler(request.id, reader.put_nowait)
            self._manager.add_request(
                list(request.tokens),
                request_id=request.id,
                max_new_tokens=request.max_tokens,
                streaming=True,
                eos_token_id=sorted(request.stop_tokens) or NO_EOS,
                # These types are checked there: an int is no temperature.
                temperature=max(float(request.temperature), LEAST_TEMPERATURE) if request.temperature > 0 else 1.0,
                top_k=1 if request.temperature <= 0 else min(int(request.top_k) or self._vocab, self._vocab),
                top_p=float(request.top_p),
            )
            if was_idle and self._ranks is not None:
                self._ranks.wake()
            made = 0
            while not is_whole:
                output = await reader.get()
                delta = self._delta(output, request, made)
                made += len(delta.tokens)
                is_whole = delta.finish is not None
                yield delta
        finally:
            self._readers.pop(request.id, None)
            if not self._readers:
                self._idle.set()
            if not is_whole:
                self._drop(request.id)

    def _check(self, request: TokenRequest) -> None:
        if request.seed is not None and request.temperature > 0:
            raise NotOffered("this engine has no seed per request: leave it out, or set temperature to 0", "seed")
        if request.adapter:
            raise NotOffered("this engine loads no adapters", "model")
        if request.priority:
            raise NotOffered("this engine has no priorities: leave it out", "priority")
        if len(request.tokens) + request.max_tokens > self._context:
            raise TooLong(
                f"{len(request.tokens)} tokens and {request.max_tokens} to come: the most are {self._context}"
            )

    def _delta(self, output: Any, request: TokenRequest, made: int) -> Delta:
        """What is new in an output: it has all tokens of the sequence."""
        if isinstance(output, Delta):
            return output
        if output.error:
            return Delta(tokens=[], finish="error", error=str(output.error))
        tokens = list(output.generated_tokens[made:])
        count = len(tokens)
        finish: Finish | None = None
        if output.is_finished():
            stops = bool(tokens) and tokens[-1] in request.stop_tokens
            finish = "stop" if stops else "length"
            tokens = tokens[:-1] if stops else tokens
        return Delta(tokens=tokens, finish=finish, count=count)

    def _drop(self, request_id: str) -> None:
        """End a request that nobody reads; its handler would stay for good, since nothing more comes for it."""
        if self._manager is None:
            return
        self._manager.cancel_request(request_id)
        with contextlib.suppress(AttributeError):
            self._manager.output_router.result_handlers.pop(request_id, None)

    async def cancel(self, request_id: str) -> None:
        if (reader := self._readers.get(request_id)) is not None:
            self._drop(request_id)
            reader.put_nowait(Delta(tokens=[], finish="cancel"))

    def stats(self) -> EngineStats:
        used, total = _memory(self._manager)
        return EngineStats(running=len(self._readers), kv_used=used, kv_total=total)

    async def check_health(self) -> None:
        if self._manager is None:
            raise EngineError("the engine is not running: await start() first")
        if not self._manager.is_running():
            raise EngineError("transformers' loop has ended: its reason is in the log of the replica")

    async def lost(self) -> str:
        while self._manager is not None and self._manager.is_running():
            if self._ranks is None:
                await asyncio.sleep(LOOK_S)
                continue
            with contextlib.suppress(asyncio.TimeoutError):
                why = await asyncio.wait_for(self._ranks.lost(), LOOK_S)
                self._fail(why)
                return why
        if self._manager is None:
            return await super().lost()
        why = "transformers' loop has ended: its reason is in the log of the replica"
        self._fail(why)
        return why

    def _fail(self, why: str) -> None:
        """End all requests by an error."""
        for reader in self._readers.values():
            reader.put_nowait(Delta(tokens=[], finish="error", error=why))

    async def drain(self) -> None:
        await self._idle.wait()

    async def stop(self) -> None:
        manager, self._manager = self._manager, None
        if manager is None:
            return
        for request_id in self._readers:
            manager.cancel_request(request_id)
        self._fail("the engine has been stopped")
        if self._ranks is not None:
            await self._ranks.stop()
        else:
            await asyncio.to_thread(manager.stop, True, STOP_S)


def _memory(manager: Any) -> tuple[int, int]:
    """For how many tokens memory is in use, and for how many there is some. No part of what transformers promises:
    0 where it is not found."""
    with contextlib.suppress(AttributeError, ZeroDivisionError):
        used = total = 0
        for allocator in manager.batch_processor.cache.cache_allocators.values():
            tokens = allocator.num_pages * allocator.tokens_per_page
            blocks = sum(len(table) for table in list(allocator.block_table.values()))
            used, total = max(used, blocks * tokens // allocator.num_blocks), max(total, tokens)
        return used, total
    return 0, 0

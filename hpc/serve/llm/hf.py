"""transformers' continuous batching as an engine, on CPUs or on a GPU.

transformers has its own scheduler, paged memory and thread; this hands it requests and reads what it tells. What it
does not know per request is refused: a seed, alternatives beside the token that was taken, a priority.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, Literal

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
from hpc.serve.llm.text import PieceTokenizer

#: The versions of transformers that this was made for.
MAJOR = 5
#: No token ends a text, and how long the loop has to end.
NO_EOS = -1
STOP_S = 30.0
#: The least temperature: the logits are divided by it in 32 bits, and infinite ones end the loop for all requests.
LEAST_TEMPERATURE = 0.01
#: The tokens of a sequence where the model's files name no bound.
DEFAULT_CONTEXT = 4096


class HfConfig(msgspec.Struct, kw_only=True):
    """How transformers loads and runs a model.

    task: "generate" text, or "embed" texts as vectors; for these what follows of memory and batches has no meaning.
    dtype: "auto" takes that of the files. device: None takes a GPU where there is one. attn_implementation: without
    its prefix for pages. num_blocks, max_batch_tokens: None leaves both to transformers, which measures memory;
    max_memory: the share of what is free that it takes. share_prefixes: prompts that begin alike are computed once."""

    task: Literal["generate", "embed"] = "generate"
    dtype: str = "auto"
    device: str | None = None
    attn_implementation: str = "sdpa"
    num_blocks: int | None = None
    max_batch_tokens: int | None = None
    max_memory: float = 0.6
    share_prefixes: bool = True
    context_length: int | None = None
    trust_remote_code: bool = False
    revision: str | None = None


def transformers() -> Any:
    """The package. Raises EngineError that says which version is needed."""
    try:
        import transformers as package
    except ImportError as error:
        raise EngineError("models of transformers need it: pip install 'hpc[llm]'") from error
    if int(package.__version__.partition(".")[0]) != MAJOR:
        raise EngineError(f"transformers {package.__version__} is there; {MAJOR}.x is needed: pip install 'hpc[llm]'")
    return package


def device_of(config: HfConfig) -> str:
    """Where the model runs."""
    import torch

    return config.device or ("cuda" if torch.cuda.is_available() else "cpu")


def context_of(model: Any, config: HfConfig) -> int:
    """The most tokens of a sequence."""
    return int(config.context_length or getattr(model.config, "max_position_embeddings", None) or DEFAULT_CONTEXT)


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
        self._context = 0
        self._readers: dict[str, asyncio.Queue[Any]] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        #: The tokens that end a text, by the model's generation config; known once it is loaded.
        self.ends: frozenset[int] = frozenset()

    async def start(self) -> EngineInfo:
        self._manager, info = await asyncio.to_thread(self._load)
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

    def _load(self) -> tuple[Any, EngineInfo]:
        """Load the model and begin its loop. It takes long, and holds no event loop."""
        package, config = transformers(), self._config
        model = package.AutoModelForCausalLM.from_pretrained(
            self._source,
            dtype=config.dtype,
            attn_implementation=config.attn_implementation,
            trust_remote_code=config.trust_remote_code,
            revision=config.revision,
        ).to(device_of(config))
        own = model.generation_config
        eos = own.eos_token_id if own.eos_token_id is not None else model.config.eos_token_id
        self.ends = frozenset(() if eos is None else (eos,) if isinstance(eos, int) else eos)
        # Each of these is there per request only if its default is another one than none.
        wished = package.GenerationConfig(
            do_sample=True, temperature=0.5, top_k=1, top_p=0.5, max_new_tokens=1, eos_token_id=NO_EOS
        )
        manager = model.init_continuous_batching(
            generation_config=wished,
            continuous_batching_config=package.ContinuousBatchingConfig(
                num_blocks=config.num_blocks,
                max_batch_tokens=config.max_batch_tokens,
                max_memory_percent=config.max_memory,
                allow_block_sharing=config.share_prefixes,
                per_request_processors=True,
                use_async_batching=False,
            ),
        )
        manager.start()
        self._vocab = model.config.vocab_size
        info = EngineInfo(
            model_id=self._model_id,
            context_length=context_of(model, config),
            vocab_size=self._vocab,
            max_batch=config.max_batch_tokens or 0,
            kv_tokens=0,
        )
        return manager, info

    async def generate(self, request: TokenRequest) -> AsyncGenerator[Delta, None]:
        await self.check_health()
        self._check(request)
        reader: asyncio.Queue[Any] = asyncio.Queue()
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

    async def drain(self) -> None:
        await self._idle.wait()

    async def stop(self) -> None:
        manager, self._manager = self._manager, None
        if manager is not None:
            for request_id, reader in self._readers.items():
                manager.cancel_request(request_id)
                reader.put_nowait(Delta(tokens=[], finish="error", error="the engine has been stopped"))
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

"""The face of an engine: tokens in, tokens out. Text, templates, stop strings and HTTP are above it.

An engine decides by itself what it runs together. Its callers make requests, read what comes of each one, and cancel.
All engines keep the same rules, and one test holds all of them to it (`tests/unit/test_llm_engines.py`):

* `generate` yields a `Delta` for each step in which the sequence got tokens; the last one has `finish`.
* What a sequence gets depends on its own request only, and not on those that run beside it.
* A generator that is closed, or a request that is cancelled, gives its memory back at the engine's next step.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from typing import Literal

import msgspec

#: Why a sequence has ended: a stop token, `max_tokens`, its caller, or a failure of the engine.
Finish = Literal["stop", "length", "cancel", "error"]


class EngineError(RuntimeError):
    """The engine cannot serve what it was asked for."""


class TooLong(EngineError):
    """A prompt that does not fit into the model's context, or into the engine's memory."""


class NotOffered(EngineError):
    """A request that this engine does not know how to serve; `param` names the field that asks for it."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class EngineInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What callers may ask of an engine.

    context_length: the most tokens of a sequence, with its prompt. max_batch: how many sequences run at a time; 0: no
    fixed number. kv_tokens: for how many tokens the engine has memory. max_logprobs: how many alternatives a token may
    be told with; -1: none, nor the token's own."""

    model_id: str
    context_length: int
    vocab_size: int
    max_batch: int
    kv_tokens: int
    max_logprobs: int = -1
    embeds: bool = False


class TokenRequest(msgspec.Struct, kw_only=True):
    """One sequence to be made.

    temperature: 0 takes the most probable token each time. top_k: 0 is no limit. seed: the same request with the same
    seed gets the same tokens; None draws one. logprobs: how many alternatives to tell with each token; None: tell no
    probabilities. priority: a larger one goes first."""

    id: str
    tokens: Sequence[int]
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop_tokens: frozenset[int] = frozenset()
    logprobs: int | None = None
    adapter: str = ""
    priority: int = 0


class TokenLogprob(msgspec.Struct, frozen=True):
    """The logarithm of a token's probability, and the most probable tokens in its place with theirs."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


class Delta(msgspec.Struct, kw_only=True):
    """What a sequence got in a step. A token that stopped it is not among its tokens, but counts in `count`."""

    tokens: list[int]
    logprobs: list[TokenLogprob] | None = None
    finish: Finish | None = None
    count: int = 0
    cached: int = 0
    error: str = ""


class EngineStats(msgspec.Struct, frozen=True, kw_only=True):
    """How an engine stands. `kv_used` and `kv_total` are in tokens; `prefix_hits` counts tokens not computed again."""

    running: int = 0
    waiting: int = 0
    kv_used: int = 0
    kv_total: int = 0
    prefix_hits: int = 0
    preempted: int = 0


class Engine(ABC):
    """What makes tokens. `start` comes first, once; `stop` comes last and ends what runs still."""

    @abstractmethod
    async def start(self) -> EngineInfo:
        """Load the model and begin to serve."""

    @abstractmethod
    def generate(self, request: TokenRequest) -> AsyncGenerator[Delta, None]:
        """The tokens of a request, as they are made. Closing the generator cancels the request.

        Raises TooLong, NotOffered or EngineError at its first step."""

    @abstractmethod
    async def cancel(self, request_id: str) -> None:
        """End a request; its generator gets a last Delta with finish "cancel". One that is not there is ignored."""

    @abstractmethod
    def stats(self) -> EngineStats:
        """How the engine stands at this moment."""

    @abstractmethod
    async def check_health(self) -> None:
        """Raise EngineError if the engine cannot serve any more."""

    @abstractmethod
    async def drain(self) -> None:
        """Wait until nothing runs and nothing waits."""

    @abstractmethod
    async def stop(self) -> None:
        """End all requests and give everything back."""

    async def lost(self) -> str:
        """Wait until the engine ends by itself, and say why: its process is of no more use then."""
        await asyncio.get_running_loop().create_future()
        raise AssertionError("this engine never ends by itself")

    async def embed(self, tokens: Sequence[int]) -> list[float]:
        """A vector of length 1 that stands for the tokens. Raises NotOffered unless the engine's info has `embeds`."""
        raise NotOffered(f"{type(self).__name__} makes no embeddings: use a model and an engine that do", "model")

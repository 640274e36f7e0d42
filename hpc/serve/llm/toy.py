"""The toy engine: a language model in pure Python whose every answer is known beforehand.

Its next token is a function of the tokens before it, and of the seed where the temperature is above 0. So a test knows
the exact text, and no other sequence may change it. What a model keeps per token, keys and values, is here a hash of
all tokens so far. It lies in blocks as on a GPU: an engine that shares, moves or frees a wrong block says a wrong word.

It speaks UTF-8 in characters of one to four bytes, a byte for a token, and ends by itself now and then.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import secrets
from collections.abc import AsyncGenerator, Sequence

from hpc.serve.llm.engine import Delta, Engine, EngineError, EngineInfo, EngineStats, TokenLogprob, TokenRequest
from hpc.serve.llm.sampling import Candidate, pick
from hpc.serve.llm.scheduler import Outcome, Scheduler, SchedulerConfig

#: Tokens 0 to 255 are bytes; one begins a text, one ends it.
BEGIN = 256
END = 257
VOCAB = 258
#: Of how many characters one ends the text.
END_IN = 97
#: How many tokens have a chance at each place, and with which probabilities.
CHANCES = (8 / 15, 4 / 15, 2 / 15, 1 / 15)
#: Characters of one byte, and how many bytes follow on the first one of a longer character.
LETTERS = b"eeeetttaaooiinnsshhrrdlucmwfgypbvk      .,"
LEADS = {0xC3: 1, 0xE2: 2, 0xF0: 3}
EMBEDDING = 16

#: What the model keeps of a token: a hash of all tokens up to it, and the last three of them.
State = tuple[bytes, tuple[int, ...]]


def begin(adapter: str = "") -> State:
    """What the model keeps before its first token: each adapter is another model."""
    return adapter.encode(), ()


def advance(state: State, token: int) -> State:
    """What the model keeps once it has read one more token."""
    digest, tail = state
    return hashlib.blake2b(digest + token.to_bytes(4, "big"), digest_size=16).digest(), (*tail[-2:], token)


def candidates(state: State) -> list[Candidate]:
    """The tokens that may follow, the most probable first, with the logarithms of their probabilities."""
    digest, tail = state
    found: list[int] = []
    number = 0
    while len(found) < len(CHANCES):
        token = _choice(hashlib.blake2b(digest + bytes((number,)), digest_size=4).digest(), tail)
        number += 1
        if token not in found:
            found.append(token)
    return [(token, math.log(chance)) for token, chance in zip(found, CHANCES)]


def _choice(noise: bytes, tail: tuple[int, ...]) -> int:
    number = int.from_bytes(noise, "big")
    for back, token in enumerate(reversed(tail), 1):
        if LEADS.get(token, 0) >= back:
            # The second byte of a character of four begins no longer one than UTF-8 has.
            return 0x9C + number % 4 if token == 0xF0 and back == 1 else 0x80 + number % 64
    if number % END_IN == 0:
        return END
    if number % 11 == 0:
        return (*LEADS,)[number // 11 % len(LEADS)]
    return LETTERS[number // 97 % len(LETTERS)]


def expected(request: TokenRequest) -> list[int]:
    """The specification: what the engine must answer, whatever else it serves."""
    state = begin(request.adapter)
    for token in request.tokens:
        state = advance(state, token)
    made: list[int] = []
    while len(made) < request.max_tokens:
        token = pick(candidates(state), request, len(request.tokens) + len(made))
        if token in request.stop_tokens:
            break
        made.append(token)
        state = advance(state, token)
    return made


class ToyEngine(Engine):
    """Continuous batching over the toy model. It runs on the event loop that starts it.

    step_s: how long a step takes at least, as if a device computed it."""

    def __init__(self, model_id: str = "toy", *, scheduler: SchedulerConfig | None = None, step_s: float = 0.0) -> None:
        self.model_id = model_id
        self.config = scheduler or SchedulerConfig()
        self.step_s = step_s
        self._scheduler = Scheduler(self.config)
        #: What the model keeps of each token, by block: the toy's keys and values.
        self._memory: list[list[State]] = [[begin()] * self.config.block_size for _ in range(self.config.num_blocks)]
        self._requests: dict[str, TokenRequest] = {}
        self._readers: dict[str, asyncio.Queue[Delta]] = {}
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self._failure = ""

    async def start(self) -> EngineInfo:
        self._task = asyncio.create_task(self._serve())
        config = self.config
        return EngineInfo(
            model_id=self.model_id,
            context_length=min(config.context_length, config.num_blocks * config.block_size),
            vocab_size=VOCAB,
            max_batch=config.max_running,
            kv_tokens=config.num_blocks * config.block_size,
            max_logprobs=len(CHANCES),
            embeds=True,
        )

    async def generate(self, request: TokenRequest) -> AsyncGenerator[Delta, None]:
        await self.check_health()
        if request.seed is None:
            request.seed = secrets.randbits(32)
        self._scheduler.add(
            request.id, request.tokens, request.max_tokens, request.stop_tokens, request.priority, request.adapter
        )
        self._requests[request.id] = request
        reader = self._readers[request.id] = asyncio.Queue()
        self._wake()
        try:
            while True:
                delta = await reader.get()
                yield delta
                if delta.finish is not None:
                    return
        finally:
            self._end(request.id)

    async def cancel(self, request_id: str) -> None:
        if request_id in self._readers:
            self._readers[request_id].put_nowait(Delta(tokens=[], finish="cancel"))
            self._end(request_id)

    def stats(self) -> EngineStats:
        scheduler, size = self._scheduler, self.config.block_size
        return EngineStats(
            running=scheduler.running,
            waiting=scheduler.waiting,
            kv_used=scheduler.blocks.used * size,
            kv_total=scheduler.blocks.total * size,
            prefix_hits=scheduler.prefix_hits,
            preempted=scheduler.preempted,
        )

    async def check_health(self) -> None:
        if self._task is None:
            raise EngineError("the engine has not been started: await start() first")
        if self._task.done():
            raise EngineError(self._failure or "the engine has been stopped")

    async def drain(self) -> None:
        await self._idle.wait()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._end_all("the engine has been stopped")

    async def embed(self, tokens: Sequence[int]) -> list[float]:
        state = begin()
        for token in tokens:
            state = advance(state, token)
        raw = [int.from_bytes(state[0][i : i + 1], "big") - 127.5 for i in range(EMBEDDING)]
        length = math.sqrt(sum(x * x for x in raw))
        return [x / length for x in raw]

    # -------------------------------------------------------------- the loop

    def _end_all(self, why: str) -> None:
        for reader in self._readers.values():
            reader.put_nowait(Delta(tokens=[], finish="error", error=why))
        self._idle.set()

    def _wake(self) -> None:
        self._idle.clear()
        self._work.set()

    def _end(self, request_id: str) -> None:
        if self._readers.pop(request_id, None) is not None:
            self._requests.pop(request_id)
            if self._scheduler.cancel(request_id):
                self._wake()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._scheduler.has_work:
                self._idle.set()
                self._work.clear()
                await self._work.wait()
            began = loop.time()
            try:
                self._step()
            except Exception as error:
                self._failure = f"the engine's step failed: {error!r}"
                self._end_all(self._failure)
                raise
            # Also without a pause the others on this loop have their turn after each step.
            await asyncio.sleep(max(0.0, self.step_s - (loop.time() - began)) if self.step_s else 0)

    def _step(self) -> None:
        """Compute one step, and tell the readers what came of it."""
        sampled: dict[str, int] = {}
        logprobs: dict[str, TokenLogprob] = {}
        for chunk in self._scheduler.plan():
            request, size = self._requests[chunk.id], self.config.block_size
            state = begin(request.adapter)
            if chunk.start:
                state = self._memory[chunk.blocks[(chunk.start - 1) // size]][(chunk.start - 1) % size]
            for place, token in enumerate(chunk.tokens, chunk.start):
                state = advance(state, token)
                self._memory[chunk.blocks[place // size]][place % size] = state
            if chunk.samples:
                choices = candidates(state)
                token = sampled[chunk.id] = pick(choices, request, chunk.start + len(chunk.tokens))
                if request.logprobs is not None:
                    logprobs[chunk.id] = TokenLogprob(token, dict(choices)[token], tuple(choices[: request.logprobs]))
        for outcome in self._scheduler.commit(sampled):
            self._tell(outcome, logprobs.get(outcome.id))

    def _tell(self, outcome: Outcome, logprob: TokenLogprob | None) -> None:
        is_shown = outcome.end != "stop"
        self._readers[outcome.id].put_nowait(
            Delta(
                tokens=[outcome.token] if is_shown else [],
                logprobs=[logprob] if logprob is not None and is_shown else None,
                finish=outcome.end,
                count=1,
                cached=outcome.cached,
            )
        )

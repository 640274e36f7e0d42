"""A model that is served: requests in OpenAI's form in, answers out, over an engine of tokens.

A model answers by `Reply`: a status, and a body or a stream of it. All that can be refused is refused before the first
byte. A stream that is closed before its end cancels what the engine does for it.
"""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

import msgspec

from hpc.serve.llm import schema
from hpc.serve.llm.choice import Choice, Piece
from hpc.serve.llm.engine import Engine, EngineError, EngineInfo, EngineStats, NotOffered, TokenRequest, TooLong
from hpc.serve.llm.openai import DONE, EVENTS, JSON, ChatForm, Form, TextForm, Usage, embeddings, event, joined
from hpc.serve.llm.schema import ApiError
from hpc.serve.llm.template import TemplateError
from hpc.serve.llm.text import Tokenizer
from hpc.serve.llm.tools import Reader

#: How many tokens an answer of /v1/completions has, as OpenAI has it. One of a conversation may fill the context.
COMPLETION_TOKENS = 16
#: A request of more bytes is read in a thread.
LONG_BYTES = 64 * 1024
#: More characters than a token has on average, and how many tokens fewer the beginning of a text may have within the
#: whole than by itself.
TOKEN_LETTERS = 8
MARGIN = 64
T = TypeVar("T")


class Reply(msgspec.Struct, frozen=True):
    """An answer: whole in `body`, or in parts by `stream`."""

    status: int
    content_type: str
    body: bytes = b""
    stream: Opened | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()


def refused(error: ApiError) -> Reply:
    """The answer that tells an error."""
    seconds = error.retry_after_s
    headers = () if seconds is None else ((b"retry-after", str(math.ceil(seconds)).encode()),)
    return Reply(error.http_status, JSON, error.body(), headers=headers)


def broken(error: ApiError) -> bytes:
    """The end of a stream that an error breaks off."""
    return event(msgspec.json.decode(error.body())) + DONE


class Model(ABC):
    """What a replica serves, whatever makes its answers."""

    @abstractmethod
    async def start(self) -> None:
        """Load the model."""

    @abstractmethod
    async def answer(self, path: str, body: bytes) -> Reply:
        """The answer to a POST. Errors are answers too."""

    @abstractmethod
    def stats(self) -> EngineStats:
        """How the engine stands."""

    @abstractmethod
    async def check_health(self) -> None:
        """Raise EngineError if the model cannot be served any more."""

    @abstractmethod
    async def drain(self) -> None:
        """Wait until nothing runs."""

    @abstractmethod
    async def stop(self) -> None:
        """Give everything back."""

    async def lost(self) -> str:
        """Wait until the model ends by itself, and say why. Those that only `check_health` knows about never return."""
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nobody ends this wait")


class Prompt(msgspec.Struct):
    """What one request wants of the engine: prompts, and how they go on."""

    request: schema.Request
    prompts: list[list[int]]
    echoed: list[str]
    most: int | None
    logprobs: int | None
    form: Form
    field: str
    #: What makes readers of calls of tools, one for each answer.
    reader: Callable[[], Reader] | None = None


class TokenModel(Model):
    """A model over an engine that takes and gives tokens. reader: what reads calls of tools out of its text."""

    def __init__(
        self, engine: Engine, tokenizer: Callable[[], Tokenizer], reader: Callable[[], Reader] | None = None
    ) -> None:
        self._engine = engine
        self._reader = reader
        self._turn = asyncio.Lock()
        self._make_tokenizer = tokenizer
        self._routes: dict[str, Callable[[bytes], Any]] = {
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._complete,
            "/v1/embeddings": self._embed,
            "/tokenize": self._tokenize,
            "/detokenize": self._detokenize,
        }

    async def start(self) -> None:
        self._info: EngineInfo = await self._engine.start()
        self._tokenizer = self._make_tokenizer()

    async def answer(self, path: str, body: bytes) -> Reply:
        try:
            if (route := self._routes.get(path)) is None:
                raise ApiError(404, f"there is no {path}: {', '.join(self._routes)}", code="not_found")
            reply: Reply = await route(body)
            return reply
        except ApiError as error:
            return refused(error)
        except (NotOffered, TemplateError) as error:
            return refused(ApiError(400, str(error), param=getattr(error, "param", "messages")))
        except TooLong as error:
            return refused(ApiError(400, str(error), code="context_length_exceeded"))
        except EngineError as error:
            return refused(ApiError(503, str(error), code="engine_unavailable"))

    def stats(self) -> EngineStats:
        return self._engine.stats()

    async def check_health(self) -> None:
        await self._engine.check_health()

    async def drain(self) -> None:
        await self._engine.drain()

    async def stop(self) -> None:
        await self._engine.stop()

    async def lost(self) -> str:
        return await self._engine.lost()

    # -------------------------------------------------------------- text

    async def _chat(self, body: bytes) -> Reply:
        return await self._text(await self._made(self._chat_prompt, body))

    async def _complete(self, body: bytes) -> Reply:
        return await self._text(await self._made(self._text_prompt, body))

    async def _made(self, make: Callable[[bytes], T], body: bytes) -> T:
        """What is made of a body. A long one holds up nobody else: it has a thread, and one at a time has memory."""
        if len(body) <= LONG_BYTES:
            return make(body)
        await self._turn.acquire()
        work = asyncio.ensure_future(asyncio.to_thread(make, body))
        # A client that goes away does not end the thread, and the next one waits for it.
        work.add_done_callback(lambda _: self._turn.release())
        return await asyncio.shield(work)

    def _chat_prompt(self, body: bytes) -> Prompt:
        request = schema.parse(schema.ChatRequest, body)
        text = self._tokenizer.chat(request.conversation(), request.template_values())
        with_logprobs = bool(request.logprobs)
        form = ChatForm(f"chatcmpl-{uuid.uuid4().hex}", request.model, int(time.time()), with_logprobs)
        # The template has written the special tokens already.
        prompts = [self._fitting("messages", text, add_special=False)]
        most = request.max_completion_tokens or request.max_tokens
        logprobs = (request.top_logprobs or 0) if with_logprobs else None
        reader = self._reader if request.offers_tools else None
        if reader is not None and request.parallel_tool_calls is False:
            reader = partial(_one_call, reader)
        return Prompt(request, prompts, [], most, logprobs, form, "messages", reader)

    def _text_prompt(self, body: bytes) -> Prompt:
        request = schema.parse(schema.CompletionRequest, body)
        given = schema.texts_or_tokens("prompt", request.prompt)
        prompts = [self._encoded("prompt", one, request.add_special_tokens) for one in given]
        form = TextForm(f"cmpl-{uuid.uuid4().hex}", request.model, int(time.time()), request.logprobs is not None)
        echoed = [one if isinstance(one, str) else self._tokenizer.decode(one) for one in given] if request.echo else []
        most = request.max_tokens or COMPLETION_TOKENS
        return Prompt(request, prompts, echoed, most, request.logprobs, form, "prompt")

    async def _text(self, prompt: Prompt) -> Reply:
        requests = self._token_requests(prompt)
        stops, make = prompt.request.stops(), prompt.reader
        choices = [Choice(self._tokenizer, stops, prompt.logprobs, make and make()) for _ in requests]
        pieces = merged([self._pieces(one, choice) for one, choice in zip(requests, choices)])
        usage = Usage(prompt=sum(map(len, prompt.prompts)))
        count = prompt.request.n or 1
        if prompt.request.stream:
            stream = self._events(prompt, pieces, choices, usage)
            return Reply(200, EVENTS, stream=await opened(stream))
        found: list[list[Piece]] = [[] for _ in requests]
        async with aclosing(pieces):
            async for index, piece in pieces:
                found[index].append(piece)
        for index in range(len(found)):
            if prompt.echoed:
                found[index].insert(0, Piece(prompt.echoed[index // count], [], None))
        _count(usage, choices, count)
        return Reply(200, JSON, prompt.form.answer([joined(one) for one in found], usage))

    async def _events(
        self,
        prompt: Prompt,
        pieces: AsyncGenerator[tuple[int, Piece], None],
        choices: Sequence[Choice],
        usage: Usage,
    ) -> AsyncGenerator[bytes, None]:
        """The events of a stream. Its first item comes with the first token, so that what is refused has a status."""
        options = prompt.request.stream_options
        with_usage = options is not None and options.include_usage
        form = prompt.form
        begun: set[int] = set()
        async with aclosing(pieces):
            try:
                async for index, piece in pieces:
                    frames = []
                    if index not in begun:
                        begun.add(index)
                        frames.append(form.beginning(index))
                        if prompt.echoed:
                            echoed = prompt.echoed[index // (prompt.request.n or 1)]
                            frames += form.part(index, Piece(echoed, [], None))
                    frames += form.part(index, piece)
                    if data := b"".join(form.frame(one, with_usage) for one in frames if one is not None):
                        yield data
            except EngineError as error:
                # Before the first event it is an answer of its own; behind that only the stream can tell it.
                if not begun:
                    raise
                yield broken(ApiError(500, str(error)))
                return
        _count(usage, choices, prompt.request.n or 1)
        yield (form.usage_frame(usage) if with_usage else b"") + DONE

    async def _pieces(self, request: TokenRequest, choice: Choice) -> AsyncGenerator[Piece, None]:
        """What one sequence adds to its answer, step by step."""
        async with aclosing(self._engine.generate(request)) as deltas:
            async for delta in deltas:
                if delta.finish in ("error", "cancel"):
                    raise EngineError(delta.error or "the request was cancelled")
                piece = choice.take(delta)
                if piece.text or piece.logprobs or piece.calls or piece.finish:
                    yield piece
                if piece.finish:
                    return

    def _token_requests(self, prompt: Prompt) -> list[TokenRequest]:
        """A sequence for each answer that is wished for."""
        request, info = prompt.request, self._info
        if prompt.logprobs is not None and prompt.logprobs > info.max_logprobs:
            told = "none" if info.max_logprobs < 0 else f"at most {info.max_logprobs}"
            raise ApiError(400, f"logprobs: this engine tells {told}", param="logprobs", code="invalid_value")
        self._check_tokens("stop_token_ids", request.stop_token_ids or ())
        stop_tokens = frozenset() if request.ignore_eos else self._tokenizer.ends
        made = []
        for tokens in prompt.prompts:
            room = info.context_length - len(tokens)
            most = room if prompt.most is None else prompt.most
            if room < 1 or most > room:
                raise ApiError(
                    400,
                    f"{prompt.field}: {len(tokens)} tokens, and {max(most, 1)} for the answer, are more than the "
                    f"{info.context_length} of the model's context",
                    param=prompt.field,
                    code="context_length_exceeded",
                )
            for number in range(request.n or 1):
                made.append(
                    TokenRequest(
                        id=uuid.uuid4().hex,
                        tokens=tokens,
                        max_tokens=most,
                        temperature=1.0 if request.temperature is None else request.temperature,
                        top_p=1.0 if request.top_p is None else request.top_p,
                        top_k=min(max(request.top_k or 0, 0), info.vocab_size),
                        seed=None if request.seed is None else _nth_seed(request.seed, number),
                        stop_tokens=stop_tokens | frozenset(request.stop_token_ids or ()),
                        logprobs=prompt.logprobs,
                        priority=request.priority,
                    )
                )
        return made

    def _encoded(self, field: str, given: str | list[int], add_special: bool = True) -> list[int]:
        tokens = self._fitting(field, given, add_special) if isinstance(given, str) else given
        if not tokens:
            raise ApiError(400, f"{field}: it has no tokens", param=field, code="invalid_value")
        self._check_tokens(field, tokens)
        return tokens

    def _fitting(self, field: str, text: str, add_special: bool) -> list[int]:
        """The tokens of a prompt. Of one that is much too long the beginning tells it: the rest takes no memory."""
        context = self._info.context_length
        begin = text[: context * TOKEN_LETTERS]
        if len(begin) < len(text) and (count := len(self._tokenizer.encode(begin, add_special))) > context + MARGIN:
            raise ApiError(
                400,
                f"{field}: the first {len(begin)} of {len(text)} characters are {count} tokens already, more than the "
                f"{context} of the model's context",
                param=field,
                code="context_length_exceeded",
            )
        return self._tokenizer.encode(text, add_special)

    def _check_tokens(self, field: str, tokens: Sequence[int]) -> None:
        if not all(0 <= token < self._info.vocab_size for token in tokens):
            raise ApiError(
                400,
                f"{field}: tokens are numbers from 0 to {self._info.vocab_size - 1}",
                param=field,
                code="invalid_value",
            )

    # -------------------------------------------------------------- the rest

    def _texts(self, body: bytes) -> tuple[schema.EmbeddingRequest, list[list[int]]]:
        """The texts to make vectors of, as tokens."""
        request = schema.parse(schema.EmbeddingRequest, body)
        given = [self._encoded("input", one) for one in schema.texts_or_tokens("input", request.input)]
        for tokens in given:
            if len(tokens) > self._info.context_length:
                message = f"input: {len(tokens)} tokens are more than the {self._info.context_length} of the context"
                raise ApiError(400, message, param="input", code="context_length_exceeded")
        return request, given

    async def _embed(self, body: bytes) -> Reply:
        request, given = await self._made(self._texts, body)
        vectors = [await self._engine.embed(tokens) for tokens in given]
        if request.dimensions not in (None, len(vectors[0])):
            message = f"dimensions: this model's vectors have {len(vectors[0])}"
            raise ApiError(400, message, param="dimensions", code="invalid_value")
        as_base64 = request.encoding_format == "base64"
        return Reply(200, JSON, embeddings(vectors, request.model, sum(map(len, given)), as_base64))

    async def _tokenize(self, body: bytes) -> Reply:
        return await self._made(self._tokens, body)

    def _tokens(self, body: bytes) -> Reply:
        request = schema.parse(schema.TokenizeRequest, body)
        if request.prompt is None:
            tokens = self._tokenizer.encode(self._tokenizer.chat(request.conversation(), {}), add_special=False)
        else:
            tokens = self._tokenizer.encode(request.prompt, request.add_special_tokens)
        answer = {"count": len(tokens), "max_model_len": self._info.context_length, "tokens": tokens}
        if request.return_token_strs:
            answer["token_strs"] = [self._tokenizer.name(token)[0] for token in tokens]
        return Reply(200, JSON, msgspec.json.encode(answer))

    async def _detokenize(self, body: bytes) -> Reply:
        return await self._made(self._detokenized, body)

    def _detokenized(self, body: bytes) -> Reply:
        request = schema.parse(schema.DetokenizeRequest, body)
        self._check_tokens("tokens", request.tokens)
        return Reply(200, JSON, msgspec.json.encode({"prompt": self._tokenizer.decode(request.tokens)}))


def _one_call(make: Callable[[], Reader]) -> Reader:
    """A reader that tells of the first call only."""
    reader = make()
    reader.most = 1
    return reader


def _nth_seed(seed: int, number: int) -> int:
    """The seed of one of several answers. Behind the largest number of 64 bits comes the smallest."""
    return (seed + number + 2**63) % 2**64 - 2**63


def _count(usage: Usage, choices: Sequence[Choice], per_prompt: int) -> None:
    """Write down what the answers took. A prompt counts once, however many answers it has."""
    usage.completion = sum(choice.tokens for choice in choices)
    usage.cached = sum(choice.cached for choice in choices[::per_prompt])


class Opened:
    """A stream with its first item in hand. It has begun: closing it reaches what makes it, read or not."""

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes, None]) -> None:
        self._first: bytes | None = first
        self._rest = rest

    def __aiter__(self) -> Opened:
        return self

    async def __anext__(self) -> bytes:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return await anext(self._rest)

    async def aclose(self) -> None:
        """Read no more: what makes the stream ends."""
        await self._rest.aclose()


async def opened(stream: AsyncGenerator[bytes, None]) -> Opened:
    """A stream whose first item is there: an error before it is raised here."""
    return Opened(await anext(stream, b""), stream)


async def merged(streams: Sequence[AsyncGenerator[Piece, None]]) -> AsyncGenerator[tuple[int, Piece], None]:
    """What several generators give, each with its number, in the order in which it comes. The first error ends all."""
    if len(streams) == 1:
        async with aclosing(streams[0]) as only:
            async for one in only:
                yield 0, one
        return
    queue: asyncio.Queue[tuple[int, Piece | None, BaseException | None]] = asyncio.Queue()

    async def read(index: int, stream: AsyncGenerator[Piece, None]) -> None:
        try:
            async with aclosing(stream):
                async for one in stream:
                    queue.put_nowait((index, one, None))
        except Exception as error:
            queue.put_nowait((index, None, error))
        else:
            queue.put_nowait((index, None, None))

    tasks = [asyncio.create_task(read(index, stream)) for index, stream in enumerate(streams)]
    open_ = len(tasks)
    try:
        while open_:
            index, piece, error = await queue.get()
            if error is not None:
                raise error
            if piece is None:
                open_ -= 1
            else:
                yield index, piece
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

"""One answer on its way from tokens to text: characters, stop strings, and probabilities beside their text. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from hpc.serve.llm.engine import Delta, TokenLogprob
from hpc.serve.llm.text import Stops, Tokenizer
from hpc.serve.llm.tools import CallPart, Reader

#: Why an answer ended, in OpenAI's words.
FinishReason = Literal["stop", "length", "tool_calls"]


class Shown(msgspec.Struct, frozen=True):
    """What is told of a token: its text, the logarithm of its probability, its bytes, and others in its place."""

    token: str
    logprob: float
    bytes: list[int] | None
    top: list[Shown]
    offset: int = 0


class Piece(msgspec.Struct, frozen=True):
    """What an answer got: text, the tokens that begin in it, and parts of calls. `finish`: it is whole."""

    text: str
    logprobs: list[Shown]
    finish: FinishReason | None
    calls: list[CallPart] = []


class Choice:
    """Feed it what an engine tells of one sequence; it gives what a client may see."""

    def __init__(
        self, tokenizer: Tokenizer, stops: list[str], logprobs: int | None, reader: Reader | None = None
    ) -> None:
        self.tokens = 0
        self.cached = 0
        self._tokenizer = tokenizer
        #: What reads calls of tools out of the text.
        self._reader = reader
        self._stream = tokenizer.stream(() if reader is None else reader.markers)
        self._stops = Stops(stops)
        self._most = logprobs
        #: Characters that are known, and those that were shown.
        self._known = 0
        self._shown = 0
        self._open: list[Shown] = []

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string was found: the engine need not go on."""
        return self._stops.found is not None

    def take(self, delta: Delta) -> Piece:
        """What a step of the engine adds."""
        piece = self._take(delta)
        if self._reader is None:
            return piece
        read = self._reader.feed(piece.text)
        finish = piece.finish
        if finish is not None:
            read.add(self._reader.end())
            if finish == "stop" and self._reader.count:
                finish = "tool_calls"
        return Piece(read.text, piece.logprobs, finish, read.calls)

    def _take(self, delta: Delta) -> Piece:
        self.tokens += delta.count
        self.cached = max(self.cached, delta.cached)
        text = ""
        for number, token in enumerate(delta.tokens):
            if self._most is not None and delta.logprobs is not None and not self.is_stopped:
                self._open.append(self._told(delta.logprobs[number]))
            new = self._stream.feed((token,))
            self._known += len(new)
            text += self._stops.feed(new)
            if self.is_stopped:
                return self._last(text, "stop")
        if delta.finish is None:
            return self._piece(text, None)
        new = self._stream.end()
        text += self._stops.feed(new) + self._stops.end()
        return self._last(text, "length" if delta.finish == "length" and not self.is_stopped else "stop")

    def _told(self, logprob: TokenLogprob) -> Shown:
        top = [Shown(*self._name(token, value), top=[]) for token, value in logprob.top[: self._most]]
        return Shown(*self._name(logprob.token, logprob.logprob), top=top, offset=self._known)

    def _name(self, token: int, logprob: float) -> tuple[str, float, list[int] | None]:
        text, data = self._tokenizer.name(token)
        return text, logprob, None if data is None else list(data)

    def _piece(self, text: str, finish: FinishReason | None) -> Piece:
        self._shown += len(text)
        # A token is told with the text that it begins in: not before, and never without.
        ready = [one for one in self._open if one.offset < self._shown]
        self._open = self._open[len(ready) :]
        return Piece(text, ready, finish)

    def _last(self, text: str, finish: FinishReason) -> Piece:
        piece = self._piece(text, finish)
        if not self.is_stopped:
            piece.logprobs.extend(self._open)
        self._open = []
        return piece

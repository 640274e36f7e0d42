"""Answers in the form that OpenAI's clients read: whole ones, streams of server-sent events, errors. Pure."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from hpc.serve.llm.choice import Piece, Shown
from hpc.serve.llm.tools import CallPart

JSON = "application/json"
EVENTS = "text/event-stream"
DONE = b"data: [DONE]\n\n"


def event(value: Any) -> bytes:
    """A server-sent event with a value as JSON."""
    return b"data: %b\n\n" % msgspec.json.encode(value)


class Usage(msgspec.Struct):
    """How many tokens a request took."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0

    def told(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }


class Form:
    """The form of one kind of answers: of a conversation, or of a text that goes on."""

    whole = ""
    chunk = ""

    def __init__(self, request_id: str, model: str, created: int, with_logprobs: bool) -> None:
        self._id = request_id
        self._model = model
        self._created = created
        self._with_logprobs = with_logprobs

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model}

    def answer(self, pieces: Sequence[Piece], usage: Usage) -> bytes:
        """The whole answer: a piece with all of its text for each choice."""
        choices = [self._whole(index, piece) for index, piece in enumerate(pieces)]
        return msgspec.json.encode({**self._head(self.whole), "choices": choices, "usage": usage.told()})

    def beginning(self, index: int) -> dict[str, Any] | None:
        """The choice of a chunk before any text; None: there is no such chunk."""
        return None

    def part(self, index: int, piece: Piece) -> list[dict[str, Any]]:
        """The choices of the chunks for a piece."""
        raise NotImplementedError

    def _whole(self, index: int, piece: Piece) -> dict[str, Any]:
        raise NotImplementedError

    def frame(self, choice: dict[str, Any], with_usage: bool) -> bytes:
        """The event of one chunk. with_usage: the last one tells the usage, and the others that they do not."""
        chunk = {**self._head(self.chunk), "choices": [choice]}
        if with_usage:
            chunk["usage"] = None
        return event(chunk)

    def usage_frame(self, usage: Usage) -> bytes:
        """The event behind all text that tells the usage."""
        return event({**self._head(self.chunk), "choices": [], "usage": usage.told()})


class ChatForm(Form):
    """POST /v1/chat/completions."""

    whole = "chat.completion"
    chunk = "chat.completion.chunk"

    def beginning(self, index: int) -> dict[str, Any]:
        delta = {"role": "assistant", "content": "", "refusal": None}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def part(self, index: int, piece: Piece) -> list[dict[str, Any]]:
        found = []
        if piece.text or piece.logprobs:
            logprobs = self._logprobs(piece.logprobs)
            delta: dict[str, Any] = {"content": piece.text}
            found.append({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None})
        for part in piece.calls:
            delta = {"tool_calls": [_call_part(part)]}
            found.append({"index": index, "delta": delta, "logprobs": None, "finish_reason": None})
        if piece.finish is not None:
            found.append({"index": index, "delta": {}, "logprobs": None, "finish_reason": piece.finish})
        return found

    def _whole(self, index: int, piece: Piece) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": piece.text, "refusal": None}
        if piece.calls:
            message |= {"content": piece.text or None, "tool_calls": _calls(piece.calls)}
        logprobs = self._logprobs(piece.logprobs)
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": piece.finish}

    def _logprobs(self, tokens: Sequence[Shown]) -> dict[str, Any] | None:
        if not self._with_logprobs:
            return None
        content = [{**_plain(one), "top_logprobs": [_plain(other) for other in one.top]} for one in tokens]
        return {"content": content, "refusal": None}


class TextForm(Form):
    """POST /v1/completions."""

    whole = chunk = "text_completion"

    def part(self, index: int, piece: Piece) -> list[dict[str, Any]]:
        if not (piece.text or piece.logprobs or piece.finish):
            return []
        return [self._whole(index, piece)]

    def _whole(self, index: int, piece: Piece) -> dict[str, Any]:
        logprobs = self._logprobs(piece.logprobs) if self._with_logprobs else None
        return {"index": index, "text": piece.text, "logprobs": logprobs, "finish_reason": piece.finish}

    @staticmethod
    def _logprobs(tokens: Sequence[Shown]) -> dict[str, Any]:
        return {
            "tokens": [one.token for one in tokens],
            "token_logprobs": [one.logprob for one in tokens],
            "top_logprobs": [{other.token: other.logprob for other in one.top} for one in tokens],
            "text_offset": [one.offset for one in tokens],
        }


def _call_part(part: CallPart) -> dict[str, Any]:
    """A part of a call, for a stream."""
    if part.id is None:
        return {"index": part.index, "function": {"arguments": part.arguments}}
    function = {"name": part.name, "arguments": part.arguments}
    return {"index": part.index, "id": part.id, "type": "function", "function": function}


def _calls(parts: Sequence[CallPart]) -> list[dict[str, Any]]:
    """Whole calls of all of their parts."""
    found: list[dict[str, Any]] = []
    for part in parts:
        if part.id is not None:
            function = {"name": part.name, "arguments": ""}
            found.append({"id": part.id, "type": "function", "function": function})
        found[part.index]["function"]["arguments"] += part.arguments
    return found


def _plain(one: Shown) -> dict[str, Any]:
    return {"token": one.token, "logprob": one.logprob, "bytes": one.bytes}


def joined(pieces: Sequence[Piece]) -> Piece:
    """All pieces of one choice as one."""
    return Piece(
        "".join(piece.text for piece in pieces),
        [one for piece in pieces for one in piece.logprobs],
        pieces[-1].finish if pieces else None,
        [one for piece in pieces for one in piece.calls],
    )


def embeddings(vectors: Sequence[Sequence[float]], model: str, tokens: int, as_base64: bool) -> bytes:
    """The answer to POST /v1/embeddings."""
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if as_base64 else vector}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return msgspec.json.encode({"object": "list", "data": data, "model": model, "usage": usage})


def _packed(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def card(model: str, created: int, more: Mapping[str, Any]) -> dict[str, Any]:
    """One model of GET /v1/models."""
    return {"id": model, "object": "model", "created": created, "owned_by": "hpc", **more}

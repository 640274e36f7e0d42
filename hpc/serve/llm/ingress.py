"""The door of models: an ASGI application that speaks as OpenAI's service does, and hands each request to its model.

It knows names of models and whom to ask for each; it reads of a request its path and its `model`, and nothing else.
A client that goes away cancels what is done for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import aclosing
from typing import Any
from urllib.parse import unquote

import msgspec

from hpc.serve.llm.openai import JSON, card
from hpc.serve.llm.schema import ApiError, Named, parse
from hpc.serve.llm.served import Reply, refused

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
#: A model as the ingress sees it: it takes a path and a body.
Backend = Callable[[str, bytes], Awaitable[Reply]]

#: What is handed to models.
POSTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/tokenize", "/detokenize")
MAX_BODY_BYTES = 32 * 1024 * 1024


class OpenAiApp:
    """An ASGI application over models by their names. cards: what GET /v1/models tells of each beside its name."""

    def __init__(self, models: Mapping[str, Backend], cards: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self._models = dict(models)
        self._cards = {name: dict((cards or {}).get(name, {})) for name in models}
        self._created = int(time.time())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000, "reason": "there are no websockets here"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await _body(receive)
        except ApiError as error:
            await _answer(refused(error), send)
            return
        if body is None:
            return
        work = asyncio.ensure_future(self._serve(scope, body, send))
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            was_done = work.done()
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
        if was_done:
            work.result()

    async def _serve(self, scope: Scope, body: bytes, send: Send) -> None:
        try:
            reply = await self._reply(scope["method"], _path(scope), body)
        except ApiError as error:
            reply = refused(error)
        await _answer(reply, send)

    async def _reply(self, method: str, path: str, body: bytes) -> Reply:
        # Servers of their own have more than these; what a model does not have, it says itself.
        if path in POSTS or (method == "POST" and path.startswith("/v1/")):
            _only("POST", method, path)
            name = parse(Named, body).model
            return await self._backend(name)(path, body)
        if path == "/v1/models":
            _only("GET", method, path)
            return Reply(200, JSON, msgspec.json.encode({"object": "list", "data": [*map(self._card, self._models)]}))
        if path.startswith("/v1/models/"):
            _only("GET", method, path)
            name = unquote(path.removeprefix("/v1/models/"))
            self._backend(name)
            return Reply(200, JSON, msgspec.json.encode(self._card(name)))
        if path == "/health":
            _only("GET", method, path)
            return Reply(200, JSON, b'{"status":"ok"}')
        raise ApiError(404, f"there is no {path} here: {', '.join(('/v1/models', *POSTS))}", code="not_found")

    def _backend(self, name: str) -> Backend:
        if name not in self._models:
            known = ", ".join(self._models)
            message = f"the model {name!r} does not exist here: {known}"
            raise ApiError(404, message, param="model", code="model_not_found")
        return self._models[name]

    def _card(self, name: str) -> dict[str, Any]:
        return card(name, self._created, self._cards[name])


def _only(wanted: str, method: str, path: str) -> None:
    if method not in (wanted, *(("HEAD",) if wanted == "GET" else ())):
        raise ApiError(405, f"{method} {path}: only {wanted}", code="method_not_allowed")


def _path(scope: Scope) -> str:
    """The path below where the application is mounted."""
    path: str = scope["path"]
    root = scope.get("root_path", "").rstrip("/")
    if root and (path == root or path.startswith(root + "/")):
        path = path[len(root) :]
    return path


async def _body(receive: Receive) -> bytes | None:
    """The body of a request; None: the client is gone."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise ApiError(413, f"the body has more than {MAX_BODY_BYTES} bytes", code="too_large")
        if not message.get("more_body", False):
            return b"".join(parts)


async def _gone(receive: Receive) -> None:
    """Wait until the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer(reply: Reply, send: Send) -> None:
    headers: Sequence[tuple[bytes, bytes]] = [(b"content-type", reply.content_type.encode()), *reply.headers]
    if reply.stream is None:
        headers = [*headers, (b"content-length", str(len(reply.body)).encode())]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})
        return
    # A proxy in between is to pass each event on at once.
    headers = [*headers, (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
    async with aclosing(reply.stream) as stream:
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        async for part in stream:
            await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return

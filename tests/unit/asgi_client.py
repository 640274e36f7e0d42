"""A client of an ASGI application in the same process, which can go away in the middle of an answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any


class Seen:
    """What a client saw of an answer."""

    def __init__(self) -> None:
        self.code = 0
        self.headers: dict[str, str] = {}
        self.parts: list[bytes] = []

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[Any]:
        """The events of a stream; the last one says that it is whole."""
        events = [event.removeprefix("data: ") for event in self.body.decode().split("\n\n") if event]
        assert events[-1] == "[DONE]"
        return [json.loads(event) for event in events[:-1]]


async def request(
    app: Any,
    method: str,
    path: str,
    body: Any = None,
    *,
    leave: Callable[[Seen], bool] = lambda seen: False,
    root_path: str = "",
) -> Seen:
    """Ask the application. leave: the client goes away once this is true of what it has seen."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    halves = [data[: len(data) // 2], data[len(data) // 2 :]]
    seen, gone = Seen(), asyncio.Event()

    async def receive() -> dict[str, Any]:
        if halves:
            return {"type": "http.request", "body": halves.pop(0), "more_body": bool(halves)}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            seen.code = message["status"]
            seen.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            seen.parts.append(message.get("body", b""))
        if leave(seen):
            gone.set()

    await app({"type": "http", "method": method, "path": path, "root_path": root_path}, receive, send)
    return seen

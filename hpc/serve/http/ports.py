"""What a request and a websocket need of their connection."""

from __future__ import annotations

from typing import Any, Protocol


class Wire(Protocol):
    """A client's connection, as those see it who answer: see `hpc.serve.http.server.Connection`."""

    client: tuple[str, int] | None
    server_address: tuple[str, int | None] | None
    scheme: str
    closes_after: bool
    is_full: bool
    served: Any

    def send(self, data: bytes) -> None: ...

    def say_continue(self) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    async def drained(self) -> None: ...

    def answered(self, closes: bool) -> None: ...

    def release(self) -> None: ...

    def abort(self) -> None: ...

"""What a client is told of a model whose replicas do not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hpc.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaDiedError
from hpc.serve.llm.app import through
from hpc.serve.llm.ingress import OpenAiApp
from hpc.serve.messages import DeploymentID
from tests.unit.asgi_client import Seen, request


class Handle:
    """A handle whose replica says some items, and then fails."""

    def __init__(self, items: list[Any], error: Exception | None = None) -> None:
        self.items = items
        self.error = error
        self.is_cancelled = False

    def options(self, **options: Any) -> Handle:
        assert options == {"stream": True, "method_name": "answer"}
        return self

    def remote(self, path: str, body: bytes) -> Handle:
        return self

    def cancel(self) -> None:
        self.is_cancelled = True

    async def __aiter__(self) -> AsyncIterator[Any]:
        for item in self.items:
            await asyncio.sleep(0)
            yield item
        if self.error is not None:
            raise self.error


def seen_by(handle: Any, **leaving: Any) -> Seen:
    app = OpenAiApp({"m": through(handle)})
    return asyncio.run(request(app, "POST", "/v1/completions", {"model": "m"}, **leaving))


@pytest.mark.parametrize(
    ("error", "code", "name"),
    [
        (BackPressureError(4, 3, 429, 1.5), 429, "overloaded"),
        (DeploymentUnavailableError(DeploymentID("m", "a")), 503, "model_unavailable"),
        (ReplicaDiedError("r", "m", "killed"), 500, "model_failed"),
    ],
)
def test_no_answer_is_an_error_of_the_api(error: Exception, code: int, name: str) -> None:
    seen = seen_by(Handle([], error))
    assert (seen.code, seen.json()["error"]["code"]) == (code, name)
    assert seen.headers.get("retry-after") == ("2" if code == 429 else None)


def test_a_replica_that_dies_in_a_stream_is_told_in_it() -> None:
    head = (200, "text/event-stream", None)
    seen = seen_by(Handle([head, b'data: {"a": 1}\n\n'], ReplicaDiedError("r", "m", "killed")))
    assert seen.code == 200
    first, last = seen.events()
    assert first == {"a": 1}
    assert "killed" in last["error"]["message"]


def test_a_client_that_leaves_cancels_the_request() -> None:
    head = (200, "text/event-stream", None)
    handle = Handle([head, *[b"data: {}\n\n"] * 1000])
    seen = seen_by(handle, leave=lambda seen: len(seen.parts) > 3)
    assert handle.is_cancelled
    assert len(seen.parts) < 100


def test_an_answer_that_is_whole_cancels_nothing() -> None:
    handle = Handle([(404, "application/json", b"{}")])
    assert seen_by(handle).code == 404
    assert not handle.is_cancelled

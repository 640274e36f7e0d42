"""The server of gRPC in a proxy, without a client: messages of streams, statuses, keys, applications by name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpc.serve.config import HTTPOptions, gRPCOptions
from hpc.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RequestTimeoutError,
    gRPCStatusError,
)
from hpc.serve.http.gate import Keys
from hpc.serve.messages import DeploymentID, RouteRow, RouteTable

grpc = pytest.importorskip("grpc", reason="needs pip install 'hpc[grpc]'")
server: Any = pytest.importorskip("hpc.serve.rpc.server")
Code = grpc.StatusCode


def a_server(*rows: RouteRow) -> Any:
    host = SimpleNamespace(table=RouteTable(1, list(rows)))
    return server.GrpcServer(host, None, gRPCOptions(), HTTPOptions(), None)


def test_messages_end_with_the_clients_stream_or_with_the_client() -> None:
    async def messages(end: BaseException | None) -> AsyncIterator[int]:
        yield 1
        if end is not None:
            raise end

    async def work() -> None:
        one = a_server()
        for end, last in ((None, False), (RuntimeError("broken"), None), (asyncio.CancelledError(), None)):
            one._inputs[7] = messages(end)
            assert await one.next_message(7) == (True, 1)
            assert await one.next_message(7) == (last, None)
        assert await one.next_message(8) == (None, None), "its call has ended"

    asyncio.run(work())


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (BackPressureError(3, 2), Code.RESOURCE_EXHAUSTED, "Request dropped due to backpressure"),
        (DeploymentUnavailableError(DeploymentID("a")), Code.UNAVAILABLE, "is unavailable"),
        (RequestTimeoutError(), Code.DEADLINE_EXCEEDED, "Request timed out after 2.0s."),
        (gRPCStatusError(ValueError("why"), Code.NOT_FOUND, "said"), Code.NOT_FOUND, "said"),
        (gRPCStatusError(ValueError("why"), Code.NOT_FOUND), Code.NOT_FOUND, "why"),
        (ValueError("why"), Code.INTERNAL, "why"),
    ],
)
def test_errors_have_their_status(error: Exception, code: Any, text: str) -> None:
    status = server.status_of(error, 2.0)
    assert status.code is code and text in status.text


def test_details_of_a_status_are_bounded() -> None:
    assert server._short("x" * 5000) == "x" * (4096 - len(server.CUT)) + server.CUT
    assert server._short("x" * 4096) == "x" * 4096


def test_the_application_that_is_meant() -> None:
    one, two = RouteRow("/1", "one", "In"), RouteRow("/2", "two", "In")
    assert a_server(one)._row("") is one and a_server(one)._row("other") is one
    both = a_server(one, two)
    assert both._row("two") is two
    for name, text in (("", "Application metadata not set."), ("three", "Application 'three' not found.")):
        with pytest.raises(server.Refused, match=text) as found:
            both._row(name)
        assert found.value.status.code is Code.NOT_FOUND
    with pytest.raises(server.Refused):
        a_server()._row("one")


def test_a_call_without_a_key_or_beyond_its_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("k" * 20)
    path.chmod(0o600)
    gate = server.Gate(Keys(str(path)), 1.0)
    own = (("authorization", "Bearer " + "k" * 20),)
    for metadata in ((), (("authorization", "k" * 20),), (("x-api-key", "l" * 20),)):
        assert gate.refusal("/a/B", metadata).code is Code.UNAUTHENTICATED
    assert gate.refusal(server.HEALTHZ, ()) is None
    assert gate.refusal("/a/B", own) is None and gate.refusal("/a/B", (("x-api-key", "k" * 20),)) is None
    assert gate.refusal("/a/B", own).code is Code.RESOURCE_EXHAUSTED
    assert server.Gate(None, None).refusal("/a/B", ()) is None

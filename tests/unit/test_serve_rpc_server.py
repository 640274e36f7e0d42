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
    RayServeException,
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
    async def messages(end: BaseException | None) -> AsyncIterator[bytes]:
        yield b"1"
        if end is not None:
            raise end

    async def work() -> None:
        one = a_server()
        for end, last in ((None, False), (RuntimeError("broken"), None), (asyncio.CancelledError(), None)):
            one._inputs[7] = server.Messages(server.Given(messages(end), True, int))
            assert await one.next_message(7, "r1") == (True, 1)
            assert await one.next_message(7, "r1") == (last, None)
        assert await one.next_message(8, "r1") == (None, None), "its call has ended"

    asyncio.run(work())


def test_messages_that_were_read_are_not_missed_by_another_run_of_the_method() -> None:
    async def messages() -> AsyncIterator[bytes]:
        for data in (b"1", b"x", b"3"):
            yield data

    async def work() -> None:
        one = a_server()
        one._inputs[7] = server.Messages(server.Given(messages(), True, int))
        assert await one.next_message(7, "r1") == (True, 1)
        with pytest.raises(RayServeException, match="has died"):
            await one.next_message(7, "r2")
        with pytest.raises(RayServeException, match="a message cannot be read: ValueError"):
            await one.next_message(7, "r1")

    asyncio.run(work())


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (BackPressureError(3, 2), Code.RESOURCE_EXHAUSTED, "Request dropped due to backpressure"),
        (DeploymentUnavailableError(DeploymentID("a")), Code.UNAVAILABLE, "is unavailable"),
        (RequestTimeoutError(), Code.DEADLINE_EXCEEDED, "Request timed out after 2.0s."),
        (gRPCStatusError(ValueError("why"), Code.NOT_FOUND, "said"), Code.NOT_FOUND, "said"),
        (gRPCStatusError(ValueError("why"), Code.NOT_FOUND), Code.NOT_FOUND, "why"),
        (gRPCStatusError(ValueError("why"), Code.OK, "said"), Code.INTERNAL, "why"),
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


class Aborted(Exception):
    """A call was refused."""


class Context:
    """A call as its method sees it."""

    def __init__(self, peer: str = "ipv4:127.0.0.1:5", **metadata: str) -> None:
        self._peer, self._metadata = peer, metadata
        self.trailing: Any = None

    def peer(self) -> str:
        return self._peer

    def invocation_metadata(self) -> Any:
        return tuple(self._metadata.items())

    def set_trailing_metadata(self, given: Any) -> None:
        self.trailing = given

    async def abort(self, code: Any, text: str) -> None:
        raise Aborted(code)


async def asked(gate: Any, method: str = "/a/B", metadata: Any = (), peer: str = "ipv4:1.2.3.4:5") -> Any:
    """What becomes of a call: "done", or the code of its refusal."""

    async def do(given: Any, context: Any) -> str:
        return "done"

    async def there(details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(do)

    details = SimpleNamespace(method=method, invocation_metadata=metadata)
    found = await gate.intercept_service(there, details)
    try:
        return await (found.stream_stream or found.unary_unary)(b"", Context(peer))
    except Aborted as error:
        return error.args[0]


def test_a_call_without_a_key_or_beyond_its_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("k" * 20)
    path.chmod(0o600)
    own = (("authorization", "Bearer " + "k" * 20),)

    async def work() -> None:
        gate = server.Gate(Keys(str(path)), 1.0)
        for metadata in ((), (("authorization", "k" * 20),), (("x-api-key", "l" * 20),)):
            assert await asked(gate, metadata=metadata) is Code.UNAUTHENTICATED
        assert await asked(gate, server.HEALTHZ) == "done"
        assert await asked(gate, metadata=own) == "done"
        assert await asked(gate, metadata=(("x-api-key", "k" * 20),)) == "done"
        assert await asked(gate, metadata=own) is Code.RESOURCE_EXHAUSTED

    asyncio.run(work())


def test_each_address_has_its_own_limit_where_there_are_no_keys() -> None:
    async def work() -> None:
        gate = server.Gate(None, 1.0)
        assert [await asked(gate, peer=f"ipv4:1.1.1.1:{port}") for port in range(2)] == ["done", "done"]
        assert await asked(gate, peer="ipv4:1.1.1.1:9") is Code.RESOURCE_EXHAUSTED
        assert await asked(gate, peer="ipv4:2.2.2.2:9") == "done"
        assert await asked(server.Gate(None, None)) == "done"

    asyncio.run(work())


def test_an_id_that_could_not_go_back_is_not_taken_over() -> None:
    assert server.Asked("Do", context := Context(request_id="mine"), None).request_id == "mine"
    assert context.trailing == (("request_id", "mine"),)
    for bad in ("a\nb", "\u00fc", ""):
        found = server.Asked("Do", context := Context(request_id=bad), None).request_id
        assert found != bad and context.trailing == (("request_id", found),)

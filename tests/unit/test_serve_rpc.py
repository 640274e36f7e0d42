"""gRPC of services, the parts without a server: contexts, input streams, the services that generated code adds."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.serve.calls import remote_calls
from hpc.serve.calls.remote_calls import InputSource, RemoteCall
from hpc.serve.calls.servable import Servable
from hpc.serve.config import gRPCOptions
from hpc.serve.exceptions import gRPCStatusError
from hpc.serve.grpc_util import RayServegRPCContext, gRPCInputStream
from hpc.serve.rpc.services import Services, strings


class Call:
    """A call as grpcio shows it to a servicer."""

    def __init__(self, metadata: tuple[tuple[str, Any], ...] = ()) -> None:
        self.metadata = metadata
        self.trailing: tuple[tuple[str, Any], ...] = ()
        self.set: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        answers = {
            "auth_context": {}, "code": 0, "details": "", "invocation_metadata": self.metadata, "peer": "unix:",
            "peer_identities": None, "peer_identity_key": None, "trailing_metadata": self.trailing,
        }  # fmt: skip
        if name.startswith("set_"):
            return lambda value: self.set.update({name[4:]: value})
        if name in answers:
            return lambda: answers[name]
        raise AttributeError(name)


def a_context(*metadata: tuple[str, Any]) -> RayServegRPCContext:
    call = Call(metadata)
    call.trailing = (("request_id", "r1"),)
    return RayServegRPCContext(call)


def test_a_context_reads_the_call_travels_and_sets_what_was_set() -> None:
    context = pickle.loads(pickle.dumps(a_context(("application", "a"), ("request_id", "r0"), ("traceparent", "t"))))
    assert (context.application(), context.request_id(), context.traceparent()) == ("a", "r0", "t")
    assert context.multiplexed_model_id() is None and context.tracestate() is None
    call = Call()
    context._set_on_grpc_context(call)
    assert call.set == {"trailing_metadata": (("request_id", "r1"),)}, "what nobody has set stays"
    context.set_code(5)
    context.set_details("why")
    context.set_trailing_metadata([("more", "1")])
    context.set_trailing_metadata([("other", "2")])
    context._set_on_grpc_context(call)
    assert call.set["code"] == 5 and call.set["details"] == "why"
    assert call.set["trailing_metadata"] == (("request_id", "r1"), ("other", "2"))


class Message:
    """An answer."""

    def __init__(self, text: str) -> None:
        self.text = text

    def SerializeToString(self) -> bytes:
        return self.text.encode()


class Greeter:
    """Methods of a deployment."""

    async def plain(self, request: Any) -> Any:
        return Message(f"got {request}")

    def told(self, request: Any, grpc_context: Any) -> Any:
        grpc_context.set_code(9)
        if request == "fails":
            raise ValueError("why")
        return Message("told")

    async def total(self, request: gRPCInputStream[int]) -> Any:
        found = [one async for one in request]
        return Message(f"{sum(found)} {request.is_exhausted} {request.is_cancelled()}")

    async def some(self, request: int, grpc_context: Any) -> AsyncIterator[Any]:
        for one in range(request):
            if one == 1:
                grpc_context.set_trailing_metadata([("one", "1")])
            yield Message(str(one))
        if request != 3:
            grpc_context.set_code(5)

    async def echo(self, request: gRPCInputStream[int]) -> AsyncIterator[Any]:
        async for one in request:
            yield Message(str(one))
            if one < 0:
                raise ValueError("below")


def run(method: str, call: RemoteCall, streams: bool = False) -> Any:
    async def work() -> Any:
        servable = Servable(Greeter, (), {}, 1)
        await servable.construct()
        try:
            if streams:
                return [data async for _, data in remote_calls.items(servable, method, call)]
            return await remote_calls.value(servable, method, call)
        finally:
            await servable.delete()

    return asyncio.run(work())


def test_a_method_gets_the_message_and_the_context_if_it_has_a_place_for_it() -> None:
    context = a_context()
    assert run("plain", RemoteCall(context, "x")) == (None, b"got x") and not context.code(), "nothing was set"
    assert run("told", RemoteCall(context, "x")) == (context, b"told") and context.code() == 9
    context.set_trailing_metadata([("seen", "yes")])
    with pytest.raises(gRPCStatusError, match="why") as found:
        run("told", RemoteCall(context, "fails"))
    assert pickle.loads(pickle.dumps(found.value)).trailing_metadata == (("request_id", "r1"), ("seen", "yes"))
    assert found.value.grpc_code == 9 and isinstance(found.value.original_exception, ValueError)


def a_source(messages: list[int], is_gone: bool = False) -> InputSource:
    """The proxy of a client that sends these, and ends its stream or is gone."""
    left = [(True, one) for one in messages] + [(None if is_gone else False, None)]

    async def next_message(key: int, reader: str) -> tuple[bool | None, Any]:
        assert key == 7 and reader
        return left.pop(0)

    return InputSource(SimpleNamespace(next_message=SimpleNamespace(remote=next_message)), 7)


def test_messages_of_a_client_come_one_by_one() -> None:
    assert run("total", RemoteCall(a_context(), None, a_source([1, 2, 3])))[1] == b"6 True False"
    assert run("total", RemoteCall(a_context(), None, a_source([1, 2], is_gone=True)))[1] == b"3 True True"
    assert run("echo", RemoteCall(a_context(), None, a_source([4, 5])), streams=True) == [b"4", b"5"]
    with pytest.raises(ValueError, match="below"):
        run("echo", RemoteCall(a_context(), None, a_source([4, -1])), streams=True)


def test_a_context_goes_back_where_it_has_changed_and_behind_the_last_item() -> None:
    async def items(count: int) -> list[tuple[Any, Any]]:
        servable = Servable(Greeter, (), {}, 1)
        await servable.construct()
        call = RemoteCall(a_context(), count)
        return [(left and (left.code(), dict(left.trailing_metadata())), data)
                async for left, data in remote_calls.items(servable, "some", call)]  # fmt: skip

    one, own = {"request_id": "r1", "one": "1"}, {"request_id": "r1"}
    assert asyncio.run(items(3)) == [(None, b"0"), ((0, one), b"1"), (None, b"2")]
    assert asyncio.run(items(2)) == [(None, b"0"), ((0, one), b"1"), ((5, one), None)]
    assert asyncio.run(items(0)) == [((5, own), None)]


def test_a_reader_with_a_limit_of_time_loses_no_message() -> None:
    async def work() -> list[int]:
        may = asyncio.Event()
        left = [(True, 1), (True, 2), (False, None)]

        async def next_message(key: int, reader: str) -> tuple[bool | None, Any]:
            await may.wait()
            return left.pop(0)

        source = InputSource(SimpleNamespace(next_message=SimpleNamespace(remote=next_message)), 7)
        stream: gRPCInputStream[int] = gRPCInputStream(source.messages(asyncio.Event()))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(stream), 0.01)
        may.set()
        return [one async for one in stream]

    assert asyncio.run(work()) == [1, 2]


def test_a_message_that_comes_as_its_reader_stops_is_the_next_ones() -> None:
    async def work(turns: int) -> list[int]:
        came: asyncio.Future[tuple[bool | None, Any]] = asyncio.get_running_loop().create_future()
        left = [came, (True, 2), (False, None)]

        async def next_message(key: int, reader: str) -> Any:
            found = left.pop(0)
            return await found if isinstance(found, asyncio.Future) else found

        source = InputSource(SimpleNamespace(next_message=SimpleNamespace(remote=next_message)), 7)
        messages = source.messages(asyncio.Event())
        reading = asyncio.ensure_future(messages.__anext__())
        await asyncio.sleep(0.01)
        came.set_result((True, 1))
        for _ in range(turns):
            await asyncio.sleep(0)
        reading.cancel()
        found = await asyncio.gather(reading, return_exceptions=True)
        return [*(one for one in found if isinstance(one, int)), *[one async for one in messages]]

    for turns in range(6):
        assert asyncio.run(work(turns)) == [1, 2], turns


def test_a_stream_that_is_cancelled_gives_nothing_more() -> None:
    async def numbers() -> AsyncIterator[int]:
        for one in range(10):
            yield one

    async def work() -> list[int]:
        stream: gRPCInputStream[int] = gRPCInputStream(numbers())
        found = []
        async for one in stream:
            found.append(one)
            if one == 2:
                stream.cancel()
        assert stream.is_cancelled() and stream.is_exhausted
        return found

    assert asyncio.run(work()) == [0, 1, 2]


@given(st.lists(st.text(max_size=300), max_size=5))
def test_strings_are_a_message_of_protobuf(values: list[str]) -> None:
    data, found = strings(*values), []
    while data:
        assert data[0] == 0x0A
        size, at = 0, 1
        while True:
            size |= (data[at] & 0x7F) << 7 * (at - 1)
            at += 1
            if data[at - 1] < 0x80:
                break
        found.append(data[at : at + size].decode())
        data = data[at + size :]
    assert found == values


def test_services_are_found_by_their_methods() -> None:
    class Handler:
        def service_name(self) -> str:
            return "a.Service"

        def service(self, details: Any) -> Any:
            return "found" if details.method == "/a.Service/Do" else None

    def add_servicer(servicer: Any, server: Any) -> None:
        assert callable(servicer.Do)
        server.add_generic_rpc_handlers((Handler(),))
        server.add_registered_method_handlers("a.Service", {})

    services = Services([add_servicer])
    assert services.names() == ["a.Service"]
    assert services.find(SimpleNamespace(method="/a.Service/Do")) == "found"
    assert services.find(SimpleNamespace(method="/a.Service/Other")) is None


def test_a_port_is_open_only_where_it_is_named() -> None:
    assert not gRPCOptions().is_tcp and gRPCOptions().port == 9000
    assert gRPCOptions(port=9000).is_tcp and gRPCOptions(port=0).is_tcp
    assert not pickle.loads(pickle.dumps(gRPCOptions())).is_tcp
    with pytest.raises(ValueError, match="port"):
        gRPCOptions(port=70000)

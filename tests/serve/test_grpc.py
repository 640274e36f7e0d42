"""Services over gRPC, in real processes: calls of all four kinds, statuses, metadata, keys, and how they end.

The tests with sessions of their own come first: that of the others stays until the end of the file.
"""

from __future__ import annotations

import asyncio
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import hpc
from hpc import serve
from hpc.serve.api import doors
from hpc.serve.context import controller
from hpc.serve.exceptions import RayServeException
from hpc.serve.grpc_util import RayServegRPCContext, gRPCInputStream
from tests.runtime.running import one_node

grpc = pytest.importorskip("grpc", reason="needs pip install 'hpc[grpc]'")
greeting: Any = pytest.importorskip("tests.serve.greeting")
ADDS = "tests.serve.greeting.add_GreeterServicer_to_server"
OWN = "/ray.serve.RayServeAPIService/"


@hpc.remote(num_cpus=0)
class Notes:
    """What methods note."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.news = asyncio.Event()

    async def note(self, what: str) -> None:
        self.notes.append(what)
        self.news.set()

    async def wait_for(self, what: str) -> None:
        while what not in self.notes:
            self.news.clear()
            await self.news.wait()


@serve.deployment(max_ongoing_requests=8)
class Greeter:
    def __init__(self, words: str = "hello", notes: Any = None) -> None:
        self.words = words
        self.notes = notes

    async def Greet(self, request: Any, grpc_context: RayServegRPCContext) -> Any:
        """Texts say what is to happen."""
        what = request.text
        if what == "teapot":
            grpc_context.set_code(grpc.StatusCode.FAILED_PRECONDITION)
            grpc_context.set_details("a teapot")
            raise ValueError("not the text that is shown")
        if what == "fails":
            raise ValueError("it has failed")
        if what == "no message":
            return "no message"
        if what == "waits":
            try:
                await self.notes.note.remote("waits")
                await asyncio.Event().wait()
            finally:
                await self.notes.note.remote("was ended")
        if what == "who":
            from hpc.serve.context import current_request

            context = current_request.get()
            assert context.grpc_context is grpc_context
            model = serve.get_multiplexed_model_id()
            return greeting.Greeting(
                text=f"{context.app_name} {context.request_id} {model} {grpc_context.request_id()}"
            )
        grpc_context.set_trailing_metadata([("seen", "yes")])
        return greeting.Greeting(text=f"{self.words} {what}")

    def Count(self, request: Any) -> Iterator[Any]:
        if request.value < 0:
            try:
                while True:
                    yield greeting.Number(value=1)
            finally:
                hpc.get(self.notes.note.remote("nobody reads on"))
        for value in range(request.value):
            if value == 1000:
                raise ValueError("too many")
            yield greeting.Number(value=value)

    async def Sum(self, request: gRPCInputStream[Any]) -> Any:
        total = 0
        async for one in request:
            total += one.value
        assert request.is_exhausted and not request.is_cancelled()
        return greeting.Number(value=total)

    async def Talk(self, request: gRPCInputStream[Any]) -> Any:
        async for one in request:
            yield greeting.Greeting(text=f"{self.words} {one.text}")
        await self.notes.note.remote("the client is gone" if request.is_cancelled() else "all was said")


@contextmanager
def a_service(grpc_options: dict[str, Any] | None = None, http_options: dict[str, Any] | None = None) -> Iterator[None]:
    with one_node(num_cpus=8):
        options = {"grpc_servicer_functions": [ADDS], **(grpc_options or {})}
        serve.start(grpc_options=options, http_options=http_options)
        yield
        serve.shutdown()


def test_a_port_with_keys_a_limit_of_time_and_a_full_queue(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("k" * 32)
    keys.chmod(0o600)
    with a_service({"port": 0, "request_timeout_s": 3.0}, {"api_keys_file": str(keys)}):
        notes = Notes.remote()
        small = Greeter.options(max_ongoing_requests=1, max_queued_requests=1)
        serve.run(small.bind(notes=notes), route_prefix="/")
        where = door("grpc://").removeprefix("grpc://")
        assert where.startswith("127.0.0.1:")
        with grpc.insecure_channel(where) as channel:
            stub = greeting.GreeterStub(channel)
            codes, key = grpc.StatusCode, (("authorization", "Bearer " + "k" * 32),)
            assert channel.unary_unary(OWN + "Healthz")(b"") == b"\x0a\x07success"
            for metadata in ((), (("authorization", "Bearer " + "l" * 32),)):
                assert code_of(stub.Greet, greeting.Name(), metadata=metadata)[0] is codes.UNAUTHENTICATED
                assert code_of(stub.Count, greeting.Number(), metadata=metadata)[0] is codes.UNAUTHENTICATED
                asked = channel.unary_unary(OWN + "ListApplications")
                assert code_of(asked, b"", metadata=metadata)[0] is codes.UNAUTHENTICATED
            silent = threading.Event()  # a client that has no key need not send anything to be told so
            talk = stub.Talk(greeting.Name() for _ in iter(silent.wait, None))
            assert talk.code() is codes.UNAUTHENTICATED
            silent.set()
            assert stub.Greet(greeting.Name(text="you"), metadata=key).text == "hello you"
            waits = stub.Greet.future(greeting.Name(text="waits"), metadata=key)
            hpc.get(notes.wait_for.remote("waits"), timeout=30)
            more = [stub.Greet.future(greeting.Name(), metadata=key) for _ in range(3)]
            assert [call.code() for call in more].count(codes.RESOURCE_EXHAUSTED) == 2, "one waits"
            assert code_of(waits.result) == (codes.DEADLINE_EXCEEDED, "Request timed out after 3.0s.")
            hpc.get(notes.wait_for.remote("was ended"), timeout=30)


def test_what_cannot_be_served_is_said_at_once() -> None:
    with one_node(num_cpus=1):
        with pytest.raises(ModuleNotFoundError, match="no_such_module"):
            serve.start(grpc_options={"grpc_servicer_functions": ["no_such_module.add"]})
        with pytest.raises(ValueError, match="is no function that adds a servicer"):
            serve.start(grpc_options={"grpc_servicer_functions": ["tests.serve.greeting.SERVICE"]})
        with pytest.raises(RayServeException, match="no Serve instance"):
            controller()


@pytest.fixture(scope="module")
def service() -> Iterator[Any]:
    with a_service():
        notes = Notes.remote()
        serve.run(Greeter.bind(notes=notes), name="one", route_prefix="/one")
        yield notes


def door(kind: str = "grpc+unix:") -> str:
    """A door of the service."""
    (found,) = [one for listed in doors().values() for one in listed if one.startswith(kind)]
    return found


@contextmanager
def a_channel() -> Iterator[Any]:
    with grpc.insecure_channel(door().removeprefix("grpc+")) as channel:
        yield channel


@pytest.fixture
def stub(service: Any) -> Iterator[Any]:
    with a_channel() as channel:
        yield greeting.GreeterStub(channel)


seen: list[int] = []


def code_of(call: Any, *args: Any, **kwargs: Any) -> Any:
    """How a call fails; of a stream, at the end of its items."""
    try:
        made = call(*args, **kwargs)
        if isinstance(made, Iterator):
            seen.extend(one.value for one in made)
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError("the call has not failed")


def test_calls_of_all_four_kinds(stub: Any, service: Any) -> None:
    answer, call = stub.Greet.with_call(greeting.Name(text="you"), metadata=(("request_id", "mine"),))
    assert answer.text == "hello you"
    assert dict(call.trailing_metadata()) == {"request_id": "mine", "seen": "yes"}
    assert [one.value for one in stub.Count(greeting.Number(value=200))] == list(range(200))
    assert stub.Sum(greeting.Number(value=value) for value in range(10)).value == 45
    said = [one.text for one in stub.Talk(greeting.Name(text=text) for text in ("a", "b"))]
    assert said == ["hello a", "hello b"]
    hpc.get(service.wait_for.remote("all was said"), timeout=30)


def test_many_calls_at_a_time_each_have_their_own_answer(stub: Any) -> None:
    calls = [(number, stub.Greet.future(greeting.Name(text=str(number)))) for number in range(100)]
    assert all(call.result(timeout=60).text == f"hello {number}" for number, call in calls)


def test_how_calls_fail(stub: Any) -> None:
    codes = grpc.StatusCode
    assert code_of(stub.Greet, greeting.Name(text="teapot")) == (codes.FAILED_PRECONDITION, "a teapot")
    code, details = code_of(stub.Greet, greeting.Name(text="fails"))
    assert code is codes.INTERNAL and "it has failed" in details and len(details) <= 4096
    assert code_of(stub.Greet, greeting.Name(text="no message"))[0] is codes.INTERNAL
    seen.clear()
    code, details = code_of(stub.Count, greeting.Number(value=2000))
    assert code is codes.INTERNAL and "too many" in details
    assert seen == list(range(1000))


def test_an_unknown_method_and_an_unknown_application(service: Any, stub: Any) -> None:
    with a_channel() as channel:
        unknown = channel.unary_unary("/greeting.Nobody/Greet")
        assert code_of(unknown, b"")[0] is grpc.StatusCode.UNIMPLEMENTED
        assert stub.Greet(greeting.Name(text="x"), metadata=(("application", "other"),)).text == "hello x", (
            "the only one"
        )
        serve.run(Greeter.bind("salut"), name="two", route_prefix="/two")
        try:
            asked = stub.Greet.with_call(greeting.Name(text="x"), metadata=(("application", "two"),), timeout=30)
            assert asked[0].text == "salut x"
            code, details = code_of(stub.Greet, greeting.Name(), metadata=(("application", "three"),))
            assert code is grpc.StatusCode.NOT_FOUND and "Application 'three' not found." in details
            assert "Application metadata not set." in code_of(stub.Greet, greeting.Name())[1]
            listed = channel.unary_unary(OWN + "ListApplications")(b"")
            assert listed == b"\x0a\x03one\x0a\x03two"
        finally:
            serve.delete("two")
        assert channel.unary_unary(OWN + "Healthz")(b"") == b"\x0a\x07success"


def test_a_method_knows_its_request(stub: Any) -> None:
    metadata = (("request_id", "r1"), ("multiplexed_model_id", "m1"), ("application", "one"))
    assert stub.Greet(greeting.Name(text="who"), metadata=metadata).text == "one r1 m1 r1"


def test_a_client_that_goes_ends_the_method(stub: Any, service: Any) -> None:
    call = stub.Greet.future(greeting.Name(text="waits"))
    hpc.get(service.wait_for.remote("waits"), timeout=30)
    call.cancel()
    hpc.get(service.wait_for.remote("was ended"), timeout=30)


def test_a_client_that_reads_no_further_ends_the_stream(stub: Any, service: Any) -> None:
    call = stub.Count(greeting.Number(value=-1))
    assert next(call).value == 1
    call.cancel()
    hpc.get(service.wait_for.remote("nobody reads on"), timeout=30)


def test_a_message_that_cannot_be_read_is_said(service: Any) -> None:
    with a_channel() as channel:
        for make, given in ((channel.unary_unary, b"\xff\xff"), (channel.stream_unary, iter([b"\xff\xff"]))):
            method = "Greet" if make == channel.unary_unary else "Sum"
            code, details = code_of(make(f"/{greeting.SERVICE}/{method}"), given, timeout=30)
            assert code is grpc.StatusCode.INTERNAL and "message cannot be read" in details


def test_the_socket_is_the_users_alone_and_services_can_be_asked_for(service: Any) -> None:
    path = Path(door().removeprefix("grpc+unix:"))
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not [one for listed in doors().values() for one in listed if one.startswith("grpc:")], "no port was named"
    reflection = pytest.importorskip("grpc_reflection.v1alpha.reflection_pb2")
    stubs = pytest.importorskip("grpc_reflection.v1alpha.reflection_pb2_grpc")
    with a_channel() as channel:
        asked = iter([reflection.ServerReflectionRequest(list_services="")])
        (answer,) = stubs.ServerReflectionStub(channel).ServerReflectionInfo(asked)
        names = {one.name for one in answer.list_services_response.service}
        assert names == {greeting.SERVICE, "grpc.reflection.v1alpha.ServerReflection"}

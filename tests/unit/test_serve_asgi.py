"""Answers of a replica: what plain deployments return, applications of ASGI, streams, errors and lifespans."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import decimal
import enum
import json
import pathlib
import threading
import uuid
from collections.abc import Coroutine
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette", reason="needs pip install 'hpc[serve]'")

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

from hpc.serve.exceptions import BackPressureError, DeploymentUnavailableError
from hpc.serve.http.asgi import App, Stream, frame, frames
from hpc.serve.http.convert import converted, to_json
from hpc.serve.messages import DeploymentID, HttpReply, HttpRequest


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 30))


async def never() -> dict[str, Any]:
    await asyncio.Event().wait()
    return {}


def answer(
    target: Any, is_asgi: bool = False, request: HttpRequest | None = None, pull: Any = never
) -> HttpReply | Stream:
    async def work() -> Any:
        app = App(target, is_asgi=is_asgi)
        await app.start()
        found = await app.handle(request or HttpRequest("GET", "/"), pull)
        if isinstance(found, Stream):
            found.first += b"".join([part async for part in found])
            await found.close()
        await app.stop()
        return found

    return run(work())


def whole(target: Any, **more: Any) -> tuple[int, dict[bytes, bytes], bytes]:
    found = answer(target, **more)
    assert isinstance(found, HttpReply)
    return found.status, dict(found.headers), found.body


def kind_of(result: Any) -> tuple[bytes, bytes]:
    reply = converted(result)
    assert reply.status == 200
    return dict(reply.headers)[b"content-type"], reply.body


def test_results_have_their_content_types() -> None:
    assert kind_of("hé") == (b"text/plain; charset=utf-8", "hé".encode())
    assert kind_of(b"\xff") == (b"text/plain", b"\xff")
    assert kind_of(None) == (b"text/plain", b"")
    assert kind_of({"a": [1, 2.5, None, True]}) == (b"application/json", b'{"a":[1,2.5,null,true]}')
    assert kind_of(7) == (b"application/json", b"7")


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    at: Colour = Colour.RED


class Plain:
    def __init__(self) -> None:
        self.a = 1


def test_json_takes_what_services_return() -> None:
    at = datetime.datetime(2026, 1, 2, 3, 4, 5)
    name = uuid.UUID(int=5)
    value = [
        np.arange(3),
        np.float32(0.5),
        np.bool_(True),
        Point(1),
        {1},
        (1, 2),
        at,
        datetime.timedelta(seconds=3),
        decimal.Decimal("1.5"),
        decimal.Decimal("2"),
        pathlib.Path("/a"),
        name,
        b"x",
        Plain(),
        ValueError("why"),
        (n for n in (4, 5)),
    ]
    assert json.loads(to_json(value)) == [
        [0, 1, 2],
        0.5,
        True,
        {"x": 1, "at": "red"},
        [1],
        [1, 2],
        "2026-01-02T03:04:05",
        3.0,
        1.5,
        2,
        "/a",
        str(name),
        "x",
        {"a": 1},
        "why",
        [4, 5],
    ]
    assert to_json({Colour.RED: 1, name: {at: 2}}) == b'{"red":1,"%s":{"2026-01-02T03:04:05":2}}' % str(name).encode()
    with pytest.raises(TypeError, match="neither JSON"):
        to_json(object())


# ---------------------------------------------------------------- plain deployments


class Deployed:
    async def __call__(self, request: Request) -> Any:
        return {"path": request.url.path, "q": request.query_params["q"], "body": (await request.body()).decode()}


def test_a_deployment_gets_the_request() -> None:
    request = HttpRequest("POST", "/root/a%20b", b"q=7", [(b"host", b"h")], b"hello", root_path="/root")
    status, headers, body = whole(Deployed(), request=request)
    assert status == 200 and headers[b"content-type"] == b"application/json"
    assert json.loads(body) == {"path": "/root/a b", "q": "7", "body": "hello"}


def test_a_deployment_may_take_none_and_be_no_coroutine() -> None:
    threads = []

    def sync() -> str:
        threads.append(threading.current_thread())
        return "sync"

    assert whole(sync)[2] == b"sync"
    assert threads != [threading.main_thread()]
    assert whole(lambda: "lambda")[2] == b"lambda"


def test_the_rest_of_a_body_is_pulled() -> None:
    events = [
        {"type": "http.request", "body": b"lo ", "more_body": True},
        {"type": "http.request", "body": b"you", "more_body": False},
    ]

    async def pull() -> dict[str, Any]:
        return events.pop(0)

    async def read(request: Request) -> bytes:
        return b"".join([part async for part in request.stream()])

    assert whole(read, request=HttpRequest("PUT", "/", body=b"hel", more=True), pull=pull)[2] == b"hello you"


def test_an_event_that_nobody_waited_for_to_its_end_is_not_lost() -> None:
    came: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def heartbeat(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        for number in range(3):
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(receive(), 0.01)
                raise AssertionError("nothing has come")
            if number == 1:
                both = [asyncio.ensure_future(receive()) for _ in range(2)]
                await asyncio.sleep(0.01)
                came.put_nowait({"type": "websocket.receive", "text": "a"})
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                (waits,) = (one for one in both if not one.done())
                waits.cancel()
                texts = [one.result()["text"] for one in both if one is not waits]
        came.put_nowait({"type": "websocket.receive", "text": "b"})
        texts.append((await receive())["text"])
        await send({"type": "websocket.close", "reason": ",".join(texts)})

    came.put_nowait({"type": "websocket.connect"})

    async def pull() -> dict[str, Any]:
        # As of an actor: who asked may leave, and the event is his still.
        return await asyncio.shield(asyncio.ensure_future(came.get()))

    found = answer(heartbeat, True, HttpRequest("GET", "/", kind="websocket"), pull)
    assert isinstance(found, Stream) and list(frames(found.first)) == [(3, b"\x03\xe8a,b")]


def test_responses_of_starlette_are_themselves() -> None:
    done = []

    async def respond() -> Any:
        return JSONResponse({"a": 1}, 201, {"x-a": "b"})

    async def later() -> Any:
        return PlainTextResponse("now", background=BackgroundTask(done.append, 1))

    assert whole(respond) == (
        201,
        {b"x-a": b"b", b"content-type": b"application/json"},  # the door says how long it is
        b'{"a":1}',
    )
    assert whole(later)[2] == b"now" and done == [1]


def test_generators_are_streams() -> None:
    def texts() -> Any:
        yield from ("a", "b", "c")

    async def objects() -> Any:
        yield {"n": 1}
        yield {"n": 2}

    async def returned(request: Request) -> Any:
        return texts()

    for target in (texts, returned):
        found = answer(target)
        assert isinstance(found, Stream) and found.first == b"abc"
        assert found.headers == [(b"content-type", b"text/plain; charset=utf-8")]
    found = answer(objects)
    assert isinstance(found, Stream) and found.first == b'{"n":1}\n{"n":2}\n'
    assert found.headers == [(b"content-type", b"application/x-ndjson")]


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (ValueError("x"), 500, b"Internal Server Error"),
        (
            BackPressureError(3, 2, 429, 1.2),
            429,
            b"Request dropped due to backpressure (num_queued_requests=3, max_queued_requests=2).",
        ),
        (
            DeploymentUnavailableError(DeploymentID("D", "a")),
            503,
            b"Deployment(name='D', app='a') is unavailable because it failed to deploy.",
        ),
    ],
)
def test_errors_are_answers(error: Exception, status: int, body: bytes) -> None:
    async def fail() -> None:
        raise error

    async def fail_in_app(request: Request) -> None:
        raise error

    found = whole(fail)
    assert (found[0], found[2]) == (status, body)
    assert found[1].get(b"retry-after") == (b"2" if status == 429 else None)
    found = whole(Starlette(routes=[Route("/", fail_in_app)]), is_asgi=True)
    assert (found[0], found[2]) == (status, body)


# ---------------------------------------------------------------- applications


def test_an_application_answers_at_once_or_in_parts() -> None:
    async def page(request: Request) -> Any:
        return PlainTextResponse(f"{request.method} {request.scope['path']} {request.scope['root_path']}")

    async def parts(request: Request) -> Any:
        async def made() -> Any:
            for number in range(3):
                await asyncio.sleep(0.001)
                yield f"{number};"

        return StreamingResponse(made(), media_type="text/x")

    app = Starlette(routes=[Route("/pre/x", page), Route("/x", page), Route("/parts", parts)])
    assert whole(app, is_asgi=True, request=HttpRequest("GET", "/pre/x", root_path="/pre"))[2] == b"GET /pre/x /pre"
    found = answer(app, True, HttpRequest("GET", "/parts"))
    assert isinstance(found, Stream) and found.first == b"0;1;2;"


def test_the_head_of_a_stream_does_not_wait_for_its_first_byte() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
        await go.wait()
        await send({"type": "http.response.body", "body": b"late"})

    async def work() -> None:
        nonlocal go
        go = asyncio.Event()
        found = await App(app, is_asgi=True).handle(HttpRequest("GET", "/"), never)
        assert isinstance(found, Stream) and (found.status, found.first) == (200, b"")
        go.set()
        assert [part async for part in found] == [b"late"]

    go: asyncio.Event
    run(work())


def test_a_stream_that_nobody_reads_makes_the_application_wait() -> None:
    sent = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(1000):
            await send({"type": "http.response.body", "body": b"x" * 1024, "more_body": True})
            sent.append(number)

    async def work() -> None:
        found = await App(app, is_asgi=True).handle(HttpRequest("GET", "/"), never)
        assert isinstance(found, Stream)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(sent) < 200
        await found.close()

    run(work())


def test_what_a_stream_has_behind_it_runs_to_its_end() -> None:
    ends = []

    async def tidy() -> None:
        await asyncio.sleep(0.01)
        ends.append("tidied")

    async def parts() -> Any:
        yield "a"
        await asyncio.sleep(0.01)
        yield "b"

    async def sent(request: Request) -> StreamingResponse:
        return StreamingResponse(parts(), background=BackgroundTask(tidy))

    found = answer(sent)
    assert isinstance(found, Stream) and found.first == b"ab" and ends == ["tidied"]


def test_several_tasks_send_into_one_stream() -> None:
    async def talk(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        message = {"type": "websocket.send", "bytes": b"x" * 70_000}
        first, second, third = (asyncio.ensure_future(send(message)) for _ in range(3))
        await asyncio.sleep(0)
        second.cancel()
        await first
        await third
        await send({"type": "websocket.close"})

    async def connect() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    found = answer(talk, True, HttpRequest("GET", "/", kind="websocket"), connect)
    assert isinstance(found, Stream) and [kind for kind, _ in frames(found.first)] == [2, 2, 2, 3]


def test_a_client_that_goes_ends_the_application() -> None:
    ends = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("ended")

    async def silent(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("cancelled")

    async def work() -> None:
        found = await App(app, is_asgi=True).handle(HttpRequest("GET", "/"), never)
        assert isinstance(found, Stream)
        await found.close()
        asked = asyncio.ensure_future(App(silent, is_asgi=True).handle(HttpRequest("GET", "/"), never))
        await asyncio.sleep(0.01)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert ends == ["ended", "cancelled"]

    run(work())


def test_an_application_that_ends_without_an_answer_is_500_or_a_broken_stream() -> None:
    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        return

    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        raise ValueError("broken")

    async def twice(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.body", "body": b"x"})

    assert whole(nothing, is_asgi=True)[0] == whole(twice, is_asgi=True)[0] == 500
    with pytest.raises(RuntimeError, match="before its answer was whole"):
        answer(half, True)


def test_lifespans_are_run_and_their_failure_is_an_error() -> None:
    seen = []

    def lifespan(fails: bool) -> Any:
        async def span(app: Any) -> Any:
            seen.append("start")
            if fails:
                raise ValueError("no model")
            yield {"model": 7}
            seen.append("stop")

        import contextlib

        return contextlib.asynccontextmanager(span)

    async def page(request: Request) -> Any:
        return JSONResponse(request.state.model)

    app = Starlette(routes=[Route("/", page)], lifespan=lifespan(False))
    assert whole(app, is_asgi=True)[2] == b"7" and seen == ["start", "stop"]
    with pytest.raises(RuntimeError, match=r"ASGI lifespan startup failed[\s\S]*no model"):
        answer(Starlette(lifespan=lifespan(True)), True)


# ---------------------------------------------------------------- websockets


def test_messages_of_a_websocket_are_framed() -> None:
    data = frame(1, "é".encode()) + frame(2, b"") + frame(2, b"\0" * 300)
    assert list(frames(data)) == [(1, "é".encode()), (2, b""), (2, b"\0" * 300)]


def test_a_websocket_that_is_denied_in_parts_is_not_accepted() -> None:
    async def deny(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        await asyncio.sleep(0.1)  # longer than an answer of HTTP waits for more of it
        await send({"type": "websocket.http.response.body", "body": b"no, ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"no"})

    assert whole(deny, is_asgi=True, request=HttpRequest("GET", "/", kind="websocket")) == (401, {}, b"no, no")


def test_a_websocket_is_accepted_or_denied() -> None:
    async def talk(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept", "subprotocol": scope["subprotocols"][0], "headers": [(b"x", b"y")]})
        event = await receive()
        await send({"type": "websocket.send", "text": event["text"] + "!"})
        await send({"type": "websocket.close", "code": 3000, "reason": "enough"})

    async def deny(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.close", "code": 1000})

    events = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hé"}]

    async def pull() -> dict[str, Any]:
        return events.pop(0)

    request = HttpRequest("GET", "/", headers=[(b"sec-websocket-protocol", b"chat, other")], kind="websocket")
    found = answer(talk, True, request, pull)
    assert isinstance(found, Stream) and found.status == 101
    assert found.headers == [(b"x", b"y"), (b"sec-websocket-protocol", b"chat")]
    assert list(frames(found.first)) == [(1, "hé!".encode()), (3, b"\x0b\xb8enough")]
    assert whole(deny, is_asgi=True, request=request)[0] == 403
    assert whole(Deployed(), request=request)[0] == 403


@pytest.mark.parametrize(
    "first",
    [
        {"type": "websocket.send", "text": "before the accept"},
        {"type": "websocket.send", "bytes": b"x" * 70_000},
        {"type": "websocket.http.response.body", "body": b"no"},
    ],
)
def test_a_websocket_that_nobody_accepted_is_an_error_and_no_stream(first: dict[str, Any]) -> None:
    async def early(scope: Any, receive: Any, send: Any) -> None:
        await send(first)

    status, _headers, _body = whole(early, is_asgi=True, request=HttpRequest("GET", "/", kind="websocket"))
    assert status == 500


def test_a_websocket_is_answered_once() -> None:
    said: list[str] = []

    async def twice(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        try:
            await send({"type": "websocket.accept"})
        except RuntimeError as error:
            said.append(str(error))
        await send({"type": "websocket.http.response.body", "body": b"no"})

    assert whole(twice, is_asgi=True, request=HttpRequest("GET", "/", kind="websocket")) == (401, {}, b"no")
    assert len(said) == 1 and "too late" in said[0]

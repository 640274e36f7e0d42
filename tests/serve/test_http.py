"""Services over HTTP, in real processes: answers, FastAPI, streams, websockets, uploads, timeouts, and who comes in."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Iterator
from typing import Any

import pytest

from hpc import serve
from runtime.running import one_node

pytest.importorskip("httpx")
pytest.importorskip("fastapi")
pytest.importorskip("websockets")
pytest.importorskip("hpc.serve.http.websocket", reason="needs pip install 'hpc[serve]'")

import fastapi
import httpx
import websockets
from doors import addresses
from starlette.requests import Request
from starlette.responses import StreamingResponse


@serve.deployment(max_ongoing_requests=50)
class Plain:
    def __init__(self) -> None:
        self.began = 0
        self.cancelled = 0

    async def __call__(self, request: Request) -> Any:
        path = request.url.path
        if path == "/error":
            raise ValueError("secret")
        if path == "/slow":
            self.began += 1
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if path == "/counts":
            return [self.began, self.cancelled]
        if path == "/size":
            return sum([len(part) async for part in request.stream()])
        if path == "/stream":
            return StreamingResponse(self.numbers(int(request.query_params["n"])), media_type="text/plain")
        if path == "/broken":
            return StreamingResponse(self.broken(), media_type="text/plain")
        return {"path": path, "query": dict(request.query_params), "id": request.headers["x-request-id"]}

    async def numbers(self, count: int) -> Any:
        for number in range(count):
            yield f"{number}\n"
            await asyncio.sleep(0.002)

    async def broken(self) -> Any:
        yield "half"
        await asyncio.sleep(0.05)
        raise ValueError("broken")


api = fastapi.FastAPI()


def limit(limit: int = 3) -> int:
    return limit


@serve.deployment
@serve.ingress(api)
class Items:
    def __init__(self, start: int) -> None:
        self.items = list(range(start))

    @api.get("/items")
    def listed(self, most: int = fastapi.Depends(limit)) -> list[int]:
        return self.items[:most]

    @api.post("/items/{item}", status_code=201)
    async def add(self, item: int) -> dict[str, int]:
        self.items.append(item)
        return {"count": len(self.items)}

    @api.get("/where")
    async def where(self, request: fastapi.Request) -> dict[str, str]:
        return {"root": request.scope["root_path"], "url": str(request.url_for("where"))}

    @api.websocket("/chat")
    async def chat(self, socket: fastapi.WebSocket) -> None:
        await socket.accept(subprotocol="v1")
        while True:
            text = await socket.receive_text()
            if text == "bye":
                await socket.close(4000, "bye")
                return
            await socket.send_text(f"{len(self.items)}:{text}")

    @api.websocket("/denied")
    async def denied(self, socket: fastapi.WebSocket) -> None:
        await socket.close()


@pytest.fixture(scope="module")
def doors() -> Iterator[tuple[str, str]]:
    """A service with two applications: its socket and its address."""
    with one_node(num_cpus=4):
        serve.start(http_options={"host": "127.0.0.1", "port": 0, "request_timeout_s": 20})
        serve.run(Plain.bind(), name="plain")
        serve.run(Items.bind(5), name="items", route_prefix="/api")
        yield addresses()
        serve.shutdown()


@pytest.fixture
def client(doors: tuple[str, str]) -> Iterator[Any]:
    with httpx.Client(base_url=doors[1], timeout=30) as found:
        yield found


# ---------------------------------------------------------------- answers


def test_the_door_is_a_socket_that_only_its_user_opens(doors: tuple[str, str]) -> None:
    path = doors[0]
    mode = os.stat(path).st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
    with httpx.Client(transport=httpx.HTTPTransport(uds=path)) as client:
        assert client.get("http://localhost/x").json()["path"] == "/x"
        assert client.get("http://evil.example/x").status_code == 421


def test_a_request_has_an_answer_with_its_id(client: Any) -> None:
    found = client.get("/a%20b?x=1", headers={"x-request-id": "mine"})
    assert found.status_code == 200 and found.headers["content-type"] == "application/json"
    assert found.json() == {"path": "/a b", "query": {"x": "1"}, "id": "mine"}
    assert found.headers["x-request-id"] == "mine"
    assert len(client.get("/").headers["x-request-id"]) >= 16


def test_codes_and_texts_are_those_of_ray_serve(client: Any) -> None:
    error = client.get("/error")
    assert (error.status_code, error.text) == (500, "Internal Server Error")
    late = client.get("/slow", headers={"x-request-timeout-seconds": "0.2", "x-request-id": "r1"})
    assert (late.status_code, late.text) == (408, "Request r1 timed out after 0.2s.")
    assert client.get("/-/healthz").text == "success"
    assert client.get("/-/routes").json() == {"/": "plain", "/api": "items"}
    assert client.get("/api/none").status_code == 404


def test_a_client_that_goes_cancels_its_request(client: Any) -> None:
    began, cancelled = client.get("/counts").json()
    with pytest.raises(httpx.ReadTimeout):
        client.get("/slow", timeout=0.3)
    end = time.monotonic() + 20
    while client.get("/counts").json() != [began + 1, cancelled + 1]:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_streams_come_in_parts_and_broken_ones_break(client: Any) -> None:
    with client.stream("GET", "/stream?n=30") as found:
        parts = list(found.iter_raw())
    assert len(parts) > 5 and b"".join(parts) == b"".join(b"%d\n" % n for n in range(30))
    with pytest.raises(httpx.RemoteProtocolError), client.stream("GET", "/broken") as found:
        found.read()


def test_bodies_of_any_size_arrive(client: Any) -> None:
    for size in (0, 10, 100_000, 5_000_000):
        assert client.post("/size", content=b"a" * size).json() == size

    def parts() -> Iterator[bytes]:
        for _ in range(40):
            yield b"b" * 50_000

    assert client.post("/size", content=parts()).json() == 2_000_000


# ---------------------------------------------------------------- FastAPI


def test_routes_are_methods_of_the_replica(client: Any) -> None:
    assert client.get("/api/items").json() == [0, 1, 2]
    assert client.get("/api/items?limit=1").json() == [0]
    added = client.post("/api/items/7")
    assert added.status_code == 201 and added.json()["count"] >= 6
    assert client.post("/api/items/x").status_code == 422
    root = client.get("/api/where").json()
    assert root["root"] == "/api" and root["url"].endswith("/api/where")
    assert client.get("/api/openapi.json").json()["servers"] == [{"url": "/api"}]


def test_websockets_speak_and_are_denied(doors: tuple[str, str]) -> None:
    address = doors[1].replace("http", "ws")

    async def work() -> None:
        async with websockets.connect(f"{address}/api/chat", subprotocols=["v0", "v1"]) as socket:
            assert socket.subprotocol == "v1"
            for text in ("hello", "é" * 5000):
                await socket.send(text)
                assert str(await socket.recv()).endswith(":" + text)
            await socket.send("bye")
            with pytest.raises(websockets.ConnectionClosed):
                await socket.recv()
            assert (socket.close_code, socket.close_reason) == (4000, "bye")
        for path in ("/api/denied", "/none"):
            with pytest.raises(websockets.InvalidStatus) as caught:
                await websockets.connect(address + path)
            assert caught.value.response.status_code == 403

    asyncio.run(asyncio.wait_for(work(), 30))

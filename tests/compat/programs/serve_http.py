"""What clients get over HTTP: codes, types and bodies of results, errors, timeouts, routes, FastAPI, streams."""

# needs: fastapi, httptools, wsproto

import asyncio
import datetime
import enum
import http.client
import json
import socket
import time

import numpy as np
from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import PlainTextResponse
from starlette.responses import JSONResponse, StreamingResponse

import hpc as ray
from hpc import serve

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    PORT = free.getsockname()[1]

ray.init(num_cpus=8)
serve.start(http_options={"host": "127.0.0.1", "port": PORT})


class Colour(enum.Enum):
    RED = "red"


RESULTS = {
    "/text": "hé", "/bytes": b"\x00\xff", "/none": None, "/number": 7, "/float": 1.5, "/true": True,
    "/list": [1, "ü", None],
    "/dict": {"a": {"b": 1}, 3: 4}, "/numpy": np.arange(3), "/float32": np.float32(0.5), "/enum": Colour.RED,
    "/set": {1}, "/time": datetime.datetime(2026, 1, 2), "/tuple": (1, 2), "/delta": datetime.timedelta(seconds=3),
}  # fmt: skip


@serve.deployment
class Plain:
    async def __call__(self, request):
        path = request.url.path.removeprefix("/plain")
        if path in RESULTS:
            return RESULTS[path]
        if path == "/error":
            raise ValueError("secret")
        if path == "/json":
            return JSONResponse({"a": 1}, status_code=201, headers={"x-a": "b"})
        if path == "/empty":
            return Response(status_code=204)
        if path == "/stream":
            return StreamingResponse(self.parts(), media_type="text/x")
        if path == "/slow":
            await asyncio.sleep(5)
        if path == "/scope":
            keys = ("type", "method", "path", "root_path", "query_string", "scheme", "http_version")
            return [str(request.scope[key]) for key in keys]
        if path == "/headers":
            return sorted(name for name in request.headers if name not in ("host", "accept-encoding"))
        return {"path": path, "query": dict(request.query_params), "body": (await request.body()).decode()}

    async def parts(self):
        for number in range(3):
            yield f"{number};"
            await asyncio.sleep(0.05)


@serve.deployment
def no_argument():
    return "none"


app = FastAPI()


@serve.deployment
@serve.ingress(app)
class Api:
    def __init__(self):
        self.items = [1, 2]

    @app.get("/items/{item}")
    def item(self, item: int, q: str = "x"):
        return {"item": item, "q": q, "have": self.items}

    @app.post("/items", status_code=201)
    async def add(self, request: Request):
        self.items.append((await request.json())["item"])
        return self.items

    @app.get("/plain", response_class=PlainTextResponse)
    def plain(self):
        return "plain"

    @app.get("/root")
    def root(self, request: Request):
        return [request.scope["root_path"], request.scope["path"], str(request.url_for("root")).split("/", 3)[3]]

    @app.get("/error")
    def error(self):
        raise ValueError("secret")

    @app.websocket("/ws")
    async def ws(self, socket: WebSocket):
        await socket.accept()
        await socket.send_text("hello")
        await socket.close()


serve.run(Plain.bind(), name="plain", route_prefix="/plain")
serve.run(no_argument.bind(), name="none", route_prefix="/none")
serve.run(Api.bind(), name="api", route_prefix="/api")


def ask(path, method="GET", body=None, headers=None, shown=()):
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30)
    connection.request(method, path, body=body, headers=headers or {})
    found = connection.getresponse()
    data = found.read()
    more = [found.getheader(name) for name in shown]
    print(method, path, found.status, found.getheader("content-type"), data, *more)
    connection.close()


for path in RESULTS:
    ask("/plain" + path)
for path in ("/error", "/json", "/empty", "/stream", "/scope", "/a%20b/c?x=1&y=%C3%BC", "", "/"):
    ask("/plain" + path, shown=("x-a",))
ask("/plain/scope?a=b%20c")
ask("/plain/x", "POST", b"hello")
ask("/plain/text", "HEAD")
ask("/plain/headers", headers={"X-Mine": "1"})
ask("/plain/text", headers={"x-request-id": "mine"}, shown=("x-request-id",))
ask("/plain/slow", headers={"x-request-timeout-seconds": "0.5", "x-request-id": "late"}, shown=("x-request-id",))
ask("/none")
ask("/plainer")
ask("/nothing", shown=("x-a",))
ask("/-/routes")
ask("/-/healthz")
for path in ("/items/3", "/items/x", "/items/3?q=y", "/plain", "/root", "/error", "/missing"):
    ask("/api" + path)
ask("/api/items", "POST", json.dumps({"item": 9}).encode(), {"content-type": "application/json"})
ask("/api/items", "DELETE")
ask("/api/openapi.json".replace("openapi.json", "docs/"), "GET")
connection = socket.create_connection(("127.0.0.1", PORT))
key = "dGhlIHNhbXBsZSBub25jZQ=="
connection.sendall(
    f"GET /api/ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
    "Sec-WebSocket-Version: 13\r\n\r\n".replace("Host: a", "Host: 127.0.0.1").encode()
)
data = b""
end = time.time() + 20
while time.time() < end:
    part = connection.recv(4096)
    data += part
    if not part or b"\x88" in data:
        break
head, _, frames = data.partition(b"\r\n\r\n")
print(head.split(b"\r\n")[0], b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head, frames)
connection.close()
serve.shutdown()

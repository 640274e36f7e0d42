"""Doors and ends of a service over HTTP: keys, another root, full queues, dead replicas, a proxy that is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hpc
from hpc import serve
from runtime.running import one_node

pytest.importorskip("httpx")
pytest.importorskip("hpc.serve.http.websocket", reason="needs pip install 'hpc[serve]'")

import httpx
from deploying import until
from doors import addresses
from starlette.requests import Request

KEY = "0123456789abcdef0123456789abcdef"
HEADERS = {"authorization": f"Bearer {KEY}"}


@serve.deployment(max_ongoing_requests=1, max_queued_requests=1, num_replicas=1)
class One:
    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def __call__(self, request: Request) -> Any:
        path = request.url.path
        if path.endswith("/wait"):
            await asyncio.sleep(60)
        if path.endswith("/pid"):
            return os.getpid()
        return {"path": path, "size": len(await request.body())}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Any]:
    keys = tmp_path / "keys"
    keys.write_text(KEY + "\n")
    keys.chmod(0o600)
    options = {
        "api_keys_file": str(keys),
        "root_path": "/node/h",
        "port": 0,
        "host": "127.0.0.1",
        "max_body_bytes": 1000,
    }
    with one_node(num_cpus=2):
        serve.start(http_options=options)
        serve.run(One.bind())
        with httpx.Client(base_url=addresses()[1], timeout=30, headers=HEADERS) as found:
            yield found
        serve.shutdown()


def test_a_service_at_its_limits(client: Any, tmp_path: Path) -> None:
    # Keys, the root of a proxy in front, and the limit of bodies.
    assert httpx.get(addresses()[1] + "/x").status_code == 401
    assert httpx.get(addresses()[1] + "/-/healthz").status_code == 200
    assert client.get("/x").json()["path"] == "/node/h/x"
    assert client.post("/size", content=b"a" * 1000).json()["size"] == 1000
    assert client.post("/size", content=b"a" * 1001).status_code == 413
    # A queue that is full: one runs, one waits, the third one is told. What is told may be one of the two, whose place
    # the third one had: so they ask again.
    is_told = threading.Event()
    waiting = [threading.Thread(target=quietly, args=[client, "/wait", is_told]) for _ in range(2)]
    for thread in waiting:
        thread.start()
    full = until(lambda: refused(client))
    is_told.set()
    assert full.status_code == 503 and full.text.startswith("Request dropped due to backpressure")
    for thread in waiting:
        thread.join()
    # A replica that dies under a request: it is sent again if it is safe to, else it is told.
    pid = until(lambda: ok(client.get("/pid")))
    died = threading.Thread(target=os.kill, args=[int(pid.text), signal.SIGKILL])
    posts: list[Any] = []
    asking = threading.Thread(target=lambda: posts.append(client.post("/wait", timeout=30)))
    asking.start()
    until(lambda: is_busy(client))
    died.start()
    died.join()
    asking.join()
    assert posts and posts[0].status_code == 500
    assert until(lambda: ok(client.get("/pid"))).text != pid.text
    # A proxy that is killed is made again, at the same socket.
    path = addresses()[0]
    proxy = next(row for row in rows() if row["name"].startswith("SERVE_PROXY"))
    os.kill(int(proxy["pid"]), signal.SIGKILL)
    assert until(lambda: answers(path)).status_code == 200


def rows() -> list[Any]:
    from hpc.util.state import list_actors

    return list_actors()


def quietly(client: Any, path: str, is_over: threading.Event) -> None:
    while not is_over.is_set():
        try:
            client.get(path, timeout=2)
        except httpx.TimeoutException:
            pass


def refused(client: Any) -> Any:
    try:
        found = client.get("/x", timeout=0.2)
    except httpx.TimeoutException:
        return None
    return found if found.status_code == 503 else None


def is_busy(client: Any) -> bool:
    """Whether a request waits for the one that runs."""
    try:
        client.get("/x", timeout=0.3)
    except httpx.TimeoutException:
        return True
    return False


def ok(found: Any) -> Any:
    return found if found.status_code == 200 else None


def answers(path: str) -> Any:
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=path), headers=HEADERS, timeout=5) as client:
            return client.get("http://localhost/x")
    except httpx.HTTPError:
        return None


def test_a_file_of_keys_that_others_read_opens_no_door(tmp_path: Path) -> None:
    keys = tmp_path / "open"
    keys.write_text(KEY + "\n")
    keys.chmod(0o644)
    with one_node(num_cpus=1):
        from hpc.serve.config import HTTPOptions
        from hpc.serve.http.proxy import Proxy

        actor = hpc.remote(Proxy).options(num_cpus=0).remote("1", HTTPOptions(api_keys_file=str(keys)))
        with pytest.raises(Exception, match="chmod 600"):
            hpc.get(actor.begin.remote())

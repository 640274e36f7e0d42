"""Connections to the dashboard that do not get on: they are closed, and those that wait for events stay."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

uvicorn = pytest.importorskip("uvicorn", reason="needs pip install 'hpc[dashboard]'")


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Little, very much, or an answer that goes on."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/much":
        for _ in range(1000):
            await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})
    if scope["path"] == "/events":
        await send({"type": "http.response.body", "body": b"data", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    from hpc.dashboard import callers

    monkeypatch.setattr(callers, "SILENT_S", 0.3)
    door = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(application, http=callers.Caller, log_config=None, ws="none", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([door],))
    thread.start()
    try:
        yield door.getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        thread.join(10.0)
        door.close()


GET = b"GET %s HTTP/1.1\r\nhost: localhost\r\n\r\n"
CASES = {
    "nothing": b"",
    "half": b"GET / HTTP/1.1\r\nhost:",
    "whole and half": GET % b"/" + b"GET / HT",
    "a body that does not come": b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n",
    "what it does not read": GET % b"/much",
}


@pytest.mark.parametrize("what", CASES)
def test_a_connection_that_does_not_get_on_is_closed(port, what):
    with socket.create_connection(("127.0.0.1", port), 5.0) as stranger:
        stranger.sendall(CASES[what])
        time.sleep(1.5)
        end_s, is_open = time.monotonic() + 5.0, True
        while is_open and time.monotonic() < end_s:
            time.sleep(0.05)
            try:
                stranger.sendall(b"x")
            except OSError:
                is_open = False
        assert not is_open


def test_one_that_waits_for_events_stays(port):
    with socket.create_connection(("127.0.0.1", port), 5.0) as browser:
        browser.sendall(GET % b"/events")
        time.sleep(1.5)
        browser.settimeout(0.2)
        assert b"data" in browser.recv(4096)
        with pytest.raises(TimeoutError):
            browser.recv(4096)

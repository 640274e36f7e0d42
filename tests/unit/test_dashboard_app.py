"""What strangers on the machine can send to the dashboard's port: bodies without an end, and names of no file."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import nullcontext
from typing import Any

import pytest

from hpc.dashboard.feed import Feed
from hpc.dashboard.gate import Keys
from hpc.settings.errors import CliError

app = pytest.importorskip("hpc.dashboard.app", reason="needs starlette: pip install 'hpc[dashboard]'")
PIECE = b"x" * 150


def asked(
    method: str, path: str, keys: Keys, bodies: list[bytes], headers: dict[str, str] | None = None
) -> tuple[int, int]:
    """The status of the answer, and how many pieces of the body were taken; its headers are added to ``headers``."""
    taken, status = 0, 0

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += 1
        body = bodies[taken - 1] if taken <= len(bodies) else b""
        return {"type": "http.request", "body": body, "more_body": taken < len(bodies)}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)
        if headers is not None:
            headers.update({name.decode(): value.decode() for name, value in message.get("headers", ())})

    scope = {
        "type": "http", "http_version": "1.1", "method": method, "path": path,
        "raw_path": path.encode(errors="replace"), "query_string": b"", "scheme": "http", "root_path": "",
        "headers": [(b"host", b"localhost:1"), (b"x-hpc", b"1")], "server": ("localhost", 1), "client": ("here", 2),
    }  # fmt: skip
    asyncio.run(app.build(Feed({}), keys)(scope, receive, send))
    return status, taken


def test_a_body_is_read_no_further_than_a_token_goes():
    keys = Keys()
    before = keys.token
    status, taken = asked("POST", "/api/enter", keys, [PIECE] * 1000)
    assert status == 403 and taken == -(-app.MOST_TOKEN_BYTES // len(PIECE)) and keys.token == before


def test_a_token_in_pieces_lets_in():
    keys = Keys()
    token = keys.token.encode()
    assert asked("POST", "/api/enter", keys, [token[:5], token[5:]]) == (200, 2) and keys.token.encode() != token


def test_dashboards_of_one_machine_have_cookies_of_their_own():
    names = set()
    for _ in range(2):
        keys = Keys()
        headers: dict[str, str] = {}
        assert asked("POST", "/api/enter", keys, [keys.token.encode()], headers)[0] == 200
        names.add(headers["set-cookie"].partition("=")[0])
    assert len(names) == 2


def test_a_session_that_does_not_answer_is_said(monkeypatch):
    async def once(self: Feed, page: object, params: object) -> bytes:
        raise asyncio.TimeoutError

    monkeypatch.setattr(Feed, "once", once)
    monkeypatch.setattr(Keys, "knows", lambda self, cookie: True)
    assert asked("GET", "/api/page/now", Keys(), [])[0] == 504


@pytest.mark.parametrize("path", ["/static/app.js", "/", "/static/vendor/uPlot.js"])
def test_files_of_the_page_are_given(path):
    assert asked("GET", path, Keys(), [])[0] == 200


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/..", "/\0", "/static/\udc80", f"/{'a' * 5000}", "/static/pages", "//etc/passwd"]
)
def test_a_name_of_no_file_is_answered_as_missing(path):
    assert asked("GET", path, Keys(), [])[0] == 404


def test_a_port_that_is_taken_is_said_with_what_to_do(monkeypatch, tmp_path):
    pytest.importorskip("uvicorn")
    from hpc.cli import dashboard
    from hpc.state import overview

    monkeypatch.setattr(dashboard.session, "connected", lambda address: nullcontext())
    monkeypatch.setattr(overview, "own_directory", lambda: str(tmp_path))
    monkeypatch.setattr(os, "nice", lambda by: 0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(CliError, match="cannot be listened at"):
            dashboard.run(["dashboard", f"--port={taken.getsockname()[1]}"])
    assert not list(tmp_path.iterdir()), "the socket is gone, too"

"""What a proxy does with requests, its routers stood in for: whom it asks, what it copies, and what replicas pull."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

pytest.importorskip("httptools", reason="needs pip install 'hpc[serve]'")

from http_wire import Wire, settle, statuses

from hpc.serve.config import HTTPOptions
from hpc.serve.http import proxy as proxies
from hpc.serve.http.accesslog import AccessLog
from hpc.serve.http.proxy import Proxy
from hpc.serve.messages import DeploymentID, HttpReply, HttpRequest, RouteRow, RouteTable

GET = b"GET /m HTTP/1.1\r\nHost: localhost\r\n\r\n"


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 30))


class Router:
    """Answers with the name of its deployment, once it may."""

    made: dict[str, Router]

    def __init__(self, deployment: DeploymentID) -> None:
        self.name = f"{deployment.app_name}/{deployment.name}"
        self.asked: list[HttpRequest] = []
        self.may = asyncio.Event()
        self.may.set()
        Router.made[self.name] = self

    async def http(self, meta: Any, request: HttpRequest) -> HttpReply:
        self.asked.append(request)
        await self.may.wait()
        return HttpReply(200, [], self.name.encode())


def served(monkeypatch: pytest.MonkeyPatch, *rows: RouteRow) -> Proxy:
    Router.made = {}
    monkeypatch.setattr(proxies, "router_of", lambda deployment, **_: Router(deployment))
    proxy = Proxy("n", HTTPOptions())
    proxy._take_routes(RouteTable(1, list(rows)))
    return proxy


def test_a_canary_without_a_route_has_an_ingress_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        ingresses = {"model": "Old", "next": "New", "seen": "Shadow"}
        row = RouteRow("/m", "model", "Old", split=[("next", 1.0)], shadow="seen", ingresses=ingresses)
        out = await Wire(served(monkeypatch, row)._answer).send(GET)
        assert statuses(out) == [200] and out.endswith(b"\r\n\r\nnext/New")
        assert {name: len(router.asked) for name, router in Router.made.items()} == {
            "model/Old": 0,
            "next/New": 1,
            "seen/Shadow": 1,
        }

    run(work())


def test_a_proxy_that_is_started_again_gives_nobody_the_body_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        numbers = set()
        for _ in range(2):
            proxy = served(monkeypatch, RouteRow("/m", "model", "M"))
            Router.made["model/M"].may.clear()
            wire = Wire(proxy._answer)
            await wire.send(b"PUT /m HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n")
            (number,) = proxy._sources
            numbers.add(number)
            pulled = asyncio.ensure_future(proxy.receive(number))
            await wire.send(b"secret")
            assert (await pulled)["body"] == b"secret"
            wire.transport.abort()
            await settle()
            assert not proxy._sources and (await proxy.receive(number))["type"] == "http.disconnect"
        assert len(numbers) == 2

    run(work())


def test_a_shadow_that_does_not_answer_heaps_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        monkeypatch.setattr(proxies, "MOST_COPIES", 3)
        row = RouteRow("/m", "model", "M", shadow="seen", ingresses={"seen": "S"})
        proxy = served(monkeypatch, row)
        shadow = Router.made["seen/S"]
        shadow.may.clear()
        wire = Wire(proxy._answer)
        assert statuses(await wire.send(*[GET] * 9)) == [200] * 9
        assert len(shadow.asked) == len(proxy._shadows) == 3
        shadow.may.set()
        await wire.send(GET)
        assert len(shadow.asked) >= 3 and not proxy._shadows
        monkeypatch.setattr(proxies, "COPIED_BYTES", 4)
        shadow.asked.clear()
        for body in (b"abc", b"abcde"):
            await wire.send(b"PUT /m HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        assert [request.body for request in shadow.asked] == [b"abc"] and proxy._copied == 0

    run(work())


def test_an_id_that_a_client_chooses_is_plain_and_short_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="hpc.serve.access"):
        AccessLog().note("GET", "/", None, 200, 0.001, "\x9b31m\x85" + "a" * 60_000)
    (record,) = caplog.records
    assert record.getMessage().startswith("GET - 200 1.0ms \\x9b31m\\x85aaa") and len(record.getMessage()) < 150

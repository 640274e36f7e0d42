"""What is told of applications that are served: for `hpc list runs`, the dashboard's page and the report."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from hpc import serve
from hpc.state.bulletins import ServeDetail
from hpc.state.runs import run_detail
from hpc.util.state import list_runs
from runtime.running import one_node

pytest.importorskip("httpx")
pytest.importorskip("hpc.serve.http.websocket", reason="needs pip install 'hpc[serve]'")

import httpx
from deploying import until
from doors import addresses


@serve.deployment(num_replicas=2, max_ongoing_requests=1)
class Work:
    async def __call__(self, request: Any) -> str:
        if request.url.path == "/wait":
            await asyncio.sleep(1)
        if request.url.path == "/error":
            raise ValueError("it fails")
        return "ok"


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    with one_node(num_cpus=4):
        serve.start(http_options={"host": "127.0.0.1", "port": 0})
        yield
        serve.shutdown()


def row_of(name: str) -> Any:
    return next((row for row in list_runs([("kind", "=", "serve")]) if row.name == name), None)


def detail_of(name: str) -> ServeDetail:
    found, live = run_detail(until(lambda: row_of(name), "the run").run_id)
    assert live and isinstance(found, ServeDetail)
    return found


def test_an_application_is_told_of_until_it_is_deleted() -> None:
    serve.run(Work.bind(), name="first")
    serve.run(Work.options(num_replicas=1).bind(), name="next", route_prefix=None)
    serve.split("first", {"first": 0.75, "next": 0.25}, max_error_rate=0.9)
    until(lambda: row_of("first") is not None and row_of("first").state == "RUNNING", "the run")
    with httpx.Client(base_url=addresses()[1], timeout=30) as client:
        for _ in range(100):
            assert client.get("/").text == "ok"
        detail = until(lambda: (found := detail_of("first")).per_second > 0 and found)
    assert detail.route == "/" and detail.ingress == "Work" and detail.p99_s is not None and detail.p50_s is not None
    assert 0 < detail.p50_s <= detail.p99_s < 10
    (deployment,) = detail.deployments
    assert (deployment.name, deployment.replicas, deployment.target, deployment.errors) == ("Work", 2, 2, 0)
    assert len(detail.replicas) == 2 and {row.state for row in detail.replicas} == {"RUNNING"}
    until(lambda: sum(detail_of(app).requests for app in ("first", "next")) == 100)
    rows = {row.app: row for row in detail_of("first").split}
    assert (rows["first"].role, rows["first"].share) == ("baseline", 0.75)
    assert (rows["next"].role, rows["next"].share) == ("canary", 0.25)
    assert {curve.name for curve in detail.curves} >= {"requests a second", "requests that wait"}
    assert detail.doors and "requests per second" in row_of("first").words
    serve.delete("next")
    until(lambda: row_of("next").state == "STOPPED", "the end")
    serve.delete("first")


def test_what_waits_and_what_fails_is_told() -> None:
    serve.run(Work.options(num_replicas=1).bind(), name="full", route_prefix="/")

    async def ask() -> None:
        async with httpx.AsyncClient(base_url=addresses()[1], timeout=60) as client:
            assert (await client.get("/error")).status_code == 500
            waiting = [asyncio.ensure_future(client.get("/wait")) for _ in range(6)]
            found = await asyncio.to_thread(until, lambda: (now := detail_of("full")).queued > 0 and now)
            assert found.ongoing <= 1 < found.queued
            for one in waiting:
                assert (await one).status_code == 200

    asyncio.run(ask())
    found = until(lambda: (now := detail_of("full")).requests == 7 and not now.queued and now)
    assert found.errors == 1
    serve.delete("full")

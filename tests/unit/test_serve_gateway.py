"""The gateway between clients and doors: what is sent again, what streams through, and what waits for the next job."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("httptools", reason="needs pip install 'hpc[serve]'")

from hpc.cli import serve as command
from hpc.serve.config import HTTPOptions
from hpc.serve.gateway import registry, telling
from hpc.serve.gateway.backends import JobRow
from hpc.serve.gateway.client import DEAD_S, Broken, Pool
from hpc.serve.gateway.process import SOCKET, Gateway, GatewayError, GatewayOptions
from hpc.serve.gateway.tunnel import tunnel
from hpc.serve.http import door
from hpc.serve.http.exchange import Exchange
from hpc.serve.http.head import read_head
from hpc.serve.http.server import Server
from hpc.serve.http.websocket import Socket
from hpc.settings.errors import CliError

httpx = pytest.importorskip("httpx", reason="httpx is not installed here")

Handler = Callable[[Exchange], Awaitable[None]]
TEXT = [(b"content-type", b"text/plain")]


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 60))


class StandIn:
    """A job's door, with a service of the test behind it."""

    def __init__(self, folder: Path, name: str, handler: Handler, **row: Any) -> None:
        self.folder, self.name, self.row = folder, name, row
        self.path = str(folder / f"{name}.sock")
        self.asked: list[str] = []
        self.seen: list[dict[bytes, bytes]] = []
        self._handler = handler

    async def begin(self) -> StandIn:
        self.server = Server(self._answer, self._speak)
        await self.server.listen_unix(door.bound(self.path))
        self.tell()
        return self

    def tell(self, **changes: Any) -> None:
        self.row.update(changes)
        fields = {"doors": [f"unix:{self.path}"], "is_ready": True, "at": time.time(), **self.row}
        registry.tell(self.folder, JobRow(self.name, door.socket.gethostname(), **fields))

    async def _answer(self, exchange: Exchange) -> None:
        if exchange.head.path == b"/-/healthz":
            exchange.reply(200, TEXT, b"success")
            return
        self.asked.append(exchange.head.method)
        self.seen.append(dict(exchange.head.headers))
        await self._handler(exchange)

    async def _speak(self, sock: Socket) -> None:
        sock.accept(None, [])
        while (event := await sock.receive())["type"] != "websocket.disconnect":
            if event["type"] == "websocket.receive":
                await sock.send(event["text"].upper())


@asynccontextmanager
async def gateway(folder: Path, **options: Any) -> AsyncIterator[Any]:
    made = Gateway(GatewayOptions(registry=str(folder), **options))
    await made.start()
    path = made.doors[0].removeprefix("unix:")
    try:
        async with httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=path), base_url="http://localhost", timeout=30
        ) as client:
            yield client
    finally:
        await made.stop()


async def hello(exchange: Exchange) -> None:
    exchange.reply(200, [*TEXT, (b"x-own", b"1"), (b"keep-alive", b"5")], b"hello " + exchange.body)


async def breaks(exchange: Exchange) -> None:
    exchange.abort()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "r"
    path.mkdir(mode=0o700)
    return path


async def headers_of_both(folder: Path) -> None:
    job = await StandIn(folder, "a", hello).begin()
    async with gateway(folder) as client:
        answer = await client.post("/p?q=1", content=b"you", headers={"te": "trailers", "origin": "http://localhost"})
        assert (answer.status_code, answer.text, answer.headers["x-own"]) == (200, "hello you", "1")
        assert "keep-alive" not in answer.headers
        seen = job.seen[-1]
        assert seen[b"host"] == b"localhost" and b"te" not in seen and seen[b"x-forwarded-proto"] == b"http"
        assert seen[b"content-length"] == b"3"
        assert (await client.head("/")).headers["content-length"] == "6"
        listed = (await client.get("/-/gateway")).json()["jobs"]
        assert listed["a"]["state"] == "serving" and (await client.get("/-/healthz")).text == "success"
    await job.server.close()


def test_a_request_and_its_answer_go_through_without_what_concerns_one_connection(folder: Path) -> None:
    run(headers_of_both(folder))


def test_what_may_be_sent_again_goes_to_another_door(folder: Path) -> None:
    async def work() -> None:
        bad = await StandIn(folder, "bad", breaks).begin()
        good = await StandIn(folder, "good", hello).begin()
        async with gateway(folder) as client:
            for _ in range(10):
                assert (await client.get("/")).status_code == 200
                assert (await client.post("/", content=b"x", headers={"idempotency-key": "1"})).text == "hello x"
            assert bad.asked and set(good.asked) == {"GET", "POST"}
            good.tell(is_leaving=True)
            await asyncio.sleep(0.7)  # the gateway looks at its registry twice a second
            bad.asked.clear()
            answer = await client.post("/", content=b"x")
            assert answer.status_code == 502 and "broke off" in answer.text
            assert bad.asked == ["POST"], "nobody knows how far it came, so it is not sent again"
        await bad.server.close()
        await good.server.close()

    run(work())


def test_large_bodies_stream_through_both_ways(folder: Path) -> None:
    data = bytes(range(256)) * 4096 * 8

    async def digest(exchange: Exchange) -> None:
        found, part = hashlib.sha256(exchange.body), (b"", exchange.more)
        while part[1]:
            more = await exchange.receive()
            assert more is not None
            part = more
            found.update(part[0])
        exchange.open(200, TEXT)
        await exchange.write(found.hexdigest().encode())
        for at in range(0, len(data), 1 << 16):
            await exchange.write(data[at : at + (1 << 16)])
        exchange.end()

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(data), 1 << 20):
            yield data[at : at + (1 << 20)]

    async def work() -> None:
        job = await StandIn(folder, "a", digest).begin()
        async with gateway(folder) as client:
            expected = hashlib.sha256(data).hexdigest().encode() + data
            assert (await client.post("/", content=data)).content == expected
            assert (await client.post("/", content=chunks())).content == expected
        await job.server.close()

    run(work())


def test_a_stream_that_breaks_is_seen_by_its_client(folder: Path) -> None:
    async def half(exchange: Exchange) -> None:
        exchange.open(200, TEXT)
        await exchange.write(b"half")
        await asyncio.sleep(0)
        exchange.abort()

    async def work() -> None:
        job = await StandIn(folder, "a", half).begin()
        async with gateway(folder) as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get("/")
        assert job.asked == ["GET"]
        await job.server.close()

    run(work())


def test_streams_end_where_they_began_and_new_requests_go_to_the_next_job(folder: Path) -> None:
    goes_on = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        exchange.open(200, TEXT)
        await exchange.write(b"old")
        await goes_on.wait()
        await exchange.write(b" end")
        exchange.end()

    async def work() -> None:
        old = await StandIn(folder, "old", slow).begin()
        async with gateway(folder, lead_s=30.0) as client:
            streams = [asyncio.ensure_future(client.get("/")) for _ in range(10)]
            while len(old.asked) < 10:
                await asyncio.sleep(0.01)
            new = await StandIn(folder, "new", hello).begin()
            old.tell(ends_at=time.time() + 20.0)  # less than the gateway's lead
            while (await client.get("/-/gateway")).json()["jobs"].get("new", {}).get("state") != "serving":
                await asyncio.sleep(0.02)
            for _ in range(20):
                assert (await client.get("/")).text == "hello "
            assert len(old.asked) == 10
            goes_on.set()
            assert [answer.text for answer in await asyncio.gather(*streams)] == ["old end"] * 10
            await old.server.drain(5.0)
            registry.forget(folder, "old")
            assert (await client.post("/", content=b"x")).text == "hello x"
        await new.server.close()

    run(work())


def test_a_gateway_that_is_started_again_waits_for_the_job_that_was_submitted(folder: Path) -> None:
    """It neither submits another one, nor waits for one that has ended in the queue."""
    log = folder.parent / "submitted"
    submits = folder.parent / "submit"
    submits.write_text(f"#!/bin/sh\necho x >> {log}\necho job 17\n")
    submits.chmod(0o700)
    asked: list[str] = []

    def waits(ident: str) -> bool:
        asked.append(ident)
        return True

    async def work() -> None:
        own = {"next_command": str(submits), "next_lead_s": 10.0}
        async with gateway(folder, waits=waits, **own) as client:
            while (found := registry.submitted(folder)) is None:
                await asyncio.sleep(0.02)
            assert (found.ident, found.known) == ("17", []) and not asked
        async with gateway(folder, waits=waits, **own) as client:
            assert asked == ["17"] and (await client.get("/-/gateway")).json()["next_submitted"] == "17"
        assert log.read_text() == "x\n"
        async with gateway(folder, waits=lambda ident: False, **own):
            while log.read_text() != "x\nx\n":
                await asyncio.sleep(0.02)
            while registry.submitted(folder) is None:
                await asyncio.sleep(0.02)
        (folder / registry.NEXT).write_text("what is this")
        assert registry.submitted(folder) is None
        registry.note_submitted(folder, None)
        assert not (folder / registry.NEXT).exists()

    run(work())


def test_a_request_waits_for_the_next_job_but_not_for_ever(folder: Path) -> None:
    async def work() -> None:
        async with gateway(folder, wait_s=20.0) as client:
            assert (await client.get("/-/healthz")).status_code == 503
            waiting = asyncio.ensure_future(client.post("/", content=b"x"))
            await asyncio.sleep(0.05)
            job = await StandIn(folder, "a", hello).begin()
            assert (await waiting).text == "hello x"
            await job.server.close()
            registry.forget(folder, "a")
        async with gateway(folder, wait_s=0.1) as client:
            answer = await client.get("/")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")

    run(work())


def test_a_client_that_leaves_is_gone_for_the_door_too(folder: Path) -> None:
    gone = asyncio.Event()

    async def endless(exchange: Exchange) -> None:
        exchange.open(200, TEXT)
        try:
            while True:
                await exchange.write(b"more")
                await asyncio.sleep(0.005)
        finally:
            gone.set()

    async def work() -> None:
        job = await StandIn(folder, "a", endless).begin()
        async with gateway(folder) as client:
            async with client.stream("GET", "/") as answer:
                async for _ in answer.aiter_bytes():
                    break
            await gone.wait()
        await job.server.close()

    run(work())


def test_a_websocket_goes_through(folder: Path) -> None:
    pytest.importorskip("wsproto", reason="needs pip install 'hpc[serve]'")
    from wsproto import ConnectionType, WSConnection
    from wsproto.events import AcceptConnection, CloseConnection, Request, TextMessage

    async def work() -> None:
        job = await StandIn(folder, "a", hello).begin()
        async with gateway(folder):
            reader, writer = await asyncio.open_unix_connection(str(folder / SOCKET))
            wire = WSConnection(ConnectionType.CLIENT)
            writer.write(wire.send(Request(host="localhost", target="/ws")))
            got: list[Any] = []
            while not any(isinstance(one, CloseConnection) for one in got):
                wire.receive_data(await reader.read(65536))
                for event in wire.events():
                    got.append(event)
                    if isinstance(event, AcceptConnection):
                        writer.write(wire.send(TextMessage("hello")))
                    elif isinstance(event, TextMessage):
                        writer.write(wire.send(CloseConnection(1000)))
            assert [one.data for one in got if isinstance(one, TextMessage)] == ["HELLO"]
            writer.close()
        await job.server.close()

    run(work())


def test_a_gateway_has_one_process_and_a_port_has_keys(folder: Path) -> None:
    async def work() -> None:
        async with gateway(folder):
            assert socket.gethostname().partition(".")[0] in SOCKET
            assert (folder / SOCKET).stat().st_mode & 0o777 == 0o600
            with pytest.raises(GatewayError, match="runs already"):
                await Gateway(GatewayOptions(registry=str(folder))).start()
        with pytest.raises(GatewayError, match="--api-keys-file"):
            Gateway(GatewayOptions(registry=str(folder), http=HTTPOptions(port=0)))

    run(work())


def test_a_port_wants_a_key_and_a_job_is_shown_its_own(folder: Path) -> None:
    keys = folder / "keys"
    keys.write_text("0123456789abcdef0123\n")
    keys.chmod(0o600)

    async def work() -> None:
        job = StandIn(folder, "a", hello, keys_file=str(keys))
        await job.begin()
        port = await job.server.listen_tcp("127.0.0.1", 0)
        job.tell(doors=[f"http://127.0.0.1:{port}"])
        made = Gateway(
            GatewayOptions(registry=str(folder), http=HTTPOptions(host="127.0.0.1", port=0, api_keys_file=str(keys)))
        )
        await made.start()
        async with httpx.AsyncClient(base_url=made.doors[1], timeout=30) as client:
            assert (await client.get("/")).status_code == 401
            answer = await client.get("/", headers={"authorization": "Bearer 0123456789abcdef0123"})
            assert answer.text == "hello " and job.seen[-1][b"x-api-key"] == b"0123456789abcdef0123"
        await made.stop()
        await job.server.close()

    run(work())


def test_a_file_that_others_may_have_written_is_no_job(folder: Path) -> None:
    registry.tell(folder, JobRow("a", "h", at=time.time()))
    assert [row.name for row in registry.told(folder, time.time())] == ["a"]
    assert (folder / "a.job").stat().st_mode & 0o777 == 0o600
    (folder / "a.job").chmod(0o622)
    (folder / "b.job").write_text("{")
    registry.tell(folder, JobRow("old", "h", at=time.time() - 3600))
    assert registry.told(folder, time.time()) == [] and not (folder / "old.job").exists()
    folder.chmod(0o755)
    with pytest.raises(registry.RegistryError, match="chmod 700"):
        registry.registry_folder(str(folder))


def test_a_teller_whose_process_was_replaced_tells_by_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "EVERY_S", 0.01)

    async def row(self: telling.Teller) -> JobRow:
        return JobRow("job", "host", at=time.time())

    monkeypatch.setattr(telling.Teller, "_row", row)

    async def tells() -> None:
        teller = telling.Teller(str(folder), "job", [])  # nobody says begin to the second one
        for _ in range(500):
            await asyncio.sleep(0.01)
            if registry.told(folder, time.time()):
                break
        assert [one.name for one in registry.told(folder, time.time())] == ["job"]
        await teller.forget()
        assert not registry.told(folder, time.time())

    run(tells())


def test_what_keeps_a_gateway_from_beginning_is_said(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(CliError, match="chmod 700"):
        command.run(["serve", "gateway", str(tmp_path / "open")])
    keys = tmp_path / "keys"
    keys.write_text("x" * 32)
    keys.chmod(0o644)
    with pytest.raises(CliError, match="chmod 600"):
        command.run(["serve", "gateway", str(tmp_path / "own"), "--port=0", f"--api-keys-file={keys}"])


def test_a_connection_to_a_machine_that_is_off_breaks() -> None:
    async def work() -> None:
        server = Server(lambda exchange: asyncio.sleep(0))
        port = await server.listen_tcp("127.0.0.1", 0)
        link = await Pool(f"http://127.0.0.1:{port}").take()
        sock = link.writer.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        kept = [sock.getsockopt(socket.IPPROTO_TCP, one) for one in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL)]
        assert kept[0] + 2 * kept[1] == DEAD_S
        link.close()
        await server.close()

    run(work())


def test_a_service_is_told_that_a_websocket_came_by_tls() -> None:
    sent: list[Any] = []

    async def send_head(method: str, target: bytes, headers: Any) -> None:
        sent.extend(headers)
        raise Broken("that is enough")

    head = read_head(b"GET /ws HTTP/1.1\r\nhost: x\r\nx-forwarded-proto: http\r\n\r\n")
    for scheme in ("wss", "ws"):
        sock: Any = SimpleNamespace(head=head, client=None, scheme=scheme)
        link: Any = SimpleNamespace(send_head=send_head)
        with pytest.raises(Broken):
            run(tunnel(sock, link, b""))
    assert [value for name, value in sent if name == b"x-forwarded-proto"] == [b"https", b"http"]

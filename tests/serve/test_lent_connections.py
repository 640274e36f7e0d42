"""Connections that replicas serve themselves: what goes back to the proxy, and that nothing is lost when they end."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import ctypes
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hpc
from hpc import serve
from runtime.running import one_node

pytest.importorskip("hpc.serve.http.websocket", reason="needs pip install 'hpc[serve]'")

from deploying import kill, until
from doors import addresses
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

HUGE = 40_000_000


@serve.deployment(max_ongoing_requests=4, graceful_shutdown_wait_loop_s=0.1)
class Work:
    def __init__(self, version: str = "1") -> None:
        self.version = version
        self.began = self.cancelled = 0
        self.left: contextvars.ContextVar[str] = contextvars.ContextVar("left", default="")

    async def __call__(self, request: Request) -> Any:
        path = request.url.path
        if path == "/pid":
            return os.getpid()
        if path == "/wait":
            self.began += 1
            try:
                await asyncio.sleep(float(request.query_params["s"]))
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            return os.getpid()
        if path == "/counts":
            return [self.began, self.cancelled]
        if path == "/left":
            found = self.left.get()
            self.left.set("something")
            async with asyncio.timeout(5) if hasattr(asyncio, "timeout") else contextlib.nullcontext():
                await asyncio.sleep(0)
            return found
        if path == "/stream":
            return StreamingResponse(self.numbers(int(request.query_params["n"])), media_type="text/plain")
        if path == "/busy":
            time.sleep(0.02)
        if path == "/held":  # as a call of C does that holds the lock of the interpreter
            ctypes.PyDLL(None).sleep(6)
        if path == "/large":
            return b"a" * 3_000_000
        if path == "/huge":  # more than a kernel takes of it
            return b"a" * HUGE
        if path == "/task":
            here = hpc.get_runtime_context()
            names = [here.get_task_name(), here.get_task_function_name()]
            assert here.task_id.hex() == here.get_task_id() and here.get()["task_id"] == here.task_id
            return [*names, here.get_task_id(), here.is_canceled(), len(here.get_traceparent())]
        if path == "/error":
            raise ValueError("secret")
        if path == "/none":
            return Response(status_code=204)
        if path == "/cookie":
            return PlainTextResponse("c", headers={"set-cookie": "a=b", "connection": "close"})
        return {"v": self.version, "size": len(await request.body()), "id": request.headers["x-request-id"]}

    async def numbers(self, count: int) -> Any:
        for number in range(count):
            yield f"{number}\n"
            await asyncio.sleep(0.01)


class Client:
    """A connection that is kept."""

    def __init__(self, address: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX if address.startswith("/") else socket.AF_INET)
        self.sock.settimeout(30)
        host, _, port = address.rpartition("//")[2].rpartition(":")
        self.sock.connect(address if address.startswith("/") else (host, int(port)))
        self.file = self.sock.makefile("rb")

    def send(self, path: str, method: str = "GET", body: bytes = b"", headers: str = "") -> None:
        length = f"content-length: {len(body)}\r\n" if body else ""
        self.sock.sendall(f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n{headers}{length}\r\n".encode() + body)

    def answer(self, method: str = "GET") -> tuple[int, bytes]:
        status = int(self.file.readline().split()[1])
        fields = {}
        while (line := self.file.readline().strip()) != b"":
            name, _, value = line.partition(b": ")
            fields[name] = value
        if method == "HEAD" or status == 204:
            return status, b""
        if b"content-length" in fields:
            return status, self.file.read(int(fields[b"content-length"]))
        found = b""
        while size := int(self.file.readline(), 16):
            found += self.file.read(size)
            self.file.readline()
        self.file.readline()
        return status, found

    def ask(self, path: str, method: str = "GET", body: bytes = b"", headers: str = "") -> tuple[int, bytes]:
        self.send(path, method, body, headers)
        return self.answer(method)

    def pid(self) -> int:
        return int(self.ask("/pid")[1])

    def is_lent(self, pid: int) -> bool:
        """Whether the process has this connection open, too."""
        local, port = self.sock.getsockname()[1], self.sock.getpeername()[1]
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        ours = {f"socket:[{row[9]}]" for row in rows if int(row[1][-4:], 16) == port and int(row[2][-4:], 16) == local}
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(entry.path) in ours:
                    return True
        return False

    def lent(self) -> int:
        """Ask until the replica has the connection; its process."""

        def found() -> int:
            pid = self.pid()
            return pid if self.is_lent(pid) else 0

        return int(until(found, "a loan"))

    def close(self) -> None:
        self.file.close()
        self.sock.close()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with one_node(num_cpus=4):
        serve.start(http_options={"host": "127.0.0.1", "port": 0})
        serve.run(Work.bind())
        yield addresses()[1]
        serve.shutdown()


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    found = Client(address)
    yield found
    found.close()


def test_a_kept_connection_is_served_by_the_replica(client: Client) -> None:
    assert len(client.ask("/large")[1]) == 3_000_000  # by the proxy, which has it of the store
    pid = client.lent()
    assert len(client.ask("/large")[1]) == 3_000_000
    assert client.ask("/x")[1].startswith(b'{"v":"1","size":0,"id":"')
    assert client.ask("/x", headers="x-request-id: mine\r\n") == (200, b'{"v":"1","size":0,"id":"mine"}')
    assert b'"size":3000' in client.ask("/x", "POST", b"a" * 3000)[1]
    assert client.ask("/x", "HEAD") == (200, b"") and client.ask("/none")[0] == 204
    assert client.ask("/error") == (500, b"Internal Server Error")
    assert client.ask("/stream?n=20")[1].split() == [b"%d" % number for number in range(20)]
    for _ in range(500):  # the slot is cleared now and then
        found = client.ask("/x", "POST", b"b" * 100, headers="x-request-id: i\r\n")
        assert found == (200, b'{"v":"1","size":100,"id":"i"}')
    assert client.is_lent(pid)
    # What one request leaves in its context is not the next one's; and it may wait, with a time limit.
    assert [client.ask("/left")[1] for _ in range(3)] == [b"", b"", b""]
    # One byte at a time.
    for byte in b"GET /x HTTP/1.1\r\nhost: localhost\r\nx-request-id: i\r\n\r\n":
        client.sock.sendall(bytes([byte]))
    assert client.answer() == (200, b'{"v":"1","size":0,"id":"i"}')
    assert client.is_lent(pid)
    client.send("/cookie")
    assert client.file.read().endswith(b"\r\n\r\nc")  # and then it is closed


def test_a_request_knows_its_task_on_a_lent_connection_too(client: Client, address: str) -> None:
    before = json.loads(Client(address).ask("/task")[1])
    pid = client.lent()
    found = [json.loads(client.ask("/task")[1]) for _ in range(2)]
    assert client.is_lent(pid)
    assert all(one[:2] == before[:2] and one[3:] == before[3:] for one in found), (before, found)
    assert len({before[2], found[0][2], found[1][2]}) == 3, "each request has an id of its own"


def test_what_is_not_plain_goes_back(address: str) -> None:
    asked = {
        "a large body": lambda one: one.ask("/x", "POST", b"a" * 100_000)[1].startswith(b'{"v":"1","size":100000'),
        "the proxy's own": lambda one: one.ask("/-/healthz") == (200, b"success"),
        "a time limit": lambda one: one.ask("/wait?s=20", headers="x-request-timeout-seconds: 0.2\r\n")[0] == 408,
        "another name": lambda one: one.ask("/x", headers="host: evil.example\r\n")[0] == 400,
        "no request": lambda one: one.ask("/x", headers="a b\r\n")[0] == 400,
        "two lengths": lambda one: one.ask("/x", "POST", b"abc", headers="content-length: 4\r\n")[0] == 400,
        "a session": lambda one: one.ask("/x", headers="x-session-id: 1\r\n")[0] == 200,
    }
    for what, is_so in asked.items():
        one = Client(address)
        pid = one.lent()
        assert is_so(one), what
        until(lambda: not one.is_lent(pid), what)  # noqa: B023
        one.close()
    # What is sent ahead is answered in order.
    one = Client(address)
    one.lent()
    for number in range(20):
        one.send("/x", headers=f"x-request-id: {number}\r\n")
    assert [one.answer()[1].rpartition(b'"id":')[2] for _ in range(20)] == [b'"%d"}' % number for number in range(20)]
    # One that is sent while another one runs is the next one; where there are two, they are the proxy's.
    for count in (1, 2):
        one.lent()
        one.send("/wait?s=0.2")
        time.sleep(0.1)
        for number in range(count):
            one.send("/x", headers=f"x-request-id: {number}\r\n")
        assert one.answer()[0] == 200
        assert [one.answer()[1][-4:] for _ in range(count)] == [b'"%d"}' % number for number in range(count)]
    one.close()


def test_a_full_replica_gives_back_and_the_queue_is_in_order(address: str) -> None:
    clients = [Client(address) for _ in range(12)]
    for one in clients:
        one.lent()
    began = time.monotonic()
    for one in clients:
        one.send("/wait?s=0.2")
    assert {one.answer()[0] for one in clients} == {200}
    assert time.monotonic() - began >= 0.6  # four at a time
    for one in clients:
        one.close()


def test_a_client_that_goes_cancels_its_request(address: str) -> None:
    other, one = Client(address), Client(address)
    other.lent()
    one.lent()
    before = other.ask("/counts")[1]
    one.send("/wait?s=60")
    until(lambda: other.ask("/counts")[1] != before)
    one.close()
    until(lambda: other.ask("/counts")[1].split(b",")[1] != before.split(b",")[1], "the cancel")
    other.close()


@pytest.mark.parametrize("door", ["tcp", "unix"])
def test_a_replica_that_is_killed_loses_nothing_that_may_run_twice(address: str, door: str) -> None:
    clients = [Client(address) for _ in range(3)]
    resting, getting, posting = clients
    if door == "unix":  # of these nobody tells how much was sent
        clients[0] = resting = Client(addresses()[0])
        assert [resting.pid() for _ in range(3)]
    pid = getting.lent()
    assert posting.lent() == pid
    before = int(resting.ask("/counts")[1][1:].split(b",")[0])
    getting.send("/wait?s=1")
    posting.send("/wait?s=1", "POST", b"x")
    until(lambda: resting.ask("/counts")[1].startswith(b"[%d," % (before + 2)))
    time.sleep(0.1)  # on a socket nobody tells whether an answer was sent when its replica ended just then
    kill(pid)
    assert posting.answer()[0] == 500
    status, answer = getting.answer()
    assert status == 200 and int(answer) != pid
    assert resting.pid() == int(answer)
    assert resting.ask("/x")[0] == 200
    for one in clients:
        one.close()


def test_an_answer_that_is_being_read_is_whole_or_seen_not_to_be(address: str) -> None:
    """It lies in the replica, which ends meanwhile: first as a new version comes, then by a kill."""
    one = Client(address)
    pid = one.lent()
    one.send("/huge")
    assert one.file.peek(1)
    targets = [serve.RunTarget(Work.options(num_replicas=1).bind("2"))]
    serve.run_many(targets, wait_for_applications_running=False)
    time.sleep(1.0)
    status, body = one.answer()
    assert status == 200 and len(body) == HUGE
    until(lambda: one.pid() != pid)
    pid = one.lent()
    one.send("/huge")
    one.send("/x")  # its answer is no part of that one
    assert one.file.peek(1)
    time.sleep(0.2)
    kill(pid)
    found = b""
    with contextlib.suppress(ConnectionError):
        while data := one.file.read1():
            found += data
    assert found.startswith(b"HTTP/1.1 200") and len(found) < HUGE and b"HTTP" not in found[10:]
    one.close()
    serve.run(Work.bind())


def test_kills_under_load_lose_nothing(address: str) -> None:
    clients = [Client(address) for _ in range(4)]
    for _ in range(3):
        pids = [one.lent() for one in clients]
        for number in range(400):
            if number == 200:
                kill(pids[0])
            for one in clients:
                one.send("/pid")
            answers = [one.answer() for one in clients]
            assert {status for status, _ in answers} == {200}, (number, answers)
    for one in clients:
        one.close()


def test_a_silent_replica_loses_nothing_that_may_run_twice(address: str) -> None:
    clients = [Client(address) for _ in range(3)]
    pid = clients[0].lent()
    serve.run(Work.options(num_replicas=2).bind())
    until(lambda: not clients[0].is_lent(pid), "the recall")  # there are other terms with two replicas

    def stopped() -> Any:
        """One replica, with two connections that it has just then."""
        pids = [one.lent() for one in clients]
        pid = next(pid for pid in pids if pids.count(pid) > 1)
        found = [one for one, its in zip(clients, pids, strict=True) if its == pid][:2]
        os.kill(pid, signal.SIGSTOP)
        if all(one.is_lent(pid) for one in found):
            return pid, found
        os.kill(pid, signal.SIGCONT)  # a slow answer has sent one back
        return None

    pid, (one, other) = until(stopped)
    try:
        assert one.ask("/x")[0] == 200
        assert not one.sock.recv(1)  # it is closed: nothing of the other one can follow
        assert other.ask("/x")[0] == 200
    finally:
        os.kill(pid, signal.SIGCONT)
    for one in clients:
        one.close()
    serve.run(Work.options(num_replicas=1).bind())


def test_a_request_that_holds_the_interpreter_is_waited_for(address: str) -> None:
    one, other = Client(address), Client(address)
    pid = one.lent()
    assert other.lent() == pid
    one.send("/held", "POST", b"x")
    time.sleep(0.2)
    assert other.ask("/x")[0] == 200
    assert one.answer()[0] == 200
    for each in (one, other):
        each.close()
    one = Client(address)
    assert one.lent() == pid
    one.close()


def test_of_several_replicas_the_proxy_chooses_where_requests_are_slow(address: str) -> None:
    serve.run(Work.options(num_replicas=2).bind())
    one = Client(address)
    pid = one.lent()
    assert one.ask("/busy")[0] == 200
    until(lambda: not one.is_lent(pid), "the way back")
    one.close()
    serve.run(Work.options(num_replicas=1).bind())


def test_changes_disturb_no_request(address: str) -> None:
    one = Client(address)
    pid = one.lent()
    serve.run(Work.options(num_replicas=1).bind("2"))
    assert one.ask("/x", headers="x-request-id: i\r\n") == (200, b'{"v":"2","size":0,"id":"i"}')
    assert one.lent() != pid
    # A split: the proxy has all of them again.
    serve.run(Work.bind("3"), name="next", route_prefix=None)
    serve.split("default", {"default": 0.0, "next": 1.0})
    until(lambda: one.ask("/x")[1].startswith(b'{"v":"3"'))
    assert not one.is_lent(one.pid())
    serve.delete("next")
    serve.delete("default")
    assert until(lambda: one.ask("/x")[0] == 404)
    one.close()
    serve.run(Work.bind())

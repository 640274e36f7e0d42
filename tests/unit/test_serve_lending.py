"""Loans of connections: memory that both sides share, lanes, heads that are plain, coroutines that begin at once."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import socket
import time
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("httptools", reason="needs pip install 'hpc[serve]'")

from hpc.serve.http import lending
from hpc.serve.http.eager import Beginner
from hpc.serve.http.gate import Gate, Names
from hpc.serve.http.lane import Lane, Terms, packed_terms, terms_of
from hpc.serve.http.lent import Asked, known
from hpc.serve.http.routes import Routes
from hpc.serve.http.server import Limits
from hpc.serve.http.slots import OPEN_ENDED, REQUEST_BYTES, Slot, Slots, State, new_memory
from hpc.serve.messages import DeploymentID, DeploymentTable, RouteRow, RouteTable

# ---------------------------------------------------------------- slots


def pair(number: int = 3) -> tuple[Slots, Slot]:
    """The proxy's side, and a slot of the replica's."""
    fd = new_memory()
    try:
        return Slots(fd), Slot(Slots(fd), number)
    finally:
        os.close(fd)


def write(slot: Slot, data: bytes) -> None:
    slot.room()[: len(data)] = data


def test_what_is_left_of_a_request_at_each_step() -> None:
    slots, slot = pair()
    assert slots.left(3).unread == b"" and slots.left(3).state is State.READING
    write(slot, b"abc")  # and the replica ends before it has said so
    assert slots.left(3).unread == b"abc"
    assert slot.received(3) == b"abc"
    write(slot, b"defg")
    assert slots.left(3).unread == b"abcdefg"
    assert slot.received(4) == b"abcdefg"
    slot.began(5)
    left = slots.left(3)
    assert (left.state, left.unread, left.rest, left.sent, left.served) == (State.BEGUN, b"abcdefg", b"fg", 0, 0)
    slot.answering(OPEN_ENDED)
    assert (slots.left(3).state, slots.left(3).answer) == (State.ANSWERING, OPEN_ENDED)
    slot.answered(5, 100)
    left = slots.left(3)
    assert (left.state, left.unread, left.sent, left.served) == (State.READING, b"fg", 100, 1)
    assert slot.unread() == b"fg"
    slots.revoke(3)
    assert slot.is_revoked
    slots.clear(3)
    assert not slot.is_revoked and slots.left(3).unread == b""


@given(st.lists(st.binary(min_size=1, max_size=REQUEST_BYTES), min_size=1, max_size=12))
def test_each_request_has_its_room(requests: list[bytes]) -> None:
    slots, slot = pair()
    for data in requests:
        assert len(slot.room()) >= REQUEST_BYTES
        write(slot, data)
        assert slots.left(3).unread == data.rstrip(b"\0")
        assert slot.received(len(data)) == data and slots.left(3).unread == data
        slot.began(len(data))
        slot.answering(1)
        slot.answered(len(data), 1)
        assert slots.left(3).unread == b""
    assert slots.left(3).served == slots.left(3).sent == len(requests)
    assert slots.left(2).served == slots.left(4).served == 0


# ---------------------------------------------------------------- lanes


def test_messages_and_descriptors_arrive_in_order_and_an_end_is_told() -> None:
    async def work() -> None:
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        heard: list[Any] = []
        ended, told = asyncio.Event(), asyncio.Event()

        def hear(message: list[Any], fds: list[int]) -> None:
            heard.append((message, [os.pread(fd, 9, 0) for fd in fds]))
            for fd in fds:
                assert not os.get_inheritable(fd), "programs that the process starts would keep it open"
                os.close(fd)
            if message[0] == "last":
                told.set()

        sender, receiver = Lane(one, hear, ended.set), Lane(other, hear, ended.set)
        with open(__file__, "rb") as file:
            for number in range(2000):  # more than the kernel takes at once
                sender.say("some", number, b"x" * 100, fd=file.fileno() if number % 100 == 0 else -1)
        sender.say("last")
        await asyncio.wait_for(told.wait(), 30)
        assert [message[1] for message, _ in heard[:-1]] == list(range(2000))
        assert [bool(fds) for _, fds in heard] == [number % 100 == 0 for number in range(2000)] + [False]
        assert heard[0][1] == [b'"""Loans ']
        sender.close()
        await asyncio.wait_for(ended.wait(), 30)
        assert not receiver.is_open

    asyncio.run(work())


# ---------------------------------------------------------------- heads

TABLE = RouteTable(1, [RouteRow("/", "a", "A"), RouteRow("/b", "b", "B")])
TERMS = Terms("/", "a", TABLE, ["localhost"], 1, "/root", body_bytes=1000)


def look(head: str, method: str = "GET", path: str = "/x", host: str = "localhost") -> Any:
    data = f"{method} {path} HTTP/1.1\r\nhost: {host}\r\n{head}\r\n".encode()
    return known(data, TERMS, Routes(TERMS.routes), Gate(Names(TERMS.names)))


def test_terms_travel() -> None:
    assert terms_of(packed_terms(TERMS)) == TERMS


def test_a_plain_head_is_served() -> None:
    found = look("content-length: 10\r\nx-request-id: i\r\ntraceparent: t\r\n", "POST", "/x%20?q=1")
    assert (found.length, found.path, found.request_id, found.trace) == (10, "/root/x%20", "i", "t")
    assert found.head.query == b"q=1"


@pytest.mark.parametrize(
    "asked",
    [
        {"path": "/b"},
        {"path": "/b/c"},
        {"path": "/%62"},
        {"path": "/-/healthz"},
        {"host": "evil.example"},
        {"head": "upgrade: websocket\r\nconnection: upgrade\r\n"},
        {"head": "connection: close\r\n"},
        {"head": "expect: 100-continue\r\ncontent-length: 1\r\n", "method": "POST"},
        {"head": "transfer-encoding: chunked\r\n", "method": "POST"},
        {"head": "content-length: 1001\r\n", "method": "POST"},
        {"head": "content-length: 1\r\ncontent-length: 1\r\n", "method": "POST"},
        {"head": "origin: http://evil.example\r\ncontent-length: 1\r\n", "method": "POST"},
        {"head": "x-request-timeout-seconds: 1\r\n"},
        {"head": "X-Session-Id: 1\r\n"},
        {"head": "serve_multiplexed_model_id: 1\r\n"},
        {"head": "bad header\r\n"},
        {"head": "a: b\nc: d\r\n"},
    ],
    ids=str,
)
def test_any_other_head_is_the_proxys(asked: dict[str, str]) -> None:
    assert look(**{"head": "", **asked}) is None


# ---------------------------------------------------------------- beginning at once

VALUE: contextvars.ContextVar[str] = contextvars.ContextVar("value", default="")


async def begun(beginner: Beginner, work: Any) -> Any:
    """What `begin` returns when the loop calls it."""
    found: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: found.set_result(beginner.begin(work)))
    return await found


def test_what_never_waits_has_ended_and_what_waits_is_a_task() -> None:
    async def work() -> None:
        beginner = Beginner(asyncio.get_running_loop(), contextvars.Context())
        seen: list[Any] = []

        async def note(waits: bool) -> None:
            before = asyncio.current_task()
            seen.append(VALUE.get())
            VALUE.set("left")
            if waits:
                await asyncio.sleep(0.001)
                seen.append(VALUE.get())
                try:
                    await asyncio.wait_for(asyncio.Event().wait(), 0.001)
                except asyncio.TimeoutError:
                    seen.append("late")
            seen.append(asyncio.current_task() is before is not None)

        tasks = [await begun(beginner, note(waits)) for waits in (False, False, True, True, False)]
        await asyncio.gather(*filter(None, tasks))
        assert seen.count("") == 5 and seen.count("left") == seen.count("late") == 2 and seen.count(True) == 5
        if hasattr(asyncio, "timeout"):  # 3.11
            assert [task is not None for task in tasks] == [False, False, True, True, False]

    asyncio.run(work())


def test_a_task_that_is_cancelled_ends_its_coroutine() -> None:
    async def work() -> None:
        beginner = Beginner(asyncio.get_running_loop(), contextvars.Context())
        ends: list[str] = []

        async def wait() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ends.append("cancelled")
                raise

        task = await begun(beginner, wait())
        assert task is not None
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert ends == ["cancelled"] and task.cancelled()

    asyncio.run(work())


def test_a_slot_is_right_at_each_moment_at_which_the_replica_may_end() -> None:
    """A process serves the same request again and again. It is stopped at many places: at none of them an earlier
    request counts as unread."""
    slots, slot = pair()
    data = b"x" * 100
    source = os.memfd_create("source")  # the kernel writes all of it or nothing, as it does what comes from a client
    os.write(source, data)
    child = os.fork()
    if not child:
        while True:
            os.preadv(source, [slot.room()[: len(data)]], 0)
            slot.received(len(data))
            slot.began(len(data))
            slot.answering(7)
            slot.answered(len(data), 7)
    seen = set()
    try:
        end = time.monotonic() + 1.0
        # On a busy machine it may be stopped for a second before it has run at all.
        while (now := time.monotonic()) < end or (len(seen) < 2 and now < end + 30.0):
            os.kill(child, signal.SIGSTOP)
            os.waitpid(child, os.WUNTRACED)
            left = slots.left(3)
            os.kill(child, signal.SIGCONT)
            assert left.unread in (b"", data) and left.rest in (b"", data), left
            assert left.state is not State.ANSWERING or left.answer == 7, left
            seen.add((left.state, bool(left.unread)))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(source)
    assert len(seen) >= 2


def test_a_client_that_goes_as_its_request_begins_cancels_it() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        beginner = Beginner(loop, contextvars.Context())
        ends: list[str] = []

        async def wait() -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.sleep(0)  # what ends a request may wait
                ends.append("cancelled")
                raise

        def begin() -> None:
            asked = Asked(None, None)  # type: ignore[arg-type]
            asked.task = beginner.begin(wait())
            asked.gone()

        for _ in range(2):
            loop.call_soon(begin)
            await asyncio.sleep(0.01)
        assert ends == ["cancelled"] * 2

    asyncio.run(work())


# ---------------------------------------------------------------- what a proxy lends


class Answering:
    """A socket whose client acknowledges 100 bytes of 150 between two questions."""

    family = socket.AF_INET

    def __init__(self) -> None:
        self.acked = 0

    def fileno(self) -> int:
        return -1

    def getsockopt(self, *_: int) -> bytes:
        found, self.acked = self.acked, 100
        return b"\0" * 120 + found.to_bytes(8, "little")


def test_what_was_sent_is_counted_though_the_client_answers_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    sock = Answering()
    monkeypatch.setattr(lending.fcntl, "ioctl", lambda *_: (150 - sock.acked).to_bytes(4, "little"))
    assert lending.sent_bytes(sock) == 150


def test_nothing_is_lent_where_the_routes_are_more_than_one_packet() -> None:
    row = RouteRow("/", "a", "A")
    router = SimpleNamespace(table=DeploymentTable(1, "a", "A"), machine=SimpleNamespace(queued=0))
    fixed = lending.Fixed([], "", Limits())

    def terms(routes: int) -> bytes | None:
        table = RouteTable(1, [row, *(RouteRow(f"/{n}", f"app-{n}", "A") for n in range(routes))])
        proxy: Any = SimpleNamespace(_proxy=SimpleNamespace(table=table), _fixed=fixed)
        return lending.Lending._terms(proxy, row, DeploymentID("A", "a"), router)

    assert terms(1000) is not None and terms(20_000) is None
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        one.setblocking(False)
        assert one.send(b"x" * lending.TERMS_BYTES) == lending.TERMS_BYTES

"""The HTTP server of services: answers, pipelines, limits, deadlines, back-pressure and the end, without a socket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("httptools", reason="needs pip install 'hpc[serve]'")

from http_wire import Transport, Wire, settle, statuses

from hpc.serve.http.exchange import ClientGone, Exchange, head_lines
from hpc.serve.http.head import Refused
from hpc.serve.http.server import UNREAD_BYTES, Connection, Limits

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 30))


def bodies(out: bytes) -> list[bytes]:
    return [part.partition(b"\r\n\r\n")[2] for part in out.split(b"HTTP/1.1 ")[1:]]


def test_a_request_is_answered_and_the_connection_stays() -> None:
    async def work() -> None:
        wire = Wire()
        out = await wire.send(GET)
        assert out.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 7\r\ndate: ")
        assert bodies(await wire.send(POST, CHUNKED)) == [b"GET /a ", b"POST /p hello", b"POST /c abcde"]
        assert not wire.transport.is_closed

    run(work())


@pytest.mark.parametrize("data", [GET, POST, CHUNKED, b"\r\n" + GET])
def test_one_byte_at_a_time_is_the_same(data: bytes) -> None:
    async def work() -> None:
        whole, slow = Wire(), Wire()
        expected = bodies(await whole.send(data))
        assert expected and bodies(await slow.send(*[data[i : i + 1] for i in range(len(data))])) == expected

    run(work())


@given(
    st.lists(st.sampled_from([GET, POST, CHUNKED]), min_size=1, max_size=6), st.lists(st.integers(1, 60), max_size=30)
)
@settings(max_examples=60, deadline=None)
def test_requests_that_are_sent_ahead_are_answered_in_order(requests: list[bytes], cuts: list[int]) -> None:
    async def work() -> None:
        data, parts, at = b"".join(requests), [], 0
        for cut in [*cuts, len(data)]:
            parts.append(data[at : at + cut])
            at += cut
        wire = Wire()
        out = await wire.send(*[part for part in parts if part])
        names = {GET: b"GET /a ", POST: b"POST /p hello", CHUNKED: b"POST /c abcde"}
        assert bodies(out) == [names[one] for one in requests]

    run(work())


@given(st.binary(max_size=120), st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_bytes_end_in_answers_and_never_in_an_error(noise: bytes, after: bool) -> None:
    async def work() -> None:
        wire = Wire()
        out = await wire.send(*([GET, noise] if after else [noise]), b"\r\n\r\n")
        assert all(status in (200, 400, 414, 417, 431, 501, 505) for status in statuses(out))

    run(work())


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: y\n", 400),
        (b"\x16\x03\x01\x02", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000, 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_is_answered_at_once_and_the_connection_ends(data: bytes, status: int) -> None:
    async def work() -> None:
        wire = Wire()
        out = await wire.send(data, GET)
        assert statuses(out) == [status] and b"connection: close" in out
        assert wire.transport.at_eof
        wire.tick(4)
        await settle()
        assert wire.transport.is_aborted

    run(work())


def test_a_smuggled_request_is_none() -> None:
    async def work() -> None:
        wire = Wire()
        inner = b"GET /inner HTTP/1.1\r\nHost: x\r\n\r\n"
        text = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n" % (
            5 + len(inner)
        )
        out = await wire.send(text + inner)
        assert statuses(out) == [400] and b"inner" not in out

    run(work())


def test_a_body_that_is_too_large_is_refused_by_its_length_and_by_its_bytes() -> None:
    async def work() -> None:
        wire = Wire(limits=Limits(body_bytes=4))
        assert statuses(await wire.send(POST)) == [413]
        wire = Wire(limits=Limits(body_bytes=4))
        assert statuses(await wire.send(CHUNKED)) == [413]
        assert statuses(await Wire(limits=Limits(body_bytes=5)).send(POST, CHUNKED)) == [200, 200]

    run(work())


def test_a_gate_refuses_by_the_head_alone() -> None:
    def admit(head: Any, connection: Any) -> None:
        if head.path != b"/a":
            raise Refused(401, "a key is needed")

    async def work() -> None:
        wire = Wire(admit=admit)
        out = await wire.send(GET, POST[:-5])
        assert statuses(out) == [200, 401] and b"www-authenticate: Bearer" in out

    run(work())


def test_one_connection_more_than_allowed_is_told() -> None:
    async def work() -> None:
        wire, second = Wire(limits=Limits(connections=1)), Transport()
        wire.connected(second)
        assert statuses(bytes(second.out)) == [503]

    run(work())


# ---------------------------------------------------------------- time


def test_slow_clients_are_ended() -> None:
    async def work() -> None:
        limits = Limits(head_s=5, body_s=5, idle_s=9)
        wire = Wire(limits=limits)
        for byte in GET[:8]:
            await wire.send(bytes([byte]))
            wire.tick(1)
        assert statuses(await wire.send()) == [408]  # whatever it sends meanwhile: the head has a time
        wire = Wire(limits=limits)
        await wire.send(POST[:-3])
        wire.tick(7)
        assert statuses(await wire.send()) == [408]
        wire = Wire(limits=limits)
        await wire.send(GET)
        wire.tick(11)
        assert wire.transport.is_closed

    run(work())


def test_a_body_that_stops_in_the_middle_is_forgotten_whole() -> None:
    told: list[Any] = []

    async def pull(exchange: Exchange) -> None:
        while (part := await exchange.receive()) is not None:
            pass
        told.append(part)

    async def work() -> None:
        async def reader(exchange: Exchange) -> None:
            pulls.append(asyncio.ensure_future(pull(exchange)))  # as a replica does, which this task does not end
            await asyncio.Event().wait()

        pulls: list[Any] = []
        wire = Wire(reader, Limits(body_s=5))
        await wire.send(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n", b"a" * 100_000)
        wire.tick(7)
        await settle()
        assert statuses(await wire.send()) == [408]
        assert told == [None] and wire.server.gathered == 0

    run(work())


def test_a_body_that_comes_slowly_but_comes_is_waited_for() -> None:
    async def work() -> None:
        wire = Wire(limits=Limits(body_s=3))
        await wire.send(POST[:-5])
        for byte in b"hell":
            wire.tick(2)
            await wire.send(bytes([byte]))
        assert statuses(await wire.send(b"o")) == [200]

    run(work())


def test_a_client_that_reads_nothing_is_ended_and_one_that_reads_slowly_is_not() -> None:
    async def forever(exchange: Exchange) -> None:
        exchange.open(200, [])
        wire.connection.pause_writing()
        while True:
            await exchange.write(b"x" * 1000)

    async def work() -> None:
        nonlocal wire
        for step, is_ended in ((0, True), (1, False)):
            wire = Wire(forever, Limits(write_s=5))
            wire.transport.unsent = 100_000
            await wire.send(GET)
            for _ in range(10):
                wire.transport.unsent -= step
                wire.tick(1)
            assert wire.transport.is_aborted == is_ended
            wire.transport.abort()
            await settle()

    wire: Wire
    run(work())


@pytest.mark.parametrize("request_", [GET, GET[:-2] + b"Connection: close\r\n\r\n"])
def test_a_client_that_leaves_the_end_of_an_answer_unread_is_ended(request_: bytes) -> None:
    async def work() -> None:
        wire = Wire(limits=Limits(idle_s=9, write_s=5))
        wire.transport.keeps = True  # less is unread than makes the transport say that it is full
        wire.transport.unsent = 100
        await wire.send(request_)
        wire.tick(9 if b"close" in request_ else 17)
        assert wire.transport.is_aborted

    run(work())


def test_an_answer_before_the_whole_request_is_read_to_its_end() -> None:
    async def early(exchange: Exchange) -> None:
        exchange.reply(200, [], b"x" * 1000)

    async def work() -> None:
        wire = Wire(early)
        wire.transport.unsent = 500
        await wire.send(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n")
        for _ in range(5):
            wire.transport.unsent -= 100
            wire.tick(1)
        assert not wire.transport.is_aborted
        wire.tick(3)
        assert wire.transport.is_aborted

    run(work())


def test_one_connection_does_not_end_the_deadlines_of_others() -> None:
    async def work() -> None:
        wire = Wire()
        bad = Transport()
        wire.connected(bad).sweep = lambda ticks, limits: 1 / 0  # type: ignore[method-assign]
        for _ in range(2):
            wire.server._sweep()
        assert bad.is_aborted and not wire.transport.is_closed and wire.server.ticks == 2
        assert wire.server._timer is not None and wire.server._timer.when() > wire.server.loop.time()
        await wire.server.close()

    run(work())


# ---------------------------------------------------------------- back-pressure


def test_a_writer_waits_while_the_client_does_not_read() -> None:
    written = []

    async def writer(exchange: Exchange) -> None:
        exchange.open(200, [])
        wire.connection.pause_writing()
        for number in range(3):
            await exchange.write(b"x")
            written.append(number)
        exchange.end()

    async def work() -> None:
        nonlocal wire
        wire = Wire(writer)
        await wire.send(GET)
        assert not written
        wire.connection.resume_writing()
        await settle()
        assert written == [0, 1, 2] and bytes(wire.transport.out).endswith(b"0\r\n\r\n")

    wire: Wire
    run(work())


def test_answers_that_a_client_does_not_read_are_not_added_to() -> None:
    async def big(exchange: Exchange) -> None:
        exchange.reply(200, [], b"x" * 1000)
        if len(wire.transport.out) > 3000:
            wire.connection.pause_writing()  # as asyncio does when much is unsent

    async def work() -> None:
        nonlocal wire
        wire = Wire(big)
        assert len(await wire.send(GET * 20, GET * 20)) < 6000
        await wire.send(*[b"a" * UNREAD_BYTES, b"b"])
        assert not wire.transport.is_reading
        wire.transport.out.clear()
        wire.connection.resume_writing()
        await settle()
        assert statuses(bytes(wire.transport.out)) == [200] * len(statuses(bytes(wire.transport.out)))
        assert wire.transport.out and wire.transport.is_reading

    wire: Wire
    run(work())


def test_an_upload_that_nobody_reads_stops_the_client() -> None:
    async def reader(exchange: Exchange) -> None:
        await go.wait()
        total = len(exchange.body)
        while exchange.more:
            part = await exchange.receive()
            assert part is not None
            total += len(part[0])
        exchange.reply(200, [], b"%d" % total)

    async def work() -> None:
        nonlocal go
        go = asyncio.Event()
        wire, size = Wire(reader), 3 * UNREAD_BYTES
        big = 8 << 20
        await wire.send(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % big, b"a" * size)
        assert not wire.transport.is_reading
        go.set()
        await settle()
        assert wire.transport.is_reading
        out = await wire.send(b"b" * (big - size))
        assert out.endswith(b"\r\n\r\n%d" % big)

    go: asyncio.Event
    run(work())


def test_requests_ahead_are_bounded() -> None:
    async def never(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    async def work() -> None:
        wire = Wire(never)
        await wire.send(GET, b"a" * UNREAD_BYTES, b"b")
        assert not wire.transport.is_reading

    run(work())


def test_a_client_that_waits_for_100_gets_it_when_the_body_is_read() -> None:
    expecting = b"PUT /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"

    async def refuse(exchange: Exchange) -> None:
        exchange.reply(404, [], b"")

    async def both(exchange: Exchange) -> None:
        exchange.open(200, [])
        await exchange.write(b"a")
        part = await exchange.receive()
        assert part is not None
        await exchange.write(part[0])
        exchange.end()

    async def work() -> None:
        wire = Wire()
        assert await wire.send(expecting) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert statuses(await wire.send(b"hello")) == [100, 200]
        wire = Wire(refuse)
        out = await wire.send(expecting)
        assert statuses(out) == [404] and b"connection: close" in out
        wire = Wire(both)
        out = await wire.send(expecting, b"hello")
        assert b"100 Continue" not in out and out.endswith(b"\r\n\r\n1\r\na\r\n5\r\nhello\r\n0\r\n\r\n")

    run(work())


# ---------------------------------------------------------------- answers


def handled(*steps: Any, request: bytes = GET) -> tuple[bytes, Wire]:
    """What a client gets of a handler that takes these steps on the exchange."""
    kept: list[Wire] = []

    async def handler(exchange: Exchange) -> None:
        for name, *args in steps:
            done = getattr(exchange, name)(*args)
            if done is not None:
                await done

    async def work() -> bytes:
        kept.append(Wire(handler))
        return await kept[0].send(request)

    return run(work()), kept[0]


def test_an_answer_in_parts_is_chunked_or_has_its_length() -> None:
    out, _ = handled(("open", 200, []), ("write", b"ab"), ("write", b""), ("write", b"c"), ("end",))
    assert b"transfer-encoding: chunked\r\n" in out and out.endswith(b"\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")
    out, wire = handled(("open", 200, [(b"Content-Length", b"3")]), ("write", b"abc"), ("end",))
    assert out.endswith(b"\r\n\r\nabc") and b"chunked" not in out and not wire.transport.is_closed
    out, wire = handled(("open", 200, []), ("write", b"abc"), ("end",), request=b"GET / HTTP/1.0\r\n\r\n")
    assert b"connection: close" in out and out.endswith(b"\r\n\r\nabc") and wire.transport.is_closed


def test_an_answer_that_is_not_as_long_as_it_said_breaks_the_connection() -> None:
    for body in (b"ab", b"abcd"):
        _, wire = handled(("open", 200, [(b"content-length", b"3")]), ("write", body), ("end",))
        assert wire.transport.is_aborted


def test_heads_of_answers_hold_no_second_line() -> None:
    twos = [(b"x", b"a\r\nb: c"), (b"x: y\r\nz", b"a"), (b"x\n", b"a"), (b"x", b"a\rb"), (b"x", b"a\0")]
    # Some clients take the first of these for the length of the answer.
    for header in [*twos, (b"content-length ", b"9"), (b"", b"a"), (b"x y", b"a"), (b"x:y z", b"a")]:
        for name, *rest in (("reply", b""), ("open",)):
            out, _ = handled((name, 200, [header], *rest))
            assert statuses(out) == [500]
    assert statuses(handled(("reply", 200, [(b"X-a", b"\xe9 \t,"), (b"y", b"")], b""))[0]) == [200]
    with pytest.raises(ValueError):
        head_lines(42, [], b"")


def test_answers_without_a_body_have_none() -> None:
    assert handled(("reply", 204, [], b"x"))[0].endswith(b"\r\n\r\n")
    assert b"content-length" not in handled(("reply", 304, [], b""))[0]
    out, _ = handled(("reply", 200, [], b"abc"), request=GET.replace(b"GET", b"HEAD"))
    assert b"content-length: 3" in out and out.endswith(b"\r\n\r\n")
    out, _ = handled(("open", 200, []), ("write", b"abc"), ("end",), request=GET.replace(b"GET", b"HEAD"))
    assert b"chunked" not in out and out.endswith(b"\r\n\r\n")


def test_framing_of_the_application_is_not_sent() -> None:
    out, wire = handled(("reply", 200, [(b"Transfer-Encoding", b"chunked"), (b"Connection", b"close")], b"abc"))
    assert b"chunked" not in out and b"content-length: 3\r\nconnection: close" in out and wire.transport.is_closed


def test_an_error_of_a_handler_is_500_or_breaks_what_was_begun() -> None:
    out, wire = handled(("missing",))
    assert statuses(out) == [500] and out.endswith(b"Internal Server Error") and not wire.transport.is_closed
    _, wire = handled(("open", 200, []), ("missing",))
    assert wire.transport.is_aborted


def test_an_answer_before_the_whole_request_ends_the_connection_gently() -> None:
    async def early(exchange: Exchange) -> None:
        exchange.reply(403, [], b"no")

    async def work() -> None:
        wire = Wire(early)
        big = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n"
        out = await wire.send(big, b"a" * 1000)
        assert statuses(out) == [403] and b"connection: close" in out
        assert wire.transport.at_eof and not wire.transport.is_closed
        assert await wire.send(b"b" * 1000) == out

    run(work())


# ---------------------------------------------------------------- the end


def test_a_client_that_goes_cancels_the_work_unless_it_said_otherwise() -> None:
    ends: list[str] = []

    async def work_on(exchange: Exchange) -> None:
        exchange.outlives_client = exchange.head.path == b"/stays"
        try:
            await go.wait()
            ends.append("done")
            exchange.open(200, [])
            await exchange.write(b"x")
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise
        except ClientGone:
            ends.append("gone")
            raise

    async def work() -> None:
        nonlocal go
        go = asyncio.Event()
        for path in (b"/a", b"/stays"):
            wire = Wire(work_on)
            await wire.send(GET.replace(b"/a", path))
            wire.transport.close()
            await settle()
        go.set()
        await settle()
        assert ends == ["cancelled", "done", "gone"]

    go: asyncio.Event
    run(work())


def test_draining_answers_what_runs_and_closes_what_is_idle() -> None:
    async def slow(exchange: Exchange) -> None:
        await go.wait()
        exchange.reply(200, [], b"late")

    async def work() -> None:
        nonlocal go
        go = asyncio.Event()
        wire, idle = Wire(slow), Transport()
        wire.connected(idle)
        await wire.send(GET)
        draining = asyncio.ensure_future(wire.server.drain(20))
        await settle()
        assert idle.is_closed and not wire.transport.is_closed
        go.set()
        assert await draining
        assert b"connection: close" in wire.transport.out and wire.transport.out.endswith(b"late")

    go: asyncio.Event
    run(work())


def test_draining_breaks_what_takes_too_long() -> None:
    async def never(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    async def work() -> None:
        wire = Wire(never)
        await wire.send(GET)
        assert not await wire.server.drain(0.01)
        await settle()
        assert wire.transport.is_aborted

    run(work())


def test_a_connection_that_comes_back_with_a_request_is_read_on() -> None:
    """Else nobody sees that its client has gone."""

    async def work() -> None:
        began, ended = asyncio.Event(), asyncio.Event()

        async def wait(exchange: Exchange) -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        wire = Wire(wait)
        wire.connection.lend()
        assert not wire.transport.is_reading
        wire.connection.take_back(GET)
        await began.wait()
        assert wire.transport.is_reading
        with socket.socket() as sock:
            wire.transport._extra["socket"] = sock
            wire.connection.connection_lost(None)
        await ended.wait()

    run(work())


def test_a_connection_that_was_lent_ends_though_a_fork_of_the_replica_has_it_open() -> None:
    async def work() -> None:
        wire = Wire()
        ours, its = socket.socketpair()
        ours.setblocking(False)
        accepted = Connection(wire.server, None, "unix")
        await wire.server.loop.connect_accepted_socket(lambda: accepted, its)
        kept = os.dup(accepted.lend().fileno())
        accepted.take_back(b"", is_idle=True)
        assert await wire.server.loop.sock_recv(ours, 1) == b""
        os.close(kept)
        ours.close()

    run(work())

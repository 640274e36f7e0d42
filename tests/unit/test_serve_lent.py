"""A connection that a replica has been lent: how it is given back, its deadlines, and what is known when it ends."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

pytest.importorskip("httptools", reason="needs pip install 'hpc[serve]'")

from hpc.serve.http.borrower import Borrower
from hpc.serve.http.lane import Lane, Terms, packed_terms
from hpc.serve.http.lending import Fixed, Lending
from hpc.serve.http.lent import Lent, ProxyLane
from hpc.serve.http.server import Limits
from hpc.serve.http.slots import REQUEST_BYTES, ROOM_BYTES, Slots, State, new_memory
from hpc.serve.messages import DeploymentID, DeploymentTable, HttpReply, HttpRequest, RouteRow, RouteTable

TABLE = RouteTable(1, [RouteRow("/", "a", "A")])
TERMS = Terms("/", "a", TABLE, ["localhost"], 1 << 30)
LARGE = b"a" * 8_000_000
HEAD = b"POST /x HTTP/1.1\r\nhost: localhost\r\nx-request-id: i\r\ncontent-length: %d\r\n\r\n"
GET = HEAD % 0


def request(size: int) -> bytes:
    """A request of so many bytes in all."""
    (body,) = [count for count in range(size - 60, size - 120, -1) if len(HEAD % count) + count == size]
    return HEAD % body + b"b" * body


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 30))


class Host:
    """A replica with room for all."""

    def __init__(self, answer: Callable[[HttpRequest], Awaitable[HttpReply]]) -> None:
        self._answer = answer
        self.ended: list[Any] = []

    def has_room(self, spare: int) -> bool:
        return True

    def enter(self, meta: Any) -> None:
        pass

    def left(self, **how: bool) -> None:
        self.ended.append(how)

    def http_app(self) -> Any:
        return self

    async def handle(self, request: HttpRequest, pull: Any) -> HttpReply:
        return await self._answer(request)


class Loan:
    """A replica's lane, a connection that is lent by it, and the client's end of that."""

    def __init__(self, answer: Any, has_memory: bool = True, **terms: Any) -> None:
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.heard: list[Any] = []
        self.proxy = Lane(mine, lambda message, _: self.heard.append(message), lambda: None)
        self.host = Host(answer)
        self.replica = ProxyLane(self.host, its, "r")
        memory = new_memory()
        self.slots = Slots(memory)
        self.proxy.say("memory", fd=memory if has_memory else -1)
        os.close(memory)
        self.proxy.say("terms", packed_terms(msgspec.structs.replace(TERMS, **terms)))
        self.client, self.kept = socket.socketpair()
        self.client.setblocking(False)
        self.got = bytearray()
        self.proxy.say("lend", 0, None, ["x", None], fd=self.kept.fileno())

    async def lent(self) -> Lent:
        """The connection, once it is read."""
        await until(lambda: any(one._is_open for one in self.replica._lent))
        return next(iter(self.replica._lent))

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.client, data)

    async def read(self, count: int) -> bytes:
        """Read so many bytes of answers, or all until the end."""
        while len(self.got) < count:
            data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.client, 1 << 20), 10)
            if not data:
                break
            self.got += data
        found = bytes(self.got[:count])
        del self.got[:count]
        return found

    async def answer(self) -> bytes:
        """One answer's body."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await self.read(1)
        (length,) = [line for line in head.split(b"\r\n") if line.startswith(b"content-length")]
        return await self.read(int(length.split()[1]))

    def said(self, kind: str) -> list[Any]:
        return [message for message in self.heard if message[0] == kind]

    def close(self) -> None:
        self.proxy.close()
        self.client.close()
        self.kept.close()


async def until(is_so: Callable[[], Any]) -> None:
    async def wait() -> None:
        while not is_so():
            await asyncio.sleep(0.001)

    await asyncio.wait_for(wait(), 10)


@contextmanager
def loan(answer: Any, **more: Any) -> Iterator[Loan]:
    found = Loan(answer, **more)
    try:
        yield found
    finally:
        found.close()


async def size_of(request: HttpRequest) -> HttpReply:
    return HttpReply(200, [], b"%d" % len(request.body))


async def large(_: HttpRequest) -> HttpReply:
    return HttpReply(200, [], LARGE)


# ---------------------------------------------------------------- before it is open


def test_a_recall_that_comes_right_behind_the_loan_is_heard() -> None:
    async def work() -> None:
        with loan(size_of) as one:
            one.proxy.say("recall")
            await until(lambda: one.said("back"))
            assert one.said("back") == [["back", 0, "recalled"]]

    run(work())


def test_a_proxy_that_ends_right_behind_the_loan_leaves_no_connection_open() -> None:
    async def work() -> None:
        with loan(size_of) as one:
            one.kept.close()
            one.proxy.close()
            assert await one.read(1) == b""

    run(work())


def test_a_proxy_that_ends_has_connections_closed_though_a_fork_has_them_open() -> None:
    async def work() -> None:
        with loan(size_of) as one:
            await one.send(GET)
            assert await one.answer() == b"0"
            one.proxy.close()  # ``kept`` is what a fork has
            assert await one.read(1) == b""

    run(work())


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_what_cannot_be_served_goes_back(kind: socket.SocketKind) -> None:
    """By a replica that had no room for the descriptor of the memory; one that is no stream is broken."""

    async def work() -> None:
        with loan(size_of, has_memory=kind is not socket.SOCK_STREAM) as one:
            other, its = socket.socketpair(type=kind)
            one.proxy.say("lend", 1, None, ["x", None], fd=its.fileno())
            its.close()
            await until(lambda: any(message[1] == 1 for message in one.heard))
            assert [message[0] for message in one.heard if message[1] == 1] == [
                "back" if kind is socket.SOCK_STREAM else "closed"
            ]
            other.close()

    run(work())


# ---------------------------------------------------------------- answers that the client has not read


def test_an_answer_is_known_as_unsent_until_the_client_has_read_it() -> None:
    async def work() -> None:
        with loan(large) as one:
            lent = await one.lent()
            await one.send(GET)
            await until(lambda: one.host.ended)
            left = one.slots.left(0)
            assert left.state is State.ANSWERING and len(LARGE) < left.answer < len(LARGE) + 1000
            assert left.served == 0 and one.replica.has_loans
            lent.recall()
            assert not one.said("back"), "its answer would be cut off"
            assert await one.answer() == LARGE
            await until(lambda: one.said("back"))
            left = one.slots.left(0)
            assert (left.state, left.unread, left.served) == (State.READING, b"", 1)
            await until(lambda: not one.replica.has_loans)

    run(work())


def test_what_is_sent_ahead_of_an_unread_answer_breaks_nothing() -> None:
    async def work() -> None:
        with loan(large) as one:
            await one.send(GET)
            await until(lambda: one.host.ended)
            ahead = request(7000) * 3
            await one.send(ahead)
            await asyncio.sleep(0.05)
            assert await one.answer() == LARGE
            await until(lambda: one.said("back"))
            left = one.slots.left(0)
            one.kept.setblocking(False)
            assert left.unread + one.kept.recv(1 << 16) == ahead

    run(work())


# ---------------------------------------------------------------- requests that are sent ahead, in part


class Gates:
    """Requests that wait until each is let go."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[None]] = []

    async def __call__(self, request: HttpRequest) -> HttpReply:
        self.waiting.append(asyncio.get_running_loop().create_future())
        await self.waiting[-1]
        return await size_of(request)

    async def begun(self, count: int) -> asyncio.Future[None]:
        await until(lambda: len(self.waiting) == count)
        return self.waiting[-1]


def test_two_requests_that_fill_the_slot_are_followed_by_others() -> None:
    async def work() -> None:
        gates = Gates()
        with loan(gates) as one:
            assert 2 * REQUEST_BYTES == ROOM_BYTES
            await one.send(request(REQUEST_BYTES))
            first = await gates.begun(1)
            await one.send(request(REQUEST_BYTES))
            await asyncio.sleep(0.01)
            first.set_result(None)
            (await gates.begun(2)).set_result(None)
            await one.send(GET)
            (await gates.begun(3)).set_result(None)
            assert [len(await one.answer()) for _ in range(3)] == [4, 4, 1]
            assert not one.heard[1:]

    run(work())


@pytest.mark.parametrize("before", [100, REQUEST_BYTES])
def test_a_request_for_which_the_slot_has_no_room_goes_back(before: int) -> None:
    """Two others are before it. ``before``: so much of it comes while the second one runs."""

    async def work() -> None:
        gates = Gates()
        with loan(gates) as one:
            await one.send(request(REQUEST_BYTES - 100))
            first = await gates.begun(1)
            await one.send(request(120))
            await asyncio.sleep(0.01)
            first.set_result(None)
            second = await gates.begun(2)
            third = request(REQUEST_BYTES)
            await one.send(third[:before])
            await asyncio.sleep(0.01)
            second.set_result(None)
            assert [len(await one.answer()) for _ in range(2)] == [4, 2]
            await one.send(third[before:])
            await until(lambda: one.heard[1:])
            assert one.said("back") == [["back", 0, "other"]]
            left = one.slots.left(0)
            one.kept.setblocking(False)
            assert left.state is State.READING and third.startswith(left.unread)
            assert left.unread + one.kept.recv(1 << 16) == third

    run(work())


# ---------------------------------------------------------------- deadlines


def sweep(one: Loan, seconds: int) -> None:
    for _ in range(seconds):
        for lent in list(one.replica._lent):
            lent.sweep(one.replica.terms)


def test_a_connection_rests_from_its_last_answer_on() -> None:
    async def work() -> None:
        gates = Gates()
        with loan(gates, idle_s=5.0) as one:
            await one.send(GET)
            gate = await gates.begun(1)
            sweep(one, 60)
            gate.set_result(None)
            assert await one.answer() == b"0"
            sweep(one, 4)
            await asyncio.sleep(0.01)
            assert not one.said("back")
            sweep(one, 3)
            await until(lambda: one.said("back"))
            assert one.said("back") == [["back", 0, "idle"]]

    run(work())


def test_a_request_that_comes_byte_by_byte_is_the_proxys_soon() -> None:
    async def work() -> None:
        with loan(size_of) as one:
            await one.lent()
            for sent in range(10):
                await one.send(GET[sent : sent + 1])
                await until(lambda: one.slots.left(0).unread == GET[: sent + 1] or one.said("back"))  # noqa: B023
                sweep(one, 1)
                await asyncio.sleep(0.01)
                if one.said("back"):
                    break
            assert one.said("back") == [["back", 0, "other"]] and one.slots.left(0).unread == GET[:2]

    run(work())


def test_a_slow_client_has_time_while_it_reads() -> None:
    async def work() -> None:
        with loan(large, write_s=3.0) as one:
            await one.send(GET)
            await until(lambda: one.host.ended)
            lent = await one.lent()
            for _ in range(5):
                sweep(one, 2)
                before = lent._transport.get_write_buffer_size()
                while lent._transport.get_write_buffer_size() == before:
                    one.got += await asyncio.get_running_loop().sock_recv(one.client, 1 << 16)
            for _ in range(5):  # it says something, but reads nothing
                await one.send(b"G")
                await asyncio.sleep(0.01)
                sweep(one, 1)
            await until(lambda: one.said("closed"))

    run(work())


# ---------------------------------------------------------------- the lanes of a replica


def test_a_proxy_that_has_asked_twice_gets_its_connections_back(tmp_path: Path) -> None:
    async def work() -> None:
        path = str(tmp_path / "lanes")
        heard: list[Any] = []
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
            listening.bind(path)
            listening.listen(1)
            borrower = Borrower(Host(size_of), "r")
            borrower.join(path)
            borrower.join(path)
            first, second = (listening.accept()[0] for _ in range(2))
            proxy = Lane(first, lambda message, _: heard.append(message), lambda: None)
            second.close()
            memory = new_memory()
            proxy.say("memory", fd=memory)
            os.close(memory)
            proxy.say("terms", packed_terms(TERMS))
            client, kept = socket.socketpair()
            proxy.say("lend", 0, None, ["x", None], fd=kept.fileno())
            await until(lambda: borrower._lanes[0].has_loans)
            borrower.leave()
            await borrower.returned()
            await until(lambda: heard[1:])
            assert heard[1:] == [["back", 0, "recalled"]]
            borrower.join(path)
            third = listening.accept()[0]
            assert borrower._lanes[-1].is_leaving
            borrower.join(path)
            borrower.join(path)
            with pytest.raises(BlockingIOError):  # nobody accepts, and the replica does not wait for that
                borrower.join(path)
            for one in (client, kept, third):
                one.close()
            proxy.close()

    run(work())


# ---------------------------------------------------------------- what the proxy does


class Kept:
    """A connection of the proxy's server."""

    def __init__(self, row: RouteRow) -> None:
        self.ours, self._its = socket.socketpair()
        self.ours.setblocking(False)
        self.client, self.server_address = None, ("x", None)
        self.served = row
        self.lend_after = self.lend_pause_s = 0.0
        self.said: list[str] = []

    def lend(self) -> socket.socket:
        return self._its

    def take_back(self, data: bytes, **how: Any) -> None:
        self.said.append("back")

    def share(self) -> None:
        self.said.append("shared")

    def abort(self) -> None:
        self.said.append("abort")

    def close(self) -> None:
        self.ours.close()
        self._its.close()


class Lender:
    """A proxy with one replica, which runs on the same loop."""

    def __init__(self, directory: Path, answer: Any) -> None:
        borrower = Borrower(Host(answer), "r")
        seat = SimpleNamespace(id="r", row=SimpleNamespace(node="n"), is_silent=False, is_gone=False)
        self.table = TABLE
        join = SimpleNamespace(remote=borrower.join)
        self._router = SimpleNamespace(
            table=DeploymentTable(1, "a", "A"),
            machine=SimpleNamespace(queued=0, seats={"r": seat}, home=SimpleNamespace(node="n")),
            replicas={"r": SimpleNamespace(actor=SimpleNamespace(join=join))},
            served_beside=lambda count: None,
            ended=lambda ident: None,
        )
        self.lending = Lending(self, Fixed(["localhost"], "", Limits()), str(directory))

    def router_of(self, deployment: DeploymentID) -> Any:
        return self._router

    def ingress_of(self, row: RouteRow) -> DeploymentID:
        return DeploymentID("A", "a")

    async def lane(self) -> Any:
        """The lane of the replica, once it has joined."""
        self.lending.at_rest(Kept(TABLE.rows[0]))  # type: ignore[arg-type]
        await until(lambda: any(lane.slots for lane in self.lending._lanes.values()))
        return self.lending._lanes["r"]


def test_of_a_silent_replica_connections_are_taken_that_wait_and_no_others(tmp_path: Path) -> None:
    """It may only be busy with one call of C, for longer than a ping is waited for."""

    async def work() -> None:
        gates = Gates()
        lender = Lender(tmp_path, gates)
        lane = await lender.lane()
        most = len(lane.free)
        rests, runs = Kept(TABLE.rows[0]), Kept(TABLE.rows[0])
        for one in (rests, runs):
            lender.lending.at_rest(one)  # type: ignore[arg-type]
        await asyncio.get_running_loop().sock_sendall(runs.ours, HEAD % 0)
        gate = await gates.begun(1)
        lender.lending._revoke(lane)
        assert rests.said == ["shared", "back"] and not runs.said
        gate.set_result(None)
        data = await asyncio.get_running_loop().sock_recv(runs.ours, 1000)
        assert data.startswith(b"HTTP/1.1 200 OK")
        await until(lambda: runs.said)
        assert runs.said == ["back"] and rests.said == ["shared", "back"]
        await until(lambda: len(lane.free) == most)
        assert not lane.loans and not lane.taken
        lane.lane.say("ping", 0)
        await until(lambda: not lane.is_silent)
        lender.lending.at_rest(runs)  # type: ignore[arg-type]
        assert len(lane.loans) == 1
        lender.lending.close()
        await until(lambda: runs.said == ["back", "back"])
        for one in (rests, runs):
            one.close()

    run(work())


def test_a_replica_that_never_joins_is_forgotten(tmp_path: Path) -> None:
    async def work() -> None:
        lender = Lender(tmp_path, size_of)
        lender._router.replicas["r"].actor.join.remote = lambda path: None
        one = Kept(TABLE.rows[0])
        lender.lending.at_rest(one)  # type: ignore[arg-type]
        lender.lending.look()
        (lane,) = lender.lending._lanes.values()
        lane.asked_at -= 100.0
        lender.lending.look()
        assert not lender.lending._lanes
        lender.lending.close()
        one.close()

    run(work())


def test_a_connection_that_could_not_be_sent_stays(tmp_path: Path) -> None:
    async def work() -> None:
        lender = Lender(tmp_path, size_of)
        lane = await lender.lane()
        most = len(lane.free)

        def fail(*_: Any, **__: Any) -> None:
            raise OSError("too many open files")

        lane.lane.say, say = fail, lane.lane.say
        one = Kept(TABLE.rows[0])
        lender.lending.at_rest(one)  # type: ignore[arg-type]
        assert one.said == ["back"] and one.lend_after > 0
        assert len(lane.free) == most and not lane.loans
        lane.lane.say = say
        lender.lending.close()
        one.close()

    run(work())

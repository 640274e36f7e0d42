"""What a proxy lends: kept connections of clients go to replicas of its node, which answer requests themselves.

A connection is lent once the proxy has answered a request of it, and only where a replica can do all that it would do.
So its route has one application and no split. There are no keys, no TLS, no limit of time, no queue, no autoscaling.
The proxy keeps its own descriptor. It takes a connection back with what was read of it, when the replica gives it back,
dies, or is silent. A request that a dead replica had begun is served again if it may run twice.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import socket
import struct
import termios
import time
from typing import Any, NamedTuple, Protocol

from hpc.serve.calls.asking import is_repeatable
from hpc.serve.http import door
from hpc.serve.http.head import Refused, read_head
from hpc.serve.http.lane import SOCKET, Lane, Terms, packed_terms
from hpc.serve.http.lent import FULL, IDLE, OTHER, SLOW
from hpc.serve.http.server import Connection, Limits
from hpc.serve.http.slots import SLOTS, Left, Slots, State, new_memory
from hpc.serve.messages import DeploymentID, RouteRow, RouteTable

logger = logging.getLogger("hpc.serve")

#: A connection that came back for a request of its own is kept for this long, twice as long each time, and at most.
PAUSE_S = 1.0
#: One that could not be lent is looked at again after this time.
TRY_AGAIN_S = 0.1
MOST_PAUSE_S = 64.0
#: After this number of answers of a replica a request that was not for it has no longer pause than the first.
GOOD_RUN = 100
#: How long a replica may take to answer a ping, and then a probe, until its connections are taken from it.
SILENT_S = 1.0
#: How long a replica that could not be reached is left alone.
JOIN_AGAIN_S = 5.0
#: Terms travel as one packet, for which kernels have 200 kB by default. With more routes nothing is lent.
TERMS_BYTES = 128 << 10
_ACKED = struct.Struct("=Q")
_ACKED_AT = 120


class Lends(Protocol):
    """The proxy, as lending needs it."""

    def router_of(self, deployment: DeploymentID) -> Any:
        """The router of a deployment."""

    def ingress_of(self, row: RouteRow) -> DeploymentID:
        """The deployment that has the requests of a route."""

    @property
    def table(self) -> RouteTable:
        """All routes."""


class Fixed(NamedTuple):
    """What holds for all that is lent."""

    names: list[str]
    root: str
    limits: Limits


class _Loan(NamedTuple):
    """A connection that a replica has. ``base``: bytes that were sent on it before, where the kernel says that."""

    connection: Connection
    base: int | None


class _ReplicaLane:
    """The lane of one replica."""

    def __init__(self, deployment: DeploymentID, row: RouteRow, terms: bytes) -> None:
        self.deployment = deployment
        self.row = row
        self.terms = terms
        self.lane: Lane | None = None
        self.slots: Slots | None = None
        self.loans: dict[int, _Loan] = {}
        #: Slots for further loans, and those of connections that were taken, which the replica has not let go.
        self.free: list[int] = []
        self.taken: set[int] = set()
        self.asked_at = time.monotonic()
        self.pinged_at = 0.0
        self.probe: asyncio.Task[Any] | None = None
        self.is_silent = False


class Lending:
    """The loans of one proxy. All of it runs on the proxy's loop."""

    def __init__(self, proxy: Lends, fixed: Fixed, directory: str) -> None:
        self._proxy = proxy
        self._fixed = fixed
        self._path = os.path.join(directory, SOCKET)
        self._loop = asyncio.get_running_loop()
        self._lanes: dict[str, _ReplicaLane] = {}
        self._unknown: set[Lane] = set()
        self._is_over = False
        door.clear(self._path)
        self._socket = door.bound(self._path, socket.SOCK_SEQPACKET)
        self._socket.listen(128)
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket.fileno(), self._accept)

    # -------------------------------------------------------------- lending

    def at_rest(self, connection: Connection) -> None:
        """A connection has its answer, and nothing more was read of it: lend it, if that can be."""
        row = connection.served
        if row is None or self._is_over or time.monotonic() < connection.lend_after:
            return
        try:
            self._lend(connection, row)
        except Exception:  # it was answered, and the proxy can serve it on
            logger.exception("A connection could not be lent")
            connection.lend_after = time.monotonic() + MOST_PAUSE_S

    def _lend(self, connection: Connection, row: RouteRow) -> None:
        deployment = self._proxy.ingress_of(row)
        router = self._proxy.router_of(deployment)
        terms = self._terms(row, deployment, router)
        found = self._chosen(row, deployment, router, terms) if terms is not None else None
        if found is None or found.lane is None or found.slots is None:
            connection.lend_after = time.monotonic() + TRY_AGAIN_S
            return
        sock = connection.lend()
        if sock is None:
            return
        number = found.free.pop()
        try:
            found.slots.clear(number)
            found.loans[number] = _Loan(connection, sent_bytes(sock))
            found.lane.say("lend", number, connection.client, connection.server_address, fd=sock.fileno())
        except Exception:  # as no file can be opened here
            found.loans.pop(number, None)
            found.free.append(number)
            connection.take_back(b"")
            raise

    def _terms(self, row: RouteRow, deployment: DeploymentID, router: Any) -> bytes | None:
        """How replicas are to serve a route. None where its requests are the proxy's."""
        table, machine = router.table, router.machine
        if row.split or row.shadow or row.request_timeout_s is not None:
            return None
        if table is None or table.is_deleted or not table.is_available or table.is_autoscaled or table.router:
            return None
        if machine.queued or row not in self._proxy.table.rows:
            return None
        # With several replicas only one that does nothing takes a request: else another one may have less to do.
        spare = 1 << 30 if len(table.replicas) == 1 else 1
        fixed, limits = self._fixed, self._fixed.limits
        terms = packed_terms(
            Terms(
                row.prefix, row.app, self._proxy.table, fixed.names, spare, fixed.root, limits.idle_s, limits.write_s,
                limits.body_bytes,
            )
        )  # fmt: skip
        return terms if len(terms) <= TERMS_BYTES else None

    def _chosen(self, row: RouteRow, deployment: DeploymentID, router: Any, terms: bytes) -> _ReplicaLane | None:
        """The replica of this node that has the fewest loans."""
        machine = router.machine
        best: _ReplicaLane | None = None
        for seat in list(machine.seats.values()):
            if seat.row.node != machine.home.node or seat.is_silent or seat.is_gone:
                continue
            lane = self._lanes.get(seat.id)
            if lane is None or (lane.lane is None and time.monotonic() - lane.asked_at > JOIN_AGAIN_S):
                self._ask(seat.id, deployment, row, router, terms)
            elif lane.lane is None or not lane.free or lane.is_silent:
                continue
            elif best is None or len(lane.loans) < len(best.loans):
                best = lane
        if best is not None and best.terms != terms:
            self._agree(best, row, terms)
        return best

    def _ask(self, ident: str, deployment: DeploymentID, row: RouteRow, router: Any, terms: bytes) -> None:
        """Ask a replica to join."""
        replica = router.replicas.get(ident)
        if replica is not None:
            self._lanes[ident] = _ReplicaLane(deployment, row, terms)
            replica.actor.join.remote(self._path)

    def _agree(self, lane: _ReplicaLane, row: RouteRow, terms: bytes) -> None:
        assert lane.lane is not None
        lane.row, lane.terms = row, terms
        lane.lane.say("terms", terms)

    def look(self) -> None:
        """Once a second: take back what is lent by other terms than today's, or to a replica that says nothing."""
        now = time.monotonic()
        self._recall_old()
        for ident, lane in list(self._lanes.items()):
            if lane.lane is None:
                if now - lane.asked_at > MOST_PAUSE_S:  # it has ended, and others come
                    del self._lanes[ident]
                continue
            if not lane.loans:
                lane.pinged_at = 0.0
            elif not lane.pinged_at:
                lane.pinged_at = now
                lane.lane.say("ping", 0)
            elif now - lane.pinged_at >= SILENT_S and lane.probe is None and not lane.is_silent:
                lane.probe = self._loop.create_task(self._probe(ident, lane))

    def _recall_old(self) -> None:
        for lane in self._lanes.values():
            if lane.loans and lane.lane is not None:
                router = self._proxy.router_of(lane.deployment)
                if self._terms(lane.row, lane.deployment, router) != lane.terms:
                    lane.lane.say("recall")

    def routes_changed(self) -> None:
        """Take back what a new table of routes has other rules for."""
        self._recall_old()

    # -------------------------------------------------------------- what replicas say

    def _accept(self) -> None:
        try:
            sock, _ = self._socket.accept()
        except OSError:
            return
        lane: Lane

        def heard(message: list[Any], fds: list[int]) -> None:
            for fd in fds:
                os.close(fd)
            if message[0] == "replica":
                self._joined(message[1], message[2], lane)

        def ended() -> None:
            self._unknown.discard(lane)

        lane = Lane(sock, heard, ended)
        self._unknown.add(lane)

    def _joined(self, ident: str, most: int, lane: Lane) -> None:
        """A replica is there, which takes so many connections."""
        self._unknown.discard(lane)
        known = self._lanes.get(ident)
        if known is None or known.lane is not None or self._is_over:
            lane.close()
            return

        def heard(message: list[Any], fds: list[int]) -> None:
            for fd in fds:
                os.close(fd)
            self._heard(known, message)

        lane.retarget(heard, lambda: self._lost(ident, known))
        memory = new_memory()
        known.lane, known.slots = lane, Slots(memory)
        known.free = list(range(min(most, SLOTS) - 1, -1, -1))
        lane.say("memory", fd=memory)
        os.close(memory)
        lane.say("terms", known.terms)

    def _heard(self, lane: _ReplicaLane, message: list[Any]) -> None:
        kind = message[0]
        if kind == "pong":
            lane.pinged_at, lane.is_silent = 0.0, False
            return
        loan = lane.loans.pop(message[1], None)
        if loan is not None or message[1] in lane.taken:
            lane.free.append(message[1])
            lane.taken.discard(message[1])
        if loan is None:
            return  # it was taken from a replica that was silent
        if kind == "closed":
            loan.connection.abort()
            return
        assert lane.slots is not None
        why, connection, left = message[2], loan.connection, lane.slots.left(message[1])
        self._proxy.router_of(lane.deployment).served_beside(left.served)
        if why in (FULL, OTHER, SLOW):
            pause_s = PAUSE_S if left.served >= GOOD_RUN else min(MOST_PAUSE_S, 2 * connection.lend_pause_s or PAUSE_S)
            connection.lend_pause_s, connection.lend_after = pause_s, time.monotonic() + pause_s
        connection.take_back(left.unread, is_idle=why == IDLE)

    # -------------------------------------------------------------- replicas that end

    def _lost(self, ident: str, lane: _ReplicaLane) -> None:
        """A replica has ended: go on with its connections."""
        if self._lanes.get(ident) is lane:
            del self._lanes[ident]
        self._proxy.router_of(lane.deployment).ended(ident)
        loans, lane.loans = lane.loans, {}
        for number, loan in loans.items():
            try:
                self._recover(lane, number, loan)
            except Exception:
                logger.exception("A connection is broken, since its replica is gone")
                loan.connection.abort()
        if lane.slots is not None:
            lane.slots.close()

    def _recover(self, lane: _ReplicaLane, number: int, loan: _Loan) -> None:
        assert lane.slots is not None
        left, connection = lane.slots.left(number), loan.connection
        state, unread = left.state, left.unread
        self._proxy.router_of(lane.deployment).served_beside(left.served)
        if state == State.ANSWERING:
            state, unread = _was_sent(left, loan)
        if state == State.ANSWERING:
            connection.abort()  # the client sees that the answer is not whole
        elif state == State.READING or self._may_repeat(lane, unread):
            connection.take_back(unread)
        else:
            name = str(lane.deployment)
            connection.take_back(b"", refused=Refused(500, f"a replica of {name} died with the request"))

    def _may_repeat(self, lane: _ReplicaLane, data: bytes) -> bool:
        """Whether a request that had begun may run twice."""
        table = self._proxy.router_of(lane.deployment).table
        if table is not None and table.retry == "always":
            return True
        head = read_head(data[: data.find(b"\r\n\r\n") + 4])
        return is_repeatable(head.method, head.headers)

    # -------------------------------------------------------------- replicas that are silent

    async def _probe(self, ident: str, lane: _ReplicaLane) -> None:
        """The loop of a replica has not answered. Where its thread for that does, user code keeps the loop busy."""
        try:
            replica = self._proxy.router_of(lane.deployment).replicas.get(ident)
            if replica is not None:
                await asyncio.wait_for(replica.probe.remote(), SILENT_S)
            lane.pinged_at = time.monotonic()
        except asyncio.TimeoutError:
            self._revoke(lane)
        except Exception as error:
            logger.debug("a replica is not there to be probed: %s", error)  # its lane says so
        finally:
            lane.probe = None

    def _revoke(self, lane: _ReplicaLane) -> None:
        """Take the connections of a silent replica that wait for a request. Should it go on, it sees that in memory
        before it sends anything. Each connection is closed after its next answer, so that nothing can follow from
        there. A request that has begun is waited for, as it is in the proxy: one call of C may take long. A process
        that never goes on is ended by the controller."""
        assert lane.slots is not None and lane.lane is not None
        lane.is_silent = True
        for number, loan in list(lane.loans.items()):
            if lane.slots.left(number).state == State.READING:
                lane.slots.revoke(number)
                del lane.loans[number]
                lane.taken.add(number)
                loan.connection.share()
                self._recover(lane, number, loan)
        lane.lane.say("recall")

    # -------------------------------------------------------------- the end

    def close(self) -> None:
        """Lend nothing more, and take all back."""
        self._is_over = True
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        door.clear(self._path)
        for lane in self._lanes.values():
            if lane.lane is not None:
                lane.lane.say("recall")


def sent_bytes(sock: Any) -> int | None:
    """How many bytes were written to a connection of TCP so far, but for a constant; None for another one."""
    if sock.family == socket.AF_UNIX:
        return None
    acked = _acked(sock)
    while True:
        unacked = struct.unpack("=i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0]
        before, acked = acked, _acked(sock)
        if acked == before:  # the client has said nothing in between
            return acked + int(unacked)


def _acked(sock: Any) -> int:
    found = _ACKED.unpack_from(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), _ACKED_AT)[0]
    return int(found)


def _was_sent(left: Left, loan: _Loan) -> tuple[State, bytes]:
    """Whether an answer that was being sent when the replica ended was sent: not at all, wholly, or in part."""
    if loan.base is None:
        return State.ANSWERING, b""
    sent = (sent_bytes(loan.connection.socket()) or 0) - loan.base - left.sent
    if sent == 0:
        return State.BEGUN, left.unread
    return (State.READING, left.rest) if sent == left.answer else (State.ANSWERING, b"")

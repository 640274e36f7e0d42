"""The process of a gateway: its doors, a look at the registry and at the jobs' doors now and then, and its end."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec

from hpc.serve.config import HTTPOptions
from hpc.serve.exceptions import RayServeException
from hpc.serve.gateway import registry
from hpc.serve.gateway.backends import Backends, Door, Succession
from hpc.serve.gateway.client import Broken, NotSent, Pool, certificate_of
from hpc.serve.gateway.relay import NoDoor, Relay
from hpc.serve.gateway.tunnel import tunnel
from hpc.serve.http import door as doors
from hpc.serve.http.exchange import Exchange
from hpc.serve.http.gate import Gate, KeyFileError, Keys, Names
from hpc.serve.http.head import Head
from hpc.serve.http.server import Connection, Limits, Server
from hpc.serve.http.websocket import Socket

logger = logging.getLogger("hpc.serve")

#: Of each machine another one: gateways of two login nodes may share a registry, and a socket is its machine's alone.
SOCKET = f"gateway-{socket.gethostname().partition('.')[0]}.sock"
#: The kernel takes no longer path of a socket.
MOST_PATH_BYTES = 107
#: How often the registry and the doors are looked at.
LOOK_S = 0.5
PROBE_S = 2.0
_JSON = [(b"content-type", b"application/json")]
_TEXT = [(b"content-type", b"text/plain; charset=utf-8")]


class GatewayError(RayServeException):
    """The gateway cannot begin; the text says what to do."""


@dataclass(kw_only=True)
class GatewayOptions:
    """What a gateway is told.

    registry: a name, or the path of a folder that its jobs share with it. socket: the path of its own socket; else it
    lies in the registry. http: its door on TCP, as for `serve.start`. lead_s: a job that ends within this time is left
    for another one that serves. wait_s: how long a request waits while no job serves. drain_s: how long what runs may
    take at its own end. next_command: it submits the next job, before the last one ends by next_lead_s. waits: whether
    the job whose id next_command has printed still waits or runs.
    """

    registry: str = "default"
    socket: str = ""
    http: HTTPOptions = field(default_factory=HTTPOptions)
    lead_s: float = 120.0
    wait_s: float = 60.0
    drain_s: float = 600.0
    next_command: str = ""
    next_lead_s: float = 900.0
    waits: Callable[[str], bool] | None = None


class Gateway:
    """The gateway; its methods run on one event loop."""

    def __init__(self, options: GatewayOptions) -> None:
        if options.http.is_tcp and not options.http.api_keys_file:
            raise GatewayError("a port is open to all users of the machine: it needs a file of keys (--api-keys-file)")
        self._options = options
        self._folder = registry.registry_folder(options.registry)
        self._backends = Backends(socket.gethostname(), options.lead_s)
        self._succession = Succession(options.next_lead_s, patience_s=86400.0)
        self._pools: dict[Door, Pool] = {}
        self._relay = Relay(self._backends, self._pool, self._key, options.wait_s)
        self._probing: set[Door] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._keys: Keys | None = None
        self._server: Server
        self._socket = ""
        self._submitted = ""
        self._failed_looks = 0
        #: Where it listens.
        self.doors: list[str] = []

    # -------------------------------------------------------------- its life

    async def start(self) -> None:
        """Listen. Raises GatewayError, DoorError or KeyFileError."""
        http = self._options.http
        self._keys = Keys(http.api_keys_file) if http.api_keys_file else None
        limits = Limits(idle_s=float(http.keep_alive_timeout_s), body_bytes=http.max_body_bytes)
        self._server = Server(self._answer, self._speak, limits)
        path = self._socket = str(
            Path(self._options.socket).absolute() if self._options.socket else self._folder / SOCKET
        )
        if len(os.fsencode(path)) > MOST_PATH_BYTES:
            raise GatewayError(f"a socket cannot have a path as long as {path}: --socket takes a shorter one")
        await self._check_alone(path)
        names = {*doors.machine_names(), *http.allowed_hosts}
        own = Gate(Names(names), None, http.rate_limit_per_s)
        await self._server.listen_unix(doors.bound(path), _admit(own))
        self.doors = [f"unix:{path}"]
        if http.is_tcp:
            gate = Gate(Names(names), self._keys, http.rate_limit_per_s)
            tls = doors.tls_context(http)
            try:
                port = await self._server.listen_tcp(str(http.host), http.port, _admit(gate), tls)
            except OSError as error:
                await self._server.close()
                raise GatewayError(
                    f"port {http.port} of {http.host} cannot be listened at: {error.strerror}; port 0 takes a free one"
                ) from None
            host = socket.gethostname() if http.host in ("0.0.0.0", "::") else http.host
            self.doors.append(f"{'https' if tls else 'http'}://{host}:{port}")
        await self._remember()
        await self._look()
        self._begin(self._keep_looking())

    async def _check_alone(self, path: str) -> None:
        """Take away the socket of a gateway that is gone. Raises GatewayError where one is there."""
        try:
            _, writer = await asyncio.open_unix_connection(path)
        except OSError:
            return
        writer.close()
        raise GatewayError(f"a gateway of the registry {self._folder} runs already")

    async def stop(self) -> bool:
        """Take nothing new and answer what runs. Returns whether all was answered in time."""
        is_empty = await self._server.drain(self._options.drain_s)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pool in self._pools.values():
            pool.close()
        doors.clear(self._socket)
        return is_empty

    def _begin(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -------------------------------------------------------------- the jobs

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self._look()
            if self._keys is not None:
                try:
                    self._keys.read()
                except KeyFileError as error:
                    self._keys.close()
                    logger.error("Nobody is let in: %s", error)

    async def _look(self) -> None:
        """Read the registry, and ask doors whether they are well."""
        try:
            self._backends.update(await asyncio.to_thread(registry.told, self._folder, time.time()))
            self._failed_looks = 0
        except OSError as error:
            self._failed_looks += 1
            if self._failed_looks == 1:
                logger.warning("the registry cannot be read, so what was known holds: %s", error)
        known = self._backends.doors()
        for door in [door for door in self._pools if door.is_gone and not door.running]:
            self._pools.pop(door).close()
        for door in known:
            if door not in self._probing:
                self._probing.add(door)
                self._begin(self._probe(door))
        self._relay.changed()
        if self._options.next_command and self._succession.is_due(self._backends, time.time()):
            self._succession.submitted(self._backends, time.time())
            self._begin(self._submit())

    async def _probe(self, door: Door) -> None:
        try:
            is_well = await asyncio.wait_for(self._ask(door), PROBE_S)
        except (NotSent, Broken, asyncio.TimeoutError):
            is_well = False
        finally:
            self._probing.discard(door)
        was_open = door.is_open(time.time())
        self._backends.probed(door, is_well)
        if is_well and not was_open:
            self._relay.changed()

    async def _ask(self, door: Door) -> bool:
        pool = self._pool(door)
        link = await pool.take(not door.is_well)
        try:
            await link.send_head("GET", b"/-/healthz", [(b"host", b"localhost")])
            await link.answer("GET")
            while await link.part():
                pass
            return link.status == 200
        finally:
            pool.give_back(link)

    async def _submit(self) -> None:
        """Have the next job submitted, and wait until it tells of itself or is gone."""
        words = shlex.split(self._options.next_command)
        logger.warning("The next job is submitted: %s", self._options.next_command)
        try:
            child = await asyncio.create_subprocess_exec(
                *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
            )
            out, _ = await child.communicate()
            code = child.returncode
        except OSError as error:
            logger.error("%s: %s", words[0], error.strerror)
            code, out = 127, b""
        if code:
            logger.error("The next job was not submitted: exit code %s", code)
            self._succession.failed(time.time())
            return
        said = out.decode("utf-8", "replace").split()
        self._submitted = said[-1] if said else ""
        self._note(registry.Submitted(self._submitted, self._succession.known, time.time()))
        await self._wait_for_submitted()

    async def _remember(self) -> None:
        """Another gateway of this registry may have submitted the next job: one is enough."""
        found = registry.submitted(self._folder) if self._options.next_command else None
        if found is None:
            return
        waits = self._options.waits
        if waits is not None and found.ident and not await asyncio.to_thread(waits, found.ident):
            self._note(None)
            return
        self._submitted = found.ident
        self._succession.resume(found.known, found.at)
        logger.warning("The next job was submitted already: %s", found.ident or "its command has not said its id")
        self._begin(self._wait_for_submitted())

    async def _wait_for_submitted(self) -> None:
        """Until it has told of itself or is gone."""
        waits = self._options.waits if self._submitted else None
        while self._succession.waits:
            await asyncio.sleep(LOOK_S if waits is None else 20 * LOOK_S)
            if waits is not None and not await asyncio.to_thread(waits, self._submitted):
                self._succession.failed(time.time())
        self._note(None)

    def _note(self, found: registry.Submitted | None) -> None:
        try:
            registry.note_submitted(self._folder, found)
        except OSError as error:
            logger.warning("a gateway that is started again will not know the next job: %s", error)

    # -------------------------------------------------------------- for the relay

    def _pool(self, door: Door) -> Pool:
        pool = self._pools.get(door)
        if pool is None:
            certificate = self._backends.jobs[door.job].row.certificate if door.job in self._backends.jobs else ""
            tls = None
            if certificate and door.text.startswith("https"):
                try:
                    tls = certificate_of(certificate)
                except OSError as error:
                    logger.error("%s cannot be read, so %s is asked by the certificates of this machine: %s",
                                 certificate, door.text, error)  # fmt: skip
            pool = self._pools[door] = Pool(door.text, tls)
        return pool

    def _key(self, door: Door) -> bytes:
        """A key that a door on TCP wants: whoever has come through the gate of the gateway may use the job's."""
        job = self._backends.jobs.get(door.job)
        if job is None or not job.row.keys_file or door.text.startswith("unix:"):
            return b""
        try:
            for line in Path(job.row.keys_file).read_bytes().splitlines():
                if line.strip() and not line.startswith(b"#"):
                    return line.strip()
        except OSError as error:
            logger.error("the keys of job %s cannot be read: %s", door.job, error)
        return b""

    # -------------------------------------------------------------- requests

    async def _answer(self, exchange: Exchange) -> None:
        path = exchange.head.path
        if path == b"/-/gateway":
            exchange.reply(200, _JSON, msgspec.json.encode(self._standing()))
        elif path == b"/-/healthz":
            serves = self._backends.choose(time.time()) is not None
            exchange.reply(200 if serves else 503, _TEXT, b"success" if serves else b"no job serves at the moment")
        else:
            await self._relay.answer(exchange)

    async def _speak(self, sock: Socket) -> None:
        deadline = time.monotonic() + self._options.wait_s
        avoided: set[Door] = set()
        while not sock.is_gone:
            try:
                door = await self._relay.door(0, deadline, avoided)
            except NoDoor as error:
                sock.deny(503, _TEXT, str(error).encode())
                return
            pool = self._pool(door)
            door.running += 1
            link = None
            try:
                link = await pool.take(True)
                await tunnel(sock, link, self._key(door))
                return
            except (NotSent, Broken) as error:
                self._backends.refused(door, time.time())
                avoided.add(door)
                if sock.is_accepted:
                    raise
                logger.debug("a websocket goes to another door: %s", error)
            finally:
                door.running -= 1
                if link is not None:
                    link.close()

    def _standing(self) -> dict[str, object]:
        now = time.time()
        jobs = {
            name: {
                "state": self._backends.state(job, now).value,
                "host": job.row.host,
                "left_s": None if job.row.ends_at is None else round(job.row.ends_at - now, 1),
                "doors": {
                    door.text: {"open": door.is_open(now), "running": door.running} for door in job.doors.values()
                },
            }
            for name, job in self._backends.jobs.items()
        }
        return {"jobs": jobs, "next_submitted": self._submitted}


def _admit(gate: Gate) -> Callable[[Head, Connection], None]:
    def admit(head: Head, connection: Connection) -> None:
        gate.admit(head, connection.client or connection.door, time.monotonic())

    return admit


async def serve_until_told(options: GatewayOptions, say: Callable[[list[str]], None]) -> bool:
    """Run a gateway until SIGTERM or SIGINT, and then until what runs has its answer; a second signal ends it at once.

    say: gets the doors, once it listens. Returns whether all was answered."""
    gateway = Gateway(options)
    await gateway.start()
    loop, is_told = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, is_told.set)
    say(gateway.doors)
    await is_told.wait()
    ending = asyncio.ensure_future(gateway.stop())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, partial(_end_now, ending))
    try:
        return await ending
    except asyncio.CancelledError:
        return False


def _end_now(ending: asyncio.Future[bool]) -> None:
    ending.cancel()

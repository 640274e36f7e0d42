"""How a job tells a gateway of its service: an actor that notes its doors in the registry, each second."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from pathlib import Path
from typing import Any

import msgspec

import hpc
from hpc import spi
from hpc.exceptions import HpcError
from hpc.serve.context import controller
from hpc.serve.exceptions import RayServeException
from hpc.serve.gateway import registry
from hpc.serve.gateway.backends import JobRow
from hpc.serve.messages import DOORS_KEY, NAMESPACE

logger = logging.getLogger("hpc.serve")
NAME = "SERVE_TELLER"
EVERY_S = 1.0


class Teller:
    """The actor. It tells of the service of its session until it is told to leave."""

    def __init__(self, folder: str, name: str, apps: list[str]) -> None:
        self._folder = Path(folder)
        self._name = name
        self._apps = apps
        self._is_leaving = False
        self._began_at = time.time()
        self._files: tuple[str, str] | None = None
        #: It begins here, so that an actor whose process has died tells again by itself.
        self._task = asyncio.ensure_future(self._keep_telling())

    async def begin(self) -> None:
        """Tell for the first time. Raises OSError where the registry cannot be written."""
        await self._tell()

    async def leave(self, notice_s: float) -> None:
        """Tell that new requests go elsewhere, and return when the gateway has had time to see it."""
        self._is_leaving = True
        await self._tell()
        await asyncio.sleep(notice_s)

    async def forget(self) -> None:
        """Tell nothing any more."""
        self._task.cancel()
        await asyncio.to_thread(registry.forget, self._folder, self._name)

    async def _keep_telling(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self._tell()
            except Exception as error:  # it tells again, whatever this was
                logger.warning("the gateway is told nothing: %s", error)

    async def _tell(self) -> None:
        await asyncio.to_thread(registry.tell, self._folder, await self._row())

    async def _row(self) -> JobRow:
        context = hpc.get_runtime_context()
        now, left_s = time.time(), context.time_left_s()
        data = await asyncio.to_thread(spi.kv_get, NAMESPACE, DOORS_KEY)
        listed: dict[str, list[str]] = msgspec.msgpack.decode(data) if data else {}
        # Of gRPC there is no gateway.
        doors = [door for node in sorted(listed) for door in listed[node] if not door.startswith("grpc")]
        is_ready = bool(doors) and await self._is_ready()
        keys_file, certificate = self._files or ("", "")
        return JobRow(
            self._name, socket.gethostname(), doors, is_ready, self._is_leaving or context.draining() is not None,
            None if left_s is None else now + left_s, self._began_at, now, keys_file, certificate,
        )  # fmt: skip

    async def _is_ready(self) -> bool:
        """Whether the applications run. A controller that is being replaced says nothing of that: they run without."""
        try:
            found = controller()
            if self._files is None:
                http = (await asyncio.wait_for(_awaited(found.ready.remote()), EVERY_S)).http
                self._files = _whole_path(http.api_keys_file), _whole_path(http.ssl_certfile)
            status = await asyncio.wait_for(_awaited(found.status.remote()), EVERY_S)
        except (HpcError, RayServeException, asyncio.TimeoutError):
            return self._files is not None
        standing = {name: app.status for name, app in status.applications.items()}
        wanted = self._apps or list(standing)
        return bool(wanted) and all(standing.get(name) == "RUNNING" for name in wanted)


async def _awaited(ref: Any) -> Any:
    return await ref


def _whole_path(path: str | None) -> str:
    return os.path.abspath(path) if path else ""


def _teller(**options: Any) -> Any:
    return hpc.remote(Teller).options(
        name=NAME, namespace=NAMESPACE, lifetime="detached", max_restarts=-1, max_concurrency=10, num_cpus=0, **options
    )


def announce(gateway: str = "default", *, apps: list[str] | None = None, name: str = "") -> None:
    """Have a gateway send requests to the service of this session, until `withdraw` or the end of the session.

    gateway: the name of its registry, or the path of the folder. apps: it gets requests once all of these run; all that
    there are where none is named. name: of this job in the registry; else its host and session. It tells the walltime's
    end too, so that the gateway leaves for the next job before that. Ray has no such name.

    Raises RegistryError where the folder cannot be used, and RayServeException where it tells a gateway already."""
    if not hpc.is_initialized():
        hpc.init()
    folder = registry.registry_folder(gateway)
    job = name or f"{socket.gethostname()}-{spi.whoami().session}"
    if "/" in job or job.startswith("."):
        raise ValueError(f"name must be one of a file, not {job!r}")
    try:
        actor = _teller().remote(str(folder.absolute()), job, list(apps or ()))
    except ValueError:
        raise RayServeException("this session tells a gateway already: serve.withdraw() ends that") from None
    try:
        hpc.get(actor.begin.remote())
    except BaseException:
        hpc.kill(actor)
        raise


def withdraw(notice_s: float = 2.0) -> None:
    """Have gateways send new requests elsewhere, and return when they do. What runs is not disturbed: `shutdown` waits
    for it. Where no gateway is told anything, nothing happens. Ray has no such name."""
    try:
        actor = hpc.get_actor(NAME, namespace=NAMESPACE)
    except ValueError:
        return
    hpc.get(actor.leave.remote(notice_s))
    hpc.get(actor.forget.remote())
    hpc.kill(actor)

"""The life of an ASGI application in a replica: its start-up, its shutdown, and the errors that it is told to know."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from hpc.serve.http.convert import error_reply

logger = logging.getLogger("hpc.serve")

ASGI = {"version": "3.0", "spec_version": "2.4"}
Event = dict[str, Any]


class Lifespan:
    """The lifespan of an application: its start-up and its shutdown."""

    def __init__(self, app: Any, state: dict[str, Any]) -> None:
        self._app = app
        self._state = state
        self._asked: asyncio.Queue[Event] = asyncio.Queue()
        self._said: asyncio.Queue[Event] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Run the start-up. An application that knows no lifespan raises, and is served without one."""
        scope = {"type": "lifespan", "asgi": ASGI, "state": self._state}
        self._task = asyncio.ensure_future(self._app(scope, self._asked.get, self._said.put))
        said = await self._ask("startup")
        if said is not None and said["type"] == "lifespan.startup.failed":
            self._task.add_done_callback(_error_of)  # it raises what it has said
            why = f": {said['message']}" if said.get("message") else ""
            raise RuntimeError(f"ASGI lifespan startup failed. Check replica logs for details{why}")
        if said is None:
            self._task = None

    async def stop(self) -> None:
        """Run the shutdown."""
        if self._task is None:
            return
        if self._task.done():
            if error := _error_of(self._task):
                logger.error("The lifespan of the application has ended in an error", exc_info=error)
            return
        said = await self._ask("shutdown")
        if said is not None and said["type"] == "lifespan.shutdown.failed":
            logger.error("The shutdown of the application failed: %s", said.get("message", ""))
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _ask(self, what: str) -> Event | None:
        assert self._task is not None
        self._asked.put_nowait({"type": f"lifespan.{what}"})
        said = asyncio.ensure_future(self._said.get())
        await asyncio.wait([self._task, said], return_when=asyncio.FIRST_COMPLETED)
        if said.done():
            return said.result()
        said.cancel()
        if error := _error_of(self._task):
            logger.debug("the application knows no lifespan: %r", error)
        return None


def _error_of(task: asyncio.Task[None]) -> BaseException | None:
    """What a task that is over has raised, if it has."""
    return None if task.cancelled() else task.exception()


def know_errors(app: Any) -> None:
    """Have a starlette application answer a full queue, and a deployment that is not there, as a proxy would."""
    if hasattr(app, "add_exception_handler"):
        from starlette.responses import Response

        from hpc.serve.exceptions import BackPressureError, DeploymentUnavailableError

        def told(_: Any, error: Exception) -> Response:
            reply = error_reply(error)
            headers = {name.decode(): value.decode() for name, value in reply.headers}
            return Response(reply.body, status_code=reply.status, headers=headers)

        for kind in (BackPressureError, DeploymentUnavailableError):
            app.add_exception_handler(kind, told)

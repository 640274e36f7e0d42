"""Runs a user's request router: each request that waits has a coroutine that asks it for replicas, until one has room.

All run on one event loop in a thread of this process: a user's router awaits what it likes.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import time
from typing import TYPE_CHECKING, Any

from hpc import cloudpickle
from hpc.serve.exceptions import RayServeException
from hpc.serve.messages import ReplicaID
from hpc.util.loop_thread import LoopThread

if TYPE_CHECKING:
    from hpc.serve.calls.call import Call
    from hpc.serve.calls.ports import Routes
    from hpc.serve.calls.router import Seat

logger = logging.getLogger("hpc.serve")


_loop = LoopThread("hpc-serve-routers")


def loop() -> asyncio.AbstractEventLoop:
    """The event loop on which users' routers run."""
    return _loop.get()


def class_of(named: Any) -> Any:
    """A router's class, from itself or its import path: ``module:Class`` or ``module.Class``."""
    if not isinstance(named, str):
        return named
    module, _, name = named.rpartition(":") if ":" in named else named.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise RayServeException(f"the request router {named!r} cannot be imported: {error}") from error


def custom_router(router: Routes, source: bytes) -> CustomRouter | None:
    """The user's router of a deployment; None where its config names the one of two choices."""
    config = cloudpickle.loads(source)
    if getattr(config, "is_default", False):
        return None
    return CustomRouter(router, config)


class CustomRouter:
    """A user's router at work for one deployment. The methods but `_route` are called with the router's lock held."""

    def __init__(self, router: Routes, config: Any) -> None:
        from hpc.serve import request_router as faces

        self._router = router
        self._faces = faces
        self._config = config
        cls = class_of(config.request_router_class)
        self._user = cls(router.deployment_id, self_node_id=router.machine.home.node)
        self._user.initialize_state(**config.request_router_kwargs)
        self._replicas: dict[str, Any] = {}
        self._room: asyncio.Event | None = None
        self._is_fifo = issubclass(cls, faces.FIFOMixin)

    def update(self, seats: dict[str, Seat]) -> None:
        """The replicas that there are from now on."""
        faces, ident_of = self._faces, self._router.deployment_id
        loop().call_soon_threadsafe(
            self._take, {ident: faces.RunningReplica(ident_of, seat) for ident, seat in seats.items()}
        )

    def _take(self, replicas: dict[str, Any]) -> None:
        """On the event loop: the user's router is not told of replicas in the middle of a choice of another thread."""
        gone = [ident for ident in self._replicas if ident not in replicas]
        self._replicas = replicas
        try:
            self._user.update_replicas(list(replicas.values()))
            for ident in gone:
                self._user.on_replica_actor_died(ReplicaID(ident, self._router.deployment_id))
        except Exception:
            logger.exception("the request router of %s takes no replicas", self._router.deployment_id)
        self.stir()

    def route(self, call: Call) -> None:
        """Have a request that waits routed."""
        asyncio.run_coroutine_threadsafe(self._route(call), loop())

    def rejected(self, call: Call, seat: Seat, ongoing: int) -> None:
        """A replica was full: the request is routed again."""
        if call.state == "queued":
            self.route(call)

    def stir(self) -> None:
        """A replica may have room."""
        room = self._room
        if room is not None:
            loop().call_soon_threadsafe(room.set)

    async def _route(self, call: Call) -> None:
        config = self._config
        pending = self._faces.PendingRequest(list(call.args), dict(call.kwargs), call.meta)
        backoff_s = config.initial_backoff_s
        try:
            while call.state == "queued":
                candidates = list(self._replicas.values())
                ranks = await self._user.choose_replicas(candidates, pending) if candidates else []
                if self._assign(call, pending, ranks):
                    return
                await self._wait(backoff_s)
                backoff_s = min(config.max_backoff_s, backoff_s * config.backoff_multiplier)
        except Exception as error:
            with self._router.lock:
                waits = call.state == "queued"
                self._router.machine.withdraw(call)
            if waits:
                call.finish(error)
            else:  # it was sent, by the turn of another one perhaps
                logger.exception("the request router of %s has failed", self._router.deployment_id)

    async def _wait(self, backoff_s: float) -> None:
        if self._room is None:
            self._room = asyncio.Event()
        self._room.clear()
        try:
            await asyncio.wait_for(self._room.wait(), backoff_s)
        except asyncio.TimeoutError:
            pass

    def _assign(self, call: Call, pending: Any, ranks: list[list[Any]]) -> bool:
        """Give a request to the first replica that has room. True if it needs no further choice."""
        router, now = self._router, time.monotonic()
        error: BaseException | None = None
        with router.lock:
            if call.state != "queued":
                return True
            for rank in ranks:
                free = [one for one in rank if one._seat.has_room(now)]
                if free:
                    chosen = min(free, key=lambda one: one._seat.running)
                    break
            else:
                return False
            target: Any = next(iter(router.machine.waiting())) if self._is_fifo and not call.model else call
            router.machine.withdraw(target)
            router.machine.take(target, chosen._seat)
            error = router.send(target, chosen._seat)
            done = target is call
        if error is not None:
            target.finish(error)
        else:
            self._user.on_request_routed(pending, chosen.replica_id, target.ref)
        return done

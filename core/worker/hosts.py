"""Which kind of host an actor gets, by its class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpc.core.classes import has_coroutines
from hpc.core.wire import CreateActor
from hpc.core.worker.actor import ActorHost

if TYPE_CHECKING:
    from hpc.core.worker.ports import Works


def host(worker: Works, create: CreateActor, cls: type) -> ActorHost:
    """What will host an actor of this class. asyncio takes 18 ms to import, for which only those who need it wait."""
    if has_coroutines(cls):
        from hpc.core.worker.aio import AsyncActorHost

        return AsyncActorHost(worker, create, cls)
    return ActorHost(worker, create, cls)

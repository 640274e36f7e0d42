"""Where an actor is: its owner, the holders of handles, the head."""

from __future__ import annotations

from typing import Any, Literal

from hpc.core.causes import ActorErrorName
from hpc.core.ids import Address
from hpc.core.wire.base import Message
from hpc.core.wire.tasks import CreateActor
from hpc.core.wire.values import Result

#: The tags of the messages of this file.
TAGS = range(112, 120)


class WatchActor(Message, tag=112):
    """Keep me informed about the actor (asked by a holder of a handle; answered at once and on each change)."""

    actor: bytes


#: Where an actor is in its life, as its owner tells it.
ActorPhase = Literal["pending", "alive", "restarting", "dead"]


class ActorState(Message, tag=113):
    """Where an actor is. Calls to a dead one get the ``error``. If not ``charged`` a restart costs calls no retry."""

    actor: bytes
    state: ActorPhase
    incarnation: int
    worker: Address
    why: str = ""
    path: str = ""
    cause: bytes = b""
    error: ActorErrorName = "ActorDiedError"
    charged: bool = True
    rank: int = -1  # of a gang that has ended: which was the first


class KillActor(Message, tag=114):
    """To an actor's owner: end it by force. Where it may restart, only the ``incarnation`` that is meant (-1: any)."""

    actor: bytes
    no_restart: bool = True
    incarnation: int = -1


class NewActor(Message, tag=115):
    """To the head: an id for a detached actor (the answer's data)."""

    req: int


class KeepActor(Message, tag=116):
    """To the head: make this actor, and own it. ``code`` is its class; ``job``, ``driver``: whose work it is. ``known``
    are the values among its arguments that are there."""

    req: int
    create: CreateActor
    held: dict[str, int]
    placement: dict[str, int]
    strategy: Any
    env: dict[str, str]
    restarts: int
    code: bytes
    job: bytes
    driver: Address
    known: dict[bytes, Result] = {}

"""A controller whose commands about one actor overlap: what is made is ended, and its placement group with it."""

from __future__ import annotations

import asyncio
import time
import weakref
from types import SimpleNamespace
from typing import Any

import pytest

from hpc.serve.config import DeploymentConfig
from hpc.serve.control import commands as say
from hpc.serve.control import controller as controllers
from hpc.serve.control.actors import GoneError
from hpc.serve.control.controller import Controller
from hpc.serve.messages import DeploymentID, ReplicaID
from hpc.serve.specs import AppFacts, DeploymentSpec

IDENT = ReplicaID("r0", DeploymentID("d", "app"))
START = say.Start(IDENT, DeploymentSpec("d", b"", b"", DeploymentConfig(), "a"), AppFacts("app", "/", "d"), 0, 1)


class Actor:
    """An actor whose calls have an answer when it is killed."""

    def __init__(self) -> None:
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *args: self.end)


class Slow:
    """Replicas whose actors take a while to make."""

    def __init__(self, why: str = "") -> None:
        self.why, self.forgotten = why, 0
        self.actor: Any = None

    def make(self, command: say.Start) -> Any:
        time.sleep(0.1)
        if self.why:
            raise ValueError(self.why)
        self.actor = self.ready
        return self.actor

    def get(self, replica: ReplicaID) -> Any:
        if self.actor is None:
            raise GoneError("there is none")
        return self.actor

    def forget(self, replica: ReplicaID) -> None:
        self.forgotten += 1


async def ended(replicas: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was killed of a replica that is to begin and to end at once."""
    killed: list[Any] = []

    def kill(actor: Any) -> None:
        killed.append(actor)
        actor.end.set_result(None)

    monkeypatch.setattr(controllers.hpc, "kill", kill)
    one = object.__new__(Controller)
    one._turns, one._tasks, one._guarded = weakref.WeakValueDictionary(), set(), set()
    one._changed = asyncio.Event()
    one._replicas, replicas.ready = replicas, Actor()
    nothing = lambda *args: None  # noqa: E731
    one._machine = SimpleNamespace(replica_dead=nothing, replica_failed=nothing, replica_begun=nothing)
    replicas.pickled = nothing
    for command in (START, say.Kill(IDENT, False)):
        one._spawn(one._do(command))
    by = time.monotonic() + 5
    while one._tasks and time.monotonic() < by:
        await asyncio.sleep(0.01)
    return killed


def test_a_replica_that_is_to_end_while_its_actor_is_made_is_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    replicas = Slow()
    assert asyncio.run(ended(replicas, monkeypatch)) == [replicas.ready]


def test_what_an_actor_that_could_not_be_made_has_taken_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    replicas = Slow("its environment cannot be made")
    assert asyncio.run(ended(replicas, monkeypatch)) == [] and replicas.forgotten

"""A controller whose commands about one actor overlap, and one that is given more than the head has room for."""

from __future__ import annotations

import asyncio
import time
import weakref
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from hpc import spi
from hpc.exceptions import HpcError
from hpc.serve.config import DeploymentConfig
from hpc.serve.control import actors
from hpc.serve.control import commands as say
from hpc.serve.control import controller as controllers
from hpc.serve.control.actors import GoneError
from hpc.serve.control.controller import Controller
from hpc.serve.control.keys import STATE_KEY, Keys
from hpc.serve.control.machine import Machine
from hpc.serve.control.proxies import Proxy
from hpc.serve.control.state import Writer
from hpc.serve.control.telling import Telling
from hpc.serve.exceptions import RayServeException
from hpc.serve.messages import DeploymentID, ReplicaID
from hpc.serve.specs import AppFacts, AppSpec, DeploymentSpec

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


def test_an_application_that_is_too_large_is_refused_and_nothing_else_suffers(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: dict[str, bytes] = {}

    def put(space: str, key: str, value: bytes) -> None:
        if sum(map(len, keys.values())) + len(value) > 10_000_000:
            raise HpcError("the key-value store is full")
        keys[key] = value

    def delete(space: str, key: str, prefix: bool = False) -> None:
        for one in [one for one in keys if one.startswith(key)]:
            del keys[one]

    monkeypatch.setattr(spi, "kv_put", put)
    monkeypatch.setattr(spi, "kv_delete", delete)
    one = object.__new__(Controller)
    one._writer, one._keys = Writer(), Keys()
    one._machine = Machine(lambda: "r0")

    async def deploy(size: int) -> None:
        spec = DeploymentSpec("d", b"", b"x" * size, DeploymentConfig(), "a")
        await one._keep_code([AppSpec("app", "/", "d", [spec])])

    with pytest.raises(RayServeException, match=r"11 MiB.*from a file"):
        asyncio.run(deploy(12_000_000))
    assert not keys
    asyncio.run(deploy(5_000_000))
    assert len(keys) == 2
    one._keys.write(one._writer.state_of(one._machine), one._writer.blobs)
    assert set(keys) == {STATE_KEY}


def test_what_is_left_of_a_service_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [("serve", IDENT.to_full_id_str()), ("serve", "SERVE_PROXY_ACTOR-1"), ("serve", "SERVE_CONTROLLER_ACTOR")]
    rows = [{"namespace": space, "name": name} for space, name in [*names, ("mine", "SERVE_PROXY_ACTOR-2")]]
    killed: list[str] = []

    def find(name: str) -> str:
        if name.startswith("SERVE_PROXY"):
            raise GoneError("it has ended")
        return name

    groups = [(actors.GANG_PREFIX + "1", "CREATED"), (actors.GANG_PREFIX + "2", "REMOVED"), ("mine", "CREATED")]
    table = {str(at): {"name": name, "state": state} for at, (name, state) in enumerate(groups)}
    freed: list[str] = []
    monkeypatch.setattr(actors.hpc.util, "list_named_actors", lambda all_namespaces: rows)
    monkeypatch.setattr(actors.hpc.util, "placement_group_table", lambda: table)
    monkeypatch.setattr(actors, "free_group", freed.append)
    monkeypatch.setattr(actors, "find", find)
    monkeypatch.setattr(actors.hpc, "kill", killed.append)
    actors.end_all()
    assert killed == [IDENT.to_full_id_str()] and freed == [actors.GANG_PREFIX + "1"]


def test_the_doors_of_a_proxy_that_is_gone_are_told_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    put: list[Any] = []
    monkeypatch.setattr(spi, "kv_put", lambda space, key, value: put.append(msgspec.msgpack.decode(value)))
    one = object.__new__(Controller)
    one._machine, one._told_doors, one._steps = Machine(lambda: "r0"), None, 0
    one._telling = Telling(one._machine)

    async def steps() -> None:
        one._settled = asyncio.Condition()
        table = one._machine.proxies.table
        table["1"], table["2"] = Proxy("1", doors=("unix:/s",)), Proxy("2")
        await one._step()
        await one._step()
        del table["1"]
        await one._step()

    asyncio.run(steps())
    assert put == [{"1": ["unix:/s"]}, {}] and one._steps == 3

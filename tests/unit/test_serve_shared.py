"""The shell around what replicas share: commands about one actor that overlap, and what another controller has left."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import defaultdict
from typing import Any

import pytest

from hpc.serve.config import DeploymentConfig, GangSchedulingConfig
from hpc.serve.control import actors
from hpc.serve.control import commands as say
from hpc.serve.control.crew import sweep_of
from hpc.serve.control.machine import Machine
from hpc.serve.control.shared import Shared
from hpc.serve.messages import DeploymentID, helper_name
from hpc.serve.specs import AppSpec, DeploymentSpec, HelperSpec

IDENT = DeploymentID("d", "app")
NAME = helper_name(IDENT, "v1", "cache")


def shared() -> tuple[Machine, Shared]:
    numbers, turns = itertools.count(1), defaultdict[str, asyncio.Lock](asyncio.Lock)
    machine = Machine(lambda: f"r{next(numbers)}")
    return machine, Shared(machine, turns.__getitem__, lambda: None)


def deploy(machine: Machine, version: str = "v1") -> None:
    config = DeploymentConfig(num_replicas=2, gang_scheduling_config=GangSchedulingConfig(gang_size=2))
    spec = DeploymentSpec("d", b"", b"", config, version, helpers=[HelperSpec("cache", b"")])
    machine.deploy([AppSpec("app", "/", "d", [spec])], 0.0)


class Actors:
    """Actors that are there, whose constructors end when they are told to, or killed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.there: dict[str, asyncio.Future[None]] = {}
        self.made = 0
        monkeypatch.setattr(actors, "make_helper", self.make)
        monkeypatch.setattr(actors, "helper_ready", self.ready)
        monkeypatch.setattr(actors, "end_helper", self.end)

    async def make(self, command: say.StartHelper) -> asyncio.Future[None]:
        self.made += 1
        await asyncio.sleep(0.01)
        self.loop = asyncio.get_running_loop()
        return self.there.setdefault(NAME, self.loop.create_future())

    async def ready(self, actor: asyncio.Future[None]) -> None:
        await actor

    def end(self, name: str) -> None:
        actor = self.there.pop(name, None)
        if actor is not None:
            self.loop.call_soon_threadsafe(actor.set_exception, RuntimeError("it was ended"))


def test_an_actor_whose_constructor_never_ends_can_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        world, (machine, one) = Actors(monkeypatch), shared()
        deploy(machine)
        (start,) = [command for command in machine.take() if isinstance(command, say.StartHelper)]
        tasks = [asyncio.ensure_future(one.do(start))]
        await asyncio.sleep(0.05)
        machine.delete(["app"], 1.0)
        (kill,) = [command for command in machine.take() if isinstance(command, say.KillHelper)]
        tasks.append(asyncio.ensure_future(one.do(kill)))
        await asyncio.wait_for(asyncio.gather(*tasks), 5)
        assert not world.there and not one._attempts

    asyncio.run(run())


def test_what_was_ended_says_nothing_of_what_has_begun_since(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        world, (machine, one) = Actors(monkeypatch), shared()
        tasks = []
        for now in (0.0, 1.0):
            deploy(machine)
            if not now:
                machine.delete(["app"], 0.5)
            for command in machine.take():
                if isinstance(command, (say.StartHelper, say.KillHelper)):
                    tasks.append(asyncio.ensure_future(one.do(command)))
        await asyncio.wait_for(asyncio.gather(*tasks[:2]), 5)
        while world.made < 2 or NAME not in world.there:
            await asyncio.sleep(0.01)
        ((key, helper),) = machine.deployments[IDENT].helpers.items()
        assert key == ("v1", "cache") and not helper.runs and len(tasks) == 3
        world.there[NAME].set_result(None)
        await asyncio.wait_for(tasks[2], 5)
        assert helper.runs

    asyncio.run(run())


def test_what_begins_while_another_controllers_things_are_ended_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        machine, one = shared()
        going, freed, ended = threading.Event(), [], []
        groups = ["SERVE_GANG::old"]

        def end(name: str) -> None:
            assert going.wait(5)
            ended.append(name)

        def there() -> tuple[list[str], list[str]]:
            """An actor begins between the command and the look."""
            machine.deployments[IDENT].helpers.update(known)
            return sorted([NAME, "old"]), groups

        monkeypatch.setattr(actors, "shared_there", there)
        monkeypatch.setattr(actors, "end_helper", end)
        monkeypatch.setattr(actors, "free_group", freed.append)
        deploy(machine)
        machine.take()
        known: dict[Any, Any] = dict(machine.deployments[IDENT].helpers)
        machine.deployments[IDENT].helpers.clear()
        command = sweep_of(machine.deployments.values())
        groups += [say.gang_name(IDENT, "r3")]
        task = asyncio.ensure_future(one.do(command))
        await asyncio.sleep(0.05)
        machine.helper_begun(IDENT, "v1", "cache", "", 1.0)
        assert [row.gang.pg_name for row in machine.deployments[IDENT].replicas.values() if row.gang] == groups[1:] * 2
        going.set()
        await asyncio.wait_for(task, 5)
        assert ended == ["old"] and freed == ["SERVE_GANG::old"]

    asyncio.run(run())


def test_one_that_begins_while_names_are_asked_for_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, one = shared()
    deploy(machine)
    machine.deploy([AppSpec("other", "/o", "d", [DeploymentSpec("d", b"", b"", DeploymentConfig(), "v1",
                                                               helpers=[HelperSpec("cache", b"")])])], 0.0)  # fmt: skip
    machine.helper_begun(DeploymentID("d", "other"), "v1", "cache", "", 1.0)
    machine.take()

    def names() -> set[str]:  # the answer was on its way as the second one began
        machine.helper_begun(IDENT, "v1", "cache", "", 2.0)
        return set()

    monkeypatch.setattr(actors, "names_there", names)
    asyncio.run(one.look())
    assert machine.deployments[IDENT].helpers["v1", "cache"].runs
    lost = machine.deployments[DeploymentID("d", "other")].helpers.get(("v1", "cache"))
    assert lost is None or not lost.runs, "that one has ended"


def test_one_that_answers_nothing_is_a_miss_and_one_that_has_ended_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        machine, one = shared()
        deploy(machine)
        machine.helper_begun(IDENT, "v1", "cache", "", 1.0)
        seen = []
        monkeypatch.setattr(machine, "helper_checked", lambda *args: seen.append(args[3]))

        async def never(actor: Any) -> None:
            await asyncio.Event().wait()

        def gone(name: str) -> Any:
            raise actors.GoneError(name)

        monkeypatch.setattr(actors, "helper_ready", never)
        monkeypatch.setattr(actors, "find", lambda name: object())
        await one.do(say.CheckHelper(IDENT, "v1", "cache", 0.01))
        monkeypatch.setattr(actors, "find", gone)
        await one.do(say.CheckHelper(IDENT, "v1", "cache", 0.01))
        assert seen == [False, True]

    asyncio.run(run())

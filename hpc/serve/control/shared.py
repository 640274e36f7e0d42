"""What replicas share, for the controller: the placement groups of gangs, and the actors of deployments."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from hpc import spi
from hpc.serve.control import actors, commands
from hpc.serve.control.crew import sweep_of
from hpc.serve.control.machine import Machine
from hpc.serve.messages import helper_name


class Shared:
    """Does what the machine says of them. ``turn``: the lock of a name. ``act``: the machine has something to do."""

    def __init__(self, machine: Machine, turn: Callable[[str], asyncio.Lock], act: Callable[[], None]) -> None:
        self._machine, self._turn, self._act = machine, turn, act
        #: The attempts that go on to make actors, by the actors' names.
        self._attempts: dict[str, object] = {}

    async def do(self, command: Any) -> None:
        """One command."""
        if isinstance(command, commands.StartHelper):
            await self._start(command)
        elif isinstance(command, commands.KillHelper):
            name = helper_name(command.deployment, command.version, command.name)
            self._attempts.pop(name, None)
            async with self._turn(name):
                await asyncio.to_thread(actors.end_helper, name)
        elif isinstance(command, commands.FreeGang):
            await asyncio.to_thread(actors.free_group, command.name)
        else:
            await self._sweep()

    async def _sweep(self) -> None:
        """What has begun since the command was said stays: it is looked for first, and compared then."""
        names, groups = await asyncio.to_thread(actors.shared_there)
        helpers = set(self._known().helpers)
        for name in [name for name in names if name not in helpers]:
            async with self._turn(name):
                if name not in self._known().helpers:
                    await asyncio.to_thread(actors.end_helper, name)
        known = set(self._known().groups)
        for name in [name for name in groups if name not in known]:
            await asyncio.to_thread(actors.free_group, name)

    def _known(self) -> commands.Sweep:
        return sweep_of(self._machine.deployments.values())

    async def _start(self, command: commands.StartHelper) -> None:
        """What ends it waits until it is made, but not for its constructor, which may never end."""
        name, why, attempt = helper_name(command.deployment, command.version, command.helper.name), "", object()
        self._attempts[name] = attempt
        try:
            async with self._turn(name):
                actor = await actors.make_helper(command)
            await actors.helper_ready(actor)
        except Exception as error:
            why = spi.said(error)
        if self._attempts.get(name) is not attempt:  # it was ended meanwhile, and another one may have begun
            return
        del self._attempts[name]
        self._machine.helper_begun(command.deployment, command.version, command.helper.name, why, time.time())
        self._act()

    async def look(self) -> None:
        """Notice the end of actors that replicas share."""
        if any(one.helpers for one in self._machine.deployments.values()):
            self._machine.actors_seen(await asyncio.to_thread(actors.names_there), time.time())
            self._act()

"""What replicas share, for the controller: the placement groups of gangs, and the actors of deployments."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from hpc import spi
from hpc.serve.control import actors, commands
from hpc.serve.control.crew import sweep_of
from hpc.serve.control.helpers import Helper
from hpc.serve.control.machine import Machine
from hpc.serve.messages import helper_name

logger = logging.getLogger("hpc.serve")


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
        elif isinstance(command, commands.CheckHelper):
            await self._check(command)
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
            await asyncio.wait_for(actors.helper_ready(actor), command.found_s)
        except asyncio.TimeoutError:
            why = f"it has taken no call for {command.found_s:g} s"
        except Exception as error:
            why = spi.said(error)
        if self._attempts.get(name) is not attempt:  # it was ended meanwhile, and another one may have begun
            return
        del self._attempts[name]
        self._machine.helper_begun(command.deployment, command.version, command.helper.name, why, time.time())
        self._act()

    async def look(self) -> None:
        """Notice the end of actors that replicas share. One that has begun since the names were asked for is there."""
        before = self._running()
        if before:
            names = await asyncio.to_thread(actors.names_there)
            names |= {name for name, helper in self._running().items() if before.get(name) is not helper}
            self._machine.actors_seen(names, time.time())
            self._act()

    def _running(self) -> dict[str, Helper]:
        deployments = self._machine.deployments.values()
        return {
            helper_name(one.id, *key): helper
            for one in deployments
            for key, helper in one.helpers.items()
            if helper.runs
        }

    async def _check(self, command: commands.CheckHelper) -> None:
        """Ask one whether it still takes calls. One that has ended is noticed otherwise."""
        name = helper_name(command.deployment, command.version, command.name)
        is_well = True
        try:
            actor = await asyncio.to_thread(actors.find, name)
            await actors.within(command.timeout_s, actors.helper_ready(actor))
        except asyncio.TimeoutError:
            is_well = False
        except Exception as error:
            logger.debug("%s could not be asked: %s", name, spi.said(error))
        self._machine.helper_checked(command.deployment, command.version, command.name, is_well, time.time())
        self._act()

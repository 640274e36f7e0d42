"""What replicas share, for the controller: the placement groups of gangs, and the actors of deployments."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from hpc import spi
from hpc.serve.control import actors, commands
from hpc.serve.control.machine import Machine
from hpc.serve.messages import helper_name


class Shared:
    """Does what the machine says of them. ``turn``: the lock of a name. ``act``: the machine has something to do."""

    def __init__(self, machine: Machine, turn: Callable[[str], asyncio.Lock], act: Callable[[], None]) -> None:
        self._machine, self._turn, self._act = machine, turn, act

    async def do(self, command: Any) -> None:
        """One command."""
        if isinstance(command, commands.StartHelper):
            await self._start(command)
        elif isinstance(command, commands.KillHelper):
            name = helper_name(command.deployment, command.version, command.name)
            async with self._turn(name):
                await asyncio.to_thread(actors.end_helper, name)
        elif isinstance(command, commands.FreeGang):
            await asyncio.to_thread(actors.free_group, command.name)
        else:
            await asyncio.to_thread(actors.sweep, command.groups, command.helpers)

    async def _start(self, command: commands.StartHelper) -> None:
        why = ""
        try:
            async with self._turn(helper_name(command.deployment, command.version, command.helper.name)):
                await actors.make_helper(command)
        except Exception as error:
            why = spi.said(error)
        self._machine.helper_begun(command.deployment, command.version, command.helper.name, why, time.time())
        self._act()

    async def look(self) -> None:
        """Notice the end of actors that replicas share."""
        if any(one.helpers for one in self._machine.deployments.values()):
            self._machine.actors_seen(await asyncio.to_thread(actors.names_there), time.time())
            self._act()

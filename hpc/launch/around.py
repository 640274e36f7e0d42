"""In what the nodes and the script run, where hpc-launch does not: an environment on their disks, an image."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hpc.core.node.rundir import described
from hpc.launch.container import enclose, script_command
from hpc.launch.stage import bring
from hpc.launchers.node_group import HERE, Surroundings
from hpc.launchers.registry import Place
from hpc.launchers.runtimes import table as runtimes
from hpc.launchers.session import Session
from hpc.launchers.staging.deliver import Look, Staged
from hpc.settings.errors import CliError
from hpc.settings.options import Settings


@dataclass(frozen=True)
class Around:
    """nodes: for their group. argv: the script's command line there."""

    nodes: Surroundings
    argv: Sequence[str]
    staged: Staged | None = None

    def clear(self, session: Session | None) -> None:
        """After the end: a node that was never started cannot take the environment away from its disk."""
        silent = session is None or any(
            not info.hello for info in session.nodes.values() if info.group is session.first
        )  # fmt: skip
        if self.staged is not None and silent:
            self.staged.clear()


def surround(
    settings: Settings, place: Place, count: int | None, argv: Sequence[str], tell: Callable[[str], object], look: Look
) -> Around:
    """Have it where the nodes are. tell: hears what takes long; look: raises to end it. CliError where it cannot be."""
    for option in ("stage", "container"):
        if settings[option] and (place.source.name == "hosts" or settings["runtime"] != runtimes.OWN):
            what = f"--{option} is for nodes that are started by hpc-launch, and for programs of this runtime"
            raise CliError("USAGE", what, where=settings.origin(option))
    enclosed = enclose(settings, place)
    if enclosed is not None:
        inside = script_command(enclosed, argv, module=settings["as_module"])
        ranks = settings["ranks_per_node"]  # they are started from inside
        return Around(enclosed, inside if ranks else [*_way_in(enclosed, place), *inside])
    staged = bring(settings, place, count, tell, look)
    if staged is None:
        return Around(HERE, argv)
    os.environ.update(staged.environment(os.environ))
    if place.alloc is not None and place.alloc.runs_here(os.uname().nodename):
        argv = [staged.around.python if word == sys.executable else word for word in argv]
    return Around(staged.around, argv, staged)


def driver_surroundings(node_dir: str) -> dict[str, str]:
    """What the node of this directory, on this machine, has set for network libraries and caches of compilers."""
    found = described(node_dir).get("environ")
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def _way_in(around: Surroundings, place: Place) -> Sequence[str]:
    """The words ahead of the script that enter the image; where the nodes' starter does that, by it."""
    if not around.step:
        return around.wrap
    here = os.uname().nodename
    alloc = place.alloc
    if alloc is None or not alloc.runs_here(here):
        what = "the script is to run inside the image, and this is no node of the allocation"
        raise CliError("CONTAINER", what, fix="start hpc-launch in a job script")
    (command,) = place.scheduler.on_each(alloc, [alloc.here or here], [], around.step)
    return command.argv

"""Where we are, and so what a session runs on: an allocation, a login node of a scheduler, or just this machine.

Shared by hpc-launch and `hpc.init()`, so that both come to the same answer. Decided from the environment and from
files alone: it costs nothing, and a dry run works while the scheduler is down.
Rejected: asking the scheduler (`scontrol ping`) to find out whether there is one: with the client installed but not
configured it looks in the DNS first.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpc.launchers.slurm import CONFIG_FILES, Allocation, allocation

if TYPE_CHECKING:
    from hpc.launchers.local import LocalGroup
    from hpc.launchers.slurm_group import SlurmGroup


@dataclass(frozen=True)
class Place:
    """`kind` is "allocation" (with `alloc`), "login" (a scheduler takes jobs here) or "local"."""

    kind: str
    scheduler: str
    alloc: Allocation | None = None


def slurm_configured(env: Mapping[str, str]) -> bool:
    """Whether sbatch is here and knows a cluster."""
    sbatch = shutil.which("sbatch", path=env.get("PATH"))
    if sbatch is None:
        return False
    beside = Path(sbatch).resolve().parent.parent / "etc" / "slurm.conf"
    return bool(env.get("SLURM_CONF")) or beside.exists() or any(os.path.exists(path) for path in CONFIG_FILES)


def find_place(env: Mapping[str, str] | None = None, wanted: str | None = None) -> Place:
    """The place, or the one that was asked for by --scheduler ("slurm", "local").

    ValueError when the environment speaks of an allocation that makes no sense.
    """
    env = os.environ if env is None else env
    if wanted == "local":
        return Place("local", "local")
    alloc = allocation(env)
    if alloc is not None:
        return Place("allocation", "slurm", alloc)
    if wanted == "slurm" or slurm_configured(env):
        return Place("login", "slurm")
    return Place("local", "local")


def session_options(place: Place) -> dict[str, bool]:
    """What `Session` is told about a driver that this process starts: whether it runs on one of the nodes."""
    return {"driver_host": place.alloc is None or place.alloc.runs_here(os.uname().nodename)}


def make_group(
    place: Place,
    nodes: int | None = None,
    *,
    fork: bool = False,
    step_args: Sequence[str] = (),
    base_dir: str | None = None,
) -> LocalGroup | SlurmGroup:
    """The group of nodes for a session at this place; in an allocation `nodes` defaults to all of it."""
    if place.alloc is None:
        from hpc.launchers.local import LocalGroup

        return LocalGroup(nodes or 1, fork=fork)
    from hpc.launchers.slurm_group import SlurmGroup, ask_job

    return SlurmGroup(place.alloc, nodes=nodes, job=ask_job(place.alloc), step_args=step_args, base_dir=base_dir)

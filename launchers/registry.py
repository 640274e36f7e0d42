"""Which schedulers there are, and where we are: in an allocation, on a login node of one, or just on this machine.

The one place that names schedulers: everybody else asks here and speaks to the face (scheduler.py). Shared by
hpc-launch and `hpc.init()`, so that both come to the same answer. Decided from the environment and from files alone: it
costs nothing, and a dry run works while the scheduler is down.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hpc.launchers.local.scheduler import Local
from hpc.launchers.pbs.scheduler import Pbs
from hpc.launchers.scheduler import Allocation, NodeSource, Scheduler, StepVariables
from hpc.launchers.slurm.scheduler import Slurm
from hpc.launchers.yarn.scheduler import Yarn

if TYPE_CHECKING:
    from hpc.launchers.node_group import NodeGroup, Surroundings

#: The schedulers that take jobs, in the order in which they are looked for.
SCHEDULERS: dict[str, Scheduler] = {Slurm.name: Slurm(), Pbs.name: Pbs(), Yarn.name: Yarn()}
LOCAL: NodeSource = Local()

#: Schedulers that have no folder here: a session in a job of theirs runs on this machine alone, and knows the job.
#: The variable with the job's id, and the scheduler's name.
OTHERS = {
    "LSB_JOBID": "lsf",
    "JOB_ID": "sge",
    "OAR_JOB_ID": "oar",
    "FLUX_JOB_ID": "flux",
}
OTHERS_STRIP = StepVariables(names=("FLUX_TASK_RANK", "FLUX_TASK_LOCAL_ID"))


@dataclass(frozen=True)
class Place:
    """Where a command is given: in an allocation (`alloc`), on a login node (a scheduler takes jobs), or elsewhere."""

    kind: Literal["allocation", "login", "local"]
    source: NodeSource
    alloc: Allocation | None = None

    @property
    def scheduler(self) -> Scheduler:
        """The scheduler of an allocation or a login node."""
        return SCHEDULERS[self.source.name]


def names() -> list[str]:
    """The values of --scheduler."""
    return [*SCHEDULERS, LOCAL.name]


def find_place(env: Mapping[str, str] | None = None, wanted: str | None = None) -> Place:
    """The place, or the one that was asked for by --scheduler (one of `names()`).

    BadAllocation when the environment speaks of an allocation that makes no sense.
    """
    env = os.environ if env is None else env
    if wanted == LOCAL.name:
        return Place("local", LOCAL)
    asked = [SCHEDULERS[wanted]] if wanted else list(SCHEDULERS.values())
    for scheduler in asked:
        alloc = scheduler.here(env)
        if alloc is not None:
            return Place("allocation", scheduler, alloc)
    for scheduler in asked:
        if wanted or scheduler.configured(env):
            return Place("login", scheduler)
    return Place("local", LOCAL)


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
    around: Surroundings | None = None,
) -> NodeGroup:
    """The group of nodes for a session at this place; in an allocation `nodes` defaults to all of it.

    Without an allocation the nodes are on this machine, on a login node too: nothing is submitted here.
    """
    source = LOCAL if place.kind == "login" else place.source
    return source.group(place.alloc, nodes, fork=fork, step_args=step_args, base_dir=base_dir, around=around)


# ---------------------------------------------------------------- what core is told as data


def _job_variables() -> dict[str, str]:
    return {**{s.job_env: name for name, s in SCHEDULERS.items()}, **OTHERS}


def job_of(env: Mapping[str, str]) -> dict[str, str]:
    """The job that this environment is part of: `{"scheduler": ..., "job_id": ...}`; empty outside any."""
    found = next(((name, env[variable]) for variable, name in _job_variables().items() if env.get(variable)), None)
    return {} if found is None else {"scheduler": found[0], "job_id": found[1]}


def job_mark(env: Mapping[str, str]) -> str:
    """The same in one word, to compare (NAME_OF_THE_VARIABLE=4711); "" outside any job."""
    return next((f"{variable}={env[variable]}" for variable in _job_variables() if env.get(variable)), "")


def strip() -> dict[str, list[str]]:
    """What no process of a node inherits, over all schedulers: a session on this machine may be started in a step."""
    parts = [*(scheduler.strip for scheduler in SCHEDULERS.values()), OTHERS_STRIP]
    return {
        "prefixes": [prefix for part in parts for prefix in part.prefixes],
        "names": [name for part in parts for name in part.names],
        "kept": [name for part in parts for name in part.kept],
    }

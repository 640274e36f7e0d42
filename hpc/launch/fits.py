"""Whether what was asked for on the command line means something at this place; said ahead of the start, never ignored
in silence.

The same command line is for a laptop, a login node and an allocation. So where there is no job to submit, what speaks
of one is only told of. What would change who waits for whom, and what cannot be given, is refused. Values of files and
the environment are not spoken of: they are for all places.
"""

from __future__ import annotations

import os

from hpc.launchers.registry import Place
from hpc.launchers.units import memory_bytes
from hpc.settings.errors import EXIT_USAGE, CliError
from hpc.settings.options import REQUESTED, TABLE, Settings

#: Options of the scheduler that mean something in an allocation, and on local nodes.
IN_ALLOCATION: tuple[str, ...] = ("nodes", "requeue")
ON_LOCAL_NODES = ("nodes", "gpus_per_node", "cpus_per_task", "mem")
#: Nobody expects anything of these where nothing is submitted.
QUIET = ("poll_interval", "test_only", "estimate")


def check_place(settings: Settings, place: Place) -> list[str]:
    """What is to be told; CliError for what cannot be."""
    if place.kind == "login" or settings["job"]:
        return []
    if place.alloc is not None:
        where = f"in {place.scheduler.title} job {place.alloc.job_id}, which has its nodes"
        known = IN_ALLOCATION
    else:
        where = "on nodes of this machine" if not settings["hosts"] else "on the machines of --hosts"
        known = ON_LOCAL_NODES
        if not settings["hosts"]:
            _check_memory(settings)
        if "," in (settings["gpus_per_node"] or ""):
            what = f"nodes of this machine have one kind of GPUs, not {settings['gpus_per_node']}"
            raise CliError("USAGE", what, where=settings.origin("gpus_per_node"), fix="--gpus-per-node=N")
    if settings["detach"]:
        what = f"--detach leaves a job that was submitted, and this script would run {where}"
        raise CliError("USAGE", what, fix="hpc start --head, then hpc job submit --no-wait -- python SCRIPT")
    unheard = [
        option.long
        for option in TABLE
        if (option.scope == "submit" or (option.name in REQUESTED and option.name not in known))
        and option.name not in QUIET
        and settings.origin(option.name) == option.long
        and settings[option.name] is not False
    ]
    if not unheard:
        return []
    return [f"the script runs {where}: nothing comes of {', '.join(unheard)}"]


def _check_memory(settings: Settings) -> None:
    """Local nodes may be given more CPUs than there are, but memory that is not there ends programs."""
    asked = memory_bytes(settings["mem"]) if settings["mem"] else 0
    have = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    nodes = int(settings["nodes"][1])
    if asked * nodes > have:
        each = have // nodes // 2**20
        many = f"{nodes} nodes with {settings['mem']} each" if nodes > 1 else settings["mem"]
        raise CliError(
            "TOO-MUCH-MEMORY", f"{many} asked for, and this machine has {have // 2**20}M", where=settings.origin("mem"),
            fix=f"--mem={each}M", exit_code=EXIT_USAGE,
        )  # fmt: skip

"""`--nodes=MIN-MAX`: how far a session may grow, by its settings; and what lets it grow at the place where it runs.

The session begins in a job of MIN nodes. Its hpc-launch asks for further ones, from where it runs: nothing has to stay
on a login node. What a further job asks for is written into the job's folder when the first one is submitted.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from hpc.launch.jobdir import JobDir
from hpc.launchers.batch_jobs import BatchJobs
from hpc.launchers.elastic import Limits, Policy
from hpc.launchers.further import Growth, JobSource, LocalJobs
from hpc.launchers.jobscript import module_lines
from hpc.launchers.local.group import LocalGroup
from hpc.launchers.loop import SessionLoop
from hpc.launchers.node_group import NodeGroup
from hpc.launchers.registry import Place
from hpc.launchers.runtimes.table import OWN
from hpc.launchers.scheduler import Request
from hpc.settings.errors import CliError
from hpc.settings.options import BY_NAME, Settings, request_of

#: In the job's folder: what the session inside has to know.
GROWTH = "growth.json"
#: Where the user has not said how large further jobs are, so many of them are enough for all nodes that may be added.
JOBS = 8
GROW_AFTER_S, SHRINK_AFTER_S = 10.0, 300.0


@dataclass(frozen=True)
class Wish:
    """A session of `least` to `most` nodes, and what its further jobs ask for."""

    least: int
    most: int
    request: Request
    setup: tuple[str, ...]
    cwd: str

    def save(self, job: JobDir) -> None:
        """For the hpc-launch in the job."""
        job.write(GROWTH, {**asdict(self), "request": asdict(self.request)})

    @classmethod
    def load(cls, content: Mapping[str, Any]) -> Wish:
        """What `save` wrote."""
        request = Request(**{**content["request"], "nodes": tuple(content["request"]["nodes"])})
        least, most = int(content["least"]), int(content["most"])
        return cls(least, most, request, tuple(content["setup"]), str(content["cwd"]))


def wish_of(settings: Settings) -> Wish | None:
    """What the settings ask for; None where the number of nodes is fixed. CliError for what does not go together."""
    least, most = settings["nodes"]
    if least == most:
        return None
    fixed = f"--nodes={least}"
    for name, asked, why, fix in (
        ("ranks_per_node", settings["ranks_per_node"], "ranks cannot join later", fixed),
        ("runtime", settings["runtime"] != OWN, "only sessions of this runtime grow", fixed),
        ("gpus", settings["gpus"], "they are counted for a job of fixed size", "--gpus-per-node=N"),
    ):
        if asked:
            what = f"{BY_NAME[name].long} and --nodes={least}-{most} do not go together: {why}"
            raise CliError("USAGE", what, where=settings.origin(name), fix=fix)
    setup = [*module_lines(settings["module"], purge=settings["module_purge"]), *settings["setup"]]
    return Wish(least, most, request_of(settings), tuple(setup), os.getcwd())


def nodes_of_first(settings: Settings, *, ranges: bool) -> tuple[int, int]:
    """The least and the most nodes of the first job. With --min-nodes it may start with fewer, where the scheduler
    takes `ranges`."""
    least = int(settings["nodes"][0])
    fewest = settings["min_nodes"] if ranges else None
    return (min(least, fewest or least), least)


def growth_words(settings: Settings, place: Place) -> str:
    """For a dry run."""
    wish = wish_of(settings)
    if wish is None or (place.alloc is not None and settings.origin("nodes") != "--nodes"):
        return ""
    each = of_each(settings, wish.least, wish.most)
    what = "nodes" if place.kind == "local" else f"jobs of {each} node{'' if each == 1 else 's'} each"
    return f"; further {what} when work waits, up to {wish.most} nodes in all"


def of_each(settings: Settings, first: int, most: int) -> int:
    """The nodes of one further job."""
    return int(settings["grow_by"] or max(1, math.ceil((most - first) / JOBS)))


def wish_here(settings: Settings, place: Place) -> Wish | None:
    """The same where the session runs. In an allocation only the flag counts, or what its submission wrote down."""
    if settings["job"]:
        content = JobDir(_path(settings["job"])).read(GROWTH)
        return Wish.load(content) if content else None
    if place.alloc is not None and settings.origin("nodes") != "--nodes":
        return None
    return wish_of(settings)


def _path(text: str) -> Any:
    from hpc.launch import jobdir

    return jobdir.expand(text)


def share_machine(group: NodeGroup, wish: Wish | None) -> None:
    """Nodes of this machine divide it among all that may come."""
    if wish is not None and isinstance(group, LocalGroup):
        group.share = max(wish.most, group.size)


def begin_growth(
    wish: Wish | None,
    loop: SessionLoop,
    settings: Settings,
    place: Place,
    job: JobDir | None,
    *,
    overrides: Mapping[str, Any],
    left_s: Callable[[], float | None],
    drain_s: float,
    say: Callable[[str], object],
) -> Growth | None:
    """Let a session that is ready grow, where it may and can."""
    first = loop.session.first.size
    if wish is None or wish.most <= first:
        return None
    source: JobSource
    if place.kind == "local":
        source = LocalJobs(max(wish.most, first))
    elif job is None:
        say("hpc: without a folder for this job no further nodes can be asked for (--job-dir)")
        return None
    else:
        order = {
            "interface": settings["interface"], "base_dir": settings["tmpdir"], "step_args": list(settings["step_arg"]),
            "env": dict(item.split("=", 1) for item in settings["env"]),
        }  # fmt: skip
        request = replace(wish.request, job_name=wish.request.job_name or job.job().get("name") or "hpc")
        source = BatchJobs(
            loop, place.scheduler, request, job.path, setup=wish.setup, cwd=wish.cwd, order=order
        )  # fmt: skip
    grow_s, shrink_s = settings["grow_after"], settings["shrink_after"]
    limits = Limits(
        max(wish.least, first), wish.most, of_each(settings, first, wish.most),
        GROW_AFTER_S if grow_s is None else grow_s, SHRINK_AFTER_S if shrink_s is None else shrink_s,
        drain_s, wish.request.time,
    )  # fmt: skip
    growth = Growth(
        loop, Policy(limits), source, overrides=overrides if place.kind == "local" else None, drain_s=drain_s,
        grace_s=settings["grace"], ask_s=settings["time_poll"], left_s=left_s, say=say,
    )  # fmt: skip
    growth.begin()
    return growth

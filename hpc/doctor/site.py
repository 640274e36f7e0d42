"""Checks that are made once, where the command was given: the scheduler, the profile, old sessions, the import."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping

from hpc.core.node import rundir
from hpc.doctor.finding import Finding, fail, ok, warn
from hpc.launchers.registry import Place, find_place
from hpc.launchers.scheduler import BadAllocation, NoAnswer
from hpc.settings.options import Settings

#: A scheduler that needs longer than this for a question is a busy one: poll it less.
SLOW_ANSWER_S = 5.0
SLOW_IMPORT_S = 3.0


def scheduler(wanted: str | None) -> Iterator[Finding]:
    """Which one is used here, and that it answers."""
    try:
        place: Place = find_place(wanted=wanted)
    except BadAllocation as error:
        yield fail("scheduler", str(error), error.fix)
        return
    if place.kind == "local":
        yield ok("scheduler", "none here: scripts run on nodes of this machine")
        return
    where = f"in job {place.alloc.job_id}" if place.alloc else "jobs can be submitted"
    begin = time.monotonic()
    try:
        place.scheduler.states([place.alloc.job_id if place.alloc else "1"])
    except NoAnswer as error:
        yield fail(
            "scheduler", f"{place.source.title} does not answer: {error}", "the cluster's fault: try again later"
        )
        return
    took_s = time.monotonic() - begin
    seen = f"{place.source.title}, {where}, answered in {took_s:.2f} s"
    if took_s > SLOW_ANSWER_S:
        yield warn("scheduler", seen, "busy: --poll-interval=2m asks less often")
    else:
        yield ok("scheduler", seen)


def profile(settings: Settings) -> Iterator[Finding]:
    """Which site profile counts."""
    named = settings["site"]
    yield ok("site", f"{named}, by {settings.origin('site')}" if named else "no profile knows this machine")


def sessions(env: Mapping[str, str]) -> Iterator[Finding]:
    """Sessions of this user on this machine, and what dead ones left."""
    live = {str(facts.get("session")) for facts in rundir.live_sessions(env)}
    yield ok("sessions", f"{len(live)} of yours on this machine" if live else "none of yours on this machine")


def import_time() -> Iterator[Finding]:
    """What each node pays once for its libraries."""
    code = "import importlib.util as u\nfor m in ('numpy', 'pyarrow'):\n    u.find_spec(m) and __import__(m)"
    begin = time.monotonic()
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        yield warn("imports", "numpy and pyarrow take more than 120 s", "a Python environment on a faster file system")
        return
    took_s = time.monotonic() - begin
    if done.returncode != 0:
        yield fail("imports", done.stderr.strip().splitlines()[-1], "the environment is broken: install it anew")
    elif took_s > SLOW_IMPORT_S:
        yield warn("imports", f"numpy and pyarrow take {took_s:.1f} s", "a Python environment on a faster file system")
    else:
        yield ok("imports", f"numpy and pyarrow take {took_s:.1f} s")

"""What becomes of a script: shown as a plan, submitted to a scheduler, or run on nodes that start here."""

from __future__ import annotations

import os
import socket
import sys
import time

from hpc.launch import jobdir
from hpc.launch.fits import check_place
from hpc.launch.jobdir import JobDir
from hpc.launchers.registry import Place, find_place
from hpc.launchers.scheduler import BadAllocation
from hpc.settings import errors
from hpc.settings.errors import CliError
from hpc.settings.options import Settings


def begin(settings: Settings) -> int:
    """Launch the script of the settings; returns the exit code. Raises CliError."""
    if settings.script is None:
        raise CliError("USAGE", "no script was given", fix="hpc-launch [options] SCRIPT [ARGS ...]")
    try:
        place = find_place(wanted=settings["scheduler"])
    except BadAllocation as error:
        what = "the environment speaks of an allocation that makes no sense"
        raise CliError("CONFIG", what, why=str(error), fix=error.fix) from None
    if place.kind != "local" and settings["step_arg"] and not place.scheduler.starts_with:
        what = f"--step-arg means nothing here: {place.scheduler.title} starts the nodes with the job"
        raise CliError("USAGE", what, where=settings.origin("step_arg"))
    for text in check_place(settings, place):
        errors.note(text)
    if settings["dry_run"] or (settings["test_only"] and place.kind != "login"):
        from hpc.launch.plan import show

        sys.stdout.write(show(settings, place))
        return 0
    if place.kind == "login":
        from hpc.launch.submit import submit

        return submit(settings, place)
    from hpc.launch.run import Run

    run = Run(settings, place, None)
    run.reporter.job = own_folder(settings, place)
    return run.run()


def own_folder(settings: Settings, place: Place) -> JobDir | None:
    """The folder of the job: given by --job in a submitted one; else a new one, and none where that is impossible."""
    if settings["job"]:
        return JobDir(jobdir.expand(settings["job"]))
    base = jobdir.expand(settings["job_dir"])
    try:
        jobdir.prune(base)
        job = jobdir.create(base, settings.origin("job_dir"))
        job.write(
            "job.json",
            {
                "number": job.number, "name": os.path.basename(str(settings.script)), "kind": "here",
                "scheduler": place.source.name, "scheduler_id": place.alloc.job_id if place.alloc is not None else "",
                "script": settings.script, "args": settings.args, "cwd": os.getcwd(), "argv": sys.argv,
                "nodes": settings["nodes"][1], "created": round(time.time(), 1),
                "host": socket.gethostname(), "log": "",
            },
        )  # fmt: skip
    except (CliError, OSError) as error:
        if settings["verbose"]:
            errors.note(f"no folder for this job: {error}")
        return None
    return job

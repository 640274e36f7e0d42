"""`hpc-launch [options] script.py [args]`: the same command on a laptop, on a login node and inside an allocation."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Sequence

from hpc.cli import jobdir
from hpc.cli.jobdir import JobDir
from hpc.launchers.registry import Place, find_place
from hpc.launchers.scheduler import BadAllocation
from hpc.settings import errors
from hpc.settings.errors import CliError
from hpc.settings.options import Settings, load


def main(argv: Sequence[str] | None = None) -> int:
    """Run hpc-launch; returns its exit code, and prints every error that the user can do something about."""
    try:
        return launch(sys.argv[1:] if argv is None else list(argv))
    except CliError as error:
        return errors.report(error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains once more at its end
        return 141
    except KeyboardInterrupt:
        return 130


def launch(argv: Sequence[str]) -> int:
    """The same, raising CliError."""
    settings = load(argv)
    if settings["help"]:
        from hpc.cli.manual import help_text

        sys.stdout.write(help_text())
        return 0
    if settings["version"]:
        from hpc._version import __version__

        print(f"hpc {__version__}")
        return 0
    if settings.script is None:
        raise CliError("USAGE", "no script was given", fix="hpc-launch [options] SCRIPT [ARGS ...]")
    try:
        place = find_place(wanted=settings["scheduler"])
    except BadAllocation as error:
        what = "the environment speaks of an allocation that makes no sense"
        raise CliError("CONFIG", what, why=str(error), fix=error.fix) from None
    if settings["dry_run"] or (settings["test_only"] and place.kind != "login"):
        from hpc.cli.plan import show

        sys.stdout.write(show(settings, place))
        return 0
    if place.kind == "login":
        from hpc.cli.submit import submit

        return submit(settings, place)
    from hpc.cli.inside import Run

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


if __name__ == "__main__":
    sys.exit(main())

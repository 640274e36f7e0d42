"""`hpc dashboard [JOB]`: a page in the browser that shows a running session."""

from __future__ import annotations

import errno
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from hpc.cli import session
from hpc.cli.words import ADDRESS, JOB_DIR, chosen, jobs_folder, of_jobs
from hpc.launch.standing import recent
from hpc.settings.errors import CliError
from hpc.settings.options import Option

USAGE = "hpc dashboard [JOB] [options]     a page in the browser; prints the line of ssh that leads to it"
TABLE = (
    ADDRESS,
    JOB_DIR,
    Option("port", ("--port",), "count", "the port on this machine (0: any free one)", "", metavar="N"),
    Option(
        "host",
        ("--host",),
        "text",
        "a name by which a proxy reaches it; may be repeated",
        "",
        metavar="NAME",
        repeat=True,
    ),
    Option("root", ("--root",), "text", "the path below which a proxy has it, /node/h/p", "", metavar="PATH"),
    Option("login", ("--login",), "text", "the machine by which ssh reaches this one", "", metavar="HOST"),
)


def run(words: list[str]) -> int:
    """Serve it until Ctrl-C or the end of the session; returns the exit code."""
    options, rest = of_jobs(words, TABLE)
    if len(rest) > 1:
        raise CliError("USAGE", "hpc dashboard shows one job", fix=f"hpc dashboard {rest[0]}")
    try:
        import hpc.dashboard.run
    except ModuleNotFoundError as missing:
        what = f"the dashboard needs {missing.name}, which is not installed"
        raise CliError("USAGE", what, fix="pip install 'hpc[dashboard]'") from None
    address = options["address"]
    if rest:
        job = chosen(options, rest)[0]
        if session.is_elsewhere(job):
            return session.run_there(job, ["dashboard", *_again(options)])
        address = session.address_of(job)
        if not address:
            what = f"the session of job {job.number} does not run"
            raise CliError("NO-SESSION", what, fix=f"hpc status {job.number}")
    with session.connected(address):
        from hpc.state.overview import own_directory

        hosts = tuple(options["host"] or ())
        wanted = hpc.dashboard.run.Wanted(options["port"] or 0, hosts, options["root"] or "", options["login"] or "")
        try:
            return hpc.dashboard.run.serve(own_directory(), wanted, _say, partial(_jobs, jobs_folder(options), address))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            what = f"port {wanted.port} of this machine cannot be listened at"
            raise CliError("USAGE", what, why=str(error), fix="another --port, or none for a free one") from None


def _again(options: dict[str, Any]) -> list[str]:
    """The options for the same command on another machine."""
    given = [f"--{name}={options[name]}" for name in ("port", "root", "login") if options[name]]
    return [*given, *(f"--host={name}" for name in options["host"] or ())]


def _jobs(base: Path, address: str | None) -> dict[str, Any]:
    """The user's jobs, and the commands that were submitted to sessions of this machine."""
    from hpc.job_submission import JobSubmissionClient

    try:
        submitted = [asdict(info) for info in JobSubmissionClient(address).list_jobs()]
    except (ConnectionError, RuntimeError):  # no session of `hpc start`, or several
        submitted = []
    return {"jobs": recent(base), "submitted": submitted}


def _say(line: str) -> None:
    print(line, flush=True)

"""`hpc report [JOB]`: one file that says why a job ended, what it used, and what to change."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hpc.cli import session
from hpc.cli.files import writing
from hpc.cli.words import ADDRESS, JOB_DIR, JSON, jobs_folder, of_jobs
from hpc.launch import jobdir
from hpc.launch.jobdir import JobDir
from hpc.launch.standing import standing
from hpc.settings import errors
from hpc.settings.errors import CliError
from hpc.settings.options import Option

USAGE = "hpc report [JOB] [options]     why it ended, what it used, what to change"
OUT = Option("out", ("-o", "--out"), "text", "where the page goes (the job's folder, else ./report.html)", "",
             metavar="FILE")  # fmt: skip
TABLE = (OUT, ADDRESS, JOB_DIR, JSON)


def run(words: list[str]) -> int:
    """Write it; returns the exit code."""
    options, rest = of_jobs(words, TABLE)
    if len(rest) > 1:
        raise CliError("USAGE", "one job at a time", fix=f"hpc report {rest[0]}")
    base = jobs_folder(options)
    if not rest and (options["address"] or (session.is_there() and not session.is_jobs(base, or_started=True))):
        return _of_session(options)
    (job,) = jobdir.select(base, rest)
    return _of_job(options, job)


def _of_session(options: dict[str, Any]) -> int:
    """The session that runs here, as it is now."""
    from hpc.report import look
    from hpc.report.facts import Ending

    with session.connected(options["address"]):
        facts = look.facts_now()
    facts.ending = Ending("running", "one look at the session, now: it has no folder with what was before")
    return _write(options, facts, Path("report.html"))


def _of_job(options: dict[str, Any], job: JobDir) -> int:
    from hpc.report import write
    from hpc.report.ending import ending_of

    (row,) = standing([job])
    facts = write.kept(job.path)
    address = session.address_of(job)
    if not facts.uses and address:
        from hpc.report import look

        with session.connected(address):
            facts = look.facts_now()
    facts.job = write.job_of(job.path, facts.job.asked_s)
    facts.ending = ending_of(row, job.status())
    return _write(options, write.with_events(facts, job.path), job.path / write.REPORT)


def _write(options: dict[str, Any], facts: Any, default: Path) -> int:
    from hpc.report import write

    if options["json"]:
        sys.stdout.write(write.as_json(facts))
        return 0
    path = Path(options["out"]) if options["out"] else default
    with writing(path, "-o FILE"):
        write.publish(path, facts)
    errors.note(f"written to {path}", sys.stdout)
    return 0

"""`hpc cancel`: end jobs."""

from __future__ import annotations

import sys

from hpc.cli.words import JOB_DIR, chosen, of_jobs
from hpc.launch.cancel import cancel_job
from hpc.settings import errors
from hpc.settings.errors import CliError

USAGE = "hpc cancel JOB ... [options]"
TABLE = (JOB_DIR,)


def run(words: list[str]) -> int:
    """End jobs; those that have ended are left as they are."""
    options, rest = of_jobs(words, TABLE)
    if not rest:
        raise CliError("USAGE", "which job?", fix="hpc cancel last")
    failed = 0
    for job in chosen(options, rest):
        try:
            errors.note(f"job {job.number}: {cancel_job(job)}", sys.stdout)
        except CliError as error:
            failed = errors.report(error)
    return failed

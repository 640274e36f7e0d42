"""`hpc attach`: follow a job that was left."""

from __future__ import annotations

from hpc.cli.words import JOB_DIR, chosen, of_jobs
from hpc.launch.carry import again
from hpc.launch.follow import Follower
from hpc.settings.errors import CliError
from hpc.settings.options import BY_NAME, load

USAGE = "hpc attach [JOB] [options]"
TABLE = (BY_NAME["quiet"], JOB_DIR)


def run(words: list[str]) -> int:
    """Follow a job again."""
    options, rest = of_jobs(words, TABLE)
    (job, *more) = chosen(options, rest)
    if more:
        raise CliError("USAGE", "one job at a time can be followed", fix=f"hpc attach {job.number}")
    if job.job().get("kind") != "submitted":
        what = f"job {job.number} is one of a terminal on {job.job().get('host')}"
        raise CliError("AT-TERMINAL", what, fix=f"hpc status {job.number}")
    follower = Follower(job, quiet=bool(options["quiet"]), interval_s=load([])["poll_interval"], tail_lines=10)
    with again(job):
        return follower.follow()

"""`hpc attach`: follow a job that was left."""

from __future__ import annotations

from hpc.cli.words import chosen, of_jobs
from hpc.launch.follow import Follower
from hpc.settings.errors import CliError
from hpc.settings.options import BY_NAME, load


def run(words: list[str]) -> int:
    """Follow a job again."""
    options, rest = of_jobs(words, BY_NAME["quiet"])
    (job, *more) = chosen(options, rest)
    if more:
        raise CliError("USAGE", "one job at a time can be followed", fix=f"hpc attach {job.number}")
    if job.job().get("kind") != "submitted":
        raise CliError(
            "NOT-OURS", f"job {job.number} runs at a terminal on {job.job().get('host')}: it cannot be followed"
        )
    return Follower(job, quiet=bool(options["quiet"]), interval_s=load([])["poll_interval"], tail_lines=10).follow()

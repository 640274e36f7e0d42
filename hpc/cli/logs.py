"""`hpc logs`: a job's output, or what workers wrote."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpc.cli import worker_logs
from hpc.cli.words import ADDRESS, FOLLOW, JOB_DIR, chosen, of_jobs
from hpc.launch import rank_files
from hpc.launch.follow import Follower, tail_offset
from hpc.launch.jobdir import JobDir
from hpc.launch.verdict import has_begun
from hpc.settings import errors
from hpc.settings.errors import CliError
from hpc.settings.options import Option

USAGE = """\
hpc logs [JOB ...] [-f] [-n LINES]
       hpc logs [JOB] --rank N [-n LINES]
       hpc logs [JOB] --worker ID | --actor ID | --task ID | --node N | --failed [options]"""
TABLE = (
    FOLLOW,
    Option("lines", ("-n", "--tail", "--lines"), "count", "how many of the last lines", "", metavar="LINES"),
    Option("worker", ("--worker",), "text", "what this worker wrote", "", metavar="ID"),
    Option("actor", ("--actor",), "text", "what the worker of this actor wrote", "", metavar="ID|NAME"),
    Option("task", ("--task",), "text", "what this task wrote", "", metavar="ID"),
    Option("node", ("--node",), "text", "what all workers of this node wrote", "", metavar="N"),
    Option("rank", ("--rank",), "text", "what this rank wrote after another had failed", "", metavar="N"),
    Option("failed", ("--failed",), "switch", "what workers wrote that ended unexpectedly", "", default=False),
    Option("out", ("--out",), "switch", "stdout only", "", default=False),
    Option("err", ("--err",), "switch", "stderr only", "", default=False),
    ADDRESS,
    JOB_DIR,
)


def run(words: list[str]) -> int:
    """Print a job's output, or what workers wrote."""
    options, rest = of_jobs(words, TABLE)
    if any(options[name] for name in worker_logs.CHOICES):
        return worker_logs.show(options, chosen(options, rest) if rest else [], lambda: chosen(options, []))
    jobs = chosen(options, rest)
    if options["rank"]:
        return _of_rank(options, jobs)
    for job in jobs:
        log, waits = job.output(), job.job().get("kind") == "submitted" and not has_begun(job.status())
        if not log and not waits:
            what = f"job {job.number} wrote to the terminal where it ran"
            raise CliError("AT-TERMINAL", what, fix=f"hpc logs {job.number} --failed")
        if options["follow"] and len(jobs) == 1 and job.status().get("state") != "ended":
            return Follower(job, quiet=True, tail_lines=options["lines"]).follow()
        if not log:
            errors.note(f"job {job.number} has not begun: only then is it known where it writes")
            continue
        path = Path(log)
        if not _print(path, options):
            errors.note(f"job {job.number} has written nothing yet ({path})")
    sys.stdout.flush()
    return 0


def _print(path: Path, options: dict[str, Any]) -> bool:
    """Print a file, or its last lines; False if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(tail_offset(path, options["lines"]) if options["lines"] else 0)
            while block := file.read(1 << 20):
                sys.stdout.buffer.write(block)
    except FileNotFoundError:
        return False
    return True


def _of_rank(options: dict[str, Any], jobs: Sequence[JobDir]) -> int:
    rank = options["rank"]
    if not rank.isdigit():
        raise CliError("USAGE", f"a rank is a number, not {rank}", fix="hpc logs JOB --rank 0")
    if len(jobs) > 1:
        raise CliError("USAGE", "one job at a time", fix=f"hpc logs {jobs[0].number} --rank {rank}")
    for job in jobs:
        if not _print(rank_files.path_of(job.path, int(rank)), options):
            errors.note(f"job {job.number} keeps nothing of rank {rank}: it wrote nothing after another had failed")
    sys.stdout.flush()
    return 0

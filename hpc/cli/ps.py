"""`hpc ps`: your jobs."""

from __future__ import annotations

import json

from hpc.cli.table import show_table
from hpc.cli.words import JOB_DIR, JSON, jobs_folder, of_jobs
from hpc.launch import jobdir
from hpc.launch.standing import recent, standing
from hpc.settings.durations import short
from hpc.settings.options import Option

USAGE = "hpc ps [JOB ...] [options]"
NAME_LETTERS = 40
TABLE = (
    Option("all", ("-a", "--all"), "switch", "all jobs that have ended too, not the last few", "", default=False),
    JOB_DIR,
    JSON,
)


def run(words: list[str]) -> int:
    """List jobs; those that run or wait, and the last few that ended."""
    options, rest = of_jobs(words, TABLE)
    base = jobs_folder(options)
    rows = standing(jobdir.select(base, rest)) if rest else recent(base, bool(options["all"]))
    if options["json"]:
        print(json.dumps(rows, indent=1))
        return 0
    table: list[tuple[object, ...]] = [("JOB", "ID", "NAME", "STATE", "NODES", "AGE", "EXIT")]
    for r in rows:
        code = "" if r["exit_code"] is None else r["exit_code"]
        name = r["name"] if len(r["name"]) <= NAME_LETTERS else r["name"][: NAME_LETTERS - 3] + "..."
        cells = (r["job"], r["scheduler_id"] or "-", name, r["state"], r["nodes"] or "", short(r["age_s"]), code)
        table.append(cells)
    show_table(table)
    return 0

"""`hpc status`: a session that runs here, or jobs."""

from __future__ import annotations

import json

from hpc.cli import session, session_status
from hpc.cli.words import ADDRESS, JOB_DIR, JSON, chosen, jobs_folder, of_jobs
from hpc.launch import jobdir
from hpc.launch.jobdir import over
from hpc.launch.standing import standing
from hpc.settings import errors
from hpc.settings.durations import short
from hpc.settings.errors import CliError
from hpc.state.overview import session_overview

USAGE = "hpc status [JOB ...] [options]"
TABLE = (ADDRESS, JOB_DIR, JSON)


def run(words: list[str]) -> int:
    """All about some jobs, and about a session that runs."""
    options, rest = of_jobs(words, TABLE)
    if options["address"] or (not rest and session.is_there() and not session.is_jobs(jobs_folder(options))):
        with session.connected(options["address"]):
            found = session_overview()
        if options["json"]:
            print(json.dumps(found, indent=1))
        else:
            session_status.show(found)
        return 0
    jobs = chosen(options, rest) if rest or jobdir.jobs(jobs_folder(options)) else []
    if not jobs:
        what = "no session of yours runs on this machine, and no job is known"
        raise CliError("NO-SESSION", what, fix="hpc-launch SCRIPT")
    if not rest and over(jobs[0]):
        errors.note(f"no session of yours runs here: this is the last job, {jobs[0].number}")
    rows = standing(jobs)
    for job, row in zip(jobs, rows, strict=True):
        if row["state"] == "running":
            row["session"] = session.look_into(job)
            if row["session"] is None:
                row |= standing([job])[0]  # it may have ended in the meantime
    if options["json"]:
        print(json.dumps(rows, indent=1))
        return 0
    for i, r in enumerate(rows):
        print(f"{chr(10) if i else ''}job {r['job']}" + (f" ({r['scheduler_id']})" if r["scheduler_id"] else ""))
        pairs = [("name", r["name"]), ("state", r["state"]), ("now", r["text"]), ("nodes", r["nodes"])]
        pairs += [("missing", "; ".join(r["missing"])), ("age", short(r["age_s"])), ("exit", r["exit_code"])]
        pairs += [("why", r["why"]), ("output", r["log"]), ("folder", r["folder"])]
        for name, value in pairs:
            if value not in (None, ""):
                print(f"  {name:<8} " + str(value).replace("\n", f"\n  {'':<8} "))
        if r.get("session"):
            session_status.show(r["session"])
    return 0

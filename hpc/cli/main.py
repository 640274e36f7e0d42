"""`hpc <command>`: what there is to do about jobs besides starting them."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpc.cli import jobdir
from hpc.cli.jobdir import JobDir
from hpc.launchers.registry import SCHEDULERS
from hpc.launchers.scheduler import JobInfo, NoAnswer
from hpc.settings import errors
from hpc.settings.durations import short
from hpc.settings.errors import CliError
from hpc.settings.options import BY_NAME, Option, load, parse_words

_JSON = Option("json", ("--json",), "switch", "machine-readable", "", default=False)
_DIR = BY_NAME["job_dir"]
_QUIET = BY_NAME["quiet"]
_TAIL = Option("lines", ("-n", "--tail", "--lines"), "count", "how many of the last lines", "", metavar="LINES")
_FOLLOW = Option("follow", ("-f", "--follow"), "switch", "go on until the job ends", "", default=False)
_ADDRESS = Option("address", ("--address",), "text", "a session's id (default: the only one)", "", metavar="ADDR")
LOG_OPTIONS = (
    Option("worker", ("--worker",), "text", "what this worker wrote", "", metavar="ID"),
    Option("actor", ("--actor",), "text", "what the worker of this actor wrote", "", metavar="ID|NAME"),
    Option("task", ("--task",), "text", "what this task wrote", "", metavar="ID"),
    Option("node", ("--node",), "text", "what all workers of this node wrote", "", metavar="N"),
    Option("failed", ("--failed",), "switch", "what workers wrote that ended unexpectedly", "", default=False),
    Option("out", ("--out",), "switch", "stdout only", "", default=False),
    Option("err", ("--err",), "switch", "stderr only", "", default=False),
    _ADDRESS,
)
_ALL = Option("all", ("-a", "--all"), "switch", "jobs that have ended too", "", default=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `hpc`; returns the exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] == ["launch"]:
        from hpc.cli import launch

        return launch.main(words[1:])
    try:
        return _dispatch(words)
    except CliError as error:
        return errors.report(error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except KeyboardInterrupt:
        return 130


def _dispatch(words: list[str]) -> int:
    name = words[0] if words else "--help"
    if name in ("-h", "--help", "help"):
        sys.stdout.write(_help())
        return 0
    if name == "--version":
        from hpc._version import __version__

        print(f"hpc {__version__}")
        return 0
    if name in SESSION_COMMANDS:
        import importlib

        run: Callable[[list[str]], int] = importlib.import_module(SESSION_COMMANDS[name]).run
        return run(words)
    if name not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(name, [*COMMANDS, *SESSION_COMMANDS, "launch"], 1)
        raise CliError("USAGE", f"no such command: hpc {name}", fix=f"hpc {near[0]}" if near else "hpc --help")
    command, table = COMMANDS[name]
    found, rest = _parse_mixed([*table, _DIR, _JSON], words[1:])
    return command({**{option.name: None for option in (*table, _DIR, _JSON)}, **found}, rest)


def _parse_mixed(table: Sequence[Option], words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Options may stand before or after the jobs."""
    found: dict[str, Any] = {}
    selectors: list[str] = []
    while words:
        given, words = parse_words(table, words)
        found.update(given)
        if words:
            selectors.append(words.pop(0))
    return found, selectors


def _help() -> str:
    from hpc.cli.manual import COMMANDS as TEXTS

    lines = ["usage: hpc COMMAND ...", ""]
    lines += [f"  {command:<44} {text}" for command, text in TEXTS]
    return "\n".join([*lines, "", "JOB: a number of `hpc ps`, 1-3, last, all, or the scheduler's id.", ""])


def _base(options: dict[str, Any]) -> Any:
    if options["job_dir"]:
        return jobdir.expand(options["job_dir"])
    return jobdir.expand(load([])["job_dir"])


def _chosen(options: dict[str, Any], rest: list[str]) -> list[JobDir]:
    return jobdir.select(_base(options), rest)


# ---------------------------------------------------------------- how a job stands


def standing(jobs: Sequence[JobDir]) -> list[dict[str, Any]]:
    """One row per job: what its folder says, corrected by one question to the scheduler for those not ended."""
    rows = [_row(job) for job in jobs]
    asked: dict[str, list[dict[str, Any]]] = {}  # by scheduler
    for job, row in zip(jobs, rows, strict=True):
        if row["state"] != "ended" and row["kind"] == "submitted" and row["scheduler_id"]:
            asked.setdefault(str(job.job().get("scheduler", "")), []).append(row)
    for name, mine in asked.items():
        seen = _ask(name, [row["scheduler_id"] for row in mine])
        for row in mine:
            if row["scheduler_id"] in seen:
                _correct(row, seen[row["scheduler_id"]])
            elif seen:
                row["state"], row["text"] = "lost", "not known to the scheduler any more"
    return rows


def _row(job: JobDir) -> dict[str, Any]:
    content, status = job.job(), job.status()
    state = str(status.get("state", "unknown"))
    if content.get("kind") == "here" and state != "ended" and jobdir.over(job):
        state = "lost"
    since = float(content.get("created", 0.0))
    until = float(status.get("updated", since)) if state in ("ended", "lost") else time.time()
    return {
        "job": job.number, "scheduler_id": str(content.get("scheduler_id", "")), "name": content.get("name", ""),
        "kind": content.get("kind", ""), "state": state, "nodes": status.get("nodes_ready", content.get("nodes")),
        "age_s": round(max(0.0, until - since), 1), "exit_code": status.get("exit_code"), "reason": "",
        "left_s": status.get("left_s"),
        "text": status.get("text", ""), "why": status.get("why", ""), "missing": status.get("missing", []),
        "log": content.get("log", ""), "folder": str(job.path), "host": status.get("host", ""),
    }  # fmt: skip


def _ask(name: str, ids: Sequence[str]) -> Mapping[str, JobInfo]:
    scheduler = SCHEDULERS.get(name)
    if scheduler is None:
        errors.note(f"the scheduler {name!r} is not known here; states are as last written")
        return {}
    try:
        return scheduler.states(ids)
    except NoAnswer as silence:
        errors.note(f"the scheduler does not answer ({silence}); states are as last written")
        return {}


def _correct(row: dict[str, Any], info: JobInfo) -> None:
    if info.phase == "queued":
        row["state"], row["reason"] = "queued", info.reason
        row["text"] = f"queued    {info.why}"
    elif info.phase == "running":
        shown = info.left and row["left_s"] is None and row["state"] == "running"
        row["text"] += f"  left {info.left}" if shown else ""
    else:
        row["state"] = "ended"
        row["text"] = row["why"] = f"{info.state}: {info.why}"


def ps(options: dict[str, Any], rest: list[str]) -> int:
    """List jobs; those that run or wait, and the last few that ended."""
    base = _base(options)
    jobs = jobdir.select(base, rest) if rest else jobdir.jobs(base)
    if not rest and not options["all"]:
        open_jobs = [j for j in jobs if not (j.status().get("state") == "ended" or jobdir.over(j))]
        jobs = sorted({j.number: j for j in [*open_jobs, *jobs[-5:]]}.values(), key=lambda j: j.number)
    rows = standing(jobs)
    if options["json"]:
        print(json.dumps(rows, indent=1))
        return 0
    table = [("JOB", "ID", "NAME", "STATE", "NODES", "AGE", "EXIT")]
    for r in rows:
        code = "" if r["exit_code"] is None else str(r["exit_code"])
        cells = (r["job"], r["scheduler_id"] or "-", r["name"], r["state"], r["nodes"] or "", short(r["age_s"]), code)
        table.append(tuple(map(str, cells)))  # type: ignore[arg-type]
    widths = [max(len(row[i]) for row in table) for i in range(7)]
    for row in table:
        print("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip())
    return 0


def status(options: dict[str, Any], rest: list[str]) -> int:
    """All about some jobs, and about a session that runs."""
    from hpc.cli import session, session_status

    if options["address"] or (not rest and session.is_there() and not session.is_jobs(_base(options))):
        with session.connected(options["address"]):
            found = session_status.gathered()
        if options["json"]:
            print(json.dumps(found, indent=1))
        else:
            session_status.show(found)
        return 0
    jobs = _chosen(options, rest)
    rows = standing(jobs)
    for job, row in zip(jobs, rows, strict=True):
        if row["state"] == "running":
            row["session"] = session.look_into(job)
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


# ---------------------------------------------------------------- doing something about it


def logs(options: dict[str, Any], rest: list[str]) -> int:
    """Print a job's output, or what workers wrote."""
    from hpc.cli import worker_logs
    from hpc.cli.follow import Follower, tail_offset

    if any(options[name] for name in worker_logs.CHOICES):
        return worker_logs.run(options, _chosen(options, rest) if rest else [], lambda: _chosen(options, []))
    jobs = _chosen(options, rest)
    for job in jobs:
        log = job.job().get("log")
        if not log:
            raise CliError("NO-JOB", f"job {job.number} wrote to the terminal where it ran: nothing is kept")
        path = Path(log)
        if options["follow"] and len(jobs) == 1 and job.status().get("state") != "ended":
            return Follower(job, quiet=True, tail_lines=options["lines"]).follow()
        try:
            with path.open("rb") as file:
                file.seek(tail_offset(path, options["lines"]) if options["lines"] else 0)
                while block := file.read(1 << 20):
                    sys.stdout.buffer.write(block)
        except FileNotFoundError:
            errors.note(f"job {job.number} has written nothing yet ({path})")
    sys.stdout.flush()
    return 0


def attach(options: dict[str, Any], rest: list[str]) -> int:
    """Follow a job again."""
    from hpc.cli.follow import Follower

    (job, *more) = _chosen(options, rest)
    if more:
        raise CliError("USAGE", "one job at a time can be followed", fix=f"hpc attach {job.number}")
    if job.job().get("kind") != "submitted":
        raise CliError(
            "NOT-OURS", f"job {job.number} runs at a terminal on {job.job().get('host')}: it cannot be followed"
        )
    return Follower(job, quiet=bool(options["quiet"]), interval_s=load([])["poll_interval"], tail_lines=10).follow()


def cancel(options: dict[str, Any], rest: list[str]) -> int:
    """End jobs; those that have ended are left as they are."""
    if not rest:
        raise CliError("USAGE", "which job?", fix="hpc cancel last")
    from hpc.cli.cancel import cancel_job

    failed = 0
    for job in _chosen(options, rest):
        try:
            errors.note(f"job {job.number}: {cancel_job(job)}", sys.stdout)
        except CliError as error:
            failed = errors.report(error)
    return failed


def explain(options: dict[str, Any], rest: list[str]) -> int:
    """What an error code means."""
    if not rest:
        print("\n".join(errors.CATALOGUE))
        return 0
    text = errors.explain(rest[0])
    if text is None:
        raise CliError("USAGE", f"no such error code: {rest[0]}", why=f"there are: {', '.join(errors.CATALOGUE)}")
    print(text)
    return 0


#: Commands about sessions that outlive a script; each module has `run(words)`, the first word being the command.
SESSION_COMMANDS = {
    "start": "hpc.cli.start",
    "stop": "hpc.cli.start",
    "job": "hpc.cli.job",
    **dict.fromkeys(("get", "list", "memory", "stack", "summary", "timeline", "why"), "hpc.cli.look"),
    "microbenchmark": "hpc.cli.microbenchmark",
    "debug": "hpc.cli.debug",
}
Command = Callable[[dict[str, Any], list[str]], int]
COMMANDS: dict[str, tuple[Command, tuple[Option, ...]]] = {
    "ps": (ps, (_ALL,)),
    "status": (status, (_ADDRESS,)),
    "logs": (logs, (_FOLLOW, _TAIL, *LOG_OPTIONS)),
    "attach": (attach, (_QUIET,)),
    "cancel": (cancel, ()),
    "explain": (explain, ()),
}

if __name__ == "__main__":
    sys.exit(main())

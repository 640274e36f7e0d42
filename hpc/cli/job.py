"""`hpc job submit | list | status | logs | stop | delete`: commands that run in a session of `hpc start`.

Thin: all that they do is `hpc.job_submission`.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from hpc.cli.helping import help_text
from hpc.cli.session import no_session
from hpc.cli.table import show_table
from hpc.cli.words import ADDRESS, FOLLOW, HELP, JSON, parse_mixed
from hpc.job_submission import JobInfo, JobStatus, JobSubmissionClient
from hpc.settings import errors
from hpc.settings.errors import CliError
from hpc.settings.options import Option, parse_words

_NO_WAIT = Option("no_wait", ("--no-wait",), "switch", "return at once", "", default=False)
_SUBMIT = (
    ADDRESS,
    Option("working_dir", ("--working-dir",), "path", "directory to run in (default: this one)", "", metavar="DIR"),
    Option("runtime_env_json", ("--runtime-env-json",), "text", "runtime_env as JSON", "", metavar="JSON"),
    Option("submission_id", ("--submission-id",), "text", "the job's id (default: a new one)", "", metavar="ID"),
    Option("metadata_json", ("--metadata-json",), "text", "names and texts to keep with it", "", metavar="JSON"),
    _NO_WAIT,
)

USAGE = """\
hpc job submit [options] -- CMD ...
       hpc job list [options]
       hpc job status | logs | stop | delete ID [options]     (hpc job submit --help lists the options, and so on)"""


def run(words: list[str]) -> int:
    """`hpc job ...`; returns the exit code: of `submit` (without --no-wait) and `logs -f` the command's own."""
    name = words[1] if len(words) > 1 else ""
    if name not in COMMANDS:
        raise CliError("USAGE", f"no such command: hpc job {name}", fix=f"hpc job {next(iter(COMMANDS))}")
    command, table = COMMANDS[name]
    parse = parse_words if name == "submit" else parse_mixed  # what follows its options is a command of its own
    if words[2:3] and words[2] in HELP.flags:
        sys.stdout.write(help_text(usage_of(name), table))
        return 0
    given, rest = parse(table, words[2:])
    try:
        return command(JobSubmissionClient(given.get("address")), given, rest)
    except ConnectionError as error:
        raise no_session(error) from None
    except (ValueError, TypeError, NotImplementedError) as error:
        raise CliError("USAGE", str(error)) from None
    except RuntimeError as error:
        raise CliError("REFUSED", str(error)) from None


def usage_of(name: str) -> str:
    """How one of these commands is called."""
    return f"hpc job {name} " + {"submit": "[options] -- CMD ...", "list": "[options]"}.get(name, "ID [options]")


def _one(rest: Sequence[str]) -> str:
    if len(rest) != 1:
        raise CliError("USAGE", "one job's id is needed", fix="hpc job list")
    return rest[0]


def _json(flag: str, text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError as error:
        raise CliError("USAGE", f"{flag}: not JSON: {text!r}", why=str(error)) from None
    if not isinstance(value, dict):
        raise CliError("USAGE", f"{flag}: not a JSON object: {text!r}")
    return value


def submit(client: JobSubmissionClient, given: Mapping[str, Any], rest: list[str]) -> int:
    """Start a command in the session, and follow it."""
    if not rest:
        raise CliError("USAGE", "no command was given", fix="hpc job submit -- python script.py")
    runtime_env = _json("--runtime-env-json", given.get("runtime_env_json"))
    if "working_dir" in given:
        runtime_env["working_dir"] = given["working_dir"]
    job = client.submit_job(
        entrypoint=rest[0] if len(rest) == 1 else shlex.join(rest),
        runtime_env=runtime_env,
        submission_id=given.get("submission_id"),
        metadata=_json("--metadata-json", given.get("metadata_json")),
    )
    if given.get("no_wait"):
        print(job)
        return 0
    errors.note(f"job {job} in session {client.get_address()}; Ctrl-C leaves it running, hpc job stop {job} ends it")
    return _follow(client, job)


def _follow(client: JobSubmissionClient, job: str) -> int:
    async def show() -> None:
        async for text in client.tail_job_logs(job):
            sys.stdout.write(text)
            sys.stdout.flush()

    try:
        asyncio.run(show())
    except KeyboardInterrupt:
        errors.note(f"job {job} goes on: hpc job logs -f {job}")
        return errors.EXIT_DETACHED
    return _end(client.get_job_info(job))


def _end(info: JobInfo) -> int:
    if info.status != JobStatus.SUCCEEDED:
        errors.note(f"job {info.submission_id} {info.status}: {info.message.splitlines()[0]}")
    code = info.driver_exit_code
    if code is None or info.status == JobStatus.SUCCEEDED:
        return 0 if info.status == JobStatus.SUCCEEDED else 1
    return code if code >= 0 else 128 - code  # as a shell says it


def list_all(client: JobSubmissionClient, given: Mapping[str, Any], rest: list[str]) -> int:
    """All jobs of the session."""
    jobs = client.list_jobs()
    if given.get("json"):
        print(json.dumps([asdict(info) for info in jobs], indent=1))
        return 0
    rows = [("ID", "STATUS", "EXIT", "ENTRYPOINT")]
    for info in jobs:
        code = "" if info.driver_exit_code is None else str(info.driver_exit_code)
        rows.append((info.submission_id, str(info.status), code, info.entrypoint))
    show_table(rows)
    return 0


def status(client: JobSubmissionClient, given: Mapping[str, Any], rest: list[str]) -> int:
    """One job."""
    info = client.get_job_info(_one(rest))
    if given.get("json"):
        print(json.dumps(asdict(info), indent=1))
        return 0
    print(f"{info.submission_id}  {info.status}: {info.message}")
    return 0


def logs(client: JobSubmissionClient, given: Mapping[str, Any], rest: list[str]) -> int:
    """What a job has written."""
    job = _one(rest)
    if given.get("follow"):
        return _follow(client, job)
    sys.stdout.write(client.get_job_logs(job))
    return 0


def stop(client: JobSubmissionClient, given: Mapping[str, Any], rest: list[str]) -> int:
    """End a job."""
    job = _one(rest)
    stopped = client.stop_job(job)
    info = client.get_job_info(job) if given.get("no_wait") else client.wait_until_ended(job, 60.0)
    print(f"job {job} {'was asked to stop' if stopped else 'had ended'}: {info.status}")
    return 0


def delete(client: JobSubmissionClient, given: Mapping[str, Any], rest: list[str]) -> int:
    """Forget a job."""
    job = _one(rest)
    client.delete_job(job)
    print(f"job {job} is forgotten")
    return 0


Command = Callable[[JobSubmissionClient, Mapping[str, Any], list[str]], int]
COMMANDS: dict[str, tuple[Command, tuple[Option, ...]]] = {
    "submit": (submit, _SUBMIT),
    "list": (list_all, (ADDRESS, JSON)),
    "status": (status, (ADDRESS, JSON)),
    "logs": (logs, (ADDRESS, FOLLOW)),
    "stop": (stop, (ADDRESS, _NO_WAIT)),
    "delete": (delete, (ADDRESS,)),
}

"""What workers wrote, of a session that runs or of a job that has ended: `hpc logs --worker`, `--actor`, `--task` ...

What went to stdout goes to stdout, what went to stderr to stderr; with several files each begins with a line that names
it. Of a job that has ended only the archived logs are there (see `archive`).
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hpc.cli import session
from hpc.launch import archive
from hpc.launch.jobdir import JobDir
from hpc.settings import errors
from hpc.settings.errors import CliError

#: Options that choose workers; one of them is given.
CHOICES = ("worker", "actor", "task", "node", "failed")
#: Lines of each file where several workers are shown and nobody said how many.
MANY_LINES = 20

Options = dict[str, Any]


@dataclass
class Shown:
    """One file to be shown: its name for people, and who reads it."""

    title: str
    suffix: str
    reader: Any


def show(options: Options, jobs: Sequence[JobDir], last: Callable[[], list[JobDir]]) -> int:
    """Print what was asked for; ``last`` finds the job that is meant where no session runs."""
    given = [f"--{name}" for name in CHOICES if options[name]]
    if len(given) > 1:
        raise CliError("USAGE", f"one of {', '.join(given)} at a time", fix="hpc logs --worker ID")
    if len(jobs) > 1:
        raise CliError("USAGE", "one job at a time", fix=f"hpc logs {jobs[0].number} {given[0]}")
    if not jobs:
        try:
            with session.connected(options["address"]):
                return _live(options)
        except CliError as error:
            if error.code != "NO-SESSION" or options["address"] or session.is_there():
                raise
            try:
                jobs = last()
            except CliError:
                raise error from None
            errors.note(f"no session of yours runs here: this is job {jobs[0].number}")
    job = jobs[0]
    address = session.address_of(job)
    if address:
        with session.connected(address):
            return _live(options)
    if session.is_elsewhere(job):
        return session.run_there(job, ["logs", *_words(options)])
    return _ended(options, job)


def _words(options: Options) -> list[str]:
    words = [f"--{name}={options[name]}" for name in CHOICES if options[name] and name != "failed"]
    words += [f"--{name}" for name in ("failed", "out", "err", "follow") if options[name]]
    return words + ([f"--tail={options['lines']}"] if options["lines"] is not None else [])


def _suffixes(options: Options) -> list[str]:
    wanted = [suffix for suffix in ("out", "err") if options[suffix]]
    return wanted or ["out", "err"]


# ---------------------------------------------------------------- a session that runs


def _live(options: Options) -> int:
    from hpc.state import worker_logs

    try:
        with _notes():
            shown = [Shown(title, suffix, worker_logs.Reader(part)) for title, suffix, part in _parts(options)]
            quiet = _quiet(options, {one.title for one in shown})
            if not shown and not quiet:
                errors.note("no worker has ended unexpectedly" if options["failed"] else "nothing was written")
                return 0
            for title in quiet:
                _stream("err").write(f"==== {title}\n(it wrote nothing)\n".encode())
            _stream("err").flush()
            _print(shown, options)
    except (FileNotFoundError, ValueError) as error:
        raise CliError("USAGE", str(error), fix="hpc list workers") from None
    return 0


@contextmanager
def _notes() -> Iterator[None]:
    """What the library warns of is said as our notes are, when all of it is known."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            for warning in caught:
                errors.note(str(warning.message))


def _parts(options: Options) -> Iterator[tuple[str, str, Any]]:
    """(title, suffix, part) of the files that are meant."""
    from hpc.state import gather, worker_logs

    if options["failed"] or options["node"]:
        rows = {row["worker_id"]: row for row in gather.from_raylets("ended").rows}
        if options["node"]:
            worker_logs.find_node(options["node"], None)
        for row in worker_logs.files(int(options["node"]) if options["node"] else None):
            worker, suffix = row["worker_id"], row["file"].rpartition(".")[2]
            ended = rows.get(worker)
            wanted = worker and row["size_bytes"] and suffix in _suffixes(options)
            if wanted and (options["node"] or (ended is not None and ended["failed"])):
                yield _title(worker, suffix, ended), suffix, worker_logs.of_worker(worker, suffix)
        return
    for suffix in _suffixes(options):
        if options["worker"]:
            part = worker_logs.of_worker(options["worker"], suffix)
        elif options["actor"]:
            part = worker_logs.of_actor(options["actor"], suffix)
        else:
            part = worker_logs.of_task(_whole_id(options["task"]), suffix)
        if part.note and suffix == _suffixes(options)[0]:
            errors.note(part.note)
        yield part.file, suffix, part


def _quiet(options: Options, shown: set[str]) -> list[str]:
    """Of workers that ended unexpectedly, those that wrote nothing that would be shown."""
    if not options["failed"]:
        return []
    from hpc.state import gather

    failed = [row for row in gather.from_raylets("ended").rows if row["failed"]]
    suffixes = _suffixes(options)
    silent = [row for row in failed if not any(_title(row["worker_id"], one, row) in shown for one in suffixes)]
    return [f"worker {row['worker_id']}: {row['exit_brief']}" for row in silent]


def _whole_id(wanted: str) -> str:
    """The id of the task that begins or ends with these digits."""
    from hpc.state.tasks import task_rows

    wanted = wanted.lower()
    found = {
        row["task_id"] for row in task_rows() if row["task_id"].startswith(wanted) or row["task_id"].endswith(wanted)
    }
    if len(found) > 1:
        raise ValueError(f"{len(found)} tasks have an id that begins or ends with {wanted}")
    return found.pop() if found else wanted


def _title(worker: str, suffix: str, ended: dict[str, Any] | None) -> str:
    what = f"worker {worker} std{suffix}"
    return f"{what}: {ended['exit_brief']}" if ended is not None else what


def _stream(suffix: str) -> Any:
    return (sys.stderr if suffix == "err" else sys.stdout).buffer


def _print(shown: Sequence[Shown], options: Options) -> None:
    from hpc.state import worker_logs

    several = bool(options["failed"] or options["node"])
    lines = options["lines"] if options["lines"] is not None else (MANY_LINES if several else -1)
    for one in shown:
        stream = _stream(one.suffix)
        if several:
            stream.write(f"==== {one.title}\n".encode())
        for data in one.reader.there(lines):
            stream.write(data)
        stream.flush()
    left = list(shown) if options["follow"] else []
    while left:
        quiet = True
        for one in list(left):
            data = one.reader.more()
            if data is None:
                left.remove(one)
            elif data:
                quiet = False
                _stream(one.suffix).write(data)
                _stream(one.suffix).flush()
        if quiet and left:
            time.sleep(worker_logs.FOLLOW_S)


# ---------------------------------------------------------------- a job that has ended


def _ended(options: Options, job: JobDir) -> int:
    if options["actor"] or options["task"]:
        raise CliError(
            "NO-SESSION", f"job {job.number} has ended, and with it what its tasks and actors were",
            why="of workers that ended unexpectedly the logs were kept", fix=f"hpc logs {job.number} --failed",
        )  # fmt: skip
    kept = archive.read(job.path)
    if kept is None:
        why = "no worker ended unexpectedly" if job.status().get("state") == "ended" else "it has not ended yet"
        errors.note(f"job {job.number} has no logs of workers: {why}")
        return 0
    workers = kept.index["workers"]
    if options["worker"]:
        workers = [row for row in workers if row["worker_id"] == options["worker"]]
    elif options["node"]:
        workers = [row for row in workers if row["node_id"] == str(options["node"])]
    if not workers and not options["failed"]:
        known = ", ".join(row["worker_id"] for row in kept.index["workers"][:20]) or "none"
        raise CliError(
            "USAGE", "no log of that was kept: only workers that ended unexpectedly leave theirs", why=f"kept: {known}",
            fix=f"hpc logs {job.number} --failed",
        )  # fmt: skip
    for row in workers:
        for suffix in _suffixes(options):
            stream = _stream(suffix)
            data = kept.text(row["worker_id"], suffix)
            if data or suffix == _suffixes(options)[-1]:
                stream.write(f"==== {_title(row['worker_id'], suffix, row)}\n".encode())
            if options["lines"] is not None:
                data = b"".join(data.splitlines(keepends=True)[-options["lines"] :]) if options["lines"] else b""
            stream.write(data)
            stream.flush()
    for node in kept.index["nodes"]:
        errors.note(f"node {node['node']} ({node['host']}) died, its logs with it: {node['why']}")
    if kept.index["left_out"]:
        errors.note(f"{kept.index['left_out']} more workers failed; the archive was full")
    return 0

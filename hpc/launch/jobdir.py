"""One folder per job, on the file system that the nodes share: what was asked, how it stands, what it wrote.

    <job_dir>/<number>/   job.json      written by who starts the job, then never changed but for the scheduler's id
                          status.json   how it stands; written by the hpc-launch that runs the script
                          events.jsonl  what happened, one JSON object a line
                          driver.log    the output of a submitted job
                          report.html   why it ended, what it used; record.json has what that is made of

Numbers are given by an exclusive mkdir, so that any number of commands can start jobs at once. JSON files are
replaced as a whole (write, rename), so a reader never sees half a file. At most these few files, whatever the job
does. Rejected: a database (locks on NFS), the scheduler's id as the name (not known before the script is written).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc.launchers.registry import SCHEDULERS
from hpc.launchers.scheduler import Scheduler
from hpc.settings.errors import CliError

KEPT_LOCAL = 20  # folders of finished jobs that ran at a terminal; they hold no output
#: What a folder is of: a run at a terminal, or a session of `hpc start`. Neither has a scheduler that could be asked.
HERE, SESSION = "here", "session"
OF_THIS_MACHINE = (HERE, SESSION)
STATES = ("submitting", "queued", "starting", "running", "ended")


@dataclass(frozen=True)
class JobDir:
    """The folder of one job."""

    path: Path

    @property
    def number(self) -> int:
        return int(self.path.name)

    @property
    def log(self) -> Path:
        """Where the output of a submitted job goes, unless --output said otherwise (job.json "log")."""
        return self.path / "driver.log"

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Replace a JSON file as a whole."""
        target = self.path / name
        scratch = self.path / f".{name}.{os.getpid()}"
        data = json.dumps(content, indent=1, sort_keys=True) + "\n"
        with scratch.open("w") as out:
            out.write(data)
        os.replace(scratch, target)

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file, {} when it is not there (yet)."""
        try:
            content = json.loads((self.path / name).read_text())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def job(self) -> dict[str, Any]:
        return self.read("job.json")

    def status(self) -> dict[str, Any]:
        return self.read("status.json")

    def scheduler_id(self) -> str:
        """The scheduler's id; the job itself tells it where the submission was interrupted before it could."""
        return str(self.job().get("scheduler_id") or self.status().get("scheduler_id") or "")

    def output(self) -> str:
        """The file of its output, "" where that is not known. The job itself tells a name that its scheduler makes."""
        return str(self.job().get("log") or self.status().get("log") or "")

    def event(self, name: str, **fields: Any) -> None:
        """Append one event."""
        line = json.dumps({"t": round(time.time(), 3), "event": name, **fields}) + "\n"
        with (self.path / "events.jsonl").open("a") as out:
            out.write(line)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def expand(base: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(base)))


def create(base: Path, origin: str) -> JobDir:
    """A new folder with the next number; CliError when it cannot be made or written (quota)."""
    try:
        base.mkdir(parents=True, exist_ok=True, mode=0o700)
        number = max(_numbers(base), default=0) + 1
        while True:
            path = base / str(number)
            try:
                path.mkdir(mode=0o700)
                break
            except FileExistsError:
                number += 1
        job = JobDir(path)
        job.write("probe.json", {"probe": "x" * 4096})  # a full quota shows here, not after the job has waited
        (path / "probe.json").unlink()
    except OSError as error:
        raise CliError(
            "JOB-DIR",
            f"the job's folder cannot be written: {base}",
            where=f"job_dir ({origin})",
            why=str(error),
            fix="--job-dir=DIR, on a file system that the compute nodes share",
        ) from None
    return job


def _numbers(base: Path) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(base) if name.isdigit())
    except OSError:
        return []


def jobs(base: Path) -> list[JobDir]:
    """All jobs, oldest first."""
    return [JobDir(base / str(number)) for number in _numbers(base)]


def by_scheduler_id(base: Path, scheduler_id: str) -> JobDir | None:
    """The newest job with this id of the scheduler."""
    return next((j for j in reversed(jobs(base)) if scheduler_id and j.scheduler_id() == scheduler_id), None)


def select(base: Path, words: Sequence[str]) -> list[JobDir]:
    """`last`, `all`, `3`, `1-3`, a scheduler's id, `NAME:4711`; without words, `last`. CliError when none matches."""
    found: dict[int, JobDir] = {}
    for word in words or ["last"]:
        matches = _select_one(base, word)
        if not matches:
            known = ", ".join(str(n) for n in _numbers(base)[-8:]) or "none"
            raise CliError("NO-JOB", f"no job matches {word!r}", why=f"known in {base}: {known}", fix="hpc ps")
        found.update({job.number: job for job in matches})
    return [found[number] for number in sorted(found)]


def _select_one(base: Path, word: str) -> list[JobDir]:
    known = jobs(base)
    if word == "last":
        return known[-1:]
    if word == "all":
        return known
    span = re.fullmatch(r"(\d+)-(\d+)", word)
    if span:
        return [j for j in known if int(span.group(1)) <= j.number <= int(span.group(2))]
    scheme, colon, scheduler_id = word.rpartition(":")
    if not colon and word.isdigit() and int(word) in {j.number for j in known}:
        return [JobDir(base / word)]
    job = by_scheduler_id(base, scheduler_id)
    return [job] if job is not None and scheme in ("", job.job().get("scheduler")) else []


def scheduler_of(job: JobDir) -> Scheduler:
    """The scheduler that the job was submitted to; CliError when its folder does not say, or names an unknown one."""
    name = str(job.job().get("scheduler", ""))
    if name not in SCHEDULERS:
        what = f"job {job.number} was submitted to a scheduler that is not known here: {name!r}"
        raise CliError("NO-JOB", what, where=str(job.path / "job.json"), why=f"there are: {', '.join(SCHEDULERS)}")
    return SCHEDULERS[name]


def prune(base: Path) -> None:
    """Forget old finished jobs that ran at a terminal (they have no output here)."""
    finished = [j for j in jobs(base) if j.job().get("kind") in OF_THIS_MACHINE and over(j)]
    for job in finished[:-KEPT_LOCAL]:
        job.remove()


def has_ended(status: dict[str, Any]) -> bool:
    """Whether the last word of status.json holds; of a job that may be put back into the queue the scheduler has it."""
    return status.get("state") == "ended" and not status.get("runs_again")


def over(job: JobDir) -> bool:
    """Whether a job that runs (or ran) on this machine has ended, also when it was killed and could not say so."""
    status = job.status()
    if status.get("state") == "ended":
        return has_ended(status)
    if status.get("host") != socket.gethostname() or not status.get("pid"):
        return False
    return not process_is(int(status["pid"]), int(status.get("born", 0)))


def birth(pid: int) -> int:
    """The start time of a process in the kernel's ticks, 0 when it is gone: tells a process from a later namesake."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    fields = stat.rsplit(")", 1)[1].split()
    return 0 if fields[0] in "ZX" else int(fields[19])


def process_is(pid: int, born: int) -> bool:
    now = birth(pid)
    return now != 0 and (born == 0 or now == born)

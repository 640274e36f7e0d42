"""From a login node: write the job script, submit it, and follow the job as if it ran here.

The order matters. status.json says "queued" before the scheduler is called, since the job may start at once and write
its own. A refused job leaves no folder behind.
Rejected: letting the submitting command wait (it says nothing while the job is queued, and dies with the terminal).
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hpc.launch import carry, jobdir, plan
from hpc.launch.chain import CANCELLED, Link, link_of
from hpc.launch.follow import Follower
from hpc.launch.growth import wish_of
from hpc.launch.jobdir import JobDir
from hpc.launch.old_output import OldOutput
from hpc.launch.stage import prepare
from hpc.launch.status_line import StatusLine, line
from hpc.launch.verdict import Verdict, write_down
from hpc.launchers.joinfile import JoinFile
from hpc.launchers.registry import Place
from hpc.launchers.run import readable_bytes, while_waiting
from hpc.launchers.scheduler import Diagnosis, Refused, Scheduler
from hpc.settings import errors
from hpc.settings.errors import CliError
from hpc.settings.options import Settings


def submit(settings: Settings, place: Place) -> int:
    """Submit, then follow or leave; returns the exit code."""
    carry.check(settings)
    base = jobdir.expand(settings["job_dir"])
    job = jobdir.create(base, settings.origin("job_dir"))
    if not settings["carry"]:
        return _submit(settings, place, job, None)
    try:
        with carry.porter(job.path, settings["output"], settings["interface"]) as join:
            carry.copy_files(settings, job.path)
            return _submit(settings, place, job, join)
    except CliError:
        if not (job.path / "job.json").exists():  # nothing was asked of the scheduler
            job.remove()
        raise


def _submit(settings: Settings, place: Place, job: JobDir, join: JoinFile | None) -> int:
    """With a new folder; join: of what carries it."""
    link = Link(1, settings["chain"], job.path) if settings["chain"] else None
    try:
        made = plan.make_plan(settings, place.scheduler, job.path, link, join)
        plan.check_outputs(made)
        if settings["stage"] and not settings["test_only"]:
            prepare(settings, _told(settings))
            made = plan.make_plan(settings, place.scheduler, job.path, link)
        if settings["test_only"]:
            return _test_only(settings, place, made)
        job_id = _hand_in(settings, place.scheduler, made, job, link)
    except _Unsure as unsure:
        raise unsure.error from None
    except BaseException:
        job.remove()
        raise
    finally:
        if settings["test_only"]:
            job.remove()
    chain, later = [job], Later(settings, place.scheduler, [job_id])
    if link is not None and later.at_once:
        chain += _hand_in_rest(settings, place.scheduler, job_id, link)
    elif link is not None:
        link.write_ids(later.ids)
    if stdin_has_something():
        errors.note("a submitted script reads nothing from here: what came on this command's standard input is left")
    if settings["detach"]:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        if settings["json"]:
            print(json.dumps({"job": job.number, "scheduler_id": job_id, "folder": str(job.path)}))
        else:
            print(job_id, flush=True)
            more = f" and {len(chain) - 1} that go on after it" if link is not None else ""
            errors.note(f"job {job.number} submitted{more} · hpc attach {job.number} · hpc cancel {job.number}")
        return 0
    return _follow(settings, chain, later)


@dataclass
class Later:
    """The links of a chain that are submitted when the one before has ended: where no job can wait for another."""

    settings: Settings
    scheduler: Scheduler
    ids: list[str]

    @property
    def at_once(self) -> bool:
        """Whether all links can be submitted with the first."""
        return "dependency" in self.scheduler.column

    def after(self, link: Link) -> JobDir:
        """Submit the link after this one."""
        number = link.number + 1
        job = jobdir.create(jobdir.expand(self.settings["job_dir"]), self.settings.origin("job_dir"))
        following = Link(number, link.links, link.folder)
        made = plan.make_plan(self.settings, self.scheduler, job.path, following)
        try:
            self.ids.append(_hand_in(self.settings, self.scheduler, made, job, following))
        except _Unsure as unsure:
            raise unsure.error from None
        except CliError:
            job.remove()
            raise
        following.write_ids(self.ids)
        return job


def _told(settings: Settings) -> Callable[[str], object]:
    """What hears of things that take long: the user, unless nothing is to be said."""
    return (lambda text: None) if settings["quiet"] else errors.note


def _follow(settings: Settings, jobs: Sequence[JobDir], later: Later) -> int:
    """A job to its end, and those of its chain that go on after it."""
    code = 0
    chain = list(jobs)
    log, size = None, 0  # the output of the job before, and how much of it was copied
    for job in chain:  # it may grow meanwhile
        link = link_of(job)
        follower = Follower(job, quiet=settings["quiet"], interval_s=settings["poll_interval"], submitted=True)
        if log is not None and follower.log == log:
            follower.old = OldOutput.up_to(log, size)
        try:
            code = follower.follow()
        except CliError as error:
            if error.code not in ("WALLTIME", "SESSION-LOST") or link is None or link.number == link.links:
                raise  # else it was ended before it could say that the script goes on
            code = error.exit_code
            if error.code == "SESSION-LOST":
                errors.note(f"{error}: the chain goes on")
        else:
            if link is None or not _goes_on(link, code):
                return code
        log, size = follower.log, follower.offset if follower.old is None else follower.old.size
        if link.number < link.links and not later.at_once:
            chain.append(later.after(link))
    return code


def _goes_on(link: Link, code: int) -> bool:
    """Whether there is something to do for the job after this one, which has ended. One that said nothing at all may
    have lost its nodes: then there is, unless somebody has cancelled it."""
    outcome = link.said().get("outcome")
    return outcome == "continue" or (outcome is None and code not in (CANCELLED, errors.EXIT_CANCELLED))


def _hand_in_rest(settings: Settings, scheduler: Scheduler, first_id: str, first: Link) -> list[JobDir]:
    """The other links of a chain; none of them stays where one cannot be submitted."""
    ids, made_jobs = [first_id], []
    base = jobdir.expand(settings["job_dir"])
    for number in range(2, first.links + 1):
        first.write_ids(ids)
        job = jobdir.create(base, settings.origin("job_dir"))
        link = Link(number, first.links, first.folder)
        try:
            ids.append(_hand_in(settings, scheduler, plan.make_plan(settings, scheduler, job.path, link), job, link))
        except (CliError, _Unsure) as error:
            for job_id in ids:
                scheduler.cancel(job_id)
            errors.note(f"{link.name} was not taken: the others are cancelled")
            raise error.error if isinstance(error, _Unsure) else error from None
        made_jobs.append(job)
    first.write_ids(ids)
    return made_jobs


def stdin_has_something() -> bool:
    """Whether somebody has piped or redirected something into this command."""
    try:
        kind = os.fstat(0)
        if stat.S_ISREG(kind.st_mode):
            return kind.st_size > os.lseek(0, 0, os.SEEK_CUR)
        return (stat.S_ISFIFO(kind.st_mode) or stat.S_ISSOCK(kind.st_mode)) and readable_bytes(0) > 0
    except OSError:
        return False


def _hand_in(settings: Settings, scheduler: Scheduler, made: plan.Plan, job: JobDir, link: Link | None) -> str:
    content = {
        **({"chain": link.text} if link is not None else {}),
        "number": job.number, "name": made.name, "kind": "submitted", "scheduler": scheduler.name, "scheduler_id": "",
        "script": settings.script, "args": settings.args, "cwd": os.getcwd(), "nodes": settings["nodes"][1],
        "argv": sys.argv, "submit": list(made.submit), "created": round(time.time(), 1), "host": socket.gethostname(),
        "pid": os.getpid(), "born": jobdir.birth(os.getpid()),
        "partition": settings["partition"] or "", "log": str(made.log),
        "options": {name: {"value": value, "origin": origin} for name, value, origin in plan.origins(settings)},
    }  # fmt: skip
    made.script.write_text(made.text)
    made.script.chmod(0o700)
    wish = wish_of(settings)
    if wish is not None:
        wish.save(job)
    if made.brings:
        write_secret(job.path / carry.BRINGS, made.brings)
    job.write("job.json", content)
    job.write("status.json", {"state": "queued", "text": line("queued", "submitting")})
    before = OldOutput.of(made.log)
    with waiting_shown(scheduler.submits_with, quiet=settings["quiet"]):
        try:
            job_id = scheduler.submit(made.submit, made.request)
        except Refused as no:
            error = refusal(settings, no.diagnosis)
            if not no.diagnosis.may_be_taken:
                raise error from None
            write_down(job, Verdict(None, line("ended", f"{scheduler.submits_with} did not answer"), error))
            raise _Unsure(error) from None
        except KeyboardInterrupt:
            what = "the submission was interrupted"
            why = f"{scheduler.title} may have the job all the same: `hpc ps` shows it when it starts"
            error = CliError("SCHEDULER-DOWN", what, why=why, exit_code=errors.EXIT_DETACHED)
            write_down(job, Verdict(None, line("ended", what), error))
            raise _Unsure(error) from None
    # From here on a Ctrl-C is about the job: it waits until the follower can say what it means.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    log = plan.real_log(made, scheduler, job_id)
    was = {} if before is None or log != made.log else {"log_was": before.kept()}
    job.write("job.json", {**content, **was, "scheduler_id": job_id, "log": str(log) if log is not None else ""})
    job.event("submitted", scheduler_id=job_id)
    return job_id


def write_secret(path: Path, text: str) -> None:
    """A script for this user alone."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o700)
    with os.fdopen(fd, "w") as file:
        file.write(text)


class _Unsure(Exception):
    """Nobody knows whether the scheduler has the job: its folder stays, for the job to write into."""

    def __init__(self, error: CliError) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def waiting_shown(command: str, *, quiet: bool) -> Iterator[None]:
    """Say that the scheduler's command takes long, with what it has said so far."""
    status = StatusLine(quiet=quiet)

    def show(waited_s: float, said: str) -> None:
        status.show(line("submitting", f"waiting for {command}, {waited_s:.0f} s", said), key=f"submitting {said}")

    with while_waiting(show):
        try:
            yield
        finally:
            status.clear()


def _test_only(settings: Settings, place: Place, made: plan.Plan) -> int:
    made.script.write_text(made.text)
    try:
        estimate = place.scheduler.estimate(made.submit, made.request)
    except Refused as no:
        raise refusal(settings, no.diagnosis) from None
    if settings["json"]:
        print(json.dumps({"estimate": estimate}))
    else:
        sys.stdout.write(plan.show(settings, place))
        print(f"# {place.scheduler.title}'s estimate: {estimate}")
    return 0


def refusal(settings: Settings, found: Diagnosis) -> CliError:
    """The scheduler's no, with where the values came from, and a command that would be accepted."""
    where = " ".join(f"{flag} ({_origin(settings, flag)})" for flag in sorted(found.fix))
    why = "\n".join(part for part in (found.why, found.valid) if part)
    fix = corrected(sys.argv, found.fix) or found.hint
    return CliError(found.code, found.what, where=where, why=why, fix=fix)


def _origin(settings: Settings, flag: str) -> str:
    name = flag[2:].replace("-", "_")
    origin = settings.origin(name)
    return "from the command line" if origin == flag else "not given" if origin == "default" else f"from {origin}"


def corrected(argv: list[str], fix: Mapping[str, str]) -> str:
    """The user's own command with other values, to paste."""
    from hpc.settings.options import TABLE

    if not fix:
        return ""
    below = argv[1:2] in (["launch"], ["doctor"]) and os.path.basename(argv[0]) != "hpc-launch"
    words = ["hpc" if below else "hpc-launch", *argv[1:]]
    for flag, value in fix.items():
        option = next(o for o in TABLE if flag in o.flags)
        words = _without(words, option.flags)
        words.insert(2 if words[0] == "hpc" else 1, f"{flag}={value}")
    return shlex.join(words)


def _without(words: list[str], flags: tuple[str, ...]) -> list[str]:
    """The command without one option, in any of its spellings, ahead of the script."""
    from hpc.settings.options import TABLE

    kept: list[str] = words[:1]
    rest = words[1:]
    if words[0] == "hpc":
        kept, rest = words[:2], words[2:]
    known = {flag: option for option in TABLE for flag in option.flags}
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        name = word.partition("=")[0] if word.startswith("--") else word[:2]
        option = known.get(name)
        attached = "=" in word if word.startswith("--") else len(word) > 2
        group = [word]
        if option is not None and not option.is_switch and not attached and rest:
            group.append(rest.pop(0))
        if name not in flags:
            kept += group
    return kept + rest

"""What becomes of a script: shown as a plan, submitted to a scheduler, or run on nodes that start here."""

from __future__ import annotations

import os
import socket
import sys
import time
from typing import TYPE_CHECKING

from hpc.launch import jobdir
from hpc.launch.chain import Link
from hpc.launch.fits import check_place
from hpc.launch.jobdir import JobDir
from hpc.launch.runtimes import check_runtime
from hpc.launch.status_line import line
from hpc.launch.verdict import Verdict, write_down
from hpc.launchers.registry import Place, find_place
from hpc.launchers.scheduler import BadAllocation, Scheduler
from hpc.launchers.workstations import BadHosts, Workstations, here_first, read_hosts
from hpc.settings import errors
from hpc.settings.errors import CliError
from hpc.settings.options import Settings, Value

if TYPE_CHECKING:
    from hpc.launch.run import Run

#: How long nodes may take to come up that a person starts.
BY_HAND_S = 600.0


def begin(settings: Settings) -> int:
    """Launch the script of the settings; returns the exit code. Raises CliError, of which a job's folder has learnt."""
    try:
        return _begin(settings)
    except CliError as error:
        if settings["job"]:
            verdict = Verdict(error.exit_code, line("ended", "before the script was started"), error)
            write_down(JobDir(jobdir.expand(settings["job"])), verdict)
        raise


def _begin(settings: Settings) -> int:
    if settings.script is None and not settings["estimate"]:
        raise CliError("USAGE", "no script was given", fix="hpc-launch [options] SCRIPT [ARGS ...]")
    try:
        place = workstations(settings) if settings["hosts"] else find_place(wanted=settings["scheduler"])
    except BadAllocation as error:
        what = "the environment speaks of an allocation that makes no sense"
        raise CliError("CONFIG", what, why=str(error), fix=error.fix) from None
    if place.kind != "local" and settings["step_arg"] and not place.scheduler.starts_with:
        what = f"--step-arg means nothing here: {place.scheduler.title} starts the nodes with the job"
        raise CliError("USAGE", what, where=settings.origin("step_arg"))
    check_runtime(settings)
    if settings["estimate"]:
        from hpc.launch import estimate

        estimate.check(settings)
        return estimate.estimate(settings, place)
    for text in check_place(settings, place):
        errors.note(text)
    if settings["dry_run"] or (settings["test_only"] and place.kind != "login"):
        from hpc.launch.plan import show

        sys.stdout.write(show(settings, place))
        return 0
    if place.kind == "login":
        from hpc.launch.submit import submit

        return submit(settings, place)
    from hpc.launch.run import Run

    run = Run(settings, place, None)
    run.reporter.job = own_folder(settings, place)
    if isinstance(place.source, Workstations):
        if run.reporter.job is None:
            raise CliError("JOB-DIR", "no folder for the file by which the others join", fix="--job-dir=DIR")
        place.source.join_path = str(run.reporter.job.path / "join")
    if settings["chain_link"]:
        return run_link(Link.parse(settings["chain_link"]), run, place.scheduler)
    if settings["requeue"] and place.alloc is not None:
        return run_again(run, place.scheduler, place.alloc.job_id)
    return run.run()


def run_again(run: Run, scheduler: Scheduler, job_id: str) -> int:
    """One run of a job that is put back into its queue until the script has ended by itself."""
    code = run.run()
    if run.outcome(code) == "continue":
        errors.note("the job is put back into the queue, to go on with what was saved")
        reply = scheduler.requeue(job_id)
        if not reply.ok:
            errors.note(f"{scheduler.title} refused that: {reply.why}")
    return code


def run_link(link: Link, run: Run, scheduler: Scheduler) -> int:
    """One job of a chain: the script, unless it has ended in an earlier one; then the next ones know how it ended."""
    needless = link.needless(scheduler)
    if needless is not None:
        code, why = needless
        run.reporter.final(code, f"nothing to do: {why}")
        link.say("done", code)
        link.withdraw_rest(scheduler)
        return code
    os.environ.update(link.environment())
    code = run.run()
    outcome = run.outcome(code)
    link.say(outcome, code)
    if outcome == "done":
        link.withdraw_rest(scheduler)
    elif link.number == link.links:
        errors.note(f"this was the last job of its chain, and the script is not finished: --chain={link.links + 1}")
    return code


def workstations(settings: Settings) -> Place:
    """The machines of --hosts, on which the user starts the nodes; they may take their time for that."""
    if settings["scheduler"] not in (None, "local"):
        raise CliError("USAGE", f"--hosts is for machines without a scheduler, not for {settings['scheduler']}")
    if settings.origin("nodes") == "--nodes":
        raise CliError("USAGE", "--hosts says how many nodes there are", where="--nodes", fix="--min-nodes=K")
    try:
        hosts = here_first(read_hosts(settings["hosts"]))
    except BadHosts as error:
        raise CliError("USAGE", f"--hosts: {error}", fix=error.fix) from None
    settings.values["nodes"] = Value((len(hosts), len(hosts)), "--hosts")
    if not settings.given("start_timeout"):
        settings.values["start_timeout"] = Value(BY_HAND_S, "--hosts")
    return Place("local", Workstations(hosts))


def own_folder(settings: Settings, place: Place) -> JobDir | None:
    """The folder of the job: given by --job in a submitted one; else a new one, and none where that is impossible."""
    if settings["job"]:
        return JobDir(jobdir.expand(settings["job"]))
    base = jobdir.expand(settings["job_dir"])
    try:
        jobdir.prune(base)
        job = jobdir.create(base, settings.origin("job_dir"))
        job.write(
            "job.json",
            {
                "number": job.number, "name": os.path.basename(str(settings.script)), "kind": jobdir.HERE,
                "scheduler": place.source.name, "scheduler_id": place.alloc.job_id if place.alloc is not None else "",
                "script": settings.script, "args": settings.args, "cwd": os.getcwd(), "argv": sys.argv,
                "nodes": settings["nodes"][1], "created": round(time.time(), 1),
                "host": socket.gethostname(), "log": "",
            },
        )  # fmt: skip
    except (CliError, OSError) as error:
        if settings["verbose"]:
            errors.note(f"no folder for this job: {error}")
        return None
    return job

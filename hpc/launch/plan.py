"""What would be submitted and run, as data: made before anything is written, shown by --dry-run, done by submit.py.

Needs no scheduler: the job script and every command follow from the options alone.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpc.launch import carry, jobdir, runtimes
from hpc.launch.chain import Link
from hpc.launch.growth import growth_words, nodes_of_first, wish_of
from hpc.launch.warning_signal import signal_number
from hpc.launch.work import command
from hpc.launchers.carried import OUTPUT
from hpc.launchers.jobscript import module_lines
from hpc.launchers.joinfile import JoinFile
from hpc.launchers.registry import SCHEDULERS, Place
from hpc.launchers.run import shown
from hpc.launchers.scheduler import Request, Scheduler
from hpc.launchers.units import clock_text
from hpc.settings.durations import short
from hpc.settings.errors import CliError
from hpc.settings.options import BY_NAME, REQUESTED, TABLE, Settings, pass_on, request_of
from hpc.settings.values import show_value

PROGRAM = "import sys; sys.path[:]=[p for p in sys.path if p]; from hpc.cli.launch import main; sys.exit(main())"


@dataclass(frozen=True)
class Plan:
    """A submission: what is asked for, the script, where it and the output go, and the command that submits it."""

    folder: Path
    request: Request
    script: Path
    text: str
    log: Path
    submit: tuple[str, ...]
    brings: str = ""  # where nodes share no file system: the text of the script that the scheduler brings there

    @property
    def name(self) -> str:
        return str(self.request.job_name)


def launcher() -> list[str]:
    """How the job calls hpc-launch: by its full path, so that no PATH or activated environment is needed there."""
    beside = Path(sys.executable).parent / "hpc-launch"
    return [str(beside)] if beside.exists() else [sys.executable, "-c", PROGRAM]


def job_name(settings: Settings) -> str:
    if settings["job_name"]:
        return str(settings["job_name"])
    return re.sub(r"[^\w.+-]", "_", Path(settings.script or "hpc").stem) or "hpc"


def make_plan(
    settings: Settings, scheduler: Scheduler, folder: Path, link: Link | None = None, join: JoinFile | None = None
) -> Plan:
    """The submission of these settings, with the job's folder `folder`.

    link: which job of a chain it is. join: of what carries the folder, where that is needed.
    """
    command(
        settings.script, settings.args, module=settings["as_module"]
    )  # a missing script is found here, not in the job
    check_asked(settings, scheduler)
    signal_number(settings["drain_signal"])
    wish_of(settings)
    if link is not None and settings["requeue"]:
        what = "a chain goes on in its next job, and --requeue in the same one: one of them is enough"
        raise CliError("USAGE", what, where=settings.origin("requeue"))
    log = Path(settings["output"]) if settings["output"] else folder / "driver.log"
    request = replace(request_for(settings, ranges=scheduler.node_ranges), output=str(log))
    carried = carry.carriage(settings, folder, join)
    there = carried.folder if carried is not None else str(folder)
    inner = [*launcher(), f"--job={there}", *pass_on(settings), *_warned(settings)]
    if link is not None:
        states = [] if settings["state_dir"] else [f"--state-dir={link.states}"]
        inner += [f"--chain-link={link.text}", *states]
        if link.number > 1 and "dependency" in scheduler.column:
            request = replace(request, dependency=f"afterany:{link.ids()[link.number - 2]}")
    inner += ["--requeue"] if settings["requeue"] else []
    inner += script_words(settings, carried)
    cwd, of_job = os.getcwd(), request
    if carried is not None:  # the output is carried; what the scheduler itself keeps is what could not be
        cwd = carried.files
        of_job = replace(request, output=f"{carried.folder}/{OUTPUT}")
        request = replace(request, output=str(folder / "scheduler.out"))
    setup = [*module_lines(settings["module"], purge=settings["module_purge"]), *settings["setup"]]
    text = scheduler.script(of_job, cwd=cwd, setup=setup, command=inner)
    script = folder / scheduler.script_name
    log = Path(os.path.abspath(log))
    if carried is None:
        submit = scheduler.submission(str(script), request, estimate=settings["test_only"])
        return Plan(folder, request, script, text, log, tuple(submit))
    brings = str(folder / carry.BRINGS)
    submit = scheduler.submission(brings, request, estimate=settings["test_only"], brought=True)
    return Plan(
        folder, request, script, text, log, tuple(submit), carried.brings(script.name, text, scheduler.numbers_env)
    )


def _warned(settings: Settings) -> list[str]:
    """A signal that the scheduler was asked to send to hpc-launch ahead of the end begins the draining."""
    wanted = re.fullmatch(r"[BR]*B[BR]*:(?:SIG)?(USR[12])(?:@\d+)?", str(settings["signal"] or ""), re.IGNORECASE)
    return [f"--drain-signal={wanted.group(1).upper()}"] if wanted and not settings.given("drain_signal") else []


def request_for(settings: Settings, *, ranges: bool) -> Request:
    """What a scheduler is asked for, with a name. Of a session that may grow it is what the first job asks for."""
    return replace(request_of(settings), nodes=nodes_of_first(settings, ranges=ranges), job_name=job_name(settings))


def check_asked(settings: Settings, scheduler: Scheduler) -> None:
    """What a scheduler has no word for cannot be asked of it."""
    for name in REQUESTED:
        wanted = settings.given(name) and settings[name] is not False
        if wanted and name not in scheduler.column and name != "submit_arg":
            what = f"{BY_NAME[name].long} cannot be asked of {scheduler.title}"
            fix = f"if {scheduler.submits_with} has an option for it: --submit-arg=..."
            raise CliError("USAGE", what, where=settings.origin(name), fix=fix)
    carry.check(settings)
    if "," in (settings["gpus_per_node"] or "") and not scheduler.gpu_kinds:
        what = f"{scheduler.title} is asked for one kind of GPUs, not for {settings['gpus_per_node']}"
        raise CliError("USAGE", what, where=settings.origin("gpus_per_node"), fix="--gpus-per-node=[TYPE:]N")
    if not scheduler.output_patterns and re.search("%[jxuA]", settings["output"] or ""):
        what = f"{scheduler.title} fills nothing into the name of an output file: {settings['output']}"
        raise CliError("USAGE", what, where=settings.origin("output"), fix="--output=FILE of a plain name, or none")
    if settings["drain"] and settings["time"] and settings["drain"] >= settings["time"]:
        limit = clock_text(settings["time"])
        what = f"a job of {limit} that drains {short(settings['drain'])} before its end never begins anything"
        raise CliError(
            "USAGE", what, where=settings.origin("drain"), fix=f"--drain=TIME, less than {limit}; --time=TIME, longer"
        )
    if settings["chain"] and settings["detach"] and "dependency" not in scheduler.column:
        what = f"{scheduler.title} lets no job wait for another: this command submits the next job of a chain itself"
        raise CliError("USAGE", what, where=settings.origin("chain"), fix="without --detach")
    if settings["carry"] and not scheduler.carries():
        what = f"{scheduler.title}'s nodes get nothing by --carry: the job's folder is on a file system that they share"
        raise CliError("USAGE", what, where=settings.origin("carry"), fix="without --carry")


def script_words(settings: Settings, carried: carry.Carriage | None = None) -> list[str]:
    script = str(settings.script)
    if carried is not None and not settings["as_module"] and os.path.isfile(script):
        script = carry.place_of(script)
    return [*(["--"] if script.startswith("-") else []), script, *settings.args]


def real_log(plan: Plan, scheduler: Scheduler, job_id: str) -> Path | None:
    """The output file once the job's id is known; None when the name has patterns that only the scheduler can fill."""
    found = scheduler.output_file(str(plan.log), job_id, plan.name)
    return None if found is None else Path(found)


def cost(settings: Settings) -> str:
    most = settings["nodes"][1]
    if settings["time"] is None:
        return f"{most} nodes for as long as the partition's default time limit (no --time)"
    hours = most * settings["time"] / 3600
    return f"{most} nodes x {clock_text(settings['time'])} = {hours:g} node-hours at most"


def origins(settings: Settings) -> list[tuple[str, str, str]]:
    """(name, value, origin) of every option that has a value."""
    rows = []
    for option in TABLE:
        value = settings[option.name]
        if option.hidden or value is None or value == [] or (value is False and not settings.given(option.name)):
            continue
        items = value if option.repeat else [value]
        rows.append((option.name, " ".join(show_value(option.kind, v) for v in items), settings.origin(option.name)))
    for scheduler in SCHEDULERS.values():
        read = sorted(key for key in os.environ if re.fullmatch(rf"{scheduler.reads_env}[A-Z_]+", key))
        rows += [(key, os.environ[key], f"read by {scheduler.submits_with} itself") for key in read]
    return rows


def show(settings: Settings, place: Place) -> str:
    """What --dry-run prints: text, or JSON with --json."""
    content = _content(settings, place)
    if settings["json"]:
        return json.dumps(content, indent=1) + "\n"
    lines: list[str] = []
    if "script" in content:
        lines += [f"# job script, written to {content['script_path']}", content["script"].rstrip(), ""]
        if "brings" in content:
            lines += ["# the scheduler brings this one, which runs the other", content["brings"].rstrip(), ""]
        lines += ["# submitted by", shown(content["submit"]), ""]
    lines += [f"# {content['where']}"]
    lines += [shown(argv) for argv in content["run"]]
    rows = origins(settings)
    widths = [max([len(row[i]) for row in rows], default=0) for i in (0, 1)]
    lines += ["", "# options: name, value, where from"]
    lines += [f"{name:<{widths[0]}}  {value:<{widths[1]}}  {origin}" for name, value, origin in rows]
    if "cost" in content:
        lines += ["", f"# cost: {content['cost']}"]
    return "\n".join(lines) + "\n"


def _content(settings: Settings, place: Place) -> dict[str, Any]:
    driver = command(settings.script, settings.args, module=settings["as_module"])
    grows = growth_words(settings, place)
    content: dict[str, Any] = {
        "place": place.kind,
        "options": {n: {"value": v, "origin": o} for n, v, o in origins(settings)},
    }
    runs = runtimes.shown(settings)
    if place.kind == "login":
        base = jobdir.expand(settings["job_dir"])
        folder = base / str(max((j.number for j in jobdir.jobs(base)), default=0) + 1)
        links = settings["chain"]
        plan = make_plan(settings, place.scheduler, folder, Link(1, links, folder) if links else None)
        nodes = [f"NODE{i}" for i in range(1, plan.request.nodes[1] + 1)]
        step = place.scheduler.step(nodes, step_args=settings["step_arg"])
        content |= {"script": plan.text, "script_path": str(plan.script), "submit": list(plan.submit)}
        content |= {"brings": plan.brings} if plan.brings else {}
        content |= {"cost": cost(settings), "log": str(plan.log)}
        more = f" (the first of a chain of {links} jobs)" if links else ""
        content |= {"where": f"in the job{more}: one step, and the script {runs}{grows}", "run": [step, driver]}
    elif place.alloc is not None:
        from hpc.launch.run import node_count

        hosts = place.alloc.nodes[: node_count(settings, place) or len(place.alloc.nodes)]
        have = len(place.alloc.nodes)
        parts = [[node for node in part if node in hosts] for part in place.alloc.parts or [place.alloc.nodes]]
        whole = len(hosts) == have
        steps = [place.scheduler.step(part, whole=whole, step_args=settings["step_arg"]) for part in parts if part]
        job = f"{place.scheduler.title} job {place.alloc.job_id}"
        where = f"in {job}, on {len(hosts)} of its {have} nodes; the script {runs}{grows}"
        content |= {"where": where, "run": [*steps, driver]}
    else:
        where = f"{settings['nodes'][0]} local nodes on this machine; the script {runs}{grows}"
        content |= {"where": where, "run": [driver]}
    return content


def check_outputs(plan: Plan) -> None:
    """The folder of an output file named by --output must be there: a scheduler may drop the output without a word."""
    parent = plan.log.parent
    if parent != plan.folder and "%" not in str(parent) and not parent.is_dir():
        raise CliError(
            "USAGE", f"the folder of --output does not exist: {parent}", fix=f"mkdir -p {shlex.quote(str(parent))}"
        )

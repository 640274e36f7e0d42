"""What would be submitted and run, as data: made before anything is written, shown by --dry-run, done by submit.py.

Needs no scheduler: the job script and every command follow from the options alone.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc.cli import jobdir
from hpc.cli.errors import CliError
from hpc.cli.options import TABLE, Settings, directives, pass_on
from hpc.cli.timefmt import slurm_time
from hpc.cli.values import memory_bytes, show_value
from hpc.cli.work import command
from hpc.launchers.pick import Place
from hpc.launchers.run import shown
from hpc.launchers.slurm import directive, job_script, sbatch_command, srun_command
from hpc.launchers.slurm_words import Wanted

PROGRAM = "import sys; sys.path[:]=[p for p in sys.path if p]; from hpc.cli.launch import main; sys.exit(main())"
SCRIPT_NAME = "job.sbatch"


@dataclass(frozen=True)
class Plan:
    """A submission: the script's text, where it and the output go, and the command that submits it."""

    folder: Path
    name: str
    text: str
    log: Path
    submit: tuple[str, ...]

    @property
    def script(self) -> Path:
        return self.folder / SCRIPT_NAME


def launcher() -> list[str]:
    """How the job calls hpc-launch: by its full path, so that no PATH or activated environment is needed there."""
    beside = Path(sys.executable).parent / "hpc-launch"
    return [str(beside)] if beside.exists() else [sys.executable, "-c", PROGRAM]


def job_name(settings: Settings) -> str:
    if settings["job_name"]:
        return str(settings["job_name"])
    return re.sub(r"[^\w.+-]", "_", Path(settings.script or "hpc").stem) or "hpc"


def make_plan(settings: Settings, folder: Path) -> Plan:
    """The submission of these settings, with the job's folder `folder`."""
    command(settings.script, settings.args, module=settings["module"])  # a missing script is found here, not in the job
    name = job_name(settings)
    log = Path(settings["output"]) if settings["output"] else folder / "driver.log"
    least, most = settings["nodes"]
    own: list[tuple[str, str | None]] = [
        ("--job-name", name),
        *([("--ntasks-per-node", "1")] if least == most else []),  # for a range it would make Slurm give the least
        ("--output", str(log)),
        ("--no-requeue", None),
        ("--no-kill", None),
    ]
    given = [(flag, value) for flag, value in directives(settings) if flag not in ("--job-name", "--output")]
    inner = [*launcher(), f"--job={folder}", *pass_on(settings), *script_words(settings)]
    text = job_script(
        [directive(flag, value) for flag, value in [*given, *own]],
        cwd=os.getcwd(), exports={}, setup=settings["setup"], command=inner,
    )  # fmt: skip
    submit = sbatch_command(str(folder / SCRIPT_NAME), extra=settings["submit_arg"], test_only=settings["test_only"])
    return Plan(folder, name, text, Path(os.path.abspath(log)), tuple(submit))


def script_words(settings: Settings) -> list[str]:
    script = str(settings.script)
    return [*(["--"] if script.startswith("-") else []), script, *settings.args]


def real_log(plan: Plan, job_id: str) -> Path | None:
    """The output file once the job's id is known; None when the name has patterns that only Slurm can fill."""
    known = {"%j": job_id, "%A": job_id, "%x": plan.name, "%u": getpass.getuser(), "%%": "%"}
    if "%" in re.sub(r"%[jAxu%]", "", str(plan.log)):
        return None
    return Path(re.sub(r"%[jAxu%]", lambda m: known[m.group()], str(plan.log)))


def wanted(settings: Settings) -> Wanted:
    """The part of the request that can be compared with the partitions' limits."""
    gpus = settings["gpus_per_node"]
    count = gpus.rpartition(":")[2] if gpus else "0"
    return Wanted(
        nodes=settings["nodes"][0], time_s=settings["time"], partition=settings["partition"],
        cpus=settings["cpus_per_task"] or 0, mem_mb=memory_bytes(settings["mem"]) // 2**20 if settings["mem"] else 0,
        gpus=int(count) if count.isdigit() else 0, account=settings["account"], qos=settings["qos"],
    )  # fmt: skip


def cost(settings: Settings) -> str:
    most = settings["nodes"][1]
    if settings["time"] is None:
        return f"{most} nodes for as long as the partition's default time limit (no --time)"
    hours = most * settings["time"] / 3600
    return f"{most} nodes x {slurm_time(settings['time'])} = {hours:g} node-hours at most"


def origins(settings: Settings) -> list[tuple[str, str, str]]:
    """(name, value, origin) of every option that has a value."""
    rows = []
    for option in TABLE:
        value = settings[option.name]
        if option.hidden or value is None or value == [] or (value is False and not settings.given(option.name)):
            continue
        items = value if option.repeat else [value]
        rows.append((option.name, " ".join(show_value(option.kind, v) for v in items), settings.origin(option.name)))
    known = [key for key in os.environ if re.match(r"SBATCH_[A-Z_]+$", key)]
    return rows + [(key, os.environ[key], "read by sbatch itself") for key in sorted(known)]


def show(settings: Settings, place: Place) -> str:
    """What --dry-run prints: text, or JSON with --json."""
    content = _content(settings, place)
    if settings["json"]:
        return json.dumps(content, indent=1) + "\n"
    lines: list[str] = []
    if "script" in content:
        lines += [f"# job script, written to {content['script_path']}", content["script"].rstrip(), ""]
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
    driver = command(settings.script, settings.args, module=settings["module"])
    content: dict[str, Any] = {
        "place": place.kind,
        "options": {n: {"value": v, "origin": o} for n, v, o in origins(settings)},
    }
    per_node = settings["ranks_per_node"]
    runs = f"{per_node} times on each node" if per_node else "once, as the driver"
    if place.kind == "login":
        base = jobdir.expand(settings["job_dir"])
        folder = base / str(max((j.number for j in jobdir.jobs(base)), default=0) + 1)
        plan = make_plan(settings, folder)
        nodes = [f"NODE{i}" for i in range(1, settings["nodes"][1] + 1)]
        content |= {"script": plan.text, "script_path": str(plan.script), "submit": list(plan.submit)}
        content |= {"cost": cost(settings), "log": str(plan.log)}
        content |= {"where": f"in the job: one step, and the script {runs}", "run": [_srun(nodes, settings), driver]}
    elif place.alloc is not None:
        from hpc.cli.inside import node_count

        hosts = place.alloc.nodes[: node_count(settings, place) or len(place.alloc.nodes)]
        have = len(place.alloc.nodes)
        where = f"in Slurm job {place.alloc.job_id}, on {len(hosts)} of its {have} nodes; the script {runs}"
        content |= {"where": where, "run": [_srun(hosts, settings, len(hosts) == len(place.alloc.nodes)), driver]}
    else:
        where = f"{settings['nodes'][1]} local nodes on this machine; the script {runs}"
        content |= {"where": where, "run": [driver]}
    return content


def _srun(nodes: Sequence[str], settings: Settings, whole: bool = True) -> list[str]:
    from hpc.launchers.local import node_command

    program = [*node_command(), "--rank-env", "SLURM_PROCID"]
    return srun_command(nodes, program, whole_allocation=whole, extra=settings["step_arg"])


def check_outputs(plan: Plan) -> None:
    """The folder of an output file named by --output must be there: Slurm would drop the output without a word."""
    parent = plan.log.parent
    if parent != plan.folder and "%" not in str(parent) and not parent.is_dir():
        raise CliError("USAGE", f"the folder of --output does not exist: {parent}", fix=f"mkdir -p {parent}")

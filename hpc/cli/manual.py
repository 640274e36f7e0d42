"""Texts made from the table of options: `hpc-launch --help` and docs/cli.md."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from hpc.cli.helping import flags, usage_and_table
from hpc.core.node.settings import OF_LAUNCHER, SETTINGS
from hpc.launchers.registry import SCHEDULERS
from hpc.settings.errors import CATALOGUE
from hpc.settings.options import TABLE, Option
from hpc.settings.values import show_value

USAGE = "hpc-launch [options] SCRIPT [ARGS ...]"
EXIT_CODES = (
    ("0-119", "the script's own, as it is"),
    ("2", "the command line cannot be understood"),
    ("120", "the scheduler rejected the job"),
    ("121", "cancelled before it started"),
    ("122", "too few nodes came up"),
    ("123", "the session was lost"),
    ("124", "the time limit was reached"),
    ("125", "a fault of this program or its surroundings"),
    ("126, 127", "the script cannot be run, is not there"),
    ("128+N", "the script was ended by signal N"),
    ("130", "detached by Ctrl-C: the job goes on"),
)
COMMANDS = (
    ("hpc launch [options] SCRIPT [ARGS ...]", "the same as `hpc-launch`"),
    ("hpc ps [--json] [--all]", "your jobs"),
    ("hpc report [JOB] [-o FILE] [--json]", "why a job ended, what it used, what to change"),
    (
        "hpc status [JOB] [--address=ID] [--json]",
        "the session that runs here, or one job: nodes, resources, what waits",
    ),
    ("hpc logs [JOB] [-f] [-n LINES]", "a job's output"),
    ("hpc logs [JOB] --worker ID [-f] [--tail N]", "what a worker wrote, on any node; --out, --err: one of both"),
    ("hpc logs --actor ID | --task ID | --node N", "the same of an actor, a task, all workers of a node"),
    ("hpc logs [JOB] --rank N", "what a rank of a plain script wrote after another had failed"),
    ("hpc logs [JOB] --failed", "of the workers that ended unexpectedly, also after the job's end"),
    ("hpc attach [JOB]", "follow a job that was left, as if you had never detached"),
    ("hpc cancel JOB ...", "end jobs"),
    ("hpc start --head [--num-cpus N] [--block] ...", "begin a session that outlives this command"),
    ("hpc start --address=ADDR [--num-cpus N] ...", "add a node to it, on the same machine"),
    ("hpc start --join-file=FILE [--num-cpus N] ...", "add a node on another machine (--head --join-file wrote FILE)"),
    ("hpc stop [--session=ID] [--node=N] [--grace=TIME]", "end such a session, or one of its added nodes"),
    ("hpc job submit [options] -- CMD ...", "run a command in such a session"),
    ("hpc job list | status | logs [-f] | stop | delete", "the commands that were submitted to it"),
    ("hpc list KIND [--filter F=V] [--limit N] [--json]", "tasks, actors, objects, nodes, workers, ... of a session"),
    ("hpc get KIND ID | summary KIND | memory", "one thing; counts by state; what is in the object stores"),
    ("hpc events [JOB] [-f] [--severity S] [--kind K]", "what happened in a session or a job, and what to do"),
    ("hpc why ID", "why a task, an actor or an object waits"),
    ("hpc stack [WORKER ...] | timeline FILE", "where the processes are; what ran when, for ui.perfetto.dev"),
    ("hpc profile [WORKER ...] [--task NAME] [-o FILE]", "which calls take the time of workers, without ptrace"),
    (
        "hpc top [JOB] [--once] [--show=KIND]",
        "a session at the terminal, as it changes",
    ),
    ("hpc dashboard [JOB] [--port=N]", "a page in the browser that shows a session; prints the line of ssh to it"),
    ("hpc metrics [--json | --text | --grafana DIR]", "the numbers of a session now; a board of them for Grafana"),
    ("hpc metrics --prometheus-target FILE", "serve them to a Prometheus"),
    ("hpc metrics --otlp URL", "send them to an OpenTelemetry collector"),
    ("hpc microbenchmark [NAME ...]", "how fast this machine is, under Ray's benchmark names"),
    ("hpc debug sim --seed N [--story]", "replay one run of the simulator"),
    ("hpc doctor [-N NODES] [--json] [OPTIONS]", "what is wrong with this machine, or with the nodes of a job"),
    ("hpc template [SCHEDULER [NAME]]", "the job scripts that are shipped, to be copied and changed"),
    ("hpc site list | show [NAME] | detect | new NAME", "profiles of machines: what each one wants"),
    ("hpc tune export EXPERIMENT [--to DIR]", "write the files of a search's trials, which it has not written itself"),
    ("hpc serve run FILE | MODULE:APP [NAME=VALUE ...]", "a service over HTTP, until Ctrl-C"),
    ("hpc serve deploy | status | config | shutdown", "one in a session that goes on"),
    ("hpc serve build MODULE:APP -o FILE | tunnel", "its configuration file; the line of ssh that leads to it"),
    ("hpc serve gateway [REGISTRY] [--next=COMMAND]", "a stable address before services that come and go with jobs"),
    ("hpc serve batch IN OUT [--name=APP]", "answer a file of requests beside a service; goes on after a kill"),
    ("hpc explain CODE", "what an error code means"),
)


def _groups() -> list[str]:
    return list(dict.fromkeys(option.group for option in TABLE if not option.hidden))


def _default(option: Option) -> str:
    if option.default in (None, False):
        return ""
    return show_value(option.kind, option.default)


def help_text() -> str:
    lines = [f"usage: {USAGE}", "", "Runs SCRIPT on the nodes of an allocation, of a scheduler, or of this machine."]
    for group in _groups():
        lines += ["", f"{group}:"]
        for option in TABLE:
            if option.group == group and not option.hidden:
                default = f" [{_default(option)}]" if _default(option) else ""
                lines.append(f"  {flags(option):<28} {option.help}{default}")
    lines += ["", "Each can also come from HPC_<NAME> or a TOML file (hpc.toml); --dry-run shows where from."]
    lines += ["Exit codes:"] + [f"  {code:<9} {text}" for code, text in EXIT_CODES]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def runtime_rows() -> list[str]:
    """The table of the runtime's options, for docs/cli.md and docs/limits.md."""
    rows = ["| option | variable | default | takes | what | read by |", "|---|---|---|---|---|---|"]
    for name, known in SETTINGS.items():
        option = f"`{name}`" if known.source != "environ" else ""
        variable = f"`HPC_{name.upper()}`" if known.source != "config" else ""
        if known.ray:
            variable += f", `{known.ray}`"
        default = known.default_is or show_default(known.default)
        what = f"{known.help} (the launcher says it)" if name in OF_LAUNCHER else known.help
        cells = (option, variable, default, known.takes.allowed(), what, f"`{known.reader}`")
        rows.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return rows


def show_default(value: float | bool | str | None) -> str:
    """A default as a file would say it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)


def _others() -> Iterator[tuple[str, str, tuple[Option, ...]]]:
    """Title, usage and options of the commands that have some of their own."""
    from hpc.cli import job, serve
    from hpc.cli.names import COMMANDS as NAMES

    for name in NAMES:
        yield f"hpc {name}", *usage_and_table(name)
    for name, (_, table) in job.COMMANDS.items():
        yield f"hpc job {name}", job.usage_of(name), table
    for name, (_, options) in serve.COMMANDS.items():
        yield f"hpc serve {name}", serve.usage_of(name), options


def markdown() -> str:
    """docs/cli.md, whole."""
    lines = ["# Commands and options", "", "<!-- made by `python -m hpc.cli.manual`: do not edit -->", ""]
    lines += ["| command | |", "|---|---|"] + [f"| `{_cell(c)}` | {_cell(t)} |" for c, t in COMMANDS]
    lines += [
        "",
        "`python -m hpc` is the same as `hpc`. JOB is a number of `hpc ps`, a range `1-3`, `last`, `all`, or the",
    ]
    lines += [
        f"scheduler's own id (`{next(iter(SCHEDULERS))}:4711` where both could be meant); without one, `last`.",
        "",
    ]
    lines += ["## Options of hpc-launch", "", f"    {USAGE}", ""]
    lines += ["A value comes from the command line, else from the variable, else from `./hpc.toml`, else from"]
    lines += [
        "`~/.config/hpc/config.toml`, else from the site profile (`--site`), else it is the default. In a TOML file"
    ]
    lines += [
        "the key is the variable's name without `HPC_`, in small letters (`nodes = 4`); `--no-NAME` turns a switch off."
    ]
    for group in _groups():
        lines += ["", f"### {group}", "", "| option | variable | default | becomes | |", "|---|---|---|---|---|"]
        for option in TABLE:
            if option.group != group or option.hidden:
                continue
            env = f"`{option.env}`" if option.configurable else ""
            default = f"`{_cell(_default(option))}`" if _default(option) else ""
            given = [(s.submits_with, s.column.get(option.name)) for s in SCHEDULERS.values()]
            becomes = ", ".join(f"`{command} {flag}`" for command, flag in given if flag)
            local = f"; on local nodes: {option.local}" if option.local else ""
            lines.append(f"| `{_cell(flags(option))}` | {env} | {default} | {becomes} | {_cell(option.help + local)} |")
    lines += ["", "## Options of the other commands", ""]
    lines += ["`hpc COMMAND --help` prints the same."]
    for title, usage, table in _others():
        if table:
            lines += ["", f"### {title}", "", *(f"    {line.strip()}" for line in usage.splitlines() if line.strip())]
            lines += ["", "| option | |", "|---|---|"]
            lines += [f"| `{_cell(flags(option))}` | {_cell(option.help)} |" for option in table]
    lines += ["", "## Options of the runtime", ""]
    lines += [
        "Options are keys of a table `[runtime]` in a TOML file, variables are those of each node's environment; a"
    ]
    lines += ["key that is not in this table is refused. Where both are there the file counts.", "", *runtime_rows()]
    lines += ["", "## Exit codes", "", "| code | |", "|---|---|"] + [f"| {c} | {t} |" for c, t in EXIT_CODES]
    lines += ["", "## Error codes", "", "Every error has a code; `hpc explain CODE` prints the text below.", ""]
    for code, entry in CATALOGUE.items():
        lines += [f"* **{code}** (exit code {entry.exit_code}): {' '.join(entry.text.split())}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(markdown())

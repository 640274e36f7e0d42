"""Errors as the user sees them: what happened, where, why, and the fix as one command to paste.

`CliError` is the only exception that commands raise on purpose; `report()` writes it, without a traceback.
The catalogue gives each code its exit code and the longer text of `hpc explain CODE`.
Rejected: logging (an error is for a person at a terminal), error classes per case (the code is enough).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TextIO

EXIT_USAGE = 2
EXIT_REJECTED = 120
EXIT_CANCELLED = 121
EXIT_TOO_FEW_NODES = 122
EXIT_SESSION_LOST = 123
EXIT_WALLTIME = 124
EXIT_OUR_FAULT = 125
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127
EXIT_DETACHED = 130


@dataclass(frozen=True)
class Entry:
    exit_code: int
    text: str


CATALOGUE: dict[str, Entry] = {
    "USAGE": Entry(EXIT_USAGE, "The command line cannot be understood. `hpc-launch --help` lists every option."),
    "CONFIG": Entry(
        EXIT_USAGE,
        "A value in a TOML file or an environment variable cannot be used. Values come from the command line, then\n"
        "HPC_<NAME>, then ./hpc.toml, then ~/.config/hpc/config.toml; --dry-run shows where each came from.",
    ),
    "NO-SCRIPT": Entry(
        EXIT_NOT_FOUND,
        "The script is not there. It is looked for from the folder where the command runs; inside a job that is the\n"
        "folder from which the job was submitted. Exit code 127, as a shell gives for a command it cannot find.",
    ),
    "NOT-EXECUTABLE": Entry(EXIT_NOT_EXECUTABLE, "The script is there but cannot be read or run. Exit code 126."),
    "NO-SCHEDULER": Entry(
        EXIT_REJECTED, "The scheduler that was asked for has no commands on this machine, or is not configured."
    ),
    "SCHEDULER-DOWN": Entry(
        EXIT_REJECTED,
        "The scheduler's controller (or munge, which signs its messages) does not answer. That is the cluster's\n"
        "fault; nothing was submitted, and the same command can be given again later.",
    ),
    "REJECTED": Entry(EXIT_REJECTED, "The scheduler refused the job; its own words are quoted under `why`."),
    "NO-TIME": Entry(EXIT_REJECTED, "This site wants a time limit for every job: give --time."),
    "TIME-LIMIT": Entry(EXIT_REJECTED, "More time was asked for than the partition allows."),
    "TOO-MANY-NODES": Entry(EXIT_REJECTED, "More nodes were asked for than there are, or than the partition allows."),
    "TOO-MANY-GPUS": Entry(EXIT_REJECTED, "More GPUs per node were asked for than any node of the partition has."),
    "TOO-MANY-CPUS": Entry(EXIT_REJECTED, "More CPUs per node were asked for than any node of the partition has."),
    "TOO-MUCH-MEMORY": Entry(EXIT_REJECTED, "More memory per node was asked for than any node of the partition has."),
    "PARTITION": Entry(EXIT_REJECTED, "There is no such partition, or it takes no jobs."),
    "LIMIT": Entry(
        EXIT_REJECTED,
        "A limit of the account or the QOS: on jobs in the queue, on what one job may ask for, or on what all of them\n"
        "may use. The scheduler's name of the limit is quoted.",
    ),
    "ACCOUNT": Entry(EXIT_REJECTED, "The account or QOS is not one that this user may charge."),
    "JOB-DIR": Entry(
        EXIT_OUR_FAULT,
        "The job's folder cannot be written. It must lie on a file system that the compute nodes share, and there\n"
        "must be quota left. Another place: --job-dir, HPC_JOB_DIR or job_dir in a TOML file.",
    ),
    "SETUP": Entry(
        EXIT_OUR_FAULT,
        "A line of --setup (a module that is not there, a file that cannot be read) failed on the first node,\n"
        "so the script was not started. The line and its exit code are quoted. A line that may fail ends in `|| true`.",
    ),
    "STAGE": Entry(
        EXIT_OUR_FAULT,
        "The environment of --stage could not be packed, or not brought to the nodes' own disks; nothing was started.\n"
        "Nodes are named with what is wrong there: no room, no such folder, a folder that nodes share.\n"
        "--stage-dir names another place on each node.",
    ),
    "CONTAINER": Entry(
        EXIT_OUR_FAULT,
        "The image of --container cannot be entered: there is no runtime for that. A module may have one (--module);\n"
        "--container-runtime names it.",
    ),
    "CANCELLED": Entry(EXIT_CANCELLED, "The job was cancelled before it started."),
    "TOO-FEW-NODES": Entry(
        EXIT_TOO_FEW_NODES,
        "Not enough nodes came up within --start-timeout. The message names those that are missing and why, with the\n"
        "last lines that they wrote. --min-nodes K goes on with K.",
    ),
    "NO-RUNTIME": Entry(
        EXIT_USAGE,
        "What --runtime asks for cannot be started: its package is not in the Python that the nodes use, or an option\n"
        "does not go with it. docs/runtimes.md says what each runtime needs.",
    ),
    "RUNTIME": Entry(
        EXIT_TOO_FEW_NODES,
        "The nodes are there, and the runtime that --runtime asks for did not start on them. The message quotes what\n"
        "it wrote last, by node. --min-nodes K goes on with K.",
    ),
    "SESSION-LOST": Entry(
        EXIT_SESSION_LOST,
        "The session's control plane ended while the script was running: the head, its node or the step was lost.",
    ),
    "WALLTIME": Entry(EXIT_WALLTIME, "The job's time was over before the script ended: give a longer --time."),
    "OUR-FAULT": Entry(EXIT_OUR_FAULT, "A fault of this program. The report should say how to repeat it."),
    "NO-JOB": Entry(EXIT_USAGE, "No job matches. `hpc ps` lists those that are known; `last`, `all`, `3`, `1-3` and a\n"
                    "scheduler's own id select them."),
    "AT-TERMINAL": Entry(EXIT_USAGE, "The job was not submitted: it runs, or ran, at a terminal, where its output\n"
                         "is, and nothing of that was kept. `hpc-launch SCRIPT 2>&1 | tee FILE` keeps it."),
    "NO-SESSION": Entry(EXIT_USAGE, "No session, or more than one, is meant. Only sessions that `hpc start` began,\n"
                        "on this machine and for this user, can be named: by their id, or a directory of one of their\n"
                        "nodes."),
    "REFUSED": Entry(EXIT_OUR_FAULT, "The process that the session belongs to (its host) refused; it says why."),
    "NOT-OURS": Entry(EXIT_REJECTED, "This job runs on another machine and was not submitted by hpc-launch, so\n"
                      "it cannot be reached from here."),
}  # fmt: skip


class CliError(Exception):
    """One root cause, in the user's own values."""

    def __init__(
        self, code: str, what: str, *, where: str = "", why: str = "", fix: str = "", exit_code: int | None = None
    ) -> None:
        super().__init__(what)
        self.code = code
        self.what = what
        self.where = where
        self.why = why
        self.fix = fix
        self.exit_code = CATALOGUE[code].exit_code if exit_code is None else exit_code

    def text(self) -> str:
        """The message, ready to print."""
        lines = [f"error[{self.code}]: {self.what}"]
        for name, value in (("where", self.where), ("why", self.why), ("fix", self.fix)):
            if value:
                first, *rest = value.rstrip().splitlines()
                lines.append(f"  {name + ':':<7}{first}")
                lines.extend(f"         {line}" for line in rest)
        return "\n".join(lines)


def report(error: CliError, stream: TextIO | None = None) -> int:
    """Write the error to stderr; returns the exit code."""
    print(error.text(), file=stream or sys.stderr, flush=True)
    return error.exit_code


def note(text: str, stream: TextIO | None = None) -> None:
    """One line of ours to stderr, marked so that it is not taken for the script's."""
    print(f"hpc: {text}", file=stream or sys.stderr, flush=True)


def unsaid(lines: Iterable[str], text: str) -> list[str]:
    """The lines that a text does not have already, so that nothing is shown twice."""
    return [line for line in lines if line not in text]


def explain(code: str) -> str | None:
    """The longer text for `hpc explain CODE` (E-prefixes, case and brackets do not matter)."""
    wanted = code.strip().upper().removeprefix("ERROR").strip("[]: ").replace("_", "-")
    entry = CATALOGUE.get(wanted)
    return None if entry is None else f"error[{wanted}], exit code {entry.exit_code}\n\n{entry.text}"

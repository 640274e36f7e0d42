"""Words of commands about jobs and sessions: options that several have, in any order, and the jobs that are meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpc.launch import jobdir
from hpc.launch.jobdir import JobDir
from hpc.settings.errors import CliError
from hpc.settings.options import BY_NAME, Option, load, parse_words

ADDRESS = Option("address", ("--address",), "text", "a session's id (default: the only one)", "", metavar="ADDR")
JSON = Option("json", ("--json",), "switch", "machine-readable", "", default=False)
JOB_DIR = BY_NAME["job_dir"]
FOLLOW = Option("follow", ("-f", "--follow"), "switch", "go on until the job ends", "", default=False)
HELP = Option("help", ("-h", "--help"), "switch", "print this and leave", "", default=False)


def parse_mixed(table: Sequence[Option], words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """What the options of a table were given, and the other words; either may stand first."""
    found: dict[str, Any] = {}
    others: list[str] = []
    while words:
        given, words = parse_words(table, words)
        found.update(given)
        if words:
            others.append(words.pop(0))
    return found, others


def parse_alone(command: str, table: Sequence[Option], words: list[str]) -> dict[str, Any]:
    """What a command without other words was given."""
    given, rest = parse_words(table, words[1:])
    if rest:
        raise CliError("USAGE", f"hpc {command} takes no word {rest[0]!r}", fix=f"hpc {command} --help")
    return given


def of_jobs(words: list[str], table: Sequence[Option]) -> tuple[dict[str, Any], list[str]]:
    """The options and the jobs of a command about jobs; an option that was not given is None."""
    found, rest = parse_mixed(table, words[1:])
    return {**{option.name: None for option in table}, **found}, rest


def jobs_folder(options: dict[str, Any]) -> Path:
    """The folder of all jobs."""
    return jobdir.expand(options["job_dir"] or load([])["job_dir"])


def chosen(options: dict[str, Any], rest: list[str]) -> list[JobDir]:
    """The jobs that are meant; CliError where there is none."""
    return jobdir.select(jobs_folder(options), rest)

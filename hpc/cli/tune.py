"""`hpc tune`: what experiments of hpc.tune have left."""

from __future__ import annotations

from hpc.cli.words import parse_mixed
from hpc.settings.errors import CliError
from hpc.settings.options import Option

USAGE = "hpc tune export EXPERIMENT [options]     write the files of its trials: result.json, progress.csv, ..."
TABLE = (
    Option("to", ("--to",), "text", "a directory for them (default: the experiment's)", "", metavar="DIR"),
    Option("trial", ("--trial",), "text", "this one only, by its id or name", "", metavar="TRIAL"),
)


def run(words: list[str]) -> int:
    """Write the files; returns the exit code."""
    given, rest = parse_mixed(TABLE, words[1:])
    if len(rest) != 2 or rest[0] != "export":
        raise CliError("USAGE", "hpc tune export takes the directory of one experiment", fix="hpc tune --help")
    from hpc.tune.export import export_experiment

    trials = [str(given["trial"])] if given.get("trial") else []
    try:
        written = export_experiment(rest[1], to=given.get("to"), trials=trials)
    except (FileNotFoundError, ValueError) as error:
        raise CliError("USAGE", str(error)) from error
    folder = written[0].rpartition("/")[0] if written else rest[1]
    print(f"{len(written)} trials in {folder}")
    return 0

"""`hpc get KIND ID`: all about one thing of a session that runs."""

from __future__ import annotations

import json
from typing import Any

from hpc.cli.look import FILTER, KINDS, KINDS_IN_WORDS, cell, is_kind, look, rows_of
from hpc.cli.words import ADDRESS, JSON
from hpc.settings.errors import CliError

USAGE = f"hpc get KIND ID [options]     {KINDS_IN_WORDS}"
TABLE = (ADDRESS, FILTER, JSON)


def _is_one_of_kind(words: list[str]) -> None:
    is_kind(words)
    if len(words) != 3:
        raise CliError("USAGE", "hpc get KIND ID: which one?", fix="hpc get --help")


def run(words: list[str]) -> int:
    """Print it; returns the exit code."""
    return look(words, TABLE, _get, _is_one_of_kind)


def _get(given: dict[str, Any], rest: list[str]) -> int:
    key = KINDS[rest[0]][0]
    rows = [row for row in rows_of(rest[0], given, 10_000) if str(row.get(key, "")) == rest[1]]
    if not rows:
        raise CliError("USAGE", f"there is no {rest[0].rstrip('s')} {rest[1]}", fix=f"hpc list {rest[0]}")
    if given.get("json"):
        print(json.dumps(rows, indent=1))
        return 0
    for row in rows:
        print("\n".join(f"{name:<24} {cell(value)}" for name, value in row.items()))
    return 0

"""`hpc list KIND`: what there is of a kind in a session that runs."""

from __future__ import annotations

import json
import os
from typing import Any

from hpc.cli.look import FILTER, KINDS, KINDS_IN_WORDS, LIMIT, is_kind, look, rows_of, show_rows
from hpc.cli.words import ADDRESS, JSON

USAGE = f"hpc list KIND [options]     {KINDS_IN_WORDS}"
TABLE = (ADDRESS, LIMIT, FILTER, JSON)


def run(words: list[str]) -> int:
    """Print it; returns the exit code."""
    return look(words, TABLE, _list, is_kind)


def _list(given: dict[str, Any], rest: list[str]) -> int:
    rows = rows_of(rest[0], given, given.get("limit") or 100)
    if rest[0] == "jobs":
        rows = [row for row in rows if row["driver_pid"] != os.getpid()]  # this command is a driver, too
    if given.get("json"):
        print(json.dumps(rows, indent=1))
    else:
        show_rows(rows, KINDS[rest[0]])
    return 0

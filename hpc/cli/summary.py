"""`hpc summary KIND`: how many there are of a kind, by state."""

from __future__ import annotations

import json
from typing import Any

from hpc.cli.look import look, show_rows
from hpc.cli.words import ADDRESS, JSON
from hpc.settings.errors import CliError

_KINDS = ("tasks", "actors", "objects")

USAGE = "hpc summary tasks | actors | objects [options]"
TABLE = (ADDRESS, JSON)


def _is_kind(words: list[str]) -> None:
    if len(words) < 2 or words[1] not in _KINDS:
        raise CliError("USAGE", "hpc summary tasks, actors or objects?", fix="hpc summary --help")


def run(words: list[str]) -> int:
    """Print it; returns the exit code."""
    return look(words, TABLE, _summary, _is_kind)


def _summary(given: dict[str, Any], rest: list[str]) -> int:
    from hpc.util import state
    from hpc.util.state.summaries import by_owner

    found = getattr(state, f"summarize_{rest[0]}")()
    if rest[0] == "objects":
        groups = by_owner(state.list_objects(limit=10_000))
        rows = [{"what": group["owner"], **group} for group in groups]
    else:
        groups = found["cluster"]["summary"]
        rows = [{"what": name, **group} for name, group in groups.items()]
    if given.get("json"):
        print(json.dumps(found, indent=1))
        return 0
    for row in rows:
        row["total"], row["states"] = sum(row["state_counts"].values()), row["state_counts"]
    show_rows(rows, ("what", "total", "states", *(("bytes",) if rest[0] == "objects" else ())))
    return 0

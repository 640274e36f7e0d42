"""Looking into a session that runs, which `hpc list`, `get`, `summary`, `memory`, `stack`, `timeline` and `why` do.

Each connects as a further driver of the session, asks, and leaves. Nothing is changed there.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from hpc.cli.session import connected
from hpc.cli.table import show_table
from hpc.cli.words import parse_mixed
from hpc.settings import errors
from hpc.settings.errors import CliError
from hpc.settings.options import Option

LIMIT = Option("limit", ("--limit",), "count", "how many rows (100)", "", metavar="N")
FILTER = Option("filter", ("--filter",), "text", "only rows with field=value or field!=value", "", metavar="F=V")
KINDS = {
    "tasks": ("task_id", "name", "state", "attempt_number", "worker_id", "why"),
    "actors": ("actor_id", "class_name", "name", "state", "num_restarts", "worker_id", "pid", "why"),
    "objects": ("object_id", "object_size", "state", "node_ids", "owner", "process", "local_count"),
    "nodes": ("node_id", "node_name", "state", "workers", "waiting", "resources_available", "state_message"),
    "workers": ("worker_id", "worker_type", "state", "pid", "is_actor", "leased_by", "resources", "blocked"),
    "jobs": ("job_id", "type", "status", "node_id", "driver_pid"),
    "runs": ("run_id", "kind", "name", "state", "words", "why"),
    "events": ("number", "time_s", "severity", "kind", "node_id", "entity_id", "text"),
    "placement-groups": ("placement_group_id", "name", "strategy", "state"),
}
KINDS_IN_WORDS = f"KIND: {', '.join(KINDS)}"


def look(
    words: list[str],
    table: Sequence[Option],
    ask: Callable[[dict[str, Any], list[str]], int],
    check: Callable[[list[str]], None] | None = None,
) -> int:
    """Parse a command's words, check them, connect and ask; returns the exit code. check: of the command and its words
    without options."""
    given, rest = parse_mixed(table, words[1:])
    if check is not None:
        check([words[0], *rest])
    with connected(given.get("address")):
        return ask(given, rest)


def is_kind(words: list[str]) -> None:
    """CliError unless the command's first word is a kind of things."""
    if len(words) < 2 or words[1] not in KINDS:
        command = words[0]
        raise CliError("USAGE", f"hpc {command} what? There are: {', '.join(KINDS)}", fix=f"hpc {command} --help")


def is_one(what: str) -> Callable[[list[str]], None]:
    """CliError unless the command has one word."""

    def check(words: list[str]) -> None:
        if len(words) != 2:
            raise CliError("USAGE", f"hpc {words[0]} takes one {what}", fix=f"hpc {words[0]} --help")

    return check


def rows_of(kind: str, given: dict[str, Any], limit: int) -> list[dict[str, Any]]:
    """The rows of one kind that the options choose."""
    from hpc.util import state

    filters = []
    if given.get("filter"):
        text = given["filter"]
        key, found, value = text.partition("=")
        if not found:
            raise CliError("USAGE", f"--filter is field=value or field!=value, not {text!r}")
        # The first sign counts: names of tasks may have others.
        filters = [(key[:-1], "!=", value) if key.endswith("!") else (key, "=", value)]
    rows: list[dict[str, Any]]
    try:
        rows = getattr(state, f"list_{kind.replace('-', '_')}")(filters=filters, limit=limit)
    except state.exception.RayStateApiException as error:
        raise CliError("USAGE", str(error)) from None
    return rows


def show_rows(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Print some columns of rows, under their names."""
    if not rows:
        errors.note("nothing", sys.stdout)
        return
    names = tuple(name.upper() for name in columns)
    show_table([names, *(tuple(_shown(name, row.get(name, "")) for name in columns) for row in rows)])


def _shown(name: str, value: Any) -> str:
    """A cell of a column with this name."""
    if name == "time_s":
        return time.strftime("%m-%d %H:%M:%S", time.localtime(value))
    return cell(value)


def cell(value: Any) -> str:
    """A value as people read it in a row."""
    if isinstance(value, dict):
        return ",".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in value.items() if "." not in k)
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)

"""Looking into a session that runs: `hpc list`, `get`, `summary`, `memory`, `stack`, `timeline`, `why`.

Each connects as a further driver of the session, asks, and leaves. Nothing is changed there.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from hpc.settings import errors
from hpc.settings.errors import CliError
from hpc.settings.options import Option, parse_words

_TABLE = (
    Option("address", ("--address",), "text", "the session's id (default: the only one here)", "", metavar="ADDR"),
    Option("json", ("--json",), "switch", "machine-readable", "", default=False),
    Option("limit", ("--limit",), "count", "how many rows (100)", "", metavar="N"),
    Option("filter", ("--filter",), "text", "only rows with field=value or field!=value", "", metavar="F=V"),
    Option("help", ("-h", "--help"), "switch", "print this and leave", "", default=False),
)
KINDS = {
    "tasks": ("task_id", "name", "state", "attempt_number", "worker_id", "why"),
    "actors": ("actor_id", "class_name", "name", "state", "num_restarts", "worker_id", "pid", "why"),
    "objects": ("object_id", "object_size", "state", "node_ids", "owner", "process", "local_count"),
    "nodes": ("node_id", "node_name", "state", "workers", "waiting", "resources_available", "state_message"),
    "workers": ("worker_id", "worker_type", "state", "pid", "is_actor", "leased_by", "resources", "blocked"),
    "jobs": ("job_id", "type", "status", "node_id", "driver_pid"),
    "placement-groups": ("placement_group_id", "name", "strategy", "state"),
}
#: Resources that `hpc why` does not show: they are large numbers of bytes.
HIDDEN = ("memory", "object_store_memory")
USAGE = """usage: hpc list KIND [--filter F=V] [--limit N] [--json]     KIND: {kinds}
       hpc get KIND ID [--json]
       hpc summary tasks | actors | objects [--json]
       hpc memory [--limit N] [--json]      what is in the nodes' object stores, and who keeps it
       hpc stack [WORKER ...]               where the processes are, thread by thread
       hpc timeline FILE                    what ran when: open FILE in ui.perfetto.dev
       hpc why ID                           why a task, an actor or an object waits (its first or last digits will do)
"""


def run(words: list[str]) -> int:
    """One of the commands; returns the exit code."""
    command, given, rest = words[0], *_parse(words[1:])
    if given.get("help"):
        sys.stdout.write(USAGE.format(kinds=", ".join(KINDS)))
        return 0
    _check(command, rest)
    import hpc

    try:
        hpc.init(address=given.get("address") or "auto", log_to_driver=False)
    except ConnectionError as error:
        raise CliError("NO-SESSION", str(error), fix="hpc start --head, or a script that is running") from None
    try:
        return COMMANDS[command](given, rest)
    finally:
        hpc.shutdown()


def _parse(words: list[str]) -> tuple[dict[str, Any], list[str]]:
    found: dict[str, Any] = {}
    rest: list[str] = []
    while words:
        given, words = parse_words(_TABLE, words)
        found.update(given)
        if words:
            rest.append(words.pop(0))
    return found, rest


def _check(command: str, rest: Sequence[str]) -> None:
    fix = f"hpc {command} --help"
    if command in ("list", "get") and (not rest or rest[0] not in KINDS):
        raise CliError("USAGE", f"hpc {command} what? There are: {', '.join(KINDS)}", fix=fix)
    if command == "get" and len(rest) != 2:
        raise CliError("USAGE", "hpc get KIND ID: which one?", fix=fix)
    if command == "summary" and (not rest or rest[0] not in ("tasks", "actors", "objects")):
        raise CliError("USAGE", "hpc summary tasks, actors or objects?", fix=fix)
    if command in ("timeline", "why") and len(rest) != 1:
        raise CliError("USAGE", f"hpc {command} takes one {'file' if command == 'timeline' else 'id'}", fix=fix)


def _rows(kind: str, given: dict[str, Any], limit: int) -> list[dict[str, Any]]:
    from hpc.util import state

    filters = []
    if given.get("filter"):
        text = given["filter"]
        op = "!=" if "!=" in text else "="
        key, found, value = text.partition(op)
        if not found:
            raise CliError("USAGE", f"--filter is field=value or field!=value, not {text!r}")
        filters = [(key, op, value)]
    rows: list[dict[str, Any]]
    try:
        rows = getattr(state, f"list_{kind.replace('-', '_')}")(filters=filters, limit=limit)
    except state.exception.RayStateApiException as error:
        raise CliError("USAGE", str(error)) from None
    return rows


def _show(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    if not rows:
        errors.note("nothing", sys.stdout)
        return
    table = [tuple(name.upper() for name in columns)]
    table += [tuple(_cell(row.get(name, "")) for name in columns) for row in rows]
    widths = [max(len(line[i]) for line in table) for i in range(len(columns))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in value.items() if "." not in k)
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _list(given: dict[str, Any], rest: list[str]) -> int:
    rows = _rows(rest[0], given, given.get("limit") or 100)
    if rest[0] == "jobs":
        rows = [row for row in rows if row["driver_pid"] != os.getpid()]  # this command is a driver, too
    if given.get("json"):
        print(json.dumps(rows, indent=1))
    else:
        _show(rows, KINDS[rest[0]])
    return 0


def _get(given: dict[str, Any], rest: list[str]) -> int:
    key = KINDS[rest[0]][0]
    rows = [row for row in _rows(rest[0], given, 10_000) if str(row.get(key, "")) == rest[1]]
    if not rows:
        raise CliError("USAGE", f"there is no {rest[0].rstrip('s')} {rest[1]}", fix=f"hpc list {rest[0]}")
    if given.get("json"):
        print(json.dumps(rows, indent=1))
        return 0
    for row in rows:
        print("\n".join(f"{name:<24} {_cell(value)}" for name, value in row.items()))
    return 0


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
    _show(rows, ("what", "total", "states", *(("bytes",) if rest[0] == "objects" else ())))
    return 0


def _memory(given: dict[str, Any], rest: list[str]) -> int:
    from hpc import gather

    rows = gather.from_raylets("store", given.get("limit") or 20).warn("memory")
    if given.get("json"):
        print(json.dumps(rows, indent=1))
        return 0
    for row in rows:
        if not row["object_id"]:
            used, capacity = row["used_bytes"] / 1e6, row["capacity_bytes"] / 1e6
            print(f"node {row['node_id']}: {used:,.1f} of {capacity:,.1f} MB used, {row['objects']} objects")
    _show(
        [row for row in rows if row["object_id"]],
        ("object_id", "object_size", "node_id", "owner", "copy", "pinned_by"),
    )
    return 0


def _stack(given: dict[str, Any], rest: list[str]) -> int:
    from hpc import gather

    found = gather.from_processes("stack", timeout_s=5.0)
    for row in sorted(found.rows, key=lambda row: str(row["answered_by"])):
        if not rest or row["answered_by"] in rest:
            print(f"==== process {row['answered_by']}, pid {row['pid']}\n{row['text']}")
    for one in found.silent:
        print(f"==== process {one} did not answer: it is in native code that holds the interpreter's lock, or stopped")
    return 0


def _timeline(given: dict[str, Any], rest: list[str]) -> int:
    import hpc

    hpc.timeline(rest[0])
    errors.note(f"written to {rest[0]}: open it in ui.perfetto.dev", sys.stdout)
    return 0


def _why(given: dict[str, Any], rest: list[str]) -> int:
    wanted = rest[0].lower()
    found = 0
    for kind in ("tasks", "actors", "objects"):
        key = KINDS[kind][0]
        for row in _rows(kind, {}, 10_000):
            if row[key].startswith(wanted) or row[key].endswith(wanted):
                found += 1
                why = row.get("why") or "nothing is in its way"
                placing = row["state"] in ("PENDING_NODE_ASSIGNMENT", "PENDING_CREATION")
                if placing and not row["in_setup"]:
                    why += f"; free now: {_free()}"
                print(f"{kind[:-1]} {row[key]} {row.get('name', '')} is {row['state']}: {why}")
    if not found:
        raise CliError("USAGE", f"nothing that is known has the id {wanted}", fix="hpc list tasks")
    return 0


def _free() -> str:
    """What the nodes have free, of what can be counted."""
    from hpc.util import state

    parts = []
    for node in state.list_nodes(filters=[("state", "=", "ALIVE")]):
        free = {k: v for k, v in node.resources_available.items() if k not in HIDDEN and not k.startswith("node:")}
        parts.append(
            f"node {node.node_id}: " + (", ".join(f"{k}: {v:g}" for k, v in sorted(free.items())) or "nothing")
        )
    return "; ".join(parts)


Command = Callable[[dict[str, Any], list[str]], int]
COMMANDS: dict[str, Command] = {
    "get": _get,
    "list": _list,
    "memory": _memory,
    "stack": _stack,
    "summary": _summary,
    "timeline": _timeline,
    "why": _why,
}

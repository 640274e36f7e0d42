"""All tasks and calls of the session as rows, gathered from their owners, their workers and the raylets."""

from __future__ import annotations

import warnings

from msgspec import structs

from hpc.state import gather, history
from hpc.state.gather import Row

#: Of what it has not handed over a process tells this many of the newest at least.
LEAST_FRESH = 1_000


def task_rows(most_ended: int = history.MOST_EVENTS) -> list[Row]:
    """One row for each attempt of each task and call: first those that are not finished, then the newest of the others,
    about ``most_ended``. Warns where somebody did not answer."""
    open_tasks = open_rows("list_tasks")
    known = {(row["task_id"], row["attempt_number"]) for row in open_tasks}
    newest = ended_rows("list_tasks", most_ended)
    ended = [row for row in newest if (row["task_id"], row["attempt_number"]) not in known]
    _name_makings(ended)
    for row in ended:
        row.setdefault("func_or_class_name", row["name"])
    return open_tasks + ended


def open_rows(what: str) -> list[Row]:
    """One row for each task and call that is not finished. Warns in the name of ``what`` where somebody did not
    answer."""
    open_tasks = gather.explain_setups(gather.from_processes("tasks").warn(what))
    running = {(row["task_id"], row["attempt_number"]): row for row in gather.from_processes("running").warn(what)}
    for row in open_tasks:
        if (row["task_id"], row["attempt_number"]) in running:
            row["state"], row["why"] = "RUNNING", f"it runs at worker {row['worker_id']}"
            part = running[(row["task_id"], row["attempt_number"])]
            row.update({name: part[name] for name in ("log_from", "log_to", "log_shared")})
            row["name"], row["func_or_class_name"] = part["name"], part["func_or_class_name"]
    _name_calls(open_tasks)
    for row in open_tasks:
        row.setdefault("func_or_class_name", row["name"])
    return open_tasks


def ended_rows(what: str, most: int = history.MOST_EVENTS) -> list[Row]:
    """One row for each attempt that has ended and that somebody remembers, the newest first, about ``most``. Warns of
    what is missing in the name of ``what``."""
    limit = min(gather.LIMIT, max(LEAST_FRESH, most // 8))
    fresh = gather.from_processes("events", limit).warn(what)  # asked first: what is handed over meanwhile comes twice
    past = history.read(most_events=most)
    if words := past.words():
        warnings.warn(f"{what}: {words}", stacklevel=3)
    rows = [structs.asdict(row) for row in past.rows()]
    known = {(row["task_id"], row["attempt_number"]) for row in rows}
    for row in (*fresh, *gather.from_raylets("killed").warn(what)):
        key = row["task_id"], row["attempt_number"]
        if key not in known:
            known.add(key)
            row["worker_id"] = row.get("worker_id") or row["answered_by"]
            row["node_id"] = row["worker_id"].partition(".")[0]
            row.setdefault("why", "")
            rows.append(row)
    rows.sort(key=lambda row: -(row["start_time_ms"] or row["end_time_ms"]))
    return rows


def _name_makings(rows: list[Row]) -> None:
    """Actors whose workers were killed: a raylet knows what that ran by its id alone, and an actor's id is that of its
    creation."""
    unnamed = [row for row in rows if not row["name"]]
    if unnamed:
        actors = {row["actor_id"]: row for row in gather.from_processes("actors").rows}
        for row in unnamed:
            if (actor := actors.get(row["task_id"])) is not None:
                row["func_or_class_name"] = f"{_short(actor['class_name'])}.__init__"
                row["name"] = ":".join(filter(None, (actor["name"], row["func_or_class_name"])))
                row["type"] = "ACTOR_CREATION_TASK"


def _name_calls(rows: list[Row]) -> None:
    """Calls by class and method. A submitter knows the method; the actor's owner knows the class."""
    calls = [row for row in rows if row["type"] == "ACTOR_TASK"]
    unnamed = [row for row in calls if "." not in row["func_or_class_name"]]
    if unnamed:
        classes = {row["actor_id"]: _short(row["class_name"]) for row in gather.from_processes("actors").rows}
        for row in unnamed:
            if row["actor_id"] in classes:
                row["func_or_class_name"] = f"{classes[row['actor_id']]}.{row['func_or_class_name']}"
    for row in calls:
        row["name"] = row["name"] or row["func_or_class_name"]


def _short(class_name: str) -> str:
    """A class's name without that of what it is made in."""
    return class_name.rpartition(".")[2]

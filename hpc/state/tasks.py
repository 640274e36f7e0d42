"""All tasks and calls of the session as rows, gathered from their owners, their workers and the raylets."""

from __future__ import annotations

from hpc.state import gather
from hpc.state.gather import Row


def task_rows() -> list[Row]:
    """One row for each attempt of each task and call: first those that are not finished, then the newest of the others.
    Warns where somebody did not answer."""
    open_tasks = gather.explain_setups(gather.from_processes("tasks").warn("list_tasks"))
    running = {
        (row["task_id"], row["attempt_number"]): row for row in gather.from_processes("running").warn("list_tasks")
    }
    for row in open_tasks:
        if (row["task_id"], row["attempt_number"]) in running:
            row["state"], row["why"] = "RUNNING", f"it runs at worker {row['worker_id']}"
            part = running[(row["task_id"], row["attempt_number"])]
            row.update({name: part[name] for name in ("log_from", "log_to", "log_shared")})
            row["name"], row["func_or_class_name"] = part["name"], part["func_or_class_name"]
    _name_calls(open_tasks)
    known = {(row["task_id"], row["attempt_number"]) for row in open_tasks}
    events = gather.from_processes("events").warn("list_tasks")
    events += gather.from_raylets("events").warn("list_tasks")  # of workers that have ended
    ended = [e for e in events if (e["task_id"], e["attempt_number"]) not in known]
    ended.sort(key=lambda row: -(row["start_time_ms"] or row["end_time_ms"]))
    for row in ended:
        worker = str(row.setdefault("worker_id", row["answered_by"]))
        row.setdefault("why", "")
        row["node_id"] = worker.partition(".")[0]
    _name_makings(ended)
    for row in (*open_tasks, *ended):
        row.setdefault("func_or_class_name", row["name"])
    return open_tasks + ended


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

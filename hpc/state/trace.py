"""What ran when, as a trace that Perfetto (ui.perfetto.dev) and chrome://tracing open."""

from __future__ import annotations

import json
from typing import Any

from hpc.state import gather
from hpc.state.tasks import ended_rows


def timeline(filename: str | None = None) -> list[dict[str, Any]] | None:
    """The tasks and calls that workers ran, one row per worker, as far as their nodes remember them.

    Returns trace events, times in µs by each node's wall clock; with ``filename`` writes them there as JSON and returns
    None.
    """
    hosts = {row["node"]: row["host"] for row in gather.node_rows()}
    events: list[dict[str, Any]] = []
    seen: set[tuple[int, int]] = set()
    for row in ended_rows("timeline"):
        if not row["start_time_ms"]:  # it was killed, and nobody knows when it had begun
            continue
        at = gather.address(row["worker_id"])
        if at not in seen:
            seen.add(at)
            named = {"name": f"node {at.node} ({hosts.get(at.node, '')})"}
            events.append({"ph": "M", "name": "process_name", "pid": at.node, "args": named})
            worker = {"name": f"worker {at.node}.{at.proc}"}
            events.append({"ph": "M", "name": "thread_name", "pid": at.node, "tid": at.proc, "args": worker})
        begin = row["start_time_ms"] * 1e3
        failed = row["state"] == "FAILED"
        events.append(
            {
                "ph": "X",
                "name": row["name"],
                "cat": "failed" if failed else "task",
                "pid": at.node,
                "tid": at.proc,
                "ts": begin,
                "dur": row["end_time_ms"] * 1e3 - begin,
                "cname": "terrible" if failed else "good",
                "args": {"task_id": row["task_id"], "attempt": row["attempt_number"], "state": row["state"]},
            }
        )
    if filename is None:
        return events
    with open(filename, "w") as file:
        json.dump(events, file)
    return None

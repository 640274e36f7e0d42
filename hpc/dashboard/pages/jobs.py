"""Jobs: those of the user on this machine and its scheduler, as `hpc ps` and `hpc job list` have them. No I/O.

The command that begins the dashboard says how to ask for them: it knows folders and schedulers.
"""

from __future__ import annotations

from typing import Any

from hpc.dashboard.pages.face import Answers, Page
from hpc.dashboard.pages.lists import counted
from hpc.dashboard.views import Params, Row, listing

COLUMNS = ("job", "scheduler_id", "name", "state", "nodes", "age_s", "left_s", "exit_code", "opens", "why")


def view(answers: Answers, params: Params) -> dict[str, Any]:
    """The jobs, the newest first, each with the command that shows it."""
    found = answers["jobs"]
    rows = [_row(row) for row in reversed(found["jobs"])] + [_submitted(row) for row in found["submitted"]]
    chosen = params.text("id")
    return {
        **listing(rows, COLUMNS, params), "key": "job", "states": counted(rows, "state"),
        "ones": [row for row in rows if chosen and row["job"] == chosen][:1],
    }  # fmt: skip


def _row(row: Row) -> dict[str, Any]:
    number = row["job"]
    runs = row["state"] in ("starting", "running")
    return {
        **row,
        "job": str(number),
        "opens": f"hpc dashboard {number}" if runs else f"hpc report {number}",
        "logs": f"hpc logs {number}",
        "why": row["why"] or row["reason"] or row["text"],
    }


def _submitted(row: Row) -> dict[str, Any]:
    ident = row["submission_id"]
    return {
        "job": ident, "scheduler_id": "", "name": row["entrypoint"], "state": str(row["status"]).lower(), "nodes": None,
        "exit_code": row["driver_exit_code"], "opens": f"hpc job logs {ident}", "why": row["message"],
    }  # fmt: skip


PAGE = Page("jobs", "Jobs", "b", ("jobs",), view)

"""Train, Tune, Data and Serve: the runs of one library each, those too that are over, and all that one has told.

The rows are those of `hpc list runs`. What is told of one run its process is asked for while somebody looks at it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hpc.dashboard.pages.face import Answers, Page, View
from hpc.dashboard.pages.lists import counted
from hpc.dashboard.views import Params, listing
from hpc.state import runs
from hpc.state.bulletins import RunKind

COLUMNS = (
    "run_id", "name", "state", "words", "done", "left_s", "attempt", "start_time_ms", "end_time_ms", "worker_id",
    "age_s", "why",
)  # fmt: skip


def view_of(kind: RunKind) -> View:
    """The runs of a library; ``id`` chooses one of them."""

    def view(answers: Answers, params: Params) -> dict[str, Any]:
        rows = [row for row in answers["runs"] if row["kind"] == kind]
        chosen = params.text("id")
        ones = [row for row in rows if row["run_id"] == chosen]
        return {**listing(rows, COLUMNS, params), "ones": ones[:1], "states": counted(rows, "state")}

    return view


def detail(params: Params) -> dict[str, Any]:
    """All that is told of the run ``id``. ``live``: its process has said so just now."""
    found, live = runs.run_detail(params.text("id"))
    return {"live": live, "detail": None if found is None else msgspec.to_builtins(found)}


def part(params: Params) -> dict[str, Any]:
    """A part of the table ``what`` of the run ``id``, as `listing` takes it out."""
    names = ("q", "sort", "from", "limit")
    asked = {name: params.text(name) for name in names if params.text(name)}
    return runs.rows_of_run(params.text("id"), params.text("what"), asked)


MORE = {"detail": detail, "part": part}
TRAIN_PAGE = Page("train", "Train", "r", ("runs",), view_of("train"), MORE)
TUNE_PAGE = Page("tune", "Tune", "s", ("runs",), view_of("tune"), MORE)
DATA_PAGE = Page("data", "Data", "d", ("runs",), view_of("data"), MORE)
SERVE_PAGE = Page("serve", "Serve", "v", ("runs",), view_of("serve"), MORE)

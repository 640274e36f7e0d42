"""The runs of libraries in the session: trainings, searches, datasets that flow; those too that are over.

Raylets know the last word of each (`hpc.state.bulletins`), so a question costs one answer of each node. What a run
knows beside, a table of its trials for example, is asked of the process that runs it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from hpc.api.connection import ensure_client
from hpc.core.ids import Address, raylet_of
from hpc.core.owner.shell import told_runs
from hpc.core.wire import Answer, BulletinQuery
from hpc.state import gather
from hpc.state.bulletins import Brief, Detail, brief_of, detail_of
from hpc.state.gather import Row

#: How long a process may take to tell more of its run; its raylet is asked then.
TIMEOUT_S = 3.0
#: Runs of a node that are told.
MOST = 500
#: States of runs that are over.
OVER = ("FINISHED", "FAILED", "STOPPED", "LOST")


def run_rows() -> list[Row]:
    """A row for each run: those that go on first, then the newest. Warns where a node did not answer."""
    return rows_of(gather.from_raylets("bulletins", MOST).warn("list_runs"))


def rows_of(told: Iterable[Row]) -> list[Row]:
    """The same of what raylets have told."""
    rows = [row for one in told if (row := _row(one)) is not None]
    rows.sort(key=lambda row: (row["state"] in OVER, -row["start_time_ms"]))
    return rows


def _row(told: Row) -> Row | None:
    brief = brief_of(told["brief"])
    if brief is None:
        return None
    state, why = brief.state, brief.why
    if told["over"] and state not in OVER:
        state, why = "LOST", f"its process has ended: {told['gone']}" if told["gone"] else "its process has ended"
    return {
        "run_id": f"{told['process']}/{told['number']}",
        "kind": brief.kind,
        "name": brief.name,
        "state": state,
        "why": why,
        "attempt": brief.attempt,
        "done": brief.done,
        "left_s": brief.left_s,
        "start_time_ms": brief.began_s * 1e3,
        "end_time_ms": (brief.ended_s or 0.0) * 1e3,
        "numbers": {name: amount for name, amount in brief.numbers.items() if math.isfinite(amount)},
        "words": in_words(brief),
        "worker_id": told["process"],
        "node_id": told["process"].partition(".")[0],
        "age_s": told["age_s"],
    }


def in_words(brief: Brief) -> str:
    """What its library counts, for people."""
    return ", ".join(f"{amount:,.6g} {name.replace('_', ' ')}" for name, amount in brief.numbers.items())


def run_detail(run_id: str, timeout_s: float = TIMEOUT_S) -> tuple[Detail | None, bool]:
    """All that is told of a run, and whether its process has said so just now. Else it is the last word that its node
    has. Raises ValueError for what is no run's id, and FileNotFoundError where nobody knows it any more."""
    process, number = _of(run_id)
    data = _ask(process, BulletinQuery(0, process.proc, number), timeout_s)
    if data is not None:
        return detail_of(data), True
    kept = kept_detail(run_id, timeout_s)
    if kept is None:
        raise FileNotFoundError(f"nobody knows the run {run_id} any more: hpc list runs has those that there are")
    return kept, False


def kept_detail(run_id: str, timeout_s: float = TIMEOUT_S) -> Detail | None:
    """What a run has told last, half a minute ago at most, as its node knows it; None where it does not any more."""
    process, number = _of(run_id)
    data = _ask(raylet_of(process.node), BulletinQuery(0, process.proc, number), timeout_s)
    return detail_of(data) if data is not None else None


def rows_of_run(run_id: str, what: str, params: Mapping[str, str], timeout_s: float = TIMEOUT_S) -> Row:
    """A part of a table that a run that goes on has ("trials" of a search, "ranks" of a training), as `listing` gives
    it. Raises as `run_detail` does."""
    process, number = _of(run_id)
    data = _ask(process, BulletinQuery(0, process.proc, number, what, dict(params)), timeout_s)
    if data is None:
        raise FileNotFoundError(f"the run {run_id} has no {what} to tell of now: it is over, or does not answer")
    found: Row = msgspec.msgpack.decode(data)
    return found


def _of(run_id: str) -> tuple[Address, int]:
    process, slash, number = run_id.partition("/")
    node, _, proc = process.partition(".")
    if not (slash and node.isdigit() and proc.isdigit() and number.isdigit()):
        raise ValueError(f"a run's id is as 1.2/3, not {run_id!r}")
    return gather.address(process), int(number)


def _ask(whom: Address, query: BulletinQuery, timeout_s: float) -> bytes | None:
    """The answer's data; None where there is none, in time."""
    client = ensure_client()
    answer: Any
    if whom == client.addr:
        answer = told_runs.answer(client, query)
    else:
        questions = {whom: lambda number: msgspec.structs.replace(query, req=number)}
        answer = client.conversation.ask_several(questions, timeout_s).get(whom)
    return answer.data if isinstance(answer, Answer) and answer.ok else None

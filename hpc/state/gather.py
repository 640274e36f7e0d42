"""Asking everybody: the state of tasks, actors and objects is with the processes that own them.

The head names the nodes, their raylets name the processes, and each process answers for itself. What has not answered
in time is said, never silently left out.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import msgspec

from hpc.api.connection import ensure_client
from hpc.core.ids import HEAD, Address, raylet_of
from hpc.core.wire import ClusterQuery

Row = dict[str, Any]
LIMIT = 10_000
TIMEOUT_S = 10.0
#: How long the head may take to say who is there: it may be on its way to be started again.
HEAD_S = 60.0


@dataclass
class Gathered:
    """Rows, who did not answer, and who has more than the limit."""

    rows: list[Row] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)

    def warn(self, what: str) -> list[Row]:
        """The rows; a warning where some are missing."""
        if self.cut:
            warnings.warn(f"{what}: only the first {LIMIT} rows of each of {', '.join(self.cut)}", stacklevel=3)
        if self.silent:
            warnings.warn(f"{what}: no answer in time from {', '.join(self.silent)}", stacklevel=3)
        return self.rows


def node_rows(timeout_s: float = HEAD_S) -> list[Row]:
    """The nodes as the head knows them."""
    answer = ensure_client().conversation.ask_head(lambda req: ClusterQuery(req, "nodes"), timeout_s)
    rows: list[Row] = msgspec.json.decode(answer.data)
    return rows


def from_raylets(what: str, limit: int = LIMIT, timeout_s: float = TIMEOUT_S, head_s: float = HEAD_S) -> Gathered:
    """What the raylets of the living nodes know."""
    raylets = [raylet_of(row["node"]) for row in node_rows(head_s) if row["alive"]]
    return ask(raylets, what, limit, timeout_s)


def explain_setups(rows: list[Row], setups: list[Row] | None = None) -> list[Row]:
    """The same rows of what waits for a worker, with what raylets say of its environment (a row's "request" is that
    wish's number). Where a runtime environment is being made for it, "in_setup" is true and "why" says so. Nobody is
    asked unless one of them has one."""
    if any(row.get("request") for row in rows):
        making: dict[tuple[str, int], list[Row]] = {}
        for setup in from_raylets("setups").rows if setups is None else setups:
            making.setdefault((setup["owner"], setup["request"]), []).append(setup)
        for row in rows:
            found = making.get((row["owner"], row.get("request", 0)))
            if found and not row.get("worker_id"):
                row["why"], row["in_setup"] = _setup_in_words(found), True
    for row in rows:
        row.pop("request", None)
        row.setdefault("in_setup", False)
    return rows


def _setup_in_words(setups: list[Row]) -> str:
    nodes = sorted({setup["node_id"] for setup in setups}, key=int)
    what = ", ".join(setups[0]["what"])
    since_s = max(setup["since_s"] for setup in setups)
    where = f"node {nodes[0]}" if len(nodes) == 1 else f"nodes {', '.join(nodes[:8])}" + (", ..." * (len(nodes) > 8))
    return f"its runtime environment ({what}) is being set up on {where}, for {since_s:.0f} s now"


def session_facts(timeout_s: float = HEAD_S) -> Row:
    """What the head knows of the session: time_left_s (None: no limit), and scheduler and job_id in an allocation."""
    answer = ensure_client().conversation.ask_head(lambda req: ClusterQuery(req, "session"), timeout_s)
    facts: Row = msgspec.json.decode(answer.data)
    return facts


def from_processes(what: str, limit: int = LIMIT, timeout_s: float = TIMEOUT_S) -> Gathered:
    """What the drivers, the workers and the head (of detached actors) know; each row says in "answered_by" who."""
    workers = from_raylets("workers", timeout_s=timeout_s)
    there = [row for row in workers.rows if row["state"] != "STARTING"]
    found = ask([HEAD, *(address(row["worker_id"]) for row in there)], what, limit, timeout_s)
    found.silent += workers.silent
    return found


def ask(whom: list[Address], what: str, limit: int = LIMIT, timeout_s: float = TIMEOUT_S) -> Gathered:
    """What these raylets or processes know."""
    client = ensure_client()
    answers = client.conversation.ask_all(whom, what, limit, timeout_s)
    missing = [one for one in whom if one not in answers]
    # Some may have ended between the question who there is and the question to them.
    out = Gathered(silent=[str(one) for one in missing if not client.has_ended(one)])
    for one, rows in answers.items():
        if len(rows) >= LIMIT:
            out.cut.append(str(one))
        out.rows += [{**row, "answered_by": str(one)} for row in rows]
    return out


def address(text: str) -> Address:
    """``"1.3"`` as an address."""
    node, _, proc = text.partition(".")
    return Address(int(node), int(proc))

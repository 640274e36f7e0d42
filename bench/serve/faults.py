"""Services that are broken under load: the programs, and their rows in the bench's table."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from bench import spaces
from bench.children import Children, MeasureError
from bench.parts import table

#: A program may take this long.
LIMIT_S = 280.0
#: The programs (modules beside this one), and what each breaks.
PROGRAMS = {
    "replicas": "kill -9 of a replica, 20 times in 60 s",
    "control": "kill -9 of the controller, then of the head",
    "proxies": "kill -9 of proxies behind a gateway",
    "nodes": "a node that is killed, one that is silent",
    "updates": "a new version, then one that cannot begin",
    "leaving": "4 to 1 replica and a delete, with streams",
    "handover": "a job hands over to the next one",
    "pressure": "more than there is room for, and large bodies",
}
TITLE = "Services under faults"
NOTE = (
    "Requests of HTTP from a client of its own, each with a limit of 30 s. failed: no answer 200 with a body, for any "
    "reason. keyed: a POST with an Idempotency-Key, which may run twice, as a GET may. Each row is printed by its "
    "program (`python -m bench.serve.replicas` and so on)."
)
HEAD = ["what", "figure", "wanted", "ok"]


def rows(children: Children, name: str, quick: bool, say: Callable[[str], None]) -> list[list[str]]:
    """What a program finds, as rows of the table."""
    command = [sys.executable, "-m", f"bench.serve.{name}", "--tell", *(["--quick"] if quick else [])]
    try:
        outcome = children.run(command, LIMIT_S, {"PYTHONPATH": str(spaces.ROOT)})
    except MeasureError as error:
        say(f"  {name}: {error}")
        return [[PROGRAMS[name], str(error)[:300], "", "NO"]]
    found = [[one["what"], one["figure"], one["wanted"], "ok" if one["is_kept"] else "NO"] for one in outcome.records]
    for what, figure, wanted, is_kept in found:
        say(f"  {name}: {what}: {figure} (wanted: {wanted}) {is_kept}")
    return found


def table_of(found: list[list[str]]) -> dict[str, Any]:
    """The table."""
    return {**table(TITLE, NOTE, HEAD, found), "partial": 1}

"""How a job ended, from what its folder and its scheduler say. Pure."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any, get_args

from hpc.core.events.kinds import EventKind
from hpc.report.facts import Cause, Ending, Facts, Happening
from hpc.settings.errors import EXIT_CANCELLED, EXIT_SESSION_LOST, EXIT_WALLTIME

#: What the exit codes of errors mean that end a job.
BY_CODE: dict[int, Cause] = {
    EXIT_WALLTIME: "walltime",
    EXIT_SESSION_LOST: "lost",
    EXIT_CANCELLED: "signal",
    128 + signal.SIGTERM: "signal",
    128 + signal.SIGINT: "signal",
}
#: Codes of an hpc-launch that could not say why it ended, as its scheduler tells them.
SILENT = (EXIT_SESSION_LOST, 128 + signal.SIGKILL)
BY_FORCE = "Its launcher was ended by force: it could not say why."


def ending_of(row: Mapping[str, Any], status: Mapping[str, Any]) -> Ending:
    """Of a job by its row (see hpc/launch/standing) and what its status.json says."""
    code, why = row["exit_code"], str(row["why"] or "")
    if row["state"] == "lost":
        return Ending("killed", why or BY_FORCE, code)
    if row["state"] != "ended":
        return Ending("running", str(row["text"]))
    told = _named(status.get("cause"))
    if told is not None:
        return Ending(told, why, code)
    if code in SILENT and not why:
        return Ending("killed", BY_FORCE, code)
    return Ending(
        "unknown" if code is None else cause_of("", code), why or ("" if code == 0 else str(row["text"])), code
    )


def cause_of(cause: str, code: int) -> Cause:
    """That of a run that ended with this code; ``cause``: why its script was told to end, if it was."""
    if cause == "warned":
        return "signal"
    return _named(cause) or BY_CODE.get(code) or ("error" if code else "normal")


def _named(cause: Any) -> Cause | None:
    """The cause with this name, if there is one."""
    found: Cause | None = next((one for one in get_args(Cause) if one == cause), None)
    return found


#: What may have led to an end, by its cause: the kinds of events, those first that say most.
CLUES: Mapping[Cause, tuple[EventKind, ...]] = {
    "error": (
        "WORKER_OUT_OF_MEMORY", "NODE_LOST", "ENVIRONMENT_FAILED", "DISK_FAILED", "OWNER_LOST", "VALUE_LOST",
        "ACTOR_DIED", "TASK_FAILED", "WORKER_DIED", "GROUP_UNPLACED",
    ),
    "lost": ("NODE_LOST", "NODE_SILENT", "HEAD_RESTARTED", "WORKER_OUT_OF_MEMORY"),
    "killed": ("NODES_TAKEN", "SESSION_DRAINS", "TIME_SHORT", "NODE_LOST", "WORKER_OUT_OF_MEMORY", "WORKER_DIED"),
    "walltime": ("TIME_SHORT", "SESSION_DRAINS", "TIME_SET"),
    "preempted": ("NODES_TAKEN", "NODE_DRAINS"),
    "signal": ("NODES_TAKEN", "SESSION_DRAINS"),
    "unknown": ("NODES_TAKEN", "TIME_SHORT", "NODE_LOST", "WORKER_OUT_OF_MEMORY", "ACTOR_DIED"),
}  # fmt: skip
MAX_CLUES = 3


def clues(facts: Facts) -> list[Happening]:
    """The events that may say why it ended, in the order of time: of each kind the first, for what follows from it
    comes later."""
    found: list[Happening] = []
    for kind in CLUES.get(facts.ending.cause, ()):
        what = kind.lower().replace("_", " ")
        one = next((each for each in facts.happenings if each.severity and each.what == what), None)
        if one is not None and len(found) < MAX_CLUES:
            found.append(one)
    return sorted(found, key=lambda one: one.time_s)

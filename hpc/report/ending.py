"""How a job ended, from what its folder and its scheduler say. Pure."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any, get_args

from hpc.report.facts import Cause, Ending
from hpc.settings.errors import EXIT_CANCELLED, EXIT_SESSION_LOST, EXIT_WALLTIME

#: What the exit codes of errors mean that end a job.
BY_CODE: dict[int, Cause] = {
    EXIT_WALLTIME: "walltime",
    EXIT_SESSION_LOST: "lost",
    EXIT_CANCELLED: "signal",
    128 + signal.SIGTERM: "signal",
    128 + signal.SIGINT: "signal",
}
BY_FORCE = "hpc-launch was ended by force: it could not say why."


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
